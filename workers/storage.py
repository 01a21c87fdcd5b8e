"""Storage: writes a take's audio and sidecar to the store, and waits when the store is unreachable.

Everything that is written is read back, because a worker must not report audio that the store lacks. A sidecar is
written only if the take has none, and counts only together with the audio that it names. When the store stays
unreachable longer than the back-off's patience, the worker is told, and every thread gives up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

from catalog.errors import MessageError, StoreError
from catalog.keys import sidecar_key
from catalog.retry import Backoff
from catalog.sidecar import AudioFile, Sidecar, parse_sidecar
from catalog.store import STORE_BACKOFF, Store
from catalog.store.integrity import find_fault
from catalog.track import Take

log = logging.getLogger(__name__)

PROBES: Final = 3  # of the store with an object of no take, before a failure is laid on the object that was wanted
_T = TypeVar("_T")


class ObjectRefused(Exception):
    """The store is up, and refuses an object of this take all the same."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(error.what)
        self.reason = f"the store refuses it and takes others: {error.what}" + (f" ({error.why})" if error.why else "")


class TakeStorage:
    """The store as the threads of one worker use it; `on_outage` is called when one of them gives up."""

    def __init__(
        self,
        store: Store,
        *,
        backoff: Backoff = STORE_BACKOFF,
        on_outage: Callable[[StoreError], None] = lambda error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.gone = threading.Event()  # one thread's patience is over: so is everyone's
        self._backoff, self._on_outage, self._clock = backoff, on_outage, clock

    def find_finished(self, take: Take) -> Sidecar | None:
        """The take's sidecar if its audio is there as well. Raises ObjectRefused."""
        sidecar = self.find_sidecar(take)
        if sidecar is None:
            return None
        fault = self._retry(lambda: find_fault(self.store, sidecar.audio), reads=True)
        if fault is None:
            return sidecar
        # A deterministic engine makes lost audio again to the bit.
        log.warning("take %s has a sidecar, but its audio %s %s: rendering it again", take.id, sidecar.audio.key, fault)
        return None

    def find_sidecar(self, take: Take) -> Sidecar | None:
        """The take's sidecar, whether its audio is there or not. Raises ObjectRefused, MessageError."""
        body = self._retry(lambda: self.store.find(sidecar_key(take)), reads=True)
        return None if body is None else parse_sidecar(body, take.id)

    def find_object(self, key: str) -> bytes | None:
        """The bytes of an object of a take; None when it is not there. Raises ObjectRefused."""
        return self._retry(lambda: self.store.find(key), reads=True)

    def put_audio(self, audio: AudioFile, body: bytes, *, file_name: str = "") -> None:
        """Write the audio and make sure that the store has kept it; a browser saves it under `file_name`."""
        self._retry(lambda: _put_audio(self.store, audio, body, file_name))

    def put_sidecar(self, sidecar: Sidecar) -> Sidecar:
        """Write the sidecar unless the take has one; returns the one that is there, with its audio.

        Raises MessageError when the sidecar of another worker is there and its audio is not.
        """
        kept = self._retry(lambda: _put_sidecar(self.store, sidecar))
        # An upload that succeeded but whose answer was lost finds its own sidecar on the second try.
        if kept == sidecar:
            return sidecar
        if fault := self._retry(lambda: find_fault(self.store, kept.audio)):
            raise MessageError(
                f"the take has a sidecar already, and the audio it names, {kept.audio.key}, {fault}",
                why="something has removed or changed it, and this rendering is not the same to the bit",
                fix="`tunemill catalog repair` has the take made again",
            )
        return kept

    # ------------------------------------------------------------ outages

    def _retry(self, call: Callable[[], _T], *, reads: bool = False) -> _T:
        """Call the store, again after each wait; report the last StoreError to the worker and raise it.

        If the call only `reads`, ObjectRefused is raised instead when the store still serves other objects, because one
        unreadable object must not end one worker after the other. A store that loses data always counts as unreachable.

        The time of a call that fails slowly counts against the patience as well.
        """
        began_s = self._clock()
        for wait_s in self._backoff.waits_s():
            try:
                return call()
            except StoreError as error:
                if self._clock() - began_s > self._backoff.patience_s:
                    break
                log.warning("the store refused, trying again in %g s: %s", wait_s, error.what)
                if self.gone.wait(wait_s):
                    break
        try:
            return call()
        except StoreError as error:
            if reads and not self.gone.is_set():
                return self._try_beside_probes(call, error)
            self._give_up(error)

    def _try_beside_probes(self, call: Callable[[], _T], error: StoreError) -> _T:
        """Find out whether the store is away or refuses this one object."""
        for _ in range(PROBES):
            try:
                self.store.check()
            except StoreError as failed:
                self._give_up(failed)
            try:
                return call()
            except StoreError as failed:
                error = failed
        raise ObjectRefused(error)

    def _give_up(self, error: StoreError) -> NoReturn:
        self.gone.set()
        self._on_outage(error)
        raise error


def _put_audio(store: Store, audio: AudioFile, body: bytes, file_name: str) -> None:
    store.put(audio.key, body, content_type=audio.content_type, sha256=audio.sha256, file_name=file_name)
    if fault := find_fault(store, audio):
        raise StoreError(
            f"{store.locate(audio.key)} {fault} just after it was written",
            why="the store does not keep what it is given",
            fix="use a store with consistent reads; `tunemill catalog verify` finds what else is affected",
        )


def _put_sidecar(store: Store, sidecar: Sidecar) -> Sidecar:
    """Write the sidecar unless one is there; returns the one that can be read back, which may be another worker's."""
    key, body = sidecar_key(sidecar.take), sidecar.to_json()
    is_ours = store.put_if_absent(key, body, content_type="application/json")
    found = store.find(key)
    if found == body:
        return sidecar
    if found is None:
        raise StoreError(
            f"the sidecar {store.locate(key)} {'was written' if is_ours else 'was there already'} and is gone",
            why="the store loses objects, or something deletes them during the run",
            fix="use a store with consistent reads, and delete nothing while workers run",
        )
    try:
        return parse_sidecar(found, sidecar.take_id)
    except MessageError:
        if not is_ours:
            raise
    store.delete(key)
    raise StoreError(
        f"the sidecar {store.locate(key)} could not be read back as it was written",
        why="the store does not keep what it is given",
        fix="use a store with consistent reads",
    )

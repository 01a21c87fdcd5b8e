"""The sweep: deletes objects that no sidecar and no ledger names, once they are too old to belong to an upload.

Audio is named by its take's sidecar or by the ledger. If a catalog has no sidecars, or one that cannot be read, all of
its audio stays, because the audio may be all that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import chain, groupby
from typing import NamedTuple

from catalog.errors import MessageError
from catalog.keys import take_of_audio_or_master, take_of_master, take_of_sidecar
from catalog.sidecar import Sidecar, parse_sidecar
from catalog.store import ObjectInfo, Store
from catalog.store.integrity import CHECK_PREFIX
from orchestrator.ledger import Ledger, upkeep
from orchestrator.ledger.finishing import masters_of_finished
from orchestrator.ledger.upkeep import Filed
from orchestrator.upkeep.abreast import abreast
from orchestrator.upkeep.survey import ledgers_copy


class Leftover(StrEnum):
    """The kinds of objects that a sweep removes."""

    AUDIO = "orphan audio"
    CHECK = "left-over check"
    PART = "left-over part"


class Swept(NamedTuple):
    """One thing that was removed, or would be."""

    kind: Leftover
    info: ObjectInfo


def sweep(
    store: Store,
    ledger: Ledger | None,
    before_ms: int,
    *,
    dry_run: bool = False,
    note: Callable[[str], None] = lambda words: None,
) -> Iterator[Swept]:
    """Delete objects that nothing names, last written before `before_ms`; with `dry_run`, only list them."""
    sweeper = _Sweeper(store, ledger, before_ms, dry_run=dry_run)
    for name, objects in groupby(store.list(""), key=lambda info: info.key.partition("/")[0]):
        if name.startswith(CHECK_PREFIX):
            yield from (Swept(Leftover.CHECK, info) for info in objects if sweeper.remove(info))
            continue
        yield from sweeper.sweep_catalog(name, objects, note)
    yield from (Swept(Leftover.PART, info) for info in store.sweep(before_ms, remove=not dry_run))


class _Sweeper:
    def __init__(self, store: Store, ledger: Ledger | None, before_ms: int, *, dry_run: bool) -> None:
        self._store, self._ledger, self._before_ms, self._dry_run = store, ledger, before_ms, dry_run
        self._masters: set[str] | None = None  # that finished takes name; None: nobody can tell
        if ledger is not None:
            with ledger.read() as connection:
                self._masters = masters_of_finished(connection)

    def sweep_catalog(
        self, catalog: str, objects: Iterator[ObjectInfo], note: Callable[[str], None]
    ) -> Iterator[Swept]:
        """Audio is listed before sidecars."""
        old: dict[str, list[ObjectInfo]] = {}
        sidecars: Iterator[ObjectInfo] = iter(())
        for info in objects:
            if take_of_sidecar(info.key):
                sidecars = chain([info], objects)
                break
            take_id = take_of_audio_or_master(info.key)
            if take_id and info.modified_ms < self._before_ms:
                old.setdefault(take_id, []).append(info)
        first = next(sidecars, None)
        if first is None and old:
            note(f"{catalog} has audio and no sidecar: not changed")
            return
        takes = ((take_id, audio, self._find_filed(take_id)) for take_id, audio in old.items())
        for found in abreast(lambda take: self._unnamed(catalog, *take), takes):
            for info in found:
                if self.remove(info):
                    yield Swept(Leftover.AUDIO, info)

    def remove(self, info: ObjectInfo) -> bool:
        """Remove it unless it is young, or was written anew since it was listed."""
        if info.modified_ms >= self._before_ms:
            return False
        now = self._store.stat(info.key)
        if now is None or now.modified_ms >= self._before_ms:
            return False
        if not self._dry_run:
            self._store.delete(info.key)
        return True

    def _find_filed(self, take_id: str) -> Filed | None:
        return upkeep.find_filed(self._ledger, take_id) if self._ledger else None

    def _unnamed(self, catalog: str, take_id: str, audio: list[ObjectInfo], filed: Filed | None) -> list[ObjectInfo]:
        if filed is not None and filed.pending:
            return []  # a worker may be about to write it again
        named = set()
        if filed is not None and filed.accepted:
            copy = ledgers_copy(filed)
            if copy is None:
                return []
            named |= _named_by(copy)
        body = self._store.find(f"{catalog}/takes/{take_id}.json")
        if body is not None:
            try:
                named |= _named_by(parse_sidecar(body, take_id))
            except MessageError:
                return []
        left = [info for info in audio if info.key not in named]
        return [info for info in left if not self._is_master_of_another(info.key)]

    def _is_master_of_another(self, key: str) -> bool:
        """A take that was finished from this master names it, too; without a ledger nobody knows those takes."""
        if take_of_master(key) is None:
            return False
        return self._masters is None or key in self._masters


def _named_by(sidecar: Sidecar) -> set[str]:
    """The audio that a sidecar names: its finished file, and its master."""
    return {sidecar.audio.key, *([sidecar.master.audio.key] if sidecar.master else [])}

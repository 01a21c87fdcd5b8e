"""One take, start to end: ask the store, render, check, master, store, record.

Safe to run twice for the same take: a take with a sidecar is done, and of two renderings the sidecar that was
there first wins. Nothing is reported that the store does not have: what was written is looked at again, and a
sidecar counts only with its audio. Every take that comes in leaves a record of how it ended, unless the worker
stops first or the store stays away; then `TakeReturned` passes through and the message goes back to its queue.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol, TypeVar

from catalog.bounded import NAME_PATTERN
from catalog.errors import MessageError, OutdatedError, StoreError, TunemillError
from catalog.keys import audio_key, sidecar_key
from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from catalog.messages import AttemptMade, RenderMessage, TakesReturned, new_id, now_ms, parse_render
from catalog.sidecar import AudioFile, Measures, Plan, Sidecar, StageTimes, parse_sidecar
from catalog.spec import settle
from catalog.store.base import Store
from catalog.store.integrity import find_fault
from catalog.track import Take
from workers.audio.checks import Rejected, check_audio
from workers.audio.master import Mastered, master
from workers.audio.resample import at_our_rate
from workers.audio.tags import source_type
from workers.engine.protocol import EngineCard, Refusal, Rendition
from workers.records import InHand, Recorder
from workers.scheduler.request import Rendered, TakeFailed, TakeReturned

log = logging.getLogger(__name__)

STORE_PATIENCE_S: Final = 120.0  # a restart passes in this time; what lasts longer stops the worker
PROBES: Final = 3  # of the store with an object of no take, before a failure is laid on the object that was wanted
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 15.0
_TAKE_ID = re.compile(r"[0-9a-f]{24}")
_RUN_ID = re.compile(NAME_PATTERN)
_T = TypeVar("_T")


def store_waits(patience_s: float) -> tuple[float, ...]:
    """The pauses between tries at a store that refuses: each twice the last, and `patience_s` all together."""
    waits: list[float] = []
    wait_s, left_s = _FIRST_WAIT_S, patience_s
    while left_s > 0:
        waits.append(min(wait_s, left_s))
        wait_s, left_s = min(wait_s * 2, _LONGEST_WAIT_S), left_s - wait_s
    return tuple(waits)


class ObjectRefused(Exception):
    """The store is up and refuses an object of this take all the same."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(error.what)
        self.reason = f"the store refuses it and takes others: {error.what}" + (f" ({error.why})" if error.why else "")


class Lane(Protocol):
    """Where takes become audio."""

    def render(self, take: Take, *, alone: bool = False, plan: Plan | None = None) -> Rendered:
        """Wait for the engine; `plan` spares it the planning. Raises TakeReturned or TakeFailed."""

    def let_go(self, rendered: Rendered) -> None:
        """Its audio is done with; due for everything that `render` has returned."""


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """All that the threads of one worker share."""

    worker_id: str
    gpu: str  # the name that prices are looked up by
    card: EngineCard
    lane: Lane
    store: Store
    recorder: Recorder
    holds: InHand
    on_trouble: Callable[[TunemillError], None] = lambda error: None  # called when this worker cannot go on
    store_waits_s: tuple[float, ...] = store_waits(STORE_PATIENCE_S)
    store_gone: threading.Event = field(default_factory=threading.Event)  # one thread's patience is over: so is all
    # Checks and mastering take several times the audio's memory and a whole core: no more at once than help.
    benches: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(cores()))

    @property
    def noise(self) -> bool:
        """Whether the audio is noise by design."""
        return self.card.fingerprints.noise


def render_take(payload: dict[str, Any], studio: WorkerContext, *, shown_id: str = "") -> None:
    """Carry the take of one render message to its end; when this returns, the message may be acknowledged.

    Raises TakeReturned when the worker stops before the take was rendered, or cannot keep it because the store
    stays away. `shown_id` is the take's id as the envelope shows it, for a message that cannot be read.
    """
    try:
        message = parse_render(payload)
    except OutdatedError as error:
        _leave_to_newer(error, studio, shown_id)
        return
    except MessageError as error:
        _record_unreadable(payload, error, studio, shown_id)
        return
    take_id = message.take.id
    if not studio.holds.take(take_id):
        log.info("take %s is here already; its second message is done with", take_id)
        return
    try:
        attempt = _attempt(message, studio)
        studio.recorder.record(attempt)
        log.info("take %s %s%s", take_id, attempt.outcome, "".join(f"; {reason}" for reason in attempt.reasons))
    finally:
        studio.holds.drop(take_id)


def _attempt(message: RenderMessage, studio: WorkerContext) -> AttemptMade:
    """Try the take once; whatever happens becomes a record."""
    try:
        if (done := _find_finished(message.take, studio)) is not None:
            return _record(message, studio, outcome="accepted", adopted=True, sidecar=done)
        plan = _plan_of_first_take(message.take, studio)
        rendered = studio.lane.render(message.take, alone=message.alone, plan=plan)
    except TakeReturned:
        raise
    except TakeFailed as error:
        return _record(message, studio, outcome="failed", reasons=[error.reason], retry=error.retry, batch=error.batch)
    except ObjectRefused as error:
        return _record(message, studio, outcome="failed", reasons=[error.reason], retry=True)
    except StoreError as error:
        raise TakeReturned from error  # the store's failure is not the take's
    except Exception as error:
        return _broken(message, studio, error)
    try:
        attempt = _finish(message, rendered, studio)
    finally:
        studio.lane.let_go(rendered)
    return attempt.model_copy(update={"batch": rendered.batch})


def _finish(message: RenderMessage, rendered: Rendered, studio: WorkerContext) -> AttemptMade:
    """What follows the engine: check, master, store."""
    outcome, take = rendered.outcome, message.take
    if isinstance(outcome, Refusal):
        # A rejected take is never tried again, so a worker's own lack must not reject it.
        verdict = {"outcome": "failed", "retry": True} if outcome.elsewhere else {"outcome": "rejected"}
        attempt = _record(message, studio, **verdict, reasons=[outcome.reason])
        return attempt.model_copy(update={"times": rendered.times})
    began_s = time.monotonic()
    try:
        with studio.benches:
            began_s = time.monotonic()  # waiting for a bench is no work
            finished = _check_and_master(outcome, take, studio)
        attempt = _keep(message, rendered, outcome, finished, studio, began_s)
        if not attempt.adopted:
            return attempt  # it says what its sidecar says
    except Rejected as error:
        attempt = _record(message, studio, outcome="rejected", reasons=error.reasons)
    except StoreError as error:
        raise TakeReturned from error  # what it has cost is in the worker's spans
    except Exception as error:  # as above
        attempt = _broken(message, studio, error)
    times = rendered.times.model_copy(update={"post_ms": _since_ms(began_s)})
    audio_ms = outcome.audio.shape[-1] * 1000 // studio.card.sample_rate_hz
    return attempt.model_copy(update={"times": times, "audio_ms": audio_ms})


def _check_and_master(rendition: Rendition, take: Take, studio: WorkerContext) -> Mastered:
    """Both hold the audio to what the planner has chosen. Raises Rejected."""
    settled = settle(take.spec, rendition.plan.metadata if rendition.plan else {})
    audio = at_our_rate(rendition.audio, studio.card.sample_rate_hz)
    measures = check_audio(audio, settled, noise=studio.noise)
    return master(audio, take, measures=measures, noise=studio.noise, model=studio.card.model, settled=settled)


def _keep(
    message: RenderMessage,
    rendered: Rendered,
    rendition: Rendition,
    finished: Mastered,
    studio: WorkerContext,
    began_s: float,
) -> AttemptMade:
    """Store the audio, then the sidecar unless another worker's is there; the loser adopts the winner's."""
    take = message.take
    audio = _audio_file(take, finished)
    _with_retries(studio, lambda: _put_audio(studio.store, audio, finished.body))
    times = rendered.times.model_copy(update={"post_ms": _since_ms(began_s)})
    sidecar = _sidecar(message, rendered, rendition, audio, finished.measures, times, studio)
    winner = _with_retries(studio, lambda: _put_sidecar(studio.store, sidecar))
    # An upload that succeeded but whose answer was lost finds its own sidecar on the second try.
    if winner == sidecar:
        return AttemptMade.of(sidecar)
    if fault := _with_retries(studio, lambda: find_fault(studio.store, winner.audio)):
        raise MessageError(
            f"the take has a sidecar already, and the audio it names, {winner.audio.key}, {fault}",
            why="something has removed or changed it, and this rendering is not the same to the bit",
            fix="`tunemill catalog repair` has the take made again",
        )
    return _record(message, studio, outcome="accepted", adopted=True, sidecar=winner)


def _put_audio(store: Store, audio: AudioFile, body: bytes) -> None:
    """Write the audio and make sure that it is there."""
    store.put(audio.key, body, content_type=audio.content_type, sha256=audio.sha256)
    if fault := find_fault(store, audio):
        raise StoreError(
            f"{store.locate(audio.key)} {fault} just after it was written",
            why="the store does not keep what it is given",
            fix="use a store with consistent reads; `tunemill catalog verify` finds what else is affected",
        )


def _put_sidecar(store: Store, sidecar: Sidecar) -> Sidecar:
    """Write the sidecar unless one is there; the one that can be read back, which may be another worker's."""
    key, body = sidecar_key(sidecar.take), sidecar.to_json()
    ours = store.put_if_absent(key, body, content_type="application/json")
    found = store.find(key)
    if found == body:
        return sidecar
    if found is None:
        raise StoreError(
            f"the sidecar {store.locate(key)} {'was written' if ours else 'was there already'} and is gone",
            why="the store loses objects, or something deletes them during the run",
            fix="use a store with consistent reads, and delete nothing while workers run",
        )
    try:
        return parse_sidecar(found, sidecar.take_id)
    except MessageError:
        if not ours:
            raise
    store.delete(key)
    raise StoreError(
        f"the sidecar {store.locate(key)} could not be read back as it was written",
        why="the store does not keep what it is given",
        fix="use a store with consistent reads",
    )


def _audio_file(take: Take, finished: Mastered) -> AudioFile:
    return AudioFile(
        key=audio_key(take, finished.sha256, finished.extension),
        sha256=finished.sha256,
        pcm_sha256=finished.pcm_sha256,
        bytes=len(finished.body),
        content_type=finished.content_type,
        format=take.spec.master.format,
        sample_rate_hz=SAMPLE_RATE_HZ,
        channels=CHANNELS,
        n_samples=finished.n_samples,
    )


def _sidecar(
    message: RenderMessage,
    rendered: Rendered,
    rendition: Rendition,
    audio: AudioFile,
    measures: Measures,
    times: StageTimes,
    studio: WorkerContext,
) -> Sidecar:
    return Sidecar(
        take_id=message.take.id,
        record_id=new_id(),
        run_id=message.run_id,
        take=message.take,
        effective=rendition.effective,
        plan=rendition.plan,
        fingerprints=studio.card.fingerprints,
        measures=measures,
        audio=audio,
        times=times,
        batch=rendered.batch,
        worker_id=studio.worker_id,
        gpu=studio.gpu,
        created_at_ms=now_ms(),
        digital_source_type=source_type(message.take.spec.model),
    )


def _plan_of_first_take(take: Take, studio: WorkerContext) -> Plan | None:
    """What the track's first take was planned by, where its further takes are to follow that.

    While there is no first take yet, the shared seed makes the planner write the same plan again.
    """
    planner = take.spec.planner
    if planner is None or not planner.reuse or take.number == 1:
        return None
    try:
        first = _find_sidecar(take.track.take(1), studio)
    except MessageError as error:
        log.warning("take %s is planned anew: %s", take.id, error.what)
        return None
    return first.plan if first else None


def _find_finished(take: Take, studio: WorkerContext) -> Sidecar | None:
    """The take's sidecar if its audio is there as well; a deterministic engine makes lost audio again to the bit."""
    done = _find_sidecar(take, studio)
    if done is None:
        return None
    fault = _with_retries(studio, lambda: find_fault(studio.store, done.audio), reads=True)
    if fault is None:
        return done
    log.warning("take %s has a sidecar, but its audio %s %s: rendering it again", take.id, done.audio.key, fault)
    return None


def _find_sidecar(take: Take, studio: WorkerContext) -> Sidecar | None:
    body = _with_retries(studio, lambda: studio.store.find(sidecar_key(take)), reads=True)
    return None if body is None else parse_sidecar(body, take.id)


def _with_retries(studio: WorkerContext, call: Callable[[], _T], *, reads: bool = False) -> _T:
    """Call the store, again after each wait; the last StoreError is told to the worker and raised.

    Of a call that only `reads`, ObjectRefused is raised instead when the store takes and gives other objects: one
    that nobody may read would end worker after worker. A store that does not keep what it is given is always away.

    A call that takes its time to fail counts against the patience as well.
    """
    patience_s, began_s = sum(studio.store_waits_s), time.monotonic()
    for wait_s in studio.store_waits_s:
        try:
            return call()
        except StoreError as error:
            if 0 < patience_s < time.monotonic() - began_s:
                break
            log.warning("the store refused, trying again in %g s: %s", wait_s, error.what)
            if studio.store_gone.wait(wait_s):
                break
    try:
        return call()
    except StoreError as error:
        if reads and not studio.store_gone.is_set():
            return _try_beside_probes(studio, call, error)
        return _give_up_on(studio, error)


def _try_beside_probes(studio: WorkerContext, call: Callable[[], _T], error: StoreError) -> _T:
    """Find out whether the store is away or refuses this one object."""
    for _ in range(PROBES):
        try:
            studio.store.check()
        except StoreError as failed:
            return _give_up_on(studio, failed)
        try:
            return call()
        except StoreError as failed:
            error = failed
    raise ObjectRefused(error)


def _give_up_on(studio: WorkerContext, error: StoreError) -> NoReturn:
    studio.store_gone.set()
    studio.on_trouble(error)
    raise error


def _record(message: RenderMessage, studio: WorkerContext, **facts: Any) -> AttemptMade:
    return AttemptMade(worker_id=studio.worker_id, run_id=message.run_id, take_id=message.take.id, **facts)


def _broken(message: RenderMessage, studio: WorkerContext, error: Exception) -> AttemptMade:
    if isinstance(error, MessageError):
        reason = f"{error.what} ({error.fix})" if error.fix else error.what
        return _record(message, studio, outcome="failed", reasons=[reason])
    log.error("take %s failed", message.take.id, exc_info=error)
    return _record(message, studio, outcome="failed", reasons=[f"{type(error).__name__}: {error}"], retry=True)


def _leave_to_newer(error: OutdatedError, studio: WorkerContext, shown_id: str) -> None:
    """Give a take back that only a newer worker can read, and end: the next one would be no more readable.

    The control side sends it again, if it has sent it at all; on the queue it would end one worker after the other.
    """
    log.error("%s", error)
    if _TAKE_ID.fullmatch(shown_id):
        studio.recorder.record(TakesReturned(worker_id=studio.worker_id, take_ids=[shown_id]))
    studio.on_trouble(error)


def _record_unreadable(payload: Any, error: MessageError, studio: WorkerContext, shown_id: str) -> None:
    """A message we cannot read still ends its take with a reason, as far as it says which take that is."""
    take_id = shown_id if _TAKE_ID.fullmatch(shown_id) else ""
    log.error("a message%s cannot be read: %s", f" for take {take_id}" if take_id else "", error)
    run_id = payload.get("run_id") if isinstance(payload, dict) else None
    if not take_id or not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
        log.error("its take or its run is unknown; the controller sends the take again")
        return
    # Another worker may be set up otherwise, so the try is not the last one.
    attempt = AttemptMade(
        worker_id=studio.worker_id,
        run_id=run_id,
        take_id=take_id,
        outcome="failed",
        reasons=[error.what],
        retry=True,
    )
    studio.recorder.record(attempt)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _since_ms(began_s: float) -> int:
    return int((time.monotonic() - began_s) * 1000)

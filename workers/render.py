"""One take, start to end: ask the store, render, check, master, store, record.

Safe to run twice for the same take: a take with a sidecar is done, and of two renderings the sidecar that was
there first wins. Every take that comes in leaves a record of how it ended, unless the worker stops first or the store
stays away; then `TakeReturned` passes through and the message goes back to its queue.
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
from typing import Any, Final, NamedTuple, Protocol

from catalog.bounded import NAME_PATTERN
from catalog.errors import MessageError, OutdatedError, StoreError, TunemillError
from catalog.forms import without_later_fields
from catalog.keys import audio_key
from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from catalog.messages import FORMS_READ, AttemptMade, RenderMessage, TakesReturned, new_id, now_ms, parse_render
from catalog.sidecar import AudioFile, MasterFile, Measures, Plan, Sidecar, StageTimes
from catalog.spec import with_metadata
from catalog.track import Take
from workers.audio.checks import Rejected, check_and_analyse
from workers.audio.chroma import chroma_of
from workers.audio.master import Mastered, master
from workers.audio.masters import make_master
from workers.audio.offset import without_offset
from workers.audio.resample import at_our_rate
from workers.audio.scoring import Scorer, with_scores
from workers.audio.tags import file_name_of, source_type
from workers.engine.protocol import EngineCard, Refusal, Rendition
from workers.heartbeats import TakesInHand
from workers.records import Recorder
from workers.scheduler.request import Rendered, TakeFailed, TakeReturned
from workers.storage import ObjectRefused, TakeStorage

log = logging.getLogger(__name__)

_TAKE_ID: Final = re.compile(r"[0-9a-f]{24}")
_RUN_ID: Final = re.compile(NAME_PATTERN)


class Renderer(Protocol):
    """The scheduler's interface for the worker's threads: a take goes in, and its audio comes out."""

    def render(self, take: Take, *, alone: bool = False, plan: Plan | None = None) -> Rendered:
        """Wait for the engine; a given `plan` is used as it is. Raises TakeReturned or TakeFailed."""

    def release(self, rendered: Rendered) -> None:
        """Free the memory of the audio; every result of `render` must be released."""


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The objects that all threads of one worker share."""

    worker_id: str
    gpu: str  # the name that prices are looked up by
    card: EngineCard
    renderer: Renderer
    storage: TakeStorage
    recorder: Recorder
    in_hand: TakesInHand
    scorers: tuple[Scorer, ...] = ()  # plug-ins, beside the built-in ones
    on_trouble: Callable[[TunemillError], None] = lambda error: None  # called when this worker cannot go on
    # Checks and mastering take several times the audio's memory and a whole core: no more at once than help.
    cpu_slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(usable_cores()))

    @property
    def noise(self) -> bool:
        """True when the audio is noise by design."""
        return self.card.fingerprints.noise


def render_take(
    payload: dict[str, Any], context: WorkerContext, *, shown_id: str = "", receipt: str = "", reads: int = FORMS_READ
) -> None:
    """Process the take of one render message to its end; after the return, the message may be acknowledged.

    Raises TakeReturned when the worker stops before the take was rendered, or cannot store it because the store is
    unreachable. `shown_id` is the take's id in the envelope, used for a message that cannot be read. `receipt` is the
    receipt of the order, which every report of the take returns.
    """
    try:
        message = parse_render(payload)
    except OutdatedError as error:
        _leave_to_newer(error, context, shown_id, receipt)
        return
    except MessageError as error:
        _record_unreadable(payload, error, context, shown_id, receipt)
        return
    take_id = message.take.id
    if not context.in_hand.add(take_id, receipt):
        log.info("take %s is here already, or was made on this order; its second message is done with", take_id)
        return
    try:
        attempt = _attempt(message, context, reads).model_copy(update={"receipt": receipt})
        context.recorder.record(attempt)
        log.info("take %s %s%s", take_id, attempt.outcome, "".join(f"; {reason}" for reason in attempt.reasons))
    finally:
        context.in_hand.remove(take_id)


def _attempt(message: RenderMessage, context: WorkerContext, reads: int) -> AttemptMade:
    """Try the take once; every outcome becomes a record."""
    try:
        if (finished := context.storage.find_finished(message.take)) is not None:
            return _record(message, context, outcome="accepted", adopted=True, sidecar=finished)
        plan = _plan_of_first_take(message.take, context)
        rendered = context.renderer.render(message.take, alone=message.alone, plan=plan)
    except TakeReturned:
        raise
    except TakeFailed as error:
        return _record(message, context, outcome="failed", reasons=[error.reason], retry=error.retry, batch=error.batch)
    except ObjectRefused as error:
        return _record(message, context, outcome="failed", reasons=[error.reason], retry=True)
    except StoreError as error:
        raise TakeReturned from error  # the store's failure is not the take's
    except Exception as error:
        return _record_defect(message, context, error)
    try:
        attempt = _finish(message, rendered, context, reads)
    finally:
        context.renderer.release(rendered)
    return attempt.model_copy(update={"batch": rendered.batch})


def _plan_of_first_take(take: Take, context: WorkerContext) -> Plan | None:
    """The plan of the track's first take, where the take follows it.

    While no first take is stored, the shared seed makes the planner write the same plan again.
    """
    if not take.follows_first_plan:
        return None
    try:
        first = context.storage.find_sidecar(take.track.take(1))
    except MessageError as error:
        log.warning("take %s is planned anew: %s", take.id, error.what)
        return None
    return first.plan if first else None


# ---------------------------------------------------------------- after the engine


def _finish(message: RenderMessage, rendered: Rendered, context: WorkerContext, reads: int) -> AttemptMade:
    """Check, master and store the engine's audio."""
    is_older = reads < FORMS_READ  # the control side, which would set records aside that say more than it knows
    outcome, take = rendered.outcome, message.take
    if isinstance(outcome, Refusal):
        # A rejected take is never tried again, so a worker's own lack must not reject it.
        verdict = {"outcome": "failed", "retry": True} if outcome.elsewhere else {"outcome": "rejected"}
        attempt = _record(message, context, **verdict, reasons=[outcome.reason])
        return attempt.model_copy(update={"times": rendered.times})
    began_s = time.monotonic()
    try:
        with context.cpu_slots:
            began_s = time.monotonic()  # waiting for a slot is no work
            processed = _check_and_master(outcome, take, context)
            processed = processed.as_before() if is_older else processed
        attempt = _store(message, rendered, outcome, processed, context, began_s)
        if not attempt.adopted:
            return attempt  # its times and duration are those of its sidecar
    except Rejected as error:
        attempt = _record(
            message, context, outcome="rejected", reasons=error.reasons, flaws=[] if is_older else error.flaws
        )
    except StoreError as error:
        raise TakeReturned from error  # the time that the take has cost is in the worker's spans
    except Exception as error:
        attempt = _record_defect(message, context, error)
    times = rendered.times.model_copy(update={"post_ms": _since_ms(began_s)})
    audio_ms = outcome.audio.shape[-1] * 1000 // context.card.sample_rate_hz
    return attempt.model_copy(update={"times": times, "audio_ms": audio_ms})


class _Processed(NamedTuple):
    """What is made of the engine's audio before it is stored."""

    mastered: Mastered
    kept: tuple[MasterFile, bytes] | None  # the master beside the finished file, where the catalog keeps masters
    chroma: str  # codes of its sound; "" of noise by design, which sounds alike whatever the take

    def as_before(self) -> _Processed:
        """The same without what a control side of an earlier release cannot read."""
        measures = without_later_fields(self.mastered.measures)
        return _Processed(self.mastered._replace(measures=measures), kept=None, chroma="")


def _check_and_master(rendition: Rendition, take: Take, context: WorkerContext) -> _Processed:
    """Check the audio against the spec with the planner's choices, then master it. Raises Rejected."""
    spec = with_metadata(take.spec, rendition.plan.metadata if rendition.plan else {})
    audio = at_our_rate(rendition.audio, context.card.sample_rate_hz)
    measures, analysis = check_and_analyse(audio, spec, noise=context.noise, policies=take.track.checks)
    audio = without_offset(audio)
    mastered = master(audio, take, measures=measures, noise=context.noise, model=context.card.model, rendered_spec=spec)
    scored = with_scores(mastered.measures, audio, spec, analysis, context.scorers)
    mastered = mastered._replace(measures=scored)
    kept = make_master(audio, take) if take.track.keeps_master else None
    return _Processed(mastered, kept, "" if context.noise else chroma_of(audio))


def _store(
    message: RenderMessage,
    rendered: Rendered,
    rendition: Rendition,
    processed: _Processed,
    context: WorkerContext,
    began_s: float,
) -> AttemptMade:
    """Store master and audio, then the sidecar unless another worker's is there; the loser adopts the winner's."""
    mastered, kept, chroma = processed
    if kept is not None:
        context.storage.put_audio(kept[0].audio, kept[1])
    audio = audio_file(message.take, mastered)
    context.storage.put_audio(audio, mastered.body, file_name=file_name_of(message.take, mastered.extension))
    times = rendered.times.model_copy(update={"post_ms": _since_ms(began_s)})
    sidecar = _sidecar(message, rendered, rendition, audio, mastered.measures, times, context)
    sidecar = sidecar.model_copy(update={"chroma": chroma, "master": kept[0] if kept is not None else None})
    winner = context.storage.put_sidecar(sidecar)
    if winner == sidecar:
        return AttemptMade.of(sidecar)
    return _record(message, context, outcome="accepted", adopted=True, sidecar=winner)


def audio_file(take: Take, mastered: Mastered) -> AudioFile:
    """The description of a finished file, as the sidecar of its take states it."""
    return AudioFile(
        key=audio_key(take, mastered.sha256, mastered.extension),
        sha256=mastered.sha256,
        pcm_sha256=mastered.pcm_sha256,
        bytes=len(mastered.body),
        content_type=mastered.content_type,
        format=take.spec.master.format,
        sample_rate_hz=SAMPLE_RATE_HZ,
        channels=CHANNELS,
        n_samples=mastered.n_samples,
    )


def _sidecar(
    message: RenderMessage,
    rendered: Rendered,
    rendition: Rendition,
    audio: AudioFile,
    measures: Measures,
    times: StageTimes,
    context: WorkerContext,
) -> Sidecar:
    return Sidecar(
        take_id=message.take.id,
        record_id=new_id(),
        run_id=message.run_id,
        take=message.take,
        effective=rendition.effective,
        plan=rendition.plan,
        fingerprints=context.card.fingerprints,
        measures=measures,
        audio=audio,
        times=times,
        batch=rendered.batch,
        worker_id=context.worker_id,
        gpu=context.gpu,
        created_at_ms=now_ms(),
        receipt=context.in_hand.receipt_of(message.take.id),
        digital_source_type=source_type(message.take.spec.model),
    )


# ---------------------------------------------------------------- records


def _record(message: RenderMessage, context: WorkerContext, **facts: Any) -> AttemptMade:
    return AttemptMade(worker_id=context.worker_id, run_id=message.run_id, take_id=message.take.id, **facts)


def _record_defect(message: RenderMessage, context: WorkerContext, error: Exception) -> AttemptMade:
    """Record a failed attempt; an error that no other try can change is marked as final."""
    if isinstance(error, MessageError):
        reason = f"{error.what} ({error.fix})" if error.fix else error.what
        return _record(message, context, outcome="failed", reasons=[reason])
    log.error("take %s failed", message.take.id, exc_info=error)
    return _record(message, context, outcome="failed", reasons=[f"{type(error).__name__}: {error}"], retry=True)


def _leave_to_newer(error: OutdatedError, context: WorkerContext, shown_id: str, receipt: str) -> None:
    """Return a take that only a newer worker can read, and stop, because the next message would be as new.

    The control side sends the take again if it really sent it; a message left on the queue would end one worker after
    the other.
    """
    log.error("%s", error)
    if _TAKE_ID.fullmatch(shown_id):
        receipts = [receipt] if receipt else []
        context.recorder.record(TakesReturned(worker_id=context.worker_id, take_ids=[shown_id], receipts=receipts))
    context.on_trouble(error)


def _record_unreadable(payload: Any, error: MessageError, context: WorkerContext, shown_id: str, receipt: str) -> None:
    """Record a failed attempt for an unreadable message, as far as the message names its take."""
    take_id = shown_id if _TAKE_ID.fullmatch(shown_id) else ""
    log.error("a message%s cannot be read: %s", f" for take {take_id}" if take_id else "", error)
    run_id = payload.get("run_id") if isinstance(payload, dict) else None
    if not take_id or not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
        log.error("its take or its run is unknown; the controller sends the take again")
        return
    # Another worker may be set up otherwise, so the try is not the last one.
    attempt = AttemptMade(
        worker_id=context.worker_id,
        run_id=run_id,
        take_id=take_id,
        outcome="failed",
        reasons=[error.what],
        retry=True,
        receipt=receipt,
    )
    context.recorder.record(attempt)


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _since_ms(began_s: float) -> int:
    return int((time.monotonic() - began_s) * 1000)

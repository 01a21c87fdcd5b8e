"""One take, start to end: ask the store, render, check, master, store, record.

Safe to run twice for the same take: a take with a sidecar is done, and of two renderings the sidecar that was
there first wins. Every take that comes in leaves a record of how it ended, unless the worker stops before it
was rendered; then `TakeReturned` passes through and the message goes back to its queue.
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
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from catalog.errors import MessageError, StoreError
from catalog.keys import audio_key, sidecar_key
from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from catalog.messages import AttemptMade, RenderMessage, now_ms, parse_render
from catalog.sidecar import AudioFile, Measures, Plan, Sidecar, StageTimes
from catalog.spec import settle
from catalog.store.base import Store
from catalog.track import Take
from workers.checks import Rejected, check_audio
from workers.engine import EngineCard, Refusal, Rendition
from workers.lane.passage import Rendered, TakeFailed, TakeReturned
from workers.master import Mastered, master
from workers.records import Holds, Recorder
from workers.tags import source_type

log = logging.getLogger(__name__)

STORE_WAITS_S = (0.5, 1.0, 2.0, 4.0)  # a hiccup passes in this time; an outage stops the worker
_TAKE_ID = re.compile(r"[0-9a-f]{24}")
_T = TypeVar("_T")


class Lane(Protocol):
    """Where takes become audio."""

    def render(self, take: Take, *, alone: bool = False, plan: Plan | None = None) -> Rendered:
        """Wait for the engine; `plan` spares it the planning. Raises TakeReturned or TakeFailed."""

    def let_go(self, rendered: Rendered) -> None:
        """Its audio is done with; due for everything that `render` has returned."""


@dataclass(frozen=True, slots=True)
class Studio:
    """All that the threads of one worker share."""

    worker_id: str
    gpu: str  # the name that prices are looked up by
    card: EngineCard
    lane: Lane
    store: Store
    recorder: Recorder
    holds: Holds
    on_store_down: Callable[[StoreError], None] = lambda error: None  # called when retries did not help
    store_waits_s: tuple[float, ...] = STORE_WAITS_S
    # Checks and mastering take several times the audio's memory and a whole core: no more at once than help.
    benches: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(cores()))

    @property
    def noise(self) -> bool:
        """Whether the audio is noise by design."""
        return self.card.fingerprints.noise


def render_take(payload: dict[str, Any], studio: Studio, *, shown_id: str = "") -> None:
    """Carry the take of one render message to its end; when this returns, the message may be acknowledged.

    Raises TakeReturned when the worker stops before the take was rendered. `shown_id` is the take's id as
    the envelope shows it, for a message that cannot be read.
    """
    try:
        message = parse_render(payload)
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


def _attempt(message: RenderMessage, studio: Studio) -> AttemptMade:
    """Try the take once; whatever happens becomes a record."""
    try:
        if (done := _find_sidecar(message.take, studio)) is not None:
            return _record(message, studio, outcome="accepted", adopted=True, sidecar=done)
        plan = _plan_of_first_take(message.take, studio)
        rendered = studio.lane.render(message.take, alone=message.alone, plan=plan)
    except TakeReturned:
        raise
    except TakeFailed as error:
        return _record(message, studio, outcome="failed", reasons=[error.reason], retry=error.retry, batch=error.batch)
    except StoreError as error:
        return _store_failed(message, studio, error)
    except Exception as error:
        return _broken(message, studio, error)
    try:
        attempt = _finish(message, rendered, studio)
    finally:
        studio.lane.let_go(rendered)
    return attempt.model_copy(update={"batch": rendered.batch})


def _finish(message: RenderMessage, rendered: Rendered, studio: Studio) -> AttemptMade:
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
    except Rejected as error:
        attempt = _record(message, studio, outcome="rejected", reasons=error.reasons)
    except StoreError as error:
        attempt = _store_failed(message, studio, error)
    except Exception as error:  # as above
        attempt = _broken(message, studio, error)
    times = rendered.times.model_copy(update={"post_ms": _since_ms(began_s)})
    audio_ms = outcome.audio.shape[-1] * 1000 // SAMPLE_RATE_HZ
    return attempt.model_copy(update={"times": times, "audio_ms": audio_ms})


def _check_and_master(rendition: Rendition, take: Take, studio: Studio) -> Mastered:
    """Both hold the audio to what the planner has chosen. Raises Rejected."""
    settled = settle(take.spec, rendition.plan.metadata if rendition.plan else {})
    measures = check_audio(rendition.audio, settled, noise=studio.noise)
    model = studio.card.model
    return master(rendition.audio, take, measures=measures, noise=studio.noise, model=model, settled=settled)


def _keep(
    message: RenderMessage, rendered: Rendered, rendition: Rendition, finished: Mastered, studio: Studio, began_s: float
) -> AttemptMade:
    """Store the audio, then the sidecar unless another worker's is there; the loser adopts the winner's."""
    take = message.take
    audio = _audio_file(take, finished)
    times = rendered.times.model_copy(update={"post_ms": _since_ms(began_s)})
    _with_retries(
        studio,
        lambda: studio.store.put(audio.key, finished.body, content_type=audio.content_type, sha256=audio.sha256),
    )
    sidecar = _sidecar(message, rendered, rendition, audio, finished.measures, times, studio)
    body = sidecar.model_dump_json(indent=1).encode()
    key = sidecar_key(take)
    if _with_retries(studio, lambda: studio.store.put_if_absent(key, body, content_type="application/json")):
        return _record(message, studio, outcome="accepted", sidecar=sidecar)
    winner = _find_sidecar(take, studio)
    if winner is None:
        raise StoreError(f"the sidecar {key} was there and is gone", why="something deletes objects during the run")
    # An upload that succeeded but whose answer was lost finds its own sidecar on the second try.
    return _record(message, studio, outcome="accepted", adopted=winner != sidecar, sidecar=winner)


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
    studio: Studio,
) -> Sidecar:
    return Sidecar(
        take_id=message.take.id,
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


def _plan_of_first_take(take: Take, studio: Studio) -> Plan | None:
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


def _find_sidecar(take: Take, studio: Studio) -> Sidecar | None:
    key = sidecar_key(take)
    body = _with_retries(studio, lambda: studio.store.find(key))
    if body is None:
        return None
    try:
        return Sidecar.model_validate_json(body)
    except ValidationError as error:
        raise MessageError(
            f"the sidecar {key} cannot be read: {error.errors(include_input=False, include_url=False)[0]['msg']}",
            why="it is damaged, or was written by a newer version",
            fix="upgrade this worker, or delete the object to have the take rendered again",
        ) from None


def _with_retries(studio: Studio, call: Callable[[], _T]) -> _T:
    """Call the store, again after each wait; the last StoreError is told to the worker and raised."""
    for wait_s in studio.store_waits_s:
        try:
            return call()
        except StoreError as error:
            log.warning("the store refused, trying again in %g s: %s", wait_s, error.what)
            time.sleep(wait_s)
    try:
        return call()
    except StoreError as error:
        studio.on_store_down(error)
        raise


def _record(message: RenderMessage, studio: Studio, **facts: Any) -> AttemptMade:
    return AttemptMade(worker_id=studio.worker_id, run_id=message.run_id, take_id=message.take.id, **facts)


def _store_failed(message: RenderMessage, studio: Studio, error: StoreError) -> AttemptMade:
    return _record(message, studio, outcome="failed", reasons=[f"store: {error.what}"], retry=True)


def _broken(message: RenderMessage, studio: Studio, error: Exception) -> AttemptMade:
    if isinstance(error, MessageError):
        return _record(message, studio, outcome="failed", reasons=[error.what])
    log.error("take %s failed", message.take.id, exc_info=error)
    return _record(message, studio, outcome="failed", reasons=[f"{type(error).__name__}: {error}"], retry=True)


def _record_unreadable(payload: Any, error: MessageError, studio: Studio, shown_id: str) -> None:
    """A message we cannot read still ends its take with a reason, as far as it says which take that is."""
    take_id = shown_id if _TAKE_ID.fullmatch(shown_id) else ""
    log.error("a message%s cannot be read: %s", f" for take {take_id}" if take_id else "", error)
    run_id = payload.get("run_id") if isinstance(payload, dict) else None
    if not take_id or not isinstance(run_id, str):
        log.error("its take or its run is unknown; the controller sends the take again")
        return
    # Another worker may be of the sender's version, so the try is not the last one.
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

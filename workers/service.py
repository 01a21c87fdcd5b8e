"""A worker's life: check the surroundings, load, serve, stop in order.

Before the first take everything that can be wrong is found in seconds and said in words. A first SIGTERM or
SIGINT gives back what has not been with the engine, finishes and stores the rest, and ends with 0. A second
one, a SIGQUIT or the end of the grace time gives back everything at once. Whatever hangs then, the process is out
a few seconds later.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, NamedTuple

from catalog.errors import BrokerError, TunemillError, WorkerError
from catalog.messages import TakesReturned, WorkerStarted, WorkerStopped, new_id
from catalog.models import find_model
from catalog.queues import queues_served
from catalog.rental import rented_here
from catalog.settings import Settings
from catalog.tiers import BatchLimit, tier_of
from workers.app import RenderWorker, make_app, make_worker
from workers.engine.process import EngineProcess, EngineRecipe
from workers.engine.protocol import EngineCard
from workers.records import Heartbeats, InHand, QueueRecorder, check_broker, spans_closed
from workers.render import WorkerContext, cores, store_waits
from workers.scheduler.scheduler import Scheduler
from workers.spans import SpanLog
from workers.wiring import engine_recipe, open_checked_store, typical_bucket

log = logging.getLogger(__name__)

GRACE_S: Final = 120.0
CPU: Final = "cpu"
ECHO_S: Final = 1.0
POLL_S: Final = 0.05
RELOAD_TIMEOUT_S: Final = 1800.0  # for an engine that follows another: it may hang over a broken device
AT_ONCE_S: Final = 0.5  # what waits for the engine goes back to its queue in this time
LAST_RESORT_S: Final = 3.0  # after its time is over, whatever still hangs
LAST_WORDS_TIMEOUT_S: Final = 1.0
_SIGNAL, _QUIT, _TROUBLE = b"S", b"Q", b"T"


class ServeOptions(NamedTuple):
    """What the command line decides."""

    model: str
    threads: int | None = None  # None: follows from the engine's limits
    grace_s: float = GRACE_S  # for the batch on the engine and its uploads, once told to stop
    planner: bool = True


class EngineLimits(NamedTuple):
    """How many takes of the usual kind one call of the engine holds, and why."""

    batch: BatchLimit
    plan: BatchLimit


def threads_for(limits: EngineLimits, n_cores: int | None = None) -> int:
    """The takes to hold at once, so that the engine never waits for one and a finished one never for a thread.

    A planner call, the batch on the engine and the next one; two on their way in; and beside them what the cores
    check and encode, which more than two batches never keep busy.
    """
    posting = min(n_cores or cores(), 2 * limits.batch.takes)
    return limits.plan.takes + 2 * limits.batch.takes + 2 + posting


def serve(settings: Settings, options: ServeOptions, *, started_at_ms: int, recipe: EngineRecipe | None = None) -> int:
    """Serve until told to stop; the exit code. Raises TunemillError when it cannot start or cannot go on.

    `recipe` replaces the engine that the settings name.
    """
    if not settings.broker_url:
        raise BrokerError(
            "no broker is named",
            why="a worker takes its work from a queue that others fill",
            fix="set TUNEMILL_BROKER_URL, or use `tunemill run`, which brings its own broker and worker",
        )
    recipe = recipe or engine_recipe(settings, options.model, planner_wanted=options.planner)
    check_broker(settings.broker_url)
    return _Service(settings, options, recipe, settings.broker_url, started_at_ms).run()


class _Service:
    def __init__(
        self, settings: Settings, options: ServeOptions, recipe: EngineRecipe, broker_url: str, started_at_ms: int
    ) -> None:
        self._settings, self._options, self._broker_url = settings, options, broker_url
        self._started_at_ms = started_at_ms
        self._worker_id = new_id()
        self._store = open_checked_store(settings)
        self._holds = InHand()
        self._spans = SpanLog(started_at_ms)
        self._recorder = QueueRecorder(broker_url)
        self._pulse = Heartbeats(
            QueueRecorder(broker_url),
            self._holds,
            self._spans,
            worker_id=self._worker_id,
            every_s=settings.heartbeat_s,
            memory=lambda: self._gather.memory,
        )
        self._gather = Scheduler(
            _engines(recipe),
            self._spans,
            typical=typical_bucket(options.model, planner_wanted=options.planner),
            on_batch=self._pulse.wake,
        )
        self._lane = threading.Thread(target=self._run_lane, name="lane", daemon=True)
        self._failure: TunemillError | None = None
        self._stopping = threading.Event()
        self._ended = False
        self._worker: RenderWorker | None = None
        self._wake_read, self._wake_write = os.pipe()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_signal)
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        self._pulse.start()
        self._lane.start()
        try:
            card = self._await_engine()
            if card is not None:
                self._serve(card)
        except TunemillError as error:
            self._failure = self._failure or error
        finally:
            self._end()
        if self._failure is not None:
            raise self._failure
        return 0

    # ------------------------------------------------------------ start

    def _await_engine(self) -> EngineCard | None:
        """The loaded engine's card; None when told to stop first."""
        self._announce(None, None)
        self._gather.ready.wait()
        if self._stopping.is_set():
            return None
        if self._gather.failure is not None:
            raise self._gather.failure
        return self._gather.card

    def _serve(self, card: EngineCard) -> None:
        limits = self._limits()
        self._gather.threads = threads = self._options.threads or threads_for(limits)
        self._announce(card, limits)
        log.info("batch limit %d: %s", limits.batch.takes, limits.batch.reason)
        if limits.plan.takes:
            log.info("plan limit %d: %s", limits.plan.takes, limits.plan.reason)
        for note in card.notes:
            log.info(note)
        queues = queues_served(self._options.model, tier_of(card.vram_gib))
        log.info("worker %s serves %s on %s with %d threads", self._worker_id, card.model, card.gpu, threads)
        studio = WorkerContext(
            worker_id=self._worker_id,
            gpu=self._gpu(card),
            card=card,
            lane=self._gather,
            store=self._store,
            recorder=self._recorder,
            holds=self._holds,
            on_trouble=self._on_trouble,
            store_waits_s=store_waits(self._settings.store_patience_s),
        )
        app = make_app(self._broker_url, studio)
        name = f"{self._worker_id}@{socket.gethostname()}"
        self._worker = make_worker(app, name=name, queues=queues, threads=threads)
        if not self._stopping.is_set():
            self._worker.start()
        if not self._stopping.is_set():
            raise WorkerError(
                "the worker's connection to the queue ended by itself",
                why="the log says what the broker or its client met with",
                fix="start the worker again; its takes are sent to others meanwhile",
            )

    def _limits(self) -> EngineLimits:
        batch, plan = self._gather.batch_limit, self._gather.plan_limit
        assert batch is not None and plan is not None, "a loaded engine has said its limits"  # noqa: S101, PT018
        return EngineLimits(batch, plan)

    def _announce(self, card: EngineCard | None, limits: EngineLimits | None) -> None:
        """Tell the control side of this worker: while the engine loads, and again once it is ready."""
        record = self._recorder.record if card else self._recorder.record_first
        self._pulse.announcement = WorkerStarted(
            worker_id=self._worker_id,
            host=socket.gethostname(),
            gpu=self._gpu(card),
            vram_gib=card.vram_gib if card else 0.0,
            model=self._options.model,
            model_fingerprint=card.fingerprints.model if card else "",
            code=card.fingerprints.code if card else "",
            noise=card.fingerprints.noise if card else False,
            batch_limit=limits.batch.takes if limits else 0,
            batch_limit_reason=limits.batch.reason if limits else "loading",
            plan_limit=limits.plan.takes if limits else 0,
            holds_max=self._gather.threads if limits else 0,
            started_at_ms=self._started_at_ms,
            rental=rented_here(
                os.environ,
                setting=self._settings.rental,
                market=self._settings.market,
                region=self._settings.region,
            ),
            lane=os.environ.get("CUDA_VISIBLE_DEVICES", self._settings.device or "")[:128],
        )
        record(self._pulse.announcement)

    def _gpu(self, card: EngineCard | None) -> str:
        """The name that prices are looked up by: the operator's word goes before the driver's."""
        if card is None and (not find_model(self._options.model).needs_device or self._settings.device == CPU):
            return self._settings.gpu or CPU  # known before anything is loaded
        return self._settings.gpu or (card.gpu if card else "")

    def _run_lane(self) -> None:
        self._gather.run()
        if self._gather.failure is not None and not self._stopping.is_set():
            self._failure = self._failure or self._gather.failure
            os.write(self._wake_write, _TROUBLE)

    # ------------------------------------------------------------ stop

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # A handler may take no lock; a pipe needs none.
        os.write(self._wake_write, _QUIT if number == signal.SIGQUIT else _SIGNAL)

    def _on_trouble(self, error: TunemillError) -> None:
        """A store that stays away, or orders that are too new, would fail one take after the other: end instead."""
        self._failure = self._failure or error
        os.write(self._wake_write, _TROUBLE)

    def _watch(self) -> None:
        """Stop in order at the first call; at once at a second signal, a quit, or when the grace time is over."""
        grace_s = self._options.grace_s if os.read(self._wake_read, 1) != _QUIT else AT_ONCE_S
        until_s = time.monotonic() + grace_s
        self._stopping.set()
        self._be_out_in(grace_s + LAST_RESORT_S)
        log.info("stopping: what has not been with the engine goes back to its queue")
        consuming = self._worker is not None and not self._worker.stop_consuming()
        if consuming:  # no connection: nothing more can come, and nothing can be given back
            self._end_worker()
        self._gather.drain()
        if not self._gather.ready.is_set():
            self._gather.kill()
        self._await_last_take(until_s)
        if not self._ended:
            self._give_up()

    def _await_last_take(self, until_s: float) -> None:
        """Wait until all is done; returns early at a second signal or when the time is over."""
        first_s = time.monotonic()
        while not self._ended and time.monotonic() < until_s:
            if not len(self._holds):
                self._end_worker()
            ready, _, _ = select.select([self._wake_read], [], [], POLL_S)
            call = os.read(self._wake_read, 1) if ready else b""
            # A terminal signals the whole group, whose leader then signals us too: that is one call, not two.
            if call == _QUIT or (call == _SIGNAL and time.monotonic() - first_s > ECHO_S):
                self._be_out_in(LAST_RESORT_S)
                return

    def _be_out_in(self, seconds: float) -> None:
        """End the process then, if it is still there: a lock, a dead broker or an upload may hold all others."""
        threading.Thread(target=self._last_resort, args=(seconds,), name="last resort", daemon=True).start()

    def _last_resort(self, seconds: float) -> None:
        time.sleep(seconds)
        # Even the log may hang, on a pipe that nobody empties.
        words = "ending now, with something that hangs; takes held here are sent again when our silence is noticed"
        threading.Thread(target=log.error, args=(words,), daemon=True).start()
        time.sleep(POLL_S)
        os._exit(self._exit_code)

    @property
    def _exit_code(self) -> int:
        return self._failure.exit_code if self._failure is not None else 0

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.end()

    def _give_up(self) -> None:
        """Give back all that is held and end now; the broker's copies are never waited for."""
        held = self._holds.ids()
        log.warning("ending at once; %d takes are given back", len(held))
        self._gather.kill()
        # A connection of its own: others may hang on theirs, and hold its lock.
        recorder = QueueRecorder(self._broker_url, timeout_s=LAST_WORDS_TIMEOUT_S)
        if not held or recorder.try_record(TakesReturned(worker_id=self._worker_id, take_ids=held)):
            self._report_end("stopped before its takes were done", recorder)
        if self._failure is not None:
            log.error("%s", self._failure)
        os._exit(self._exit_code)

    def _end(self) -> None:
        """The last words, when everything that was held has come to its end."""
        self._stopping.set()
        self._be_out_in(self._options.grace_s + LAST_RESORT_S)
        if not self._lane.is_alive():  # then what came since was for checks, mastering and uploads alone
            self._spans.close("post")
        self._gather.kill()
        self._lane.join(timeout=15)
        self._pulse.end()
        self._ended = True
        self._recorder.try_record(self._pulse.next_beat())
        self._report_end(self._failure.what if self._failure else "told to stop", self._recorder)
        self._recorder.close()

    def _report_end(self, reason: str, recorder: QueueRecorder) -> None:
        self._spans.close("teardown")
        if (
            self._pulse.announcement is not None
        ):  # a broker may have lost it, and then nobody would know whose time it is
            recorder.try_record(self._pulse.announcement)
        for record in spans_closed(self._worker_id, self._spans.take_closed()):
            recorder.try_record(record)
        recorder.try_record(WorkerStopped(worker_id=self._worker_id, reason=reason))


def _engines(recipe: EngineRecipe) -> Callable[[], EngineProcess]:
    """Opens one engine after the other. Only the first may have to download its model, so only it has all the time."""
    waits_s = itertools.chain([math.inf], itertools.repeat(RELOAD_TIMEOUT_S))
    return lambda: EngineProcess(recipe, loading_timeout_s=next(waits_s))

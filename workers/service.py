"""A worker's life: check the environment, load the model, serve takes, and stop in order.

Before the first take, every fault that can be checked is found within seconds and reported in words. After a first
SIGTERM or SIGINT, the worker returns the takes that have not reached the engine, finishes and stores the others, and
exits with 0. After a second one, a SIGQUIT, or the end of the grace time, it returns all takes at once. Even if a
thread hangs then, the process ends a few seconds later.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from catalog.broker_answers import tell_if_in_clear
from catalog.errors import TunemillError, WorkerError
from catalog.messages import FAULT, TakesReturned, WorkerStarted, WorkerStopped
from catalog.models import find_model
from catalog.orders import parse_public_keys
from catalog.queues import queues_served
from catalog.rental import RentalNote, rented_here
from catalog.settings import Settings
from catalog.store import STORE_BACKOFF
from catalog.tiers import BatchLimit, tier_of
from workers.app import RenderWorker, make_app, make_worker
from workers.audio.checks.voice import has_voice_check
from workers.audio.chroma import has_chromaprint
from workers.audio.scoring import load_scorers
from workers.engine.process import EngineProcess, EngineRecipe
from workers.engine.protocol import EngineCard
from workers.heartbeats import Heartbeats, TakesInHand
from workers.records import QueueRecorder, RecordSequence, WorkerIdentity, check_broker, spans_closed
from workers.render import WorkerContext, usable_cores
from workers.scheduler.scheduler import Scheduler
from workers.spans import SpanLog
from workers.stopping import StopOrder, StopOrders, exit_in
from workers.storage import TakeStorage
from workers.wiring import engine_recipe, open_checked_store, typical_bucket

log = logging.getLogger(__name__)

GRACE_S: Final = 120.0
CPU: Final = "cpu"
ECHO_S: Final = 1.0  # a second signal within this time is the same one, which a whole process group has got
POLL_S: Final = 0.05
RELOAD_TIMEOUT_S: Final = 1800.0  # for an engine that replaces another: it may hang over a broken device
AT_ONCE_S: Final = 0.5  # the time in which takes that wait for the engine go back to their queue
LAST_RESORT_S: Final = 3.0  # the time after the grace time before a hanging process is ended
EXIT_REPORT_TIMEOUT_S: Final = 1.0


class ServeOptions(NamedTuple):
    """The options of `serve` on the command line."""

    model: str
    threads: int | None = None  # None: follows from the engine's limits
    grace_s: float = GRACE_S  # for the batch on the engine and its uploads, once told to stop
    planner: bool = True


class EngineLimits(NamedTuple):
    """The limits of a batch and of a planner call, in takes of the usual length, with the reasons."""

    batch: BatchLimit
    plan: BatchLimit


def threads_for(limits: EngineLimits, n_cores: int | None = None) -> int:
    """The number of takes to hold at once, so that the engine never waits for a take nor a finished take for a thread.

    The number covers a planner call, the batch on the engine and the next one, two arriving takes, and the takes that
    the cores check and encode, which are never more than two batches.
    """
    in_post = min(n_cores or usable_cores(), 2 * limits.batch.takes)
    return limits.plan.takes + 2 * limits.batch.takes + 2 + in_post


def serve(settings: Settings, options: ServeOptions, *, started_at_ms: int, recipe: EngineRecipe | None = None) -> int:
    """Serve until told to stop, and return the exit code. Raises TunemillError when the worker cannot start or go on.

    The settings name a broker. `recipe` replaces the engine that they name.
    """
    recipe = recipe or engine_recipe(settings, options.model, planner_wanted=options.planner)
    identity = check_broker(str(settings.broker_url))
    _warn_of_trust(settings, identity)
    try:
        service = _Service(settings, options, recipe, identity, started_at_ms)
    except TunemillError as error:
        _report_no_start(settings, options, identity, started_at_ms, error)
        raise
    return service.run()


class _Service:
    def __init__(
        self,
        settings: Settings,
        options: ServeOptions,
        recipe: EngineRecipe,
        identity: WorkerIdentity,
        started_at_ms: int,
    ) -> None:
        self._settings, self._options, self._broker_url = settings, options, str(settings.broker_url)
        self._started_at_ms = started_at_ms
        self._identity, self._worker_id = identity, identity.worker_id
        self._sequence = RecordSequence(is_read=identity.has_own_keys)
        self._scorers = load_scorers(settings.scorers)
        self._store = open_checked_store(settings)
        self._in_hand = TakesInHand()
        self._spans = SpanLog(started_at_ms)
        self._recorder = self._open_recorder()
        self._heartbeats = Heartbeats(
            self._open_recorder(),
            self._in_hand,
            self._spans,
            worker_id=self._worker_id,
            every_s=settings.heartbeat_s,
            memory=lambda: self._scheduler.memory,
        )
        self._scheduler = Scheduler(
            _engine_opener(recipe),
            self._spans,
            typical=typical_bucket(options.model, planner_wanted=options.planner),
            on_call=self._heartbeats.wake,
        )
        self._scheduler_thread = threading.Thread(target=self._run_scheduler, name="scheduler", daemon=True)
        self._failure: TunemillError | None = None
        self._stopping = threading.Event()
        self._ended = False
        self._worker: RenderWorker | None = None
        self._orders = StopOrders()

    def run(self) -> int:
        self._orders.listen()
        threading.Thread(target=self._stop_when_told, name="stop", daemon=True).start()
        self._heartbeats.start()
        self._scheduler_thread.start()
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
        """The loaded engine's card; None when a stop request came first."""
        self._announce(None, None)
        self._scheduler.ready.wait()
        if self._stopping.is_set():
            return None
        if self._scheduler.failure is not None:
            raise self._scheduler.failure
        return self._scheduler.card

    def _serve(self, card: EngineCard) -> None:
        limits = self._limits()
        self._scheduler.threads = threads = self._options.threads or threads_for(limits)
        self._announce(card, limits)
        log.info("batch limit %d: %s", limits.batch.takes, limits.batch.reason)
        if limits.plan.takes:
            log.info("plan limit %d: %s", limits.plan.takes, limits.plan.reason)
        for note in card.notes:
            log.info(note)
        if not has_chromaprint():
            log.info("takes that sound alike are not found: the extra `duplicates` or its C library is not installed")
        if not has_voice_check():
            log.info("instrumental takes are not checked for voices: the extra `voice` is not installed")
        queues = queues_served(self._options.model, tier_of(card.vram_gib))
        log.info("worker %s serves %s on %s with %d threads", self._worker_id, card.model, card.gpu, threads)
        backoff = replace(STORE_BACKOFF, patience_s=self._settings.store_patience_s)
        context = WorkerContext(
            worker_id=self._worker_id,
            gpu=self._gpu(card),
            card=card,
            renderer=self._scheduler,
            storage=TakeStorage(self._store, backoff=backoff, on_outage=self._on_trouble),
            recorder=self._recorder,
            in_hand=self._in_hand,
            scorers=self._scorers,
            on_trouble=self._on_trouble,
        )
        trusted = parse_public_keys(self._settings.verify_orders) if self._settings.verify_orders else []
        app = make_app(self._broker_url, context, keys=self._identity.delivery_keys, trusted=trusted)
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

    def _open_recorder(self, *, timeout_s: float | None = None) -> QueueRecorder:
        return QueueRecorder(
            self._broker_url, self._identity, self._sequence, timeout_s=timeout_s, on_refused=self._on_trouble
        )

    def _limits(self) -> EngineLimits:
        batch, plan = self._scheduler.batch_limit, self._scheduler.plan_limit
        assert batch is not None and plan is not None, "a loaded engine has said its limits"  # noqa: S101, PT018
        return EngineLimits(batch, plan)

    def _announce(self, card: EngineCard | None, limits: EngineLimits | None) -> None:
        """Report this worker to the control side: once while the engine loads, and again when it is ready."""
        record = self._recorder.record if card else self._recorder.record_first
        self._heartbeats.announcement = WorkerStarted(
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
            holds_max=self._scheduler.threads if limits else 0,
            started_at_ms=self._started_at_ms,
            rental=_rental(self._settings),
            lane=_lane(self._settings),
        )
        record(self._heartbeats.announcement)

    def _gpu(self, card: EngineCard | None) -> str:
        """The GPU name by which prices are looked up: the operator's setting, else the driver's name."""
        if card is None and (not find_model(self._options.model).needs_device or self._settings.device == CPU):
            return self._settings.gpu or CPU  # known before anything is loaded
        return self._settings.gpu or (card.gpu if card else "")

    def _run_scheduler(self) -> None:
        self._scheduler.run()
        if self._scheduler.failure is not None and not self._stopping.is_set():
            self._failure = self._failure or self._scheduler.failure
            self._orders.give(StopOrder.TROUBLE)

    # ------------------------------------------------------------ stop

    def _on_trouble(self, error: TunemillError) -> None:
        """Stop, because an unreachable store or messages that are too new would fail one take after the other."""
        self._failure = self._failure or error
        self._orders.give(StopOrder.TROUBLE)

    def _stop_when_told(self) -> None:
        """Stop in order at the first request; at once at a second signal, a SIGQUIT, or the end of the grace time."""
        grace_s = AT_ONCE_S if self._orders.wait() is StopOrder.AT_ONCE else self._options.grace_s
        until_s = time.monotonic() + grace_s
        self._stopping.set()
        exit_in(grace_s + LAST_RESORT_S, self._exit_code)
        log.info("stopping: what has not been with the engine goes back to its queue")
        if self._worker is not None and not self._worker.stop_consuming():
            self._end_worker()  # no connection: nothing more can come, and nothing can be given back
        self._scheduler.drain()
        if not self._scheduler.ready.is_set():
            self._scheduler.kill()
        self._await_last_take(until_s)
        if not self._ended:
            self._give_up()

    def _await_last_take(self, until_s: float) -> None:
        """Wait until all takes are done; return early at a second signal or at the end of the grace time."""
        first_s = time.monotonic()
        while not self._ended and time.monotonic() < until_s:
            if not len(self._in_hand):
                self._end_worker()
            order = self._orders.poll(POLL_S)
            # A terminal signals the whole group, whose leader then signals us too: that is one order, not two.
            is_second = order is StopOrder.IN_ORDER and time.monotonic() - first_s > ECHO_S
            if order is StopOrder.AT_ONCE or is_second:
                exit_in(LAST_RESORT_S, self._exit_code)
                return

    def _exit_code(self) -> int:
        return self._failure.exit_code if self._failure is not None else 0

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.end()

    def _give_up(self) -> None:
        """Return every held take and end the process now, without waiting for the broker's answers."""
        held, receipts = self._in_hand.orders()
        log.warning("ending at once; %d takes are given back", len(held))
        self._scheduler.kill()
        # A connection of its own: others may hang on theirs, and hold its lock.
        recorder = self._open_recorder(timeout_s=EXIT_REPORT_TIMEOUT_S)
        returned = TakesReturned(worker_id=self._worker_id, take_ids=held, receipts=receipts)
        if not held or recorder.try_record(returned):
            self._report_end("stopped before its takes were done", recorder)
        if self._failure is not None:
            log.error("%s", self._failure)
        os._exit(self._exit_code())

    def _end(self) -> None:
        """When no take is held, end every part in turn and report the end."""
        self._stopping.set()
        exit_in(self._options.grace_s + LAST_RESORT_S, self._exit_code)
        if not self._scheduler_thread.is_alive():  # then the time since was for checks, mastering and uploads alone
            self._spans.close("post")
        self._scheduler.kill()
        self._scheduler_thread.join(timeout=15)
        self._heartbeats.end()
        self._ended = True
        self._recorder.beat(self._heartbeats.next_heartbeat())
        self._report_end(FAULT + self._failure.what if self._failure else "told to stop", self._recorder)
        self._recorder.close()

    def _report_end(self, reason: str, recorder: QueueRecorder) -> None:
        self._spans.close("teardown")
        if (card := self._heartbeats.announce_again()) is not None:
            # A broker may have lost the record, and then the spans' worker would be unknown.
            recorder.try_record(card)
        for record in spans_closed(self._worker_id, self._spans.take_closed()):
            recorder.try_record(record)
        recorder.try_record(WorkerStopped(worker_id=self._worker_id, reason=reason))


def _report_no_start(
    settings: Settings, options: ServeOptions, identity: WorkerIdentity, started_at_ms: int, error: TunemillError
) -> None:
    """Report that a worker could not start, and why, so that `status` can show it for this GPU."""
    recorder = QueueRecorder(str(settings.broker_url), identity, timeout_s=EXIT_REPORT_TIMEOUT_S)
    started = WorkerStarted(
        worker_id=identity.worker_id,
        host=socket.gethostname(),
        gpu=settings.gpu or "",
        vram_gib=0.0,
        model=options.model,
        code="",
        noise=False,
        batch_limit=0,
        batch_limit_reason="it could not start",
        started_at_ms=started_at_ms,
        rental=_rental(settings),
        lane=_lane(settings),
    )
    if recorder.try_record(started):
        recorder.try_record(WorkerStopped(worker_id=identity.worker_id, reason=FAULT + error.what))
    recorder.close()


def _rental(settings: Settings) -> RentalNote | None:
    return rented_here(os.environ, setting=settings.rental, market=settings.market, region=settings.region)


def _lane(settings: Settings) -> str:
    # The published name of a rental's GPU is "lane".
    return os.environ.get("CUDA_VISIBLE_DEVICES", settings.device or "")[:128]


def _warn_of_trust(settings: Settings, identity: WorkerIdentity) -> None:
    """Warn of checks that this worker cannot make; the embedded broker belongs to one user and needs none."""
    if str(settings.broker_url).startswith("redis+socket://"):
        return
    tell_if_in_clear(str(settings.broker_url))
    if not settings.verify_orders:
        log.warning(
            "orders are not verified: whoever may write to the queues may have takes rendered here; "
            "set TUNEMILL_VERIFY_ORDERS to the control side's public key"
        )
    if identity.login and not identity.has_own_keys:
        log.warning(
            "the broker's rights are of an earlier release: other logins may speak in this worker's name; "
            "give its login a line as `tunemill worker-login new` writes it"
        )


def _engine_opener(recipe: EngineRecipe) -> Callable[[], EngineProcess]:
    """A function that opens an engine. Only its first call has no timeout, because it may download the model."""
    timeouts_s = itertools.chain([math.inf], itertools.repeat(RELOAD_TIMEOUT_S))
    return lambda: EngineProcess(recipe, loading_timeout_s=next(timeouts_s))

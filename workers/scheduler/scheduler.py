"""The scheduler: takes wait here, one thread calls the engine for them, and no take is lost.

A pure rule (`policy`) chooses the next call, and another one (`failures`) decides after a call has failed. While one
batch is decoded, the next call already runs, and finished takes leave at once; the memory of their audio is bounded
(`backpressure`). A finished plan is kept, whatever happens to the engine. Each caller waits in its own thread, so no
more takes wait than there are threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from catalog.buckets import Bucket
from catalog.errors import TunemillError, WorkerError
from catalog.messages import MemoryUse
from catalog.sidecar import Plan
from catalog.tiers import BatchLimit
from catalog.track import Take
from workers.engine.memory import machine_bytes
from workers.engine.protocol import BatchResult, EngineCard, Job, Refusal, Rendition
from workers.engine.wire import EngineDied
from workers.scheduler.activity import ActivityLog, EngineActivity
from workers.scheduler.backlog import Backlog
from workers.scheduler.backpressure import Backpressure
from workers.scheduler.failures import FailedCall, Recovery, recover
from workers.scheduler.leak import LeakBound
from workers.scheduler.policy import next_call, planner_call
from workers.scheduler.request import EngineCall, InFlight, Rendered, Request, TakeFailed, TakeReturned
from workers.scheduler.results import deliver_batch, deliver_plans, fail_suspect, return_takes
from workers.scheduler.supervisor import SupervisedEngine, Supervisor
from workers.spans import LOADING, NO_WORK, RECOVERING, WAITING_FOR_POST, SpanLog

log = logging.getLogger(__name__)

QUIET_S = 0.05  # takes arrive about a millisecond apart; so long a pause means that no more are coming
LINGER_S = 0.25  # longest wait for more takes in a batch
PLAN_LINGER_S = 1.0  # and in a planner call, which holds more and costs about the same for one as for all
IDLE_SPAN_S = 60.0  # an idle stretch goes on the books this often, so that little is lost with a worker
AUDIO_SHARE = 4  # audio on its way to the store may fill one part in so many of the memory


class MemoryBounds(NamedTuple):
    """The limits for the memory of waiting audio and of a growing engine."""

    audio_bytes: int | None = None  # audio on its way to the store; None: a share of the machine's memory
    growth: LeakBound = LeakBound()


class Scheduler:
    """The takes on their way through one engine. One thread runs `run`; any thread may call the other methods."""

    def __init__(
        self,
        open_engine: Callable[[], SupervisedEngine],
        spans: SpanLog,
        *,
        typical: Bucket,
        on_call: Callable[[], None] = lambda: None,
        bounds: MemoryBounds | None = None,
    ) -> None:
        bounds = bounds or MemoryBounds()
        self._spans = spans
        self._on_call = on_call  # called after each call of the engine and each booked idle stretch
        self._supervisor = Supervisor(
            open_engine, typical=typical, bound=bounds.growth, is_stopping=lambda: self._stopping
        )
        audio_bytes = machine_bytes() // AUDIO_SHARE if bounds.audio_bytes is None else bounds.audio_bytes
        self.threads = 1  # how many takes the worker can hold at most; set once the limits are known
        self.ready = threading.Event()  # set when the engine has loaded or failed to
        self.failure: TunemillError | None = None  # why `run` has ended before it was told to
        # Guarded by `_changed`, which is never held while the engine is asked for anything.
        self._changed = threading.Condition()
        self._backlog = Backlog()
        self._backpressure = Backpressure(audio_bytes)
        self._decoding: list[InFlight] = []  # batches that are being decoded, oldest first
        self._failed_calls: list[FailedCall] = []
        self._admitted = 0  # takes that have come and have not been released
        self._stopping = False
        # For the thread of `run` alone.
        self._activity = ActivityLog(spans)
        self._runnable_since_s: float | None = None  # since when there is a call that could begin

    # ------------------------------------------------------------ for any thread

    @property
    def card(self) -> EngineCard | None:
        """The engine's card, once it is ready."""
        return self._supervisor.card

    @property
    def batch_limit(self) -> BatchLimit | None:
        """The limit of one batch for takes of the usual length, with the reason."""
        return self._supervisor.batch_limit

    @property
    def plan_limit(self) -> BatchLimit | None:
        """The limit of one planner call for takes of the usual length, with the reason; 0 without a planner."""
        return self._supervisor.plan_limit

    @property
    def memory(self) -> MemoryUse | None:
        """The engine's memory after its last batch, and its growth."""
        return self._supervisor.memory

    def render(self, take: Take, *, alone: bool = False, plan: Plan | None = None) -> Rendered:
        """Wait for the engine; a given `plan` is used as it is. The caller must release the result.

        Raises TakeReturned when the worker stops first, TakeFailed when the take cannot be rendered.
        """
        request = Request(take, alone, plan)
        with self._changed:
            if self._stopping:
                raise TakeReturned
            self._backlog.add(request)
            self._admitted += 1
            self._changed.notify_all()
        try:
            return request.done.result()
        except (TakeReturned, TakeFailed):
            self._leave()
            raise

    def release(self, rendered: Rendered) -> None:
        """Free the memory of the take's audio and its place among the threads."""
        self._leave(rendered.batch.id if isinstance(rendered.outcome, Rendition) else "")

    def _leave(self, batch_id: str = "") -> None:
        with self._changed:
            self._admitted -= 1
            self._backpressure.release_take(batch_id)
            self._changed.notify_all()

    def drain(self) -> None:
        """Return every take that has not begun, finish the batches that the engine has, and end `run`."""
        with self._changed:
            self._stopping = True
            return_takes(self._backlog.clear())
            self._changed.notify_all()

    def kill(self) -> None:
        """End the engine at once, even in the middle of a call."""
        self.drain()
        self._supervisor.kill()

    # ------------------------------------------------------------ the scheduler's thread

    def run(self) -> None:
        """Load the engine, make its calls until drained, and end the engine."""
        try:
            self._supervisor.start()
            self._spans.close("startup")
            self.ready.set()
            while call := self._await_call():
                self._execute(InFlight.of(call))
                del call  # or its audio would stay in memory for as long as the engine idles
        except TunemillError as error:
            self.failure = error
        except Exception as error:  # a defect of ours must end the worker in words, not leave its threads waiting
            log.exception("the scheduler failed")
            self.failure = WorkerError(f"the scheduler failed: {type(error).__name__}: {error}")
        finally:
            self.drain()
            self._supervisor.close()
            for failed in self._take_failed_calls():
                return_takes(failed.in_flight.takes if failed.in_flight else [])
            if not self.ready.is_set():
                self._spans.close("startup")
            self.ready.set()
            self._on_call()

    def _await_call(self) -> EngineCall | None:
        """The next call, after a short wait for takes that fill it; None when the scheduler is to end."""
        self._runnable_since_s = None
        while True:
            self._maintain()
            with self._changed:
                while not self._needs_maintenance():
                    if self._stopping and not self._decoding:
                        self._activity.book()
                        return None
                    call = self._runnable_call()
                    self._activity.switch_to(self._activity_with(call))
                    if call and not self._may_grow(call):
                        self._activity.book()
                        self._backlog.take_out(call)
                        return call
                    self._wait(call)

    def _runnable_call(self) -> EngineCall | None:
        """The next call, if one may begin now."""
        if self._supervisor.has_outgrown:  # it is replaced as soon as nothing is under way
            return None
        limits = self._supervisor.limits
        call = next_call(self._backlog.waiting, limits)
        if call and call.kind == "render" and not self._backpressure.has_room(call.audio_bytes):
            call = planner_call(self._backlog.waiting, limits)
        if call and self._decoding and (call.is_exclusive or self._decoding[0].call.is_exclusive):
            return None
        return call

    def _may_grow(self, call: EngineCall) -> bool:
        """True when more takes for `call` may still arrive within the linger time."""
        if call.is_full or call.is_exclusive or self._admitted >= self.threads:
            return False
        now_s = time.monotonic()
        self._runnable_since_s = self._runnable_since_s or now_s
        linger_s = PLAN_LINGER_S if call.kind == "plan" else LINGER_S
        return now_s - self._runnable_since_s < linger_s and now_s - self._backlog.last_arrival_s < QUIET_S

    def _wait(self, call: EngineCall | None) -> None:
        """Wait until the state changes, or until no more takes for `call` are expected."""
        if call is None:
            self._runnable_since_s = None
        if not self._changed.wait(QUIET_S if call else IDLE_SPAN_S) and call is None:
            self._activity.book()
            self._on_call()

    def _activity_with(self, call: EngineCall | None) -> EngineActivity:
        """The use of the engine's time while the scheduler waits; `call` could begin."""
        if self._decoding:
            return EngineActivity("render", batch_id=self._decoding[0].note.id)
        crowded = call is None and (self._backlog.waiting or self._admitted >= self.threads)
        return EngineActivity("idle", cause=WAITING_FOR_POST if crowded else NO_WORK)

    # ------------------------------------------------------------ calls

    def _execute(self, in_flight: InFlight) -> None:
        try:
            if in_flight.call.kind == "plan":
                self._plan(in_flight)
            else:
                self._begin(in_flight)
        except Exception as error:
            with self._changed:
                self._failed_calls.append(FailedCall(in_flight, error))
        finally:
            self._on_call()

    def _plan(self, in_flight: InFlight) -> None:
        try:
            result = self._supervisor.engine.plan([each.take for each in in_flight.takes])
        finally:
            self._spans.close("plan", batch_id=in_flight.note.plan_id)
        with self._changed:
            self._supervisor.note_success("plan", in_flight.call.bucket)
            deliver_plans(in_flight, result)
            self._put_back(in_flight.takes)

    def _begin(self, in_flight: InFlight) -> None:
        batch_id, size_bytes = in_flight.note.id, in_flight.call.audio_bytes
        with self._changed:
            self._backpressure.reserve(batch_id, size_bytes=size_bytes, takes=len(in_flight.takes))
        try:
            audio = self._supervisor.engine.begin([Job(each.take, each.plan) for each in in_flight.takes])
        finally:
            self._spans.close("render", batch_id=batch_id)
        with self._changed:
            self._decoding.append(in_flight)
        audio.add_done_callback(partial(self._finish, in_flight))
        self._supervisor.watch_memory(in_flight.takes)

    def _finish(self, in_flight: InFlight, audio: Future[BatchResult]) -> None:
        """Deliver a decoded batch, or note that its decoding failed. Runs on the thread that reads replies."""
        with self._changed:
            self._decoding.remove(in_flight)
            try:
                result = audio.result()
                for outcome in result.outcomes:
                    if isinstance(outcome, Refusal):
                        self._backpressure.release_take(in_flight.note.id)
                deliver_batch(in_flight, result)
                self._supervisor.note_success("render", in_flight.call.bucket)
            except Exception as error:
                self._failed_calls.append(FailedCall(in_flight, error))
            self._changed.notify_all()
        self._on_call()

    # ------------------------------------------------------------ maintenance

    def _needs_maintenance(self) -> bool:
        return bool(self._failed_calls or self._without_limits() or self._is_replacement_due())

    def _maintain(self) -> None:
        """Make the calls to the engine that must not be made while the lock is held."""
        with self._changed:
            due, buckets = self._is_replacement_due(), self._without_limits()
        if self._failed_calls:
            self._activity.book()
            self._recover()
        elif due:
            self._activity.book()
            self._supervisor.replace()
            self._spans.close("idle", cause=LOADING)
        elif buckets:
            self._ask_limits(buckets)

    def _is_replacement_due(self) -> bool:
        return self._supervisor.has_outgrown and not self._decoding and not self._stopping

    def _without_limits(self) -> set[Bucket]:
        return self._supervisor.without_limits(self._backlog.buckets)

    def _ask_limits(self, buckets: set[Bucket]) -> None:
        try:
            self._supervisor.ask_limits(buckets)
        except EngineDied as error:
            with self._changed:
                self._failed_calls.append(FailedCall(None, error))

    def _recover(self) -> None:
        """Decide the next step for the takes of failed calls, and start another engine if this one died.

        Raises the error that ends the worker.
        """
        failed_calls = self._take_failed_calls()
        death = next((failed.error for failed in failed_calls if isinstance(failed.error, EngineDied)), None)
        if death is not None:
            self._supervisor.close()  # with that, every call under way has failed
            failed_calls += self._take_failed_calls()
        with self._changed:
            recovery = recover(failed_calls, self._supervisor.capacities)
            for failed in failed_calls:
                self._backpressure.cancel(failed.in_flight.note.id if failed.in_flight else "")
            self._apply(recovery)
        if recovery.fatal is not None:
            raise recovery.fatal
        if death is not None and not self._stopping:
            self._restart_after(death)

    def _apply(self, recovery: Recovery) -> None:
        for each, failed in recovery.given_up:
            if not each.is_done:
                each.done.set_exception(failed)
        self._put_back(recovery.requeued)
        self._put_back(recovery.requeued_last, last=True)

    def _restart_after(self, death: EngineDied) -> None:
        try:
            self._supervisor.restart_after(death)
        except WorkerError:
            with self._changed:
                for suspect in self._backlog.remove_suspects():
                    fail_suspect(suspect, death)
            raise
        self._spans.close("idle", cause=RECOVERING)

    def _take_failed_calls(self) -> list[FailedCall]:
        with self._changed:
            failed_calls, self._failed_calls = self._failed_calls, []
            return failed_calls

    def _put_back(self, requests: Sequence[Request], *, last: bool = False) -> None:
        """Let requests wait again; once the worker stops, give them back."""
        self._backlog.put_back(requests, last=last)
        if self._stopping:
            return_takes(self._backlog.clear())

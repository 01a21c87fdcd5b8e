"""The scheduler: takes wait here, one thread asks the engine for the next step, nothing is lost.

What comes next is a pure rule (`policy`), and so is what follows when a call fails (`failures`). While one batch is
decoded the next step has begun, and finished takes go on their way at once; the audio on that way is bounded. A plan
once written is kept whatever happens to the engine. Each caller waits in its own thread, so no more takes wait than
there are threads.
"""

from __future__ import annotations

import itertools
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
from catalog.sidecar import BatchNote, Plan, StageTimes
from catalog.tiers import BatchLimit
from catalog.track import Take
from workers.engine.memory import machine_bytes
from workers.engine.protocol import BatchResult, EngineCard, Job, PlanResult, Refusal, Rendition
from workers.engine.wire import EngineDied
from workers.scheduler.backpressure import Backpressure
from workers.scheduler.failures import FailedCall, aftermath_of
from workers.scheduler.leak import LeakBound
from workers.scheduler.policy import next_step, plan_step, share_ms, share_times, take_out
from workers.scheduler.request import EngineCall, InFlight, Rendered, Request, TakeFailed, TakeReturned
from workers.scheduler.supervisor import LaneEngine, Succession
from workers.spans import LOADING, NO_WORK, RECOVERING, WAITING_FOR_POST, SpanLog, State

log = logging.getLogger(__name__)

QUIET_S = 0.05  # takes arrive about a millisecond apart; so long a pause means that no more are coming
LINGER_S = 0.25  # longest wait for company in a batch
PLAN_LINGER_S = 1.0  # and in a planner call, which holds more and costs about the same for one as for all
IDLE_SPAN_S = 60.0  # an idle stretch goes on the books this often, so that little is lost with a worker
AUDIO_SHARE = 4  # audio on its way to the store may fill one part in so many of the memory


class LaneBounds(NamedTuple):
    """What a lane and its engine may fill."""

    audio_bytes: int | None = None  # audio on its way to the store; None: a share of the machine's memory
    growth: LeakBound = LeakBound()


class _Use(NamedTuple):
    """What a stretch of the lane's time goes to while it waits."""

    state: State
    batch_id: str = ""
    cause: str = ""


class Scheduler:
    """The engine's lane. `run` is the body of its one thread; every other method works from any thread."""

    def __init__(
        self,
        open_engine: Callable[[], LaneEngine],
        spans: SpanLog,
        *,
        typical: Bucket,
        on_batch: Callable[[], None] = lambda: None,
        bounds: LaneBounds | None = None,
    ) -> None:
        bounds = bounds or LaneBounds()
        self._spans = spans
        self._on_batch = on_batch  # called after each call of the engine and each booked idle stretch
        self._engines = Succession(
            open_engine, typical=typical, bound=bounds.growth, is_stopping=lambda: self._stopping
        )
        self._shelf = Backpressure(machine_bytes() // AUDIO_SHARE if bounds.audio_bytes is None else bounds.audio_bytes)
        self.threads = 1  # how many takes the worker can hold at most; set once the limits are known
        self.ready = threading.Event()  # set when the engine has loaded or failed to
        self.failure: TunemillError | None = None  # why the lane has ended before it was told to
        # Guarded by `_changed`, which is never held while the engine is asked for anything.
        self._changed = threading.Condition()
        self._turns = itertools.count()
        self._waiting: list[Request] = []
        self._planning: list[Request] = []
        self._flights: list[InFlight] = []  # batches that are being decoded, oldest first
        self._mishaps: list[FailedCall] = []
        self._inside = 0  # takes that have come and whose audio is not yet done with
        self._arrival_s = 0.0
        self._stopping = False
        # The lane's thread alone.
        self._use: _Use | None = None
        self._ripe_s: float | None = None  # since when there is a step that could be taken

    # ------------------------------------------------------------ for everybody

    @property
    def card(self) -> EngineCard | None:
        """What the engine is, once it is ready."""
        return self._engines.card

    @property
    def batch_limit(self) -> BatchLimit | None:
        """How many takes of the usual kind a batch holds."""
        return self._engines.batch_limit

    @property
    def plan_limit(self) -> BatchLimit | None:
        """How many of them a planner call holds; 0: there is no planner."""
        return self._engines.plan_limit

    @property
    def memory(self) -> MemoryUse | None:
        """What the engine held after its last batch, and how that grows."""
        return self._engines.memory

    def render(self, take: Take, *, alone: bool = False, plan: Plan | None = None) -> Rendered:
        """Wait for the engine; `plan` spares it the planning. What it returns must be let go.

        Raises TakeReturned when the worker stops first, TakeFailed when it cannot be done.
        """
        waiting = Request(take, alone, plan)
        with self._changed:
            if self._stopping:
                raise TakeReturned
            waiting.turn = next(self._turns)
            self._waiting.append(waiting)
            self._inside += 1
            self._arrival_s = time.monotonic()
            self._changed.notify_all()
        try:
            return waiting.done.result()
        except (TakeReturned, TakeFailed):
            self._leave()
            raise

    def let_go(self, rendered: Rendered) -> None:
        """The take is done with; the memory of its audio may be counted on, and its thread."""
        self._leave(rendered.batch.id if isinstance(rendered.outcome, Rendition) else "")

    def _leave(self, batch_id: str = "") -> None:
        with self._changed:
            self._inside -= 1
            self._shelf.take_one(batch_id)
            self._changed.notify_all()

    def drain(self) -> None:
        """Give back all that has not been begun; the batches with the engine are finished, and then the lane ends."""
        with self._changed:
            self._stopping = True
            _give_back([*self._waiting, *self._planning])
            self._waiting.clear()
            self._changed.notify_all()

    def kill(self) -> None:
        """End the engine at once, in the middle of whatever it does."""
        self.drain()
        self._engines.kill()

    # ------------------------------------------------------------ the lane's own thread

    def run(self) -> None:
        """Load the engine, take step after step until drained, and end it."""
        try:
            self._engines.start()
            self._spans.close("startup")
            self.ready.set()
            while step := self._await_step():
                self._take(InFlight.of(step))
                del step  # or its audio would stay in memory for as long as the lane idles
        except TunemillError as error:
            self.failure = error
        except Exception as error:  # a defect of ours must end the worker in words, not leave its threads waiting
            log.exception("the engine lane failed")
            self.failure = WorkerError(f"the engine lane failed: {type(error).__name__}: {error}")
        finally:
            self.drain()
            self._engines.close()
            for mishap in self._take_mishaps():
                _give_back(mishap.flight.takes if mishap.flight else [])
            if not self.ready.is_set():
                self._spans.close("startup")
            self.ready.set()
            self._on_batch()

    def _await_step(self) -> EngineCall | None:
        """The next step, as full as a short wait can make it; None when the lane is to end."""
        self._ripe_s = None
        while True:
            self._do_chores()
            with self._changed:
                while not self._has_chores():
                    if self._stopping and not self._flights:
                        self._book()
                        return None
                    step = self._possible_step()
                    self._spend_on(self._pastime(step))
                    if step and not self._may_grow(step):
                        self._book()
                        self._waiting = take_out(step, self._waiting)
                        self._planning = step.takes if step.call == "plan" else []
                        return step
                    self._wait(step)

    def _possible_step(self) -> EngineCall | None:
        """The next step, if there is one and it may be taken now."""
        if self._engines.has_outgrown:  # it is replaced as soon as nothing is under way
            return None
        limits = self._engines.limits
        step = next_step(self._waiting, limits)
        if step and step.call == "render" and not self._shelf.has_room(step.audio_bytes):
            step = plan_step(self._waiting, limits)
        if step and self._flights and (step.is_exclusive or self._flights[0].step.is_exclusive):
            return None
        return step

    def _may_grow(self, step: EngineCall) -> bool:
        """Whether company for `step` may still arrive within the linger."""
        if step.is_full or step.is_exclusive or self._inside >= self.threads:
            return False
        now_s = time.monotonic()
        self._ripe_s = self._ripe_s or now_s
        linger_s = PLAN_LINGER_S if step.call == "plan" else LINGER_S
        return now_s - self._ripe_s < linger_s and now_s - self._arrival_s < QUIET_S

    def _wait(self, step: EngineCall | None) -> None:
        """Until something changes, or the company that `step` waits for is not coming."""
        if step is None:
            self._ripe_s = None
        if not self._changed.wait(QUIET_S if step else IDLE_SPAN_S) and step is None:
            self._book()
            self._on_batch()

    # ------------------------------------------------------------ its time

    def _pastime(self, step: EngineCall | None) -> _Use:
        """What the lane's time goes to while it waits."""
        if self._flights:
            return _Use("render", batch_id=self._flights[0].note.id)
        crowded = step is None and (self._waiting or self._inside >= self.threads)
        return _Use("idle", cause=WAITING_FOR_POST if crowded else NO_WORK)

    def _spend_on(self, use: _Use) -> None:
        if use != self._use:
            self._book()
        self._use = use

    def _book(self) -> None:
        """Put the time since the last span on the books."""
        if self._use is not None:
            self._spans.close(self._use.state, batch_id=self._use.batch_id, cause=self._use.cause)
        self._use = None

    # ------------------------------------------------------------ its calls

    def _take(self, flight: InFlight) -> None:
        try:
            if flight.step.call == "plan":
                self._plan(flight)
            else:
                self._begin(flight)
        except Exception as error:
            with self._changed:
                self._mishaps.append(FailedCall(flight, error))
        finally:
            self._on_batch()

    def _plan(self, flight: InFlight) -> None:
        try:
            result = self._engines.engine.plan([each.take for each in flight.takes])
        finally:
            self._spans.close("plan", batch_id=flight.note.plan_id)
        with self._changed:
            self._engines.fitted("plan", flight.step.bucket)
            _hand_out_plans(flight, result)
            self._put_back(flight.takes)

    def _begin(self, flight: InFlight) -> None:
        with self._changed:
            self._shelf.put(flight.note.id, size_bytes=flight.step.audio_bytes, takes=len(flight.takes))
        try:
            audio = self._engines.engine.begin([Job(each.take, each.plan) for each in flight.takes])
        finally:
            self._spans.close("render", batch_id=flight.note.id)
        with self._changed:
            self._flights.append(flight)
        audio.add_done_callback(partial(self._land, flight))
        self._engines.watch_memory(flight.takes)

    def _land(self, flight: InFlight, audio: Future[BatchResult]) -> None:
        """A batch is decoded, or has failed in that; called by whichever thread finds out."""
        with self._changed:
            self._flights.remove(flight)
            try:
                self._deliver(flight, audio.result())
            except Exception as error:
                self._mishaps.append(FailedCall(flight, error))
            self._changed.notify_all()
        self._on_batch()

    def _deliver(self, flight: InFlight, result: BatchResult) -> None:
        shares = share_times(result.times, len(flight.takes))
        for each, outcome, share in zip(flight.takes, result.outcomes, shares, strict=True):
            if isinstance(outcome, Refusal):
                self._shelf.take_one(flight.note.id)
            times = share.model_copy(update={"plan_ms": share.plan_ms + each.plan_ms})
            each.done.set_result(Rendered(each.noted(outcome), flight.note_of(each), times))
        self._engines.fitted("render", flight.step.bucket)

    # ------------------------------------------------------------ its chores

    def _has_chores(self) -> bool:
        return bool(self._mishaps or self._unasked() or self._is_replacement_due())

    def _do_chores(self) -> None:
        """What cannot be done with the lock held, because the engine is asked for it."""
        with self._changed:
            due, unasked = self._is_replacement_due(), self._unasked()
        if self._mishaps:
            self._book()
            self._mend()
        elif due:
            self._book()
            self._engines.replace()
            self._spans.close("idle", cause=LOADING)
        elif unasked:
            self._ask_limits(unasked)

    def _is_replacement_due(self) -> bool:
        return self._engines.has_outgrown and not self._flights and not self._stopping

    def _unasked(self) -> set[Bucket]:
        return self._engines.unasked({each.bucket for each in self._waiting})

    def _ask_limits(self, buckets: set[Bucket]) -> None:
        try:
            self._engines.ask(buckets)
        except EngineDied as error:
            with self._changed:
                self._mishaps.append(FailedCall(None, error))

    def _mend(self) -> None:
        """Put right what has failed. Raises what ends the lane."""
        mishaps = self._take_mishaps()
        death = next((mishap.error for mishap in mishaps if isinstance(mishap.error, EngineDied)), None)
        if death is not None:
            self._engines.close()  # with that, everything that was under way has failed
            mishaps += self._take_mishaps()
        with self._changed:
            for mishap in mishaps:
                self._shelf.clear(mishap.flight.note.id if mishap.flight else "")
            end = aftermath_of(mishaps, self._engines.capacities)
            for each, failed in end.given_up:
                if not each.is_done:
                    each.done.set_exception(failed)
            self._put_back(end.again)
            self._put_back(end.behind, behind=True)
        if end.fatal is not None:
            raise end.fatal
        if death is not None and not self._stopping:
            try:
                self._engines.follow(death)
            except WorkerError:
                self._fail_suspects(death)
                raise
            self._spans.close("idle", cause=RECOVERING)

    def _fail_suspects(self, death: EngineDied) -> None:
        """No engine follows: a take that was alone with a dying one takes that along as a try.

        Given back without it, it would end one worker after the other and never have a verdict.
        """
        with self._changed:
            for each in [each for each in self._waiting if each.deaths_alone]:
                note = BatchNote(id="", size=1, position=0, takes=[each.take.id])
                reason = f"the engine died with this take alone aboard: {death.what}"
                each.done.set_exception(TakeFailed(reason, retry=True, batch=note))
                self._waiting.remove(each)

    def _take_mishaps(self) -> list[FailedCall]:
        with self._changed:
            mishaps, self._mishaps = self._mishaps, []
            return mishaps

    def _put_back(self, takes: Sequence[Request], *, behind: bool = False) -> None:
        """Into the line again, where they were or behind all others, unless they have their answer."""
        self._planning = []
        if self._stopping:
            _give_back(takes)
            return
        left = [each for each in takes if not each.is_done]
        for each in left if behind else ():
            each.turn = next(self._turns)
        self._waiting = sorted([*self._waiting, *left], key=lambda each: each.turn)


def _hand_out_plans(flight: InFlight, result: PlanResult) -> None:
    """Give each take its plan and its share of the call's time; one that cannot be planned has its answer."""
    plan_ms = share_ms(result.plan_ms, len(flight.takes))
    for each, outcome, share in zip(flight.takes, result.outcomes, plan_ms, strict=True):
        each.plan_id, each.plan_size, each.plan_ms = flight.note.plan_id, flight.note.plan_size, share
        if not isinstance(outcome, Refusal):
            each.follow(outcome)
        elif not each.is_done:
            each.done.set_result(Rendered(outcome, flight.note_of(each), StageTimes(plan_ms=share)))


def _give_back(takes: Sequence[Request]) -> None:
    for each in takes:
        if not each.is_done:
            each.done.set_exception(TakeReturned())

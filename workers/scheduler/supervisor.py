"""The supervisor: the engines of one worker, one at a time, each in the place of the one before.

An engine that dies is followed by another unless they only die; one that has grown is replaced before it fills the
machine. What a successor can hold it is asked anew; what did not fit its predecessor is remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Protocol

from catalog.buckets import Bucket
from catalog.errors import WorkerError
from catalog.messages import MemoryUse
from catalog.tiers import BatchLimit
from catalog.track import Take
from workers.engine.protocol import BatchResult, EngineCard, Job, PlanResult
from workers.engine.wire import EngineDied
from workers.scheduler.leak import LeakBound, LeakWatch
from workers.scheduler.limits import Capacity
from workers.scheduler.policy import Limits
from workers.scheduler.request import CallKind, Request

log = logging.getLogger(__name__)

STARTS_MAX = 3
DEATHS_IN_A_ROW_MAX = 8  # nothing succeeds any more: the fault is not in the takes
LOG_TAKES = 100


class LaneEngine(Protocol):
    """An engine whose batches are finished beside its next call, and that can be ended. See `EngineProcess`."""

    @property
    def card(self) -> EngineCard:
        """What it is; waits for it to load."""

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The most takes of `bucket` in one batch."""

    def plan_limit(self, bucket: Bucket) -> BatchLimit:
        """The most takes like those of `bucket` in one planner call; 0 when there is no planner."""

    def plan(self, takes: Sequence[Take]) -> PlanResult:
        """Write plans."""

    def begin(self, jobs: Sequence[Job]) -> Future[BatchResult]:
        """Begin a batch; returns when the next call may come."""

    def memory(self) -> MemoryUse | None:
        """What it held when it last replied."""

    def kill(self) -> None:
        """End it from any thread; what is under way raises EngineDied."""

    def close(self) -> None:
        """End it and take leave of it; when this returns, all that was under way has its outcome."""


class Succession:
    """The engine in office and what is known of it. For the lane's thread alone, except `kill` and what is read."""

    def __init__(
        self,
        open_engine: Callable[[], LaneEngine],
        *,
        typical: Bucket,
        bound: LeakBound,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._open_engine = open_engine
        self._typical = typical  # the bucket whose limits are told at the start
        self._is_stopping = is_stopping
        self._engine: LaneEngine | None = None
        self._growth = LeakWatch(bound)
        self._rendered = 0
        self._deaths_in_a_row = 0
        self.capacities: dict[CallKind, Capacity] = {"plan": Capacity(), "render": Capacity()}
        self.card: EngineCard | None = None
        self.batch_limit: BatchLimit | None = None
        self.plan_limit: BatchLimit | None = None
        self.memory: MemoryUse | None = None  # after the last batch, and how it grows

    @property
    def engine(self) -> LaneEngine:
        """The one in office."""
        assert self._engine is not None, "the lane asks an engine before it has one"  # noqa: S101
        return self._engine

    def start(self) -> None:
        """Load an engine. Raises ModelError, or EngineDied when it keeps dying over that."""
        self._growth.begin_anew()
        for capacity in self.capacities.values():
            capacity.forget()
        for attempt in range(1, STARTS_MAX + 1):
            self._engine = engine = self._open_engine()
            if self._is_stopping():  # told so before there was an engine to kill
                engine.kill()
            try:
                self.card, self.memory = engine.card, engine.memory()
                self.batch_limit = self.capacities["render"].ask(engine.batch_limit, self._typical)
                self.plan_limit = self.capacities["plan"].ask(engine.plan_limit, self._typical)
                return
            except EngineDied as error:
                engine.close()
                if attempt == STARTS_MAX or self._is_stopping():
                    raise
                log.warning("the engine died while it loaded, starting it again: %s", error)

    def follow(self, death: EngineDied) -> None:
        """Start the next engine after a death. Raises WorkerError when engines only die."""
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= DEATHS_IN_A_ROW_MAX:
            raise WorkerError(
                f"the engine died {self._deaths_in_a_row} times and nothing succeeded in between",
                why=death.what,
                fix="look at the device (driver, memory, temperature), then start the worker again",
            )
        self.start()

    def replace(self) -> None:
        """Start the next engine in place of one that has grown."""
        log.warning("the engine is started anew: %s", self._growth.outgrown)
        self.close()
        self.start()

    def close(self) -> None:
        """End the engine, if there is one."""
        if self._engine is not None:
            self._engine.close()

    def kill(self) -> None:
        """End it at once, from any thread."""
        if self._engine is not None:
            self._engine.kill()

    # ------------------------------------------------------------ what it can hold

    @property
    def limits(self) -> Limits:
        """The most takes of a bucket in one call: what the engine says, or less where that did not fit."""
        plans = self.capacities["plan"]
        return Limits(self.capacities["render"].of, lambda bucket: plans.of(bucket) if bucket.planner else 0)

    def unasked(self, buckets: Iterable[Bucket]) -> set[Bucket]:
        """Those whose limits are not known."""
        batches, plans = self.capacities["render"], self.capacities["plan"]
        return {each for each in buckets if not batches.knows(each) or (each.planner and not plans.knows(each))}

    def ask(self, buckets: Iterable[Bucket]) -> None:
        """Have the engine say its limits. Raises EngineDied."""
        for bucket in buckets:
            self.capacities["render"].ask(self.engine.batch_limit, bucket)
            if bucket.planner:
                self.capacities["plan"].ask(self.engine.plan_limit, bucket)

    def fitted(self, call: CallKind, bucket: Bucket) -> None:
        """A call succeeded: engines that make takes do not only die, and a limit that was lowered recovers in time."""
        if call == "render":
            self._deaths_in_a_row = 0
        if limit := self.capacities[call].fitted(bucket):
            log.info("%s limit %d for %s again: smaller calls have all fitted", call, limit, bucket)

    # ------------------------------------------------------------ what it holds

    @property
    def has_outgrown(self) -> bool:
        """Whether it should be replaced."""
        return bool(self._growth.outgrown)

    def watch_memory(self, takes: Sequence[Request]) -> None:
        """Read what the engine holds after it has begun a batch of `takes`, and log it now and then."""
        memory = self.engine.memory()
        if memory is None:
            return
        audio_s = sum(each.spec.duration_s for each in takes)
        self._growth.add(memory.rss_mib + memory.device_mib, takes=len(takes), audio_s=audio_s)
        slope = self._growth.mib_per_100_takes
        self.memory = memory.model_copy(update={"growth_mib_per_100_takes": slope})
        before, self._rendered = self._rendered, self._rendered + len(takes)
        if before // LOG_TAKES != self._rendered // LOG_TAKES:
            held = f"{memory.rss_mib:,.0f} MiB resident, {memory.device_mib:,.0f} MiB on the device"
            growth = "" if slope is None else f", {slope:+.1f} MiB in 100 takes"
            log.info("the engine after %d takes: %s%s", self._rendered, held, growth)

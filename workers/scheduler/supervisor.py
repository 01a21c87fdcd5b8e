"""The supervisor: keeps one engine running; it starts, watches and replaces it.

An engine that dies is replaced, unless every new engine dies too. An engine whose memory grows is replaced before it
fills the machine. Each new engine is asked for its limits; a batch size that did not fit an earlier engine is
remembered.
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
from workers.scheduler.policy import CallLimits
from workers.scheduler.request import CallKind, Request

log = logging.getLogger(__name__)

STARTS_MAX = 3
DEATHS_IN_A_ROW_MAX = 8  # nothing succeeds any more: the fault is not in the takes
LOG_TAKES = 100


class SupervisedEngine(Protocol):
    """The engine as the supervisor sees it: a batch finishes during the next call, and any thread can end it."""

    @property
    def card(self) -> EngineCard:
        """The engine's card; waits for the engine to load."""

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The limit of one batch for takes of `bucket`."""

    def plan_limit(self, bucket: Bucket) -> BatchLimit:
        """The limit of one planner call for takes like those of `bucket`; 0 without a planner."""

    def plan(self, takes: Sequence[Take]) -> PlanResult:
        """Write the plans of takes."""

    def begin(self, jobs: Sequence[Job]) -> Future[BatchResult]:
        """Begin a batch; returns when the engine can take the next call."""

    def memory(self) -> MemoryUse | None:
        """The engine's memory at its last reply."""

    def kill(self) -> None:
        """End the engine from any thread; calls under way raise EngineDied."""

    def close(self) -> None:
        """End the engine and free its resources; at the return, every call under way has its outcome."""


class Supervisor:
    """The current engine and its limits. Used by the scheduler's thread; other threads may only `kill` and read."""

    def __init__(
        self,
        open_engine: Callable[[], SupervisedEngine],
        *,
        typical: Bucket,
        bound: LeakBound,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._open_engine = open_engine
        self._typical = typical  # the bucket whose limits are logged at the start
        self._is_stopping = is_stopping
        self._engine: SupervisedEngine | None = None
        self._leak_watch = LeakWatch(bound)
        self._rendered = 0
        self._deaths_in_a_row = 0
        self.capacities: dict[CallKind, Capacity] = {"plan": Capacity(), "render": Capacity()}
        self.card: EngineCard | None = None
        self.batch_limit: BatchLimit | None = None
        self.plan_limit: BatchLimit | None = None
        self.memory: MemoryUse | None = None  # after the last batch, and how it grows

    @property
    def engine(self) -> SupervisedEngine:
        """The current engine."""
        assert self._engine is not None, "an engine is asked before it was started"  # noqa: S101
        return self._engine

    def start(self) -> None:
        """Load an engine. Raises ModelError, or EngineDied when engines keep dying while they load."""
        self._leak_watch.reset()
        for capacity in self.capacities.values():
            capacity.forget()
        for attempt in range(1, STARTS_MAX + 1):
            self._engine = engine = self._open_engine()
            if self._is_stopping():  # the order came before there was an engine to kill
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

    def restart_after(self, death: EngineDied) -> None:
        """Start another engine after a death. Raises WorkerError when engines keep dying without success."""
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= DEATHS_IN_A_ROW_MAX:
            raise WorkerError(
                f"the engine died {self._deaths_in_a_row} times and nothing succeeded in between",
                why=death.what,
                fix="look at the device (driver, memory, temperature), then start the worker again",
            )
        self.start()

    def replace(self) -> None:
        """Start another engine in place of one whose memory has grown."""
        log.warning("the engine is started anew: %s", self._leak_watch.outgrown)
        self.close()
        self.start()

    def close(self) -> None:
        """End the engine, if there is one."""
        if self._engine is not None:
            self._engine.close()

    def kill(self) -> None:
        """End the engine at once, from any thread."""
        if self._engine is not None:
            self._engine.kill()

    # ------------------------------------------------------------ batch limits

    @property
    def limits(self) -> CallLimits:
        """The limits of a call for takes of a bucket: the engine's own, or lower ones after a call did not fit."""
        plans = self.capacities["plan"]
        return CallLimits(self.capacities["render"].of, lambda bucket: plans.of(bucket) if bucket.planner else 0)

    def without_limits(self, buckets: Iterable[Bucket]) -> set[Bucket]:
        """Those of `buckets` for which the engine was not asked for its limits yet."""
        batches, plans = self.capacities["render"], self.capacities["plan"]
        return {each for each in buckets if not batches.knows(each) or (each.planner and not plans.knows(each))}

    def ask_limits(self, buckets: Iterable[Bucket]) -> None:
        """Ask the engine for its limits. Raises EngineDied."""
        for bucket in buckets:
            self.capacities["render"].ask(self.engine.batch_limit, bucket)
            if bucket.planner:
                self.capacities["plan"].ask(self.engine.plan_limit, bucket)

    def note_success(self, kind: CallKind, bucket: Bucket) -> None:
        """Note a call that succeeded: it ends a series of deaths, and lets a lowered limit recover."""
        if kind == "render":
            self._deaths_in_a_row = 0
        if limit := self.capacities[kind].note_success(bucket):
            log.info("%s limit %d for %s again: smaller calls have all fitted", kind, limit, bucket)

    # ------------------------------------------------------------ memory

    @property
    def has_outgrown(self) -> bool:
        """True when the engine's memory has grown so much that it should be replaced."""
        return bool(self._leak_watch.outgrown)

    def watch_memory(self, takes: Sequence[Request]) -> None:
        """Read the engine's memory after it has begun a batch of `takes`, and log it now and then."""
        memory = self.engine.memory()
        if memory is None:
            return
        audio_s = sum(each.spec.duration_s for each in takes)
        self._leak_watch.add(memory.rss_mib + memory.device_mib, takes=len(takes), audio_s=audio_s)
        before, self._rendered = self._rendered, self._rendered + len(takes)
        # A slope over fewer takes than it is told by says more of how an engine warms up than of a leak.
        slope = self._leak_watch.mib_per_100_takes if self._rendered >= LOG_TAKES else None
        self.memory = memory.model_copy(update={"growth_mib_per_100_takes": slope})
        if before // LOG_TAKES != self._rendered // LOG_TAKES:
            held = f"{memory.rss_mib:,.0f} MiB resident, {memory.device_mib:,.0f} MiB on the device"
            growth = "" if slope is None else f", {slope:+.1f} MiB in 100 takes"
            log.info("the engine after %d takes: %s%s", self._rendered, held, growth)

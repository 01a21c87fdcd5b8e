"""The scheduler around a real engine process: what only a process can do, leak and be killed, costs no take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from catalog.messages import Span, now_ms
from catalog.spec import PlannerSpec
from catalog.track import Take
from tests.support.makers import a_take, takes
from workers.engine.process import EngineProcess, EngineRecipe
from workers.engine.protocol import Rendition
from workers.scheduler import supervisor
from workers.scheduler.leak import SETTLING_BATCHES, LeakBound
from workers.scheduler.request import Rendered
from workers.scheduler.scheduler import MemoryBounds, Scheduler
from workers.spans import SpanLog
from workers.wiring import typical_bucket

LEAK_MIB = 24


class RunningScheduler:
    """A Scheduler over engine processes, and threads to carry takes."""

    def __init__(self, recipe: EngineRecipe, bounds: MemoryBounds) -> None:
        self.recipe, self.engines = recipe, list[EngineProcess]()
        self.spans = SpanLog(now_ms())
        self.scheduler = Scheduler(self.open_engine, self.spans, typical=typical_bucket("tone"), bounds=bounds)
        self.scheduler.threads = 16
        self.pool = ThreadPoolExecutor(16)
        self.thread = threading.Thread(target=self.scheduler.run)

    def open_engine(self) -> EngineProcess:
        self.engines.append(EngineProcess(self.recipe))
        return self.engines[-1]

    def start(self, some: Sequence[Take]) -> list[Future[Rendered]]:
        return [self.pool.submit(self._carry, take) for take in some]

    def _carry(self, take: Take) -> Rendered:
        rendered = self.scheduler.render(take)
        self.scheduler.release(rendered)
        return rendered

    def end(self) -> list[Span]:
        self.scheduler.drain()
        self.thread.join(20)
        return self.spans.take_closed()


@contextmanager
def running_scheduler(
    factory: str, *, bounds: MemoryBounds | None = None, **options: Any
) -> Iterator[RunningScheduler]:
    running = RunningScheduler(EngineRecipe(f"tests.support.fakes:{factory}", options), bounds or MemoryBounds())
    running.thread.start()
    try:
        yield running
    finally:
        running.end()
        running.pool.shutdown()
        assert not running.thread.is_alive()


def test_an_engine_that_leaks_is_seen_to_and_replaced_between_batches_and_no_take_notices(caplog, monkeypatch):
    monkeypatch.setattr(supervisor, "LOG_TAKES", SETTLING_BATCHES)  # from so many takes on the growth is told
    growth = LeakBound(mib=6 * LEAK_MIB, share=0.25)
    batches = SETTLING_BATCHES + 12
    with running_scheduler("LeakyEngine", bounds=MemoryBounds(growth=growth), leak_mib=LEAK_MIB) as running:
        slopes = []
        for n in range(batches):
            assert isinstance(running.start([a_take(f"{n:04d}")])[0].result(30).outcome, Rendition)
            slopes.append(running.scheduler.memory.growth_mib_per_100_takes)
        assert running.scheduler.failure is None
        spans = running.end()
    assert len(running.engines) == 2
    assert "the engine is started anew: it holds" in caplog.text
    assert max(slope for slope in slopes if slope) == pytest.approx(100 * LEAK_MIB, rel=0.2)
    assert slopes[-1] is None  # the second engine has made too few to tell
    (loading,) = [span for span in spans if span.cause == "loading"]
    assert loading.end_ms - loading.start_ms > 100
    assert all(before.end_ms == after.start_ms for before, after in pairwise(spans))


def test_an_engine_that_does_not_leak_is_kept_and_shows_no_slope(monkeypatch):
    monkeypatch.setattr(supervisor, "LOG_TAKES", SETTLING_BATCHES)
    with running_scheduler("fake_engine", bounds=MemoryBounds(growth=LeakBound(mib=50, share=0.25))) as running:
        for n in range(3 * SETTLING_BATCHES):
            running.start([a_take(f"{n:04d}")])[0].result(30)
        assert len(running.engines) == 1
        assert abs(running.scheduler.memory.growth_mib_per_100_takes) < LEAK_MIB


def test_an_engine_killed_again_and_again_costs_no_take():
    """Wherever it is when it dies: planning, rendering, decoding or idle."""
    some = [*takes(12, planner=PlannerSpec()), *takes(12, duration_s=11)]
    with running_scheduler("fake_engine", limit=2, plan_limit=8) as running:
        futures = running.start(some)
        for _ in range(3):
            running.scheduler.ready.wait(20)
            time.sleep(0.15)
            running.engines[-1].kill()
        rendered = [future.result(60) for future in futures]
        assert running.scheduler.failure is None
    assert all(isinstance(each.outcome, Rendition) for each in rendered)
    assert all(each.outcome.plan is not None for each in rendered[:12])


def test_batch_after_batch_comes_back_whole_while_others_are_under_way():
    with running_scheduler("fake_engine", limit=3, plan_limit=16) as running:
        some = [*takes(20, planner=PlannerSpec()), *takes(10, duration_s=12)]
        for take, future in zip(some, running.start(some), strict=True):
            rendered = future.result(60)
            assert rendered.outcome.audio.shape == (2, take.spec.n_samples)
            assert rendered.outcome.effective.dit_seed == take.dit_seed
            assert rendered.batch.takes[rendered.batch.position] == take.id

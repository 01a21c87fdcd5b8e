"""The lane around the rule: what goes wrong in the engine, and who pays for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import pytest

from catalog.errors import ModelError, WorkerError
from catalog.messages import now_ms
from catalog.track import Take
from tests.fakes import FakeEngine
from tests.makers import a_take, takes
from workers.engine import Refusal, Rendition
from workers.engine_process import EngineDied, EngineGone
from workers.gather import Gather, Rendered, TakeFailed, TakeReturned
from workers.spans import LaneSpans
from workers.wiring import typical_bucket


class Lane:
    """A Gather with fake engines, and threads to carry takes."""

    def __init__(self, threads: int, **options: int) -> None:
        self.engines: list[FakeEngine] = []
        self.options = options
        self.spans = LaneSpans(now_ms())
        self.gather = Gather(self.open_engine, self.spans, typical=typical_bucket("tone"))
        self.gather.threads = threads
        self.pool = ThreadPoolExecutor(32)
        self.thread = threading.Thread(target=self.gather.run)

    def open_engine(self) -> FakeEngine:
        self.engines.append(FakeEngine(**self.options))  # type: ignore[arg-type]
        return self.engines[-1]

    def start(self, takes: Sequence[Take], *, alone: bool = False) -> list[Future[Rendered]]:
        return [self.pool.submit(self.gather.render, take, alone=alone) for take in takes]

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for engine in self.engines for batch in engine.batches]


@contextmanager
def a_lane(threads: int = 8, **options: int) -> Iterator[Lane]:
    lane = Lane(threads, **options)
    lane.thread.start()
    try:
        yield lane
    finally:
        lane.gather.drain()
        lane.thread.join(10)
        lane.pool.shutdown()
        assert not lane.thread.is_alive()


def test_takes_that_arrive_together_share_batches_and_know_their_company():
    with a_lane(threads=8, limit=4) as lane:
        some = takes(8)
        done = [future.result(10) for future in lane.start(some)]
        assert lane.sizes == [4, 4]
    for take, rendered in zip(some, done, strict=True):
        assert rendered.batch.takes[rendered.batch.position] == take.id
        assert rendered.batch.size == 4
        assert isinstance(rendered.outcome, Rendition)
        assert rendered.outcome.audio.shape == (2, take.spec.n_samples)
    by_batch = {rendered.batch.id: 0 for rendered in done}
    for rendered in done:
        by_batch[rendered.batch.id] += rendered.times.engine_ms
    assert set(by_batch.values()) == {45}


def test_a_lone_take_does_not_wait_for_company_that_never_comes():
    with a_lane(threads=8) as lane:
        assert lane.start([a_take()])[0].result(2).batch.size == 1


def test_a_suspect_is_rendered_without_company():
    with a_lane(threads=4, limit=4) as lane:
        futures = lane.start(takes(4), alone=True)
        assert [future.result(10).batch.size for future in futures] == [1] * 4


def test_a_refusal_reaches_its_take_only():
    with a_lane(threads=2) as lane:
        good, bad = (future.result(10) for future in lane.start([a_take("1"), a_take("2", caption="refuse me")]))
        assert isinstance(good.outcome, Rendition)
        assert isinstance(bad.outcome, Refusal)


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_the_limit_is_remembered():
    with a_lane(threads=8, limit=8, fits=3) as lane:
        done = [future.result(10) for future in lane.start(takes(8))]
        assert lane.sizes == [8, 4, 2, 2, 2, 2]
        later = [future.result(10) for future in lane.start(takes(2))]
        assert lane.sizes[6:] == [2]
    assert all(isinstance(rendered.outcome, Rendition) for rendered in done)
    assert {rendered.outcome.effective.extra["batch_limit_after_oom"] for rendered in done} == {2, 4}
    assert "batch_limit_after_oom" not in later[0].outcome.effective.extra


def test_a_take_that_does_not_fit_alone_fails_in_words():
    with a_lane(threads=2, limit=2, fits=0) as lane:
        futures = lane.start(takes(2))
        for future in futures:
            with pytest.raises(TakeFailed, match="a batch of one does not fit"):
                future.result(10)


def test_a_poison_take_condemns_no_neighbour():
    poison = a_take("0099", caption="die")
    with a_lane(threads=5, limit=5) as lane:
        futures = lane.start([*takes(4), poison])
        for future in futures[:4]:
            assert isinstance(future.result(10).outcome, Rendition)
        with pytest.raises(TakeFailed, match="died 3 times with this take alone") as failed:
            futures[4].result(10)
        assert not failed.value.retry
        assert failed.value.batch.takes == [poison.id]
        assert lane.start([a_take("0100")])[0].result(10)
    assert len(lane.engines) == 5  # one death in company, three alone, and the one that lives
    assert all(engine.closed for engine in lane.engines)


def test_an_error_in_words_fails_its_take_alone_and_needs_no_new_engine():
    with a_lane(threads=3, limit=3) as lane:
        good, other, bad = lane.start([a_take("1"), a_take("2"), a_take("3", caption="error")])
        assert isinstance(good.result(10).outcome, Rendition)
        assert isinstance(other.result(10).outcome, Rendition)
        with pytest.raises(TakeFailed, match="told to err"):
            bad.result(10)
    assert len(lane.engines) == 1


def test_an_engine_that_had_gone_before_it_got_the_batch_puts_no_take_under_suspicion():
    with a_lane(threads=3, limit=3) as lane:
        lane.gather.ready.wait(5)

        def gone() -> None:
            raise EngineGone("killed while idle")

        lane.engines[0].before_render = gone
        assert [future.result(10).batch.size for future in lane.start(takes(3))] == [3, 3, 3]


def test_an_engine_that_only_dies_ends_the_worker_and_gives_the_takes_back():
    with a_lane(threads=12, limit=1) as lane:
        futures = lane.start([a_take(f"{n:04d}", caption="die") for n in range(12)])
        outcomes = [future.exception(20) for future in futures]
        lane.thread.join(10)
        assert isinstance(lane.gather.failure, WorkerError)
    assert {type(outcome) for outcome in outcomes} <= {TakeFailed, TakeReturned}
    assert TakeReturned in {type(outcome) for outcome in outcomes}


def test_a_model_at_fault_ends_the_lane_and_gives_the_takes_back():
    with a_lane(threads=2, limit=2) as lane:
        lane.gather.ready.wait(5)

        def at_fault() -> None:
            raise ModelError("the weights are corrupt")

        lane.engines[0].before_render = at_fault
        for future in lane.start(takes(2)):
            with pytest.raises(TakeReturned):
                future.result(10)
        lane.thread.join(10)
        assert isinstance(lane.gather.failure, ModelError)


def test_an_engine_that_cannot_load_is_reported_and_nothing_waits_for_it():
    def refuse() -> FakeEngine:
        raise ModelError("no weights")

    gather = Gather(refuse, LaneSpans(now_ms()), typical=typical_bucket("tone"))
    gather.run()
    assert gather.ready.is_set()
    assert isinstance(gather.failure, ModelError)
    with pytest.raises(TakeReturned):
        gather.render(a_take())


def test_draining_finishes_the_batch_on_the_engine_and_returns_what_waits():
    began, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert go_on.wait(10)

    with a_lane(threads=4, limit=2) as lane:
        lane.gather.ready.wait(5)
        lane.engines[0].before_render = hold
        aboard = lane.start(takes(2))
        assert began.wait(5)
        waiting = lane.start([a_take("0008"), a_take("0009")])
        while len(lane.gather._waiting) < 2:
            pass
        lane.gather.drain()
        for future in waiting:
            with pytest.raises(TakeReturned):
                future.result(5)
        assert not any(future.done() for future in aboard)
        go_on.set()
        assert all(isinstance(future.result(5).outcome, Rendition) for future in aboard)
        with pytest.raises(TakeReturned):
            lane.gather.render(a_take("0010"))


def test_spans_touch_never_overlap_and_name_their_batches():
    with a_lane(threads=3, limit=3) as lane:
        done = [future.result(10) for future in lane.start([*takes(2), a_take("0099", caption="die once")])[:2]]
        lane.gather.drain()
        lane.thread.join(10)
    lane.spans.close("teardown")
    spans = lane.spans.take_closed()
    assert spans[-1].end_ms >= spans[0].start_ms
    assert all(before.end_ms == after.start_ms for before, after in pairwise(spans))
    assert {rendered.batch.id for rendered in done} <= {span.batch_id for span in spans if span.state == "render"}


def test_a_second_engine_death_at_the_start_is_survived():
    deaths = iter([EngineDied("once"), EngineDied("twice")])

    class Fragile(FakeEngine):
        @property
        def card(self):
            for death in deaths:
                raise death
            return super().card

    gather = Gather(Fragile, LaneSpans(now_ms()), typical=typical_bucket("tone"))
    thread = threading.Thread(target=gather.run)
    thread.start()
    assert gather.ready.wait(5)
    assert gather.card is not None
    gather.drain()
    thread.join(5)

"""The scheduler around the rule: what goes wrong in the engine, and who pays for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from catalog.buckets import Bucket
from catalog.errors import ModelError, OutOfVram, WorkerError
from catalog.messages import Span, now_ms
from catalog.sidecar import Plan
from catalog.spec import Bounds, PlannerSpec
from catalog.track import Take
from tests.support.fakes import EngineHere, FakeEngine, a_plan
from tests.support.makers import a_take, takes
from workers.engine.protocol import Refusal, Rendition
from workers.engine.wire import EngineDied
from workers.scheduler.limits import RECOVERY_CALLS
from workers.scheduler.request import Rendered, TakeFailed, TakeReturned
from workers.scheduler.scheduler import MemoryBounds, Scheduler
from workers.spans import SpanLog
from workers.wiring import typical_bucket

PATIENCE_S = 60.0  # a busy machine may give a thread its turn late; what is waited for takes milliseconds


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of a busy machine may take long to start; here they are waited for, while more can come."""
    monkeypatch.setattr("workers.scheduler.scheduler.QUIET_S", 0.3)
    monkeypatch.setattr("workers.scheduler.scheduler.LINGER_S", 1.0)


class RunningScheduler:
    """A Scheduler with fake engines, and threads that carry takes."""

    def __init__(
        self,
        threads: int,
        *,
        audio_bytes: int | None = None,
        engine: Callable[[FakeEngine], EngineHere] = EngineHere,
        **options: Any,
    ) -> None:
        self.engine_here = engine
        self.engines: list[EngineHere] = []
        self.options = options
        self.before: dict[str, Callable[[], None]] = {}  # what every engine does first, by call
        self.spans = SpanLog(now_ms())
        self.keeps = False  # what is rendered is released at once, unless a test keeps it
        self.scheduler = Scheduler(
            self.open_engine,
            self.spans,
            typical=typical_bucket("tone"),
            bounds=MemoryBounds(audio_bytes=audio_bytes),
        )
        self.scheduler.threads = threads
        self.pool = ThreadPoolExecutor(64)
        self.thread = threading.Thread(target=self.scheduler.run)

    def open_engine(self) -> EngineHere:
        engine = FakeEngine(**self.options)
        engine.before = self.before
        self.engines.append(self.engine_here(engine))
        return self.engines[-1]

    def start(self, takes: Sequence[Take], *, alone: bool = False, plan: Plan | None = None) -> list[Future[Rendered]]:
        return [self.pool.submit(self.carry, take, alone, plan) for take in takes]

    def carry(self, take: Take, alone: bool, plan: Plan | None) -> Rendered:
        rendered = self.scheduler.render(take, alone=alone, plan=plan)
        if not self.keeps:
            self.scheduler.release(rendered)
        return rendered

    def render(self, takes: Sequence[Take]) -> list[Rendered]:
        return [future.result(PATIENCE_S) for future in self.start(takes)]

    def wait_for(self, count: int) -> None:
        """Wait until so many takes wait for the engine."""
        deadline_s = time.monotonic() + PATIENCE_S
        while len(self.scheduler._backlog.waiting) < count:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)

    def first_done(self, futures: Sequence[Future[Rendered]], count: int) -> list[Rendered]:
        """The takes that are rendered first, once there are so many."""
        deadline_s = time.monotonic() + PATIENCE_S
        while sum(future.done() for future in futures) < count:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        return [future.result() for future in futures if future.done()]

    def end(self) -> list[Span]:
        """The spans of its whole life."""
        self.scheduler.drain()
        self.thread.join(PATIENCE_S)
        self.spans.close("teardown")
        return self.spans.take_closed()

    @property
    def calls(self) -> list[tuple[str, int]]:
        """All engines' calls, each with its number of takes."""
        return [(call, len(ids)) for engine in self.engines for call, ids in engine.engine.calls]

    @property
    def sizes(self) -> list[int]:
        return [size for call, size in self.calls if call == "begin"]


@contextmanager
def running_scheduler(
    threads: int = 8, *, before: dict[str, Callable[[], None]] | None = None, **options: Any
) -> Iterator[RunningScheduler]:
    running = RunningScheduler(threads, **options)
    running.before |= before or {}
    running.thread.start()
    try:
        yield running
    finally:
        running.scheduler.drain()
        running.thread.join(PATIENCE_S)
        running.pool.shutdown()
        assert not running.thread.is_alive()


class Gate:
    """A place where a call stops until it may go on."""

    def __init__(self) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self._opened.wait(PATIENCE_S)

    def open(self) -> None:
        self._opened.set()


def planned(count: int, **fields: Any) -> list[Take]:
    """Takes that want a plan."""
    return takes(count, planner=PlannerSpec(), **fields)


def test_takes_that_arrive_together_share_batches_and_know_their_company():
    with running_scheduler(threads=8, limit=4) as running:
        some = takes(8)
        done = [future.result(PATIENCE_S) for future in running.start(some)]
        assert running.sizes == [4, 4]
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
    with running_scheduler(threads=8) as running:
        assert running.start([a_take()])[0].result(10).batch.size == 1


def test_company_is_waited_for_after_a_long_idle_time_too(monkeypatch):
    monkeypatch.setattr("workers.scheduler.scheduler.LINGER_S", 0.5)
    with running_scheduler(threads=2) as running:
        assert running.scheduler.ready.wait(PATIENCE_S)
        time.sleep(0.6)
        first = running.start([a_take("0001")])
        time.sleep(0.03)
        second = running.start([a_take("0002")])
        assert [future.result(PATIENCE_S).batch.size for future in first + second] == [2, 2]


def test_a_suspect_is_rendered_without_company():
    with running_scheduler(threads=4, limit=4) as running:
        futures = running.start(takes(4), alone=True)
        assert [future.result(PATIENCE_S).batch.size for future in futures] == [1] * 4


def test_a_refusal_reaches_its_take_only():
    with running_scheduler(threads=2) as running:
        good, bad = (
            future.result(PATIENCE_S) for future in running.start([a_take("1"), a_take("2", caption="refuse me")])
        )
        assert isinstance(good.outcome, Rendition)
        assert isinstance(bad.outcome, Refusal)


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_the_limit_is_remembered():
    with running_scheduler(threads=8, limit=8, fits=3) as running:
        done = [future.result(PATIENCE_S) for future in running.start(takes(8))]
        assert running.sizes == [8, 4, 2, 2, 2, 2]
        later = [future.result(PATIENCE_S) for future in running.start(takes(2))]
        assert running.sizes[6:] == [2]
    assert all(isinstance(rendered.outcome, Rendition) for rendered in done)
    assert {rendered.outcome.effective.extra["batch_limit_after_oom"] for rendered in done} == {2, 4}
    assert "batch_limit_after_oom" not in later[0].outcome.effective.extra


def test_a_take_that_does_not_fit_alone_fails_in_words():
    with running_scheduler(threads=2, limit=2, fits=0) as running:
        futures = running.start(takes(2))
        for future in futures:
            with pytest.raises(TakeFailed, match="a batch of one does not fit"):
                future.result(PATIENCE_S)


def test_a_poison_take_condemns_no_neighbour():
    poison = a_take("0099", caption="die")
    with running_scheduler(threads=5, limit=5) as running:
        futures = running.start([*takes(4), poison])
        for future in futures[:4]:
            assert isinstance(future.result(PATIENCE_S).outcome, Rendition)
        with pytest.raises(TakeFailed, match="died 3 times with this take alone") as failed:
            futures[4].result(PATIENCE_S)
        assert not failed.value.retry
        assert failed.value.batch.takes == [poison.id]
        assert running.start([a_take("0100")])[0].result(PATIENCE_S)
    assert len(running.engines) == 5  # one death in a batch, three alone, and the one that lives
    assert all(engine.closed for engine in running.engines)


def test_an_error_in_words_fails_its_take_alone_and_needs_no_new_engine():
    with running_scheduler(threads=3, limit=3) as running:
        good, other, bad = running.start([a_take("1"), a_take("2"), a_take("3", caption="error")])
        assert isinstance(good.result(PATIENCE_S).outcome, Rendition)
        assert isinstance(other.result(PATIENCE_S).outcome, Rendition)
        with pytest.raises(TakeFailed, match="told to err"):
            bad.result(PATIENCE_S)
    assert len(running.engines) == 1


def test_an_engine_that_had_gone_before_it_got_the_batch_puts_no_take_under_suspicion():
    with running_scheduler(threads=3, limit=3) as running:
        running.scheduler.ready.wait(PATIENCE_S)
        running.engines[0].kill()
        assert [future.result(PATIENCE_S).batch.size for future in running.start(takes(3))] == [3, 3, 3]


def test_an_engine_that_only_dies_ends_the_worker_and_gives_the_takes_back():
    with running_scheduler(threads=12, limit=1) as running:
        futures = running.start([a_take(f"{n:04d}", caption="die") for n in range(12)])
        outcomes = [future.exception(20) for future in futures]
        running.thread.join(PATIENCE_S)
        assert isinstance(running.scheduler.failure, WorkerError)
    assert {type(outcome) for outcome in outcomes} <= {TakeFailed, TakeReturned}
    assert TakeReturned in {type(outcome) for outcome in outcomes}


def test_poison_takes_among_themselves_get_their_verdicts_before_the_worker_gives_up():
    with running_scheduler(threads=4, limit=4) as running:
        futures = running.start([a_take(f"{n:04d}", caption="die") for n in range(4)])
        outcomes = [future.exception(20) for future in futures]
    # One death in a batch, three alone for each of two, and with the eighth the scheduler gives up.
    verdicts = [outcome.retry for outcome in outcomes if isinstance(outcome, TakeFailed)]
    assert sorted(verdicts) == [False, False, True]
    assert [type(outcome) for outcome in outcomes].count(TakeReturned) == 1


@pytest.mark.parametrize("call", ["begin", "finish"])
def test_a_model_at_fault_ends_the_worker_and_gives_the_takes_back(call):
    def at_fault() -> None:
        raise ModelError("the weights are corrupt")

    with running_scheduler(threads=2, limit=2, before={call: at_fault}) as running:
        for future in running.start(takes(2)):
            with pytest.raises(TakeReturned):
                future.result(PATIENCE_S)
        running.thread.join(PATIENCE_S)
        assert isinstance(running.scheduler.failure, ModelError)


def test_an_engine_that_cannot_load_is_reported_and_nothing_waits_for_it():
    def refuse() -> EngineHere:
        raise ModelError("no weights")

    scheduler = Scheduler(refuse, SpanLog(now_ms()), typical=typical_bucket("tone"))
    scheduler.run()
    assert scheduler.ready.is_set()
    assert isinstance(scheduler.failure, ModelError)
    with pytest.raises(TakeReturned):
        scheduler.render(a_take())


@pytest.mark.parametrize("call", ["begin", "finish"])
def test_draining_finishes_the_batch_on_the_engine_and_returns_what_waits(call):
    gate = Gate()
    with running_scheduler(threads=4, limit=2, before={call: gate}) as running:
        in_flight = running.start(takes(2))
        assert gate.reached.wait(PATIENCE_S)
        running.before.clear()
        waiting = running.start([a_take("0008", duration_s=11), a_take("0009", duration_s=12, planner=PlannerSpec())])
        if call == "begin":
            running.wait_for(2)
            running.scheduler.drain()
            for future in waiting:
                with pytest.raises(TakeReturned):
                    future.result(PATIENCE_S)
        running.scheduler.drain()
        assert not any(future.done() for future in in_flight)
        gate.open()
        assert all(isinstance(future.result(PATIENCE_S).outcome, Rendition) for future in in_flight)
        with pytest.raises(TakeReturned):
            running.scheduler.render(a_take("0010"))


def test_draining_returns_what_is_only_being_planned_at_once():
    gate = Gate()
    with running_scheduler(threads=4, limit=2, plan_limit=4, before={"plan": gate}) as running:
        in_flight = running.start(planned(2))
        assert gate.reached.wait(PATIENCE_S)
        running.scheduler.drain()
        for future in in_flight:
            with pytest.raises(TakeReturned):
                future.result(PATIENCE_S)
        gate.open()
        running.thread.join(PATIENCE_S)
        assert running.scheduler.failure is None
        assert running.sizes == []


def test_spans_touch_never_overlap_and_name_their_batches():
    with running_scheduler(threads=3, limit=3) as running:
        done = [
            future.result(PATIENCE_S) for future in running.start([*takes(2), a_take("0099", caption="die once")])[:2]
        ]
        spans = running.end()
    assert spans[-1].end_ms >= spans[0].start_ms
    assert all(before.end_ms == after.start_ms for before, after in pairwise(spans))
    assert {rendered.batch.id for rendered in done} <= {span.batch_id for span in spans if span.state == "render"}


def test_a_second_engine_death_at_the_start_is_survived():
    deaths = iter([EngineDied("once"), EngineDied("twice")])

    class Fragile(EngineHere):
        def __init__(self) -> None:
            super().__init__(FakeEngine())

        @property
        def card(self):
            for death in deaths:
                raise death
            return super().card

    scheduler = Scheduler(Fragile, SpanLog(now_ms()), typical=typical_bucket("tone"))
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    assert scheduler.ready.wait(PATIENCE_S)
    assert scheduler.card is not None
    scheduler.drain()
    thread.join(PATIENCE_S)


# ---------------------------------------------------------------- nothing waits


def test_the_next_batch_begins_before_the_last_is_decoded_and_while_its_takes_are_posted():
    """Neither the decoding nor the post of a batch can end before the next one has begun."""
    begun = [threading.Event() for _ in range(4)]
    decoded = iter(begun[1:])
    beginning = iter(begun)

    def decode_beside_the_next() -> None:
        if (following := next(decoded, None)) is not None:
            assert following.wait(PATIENCE_S), "the decoding of a batch kept the next one from being begun"

    before = {"begin": lambda: next(beginning).set(), "finish": decode_beside_the_next}
    with running_scheduler(threads=8, limit=2, before=before) as running:
        rendered = running.render(takes(8))
        assert running.sizes == [2, 2, 2, 2]
    assert all(isinstance(each.outcome, Rendition) for each in rendered)


def test_takes_go_to_post_while_the_engine_is_busy_with_the_next_batch():
    gate = Gate()
    count = iter(range(10))
    with running_scheduler(
        threads=4, limit=2, before={"begin": lambda: gate() if next(count) == 1 else None}
    ) as running:
        futures = running.start(takes(4))
        assert gate.reached.wait(PATIENCE_S)
        running.first_done(futures, 2)
        gate.open()
        assert all(future.result(PATIENCE_S) for future in futures)


def test_audio_that_waits_for_post_is_bounded_and_the_time_is_booked_as_that():
    two_batches = 2 * 2 * 480_000 * 2 * 4
    with running_scheduler(threads=8, limit=2, audio_bytes=two_batches) as running:
        running.keeps = True
        futures = running.start(takes(8))
        first = running.first_done(futures, 4)
        running.wait_for(4)
        time.sleep(0.02)
        assert running.sizes == [2, 2]
        for rendered in first:
            if rendered.batch.id == first[0].batch.id:
                running.scheduler.release(rendered)
        running.first_done(futures, 6)
        assert running.sizes == [2, 2, 2]
        for rendered in first:
            if rendered.batch.id != first[0].batch.id:
                running.scheduler.release(rendered)
        assert all(future.result(PATIENCE_S) for future in futures)
        spans = running.end()
    waited_ms = sum(span.end_ms - span.start_ms for span in spans if span.cause == "waiting for post")
    assert waited_ms >= 20


def test_idle_time_says_whether_there_was_no_work_or_no_thread_to_take_it():
    with running_scheduler(threads=2, limit=2) as running:
        running.keeps = True
        assert running.scheduler.ready.wait(PATIENCE_S)
        time.sleep(0.05)
        done = running.render(takes(2))
        time.sleep(0.05)
        for rendered in done:
            running.scheduler.release(rendered)
        time.sleep(0.05)
        causes = [span.cause for span in running.end() if span.state == "idle"]
    assert causes == ["no work", "waiting for post", "no work"]


def test_planning_goes_on_while_audio_waits_for_post():
    with running_scheduler(threads=8, limit=1, plan_limit=4, audio_bytes=1) as running:
        running.keeps = True
        one = running.render(takes(2))
        (third,) = running.start([a_take("0003")])
        running.wait_for(1)
        running.start(planned(2, caption="planned meanwhile"))
        while ("plan", 2) not in running.calls:
            time.sleep(0.001)
        assert not third.done()
        for each in one:
            running.scheduler.release(each)
        assert third.result(PATIENCE_S)


def test_a_refused_take_needs_no_room():
    with running_scheduler(threads=8, limit=1, audio_bytes=1) as running:
        running.keeps = True
        assert len(running.render([a_take(str(n), caption="refuse") for n in range(6)])) == 6


def test_the_time_of_a_last_decoding_is_its_batchs_and_no_idle_time():
    gate = Gate()
    with running_scheduler(threads=2, limit=2, before={"finish": gate}) as running:
        futures = running.start(takes(2))
        assert gate.reached.wait(PATIENCE_S)
        time.sleep(0.2)
        gate.open()
        batch = futures[0].result(PATIENCE_S).batch
        spans = running.end()
    rendering = [span for span in spans if span.batch_id == batch.id]
    assert {span.state for span in rendering} == {"render"}
    assert sum(span.end_ms - span.start_ms for span in rendering) >= 150


def test_what_the_engine_holds_is_logged_every_hundred_takes_and_known_after_each_batch(caplog):
    caplog.set_level("INFO")
    with running_scheduler(threads=32, limit=8) as running:
        assert running.scheduler.ready.wait(PATIENCE_S)
        running.render([a_take(f"{n:04d}", caption="refuse") for n in range(104)])
        running.end()  # a batch may be delivered before its reading is taken
        assert running.scheduler.memory.rss_mib > 10
        assert running.scheduler.memory.growth_mib_per_100_takes is not None
    lines = [record.message for record in caplog.records if "MiB resident" in record.message]
    assert len(lines) == 1
    assert "MiB in 100 takes" in lines[0]


# ---------------------------------------------------------------- plans


def test_takes_are_planned_in_large_calls_and_rendered_by_what_was_planned():
    some = planned(8)
    with running_scheduler(threads=8, limit=2, plan_limit=8) as running:
        done = running.render(some)
        assert running.calls[0] == ("plan", 8)
        assert running.sizes == [2, 2, 2, 2]
        spans = running.end()
    for take, rendered in zip(some, done, strict=True):
        assert rendered.outcome.plan == a_plan(take)
        assert rendered.batch.plan_size == 8
        assert rendered.batch.takes[rendered.batch.position] == take.id
    assert sum(rendered.times.plan_ms for rendered in done) == 81  # the whole call's, to the millisecond
    (call_id,) = {rendered.batch.plan_id for rendered in done}
    assert {span.batch_id for span in spans if span.state == "plan"} <= {call_id}
    assert {span.batch_id for span in spans if span.state == "render"} <= {each.batch.id for each in done}


def test_a_plan_that_is_given_is_followed_and_nothing_is_planned():
    take = planned(1)[0]
    plan = a_plan(take).model_copy(update={"codes": [7]})
    with running_scheduler(threads=2, plan_limit=8) as running:
        rendered = running.start([take], plan=plan)[0].result(PATIENCE_S)
        assert [call for call, _ in running.calls] == ["begin", "finish"]
    assert rendered.outcome.plan == plan
    assert (rendered.batch.plan_id, rendered.times.plan_ms) == ("", 0)


def test_takes_whose_length_was_left_open_are_rendered_with_those_of_the_length_they_got():
    planner = PlannerSpec(metadata="fill", open=("duration",))
    open_takes = [a_take(f"{n}", duration_s=30, bounds=Bounds(duration_s=(10, 30)), planner=planner) for n in range(2)]
    with running_scheduler(threads=4, limit=4, plan_limit=4) as running:
        done = running.render([*open_takes, *takes(2, planner=PlannerSpec())])
        assert running.sizes == [4]
    assert {rendered.outcome.audio.shape for rendered in done} == {(2, 480_000)}


def test_a_take_that_cannot_be_planned_ends_there_and_the_others_go_on():
    some = [*planned(2), a_take("0099", caption="unplannable", planner=PlannerSpec())]
    with running_scheduler(threads=3, limit=4, plan_limit=4) as running:
        good, _, bad = running.render(some)
        assert running.sizes == [2]
    assert isinstance(good.outcome, Rendition)
    assert bad.outcome == Refusal("the fake was told not to plan it")
    assert (bad.batch.id, bad.batch.plan_id, bad.batch.position) == ("", good.batch.plan_id, 2)
    assert bad.times.plan_ms == bad.times.engine_ms == 10


def test_a_planner_call_that_does_not_fit_is_halved_and_the_limit_is_remembered():
    with running_scheduler(threads=8, limit=8, plan_limit=8, plans_fit=3) as running:
        done = running.render(planned(8))
        assert [size for call, size in running.calls if call == "plan"] == [8, 4, 2, 2, 2, 2]
    assert {rendered.batch.plan_size for rendered in done} == {2}
    assert "batch_limit_after_oom" not in done[0].outcome.effective.extra


@pytest.mark.parametrize("trouble", ["does not fit", "engine dies"])
def test_what_was_planned_once_is_not_planned_again(trouble):
    poison = "die" if trouble == "engine dies" else "felt piano"
    some = [*planned(3), a_take("0099", caption=poison, planner=PlannerSpec())]
    with running_scheduler(threads=4, limit=4, plan_limit=4, fits=2 if trouble == "does not fit" else 99) as running:
        done = [future.exception(10) or future.result() for future in running.start(some)]
        assert [size for call, size in running.calls if call == "plan"] == [4]
        assert len(running.sizes) > 2
    assert len({each.batch.plan_id for each in done}) == 1
    assert [each.times.plan_ms for each in done[:3]] == [11, 10, 10]


@pytest.mark.parametrize("word", ["choke", "perish"])
def test_a_poison_take_condemns_no_neighbour_in_planning_or_decoding_either(word):
    some = [*planned(4), a_take("0099", caption=word, planner=PlannerSpec())]
    with running_scheduler(threads=5, limit=2, plan_limit=5) as running:
        futures = running.start(some)
        for future in futures[:4]:
            assert isinstance(future.result(PATIENCE_S).outcome, Rendition)
        with pytest.raises(TakeFailed, match="died 3 times with this take alone") as failed:
            futures[4].result(PATIENCE_S)
    assert failed.value.batch.takes == [some[4].id]
    assert failed.value.batch.plan_id != ""


class LateNews(EngineHere):
    """Dies under two batches, and lets it be known of the second only when it is closed."""

    def _end(self, error: EngineDied) -> None:
        with self._lock:
            late = self._under_way[1:] if not self.closed else []
            self._under_way = [each for each in self._under_way if each not in late]
        super()._end(error)
        self._under_way = late

    def close(self) -> None:
        self.closed = True
        super().close()


def test_one_death_under_two_batches_takes_one_new_engine():
    both_begun = threading.Semaphore(0)
    deaths = iter([EngineDied("under both")])

    def die_once() -> None:
        for death in deaths:
            assert both_begun.acquire(timeout=5)
            assert both_begun.acquire(timeout=5)
            time.sleep(0.05)  # the second has only to be noted as under way
            raise death

    before = {"begin": both_begun.release, "finish": die_once}
    with running_scheduler(threads=2, limit=1, engine=LateNews, before=before) as running:
        assert all(isinstance(each.outcome, Rendition) for each in running.render(takes(2)))
        assert len(running.engines) == 2


def test_an_error_in_words_while_planning_fails_its_take_alone():
    some = [*planned(2), a_take("0099", caption="stumble", planner=PlannerSpec())]
    with running_scheduler(threads=3, limit=4, plan_limit=4) as running:
        *good, bad = running.start(some)
        assert all(isinstance(future.result(PATIENCE_S).outcome, Rendition) for future in good)
        with pytest.raises(TakeFailed, match="fake planner was told to err"):
            bad.result(PATIENCE_S)
    assert len(running.engines) == 1


# ---------------------------------------------------------------- alone, and recovered


def test_a_suspect_has_the_engine_to_itself():
    """Nothing is begun while a suspect is rendered or decoded, and it is not begun beside others."""
    with running_scheduler(threads=6, limit=2) as running:
        futures = [*running.start(takes(2)), *running.start([a_take("0050"), a_take("0051")], alone=True)]
        futures += running.start([a_take(f"006{n}") for n in range(2)])
        suspects = [future.result(PATIENCE_S).batch.takes[0] for future in futures[2:4]]
        assert all(future.result(PATIENCE_S) for future in futures)
        calls = running.engines[0].engine.calls
    for suspect in suspects:
        at = calls.index(("begin", [suspect]))
        before = [call for call, _ in calls[:at]]
        assert before.count("begin") == before.count("finish")
        assert calls[at + 1] == ("finish", [suspect])


def test_a_take_that_did_not_fit_beside_a_decoding_is_tried_again_without_company():
    tight = iter([False, True, False])

    def sometimes_full() -> None:
        if next(tight, False):
            raise OutOfVram("the decoding beside it needs the memory")

    with running_scheduler(threads=2, limit=1, before={"begin": sometimes_full}) as running:
        assert all(isinstance(each.outcome, Rendition) for each in running.render(takes(2)))


def test_a_lowered_batch_limit_recovers_after_a_run_without_trouble():
    with running_scheduler(threads=2, limit=2, fits=1) as running:
        running.render(takes(2))
        running.engines[0].engine.fits = 2
        running.scheduler.threads = 1
        for n in range(RECOVERY_CALLS):
            running.render([a_take(f"{n + 10:04d}")])
        running.scheduler.threads = 2
        running.render(takes(2))
        assert running.sizes[-1] == 2


def test_a_decoding_that_does_not_fit_halves_its_batch():
    with running_scheduler(threads=4, limit=4, decodes=2) as running:
        done = running.render(takes(4))
        assert running.sizes == [4, 2, 2]
    assert {rendered.outcome.effective.extra["batch_limit_after_oom"] for rendered in done} == {2}


def test_an_engine_that_hangs_over_a_question_keeps_nobody_from_ending_it():
    """A limit is asked without the scheduler's lock, so drain and kill go through."""
    gate = Gate()
    with running_scheduler(threads=2) as running:
        assert running.scheduler.ready.wait(PATIENCE_S)
        running.engines[0].engine.on_limit = gate
        (future,) = running.start(takes(1))
        assert gate.reached.wait(PATIENCE_S)
        killer = threading.Thread(target=running.scheduler.kill)
        killer.start()
        killer.join(2)
        assert not killer.is_alive()
        with pytest.raises(TakeReturned):
            future.result(PATIENCE_S)
        gate.open()


def test_limits_are_asked_once_for_each_bucket():
    asked: list[Bucket] = []
    with running_scheduler(threads=8, limit=2) as running:
        assert running.scheduler.ready.wait(PATIENCE_S)
        running.engines[0].engine.on_limit = lambda: asked.append(Bucket.of(a_take().spec))
        running.render(takes(6))
        running.render(takes(4))
    assert len(asked) == 1

"""Spans of a worker touch and never overlap, whatever its clock does, and idle time is reported piece by piece."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from catalog.clock import Clock
from catalog.messages import Span
from workers.scheduler.activity import ActivityLog, EngineActivity
from workers.spans import IDLE_SPAN_MAX_MS, LOADING, NO_WORK, WAITING_FOR_POST, SpanLog

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
BEGAN_MS = 1_790_000_000_000

IDLE = EngineActivity("idle", cause=NO_WORK)


class Worker:
    """The spans of a worker whose clock moves when told to."""

    def __init__(self) -> None:
        self.now_ms = BEGAN_MS
        self.log = SpanLog(BEGAN_MS, clock=lambda: self.now_ms)
        self.activity = ActivityLog(self.log)

    def close(self, state, after_ms, **what) -> list[Span]:
        self.now_ms += after_ms
        self.log.close(state, **what)
        return self.log.take_closed()


def lengths_ms(spans: list[Span]) -> list[int]:
    return [span.end_ms - span.start_ms for span in spans]


states = st.sampled_from(["startup", "plan", "render", "idle", "post", "teardown"])
moves_ms = st.integers(-2 * HOUR_MS, 2 * HOUR_MS)


@given(st.lists(st.tuples(states, moves_ms, st.booleans()), max_size=30))
@example([("idle", HOUR_MS, False), ("render", -HOUR_MS, False), ("idle", HOUR_MS + 1, True)])
def test_spans_touch_and_never_overlap_or_run_backwards_whatever_the_clock_does(moves):
    worker, taken, latest_ms = Worker(), [], BEGAN_MS
    for state, move_ms, is_taken in moves:
        worker.now_ms += move_ms
        latest_ms = max(latest_ms, worker.now_ms)
        worker.log.close(state)
        taken += worker.log.take_closed() if is_taken else []
    taken += worker.log.take_closed()
    assert all(before.end_ms == after.start_ms for before, after in pairwise(taken))
    assert all(length_ms > 0 for length_ms in lengths_ms(taken))
    assert sum(lengths_ms(taken)) == latest_ms - BEGAN_MS
    assert all(
        length_ms <= IDLE_SPAN_MAX_MS for length_ms in lengths_ms([each for each in taken if each.state == "idle"])
    )


def test_the_spans_of_a_worker_whose_wall_clock_is_set_are_as_long_as_its_work():
    wall_ns, steady_ns = BEGAN_MS * 1_000_000, 0
    clock = Clock(lambda: wall_ns, lambda: steady_ns)
    log = SpanLog(clock.now_ms(), clock.now_ms)
    for set_by_ms in (0, -HOUR_MS, 2 * HOUR_MS):
        wall_ns += (set_by_ms + 30_000) * 1_000_000
        steady_ns += 30_000 * 1_000_000
        log.close("render", batch_id="b")
    spans = log.take_closed()
    assert all(before.end_ms == after.start_ms for before, after in pairwise(spans))
    assert all(abs(length_ms - 30_000) <= 16 for length_ms in lengths_ms(spans))
    assert len(spans) == 3


def test_a_long_idle_stretch_is_reported_in_pieces_that_all_name_the_cause():
    spans = Worker().close("idle", 25 * MINUTE_MS, cause=LOADING)
    assert lengths_ms(spans) == [10 * MINUTE_MS, 10 * MINUTE_MS, 5 * MINUTE_MS]
    assert {(span.state, span.cause, span.batch_id) for span in spans} == {("idle", LOADING, "")}
    assert (spans[0].start_ms, spans[-1].end_ms) == (BEGAN_MS, BEGAN_MS + 25 * MINUTE_MS)


def test_an_idle_stretch_of_exactly_ten_minutes_is_one_span_and_a_little_more_is_two():
    assert lengths_ms(Worker().close("idle", 10 * MINUTE_MS)) == [10 * MINUTE_MS]
    assert lengths_ms(Worker().close("idle", 10 * MINUTE_MS + 1)) == [10 * MINUTE_MS, 1]


def test_a_render_span_is_not_split_however_long_it_is():
    for state in ("startup", "plan", "render", "post", "teardown"):
        assert lengths_ms(Worker().close(state, 3 * HOUR_MS, batch_id="b")) == [3 * HOUR_MS]


def test_the_open_time_is_that_since_the_last_span_and_never_less_than_none():
    worker = Worker()
    worker.now_ms += 5_000
    assert worker.log.open_ms == 5_000
    worker.close("render", 1_000)
    assert worker.log.open_ms == 0
    worker.now_ms -= HOUR_MS
    assert worker.log.open_ms == 0


def test_a_worker_that_is_woken_all_the_time_and_has_no_work_reports_its_idle_time_every_minute():
    worker = Worker()
    for _ in range(3600):
        worker.activity.switch_to(IDLE)
        worker.now_ms += 1_000
    spans = worker.log.take_closed()
    assert lengths_ms(spans) == [MINUTE_MS] * 59
    assert {span.cause for span in spans} == {NO_WORK}


def test_an_activity_ends_with_its_own_name_when_another_begins():
    worker = Worker()
    uses = [IDLE, EngineActivity("render", batch_id="b1"), EngineActivity("idle", cause=WAITING_FOR_POST), IDLE]
    for use in uses:
        worker.activity.switch_to(use)
        worker.now_ms += 90_000
        worker.activity.switch_to(use)
        worker.now_ms += 1_000
    worker.activity.book()
    spans = worker.log.take_closed()
    assert [(span.state, span.batch_id, span.cause) for span in spans] == [
        *[("idle", "", NO_WORK)] * 2,
        ("render", "b1", ""),
        *[("idle", "", WAITING_FOR_POST)] * 2,
        *[("idle", "", NO_WORK)] * 2,
    ]
    assert lengths_ms(spans) == [90_000, 1_000, 91_000, 90_000, 1_000, 90_000, 1_000]


def test_time_before_the_first_activity_joins_it():
    worker = Worker()
    worker.now_ms += HOUR_MS
    worker.activity.switch_to(IDLE)
    worker.activity.book()
    worker.activity.book()
    assert lengths_ms(worker.log.take_closed()) == [10 * MINUTE_MS] * 6
    worker.now_ms += HOUR_MS
    worker.activity.book()
    assert worker.log.take_closed() == [], "nothing is booked without an activity"

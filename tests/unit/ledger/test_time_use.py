"""The use of time: every millisecond is in one use, and what can be mended is told from what cannot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.ledger.observations import SpanTime, WorkerLife
from orchestrator.ledger.time_use import WAITING_FOR_POST, Activity, TimeUse
from tests.support.time_facts import use_of
from workers import spans as lane


def a_life(end_ms: int, *, start_ms: int = 0, worker: str = "w1") -> WorkerLife:
    return WorkerLife(worker, "A100", start_ms, end_ms, None)


def spans_of(*parts: tuple[str, int, str], worker: str = "w1") -> list[SpanTime]:
    """(state, milliseconds, cause) one after the other from 0."""
    spans, at = [], 0
    for state, ms, cause in parts:
        spans.append(SpanTime(worker, at, at + ms, state, "x", cause))
        at += ms
    return spans


A_SHIFT = spans_of(
    ("startup", 1_000, ""),
    ("plan", 2_000, ""),
    ("render", 5_000, ""),
    ("idle", 600, "no work"),
    ("render", 500, ""),
    ("idle", 800, WAITING_FOR_POST),
    ("teardown", 50, ""),
)


def test_work_comes_first_then_idle_time_by_cause_then_the_rest():
    assert list(use_of([a_life(10_000)], A_SHIFT).uses()) == [
        Activity("planning", 2_000, 200),
        Activity("rendering", 5_500, 550),
        Activity("idle: waiting for post", 800, 80),
        Activity("idle: no work", 600, 60),
        Activity("starting", 1_000, 100),
        Activity("ending", 50, 5),
        Activity("not reported yet", 50, 5),
    ]


def test_shares_of_the_time_an_engine_was_up_leave_out_start_and_end():
    use = use_of([a_life(10_000)], A_SHIFT)
    assert (use.busy_ms, use.up_ms, use.total_ms) == (7_500, 8_900, 10_000)
    assert use.busy_share == 7_500 / 8_900
    assert use.waiting_for_post_share == 800 / 8_900


def test_an_idle_span_without_a_cause_is_not_passed_over():
    assert [each.name for each in use_of([a_life(5)], spans_of(("idle", 5, ""))).uses()] == ["idle: cause not said"]


def test_a_worker_that_has_said_nothing_has_no_shares():
    assert list(TimeUse({}).uses()) == []
    assert TimeUse({}).busy_share is None
    assert TimeUse({}).waiting_for_post_share == 0.0
    assert use_of([a_life(10)], []).by_state_ms == {"unobserved": 10}


def test_the_cause_that_can_be_mended_goes_by_the_name_that_workers_give_it():
    assert lane.WAITING_FOR_POST == WAITING_FOR_POST


parts = st.tuples(
    st.sampled_from(["startup", "plan", "render", "idle", "teardown"]),
    st.integers(0, 10**6),
    st.sampled_from(["", "no work", WAITING_FOR_POST, "loading", "recovering"]),
)


@given(
    shifts=st.lists(st.tuples(st.lists(parts, max_size=8), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=4)
)
def test_the_uses_add_up_to_the_lives_in_time_and_in_shares(shifts):
    lives, spans = [], []
    for number, (worked, start_ms, ms) in enumerate(shifts):
        lives.append(a_life(start_ms + ms, start_ms=start_ms, worker=f"w{number}"))
        spans += spans_of(*worked, worker=f"w{number}")
    use = use_of(lives, spans)
    uses = list(use.uses())
    assert sum(each.ms for each in uses) == use.total_ms == sum(life.ms for life in lives)
    assert sum(each.share for each in uses) == (1_000 if use.total_ms else 0)
    assert sum(use.by_state_ms.values()) == use.total_ms
    assert use.busy_ms + sum(use.idle_ms_by_cause.values()) == use.up_ms

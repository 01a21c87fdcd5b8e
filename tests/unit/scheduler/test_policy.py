"""The policy says which call the engine makes next; the time of a call is shared by its takes."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.sidecar import StageTimes
from catalog.spec import Bounds, PlannerSpec
from tests.support.fakes import a_plan
from tests.support.makers import a_take
from workers.scheduler.policy import PATIENCE_ROUNDS, CallLimits, next_call, planner_call, take_out
from workers.scheduler.request import EngineCall, Request
from workers.scheduler.results import share_ms, share_times

PLANNER = PlannerSpec()


def waiting(slot: int, *, duration_s: int = 10, planned: bool | None = None, alone: bool = False) -> Request:
    """A waiting take; `planned` None: it wants no plan, False: not yet planned, True: planned."""
    take = a_take(f"{slot:04d}", duration_s=duration_s, planner=None if planned is None else PLANNER)
    return Request(take, alone, a_plan(take) if planned else None, arrival=slot)


def limits(batch: int = 2, plan: int = 4) -> CallLimits:
    return CallLimits(lambda bucket: batch, lambda bucket: plan if bucket.planner else 0)


backlogs = st.lists(
    st.builds(
        waiting,
        st.integers(1, 9999),
        duration_s=st.sampled_from([10, 20, 30]),
        planned=st.sampled_from([None, False, True]),
        alone=st.booleans(),
    ),
    max_size=20,
)
some_limits = st.builds(limits, st.integers(0, 8), st.integers(0, 12))


def carry_out(call: EngineCall) -> list[Request]:
    """The requests that wait again when the engine has made `call`."""
    if call.kind == "render":
        return []
    for each in call.takes:
        each.use_plan(a_plan(each.take))
    return call.takes


@given(waits=backlogs, held=some_limits)
def test_call_after_call_every_take_is_planned_if_it_wants_and_rendered_once(waits, held):
    rendered: list[Request] = []
    left = list(waits)
    while call := next_call(left, held):
        limit = held.batch if call.kind == "render" else held.plan
        assert len(call.takes) <= max(1, *(limit(each.bucket) for each in call.takes))
        if call.kind == "render":
            assert len({each.bucket for each in call.takes}) == 1
            assert not any(each.wants_plan and held.plan(each.bucket) for each in call.takes)
            rendered += call.takes
        else:
            assert all(each.wants_plan for each in call.takes)
        assert len(call.takes) == 1 or not any(each.alone for each in call.takes)
        left = [*carry_out(call), *take_out(call, left)]
    assert not left
    assert sorted(map(id, rendered)) == sorted(map(id, waits))


@given(
    waits=backlogs.filter(bool), newcomers=st.lists(backlogs.filter(bool), min_size=60, max_size=60), held=some_limits
)
@settings(max_examples=30)  # each is sixty calls long
def test_no_take_is_overtaken_for_ever_whatever_keeps_coming(waits, newcomers, held):
    oldest, left = waits[0], waits
    for new in newcomers:
        call = next_call(left, held)
        assert call is not None
        back = carry_out(call)
        left = [*sorted([*back, *take_out(call, left)], key=left.index), *new]
        assert oldest.overtaken <= PATIENCE_ROUNDS * 12 + 8


def test_a_full_batch_goes_before_planning_and_planning_before_a_batch_that_is_not_full():
    waits = [waiting(1, planned=False), *(waiting(n, planned=True) for n in (2, 3, 4))]
    assert shape(next_call(waits, limits())) == ("render", [2, 3])
    waits = take_out(next_call(waits, limits()), waits)
    assert shape(next_call(waits, limits())) == ("plan", [1])
    waits = take_out(next_call(waits, limits()), waits)
    assert shape(next_call(waits, limits())) == ("render", [4])


def test_of_the_buckets_that_fill_a_batch_the_one_that_has_waited_longest_goes():
    waits = [waiting(1, duration_s=30)]
    waits += [waiting(n, duration_s=20 if n % 2 else 10) for n in range(2, 8)]
    assert shape(next_call(waits, limits(batch=3))) == ("render", [2, 4, 6])


def test_those_nearest_in_length_to_the_oldest_are_planned_together_shortest_first():
    lengths = {1: 60, 2: 300, 3: 90, 4: 30, 5: 65, 6: 240}
    waits = [waiting(n, duration_s=s, planned=False) for n, s in lengths.items()]
    assert shape(next_call(waits, limits(plan=4))) == ("plan", [4, 1, 5, 3])


def test_a_planner_call_keeps_the_limit_of_the_longest_in_it():
    by_length = CallLimits(lambda bucket: 2, lambda bucket: 4 if bucket.duration_s <= 60 else 2)
    waits = [waiting(n, duration_s=s, planned=False) for n, s in {1: 50, 2: 60, 3: 70, 4: 55}.items()]
    call = next_call(waits, by_length)
    assert shape(call) == ("plan", [1, 4, 2])
    assert call.is_full  # one more would be longer, and of those it holds only two
    assert shape(next_call(waits[2:3] + waits[:2], by_length)) == ("plan", [2, 3])


def test_a_suspect_is_called_alone_and_only_when_its_turn_has_come():
    waits = [waiting(1), waiting(2, alone=True), waiting(3)]
    call = next_call(waits, limits(batch=4))
    assert shape(call) == ("render", [1, 3])
    assert not call.is_exclusive
    call = next_call(waits[1:], limits(batch=4))
    assert shape(call) == ("render", [2])
    assert call.is_exclusive
    assert shape(next_call([waiting(2, planned=False, alone=True)], limits())) == ("plan", [2])


def test_a_take_that_many_younger_ones_have_overtaken_goes_at_once():
    left, waits = waiting(1, duration_s=20, planned=True), [waiting(n, planned=True) for n in range(2, 100)]
    waits.insert(0, left)
    before = 0
    while left in waits:
        call = next_call(waits, limits(batch=2, plan=4))
        waits = take_out(call, waits)
        before += len(call.takes)
    assert before - 1 == PATIENCE_ROUNDS * 4


def test_only_younger_takes_overtake():
    first, second, third = waiting(1, duration_s=20), waiting(2), waiting(3, duration_s=20)
    take_out(EngineCall("render", [second], is_full=False), [first, second, third])
    assert (first.overtaken, third.overtaken) == (1, 0)
    take_out(EngineCall("plan", [second], is_full=False), [first, second, third])
    assert first.overtaken == 1  # to be planned is not to be rendered


def test_without_a_planner_takes_that_want_one_go_to_the_engine_as_they_are():
    waits = [waiting(1, planned=False), waiting(2, planned=False)]
    assert shape(next_call(waits, limits(plan=0))) == ("render", [1, 2])
    assert planner_call(waits, limits(plan=0)) is None


def test_planning_may_go_on_while_nothing_can_be_rendered():
    waits = [waiting(1, planned=True), waiting(2, planned=True), waiting(3, planned=False)]
    assert shape(planner_call(waits, limits())) == ("plan", [3])
    assert planner_call(waits[:2], limits()) is None


def test_a_limit_below_one_still_moves():
    assert shape(next_call([waiting(1)], limits(batch=0))) == ("render", [1])
    assert next_call([], limits()) is None


def test_a_planned_take_goes_with_those_of_the_length_it_was_given():
    bounds = Bounds(duration_s=(20, 60))
    planner = PlannerSpec(metadata="fill", open=("duration",))
    take = a_take("0001", duration_s=60, bounds=bounds, planner=planner)
    each = Request(take)
    assert (each.bucket.duration_s, each.audio_bytes) == (60, 60 * 48_000 * 2 * 4)
    each.use_plan(a_plan(take))
    assert (each.bucket.duration_s, each.audio_bytes) == (20, 20 * 48_000 * 2 * 4)


@given(ms=st.tuples(*[st.integers(0, 10**6)] * 4), size=st.integers(1, 9))
def test_shares_of_a_calls_time_add_up_to_it(ms, size):
    times = StageTimes(plan_ms=ms[0], encode_ms=ms[1], diffuse_ms=ms[2], decode_ms=ms[3])
    shares = share_times(times, size)
    assert sum(share.plan_ms for share in shares) == times.plan_ms
    assert sum(share.engine_ms for share in shares) == times.engine_ms
    assert max(share.diffuse_ms for share in shares) - min(share.diffuse_ms for share in shares) <= 1
    assert sum(share_ms(ms[0], size)) == ms[0]


def shape(call: Any) -> tuple[str, list[int]]:
    """The kind of a call and the slots of its takes."""
    return call.kind, [each.arrival for each in call.takes]

"""Limits that are learnt from what did not fit, and unlearnt again."""

from __future__ import annotations

from catalog.buckets import Bucket
from catalog.tiers import BatchLimit
from tests.support.makers import a_spec
from workers.scheduler.limits import RECOVERY_CALLS, Capacity

SHORT, LONG = Bucket.of(a_spec(duration_s=10)), Bucket.of(a_spec(duration_s=60))


def a_capacity(takes: int = 8) -> Capacity:
    capacity = Capacity()
    for bucket in (SHORT, LONG):
        capacity.ask(lambda _: BatchLimit(takes, "test"), bucket)
    return capacity


def fit(capacity: Capacity, times: int, bucket: Bucket = SHORT) -> list[int]:
    """The limits that were recovered on the way."""
    return [limit for _ in range(times) if (limit := capacity.note_success(bucket))]


def test_what_did_not_fit_lowers_the_limit_of_its_bucket_alone():
    capacity = a_capacity()
    capacity.shrink(SHORT, 2)
    assert (capacity.of(SHORT), capacity.of(LONG)) == (2, 8)


def test_a_lowered_limit_doubles_after_a_run_of_calls_that_fit_up_to_the_engines_own():
    capacity = a_capacity(takes=7)
    capacity.shrink(SHORT, 2)
    assert fit(capacity, RECOVERY_CALLS - 1) == []
    assert fit(capacity, RECOVERY_CALLS) == [4]
    assert fit(capacity, 10 * RECOVERY_CALLS) == [7]
    assert capacity.of(SHORT) == 7


def test_a_call_that_does_not_fit_starts_the_run_again():
    capacity = a_capacity()
    capacity.shrink(SHORT, 4)
    fit(capacity, RECOVERY_CALLS - 1)
    capacity.shrink(SHORT, 2)
    assert fit(capacity, RECOVERY_CALLS - 1) == []
    assert fit(capacity, RECOVERY_CALLS, LONG) == []
    assert fit(capacity, 1) == [4]


def test_another_engine_is_asked_anew_and_what_did_not_fit_is_remembered():
    capacity = a_capacity()
    capacity.shrink(SHORT, 2)
    capacity.forget()
    assert not capacity.knows(SHORT)
    capacity.ask(lambda _: BatchLimit(16, "test"), SHORT)
    assert capacity.of(SHORT) == 2


def test_a_larger_call_that_fails_late_does_not_raise_a_lowered_limit():
    capacity = a_capacity(8)
    capacity.shrink(SHORT, 2)
    capacity.shrink(SHORT, 4)
    assert capacity.of(SHORT) == 2

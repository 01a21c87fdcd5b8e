"""Waits grow, are bounded and end; an outage knows when it began and when it is over."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.retry import Backoff, Outage


def test_waits_double_up_to_the_longest() -> None:
    assert list(islice(Backoff(0.2, 1.0).waits_s(), 5)) == [0.2, 0.4, 0.8, 1.0, 1.0]


def test_with_jitter_no_two_writers_wait_alike_and_none_longer_than_without() -> None:
    ours, theirs = (list(islice(Backoff(0.1, 0.8, jitter=0.5).waits_s(), 4)) for _ in range(2))
    assert ours != theirs
    assert all(
        longest_s / 2 <= wait_s <= longest_s for wait_s, longest_s in zip(ours, (0.1, 0.2, 0.4, 0.8), strict=True)
    )


@given(first_s=st.floats(0.01, 10), longest_s=st.floats(10, 60), factor=st.floats(1, 4), patience_s=st.floats(0, 500))
def test_waits_add_up_to_the_patience(first_s: float, longest_s: float, factor: float, patience_s: float) -> None:
    waits_s = list(Backoff(first_s, longest_s, factor, patience_s).waits_s())
    assert sum(waits_s) == pytest.approx(patience_s)
    assert all(0 < wait_s <= longest_s for wait_s in waits_s)


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends() -> None:
    now_s = 100.0
    outage = Outage(Backoff(1, 8, patience_s=30), clock=lambda: now_s)
    assert not outage.ended()
    assert (outage.failed(), outage.next_wait_s()) == (True, 1)
    now_s += 5
    assert (outage.failed(), outage.next_wait_s(), outage.lasted_s) == (False, 2, 5)
    assert (outage.ended(), outage.ended(), outage.is_on, outage.lasted_s) == (True, False, False, 0)


def test_a_second_outage_begins_with_the_first_wait() -> None:
    outage = Outage(Backoff(1, 8))
    for _ in range(2):
        outage.failed()
        assert [outage.next_wait_s() for _ in range(3)] == [1, 2, 4]
        outage.ended()

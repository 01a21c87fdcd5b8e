"""Of what is kept for speed, whatever was used longest ago goes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.ace_step.lru import Lru


def test_what_was_used_longest_ago_goes_first():
    kept: Lru[str, int] = Lru(2)
    assert kept.put("a", 1) == 1
    kept.put("b", 2)
    assert kept.find("a") == 1  # used again, so b is older now
    kept.put("c", 3)
    assert [kept.find(key) for key in "abc"] == [1, None, 3]
    assert list(kept.values()) == [1, 3]


def test_putting_again_replaces_the_value_and_is_a_use():
    kept: Lru[str, int] = Lru(2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        kept.put(key, value)
    assert list(kept.values()) == [3, 4]


def test_looking_at_the_values_is_no_use():
    kept: Lru[str, int] = Lru(2)
    for key, value in (("a", 1), ("b", 2)):
        kept.put(key, value)
    assert list(kept.values()) == [1, 2]
    kept.put("c", 3)
    assert list(kept.values()) == [2, 3]


def test_without_a_limit_the_owner_takes_out_what_goes():
    kept: Lru[int, int] = Lru()
    for number in range(100):
        kept.put(number, number)
    assert (len(kept), kept.pop_oldest(), kept.pop(50), kept.pop(50)) == (100, 0, 50, None)
    kept.clear()
    assert len(kept) == 0
    with pytest.raises(KeyError):
        kept.pop_oldest()


@given(st.integers(0, 4), st.lists(st.tuples(st.booleans(), st.integers(0, 6))))
def test_it_keeps_the_keys_of_the_last_uses_and_no_more(keep: int, uses: list[tuple[bool, int]]):
    kept: Lru[int, int] = Lru(keep)
    order: list[int] = []  # keys, the one used longest ago first
    for puts, key in uses:
        known = key in order
        assert (kept.put(key, key) if puts else kept.find(key)) == (key if puts or known else None)
        if puts or known:
            order = [other for other in order if other != key] + [key]
            order = order[len(order) - min(keep, len(order)) :]
        assert list(kept.values()) == order

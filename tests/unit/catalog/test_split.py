"""Splitting an amount loses nothing, favours nobody and does not care for order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import TunemillError
from catalog.split import split

weights = st.dictionaries(st.text(max_size=4), st.integers(0, 10**15), min_size=1, max_size=30)
totals = st.integers(-(10**18), 10**18)


@given(total=totals, weights=weights)
def test_shares_add_up_to_the_amount_exactly(total, weights):
    if not sum(weights.values()):
        total = 0
    assert sum(split(total, weights).values()) == total


@given(total=totals, weights=weights)
def test_a_share_is_within_one_of_the_ideal_one_and_a_zero_weight_gets_nothing(total, weights):
    whole = sum(weights.values())
    if whole:
        for key, share in split(total, weights).items():
            assert abs(share * whole - total * weights[key]) < whole
            assert weights[key] or share == 0


@given(total=totals, weights=weights, seed=st.integers())
def test_the_order_of_the_input_is_irrelevant(total, weights, seed):
    if sum(weights.values()):
        shuffled = list(weights.items())
        random.Random(seed).shuffle(shuffled)
        assert split(total, dict(shuffled)) == split(total, weights)


@given(total=totals, weights=weights)
def test_a_reversal_undoes_what_it_reverses(total, weights):
    if sum(weights.values()):
        assert split(-total, weights) == {key: -share for key, share in split(total, weights).items()}


def test_left_over_micros_go_to_the_largest_remainders_and_ties_by_key():
    assert split(100, {"a": 1, "b": 1, "c": 1}) == {"a": 34, "b": 33, "c": 33}
    assert split(10, {"a": 19, "b": 81}) == {"a": 2, "b": 8}


def test_an_amount_that_nothing_can_carry_is_an_error():
    with pytest.raises(TunemillError, match="nothing can carry"):
        split(5, {"a": 0})
    with pytest.raises(TunemillError, match="negative weight"):
        split(5, {"a": 2, "b": -1})
    assert split(0, {"a": 0}) == {"a": 0}

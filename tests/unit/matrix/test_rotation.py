"""Rotation: no combination twice before all were shown, neighbours differ, and growth changes nothing."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.matrix.rotation import odometer
from orchestrator.matrix.titles import Titles

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=5)
KEYS = st.integers(0, 2**64 - 1)


def named(sizes: list[int]) -> list[tuple[str, int]]:
    return [(f"wheel{number}", size) for number, size in enumerate(sizes)]


@settings(max_examples=60)
@given(SIZES, KEYS, st.integers(1, 4))
def test_a_sequence_shows_each_combination_once_before_any_twice(sizes: list[int], key: int, sequences: int) -> None:
    turning = odometer(key, named(sizes), sequences)
    for sequence in range(sequences):
        shown = {tuple(turning.positions(count, sequence)) for count in range(turning.combinations)}
        assert len(shown) == turning.combinations


@given(SIZES, KEYS, st.integers(0, 10**9))
def test_positions_are_inside_their_wheels(sizes: list[int], key: int, count: int) -> None:
    positions = odometer(key, named(sizes)).positions(count)
    assert all(0 <= position < size for position, size in zip(positions, sizes, strict=True))


@given(KEYS, st.integers(0, 500))
def test_the_first_wheels_prefix_does_not_depend_on_the_wheels_behind_it(key: int, count: int) -> None:
    few, many = odometer(key, named([5, 4])), odometer(key, named([5, 4, 3]))
    assert many.positions(count)[:2] == few.positions(count)


def test_neighbours_differ_in_most_places() -> None:
    turning = odometer(7, named([6, 5, 8, 4, 31]))
    rows = [turning.positions(count) for count in range(200)]
    same = [sum(a == b for a, b in zip(one, two, strict=True)) for one, two in itertools.pairwise(rows)]
    assert sum(same) / len(same) < 1.5


def test_every_entry_comes_equally_often() -> None:
    turning = odometer(7, named([6, 5, 8, 4]))
    for wheel, size in enumerate([6, 5, 8, 4]):
        counts = Counter(turning.positions(count)[wheel] for count in range(240))
        assert max(counts.values()) - min(counts.values()) <= 240 // size * 0.2 + 6 * (wheel > 0)
        assert len(counts) == size


def test_tempo_covers_its_range_early() -> None:
    turning = odometer(3, [("instruments", 6), ("tempo", 60)])
    tempos = sorted(turning.positions(count)[1] for count in range(24))
    assert max(b - a for a, b in itertools.pairwise(tempos)) <= 12


def test_titles_differ_until_all_pairs_are_used_and_then_carry_a_number() -> None:
    titles = Titles("c", "z", "g", (["Steam", "Stone"], ["Drift", "stone"]))
    shown = [titles.title(number) for number in range(18)]
    assert len(set(shown)) == 18
    assert not any(title.endswith("No. 2") for title in shown[:6])
    assert all(title.endswith("No. 2") for title in shown[6:12])

"""Moves: a plan says when one number for all cells moves tracks from cell to cell."""

from __future__ import annotations

from orchestrator.planning.moves import notes_on_moves
from orchestrator.planning.plan import CatalogPlan
from tests.unit.planning.test_plan import a_plan, a_track, as_known, wanted

SHARED = 6


def some(genre: str, count: int) -> list:
    return [wanted(a_track(genre=genre, slot=f"{number:04d}")) for number in range(1, count + 1)]


def changed(before: list, after: list) -> CatalogPlan:
    return a_plan(after, as_known(before))


def test_tracks_that_a_removed_genre_leaves_to_others_are_told_with_it() -> None:
    plan = changed([*some("ambient", 3), *some("jazz", 3)], some("ambient", 6))
    assert notes_on_moves(plan, SHARED) == [
        "'tracks: 6' gives 3 new takes to cells that were there before, in place of the 3 of jazz; "
        "lower 'tracks' to leave the others as they are"
    ]


def test_tracks_that_an_added_genre_takes_from_others_are_told_with_it() -> None:
    plan = changed(some("ambient", 6), [*some("ambient", 2), *some("jazz", 2), *some("funk", 2)])
    assert notes_on_moves(plan, SHARED) == [
        "'tracks: 6' takes 4 takes from cells that were there before, for funk, jazz; "
        "raise 'tracks' to leave the others as they are"
    ]


def test_nothing_is_told_where_no_track_moves() -> None:
    ambient, jazz = some("ambient", 3), some("jazz", 3)
    assert notes_on_moves(changed([], [*ambient, *jazz]), SHARED) == []  # a first plan
    assert notes_on_moves(changed([*ambient, *jazz], ambient), SHARED) == []  # 'tracks' was lowered with it
    assert notes_on_moves(changed(ambient, [*ambient, *jazz]), SHARED) == []  # and raised with it
    assert notes_on_moves(changed(ambient, some("ambient", 6)), SHARED) == []  # more of the same
    assert notes_on_moves(changed([*ambient, *jazz], some("ambient", 6)), None) == []  # a number for each cell

"""Selections: a part of the plan is just what was asked for, and no typing error selects nothing in silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import SettingsError, UnknownNameError
from catalog.spec import TrackSpec
from catalog.track import Track
from orchestrator.ledger import KnownTake
from orchestrator.matrix import PlannedTrack
from orchestrator.planning.plan import CellName, StandingCounts, plan_tracks
from orchestrator.planning.selection import Places, Selection, parse_axes, parse_sample

MORNING, EVENING = {"daypart": "morning"}, {"daypart": "evening"}


def a_track(zone="spa", genre="ambient", axes=MORNING, slot="0001", *, bpm=70) -> Track:
    spec = TrackSpec(caption="a calm pad", bpm=bpm, keyscale="C major", duration_s=120)
    return Track(catalog="hotels", zone=zone, genre=genre, axes=axes, slot=slot, spec=spec)


PLANNED = [
    PlannedTrack(a_track(zone, genre, axes, f"{slot:04d}"), 2)
    for zone in ("spa", "lobby")
    for genre in ("ambient", "jazz")
    for axes in (MORNING, EVENING)
    for slot in range(3)
]  # 8 cells of 3 tracks with 2 takes each


def a_plan(selection=None, known=None, planned=PLANNED):
    more = {} if selection is None else {"selection": selection}
    return plan_tracks(lambda: planned, known or {}, catalog="hotels", title="Hotels", model="tone", **more)


def slots(plan):
    return [(take.track.key, take.number) for take in plan.takes()]


def as_known(takes, state="accepted"):
    return {(take.track.key, take.number): KnownTake(take.id, state, "tone") for take in takes}


@pytest.mark.parametrize(
    ("places", "takes"),
    [
        (Places(), 48),
        (Places(("spa",)), 24),
        (Places(("spa", "lobby")), 48),
        (Places((), ("jazz",)), 24),
        (Places(("spa",), ("jazz",)), 12),
        (Places(axes={"daypart": ("morning",)}), 24),
        (Places(("spa",), ("jazz",), {"daypart": ("morning", "evening")}), 12),
    ],
)
def test_a_place_selects_its_own_takes(places, takes):
    plan = a_plan(Selection(places))
    assert (plan.counts.new, plan.planned) == (takes, 48)
    chosen = list(plan.takes())
    assert len(chosen) == takes
    assert all(places.has(take.track) for take in chosen)


def test_a_sample_is_the_first_take_of_some_tracks_of_each_cell():
    one, two, many = (a_plan(Selection(per_cell=count)) for count in (1, 2, 99))
    assert {cell: counts.new for cell, counts in one.cells.items()} == dict.fromkeys(one.cells, 1)
    assert len(one.cells) == 8
    assert CellName("spa", "jazz", (("daypart", "evening"),)) in one.cells
    assert (two.counts.new, many.counts.new) == (16, 24)
    assert {number for _, number in slots(many)} == {1}
    assert set(slots(one)) < set(slots(two)) < set(slots(many)) < set(slots(a_plan()))


def test_a_sample_that_was_made_is_not_followed_by_another():
    first = a_plan(Selection(per_cell=1))
    again = a_plan(Selection(per_cell=1), as_known(first.takes()))
    assert (again.to_render, again.counts.unchanged) == (0, 8)


def test_a_limit_takes_the_first_that_are_missing_and_the_next_time_the_next():
    first = a_plan(Selection(limit=5))
    assert slots(first) == slots(a_plan())[:5]
    second = a_plan(Selection(limit=5), as_known(first.takes()))
    assert slots(second) == slots(a_plan())[5:10]
    assert a_plan(Selection(limit=5), as_known(a_plan().takes())).to_render == 0


def test_places_sample_and_limit_hold_together():
    plan = a_plan(Selection(Places(("lobby",)), per_cell=2, limit=3))
    assert slots(plan) == [
        ("hotels/lobby/ambient/daypart=morning/0000", 1),
        ("hotels/lobby/ambient/daypart=morning/0001", 1),
        ("hotels/lobby/ambient/daypart=evening/0000", 1),
    ]


def test_what_is_not_selected_is_neither_replaced_nor_retired_nor_dropped():
    before = [
        PlannedTrack(a_track(zone, slot=slot, bpm=90), 2) for zone in ("spa", "lobby", "gone") for slot in ("0000", "9")
    ]
    known = as_known(take for each in before for take in (each.track.take(1), each.track.take(2)))
    whole, part = a_plan(None, known), a_plan(Selection(Places(("spa",))), known)
    assert (whole.changes.replaced.total(), whole.changes.retired.total(), len(whole.dropped)) == (4, 8, 8)
    assert (part.changes.replaced.total(), part.changes.retired.total(), len(part.dropped)) == (2, 0, 0)


def test_what_an_unfinished_run_has_beside_the_selection_is_counted():
    waiting = list(a_plan(Selection(Places(("spa",)))).takes())
    known = as_known(waiting, "waiting") | as_known([a_track("gone").take(1)], "sent")
    assert a_plan(Selection(Places(("spa",))), known).others_pending == 1
    assert a_plan(Selection(Places(("lobby",))), known).others_pending == 25
    assert a_plan(Selection(Places(("spa",))), as_known(waiting, "failed")).others_pending == 0


@pytest.mark.parametrize(
    ("places", "what", "fix"),
    [
        (Places(("spaa",)), "no zone 'spaa'", "write --zone spa"),
        (Places(("Spa",)), "no zone 'Spa'", "write --zone spa"),
        (Places((), ("jaz",)), "no genre 'jaz'", "write --genre jazz"),
        (Places(axes={"day": ("morning",)}), "no axis 'day'", "write --axis daypart=VALUE"),
        (Places(axes={"daypart": ("mornin",)}), "no daypart 'mornin'", "write --axis daypart=morning"),
        (Places(axes={"zone": ("spa",)}), "'zone' is not a further axis", "write --zone spa"),
        (Places(("xyz",)), "no zone 'xyz'", "as in --zone lobby"),
    ],
)
def test_a_name_that_the_catalog_does_not_have_is_told_with_the_right_one(places, what, fix):
    for selection in (Selection(places), Selection(places, per_cell=1), Selection(places, limit=1)):
        with pytest.raises(UnknownNameError) as told:
            a_plan(selection)
        assert what in told.value.what
        assert fix in told.value.fix
        assert told.value.exit_code == 10


def test_names_that_exist_but_not_together_select_nothing_and_that_is_told():
    planned = [each for each in PLANNED if (each.track.zone, each.track.genre) != ("spa", "jazz")]
    with pytest.raises(UnknownNameError, match="no take of 'hotels'"):
        a_plan(Selection(Places(("spa",), ("jazz",))), planned=planned)


def test_axes_and_samples_are_read_as_people_write_them():
    assert parse_axes(["daypart=morning", " daypart = late ", "season=winter"]) == {
        "daypart": ("morning", "late"),
        "season": ("winter",),
    }
    assert [parse_sample(text) for text in ("1-per-cell", "12", "3 per cell", "3PerCell")] == [1, 12, 3, 3]


@pytest.mark.parametrize("text", ["morning", "=morning", "daypart=", "", "="])
def test_an_axis_without_a_value_is_told(text):
    with pytest.raises(SettingsError) as told:
        parse_axes([text])
    assert "AXIS=VALUE" in told.value.fix


@pytest.mark.parametrize("text", ["0", "-1", "all", "", "1-per-zone", "1.5", "0-per-cell"])
def test_a_sample_without_a_number_is_told(text):
    with pytest.raises(SettingsError) as told:
        parse_sample(text)
    assert "1-per-cell" in told.value.fix


@given(
    zones=st.sets(st.sampled_from(["spa", "lobby"])),
    per_cell=st.none() | st.integers(1, 4),
    limit=st.none() | st.integers(1, 50),
    made=st.integers(0, 48),
)
def test_a_selection_counts_only_itself_and_its_takes_are_those_of_the_plan(zones, per_cell, limit, made):
    whole = list(a_plan().takes())
    known = as_known(whole[:made])
    plan = a_plan(Selection(Places(tuple(zones)), per_cell, limit), known)
    chosen = [take.id for take in plan.takes()]
    assert [take.id for take in whole if take.id in set(chosen)] == chosen
    assert plan.counts.total == len(chosen)
    assert plan.counts == StandingCounts(new=plan.to_render, unchanged=len(chosen) - plan.to_render)
    assert limit is None or len(chosen) <= limit

"""Changes: each slot that a run would touch, once, with what differs; where only a name is new, a rename is guessed."""

from __future__ import annotations

import pytest

from catalog.spec import TrackSpec
from catalog.track import Take, Track
from orchestrator.ledger import KnownTake
from orchestrator.matrix import PlannedTrack
from orchestrator.planning.changes import ChangeKind, Difference, differences, in_words, list_changes
from orchestrator.planning.plan import plan_tracks
from orchestrator.planning.renames import hint_at_renamed_catalog, hint_at_renamed_places
from orchestrator.planning.selection import Places, Selection


def a_track(slot="0001", *, zone="spa", genre="ambient", seed=None, **spec) -> Track:
    known = {"caption": "a calm pad", "bpm": 70, "keyscale": "C major", "duration_s": 120}
    return Track(catalog="hotels", zone=zone, genre=genre, slot=slot, seed=seed, spec=TrackSpec(**{**known, **spec}))


def a_plan(tracks, known=None, shelved=None, **more):
    planned = [PlannedTrack(track, 1) for track in tracks]
    return plan_tracks(
        lambda: planned, known or {}, shelved or {}, catalog="hotels", title="Hotels", model="tone", **more
    )


def as_known(takes, state="accepted"):
    return {(take.track.key, take.number): KnownTake(take.id, state, "tone") for take in takes}


def changes_of(tracks, before: list[Take], known, shelved=None, **more):
    made = {take.id: take for take in before}
    return list(list_changes(a_plan(tracks, known, shelved, **more), lambda ids: made, known, shelved or {}))


def test_each_kind_of_change_is_listed_once_and_what_stays_is_not():
    same, old, gone, waiting = a_track("1"), a_track("2", bpm=70), a_track("3"), a_track("4")
    new, fresh, back = a_track("2", bpm=72), a_track("5"), a_track("6")
    before = [track.take() for track in (same, old, gone, waiting, back)]
    known = as_known(before[:3]) | as_known(before[3:4], "failed")
    found = changes_of([same, new, fresh, back], before, known, {back.take().id: "accepted"})
    assert [(change.kind, change.take.track.slot, change.is_leaving) for change in found] == [
        (ChangeKind.CHANGED, "2", True),
        (ChangeKind.NEW, "5", False),
        (ChangeKind.RESTORED, "6", False),
        (ChangeKind.RETIRED, "3", True),
        (ChangeKind.DROPPED, "4", False),
    ]
    assert found[0].differences == (Difference("bpm", 70, 72),)
    assert found[0].as_plain_values()["differs"] == {"bpm": [70, 72]}
    assert found[0].as_plain_values()["replaces"] == old.take().id


def test_a_selection_lists_its_own_changes_and_nothing_as_retired():
    old = [a_track("1", zone=zone, bpm=70).take() for zone in ("spa", "lobby", "gone")]
    tracks = [a_track("1", zone=zone, bpm=71) for zone in ("spa", "lobby")]
    found = changes_of(tracks, old, as_known(old), selection=Selection(Places(("spa",))))
    assert [(change.kind, change.take.track.zone) for change in found] == [(ChangeKind.CHANGED, "spa")]


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        ({}, {"caption": "a warm pad"}, {"caption"}),
        ({}, {"master": {"loudness_lufs": -18}}, {"master.loudness_lufs"}),
        ({}, {"diffusion": {"steps": 12}}, {"diffusion.steps"}),
        ({}, {"model": "tone"}, {"model"}),
        ({}, {"seed": 7}, {"seed"}),
        ({}, {"planner": {"temperature": 0.5}, "bpm": 71}, {"planner.temperature", "bpm"}),
    ],
)
def test_what_differs_is_named_by_its_field(old, new, fields):
    assert {each.field for each in differences(a_track(**old).take(), a_track(**new).take())} == fields


def test_a_planner_that_is_turned_off_differs_in_all_its_settings():
    fields = {each.field for each in differences(a_track().take(), a_track(planner=None).take())}
    assert "planner.model" in fields


def test_long_texts_are_shown_from_where_they_begin_to_differ():
    old, new = "a calm and slow ambient piece with felt piano", "a calm and slow ambient piece with glass bells"
    assert in_words([Difference("caption", old, new)]) == "caption ...felt piano → ...glass bells"
    assert in_words([Difference("bpm", 70, None), Difference("lyrics", "", "la")]) == "bpm 70 → none; lyrics none → la"
    long = in_words([Difference("caption", "x" * 500, "y" * 500)])
    assert len(long) < 90


def a_catalog(zones=("spa", "lobby"), genres=("ambient", "jazz"), count=2):
    return [a_track(str(n), zone=zone, genre=genre) for zone in zones for genre in genres for n in range(count)]


def test_a_zone_or_genre_that_only_has_another_name_is_suspected():
    known = as_known(track.take() for track in a_catalog())
    (zone,) = hint_at_renamed_places(a_plan(a_catalog(zones=("thermal", "lobby")), known))
    (genre,) = hint_at_renamed_places(a_plan(a_catalog(genres=("ambient", "swing")), known))
    assert "`renamed_from: spa` in zones/thermal.yaml" in zone
    assert "`renamed_from: jazz` in genres/swing.yaml" in genre


def test_other_changes_are_no_renames():
    known = as_known(track.take() for track in a_catalog())
    for now in (
        a_catalog(),
        a_catalog(zones=("spa", "lobby", "thermal")),  # one more
        a_catalog(zones=("lobby",)),  # one less
        [*a_catalog(zones=("lobby",)), *a_catalog(zones=("thermal",), count=3)],  # another shape
        a_catalog(zones=("thermal", "pool", "lobby")),  # two may be meant
    ):
        assert hint_at_renamed_places(a_plan(now, known)) == []


def test_a_catalog_that_only_has_another_name_is_suspected():
    plan, shape = a_plan(a_catalog()), {(z, g): 2 for z in ("spa", "lobby") for g in ("ambient", "jazz")}
    (hint,) = hint_at_renamed_catalog(plan, {"inns": shape, "other": {("spa", "ambient"): 2}}, {"other"})
    assert "`renamed_from: inns` in catalogs/hotels.yaml" in hint
    assert hint_at_renamed_catalog(plan, {"inns": shape}, {"inns"}) == []  # it is still there
    assert hint_at_renamed_catalog(plan, {"inns": shape, "pubs": shape}, set()) == []


def test_a_take_in_the_place_of_a_rejected_one_is_listed_as_such():
    track = a_track("1")
    refused = {(track.key, 1): {track.take().id}}
    (change,) = changes_of([track], [track.take()], as_known([track.take()], "rejected"), refused=refused, tries=1)
    assert (change.kind, change.take, change.is_leaving) == (ChangeKind.AGAIN, track.take(2), False)

"""The plan: every planned take counted once, and told apart from what the ledger has."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.spec import TrackSpec
from catalog.track import Track
from orchestrator.ledger import KnownTake
from orchestrator.matrix import PlannedTrack
from orchestrator.planning.plan import CellName, StandingCounts, plan_tracks


def a_track(zone="spa", genre="ambient", slot="0001", *, bpm=70, duration_s=120, planner=True) -> Track:
    more = {} if planner else {"planner": None}
    spec = TrackSpec(caption="a calm pad", bpm=bpm, keyscale="C major", duration_s=duration_s, **more)
    return Track(catalog="hotels", zone=zone, genre=genre, slot=slot, spec=spec)


def wanted(track: Track, takes: int = 1) -> PlannedTrack:
    return PlannedTrack(track, takes)


def a_plan(planned, known=None, shelved=None, **more):
    names = {"catalog": "hotels", "title": "Hotels", "model": "acestep-v15-turbo"}
    return plan_tracks(lambda: planned, known or {}, shelved or {}, **names, **more)


def as_known(planned, state="accepted"):
    takes = [each.track.take(number + 1) for each in planned for number in range(each.takes)]
    return {(take.track.key, take.number): KnownTake(take.id, state, "acestep-v15-turbo") for take in takes}


def test_without_a_ledger_everything_is_new():
    plan = a_plan([wanted(a_track(), 2), wanted(a_track(zone="lobby"))])
    assert plan.cells == {
        CellName("spa", "ambient"): StandingCounts(new=2),
        CellName("lobby", "ambient"): StandingCounts(new=1),
    }
    assert (plan.to_render, plan.audio_s, plan.dropped) == (3, 360, ())


@pytest.mark.parametrize(("state", "empty"), [("accepted", 0), ("rejected", 3)])
def test_what_was_judged_already_is_unchanged_and_not_rendered(state, empty):
    planned = [wanted(a_track(), 3)]
    plan = a_plan(planned, as_known(planned, state))
    assert plan.counts == StandingCounts(unchanged=3, empty=empty)
    assert (plan.counts.total, plan.counts.kept, plan.counts.missing) == (3, 3 - empty, empty)
    assert (plan.to_render, plan.audio_s, plan.loads) == (0, 0, ())


@pytest.mark.parametrize("state", ["waiting", "sent", "failed", "cancelled"])
def test_what_was_not_finished_is_still_to_be_rendered(state):
    planned = [wanted(a_track())]
    plan = a_plan(planned, as_known(planned, state))
    assert plan.counts == StandingCounts(unfinished=1)
    assert plan.to_render == 1


def test_a_changed_preset_is_changed_exactly_where_it_changed():
    before = [wanted(a_track(zone, genre, f"{n:04d}")) for zone in "ab" for genre in "xy" for n in range(3)]
    after = [
        wanted(a_track(each.track.zone, each.track.genre, each.track.slot, bpm=71))
        if (each.track.zone, each.track.genre) == ("b", "y")
        else each
        for each in before
    ]
    plan = a_plan(after, as_known(before))
    assert plan.cells[CellName("b", "y")] == StandingCounts(changed=3)
    assert plan.counts == StandingCounts(changed=3, unchanged=9)
    assert plan.dropped == ()


def test_takes_that_are_no_longer_planned_are_dropped():
    before = [wanted(a_track(slot="0001"), 2), wanted(a_track(slot="0002"))]
    after = [wanted(a_track(slot="0001"))]
    plan = a_plan(after, as_known(before))
    gone = {before[0].track.take(2).id, before[1].track.take(1).id}
    assert set(plan.dropped) == gone
    assert plan.counts == StandingCounts(unchanged=1)


def test_the_loads_say_what_of_each_bucket_is_missing():
    planned = [
        wanted(a_track(slot="0001", duration_s=180), 2),
        wanted(a_track(slot="0002", duration_s=60)),
        wanted(a_track(slot="0003", duration_s=60, planner=False)),
    ]
    known = as_known(planned[1:2])
    loads = {(load.bucket.planner, load.bucket.duration_s): load.takes for load in a_plan(planned, known).loads}
    assert loads == {("", 60): 1, ("acestep-5Hz-lm-1.7B", 180): 2}


def test_takes_are_streamed_again_all_of_them_and_the_same():
    planned = [wanted(a_track(), 2), wanted(a_track(zone="lobby"))]
    plan = a_plan(planned, as_known(planned))
    first, second = [take.id for take in plan.takes()], [take.id for take in plan.takes()]
    assert first == second == [known.take_id for known in as_known(planned).values()]


slots = st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers(0, 3), st.integers(1, 3))
catalogs = st.lists(slots, max_size=12, unique_by=lambda slot: slot[:3])


def planned_of(slots, bpm):
    return [wanted(a_track(zone, genre, str(n), bpm=bpm + n % 2), takes) for zone, genre, n, takes in slots]


@given(now=catalogs, before=catalogs, bpm=st.integers(70, 71))
def test_counts_add_up_to_the_takes_and_sums_to_each_other(now, before, bpm):
    planned = planned_of(now, 70)
    known = as_known(planned_of(before, bpm))
    plan = a_plan(planned, known)
    takes = list(plan.takes())
    assert plan.counts.total == len(takes) == sum(slot[3] for slot in now)
    assert plan.counts == StandingCounts(*map(sum, zip(*plan.by_zone().values(), strict=True))) if takes else True
    assert sum(counts.total for counts in plan.by_genre().values()) == len(takes)
    assert sum(load.takes for load in plan.loads) == plan.to_render
    ids = {take.id for take in takes}
    assert plan.counts.unchanged == sum(each.take_id in ids for each in known.values())
    assert len(plan.dropped) + plan.counts.changed + plan.counts.unchanged == len(known)
    assert Counter(take.track.zone for take in takes) == {z: c.total for z, c in plan.by_zone().items()}


def test_a_preset_changed_back_finds_what_was_made_for_it_before():
    first, then = [wanted(a_track(bpm=70), 2)], [wanted(a_track(bpm=71), 2)]
    made, cancelled = (first[0].track.take(number).id for number in (1, 2))
    plan = a_plan(first, as_known(then), {made: "accepted", cancelled: "cancelled"})
    assert plan.counts == StandingCounts(unchanged=1, unfinished=1)
    assert (plan.to_render, plan.restored) == (1, 1)
    assert a_plan(then, as_known(then), {made: "accepted"}).restored == 0


def test_a_track_dropped_and_planned_again_is_not_made_again():
    planned = [wanted(a_track())]
    plan = a_plan(planned, {}, {planned[0].track.take(1).id: "rejected"})
    assert (plan.counts, plan.restored) == (StandingCounts(unchanged=1, empty=1), 1)


def test_a_place_is_counted_once_whatever_takes_it_had():
    track, other = a_track(), a_track(slot="0002")
    planned = [wanted(track), wanted(other)]
    refused = {(track.key, 1): {track.take(1).id}}
    known = as_known(planned)
    plan = a_plan(planned, known, refused=refused, tries=1)
    assert plan.counts == StandingCounts(unchanged=1, again=1)
    assert (plan.planned, [(load.takes, load.again) for load in plan.loads]) == (2, [(1, 1)])
    assert [take.number for take in plan.takes()] == [1, 2, 1]
    second = KnownTake(track.take(2).id, "accepted", "acestep-v15-turbo")
    made = a_plan(planned, {**known, (track.key, 2): second}, refused=refused, tries=1)
    assert (made.counts, made.dropped, made.changes.retired.total()) == (StandingCounts(unchanged=2), (), 0)
    taken_back = a_plan(planned, {**known, (track.key, 2): second}, tries=1)
    assert (taken_back.counts, taken_back.changes.retired.total()) == (StandingCounts(unchanged=2), 1)


@pytest.mark.parametrize(("is_refused", "leaving"), [(False, 1), (True, 0)])
def test_only_what_the_catalog_lists_can_leave_it(is_refused, leaving):
    """A track that a listener has rejected is off the list already, whatever a run puts in its place."""
    was = a_track(bpm=100)
    known = {(was.key, 1): KnownTake(was.take().id, "accepted", "acestep-v15-turbo", is_refused=is_refused)}
    assert a_plan([wanted(a_track(bpm=90))], known).changes.replaced.total() == leaving
    assert a_plan([], known).changes.retired.total() == leaving


def test_advice_counts_the_tracks_that_are_to_be_rendered_each_once():
    long, made = wanted(a_track(duration_s=360), 3), wanted(a_track(zone="lobby", duration_s=360), 2)
    assert a_plan([long, made]).advice == ("2 tracks over 5 minutes, where the music may lose its structure",)
    assert a_plan([long, made], as_known([made])).advice[0].startswith("1 track over 5 minutes")
    assert a_plan([long, made], as_known([long, made])).advice == ()

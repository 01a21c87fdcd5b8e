"""Places of a catalog: each ends with one good take, within its tries, whatever is killed and whoever asks twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from catalog.messages import Record
from catalog.spec import MasterSpec
from catalog.track import Take, Track
from orchestrator.ledger import BegunRun, Ledger, open_ledger, readings, slots, work
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.run_control import CANCEL, PAUSE
from orchestrator.ledger.tables import RUN, TAKE, VERDICT
from orchestrator.ledger.verdicts import decide, record_verdicts
from orchestrator.matrix import PlannedTrack
from orchestrator.planning.plan import CatalogPlan, EmptyPlaces, StandingCounts, plan_tracks
from orchestrator.planning.selection import Selection
from orchestrator.upkeep.rebuild import rebuild
from orchestrator.upkeep.verdicts import store_verdicts
from tests.contract.test_golden_forms import GOLDEN, a_ledger_of
from tests.support.fakes import MemoryStore
from tests.support.farm import DOLLAR_AN_HOUR, attempt, started
from tests.support.makers import a_sidecar, a_track

TRACKS = [a_track(f"{slot:04d}") for slot in range(1, 4)]
ONE = TRACKS[:1]


def plan(ledger: Ledger, tracks: list[Track] = ONE, *, wanted: int = 1, tries: int = 2, **more: Any) -> CatalogPlan:
    """The plan of a catalog that wants so many takes of each track, held against the ledger."""
    known, shelved = ledger.known_takes("spa"), ledger.shelved_takes("spa")
    names = {"catalog": "spa", "title": "Spa", "model": "tone", "refused": ledger.refused_takes("spa")}
    return plan_tracks(
        lambda: [PlannedTrack(track, wanted) for track in tracks], known, shelved, tries=tries, **names, **more
    )


def begin(ledger: Ledger, planned: CatalogPlan) -> BegunRun:
    is_part = planned.selected is not None
    return ledger.begin_or_resume_run("spa", "tone", planned.due, tries=planned.tries, is_part=is_part)


def record(ledger: Ledger, *records: Record) -> None:
    with ledger.write() as connection:
        connection.execute(update(TAKE).values(orders=1))
        record_facts(connection, [started(), *records], lambda machine, at_ms: DOLLAR_AN_HOUR, 5_000)


def rejected(take: Take, run_id: str | None, *, audio_ms: int = 10_000, **more: Any) -> Record:
    return attempt(take, "rejected", run_id=run_id, reasons=["silent"], audio_ms=audio_ms, **more)


def accepted(take: Take, run_id: str | None) -> Record:
    return attempt(take, run_id=run_id)


def states(ledger: Ledger, track: Track = ONE[0]) -> dict[int, str]:
    """The state of each current take of the track, by number."""
    query = select(TAKE.c.number, TAKE.c.state).where(TAKE.c.track_key == track.key, TAKE.c.current)
    with ledger.read() as connection:
        return dict(connection.execute(query.order_by(TAKE.c.number)).all())


def finish(ledger: Ledger, run_id: str | None) -> list[str]:
    with ledger.write() as connection:
        return work.finish_runs(connection, [str(run_id)], 9_000)


def made_again(ledger: Ledger, run_id: str | None) -> int:
    with ledger.read() as connection:
        return slots.count_made_again(connection, str(run_id))


def test_the_next_take_waits_as_soon_as_one_is_rejected_and_the_run_is_not_over(ledger):
    run_id = begin(ledger, plan(ledger)).run_id
    record(ledger, rejected(ONE[0].take(), run_id))
    assert states(ledger) == {1: "rejected", 2: "waiting"}
    assert finish(ledger, run_id) == []
    record(ledger, accepted(ONE[0].take(2), run_id))
    assert finish(ledger, run_id) == [run_id]
    assert made_again(ledger, run_id) == 1
    with ledger.read() as connection:
        assert [each.take for each in readings.list_tracks(connection, "spa")] == [ONE[0].take(2)]
    done = plan(ledger)
    assert (done.to_render, done.counts, done.dropped) == (0, StandingCounts(unchanged=1), ())
    assert (done.counts.total, done.counts.kept, done.counts.missing) == (1, 1, 0)


def test_the_same_rejection_twice_has_one_take_made(ledger):
    run_id = begin(ledger, plan(ledger)).run_id
    said = rejected(ONE[0].take(), run_id)
    record(ledger, said, said)
    record(ledger, said)
    record(ledger, rejected(ONE[0].take(), run_id))  # another worker has rendered it too
    assert states(ledger) == {1: "rejected", 2: "waiting"}


def test_a_track_whose_every_take_is_rejected_ends_within_its_tries(ledger):
    run_id = begin(ledger, plan(ledger, tries=2)).run_id
    for number in (1, 2, 3):
        record(ledger, rejected(ONE[0].take(number), run_id))
    assert states(ledger) == {1: "rejected", 2: "rejected", 3: "rejected"}
    assert finish(ledger, run_id) == [run_id]
    assert made_again(ledger, run_id) == 2
    over = plan(ledger, tries=2)
    assert (over.counts, over.empty) == (StandingCounts(unchanged=1, empty=1), EmptyPlaces(out_of_tries=1))
    assert "`tries: 2`" in over.empty.in_words(2)[0]
    assert plan(ledger, tries=3).counts == StandingCounts(again=1)
    assert [take.number for take in plan(ledger, tries=3).takes()] == [1, 2, 3, 4]


def test_what_the_engine_refuses_is_not_made_again(ledger):
    run_id = begin(ledger, plan(ledger)).run_id
    record(ledger, rejected(ONE[0].take(), run_id, audio_ms=0))
    assert states(ledger) == {1: "rejected"}
    assert (plan(ledger).to_render, plan(ledger).empty) == (0, EmptyPlaces(by_engine=1))
    assert made_again(ledger, run_id) == 0


@pytest.mark.parametrize(("wish", "after"), [(CANCEL, {1: "rejected"}), (PAUSE, {1: "rejected", 2: "waiting"})])
def test_a_run_that_is_cancelled_makes_no_further_take_and_one_that_pauses_does(ledger, wish, after):
    run_id = begin(ledger, plan(ledger)).run_id
    with ledger.write() as connection:
        connection.execute(update(RUN).values(wish=wish))
    record(ledger, rejected(ONE[0].take(), run_id))
    assert states(ledger) == after


def test_a_take_that_the_presets_have_changed_since_is_not_made_again(ledger):
    run_id = begin(ledger, plan(ledger)).run_id
    record(ledger, attempt(ONE[0].take(), "failed", run_id=run_id))
    begin(ledger, plan(ledger, [a_track("0001", bpm=91)]))
    record(ledger, rejected(ONE[0].take(), run_id))  # another worker had it still
    assert states(ledger) == {1: "waiting"}


def test_a_run_that_goes_on_with_more_wanted_takes_numbers_further_ones_behind_them(ledger):
    run_id = begin(ledger, plan(ledger)).run_id
    begin(ledger, plan(ledger, wanted=2))
    record(ledger, rejected(ONE[0].take(), run_id))
    assert states(ledger) == {1: "rejected", 2: "waiting", 3: "waiting"}


def test_a_take_whose_sound_was_rejected_is_not_made_again_with_another_finish(ledger):
    finished_otherwise = [a_track("0001", master=MasterSpec(loudness_lufs=-20))]
    run_id = begin(ledger, plan(ledger)).run_id
    record(ledger, rejected(ONE[0].take(), run_id))
    begun = begin(ledger, plan(ledger, finished_otherwise))
    assert begun.new == 1
    assert states(ledger) == {1: "rejected", 2: "waiting"}
    record(ledger, accepted(finished_otherwise[0].take(2), run_id))
    assert (plan(ledger, finished_otherwise).counts.kept, plan(ledger, finished_otherwise).to_render) == (1, 0)


def test_of_several_wanted_takes_each_is_filled(ledger):
    run_id = begin(ledger, plan(ledger, wanted=2, tries=1)).run_id
    track = ONE[0]
    record(ledger, rejected(track.take(1), run_id), rejected(track.take(2), run_id))
    assert states(ledger) == {1: "rejected", 2: "rejected", 3: "waiting", 4: "waiting"}
    record(ledger, accepted(track.take(3), run_id), rejected(track.take(4), run_id))
    assert finish(ledger, run_id) == [run_id]
    counts = plan(ledger, wanted=2, tries=1).counts
    assert (counts.total, counts.kept, counts.missing, counts.again) == (2, 1, 1, 0)


def test_places_that_an_earlier_version_left_empty_are_missing_and_the_next_run_fills_them(ledger):
    run_id = begin(ledger, plan(ledger, TRACKS, tries=0)).run_id
    with ledger.write() as connection:
        connection.execute(update(TAKE).values(wanted=0))  # as migrated
    record(ledger, rejected(TRACKS[0].take(), run_id), *(accepted(track.take(), run_id) for track in TRACKS[1:]))
    assert finish(ledger, run_id) == [run_id]
    planned = plan(ledger, TRACKS)
    assert planned.counts == StandingCounts(unchanged=2, again=1)
    assert [load.again for load in planned.loads] == [1]
    begun = begin(ledger, planned)
    assert (begun.new, begun.unchanged, begun.dropped) == (1, 3, 0)
    assert states(ledger) == {1: "rejected", 2: "waiting"}
    record(ledger, rejected(TRACKS[0].take(2), begun.run_id))
    assert states(ledger) == {1: "rejected", 2: "rejected", 3: "waiting"}


def test_what_is_rejected_between_plan_and_run_is_made_again_once(ledger):
    run_id = begin(ledger, plan(ledger)).run_id
    planned = plan(ledger)
    record(ledger, rejected(ONE[0].take(), run_id))
    begun = begin(ledger, planned)
    assert (begun.new, begun.dropped, begun.pending) == (0, 0, 1)
    assert states(ledger) == {1: "rejected", 2: "waiting"}


def test_a_sample_goes_on_with_the_place_that_it_had_begun(ledger):
    sample = Selection(per_cell=1)
    run_id = begin(ledger, plan(ledger, wanted=3, selection=sample)).run_id
    assert states(ledger) == {1: "waiting"}
    record(ledger, rejected(ONE[0].take(), run_id))
    assert states(ledger) == {1: "rejected", 4: "waiting"}
    again = plan(ledger, wanted=3, selection=sample)
    assert [take.number for take in again.takes()] == [4]
    assert begin(ledger, again).pending == 1
    whole = plan(ledger, wanted=3)
    assert (whole.counts.total, whole.counts.new, whole.counts.unfinished) == (3, 2, 1)


def judge(ledger: Ledger, store: MemoryStore, take: Take, outcome: Any, at_ms: int, *, again: bool = False) -> int:
    found = ledger.find_rendition(take.id)
    with ledger.read() as connection:
        decided = decide(connection, [found] if found else [], outcome, "dull", at_ms, again=again)
    store_verdicts(store, decided)
    with ledger.write() as connection:
        return record_verdicts(connection, decided)


@pytest.fixture
def one_made(ledger):
    run_id = begin(ledger, plan(ledger)).run_id
    record(ledger, accepted(ONE[0].take(), run_id))
    finish(ledger, run_id)
    return ledger


def test_a_listener_leaves_a_place_empty_or_asks_for_another_take(one_made):
    ledger, store = one_made, MemoryStore()
    assert judge(ledger, store, ONE[0].take(), "rejected", 10) == 1
    assert (plan(ledger).to_render, plan(ledger).empty) == (0, EmptyPlaces(by_listener=1))
    assert "--again" in plan(ledger).empty.in_words(2)[0]
    assert judge(ledger, store, ONE[0].take(), "rejected", 11, again=True) == 1
    assert judge(ledger, store, ONE[0].take(), "rejected", 12, again=True) == 0
    assert judge(ledger, store, ONE[0].take(), "rejected", 13) == 0
    assert plan(ledger).counts == StandingCounts(again=1)
    assert plan(ledger, tries=0).empty == EmptyPlaces(out_of_tries=1)
    run_id = begin(ledger, plan(ledger)).run_id
    record(ledger, accepted(ONE[0].take(2), run_id))
    assert (plan(ledger).counts.kept, plan(ledger).to_render) == (1, 0)


def test_a_listener_who_takes_it_back_keeps_the_first_take(one_made):
    ledger, store = one_made, MemoryStore()
    judge(ledger, store, ONE[0].take(), "rejected", 10, again=True)
    judge(ledger, store, ONE[0].take(), "accepted", 11)
    assert plan(ledger).counts == StandingCounts(unchanged=1)
    assert judge(ledger, store, ONE[0].take(), "rejected", 12) == 1
    assert plan(ledger).empty == EmptyPlaces(by_listener=1)


def test_a_rebuilt_ledger_has_the_same_places(ledger, tmp_path):
    """The store knows of no take that the checks rejected; of a listener's wish it knows."""
    store, track = MemoryStore(), ONE[0]
    run_id = begin(ledger, plan(ledger, TRACKS)).run_id
    record(ledger, rejected(track.take(), run_id), *(accepted(each.take(), run_id) for each in TRACKS[1:]))
    record(ledger, accepted(track.take(2), run_id))
    for take in (track.take(2), *(each.take() for each in TRACKS[1:])):
        store.objects[f"spa/takes/{take.id}.json"] = a_sidecar(take, run_id=str(run_id)).to_json()
    judge(ledger, store, TRACKS[1].take(), "rejected", 10, again=True)
    new = open_ledger(f"sqlite:///{tmp_path / 'new.sqlite'}")
    with new.writer_lock() as lock:
        rebuild(store, new.fenced(lock))
    with new.read() as connection:
        assert connection.execute(select(VERDICT.c.again)).scalars().all() == [True]
    for each in (ledger, new):
        planned = plan(each, TRACKS)
        assert (planned.counts, planned.dropped) == (StandingCounts(unchanged=2, again=1), ())
        fresh = [
            due.take
            for due in planned.due()
            if due.take.id not in {k.take_id for k in each.known_takes("spa").values()}
        ]
        assert fresh == [TRACKS[1].take(2)]
    new.close()


@given(fates=st.lists(st.sampled_from(["accepted", "rejected", "refused"]), min_size=9, max_size=9), order=st.randoms())
@settings(max_examples=25, deadline=None)
def test_in_whatever_order_rejections_come_the_same_takes_are_made(fates, order):
    """Two takes wanted, two tries: what a run makes as it goes is what a plan says of the same facts."""
    ledger, track = open_ledger("sqlite://"), ONE[0]
    run_id = begin(ledger, plan(ledger, wanted=2, tries=2)).run_id
    while waiting := [number for number, state in states(ledger).items() if state == "waiting"]:
        number = order.choice(waiting)
        take, fate = track.take(number), fates[number]
        if fate == "accepted":
            record(ledger, accepted(take, run_id))
        else:
            record(ledger, rejected(take, run_id, audio_ms=10_000 if fate == "rejected" else 0))
    assert finish(ledger, run_id) == [run_id]
    over = plan(ledger, wanted=2, tries=2)
    assert [take.number for take in over.takes()] == list(states(ledger))
    assert (over.to_render, over.dropped) == (0, ())
    lost = sum(state == "rejected" for state in states(ledger).values()) - made_again(ledger, run_id)
    assert over.counts.missing == sum(over.empty) == lost
    ledger.close()


def test_a_ledger_of_the_first_release_shows_what_it_lacks_and_keeps_every_take(tmp_path):
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    a_ledger_of(GOLDEN / "0.1.0", url)
    ledger = open_ledger(url)
    with ledger.read() as connection:
        stored = connection.execute(select(TAKE.c.message).where(TAKE.c.catalog == "tones")).scalars()
        takes = [Take.model_validate(message) for message in stored]
    known, refused = ledger.known_takes("tones"), ledger.refused_takes("tones")
    names = {"catalog": "tones", "title": "Tones", "model": "tone"}
    tracks = [PlannedTrack(take.track, 1) for take in takes]
    planned = plan_tracks(lambda: tracks, known, refused=refused, tries=2, **names)
    assert [take.id for take in planned.takes()] == [take.id for take in takes]
    assert (planned.counts, planned.to_render) == (StandingCounts(unchanged=3, empty=1), 0)
    assert planned.empty == EmptyPlaces(by_listener=1)
    ledger.close()

"""Due takes: a refused take passes its place on, the same facts give the same numbers, and no place has two takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catalog.spec import MasterSpec, PlannerSpec
from catalog.track import Track
from orchestrator.ledger.due import DueTake, Held, due_takes
from tests.support.makers import a_track

TRACK = a_track()
SHARING = a_track(planner=PlannerSpec(reuse=True), model="acestep-v15-turbo")


def held(track: Track = TRACK, *numbers: int, refused: tuple[int, ...] = (), own_plan: tuple[int, ...] = ()) -> Held:
    """A catalog that holds these takes of `track`, and has refused some."""
    takes = {number: track.take(number, own_plan=number in own_plan).id for number in {*numbers, *refused}}
    return Held.of(
        {(track.key, number): takes[number] for number in numbers},
        {(track.key, number): {takes[number]} for number in refused},
    )


def numbers(due: list[DueTake], *, passed: bool = False) -> list[int]:
    return [each.take.number for each in due if each.is_passed == passed]


def due(wanted: int, tries: int, holds: Held, track: Track = TRACK) -> list[DueTake]:
    return list(due_takes(track, wanted, tries, holds))


def test_without_a_refusal_the_wanted_takes_are_due():
    assert numbers(due(3, 2, held())) == [1, 2, 3]


def test_a_refused_take_passes_its_place_to_the_next_number_that_was_never_used():
    takes = due(2, 2, held(TRACK, 1, 2, refused=(1,)))
    assert (numbers(takes), numbers(takes, passed=True)) == ([2, 3], [1])
    assert [(each.take.number, each.place, each.is_further) for each in takes] == [
        (1, 1, False),
        (2, 2, False),
        (3, 1, True),
    ]


def test_places_pass_on_as_often_as_the_tries_allow_and_the_last_refused_take_keeps_its_place():
    every = tuple(range(1, 10))
    assert numbers(due(1, 2, held(TRACK, *every[:3], refused=every[:3]))) == [3]
    assert numbers(due(2, 1, held(TRACK, *every[:4], refused=every[:4]))) == [3, 4]
    assert numbers(due(1, 0, held(TRACK, 1, refused=(1,)))) == [1]


def test_fewer_tries_take_no_place_from_a_take_that_has_one():
    assert numbers(due(1, 0, held(TRACK, 1, 2, 3, refused=(1, 2)))) == [3]


def test_a_catalog_that_wants_fewer_takes_lets_the_others_go_and_fills_a_place_with_one_that_is_made():
    assert numbers(due(1, 2, held(TRACK, 1, 2, 3))) == [1]
    assert numbers(due(1, 2, held(TRACK, 1, 2, 3, refused=(1,)))) == [2]


def test_a_catalog_that_wants_more_takes_counts_those_that_took_over_a_place():
    assert numbers(due(2, 2, held(TRACK, 1, 2, refused=(1,)))) == [2, 3]


def test_a_rebuilt_ledger_makes_nothing_again_that_a_later_take_proves_was_refused():
    takes = due(1, 2, held(TRACK, 2))
    assert [(each.take.number, each.is_passed) for each in takes] == [(2, False)]
    assert numbers(due(1, 2, held(TRACK, 3))) == [3]
    assert numbers(due(2, 2, held(TRACK, 1, 4))) == [1, 4]
    assert numbers(due(3, 2, held(TRACK, 1, 3))) == [1, 2, 3]


def test_a_track_whose_finishing_alone_has_changed_keeps_the_places_of_its_takes():
    was, now = a_track(), a_track(master=MasterSpec(loudness_lufs=-20))
    assert was.take().id != now.take().id
    sounds = {(was.key, number): was.take(number).sound_id for number in (1, 2)}
    takes = due(1, 2, Held.of(sounds, {(was.key, 1): {was.take().sound_id}}), now)
    assert (numbers(takes), numbers(takes, passed=True)) == ([2], [1])
    assert numbers(due(1, 2, Held.of({(was.key, 2): was.take(2).sound_id}, {}), now)) == [2]


def test_a_changed_track_begins_anew():
    assert numbers(due(1, 2, held(a_track(bpm=91), 1, 2, refused=(1,)))) == [1]


def test_a_take_that_took_over_a_place_has_a_plan_of_its_own():
    first, second, third = (each.take for each in due(2, 2, held(SHARING, 1, 2, refused=(1,)), SHARING))
    assert second.follows_first_plan
    assert second.lm_seed == first.lm_seed
    assert not third.follows_first_plan
    assert third.lm_seed != first.lm_seed
    assert third == SHARING.take(3, own_plan=True)


def test_a_take_keeps_its_plan_when_the_catalog_wants_more_or_fewer_takes():
    alone, shared = SHARING.take(2, own_plan=True), SHARING.take(2)
    holds = held(SHARING, 1, 2, refused=(1,), own_plan=(2,))
    assert [each.take for each in due(1, 2, holds, SHARING) if each.take.number == 2] == [alone]
    assert [each.take for each in due(2, 2, holds, SHARING) if each.take.number == 2] == [alone]
    assert [each.take for each in due(1, 2, held(SHARING, 1, 2, refused=(1,)), SHARING)][1] == shared


def test_no_track_has_more_takes_than_can_be_numbered():
    every = tuple(range(1, 1001))
    assert len(due(600, 20, held(TRACK, *every, refused=every))) == 1000


@given(wanted=st.integers(1, 4), tries=st.integers(0, 3), refused=st.sets(st.integers(1, 20)), more=st.integers(1, 20))
def test_each_place_has_one_take_and_another_refusal_takes_no_number_away(wanted, tries, refused, more):
    holds = held(TRACK, refused=tuple(refused))
    takes = due(wanted, tries, holds)
    assert sorted(each.place for each in takes if not each.is_passed) == list(range(1, wanted + 1))
    assert [each.take.number for each in takes] == list(range(1, len(takes) + 1))
    assert len(takes) <= wanted * (1 + tries)
    assert takes == due(wanted, tries, holds)
    after = due(wanted, tries, held(TRACK, refused=(*refused, more)))
    assert [each.take for each in takes] == [each.take for each in after][: len(takes)]


def keeping(wanted: int, tries: int, keep: int, holds: Held) -> list[DueTake]:
    return list(due_takes(TRACK, wanted, tries, holds, keep))


def test_where_the_best_are_kept_a_refused_take_is_made_again_only_when_too_few_are_good():
    assert numbers(keeping(3, 2, 1, held(TRACK, 1, 2, 3, refused=(1, 3)))) == [2]
    assert numbers(keeping(3, 2, 2, held(TRACK, 1, 2, 3, refused=(1, 3)))) == [2, 4]
    assert numbers(keeping(3, 0, 1, held(TRACK, 1, 2, 3, refused=(1, 3)))) == [2]
    assert numbers(keeping(2, 1, 1, held(TRACK, 1, 2, refused=(1, 2)))) == [3]
    assert numbers(keeping(2, 1, 1, held(TRACK, 1, 2, 3, 4, refused=(1, 2, 3, 4)))) == [4]


def test_a_take_that_has_a_place_keeps_it_when_fewer_are_kept_than_before():
    assert numbers(keeping(2, 2, 0, held(TRACK, 1, 2, 3, refused=(1,)))) == [2, 3]
    assert numbers(keeping(2, 2, 1, held(TRACK, 1, 2, 3, refused=(1,)))) == [2, 3]


@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 6), st.sets(st.integers(1, 16)))
def test_as_many_good_takes_are_due_as_are_kept_while_tries_last(wanted, tries, keep, bad):
    """The engine makes what is due until nothing changes; the takes in `bad` are refused."""
    made: set[int] = set()
    while (
        fresh := {
            each.take.number for each in keeping(wanted, tries, keep, held(TRACK, *made, refused=tuple(made & bad)))
        }
        - made
    ):
        made |= fresh
    good = made - bad
    needed = min(keep, wanted) if keep else wanted
    assert made == set(range(1, len(made) + 1))
    assert len(made) <= wanted * (1 + tries)
    assert len(good) >= needed or len(made) == wanted * (1 + tries)
    if len(made) > wanted:  # no take was made that was not needed
        assert len(good - {max(made)}) < needed

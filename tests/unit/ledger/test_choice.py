"""The best takes of a track: by rank among themselves, a listener's pick first, and the same whatever the order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from catalog.scores import Score
from orchestrator.ledger.choice import Candidate, Choice, TrackTakes, choose, verdicts_of
from orchestrator.ledger.verdicts import Word

BY = ("technical", "variation")


def candidate(number: int, *, picked_ms: int = 0, spare: bool = False, said_ms: int = 0, **values: Any) -> Candidate:
    scores = {
        name: value if isinstance(value, Score) else Score(name=name, version="1", value=value)
        for name, value in values.items()
    }
    word = Word(at_ms=said_ms, spare=spare)
    return Candidate(f"{number:024x}", number, f"r{number}", "a" * 64, word, picked_ms, scores)


def chosen(keep: int, *candidates: Candidate, by: tuple[str, ...] = BY) -> Choice:
    return choose(TrackTakes("spa", "spa/lobby/jazz/0001", keep, candidates), by)


def numbers(candidates: Any) -> list[int]:
    return [each.number for each in candidates]


def test_the_take_with_the_best_ranks_is_kept_and_the_others_are_spare():
    choice = chosen(
        1,
        candidate(1, technical=0.9, variation=0.2),
        candidate(2, technical=0.8, variation=0.6),
        candidate(3, technical=0.7, variation=0.5),
    )
    assert (numbers(choice.kept), numbers(choice.spare)) == ([2], [1, 3])  # ranks 0+2, 1+0, 2+1
    assert choice.scorers == BY


def test_of_equal_ranks_the_first_scorer_decides_and_then_the_number():
    one, two = candidate(1, technical=0.5, variation=0.9), candidate(2, technical=0.6, variation=0.1)
    assert numbers(chosen(1, one, two).kept) == [2]
    assert numbers(chosen(1, one, two, by=("variation", "technical")).kept) == [1]
    assert numbers(chosen(1, candidate(1, technical=0.5), candidate(2, technical=0.5)).kept) == [1]


def test_a_score_that_some_take_lacks_or_that_another_version_gave_compares_nothing():
    missing = chosen(1, candidate(1, technical=0.2), candidate(2, technical=0.3, variation=0.9))
    assert (numbers(missing.kept), missing.scorers) == ([2], ("technical",))
    for other in ({"version": "2"}, {"version": "1", "weights": "abc"}):
        newer = Score(name="technical", value=0.9, **other)
        choice = chosen(1, candidate(1, technical=0.2), candidate(2, technical=newer))
        assert (numbers(choice.kept), choice.scorers) == ([1], ())


def test_a_pick_comes_before_every_score_and_the_newest_pick_first():
    best, picked, later = (
        candidate(1, technical=1.0),
        candidate(2, picked_ms=5, technical=0.1),
        candidate(3, picked_ms=9),
    )
    assert numbers(chosen(1, best, picked).kept) == [2]
    assert numbers(chosen(2, best, picked, later).kept) == [3, 2]


def test_without_a_number_to_keep_all_are_listed():
    choice = chosen(0, candidate(1), candidate(2, spare=True))
    assert (numbers(choice.kept), choice.spare, numbers(choice.entering)) == ([1, 2], (), [2])


def test_only_what_changes_is_said_and_later_than_what_was_said_before():
    choice = chosen(
        1,
        candidate(1, spare=True, said_ms=100, technical=0.9),
        candidate(2, said_ms=200, technical=0.4),
        candidate(3, spare=True, technical=0.3),
    )
    entering, leaving = verdicts_of(choice, at_ms=150)
    assert (entering.take_id[-1], entering.outcome, entering.spare, entering.at_ms) == ("1", "accepted", False, 150)
    assert (leaving.take_id[-1], leaving.outcome, leaving.spare, leaving.at_ms) == ("2", "accepted", True, 201)
    assert leaving.reason == "chosen before it: take 1 (technical 0.9)"
    assert not verdicts_of(chosen(1, candidate(1, technical=0.9), candidate(2, spare=True, technical=0.4)), at_ms=1)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6), st.integers(1, 6), st.randoms()
)
def test_the_choice_is_the_same_in_any_order_and_keeps_as_many_as_there_are(values, keep, random):
    takes = [candidate(number, technical=one, variation=two) for number, (one, two) in enumerate(values, 1)]
    expected = chosen(keep, *takes)
    random.shuffle(takes)
    choice = chosen(keep, *takes)
    assert numbers(choice.kept) == numbers(expected.kept)
    assert len(choice.kept) == min(keep, len(takes))
    assert sorted(numbers(choice.kept + choice.spare)) == sorted(numbers(takes))
    for kept in choice.kept:  # none that is spare is better by both
        assert not any(all(spare.scores[name].value > kept.scores[name].value for name in BY) for spare in choice.spare)

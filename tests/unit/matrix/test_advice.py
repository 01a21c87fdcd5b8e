"""Advice: tracks that the model is known to do badly are counted in one line each, and never refused."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.prompt import TokenCounter
from catalog.spec import Bounds, PlannerSpec, TrackSpec
from orchestrator.matrix.advice import RARE_KEYS, Advice

PLAIN: dict[str, Any] = {
    **{"caption": "warm piano", "bpm": 90, "keyscale": "A minor", "timesignature": "4", "duration_s": 120},
    **{"planner": None},
}


def notes(*changes: dict[str, Any], counter: TokenCounter | None = None) -> list[str]:
    """The notes on tracks that differ from a plain one in `changes`."""
    advice = Advice(counter) if counter else Advice()
    for change in changes:
        advice.see(TrackSpec(**{**PLAIN, **change}))
    return advice.notes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bpm": 59}, "outside 60 to 180 bpm"),
        ({"bpm": 181}, "outside 60 to 180 bpm"),
        ({"keyscale": "D♭ major"}, "in rare keys"),
        ({"timesignature": "3"}, "another metre than 4/4"),
        ({"duration_s": 301}, "over 5 minutes"),
        ({"lyrics": "la la", "language": "sv"}, "sung in other languages"),
        ({"lyrics": "la la", "language": "zh", "caption": "hard rap beat"}, "rap in Chinese"),
        ({"caption": "wonderful " * 150}, "may be too long"),
        ({"lyrics": "wonderful " * 1500}, "may be too long"),
    ],
)
def test_each_weakness_is_counted_in_one_line(change: dict[str, Any], words: str) -> None:
    (note,) = notes(change, change, {})
    assert note.startswith("2 tracks ")
    assert words in note


@pytest.mark.parametrize(
    "change",
    [
        *({"bpm": 60}, {"bpm": 180}, {"duration_s": 300}, {"keyscale": "E major"}, {"language": "sv"}),
        *({"lyrics": "la la", "language": "ko"}, {"lyrics": "la", "language": "unknown"}),
        {"caption": "rap", "language": "zh"},
    ],
)
def test_what_the_model_does_well_needs_no_word(change: dict[str, Any]) -> None:
    assert notes(change) == []


def test_what_the_planner_chooses_is_not_judged() -> None:
    planner = PlannerSpec(metadata="fill")
    bounds = Bounds(bpm=(40, 250), keyscales=("F# major", "A minor"), timesignatures=("3", "4"))
    still_open = {"bpm": None, "keyscale": None, "timesignature": None}
    assert notes({**still_open, "planner": planner, "bounds": bounds}) == []


def test_one_track_is_counted_in_the_singular_and_for_each_weakness() -> None:
    assert [note.split()[:2] for note in notes({"bpm": 59, "timesignature": "6"})] == [["1", "track"]] * 2


def test_with_a_tokenizer_nothing_is_in_doubt() -> None:
    assert notes({"caption": "wonderful " * 150}, counter=TokenCounter(len)) == []


def test_rare_keys_have_five_accidentals_or_more() -> None:
    assert {"B major", "Db major", "F# major", "G# minor", "Bb minor"} <= RARE_KEYS
    assert not {"E major", "Ab major", "C# minor", "F minor", "C major", "A minor"} & RARE_KEYS

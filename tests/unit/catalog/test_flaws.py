"""Flaws: warnings are counted by kind, with the flaws that they come from and without."""

from __future__ import annotations

from catalog.flaws import count_kinds
from tests.support.judged import CLICKS, DULL, MASTERED, VOICE


def test_a_kind_counts_its_places_and_the_whole_take_as_one() -> None:
    flaws = [DULL, CLICKS, VOICE]
    warnings = [*(flaw.text for flaw in flaws), MASTERED, MASTERED]
    assert count_kinds(warnings, flaws) == {"dull": 1, "click": 3, "voice": 1, "mastering": 1}


def test_without_flaws_the_kind_is_read_from_the_text() -> None:
    assert count_kinds([CLICKS.text, DULL.text]) == {"click": 1, "dull": 1}
    assert count_kinds([]) == {}


def test_a_kind_of_a_newer_worker_keeps_its_name() -> None:
    assert count_kinds(["warbles: 4"], [DULL.model_copy(update={"kind": "warble", "text": "warbles: 4"})]) == {
        "warble": 1
    }

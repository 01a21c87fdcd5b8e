"""Values: what people and programs write for tempo, key, metre, length, language and flags, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import limits
from catalog.errors import OutOfRangeError, PresetError
from orchestrator.matrix.languages import find_language
from orchestrator.matrix.values import (
    UnusableValue,
    is_not_set,
    read_count,
    read_flag,
    read_key,
    read_language,
    read_length_s,
    read_metre,
    read_seed,
    read_tempo,
)


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("C major", ["C", "Cmaj", "C maj.", "C-Dur", "c dur", "Do majeur", "8B", "1d", "C M", "CM", "Key of C"]),
        ("A minor", ["Am", "a m", "A min", "A:min", "a-Moll", "la mineur", "8A", "Camelot 8A", "8A - Am", "A_minor"]),
        ("A minor", ["Am (natural)", "A minor (8A)", "A natural minor", "A aeolian", "1m", "La menor"]),
        (
            "F# minor",
            ["F#m", "F# minor", "fis-Moll", "F sharp minor", "F-sharp minor", "F#/Gb minor", "F#m/Gbm", "11A"],
        ),
        ("B minor", ["Bm", "h-Moll", "H moll", "si mineur"]),
        ("Bb minor", ["Bbm", "b-Moll", "B flat minor", "Si bémol mineur"]),
        ("Bb major", ["Bb", "B-Dur", "B flat", "Si bemolle maggiore", "6B"]),
        ("Ab major", ["As-Dur", "Ab", "4B"]),
        ("Eb major", ["Es-Dur", "Eb Major", "5B"]),
        ("D♭ major", ["D♭ Major"]),
    ],
)
def test_a_key_is_understood_in_many_spellings(key: str, written: list[str]) -> None:
    assert {text: read_key(text) for text in written} == dict.fromkeys(written, key)


@pytest.mark.parametrize("text", ["D dorian", "C blues", "A harmonic minor", "C major / A minor", "5", "H", "Do", "x"])
def test_a_key_that_the_model_has_not_or_that_means_two_things_is_refused(text: str) -> None:
    with pytest.raises(UnusableValue) as raised:
        read_key(text)
    assert raised.value.kind is OutOfRangeError


@given(st.sampled_from(sorted(limits.KEYSCALES)))
def test_every_key_of_the_model_is_read_as_itself(key: str) -> None:
    assert read_key(key) == key


@given(st.text("ABCDEFGHabcdefgh#b♯♭ms-/8 ondurli", max_size=12))
def test_whatever_is_read_as_a_key_is_one_of_the_models(text: str) -> None:
    with suppress(UnusableValue):
        assert read_key(text) in limits.KEYSCALES


@pytest.mark.parametrize(
    "value", [120, 120.4, "120", "120.0", "120,4", "120 BPM", "120bpm", "♩ = 120", "~120", "ca. 120"]
)
def test_a_tempo_is_a_number_of_beats_with_or_without_its_unit(value: Any) -> None:
    assert read_tempo(value) == 120


@pytest.mark.parametrize("value", ["90-100", "fast", "", True, "1,200"])
def test_a_tempo_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(UnusableValue) as raised:
        read_tempo(value)
    assert raised.value.kind is PresetError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((180, 180), ("180,0", 180), ("3:05", 185), ("00:03:05", 185), ("180s", 180), ("3 min", 180), ("2m30s", 150)),
        *(("PT3M", 180), ("PT3M5S", 185), ("3'05\"", 185), ("2.5 minutes", 150), ("180000ms", 180), (60.5, 61)),
    ],
)
def test_a_length_is_read_in_the_ways_of_clocks_and_units(value: Any, seconds: int) -> None:
    assert read_length_s(value) == seconds


def test_a_bare_length_counts_in_the_unit_of_its_column() -> None:
    assert (read_length_s("180000", 0.001), read_length_s("3", 60), read_length_s("2:30", 60)) == (180, 180, 150)


@pytest.mark.parametrize(
    ("value", "hint"), [(180000, "duration_ms"), ("03:05:00", "3:05"), (8, "10 to 600"), (601, "10 to")]
)
def test_a_length_that_the_model_cannot_make_is_refused_with_what_may_be_meant(value: Any, hint: str) -> None:
    with pytest.raises(UnusableValue) as raised:
        read_length_s(value)
    assert hint in f"{raised.value.words} {raised.value.fix}"


def test_a_metre_is_read_as_its_numerator() -> None:
    assert [read_metre(text) for text in ("4/4", "4", "4-4", "4 / 4", "common", 4.0, "3/4 time")] == [*"444444", "3"]


@pytest.mark.parametrize("text", ["12/8", "5/4", "2/2", "7", "C"])
def test_a_metre_that_the_model_has_not_is_refused(text: str) -> None:
    with pytest.raises(UnusableValue, match="must be 2, 3, 4 or 6"):
        read_metre(text)


@pytest.mark.parametrize("text", ["04-Apr", "4. Mrz", "2026-03-04", "Apr-04", "03.04.2026"])
def test_a_metre_that_a_spreadsheet_has_made_a_date_of_is_told(text: str) -> None:
    with pytest.raises(UnusableValue, match="a spreadsheet") as raised:
        read_metre(text)
    assert "format the column as text" in raised.value.fix


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("en", ["en", "EN", "English", "en-US", "English (UK)", "British English", "eng"]),
        ("de", ["Deutsch", "german", "de_AT", "Allemand"]),
        ("pt", ["pt_BR", "Brazilian Portuguese", "português"]),
        ("zh", ["zh-CN", "zh-Hans-CN", "Chinese (Simplified)", "中文", "Mandarin"]),
        *(("ja", ["日本語", "Japanese"]), ("yue", ["Cantonese"]), ("no", ["no", "nb-NO", "Norsk"]), ("he", ["iw"])),
        ("unknown", ["unknown"]),
    ],
)
def test_a_language_is_understood_by_code_region_and_name(code: str, written: list[str]) -> None:
    assert {text: read_language(text) for text in written} == dict.fromkeys(written, code)


def test_a_text_that_names_two_languages_or_none_is_no_language() -> None:
    assert [find_language(text) for text in ("English, Spanish", "en/es", "English and Japanese", "Klingon", "")] == [
        None
    ] * 5


@pytest.mark.parametrize(
    "value", [True, "TRUE", "true ", 1, "1", 1.0, "yes", "Y", "on", "x", "WAHR", "VRAI", "✓", "☑", "ja"]
)
def test_a_flag_is_set_in_many_words(value: Any) -> None:
    assert read_flag(value) is True


@pytest.mark.parametrize("value", [False, "FALSE", 0, "0.0", "no", "n", "off", "FALSCH", "FAUX", "☐", "nein"])
def test_a_flag_is_unset_in_many_words(value: Any) -> None:
    assert read_flag(value) is False


def test_a_flag_that_says_neither_is_refused() -> None:
    with pytest.raises(UnusableValue, match="true or false"):
        read_flag("maybe")


@pytest.mark.parametrize(
    "value", [None, "", " ", "N/A", "null", "NaN", float("nan"), -1, "-1.0", "auto", "Random", "-", 0]
)
def test_a_number_is_not_set_in_many_words(value: Any) -> None:
    assert is_not_set(value, "bpm")


def test_some_words_for_nothing_are_values_of_their_own_columns() -> None:
    assert not is_not_set(0, "seed")
    assert not is_not_set("unknown", "language")
    assert not is_not_set("no", "language")


def test_a_seed_keeps_all_its_digits_and_a_shortened_one_is_refused() -> None:
    assert read_seed("9007199254740993") == 9007199254740993
    for wrong in ("1.2E+10", -2, True, 2**63):
        with pytest.raises(UnusableValue):
            read_seed(wrong)


def test_a_count_is_a_whole_number_within_its_bounds() -> None:
    assert read_count("3", 10) == 3
    for wrong in (0, 11, "1,000", True):
        with pytest.raises(UnusableValue):
            read_count(wrong, 10)

"""Expanding: the same tracks on every machine, each different, and growth leaves the earlier ones alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import CaptionTooLongError
from catalog.settings import Settings
from orchestrator.matrix import PlannedTrack, PresetLibrary, expand, load_catalog
from orchestrator.matrix.captions import Template
from tests.support.preset_files import GENRE, ZONE, a_catalog, a_library, write

REPO = Path(__file__).parents[3]


def prompts(planned: list[PlannedTrack]) -> list[tuple[object, ...]]:
    specs = [each.track.spec for each in planned]
    return [(spec.caption, spec.bpm, spec.keyscale, spec.timesignature) for spec in specs]


def test_two_hundred_tracks_of_one_cell_share_no_prompt(tmp_path: Path) -> None:
    planned = list(expand(a_catalog(a_library(tmp_path, 1, 1), tracks=200)))
    assert len(set(prompts(planned))) == 200
    assert len({each.track.spec.caption for each in planned}) > 150
    assert len({each.track.title for each in planned}) == 200
    assert {each.track.spec.bpm for each in planned} == set(range(60, 91))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(few=st.integers(1, 40), more=st.integers(0, 200))
def test_more_tracks_leave_the_earlier_ones_alone(tmp_path: Path, few: int, more: int) -> None:
    root = a_library(tmp_path, 1, 1)
    small = [each.track.take().id for each in expand(a_catalog(root, tracks=few))]
    large = [each.track.take().id for each in expand(a_catalog(root, tracks=few + more))]
    assert large[:few] == small


def test_expanding_is_pinned(tmp_path: Path) -> None:
    catalog = a_catalog(a_library(tmp_path), defaults={"duration_s": [30, 60], "caption_suffix": "no vocals"})
    first, *_, last = list(expand(catalog))
    assert first.track.key == "c/z0/g0/0001"
    assert (first.track.title, first.track.spec.caption) == (
        "Veil Stone",
        "slow genre 0 with felt piano in a calm mood, long reverb, no vocals",
    )
    assert (first.track.take().id, last.track.take().id) == ("19e153f0551266fefa24d16f", "b3f9c199a4680adb2fd93899")


def test_keys_are_unique_and_slots_count_from_one(tmp_path: Path) -> None:
    axes = {"axes": {"daypart": {"day": {}, "night": {"moods": ["dark"]}}}, "zones": "all", "genres": "all"}
    tracks = [each.track for each in expand(a_catalog(a_library(tmp_path), matrix=axes, tracks=100))]
    assert len({track.key for track in tracks}) == 100
    assert {track.slot for track in tracks} == {f"{number:04d}" for number in range(1, 14)}
    assert len({(track.zone, track.genre, track.title) for track in tracks}) == 100
    night = " ".join(track.spec.caption for track in tracks if track.axes["daypart"] == "night")
    assert "dark" in night
    assert "calm" not in night


def test_a_new_word_renders_its_own_genre_anew_and_no_other(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    before = {each.track.key: each.track.take().id for each in expand(a_catalog(root))}
    write(root / "genres/g1.yaml", {**GENRE, "name": "Genre 1", "instruments": [*GENRE["instruments"], "harp"]})
    after = {each.track.key: each.track.take().id for each in expand(a_catalog(root))}
    changed = {key for key in before if before[key] != after[key]}
    assert changed
    assert all("/g1/" in key for key in changed)


def test_lists_of_settings_are_rotated_evenly(tmp_path: Path) -> None:
    defaults = {"duration_s": {"from": 100, "to": 120, "step": 10}, "takes": [1, 2], "planner": False, "seed": 5}
    planned = list(expand(a_catalog(a_library(tmp_path, 1, 1), tracks=60, defaults=defaults), model="tone"))
    durations = [each.track.spec.duration_s for each in planned]
    assert all(18 <= durations.count(value) <= 22 for value in (100, 110, 120))
    assert {each.takes for each in planned} == {1, 2}
    assert {(each.track.seed, each.track.spec.planner, each.track.spec.model) for each in planned} == {
        (5, None, "tone")
    }


def test_genre_moods_that_the_zone_has_too_never_pair_with_themselves(tmp_path: Path) -> None:
    root = a_library(tmp_path, 1, 1)
    write(root / "zones/z0.yaml", {**ZONE, "moods": GENRE["moods"]})
    captions = ["x {mood}+{mood2} {instruments}", "y {mood}+{mood2} {instruments}"]
    write(root / "genres/g0.yaml", {**GENRE, "captions": captions})
    pairs = [each.track.spec.caption.split()[1].split("+") for each in expand(a_catalog(root, tracks=90))]
    assert all(one != two for one, two in pairs)
    assert len({tuple(pair) for pair in pairs}) == 12


def test_a_caption_that_would_cut_off_the_metadata_is_refused_with_its_line(tmp_path: Path) -> None:
    root = a_library(tmp_path, 1, 1)
    long = "{instruments} {mood} " + "wonderfully atmospheric shimmering resonance " * 50
    write(root / "genres/g0.yaml", {**GENRE, "captions": [GENRE["captions"][0], long]})
    with pytest.raises(
        CaptionTooLongError, match=r"g0.yaml:5: the caption of z0/g0/000\d takes at least 2\d\d tokens"
    ) as e:
        list(expand(a_catalog(root)))
    assert re.fullmatch(r"cut \d+ of its 2\d\d words", e.value.fix)


@pytest.mark.parametrize(
    ("word", "caption"),
    [
        *(("intimate", "an intimate piano"), ("warm", "a warm piano")),
        *(("unique", "a unique piano"), ("uneasy", "an uneasy piano")),
    ],
)
def test_the_article_follows_the_word(word: str, caption: str) -> None:
    words: dict[str, Any] = {"mood": word, "instruments": "piano"}
    assert Template.parse("a {mood} {instruments}").fill(words) == caption


def test_every_shipped_catalog_expands_to_different_prompts() -> None:
    library = PresetLibrary(REPO / "presets")
    assert len(library.names("zones")) >= 12
    assert len(library.names("genres")) >= 24
    for name in library.names("catalogs"):
        planned = list(expand(load_catalog(name, library.root, Settings())))
        assert len(set(prompts(planned))) == len(planned) == len({each.track.key for each in planned})
        assert len(planned) >= 2000 or name == "demo"


def test_two_hundred_tracks_of_any_shipped_pair_share_no_caption(tmp_path: Path) -> None:
    file = write(
        tmp_path / "all.yaml", "title: x\nmatrix: {zones: all, genres: all, tempo_clashes: exclude}\ntracks: 20000"
    )
    captions: dict[tuple[str, str], list[str]] = {}
    for planned in expand(load_catalog(file, REPO / "presets", Settings())):
        captions.setdefault((planned.track.zone, planned.track.genre), []).append(planned.track.spec.caption)
    assert all(len(set(each)) == len(each) for each in captions.values())

"""Catalogs that leave tempo, key, metre or length to the planner: what is open, within what, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalog.errors import OutOfRangeError, PresetError
from catalog.settings import Settings
from catalog.spec import Bounds, TrackSpec
from orchestrator.matrix import PlannedTrack, expand, load_catalog
from orchestrator.matrix.captions import tempo_parts, tempo_word
from tests.support.preset_files import GENRE, a_catalog, a_library, write

FILL = {"metadata": "fill"}


def planned(root: Path, **content: Any) -> list[PlannedTrack]:
    return list(expand(a_catalog(a_library(root, 1, 1), **content)))


def specs(root: Path, **content: Any) -> list[TrackSpec]:
    return [each.track.spec for each in planned(root, **content)]


def from_rows(root: Path, rows: str, **content: Any) -> list[TrackSpec]:
    """The specs of a catalog of prompts."""
    a_library(root, 1, 1)
    write(root / "catalogs/p.csv", rows)
    write(root / "catalogs/p.yaml", {"title": "P", "prompts": "p.csv", **content})
    return [each.track.spec for each in expand(load_catalog("p", root, Settings()))]


def test_what_a_cell_would_rotate_through_is_what_the_planner_may_choose(tmp_path: Path) -> None:
    tracks = specs(
        tmp_path,
        defaults={
            "planner": {**FILL, "open": ["bpm", "keyscale", "timesignature", "duration"]},
            "duration_s": [60, 90, 150],
            "timesignatures": ["4/4", "3/4"],
        },
        tracks=40,
    )
    assert {(spec.bpm, spec.keyscale, spec.timesignature, spec.duration_s) for spec in tracks} == {
        (None, None, None, 150)
    }
    whole = Bounds(
        bpm=(60, 90),
        keyscales=tuple(GENRE["keys"]),
        timesignatures=("3", "4"),
        duration_s=(60, 150),
        duration_step_s=30,
    )
    assert whole in {spec.bounds for spec in tracks}
    assert {spec.bounds.model_copy(update={"bpm": (60, 90)}) for spec in tracks if spec.bounds} == {whole}


def test_tempo_key_and_metre_are_open_where_nothing_is_named(tmp_path: Path) -> None:
    for spec in specs(tmp_path, defaults={"planner": FILL, "duration_s": [60, 90]}):
        assert spec.bounds is not None
        assert spec.bounds.open == ("bpm", "keyscale", "timesignature")
        assert spec.duration_s in (60, 90)


def test_what_is_not_left_to_the_planner_still_rotates(tmp_path: Path) -> None:
    tracks = specs(tmp_path, defaults={"planner": {**FILL, "open": ["keyscale"]}}, tracks=200)
    assert {spec.bpm for spec in tracks} == set(range(60, 91))
    assert {spec.keyscale for spec in tracks} == {None}


def test_the_words_of_open_tracks_still_differ(tmp_path: Path) -> None:
    tracks = planned(tmp_path, defaults={"planner": FILL}, tracks=100)
    assert len({each.track.spec.caption for each in tracks}) == 100
    assert len({each.track.take().id for each in tracks}) == 100


def test_a_word_for_the_tempo_is_true_of_every_tempo_the_planner_may_choose(tmp_path: Path) -> None:
    worded = [spec for spec in specs(tmp_path, defaults={"planner": FILL}, tracks=80) if " in a " in spec.caption]
    found = {}
    for spec in worded:
        assert spec.bounds is not None
        assert spec.bounds.bpm is not None
        assert {tempo_word(bpm) for bpm in spec.bounds.choices("bpm")} == {spec.caption.split()[0]}  # type: ignore[arg-type]
        found[spec.caption.split()[0]] = spec.bounds.bpm
    assert found == {"slow": (60, 71), "relaxed": (72, 90)}


@pytest.mark.parametrize(
    ("low", "high", "parts"),
    [
        (30, 300, [(30, 71), (72, 91), (92, 111), (112, 131), (132, 300)]),
        (72, 91, [(72, 91)]),
        (71, 92, [(71, 71), (72, 91), (92, 92)]),
        (140, 140, [(140, 140)]),
    ],
)
def test_a_tempo_range_falls_into_parts_of_one_word(low: int, high: int, parts: list[tuple[int, int]]) -> None:
    assert tempo_parts(low, high) == parts
    assert [bpm for part in parts for bpm in range(part[0], part[1] + 1)] == list(range(low, high + 1))


def test_the_nearer_setting_decides_what_is_open(tmp_path: Path) -> None:
    root = a_library(tmp_path, 2, 2)
    rules = [
        {"zone": "z0", "set": {"planner": False}},
        {"zone": "z1", "genre": "g0", "set": {"planner": {"open": ["keyscale"]}}},
        {"zone": "z1", "genre": "g1", "set": {"planner": {"metadata": "given"}}},
    ]
    tracks = [each.track for each in expand(a_catalog(root, defaults={"planner": FILL}, rules=rules))]
    for track in tracks:
        is_open = (track.zone, track.genre) == ("z1", "g0")
        assert track.spec.is_open is is_open
        assert (track.spec.keyscale is None) is is_open
        assert (track.spec.planner is None) is (track.zone == "z0")


def test_a_genre_may_leave_its_key_to_the_planner(tmp_path: Path) -> None:
    root = a_library(tmp_path, 1, 2)
    write(root / "genres/g1.yaml", {**GENRE, "defaults": {"planner": {**FILL, "open": ["keyscale"]}}})
    tracks = [each.track for each in expand(a_catalog(root))]
    assert {(track.genre, track.spec.keyscale is None) for track in tracks} == {("g0", False), ("g1", True)}


def test_reuse_reaches_the_further_takes(tmp_path: Path) -> None:
    tracks = planned(tmp_path, defaults={"planner": {**FILL, "reuse": True}, "takes": 3}, tracks=2)
    for each in tracks:
        assert len({each.track.take(number).lm_seed for number in range(1, each.takes + 1)}) == 1
        assert len({each.track.take(number).dit_seed for number in range(1, each.takes + 1)}) == 3


@pytest.mark.parametrize(
    ("planner", "kind", "words"),
    [
        ({"open": ["bpm"]}, PresetError, ":8: the planner shall choose bpm, but 'metadata: fill' is missing"),
        ({"metadata": "given", "open": ["bpm"]}, PresetError, ":9: the planner shall choose bpm, but 'metadata: fill'"),
        ({**FILL, "open": []}, PresetError, ":9: defaults.planner.open: it names no field"),
        ({**FILL, "open": ["key"]}, OutOfRangeError, ":10: defaults.planner.open"),
        ({"metadata": "filled"}, OutOfRangeError, ":8: defaults.planner.metadata: 'filled'"),
        ({**FILL, "open": ["duration"]}, PresetError, ":9: the planner shall choose the duration, but there is only"),
    ],
)
def test_a_fill_that_cannot_be_is_refused_with_its_line(
    tmp_path: Path, planner: dict[str, Any], kind: type[PresetError], words: str
) -> None:
    with pytest.raises(kind) as refused:
        planned(tmp_path, defaults={"planner": planner})
    assert f"c.yaml{words}" in refused.value.what
    assert refused.value.fix


def test_the_line_is_that_of_the_file_that_asks(tmp_path: Path) -> None:
    root = a_library(tmp_path, 1, 1)
    write(root / "genres/g0.yaml", {"defaults": {"planner": {**FILL, "open": ["duration"]}}, **GENRE})
    with pytest.raises(PresetError, match=r"g0\.yaml:4: the planner shall choose the duration"):
        list(expand(a_catalog(root)))


def test_a_model_without_a_planner_fills_nothing(tmp_path: Path) -> None:
    catalog = a_catalog(a_library(tmp_path, 1, 1), defaults={"planner": FILL})
    assert list(expand(catalog, model="tiny-random"))
    with pytest.raises(PresetError, match=r"c\.yaml:8: the planner shall choose bpm.*tone has no planner"):
        list(expand(catalog, model="tone"))
    with pytest.raises(PresetError, match="tone has no planner"):
        from_rows(tmp_path, "caption\none\n", model="tone", defaults={"planner": FILL})
    assert list(expand(a_catalog(tmp_path, model="tone", defaults={"planner": False})))


def test_a_row_leaves_to_the_planner_what_it_does_not_say(tmp_path: Path) -> None:
    rows = "caption,bpm,keyscale,timesignature,planner\none,,,,\ntwo,72,,,\nthree,72,F# minor,3/4,\nfour,,,,false\n"
    one, two, three, four = from_rows(tmp_path, rows, defaults={"planner": FILL})
    assert one.bounds is not None
    assert one.bounds.choices("bpm") == tuple(range(30, 301))
    assert (len(one.bounds.keyscales), one.bounds.timesignatures) == (42, ("2", "3", "4", "6"))
    assert (two.bpm, two.bounds and two.bounds.open) == (72, ("keyscale", "timesignature"))
    assert (three.is_open, three.planner and three.planner.metadata) == (False, "given")
    assert (four.planner, four.is_open) == (None, False)
    assert four.bpm is not None
    assert 84 <= four.bpm <= 124


def test_what_the_catalog_says_bounds_the_choice_for_its_rows(tmp_path: Path) -> None:
    said = {"tempo": [70, 80], "keys": ["D minor"], "duration_s": {"from": 60, "to": 120, "step": 20}}
    planner = {**FILL, "open": ["bpm", "keyscale", "duration"]}
    one, two = from_rows(tmp_path, "caption,duration\none,\ntwo,33\n", defaults={**said, "planner": planner})
    bounds = Bounds(bpm=(70, 80), keyscales=("D minor",), duration_s=(60, 120), duration_step_s=20)
    assert (one.bounds, one.duration_s) == (bounds, 120)
    assert (two.duration_s, two.bounds and two.bounds.duration_s) == (33, None)


def test_a_catalog_of_rows_whose_tempo_ranges_do_not_meet_is_refused(tmp_path: Path) -> None:
    rules = [{"zone": "bar", "set": {"tempo": [100, 120]}}]
    with pytest.raises(PresetError, match="no tempo is left for the prompts of bar/imported"):
        from_rows(tmp_path, "caption,zone\none,bar\n", defaults={"tempo": [60, 80]}, rules=rules)


def test_what_is_given_beside_an_open_tempo_comes_in_every_combination_before_one_returns(tmp_path: Path) -> None:
    # By caption template: 4 ensembles x 3 x 4 moods x 3 textures x 2 scenes; 4 x 7 x 3, and 2 words for the tempo.
    words = min(4 * 3 * 4 * 3 * 2, 4 * 7 * 3 * 2)
    tracks = specs(tmp_path, defaults={"planner": {**FILL, "open": ["bpm"]}}, tracks=2 * words * len(GENRE["keys"]))
    assert len({(spec.caption, spec.keyscale) for spec in tracks}) == len(tracks)

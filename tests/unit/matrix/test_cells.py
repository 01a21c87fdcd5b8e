"""Cells and shares: the counts add up exactly, and what cannot be kept is refused with its line."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import EmptyMatrixError, PresetError, TunemillError, UnknownNameError
from catalog.settings import Settings
from orchestrator.matrix import cells, expand, lay_out, load_catalog
from orchestrator.matrix.shares import Quota, share_out, split_by_weight
from tests.support.preset_files import GENRE, ZONE, a_catalog, a_library, write

WEIGHTS = st.lists(st.fractions(0, 100, max_denominator=1000), min_size=1, max_size=40)


@given(st.integers(0, 10**6), WEIGHTS)
def test_parts_sum_exactly_and_lie_within_one_of_their_share(total: int, weights: list[Fraction]) -> None:
    if not sum(weights):
        weights = [*weights, Fraction(1)]
    parts = split_by_weight(total, weights, range(len(weights)))
    assert sum(parts) == total
    assert all(abs(part - total * weight / sum(weights)) < 1 for part, weight in zip(parts, weights, strict=True))


@given(st.data())
def test_nested_quotas_all_hold(data: st.DataObject) -> None:
    count = data.draw(st.integers(3, 20))
    middle = data.draw(st.integers(2, count - 1))
    inner = data.draw(st.integers(1, middle - 1))
    first, second, total = sorted(data.draw(st.tuples(*[st.integers(0, 500)] * 3)))
    quotas = [Quota(frozenset(range(middle)), second, "a:1"), Quota(frozenset(range(inner)), first, "a:2")]
    counts = share_out([Fraction(1)] * count, range(count), quotas, total=total, per_cell=None, where="a:0")
    assert (sum(counts), sum(counts[:middle]), sum(counts[:inner])) == (total, second, first)


@pytest.mark.parametrize(
    ("quotas", "total", "words"),
    [
        ([Quota(frozenset({0, 1}), 5, "f:3"), Quota(frozenset({1, 2}), 5, "f:4")], 20, "f:4: .*share some cells"),
        ([Quota(frozenset({0, 1}), 25, "f:3")], 20, "f:2: 20 tracks are fewer than the 25"),
        ([Quota(frozenset({0, 1, 2}), 15, "f:3")], 20, "20 tracks for cells that have|15 tracks for cells that have"),
        ([Quota(frozenset({0}), 1, "f:3"), Quota(frozenset({0}), 2, "f:4")], 20, "f:4: 2 tracks for cells"),
        ([Quota(frozenset({0, 1}), 5, "f:3"), Quota(frozenset({2}), 5, "f:4")], 20, "f:2: 10 of the 20"),
    ],
)
def test_quotas_that_cannot_hold_are_refused(quotas: list[Quota], total: int, words: str) -> None:
    with pytest.raises(PresetError, match=words):
        share_out([Fraction(1)] * 3, range(3), quotas, total=total, per_cell=None, where="f:2")


def counts_of(root: Path, **content: Any) -> dict[str, int]:
    return {cell.name: cell.tracks for cell in cells(a_catalog(root, **content))}


def test_a_large_matrix_adds_up_and_its_expansion_agrees(tmp_path: Path) -> None:
    root = a_library(tmp_path, zones=12, genres=11)
    catalog = a_catalog(
        root,
        tracks=1009,
        weights=[{"zone": "z3", "weight": 2.5}, {"genre": ["g1", "g2"], "weight": 0}, {"zone": "z3", "weight": 3}],
        quotas=[{"zone": "z0", "tracks": 100}, {"zone": "z0", "genre": "g0", "tracks": 7}],
    )
    layout = cells(catalog)
    assert sum(cell.tracks for cell in layout) == 1009 == sum(1 for _ in expand(catalog))
    assert sum(cell.tracks for cell in layout if cell.zone == "z0") == 100
    assert {cell.name: cell.tracks for cell in layout}["z0/g0"] == 7
    # The last matching weight holds: zone z3 keeps its share even of genre g1.
    assert {cell.zone for cell in layout if cell.genre == "g1" and cell.tracks} == {"z3"}


def test_a_few_tracks_visit_many_zones_and_genres(tmp_path: Path) -> None:
    some = [name for name, count in counts_of(a_library(tmp_path, 3, 4), tracks=6).items() if count]
    assert {name.split("/")[0] for name in some} == {"z0", "z1", "z2"}
    assert {name.split("/")[1] for name in some} == {"g0", "g1", "g2", "g3"}


def test_exclude_include_and_axes_shape_the_matrix(tmp_path: Path) -> None:
    matrix = {
        "zones": ["z0"],
        "genres": ["g0", "g1"],
        "axes": {"daypart": {"day": {"tempo": [60, 70]}, "night": None}},
        "exclude": [{"genre": "g1", "daypart": ["night"]}],
        "include": [{"zone": "z1", "genre": "g0", "daypart": "day", "tracks": 5, "set": {"duration_s": 300}}],
    }
    counts = counts_of(a_library(tmp_path), matrix=matrix, tracks=None, tracks_per_cell=2)
    assert counts == {
        "z0/g0/daypart=day": 2,
        "z0/g0/daypart=night": 2,
        "z0/g1/daypart=day": 2,
        "z1/g0/daypart=day": 5,
    }


def test_the_nearer_setting_wins_and_tempo_narrows(tmp_path: Path) -> None:
    root = a_library(tmp_path, 1, 1)
    layers = {"duration_s": 20, "steps": 2, "shift": 1.5}
    genre = {**GENRE, "defaults": {**layers, "takes": 9, "planner": {"top_p": 0.5}}}
    write(root / "genres/g0.yaml", genre)
    zone = {**ZONE, "loudness_lufs": -20, "avoid": ["drums"], "defaults": {"duration_s": 30, "takes": 8}}
    write(root / "zones/z0.yaml", zone)
    matrix = {
        "zones": "all",
        "genres": "all",
        "axes": {"time": {"day": {"duration_s": 50, "tempo": [70, 300], "moods": ["fresh"]}}},
        "include": [{"zone": "z0", "genre": "g0", "set": {"duration_s": 60, "planner": {"top_k": 5}}}],
    }
    rules = [{"zone": "z0", "set": {"duration_s": 70}}, {"genre": "g0", "set": {"tempo": [30, 80], "seed": 7}}]
    defaults = {"duration_s": 40, "takes": 7, "planner": True}
    (cell,) = cells(a_catalog(root, matrix=matrix, rules=rules, defaults=defaults))
    found = cell.settings
    assert (found.diffusion.values["steps"], found.diffusion.values["shift"]) == ((2,), (1.5,))
    assert (found.takes, found.duration_s) == ((7,), (70,))
    assert (found.tempo.low, found.tempo.high, found.master.loudness_lufs, found.seed) == (70, 80, -20, 7)
    assert found.moods == ("fresh",)
    assert found.planner is not None
    assert (found.planner.top_p, found.planner.top_k, found.planner.negative_prompt) == (0.5, 5, "drums")


def test_tempo_ranges_that_do_not_meet_are_listed_with_lines_to_paste(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    write(root / "genres/fast.yaml", {**GENRE, "tempo": [150, 180]})
    with pytest.raises(PresetError) as raised:
        cells(a_catalog(root))
    assert "z0 x fast: zone 60-100, genre 150-180" in raised.value.why
    assert "- {zone: z1, genre: [fast]}" in raised.value.fix
    layout = lay_out(a_catalog(root, matrix={"zones": "all", "genres": "all", "tempo_clashes": "exclude"}))
    assert layout.left_out == ["z0/fast", "z1/fast"]
    assert sum(cell.tracks for cell in layout.cells) == 24


def test_a_clash_in_a_matrix_of_another_file_is_mended_in_the_file_that_extends_it(tmp_path: Path) -> None:
    root = a_library(tmp_path, 1, 1)
    write(root / "genres/fast.yaml", {**GENRE, "tempo": [150, 180]})
    a_catalog(root, "base")
    mine = write(root / "catalogs/mine.yaml", "title: Mine\nextends: base\n")
    with pytest.raises(PresetError, match=r"base\.yaml:\d+: 1 cell has no tempo") as raised:
        cells(load_catalog(mine, None, Settings()))
    assert raised.value.fix == f"write 'matrix: {{tempo_clashes: exclude}}' in {mine}"
    write(mine, "title: Mine\nextends: base\nmatrix: {tempo_clashes: exclude}\n")
    assert lay_out(load_catalog(mine, None, Settings())).left_out == ["z0/fast"]


WRONG: list[tuple[type[TunemillError], str, dict[str, Any]]] = [
    (UnknownNameError, r"c.yaml:\d+: zone 'zz'", {"matrix": {"zones": ["zz"], "genres": "all"}}),
    (UnknownNameError, r"c.yaml:\d+: genre 'g9'", {"rules": [{"genre": "g9", "set": {}}]}),
    (UnknownNameError, r"c.yaml:\d+: axis 'time' has no value 'dya'", {
        "matrix": {"zones": "all", "genres": "all", "axes": {"time": {"day": {}}}, "exclude": [{"time": "dya"}]}
    }),
    (PresetError, r"c.yaml:\d+: 'gnre' is neither", {"weights": [{"gnre": "g0", "weight": 2}]}),
    (PresetError, r"c.yaml:\d+: .*included here and excluded", {"matrix": {
        "zones": "all", "genres": "all", "exclude": [{"zone": "z0"}], "include": [{"zone": "z0", "genre": "g0"}]
    }}),
    (PresetError, r"c.yaml:\d+: no cell of the matrix matches zone z1", {
        "matrix": {"zones": ["z0"], "genres": "all"}, "quotas": [{"zone": "z1", "tracks": 3}]
    }),
    (PresetError, r"c.yaml:\d+: 24 tracks are fewer than the 25", {"quotas": [{"zone": "z1", "tracks": 25}]}),
    (PresetError, r"c.yaml:\d+: 24 of the 24 tracks", {"weights": [{"weight": 0}]}),
    (PresetError, "how many tracks", {"tracks": None}),
    (PresetError, "weights divide 'tracks'", {"tracks": None, "tracks_per_cell": 2, "weights": [{"weight": 2}]}),
    (EmptyMatrixError, "this matrix has no track", {
        "matrix": {"zones": "all", "genres": "all", "exclude": [{"zone": ["z0", "z1"]}]}
    }),
    (EmptyMatrixError, "this matrix has no track", {"matrix": {}}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "words", "content"), WRONG)
def test_a_matrix_that_cannot_be_is_refused_with_its_line(
    tmp_path: Path, kind: type[TunemillError], words: str, content: dict[str, Any]
) -> None:
    with pytest.raises(TunemillError, match=words) as raised:
        cells(a_catalog(a_library(tmp_path), **content))
    assert type(raised.value) is kind
    assert raised.value.fix


MP3 = {"format": "mp3"}
DEEP = {"bit_depth": 16}


@pytest.mark.parametrize(
    "content",
    [
        {"defaults": {**MP3, **DEEP}},
        {"defaults": MP3, "rules": [{"zone": "z0", "set": DEEP}]},
        {"rules": [{"zone": "z0", "set": {"format": "ogg", **DEEP}}]},
    ],
)
def test_a_bit_depth_of_a_format_that_has_none_is_refused_where_it_is_written(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    with pytest.raises(PresetError, match=r"c\.yaml:\d+: bit_depth: 16 has no effect on (mp3|ogg) files") as raised:
        cells(a_catalog(a_library(tmp_path), **content))
    line = int(raised.value.what.split(":")[1])
    assert "bit_depth" in (tmp_path / "catalogs/c.yaml").read_text().splitlines()[line - 1]
    assert raised.value.fix == "remove 'bit_depth', or write 'format: flac'"


@pytest.mark.parametrize(
    "content",
    [
        {"defaults": {"format": "wav", **DEEP}},
        {"defaults": DEEP},
        {"defaults": MP3},
        # The nearer layer chooses another format over what the farther one says of lossless files.
        {"defaults": DEEP, "rules": [{"zone": "z0", "set": MP3}]},
    ],
)
def test_a_bit_depth_may_stand_where_a_nearer_setting_chooses_another_format(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    assert cells(a_catalog(a_library(tmp_path), **content))


def test_a_catalog_may_choose_another_format_over_the_bit_depth_that_it_inherits(tmp_path: Path) -> None:
    a_catalog(root := a_library(tmp_path), "base", defaults={"format": "flac", **DEEP})
    write(root / "catalogs/c.yaml", {"extends": "base", "defaults": MP3})
    assert cells(load_catalog("c", root, Settings()))

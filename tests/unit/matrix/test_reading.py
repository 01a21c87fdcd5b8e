"""Reading presets: every mistake is answered with file and line, and YAML holds no surprises."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import OutOfRangeError, PresetError, TunemillError, UnknownNameError, UnreadableFileError
from catalog.settings import Settings
from orchestrator.matrix import PresetLibrary, load_catalog
from orchestrator.matrix.layers import LayerName, find_layers, writable_root
from orchestrator.matrix.located import read_located
from tests.support.preset_files import GENRE, ZONE, a_catalog, a_library, write

ZONE_TEXT = """\
name: Spa
description: Rest.
energy: 1
tempo: [60, 100]
moods: [calm, warm, still]
scenes: [a spa, a pool]
title_words: [a, b, c, d, e, f]
"""


def zone_error(tmp_path: Path, text: str | bytes) -> TunemillError:
    """The error of a library whose one zone is `text`."""
    root = a_library(tmp_path, 0, 1)
    (root / "zones").mkdir(exist_ok=True)
    (root / "zones/spa.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(TunemillError) as raised:
        PresetLibrary(root).zone("spa")
    return raised.value


BROKEN: list[tuple[str | bytes, type[TunemillError], str]] = [
    ("", UnreadableFileError, "the file is empty"),
    ("# only a comment\n", UnreadableFileError, "the file is empty"),
    (b"RIFF\x00\x01\x02", UnreadableFileError, "binary file"),
    (b"name: caf\xe9\n", UnreadableFileError, ":1: the file is not UTF-8"),
    ("- a\n- b\n", UnreadableFileError, ":1: the file is not a mapping"),
    ("a: 1\n\tb: 2\n", UnreadableFileError, ":2: this is not valid YAML"),
    ("a: [1\nb: 2\n", UnreadableFileError, ":2: this is not valid YAML"),
    ("a: 1\n---\nb: 2\n", UnreadableFileError, "valid YAML"),
    ("a: " + "[" * 100_000, UnreadableFileError, ":1: nested too deeply"),
    ("a: &a [*a]\n", UnreadableFileError, ":1: nested too deeply"),
    (
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)),
        UnreadableFileError,
        "too large",
    ),
    ("name: !!python/object/apply:os.getcwd []\n", PresetError, "missing"),
    ("name: !!python/name:os.getcwd x\n", PresetError, ":1: the tag"),
    (ZONE_TEXT + "name: Again\n", PresetError, ":8: 'name' is given twice"),
    (ZONE_TEXT + "scene: [x]\n", PresetError, ":8: 'scene' is not a key here"),
    (ZONE_TEXT + "defaults:\n  duration_z: 5\n", PresetError, ":9: 'duration_z' is not a key here"),
    (ZONE_TEXT + "defaults:\n  duration_s: 5\n", OutOfRangeError, ":9: defaults.duration_s"),
    (ZONE_TEXT + "defaults:\n  duration_s: 601\n", OutOfRangeError, ":9: defaults.duration_s"),
    (ZONE_TEXT + "defaults:\n  duration_s: {from: 5, to: 700}\n", OutOfRangeError, ":9: defaults.duration_s"),
    (ZONE_TEXT + "defaults:\n  keys: [H major]\n", OutOfRangeError, ":9: defaults.keys"),
    (ZONE_TEXT + "defaults:\n  language: english\n", OutOfRangeError, ":9: defaults.language"),
    (ZONE_TEXT + "defaults:\n  timesignatures: [5/4]\n", OutOfRangeError, ":9: defaults.timesignatures"),
    (ZONE_TEXT + "defaults:\n  planner: {modl: x}\n", PresetError, ":9: 'modl' is not a key here"),
    (ZONE_TEXT + "defaults:\n  planner: {model: huge}\n", PresetError, "'huge' is not a planner"),
    (ZONE_TEXT.replace("[60, 100]", "[60, 400]"), OutOfRangeError, ":4: tempo"),
    (ZONE_TEXT.replace("[60, 100]", "[100, 60]"), OutOfRangeError, ":4: tempo: the range"),
    (ZONE_TEXT.replace("[60, 100]", "slow"), PresetError, ":4: tempo"),
    (ZONE_TEXT.replace("[calm, warm, still]", "[calm, warm, Calm]"), PresetError, ":5: moods: 'Calm' is listed twice"),
    (ZONE_TEXT.replace("[calm, warm, still]", "['<|endoftext|>', a, b]"), PresetError, "a control token"),
    (ZONE_TEXT.replace("energy: 1\n", ""), PresetError, "energy is missing"),
    ("extends: nowhere\n", UnknownNameError, ":1: 'extends' names 'nowhere'"),
    ("extends: spa\n", PresetError, ":1: 'extends' goes in a circle: spa -> spa"),
]


@pytest.mark.parametrize(("text", "kind", "words"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_answered_with_its_name_and_line(
    tmp_path: Path, text: str | bytes, kind: type[TunemillError], words: str
) -> None:
    error = zone_error(tmp_path, text)
    assert type(error) is kind
    assert error.what.startswith(str(tmp_path / "zones/spa.yaml"))
    assert words in error.what
    assert error.fix


@pytest.mark.parametrize(
    "line", ["a{n}: &a{n} [{aliases}]", "a{n}: &a{n} {{k: [{aliases}]}}", "a{n}: &a{n} {{<<: [{aliases}], k{n}: 1}}"]
)
def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path, line: str) -> None:
    lines = ["a0: &a0 {k: v}"]
    lines += [line.format(n=n, aliases=", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 30)]
    began = time.process_time()
    assert "too large to be a preset" in zone_error(tmp_path, "\n".join(lines)).what
    assert time.process_time() - began < 0.5


def test_what_aliases_repeat_counts_each_time_and_at_its_depth(tmp_path: Path) -> None:
    repeated = "a: &a {k: [1, 2]}\nb: [*a, *a]\n"
    assert read_located(write(tmp_path / "x.yaml", repeated)).plain()["b"] == [{"k": [1, 2]}] * 2
    deep = "a: &a " + "[" * 25 + "x" + "]" * 25
    assert read_located(write(tmp_path / "x.yaml", deep)).plain()
    with pytest.raises(UnreadableFileError, match="nested too deeply"):
        read_located(write(tmp_path / "x.yaml", f"{deep}\nb: {'[' * 20}*a{']' * 20}\n"))


def test_all_problems_of_a_file_come_together_in_the_order_of_its_lines(tmp_path: Path) -> None:
    text = ZONE_TEXT.replace("[60, 100]", "[60, 400]").replace("energy: 1", "energy: 9") + "moodz: [x]\n"
    lines = zone_error(tmp_path, text).what.splitlines()
    assert [line.split(":")[1] for line in lines] == ["3", "4", "8"]


def test_a_wrong_entry_of_a_list_is_one_problem_not_two(tmp_path: Path) -> None:
    error = zone_error(tmp_path, ZONE_TEXT + "defaults:\n  duration_s: 5\n")
    assert len(error.what.splitlines()) == 1
    assert zone_error(tmp_path, ZONE_TEXT + "defaults:\n  duration_s: []\n").what.endswith(
        "1 entry is needed, not none"
    )


def test_a_misspelt_key_is_answered_with_the_right_one(tmp_path: Path) -> None:
    error = zone_error(tmp_path, ZONE_TEXT.replace("moods:", "mods:"))
    assert (error.fix, len(error.what.splitlines())) == ("write 'moods'", 1)


def test_words_that_old_yaml_takes_for_something_else_stay_words(tmp_path: Path) -> None:
    file = write(tmp_path / "x.yaml", "a: [no, on, 'yes', 12:30, 2026-01-01, ~, true, 7, 1.5]\nno: 1\n")
    plain = read_located(file).plain()
    assert plain["a"] == ["no", "on", "yes", "12:30", "2026-01-01", None, True, 7, 1.5]
    assert "no" in plain


def test_norwegian_metres_and_switches_are_read_as_meant(tmp_path: Path) -> None:
    text = "defaults:\n  language: no\n  timesignatures: [4, 3/4, '2']\n  planner: off\n  takes: 2\n"
    root = a_library(tmp_path, 0, 1)
    write(root / "zones/spa.yaml", ZONE_TEXT + text)
    found = PresetLibrary(root).zone("spa").content.defaults
    assert (found.language, found.timesignatures, found.planner, found.takes) == (("no",), ("4", "3", "2"), None, (2,))


def test_anchors_and_merge_keys_are_read(tmp_path: Path) -> None:
    file = write(tmp_path / "x.yaml", "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n")
    assert read_located(file).plain()["b"] == {"x": 1, "y": 3}


def test_inheritance_merges_mappings_and_replaces_lists(tmp_path: Path) -> None:
    root = a_library(tmp_path, 0, 1)
    write(root / "zones/base.yaml", {**ZONE, "defaults": {"steps": 4, "takes": 2}})
    write(root / "zones/spa.yaml", {"extends": "base", "moods": ["x", "y", "z"], "defaults": {"takes": 3}})
    found = PresetLibrary(root).zone("spa").content
    assert (found.name, found.moods, found.defaults.steps, found.defaults.takes) == ("Spa", ("x", "y", "z"), (4,), (3,))


def test_an_inherited_mistake_names_the_file_it_stands_in(tmp_path: Path) -> None:
    root = a_library(tmp_path, 0, 1)
    write(root / "zones/base.yaml", ZONE_TEXT.replace("[60, 100]", "[60, 400]"))
    write(root / "zones/spa.yaml", "extends: base\n")
    with pytest.raises(OutOfRangeError, match=r"zones/base\.yaml:4: tempo"):
        PresetLibrary(root).zone("spa")


def test_circles_of_inheritance_are_named(tmp_path: Path) -> None:
    root = a_library(tmp_path, 0, 1)
    write(root / "zones/a.yaml", "extends: b\n")
    write(root / "zones/b.yaml", "extends: a\n")
    with pytest.raises(PresetError, match=r"zones/b\.yaml:1: 'extends' goes in a circle: a -> b -> a"):
        PresetLibrary(root).zone("a")


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("only {mood}", "lacks {instruments}"),
        ("{mood} {instruments} {colour}", "{colour} is not a placeholder"),
        ("{mood {instruments}", "caption|braces"),
        ("{mood!r} {instruments}", "{mood!r} is not a placeholder"),
        ("{moood} {instruments}", "{moood} is not a placeholder"),
    ],
)
def test_a_caption_template_that_cannot_be_filled_is_refused(tmp_path: Path, caption: str, words: str) -> None:
    root = a_library(tmp_path, 1, 0)
    write(root / "genres/g.yaml", {**GENRE, "captions": [caption, "{mood} {instruments}"]})
    with pytest.raises(PresetError, match=r"g\.yaml:3: captions") as raised:
        PresetLibrary(root).genre("g")
    assert any(word in raised.value.what for word in words.split("|"))
    assert raised.value.fix.startswith("write {mood}") == ("not a placeholder" in words and "colour" not in words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"prompts": "x.csv"}, "either 'matrix' or 'prompts'"),
        ({"tracks_per_cell": 3}, "'tracks' \\(in all\\) and"),
        ({"matrix": None, "prompts": "../x.csv", "tracks": None}, "prompts"),
        ({"matrix": None, "prompts": "x.csv"}, "every row is a track"),
        ({"rules": [{"zone": "z0"}]}, r"rules\[0\].set is missing"),
        ({"rules": [{"zone": "z0", "set": {"tempo": [1, 2]}}]}, r"rules\[0\].set.tempo"),
        ({"weights": [{"zone": "z0", "weight": -1}]}, r"weights\[0\].weight"),
        ({"matrix": {"zones": "all", "genres": "all", "axes": {"Day Part": {"x": {}}}}}, "axes"),
    ],
)
def test_a_catalog_that_contradicts_itself_is_refused(tmp_path: Path, content: dict[str, Any], words: str) -> None:
    with pytest.raises(PresetError, match=rf"c\.yaml:\d+: .*{words}"):
        a_catalog(a_library(tmp_path), **content)


def test_an_unknown_name_is_answered_with_the_closest(tmp_path: Path) -> None:
    a_catalog(a_library(tmp_path), name="spa")
    with pytest.raises(UnknownNameError, match="catalog 'spaa' has no file") as raised:
        load_catalog("spaa", tmp_path, Settings())
    assert raised.value.fix == "write 'spa'"


@pytest.mark.parametrize("name", ["Spa.yaml", "_spa.yaml", "s pa.yaml", "spa.yml", "Süd.yaml"])
def test_a_file_whose_name_cannot_be_a_preset_is_refused_not_overlooked(tmp_path: Path, name: str) -> None:
    root = a_library(tmp_path)
    write(root / "zones" / name, ZONE)
    library = PresetLibrary(root)
    meant = {"s pa.yaml": "s_pa", "Süd.yaml": "sud"}.get(name, "spa")
    with pytest.raises(PresetError, match="zones") as raised:
        library.zone(meant)
    assert raised.value.fix == f"rename it to {meant}.yaml"
    with pytest.raises(PresetError, match="zones"):
        library.own_names("zones")
    assert library.zone("z0").name == "z0"
    assert library.names("zones") == ["z0", "z1"]


def test_a_catalog_file_in_a_library_brings_that_library(tmp_path: Path) -> None:
    catalog = a_catalog(a_library(tmp_path))
    found = load_catalog(tmp_path / "catalogs/c.yaml", None, Settings())
    assert (found.library.root, found.name, found.title, found.model) == (tmp_path, catalog.name, "C", "auto")


def test_a_catalog_file_elsewhere_uses_the_default_library(tmp_path: Path) -> None:
    root = a_library(tmp_path / "lib")
    file = write(tmp_path / "mine.yaml", {"title": "M", "matrix": {"zones": ["z0"], "genres": ["g0"]}, "tracks": 1})
    assert load_catalog(str(file), None, Settings(presets=root)).library.root == root


def test_the_layers_lie_in_the_promised_order_and_new_files_go_to_the_users_or_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, setting, here = (a_library(tmp_path / name) for name in ("option", "setting", "here/presets"))
    home, installed = tmp_path / "home", Path(__file__).parents[3] / "presets"
    monkeypatch.chdir(here.parent)

    def roots(chosen: Path | None, presets: Path | None) -> list[Path]:
        return [each.root for each in find_layers(chosen, Settings(presets=presets, home=home))]

    assert roots(option, setting) == [option, installed]
    assert roots(None, setting) == [setting, installed]
    assert roots(None, None) == [here, installed]
    a_library(home / "presets")
    assert roots(None, setting) == [setting, home / "presets", installed]
    assert writable_root(option, Settings(presets=setting, home=home)) == option
    assert writable_root(None, Settings(presets=setting, home=home)) == setting
    monkeypatch.chdir(tmp_path)
    assert roots(None, None) == [home / "presets", installed]
    assert writable_root(None, Settings(home=home)) == home / "presets"


def test_a_folder_that_is_two_layers_counts_as_the_higher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, installed = a_library(tmp_path / "presets"), Path(__file__).parents[3] / "presets"
    (tmp_path / "link").symlink_to(home)
    settings = Settings(home=tmp_path)
    assert [(each.name, each.root) for each in find_layers(tmp_path / "link", settings)] == [
        (LayerName.YOURS, tmp_path / "link"),
        (LayerName.INSTALLED, installed),
    ]
    assert [each.root for each in find_layers(installed, settings)] == [installed, home]
    # To stand in the checkout is not to have an own folder: a home still lies above what is installed.
    monkeypatch.chdir(installed.parent)
    assert [each.root for each in find_layers(None, settings)] == [home, installed]
    assert writable_root(None, settings) == home


def test_paths_are_shown_as_the_user_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = a_library(tmp_path / "presets")
    write(root / "zones/spa.yaml", ZONE_TEXT.replace("[60, 100]", "[60, 400]"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutOfRangeError, match=r"^presets/zones/spa\.yaml:4: tempo"):
        PresetLibrary(root).zone("spa")


def test_a_folder_that_holds_no_presets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="not a preset folder"):
        PresetLibrary(tmp_path)

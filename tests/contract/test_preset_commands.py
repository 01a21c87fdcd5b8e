"""`tunemill presets`: what it prints, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from catalog.errors import TunemillError, UnknownNameError
from orchestrator.cli import presets
from orchestrator.matrix.schema import schemas
from tests.support.preset_files import GENRE, a_catalog, a_library, write

REPO = Path(__file__).parents[2]


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and standard output of `tunemill presets ...` on a terminal of 80 columns."""
    app = typer.Typer()
    presets.register(app)
    app.callback()(lambda: None)
    done = CliRunner().invoke(app, ["presets", *map(str, arguments)], env={"COLUMNS": "80"})
    if isinstance(done.exception, TunemillError):
        return done.exception.exit_code, done.exception.what
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def told(*arguments: str | Path) -> None:
    """Run `tunemill presets ...` and raise what it would be answered with."""
    app = typer.Typer()
    presets.register(app)
    app.callback()(lambda: None)
    CliRunner().invoke(app, ["presets", *map(str, arguments)], catch_exceptions=False)


def run_json(*arguments: str | Path) -> Any:
    code, printed = run(*arguments, "--json")
    assert code == 0
    return json.loads(printed)


def test_list_names_every_preset(tmp_path: Path) -> None:
    a_catalog(a_library(tmp_path))
    code, printed = run("list", "--presets", tmp_path)
    assert code == 0
    assert all(name in printed for name in ("z0", "z1", "g0", "g1", "\nc ", "19 zones"))
    assert list(run_json("list", "zones", "--presets", tmp_path)) == ["zones"]
    assert run("list", "zoness", "--presets", tmp_path)[0] == 10


def test_list_tells_for_each_the_layer_and_what_it_shadows(tmp_path: Path) -> None:
    a_catalog(a_library(tmp_path, 0, 1))
    write(tmp_path / "zones/hotel_lobby.yaml", {"extends": "hotel_lobby", "description": "mine"})
    (mine,) = [each for each in run_json("list", "zones", "--presets", tmp_path)["zones"] if each["layer"] == "yours"]
    path = tmp_path / "zones/hotel_lobby.yaml"
    assert (mine["name"], mine["shadows"], mine["path"]) == ("hotel_lobby", ["installed"], str(path))
    printed = run("list", "--presets", tmp_path)[1]
    rows = {line.split()[0]: line for line in printed.splitlines() if line}
    assert "yours, over installed" in rows["hotel_lobby"]
    assert rows["yours"].split() == ["yours", str(tmp_path)]
    assert rows["installed"].split() == ["installed", str(REPO / "presets")]


def test_a_broken_preset_costs_the_list_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = a_library(tmp_path)
    write(root / "zones/broken.yaml", "")
    write(root / "zones/Mis Named.yaml", "")
    code, printed = run("list", "zones", "--presets", tmp_path)
    assert (code, "z0 " in printed, "broken " in printed, "Mis Named.yaml " in printed) == (15, True, True, True)
    code, printed = run("list", "zones", "--presets", tmp_path, "--json")
    found = {each["name"]: each.get("error", {}).get("exit_code") for each in json.loads(printed)["zones"]}
    assert (code, found["broken"], found["Mis Named.yaml"], found["z0"]) == (15, 15, 11, None)


def test_a_broken_zone_is_told_once_with_the_catalogs_that_it_breaks(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    a_catalog(root, "a")
    a_catalog(root, "b")
    write(root / "zones/z1.yaml", "")
    app = typer.Typer()
    presets.register(app)
    app.callback()(lambda: None)
    told_of = CliRunner().invoke(app, ["presets", "check", "--presets", str(root)]).stderr
    assert told_of.count("z1.yaml: the file is empty") == 1
    assert "it breaks as well: catalog a, catalog b" in told_of


def test_check_without_names_reads_the_own_folder_alone_and_a_name_wherever_it_is(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    assert {each["name"] for each in run_json("check", "--presets", root)["presets"]} == {"z0", "z1", "g0", "g1"}
    (found,) = run_json("check", "hotel_lobby", "--presets", root)["presets"]
    assert found["ok"]
    write(root / "zones/Mis Named.yaml", "")
    code, printed = run("check", "--presets", root, "--json")
    assert (code, [each["name"] for each in json.loads(printed)["presets"] if not each["ok"]]) == (
        11,
        ["Mis Named.yaml"],
    )


def test_every_cell_is_shown_with_its_axes_and_one_without_a_track_too(tmp_path: Path) -> None:
    axes = {"season": {"summer": {}, "winter": {}}}
    a_catalog(a_library(tmp_path), matrix={"zones": ["z0"], "genres": ["g0"], "axes": axes}, tracks=1)
    cells = run_json("show", "c", "--presets", tmp_path)["catalog"]["cells"]
    assert [(each["axes"], each["tracks"]) for each in cells] == [({"season": "summer"}, 1), ({"season": "winter"}, 0)]
    lines = [line.split() for line in run("show", "c", "--cells", "--presets", tmp_path)[1].splitlines()]
    assert ["zone", "genre", "season", "cells", "tracks", "bpm"] in lines
    assert ["z0", "g0", "winter", "1", "0", "60-90"] in lines
    assert run_json("show", "c", "--presets", tmp_path)["catalog"]["notes"] == [
        "1 track is too few for 2 cells: 1 cell gets none: z0/g0/season=winter; raise 'tracks'"
    ]


def test_new_writes_to_the_own_folder_which_it_may_begin_and_says_what_is_next(tmp_path: Path) -> None:
    folder = tmp_path / "my own"
    code, printed = run("new", "zone", "bar", "--presets", folder)
    assert (code, (folder / "zones/bar.yaml").exists()) == (0, True)
    assert f"`tunemill presets check bar --presets '{folder}'`" in " ".join(printed.split())
    assert run_json("check", "bar", "--presets", folder)["ok"]
    made = run_json("new", "genre", "samba", "--from", "bossa_nova", "--presets", folder)
    assert made == {"kind": "genre", "name": "samba", "path": str(folder / "genres/samba.yaml"), "from": "bossa_nova"}
    assert run("new", "zone", "bar", "--presets", folder)[0] == 11
    assert run("new", "thing", "bar", "--presets", folder)[0] == 10


def test_new_without_an_own_folder_writes_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(REPO)
    assert run("new", "catalog", "spring")[0] == 0
    assert (tmp_path / "home/presets/catalogs/spring.yaml").exists()
    assert run_json("check")["ok"]


def test_show_gives_cells_counts_and_examples(tmp_path: Path) -> None:
    a_catalog(a_library(tmp_path))
    shown = run_json("show", "c", "--presets", tmp_path)["catalog"]
    assert (shown["tracks"], len(shown["groups"]), len(shown["examples"])) == (24, 4, 4)
    code, printed = run("show", tmp_path / "catalogs/c.yaml")
    assert code == 0
    assert "24 tracks" in printed
    assert run_json("show", "z1", "--presets", tmp_path)["zone"]["name"] == "Zone 1"
    assert run("show", "z9", "--presets", tmp_path)[0] == 10


def test_a_large_matrix_is_summed_up_by_zone_and_by_genre_unless_all_cells_are_wanted() -> None:
    code, printed = run("show", "hotel_group", "--presets", REPO / "presets")
    short = [line.split()[:2] for line in printed.splitlines()]
    assert code == 0
    assert sum(words[:1] == ["poolside"] for words in short) == sum(words[:1] == ["bossa_nova"] for words in short) == 1
    assert sum(words[:1] == ["total"] for words in short) == 2
    code, printed = run("show", "hotel_group", "--cells", "--presets", REPO / "presets")
    assert ["poolside", "bossa_nova"] in [line.split()[:2] for line in printed.splitlines()]


def test_check_finds_every_mistake_and_exits_with_the_first_ones_code(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    a_catalog(root)
    assert run("check", "--presets", root)[0] == 0
    write(root / "genres/g1.yaml", {**GENRE, "tempo": [60, 400]})
    write(root / "catalogs/d.yaml", "")
    code, printed = run("check", "--presets", root, "--json")
    found = {each["name"]: each for each in json.loads(printed)["presets"]}
    assert code == 12
    assert {name for name, each in found.items() if not each["ok"]} == {"g1", "c", "d"}
    assert found["d"]["error"]["exit_code"] == 15
    assert run("check", "z0", "--presets", root)[0] == 0
    assert run("check", "nothing", "--presets", root)[0] == 10


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_name_that_is_not_there_is_answered_with_the_one_that_was_meant(tmp_path: Path, command: str) -> None:
    a_catalog(a_library(tmp_path), name="seehof")
    names = {"SEEHOF": "seehof", "Seehof.YAML": "seehof", "seehof.yaml": "seehof", "z1.yaml": "z1", "Z1": "z1"}
    for name, meant in names.items():
        with pytest.raises(UnknownNameError) as raised:
            told(command, name, "--presets", tmp_path)
        assert raised.value.fix == f"write {meant!r}"
    for name in ("", "$(id)", "x\ny", "é" * 5_000):
        with pytest.raises(UnknownNameError, match="there is no zone, genre or catalog") as raised:
            told(command, name, "--presets", tmp_path)
        assert raised.value.fix == "`tunemill presets list` lists the presets"
        assert len(str(raised.value)) < 400


def test_a_path_that_is_no_text_is_still_told_as_json(tmp_path: Path) -> None:
    a_library(tmp_path)
    code, printed = run("check", f"{tmp_path}/\udcff.yaml", "--presets", tmp_path, "--json")
    (found,) = json.loads(printed.encode())["presets"]
    assert (code, found["name"]) == (15, f"{tmp_path}/\\udcff.yaml")


def test_import_writes_a_catalog_that_check_accepts(tmp_path: Path) -> None:
    root, file = a_library(tmp_path), write(tmp_path / "p.csv", "prompt,artist\n[warm] piano,me\n[warm] piano,me\n")
    code, printed = run("import", file, "--as", "mine", "--presets", root)
    assert (code, "duplicates" in printed) == (0, True)
    (found,) = run_json("check", "mine", "--presets", root)["presets"]
    assert (found["tracks"], found["captions"]) == (2, 1)
    code, printed = run("show", "mine", "--presets", root)
    assert "[warm] piano" in printed


@pytest.mark.parametrize("arguments", [["list"], ["show", "hotel_group"], ["show", "bossa_nova"], ["check", "demo"]])
def test_nothing_is_wider_than_the_terminal(arguments: list[str], terminal: Callable[[int], None]) -> None:
    terminal(80)
    code, printed = run(*arguments, "--presets", REPO / "presets")
    assert code == 0
    assert max(len(line) for line in printed.splitlines()) <= 80


def test_the_shipped_library_is_sound() -> None:
    assert run("check", "--presets", REPO / "presets")[0] == 0


def test_what_the_planner_chooses_is_called_open(tmp_path: Path, terminal: Callable[[int], None]) -> None:
    every = {"metadata": "fill", "open": ["bpm", "keyscale", "timesignature", "duration"]}
    a_catalog(
        a_library(tmp_path, 2, 1),
        defaults={"duration_s": [60, 90, 150]},
        rules=[{"zone": "z1", "set": {"planner": every}}],
    )
    shown = run_json("show", "c", "--presets", tmp_path)["catalog"]
    assert [group["open"] for group in shown["groups"]] == [[], ["bpm", "duration", "keyscale", "timesignature"]]
    assert shown["examples"][-1]["spec"]["bpm"] is None
    terminal(120)
    code, printed = run("show", "c", "--cells", "--presets", tmp_path)
    assert code == 0
    rows = {line.split()[0]: line for line in printed.splitlines() if line.split()[1:2] == ["g0"]}
    assert rows["z0"].split()[-2:] == ["60-90", "-"]
    assert rows["z1"].endswith("60-90  bpm, duration, keyscale, timesignature")
    assert "60-71 bpm open, key open, metre open, 60-150 s open" in " ".join(printed.split())


def test_a_catalog_that_leaves_nothing_open_does_not_speak_of_it(tmp_path: Path) -> None:
    a_catalog(a_library(tmp_path))
    assert "the planner chooses" not in run("show", "c", "--presets", tmp_path)[1]


def test_the_schemas_for_editors_are_current() -> None:
    for name, text in schemas().items():
        stored = REPO / "presets/schemas" / name
        assert stored.read_text(encoding="utf-8") == text, "run: python -m orchestrator.matrix.schema"


def test_check_counts_what_the_model_does_badly_and_calls_it_sound(tmp_path: Path) -> None:
    root = a_library(tmp_path, 1, 1)
    write(root / "catalogs/p.yaml", {"title": "P", "prompts": "p.csv"})
    write(root / "catalogs/p.csv", "caption,bpm,duration_s\nx,200,400\ny,90,400\n")
    (checked,) = run_json("check", "p", "--presets", root)["presets"]
    assert checked["ok"]
    assert [note.partition(",")[0] for note in checked["notes"]] == [
        *("2 tracks over 5 minutes", "1 track outside 60 to 180 bpm")
    ]

"""A renamed catalog, zone or genre keeps its tracks, and goes by both names."""

from __future__ import annotations

import json
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from click.testing import CliRunner

from catalog.errors import PresetError, TunemillError, UnknownNameError
from catalog.settings import read_settings
from orchestrator.cli import catalog as catalog_command
from orchestrator.cli import controls as controls_command
from orchestrator.cli import plan as plan_command
from orchestrator.cli import status as status_command
from orchestrator.cli.costs import outlook as outlook_command
from orchestrator.ledger import open_ledger, plans
from orchestrator.ledger.facts import record_facts
from orchestrator.matrix import expand, load_catalog
from orchestrator.planning.plan import make_plan
from tests.support.farm import DOLLAR_AN_HOUR, attempt, started
from tests.support.makers import exactly
from tests.support.preset_files import GENRE, ZONE, a_library, write

AXES = {"daypart": {"morning": None, "late": {"moods": ["dim", "slow", "mellow"]}}}
CATALOG = {"title": "Mini", "model": "tone", "matrix": {"zones": "all", "genres": "all", "axes": AXES}, "tracks": 29}


@cache
def program() -> Any:
    """The commands that are asked here; the whole program takes long to put together."""
    small = typer.Typer()
    for module in (plan_command, catalog_command, status_command, controls_command):
        module.register(small)
    costs = typer.Typer()
    outlook_command.register(costs)
    small.add_typer(costs, name="costs")
    return typer.main.get_command(small)


class Place:
    """A home and a preset folder; `ids` are those of the takes that its catalog plans."""

    def __init__(self, root: Path) -> None:
        self.presets = a_library(root / "presets", zones=3, genres=2)
        write(self.presets / "catalogs" / "mini.yaml", CATALOG)

    def rename(self, kind: str, old: str, new: str, *, keep: bool = True) -> None:
        """Give a preset another name, and with `keep` say which it had."""
        file = self.presets / kind / f"{old}.yaml"
        content = yaml.safe_load(file.read_text())
        file.unlink()
        write(self.presets / kind / f"{new}.yaml", {**content, **({"renamed_from": old} if keep else {})})

    def ids(self, catalog: str = "mini") -> list[str]:
        loaded = load_catalog(catalog, self.presets, read_settings())
        return [planned.track.take(n + 1).id for planned in expand(loaded) for n in range(planned.takes)]

    def make(self, catalog: str = "mini") -> None:
        """The takes of the catalog were rendered and accepted."""
        plan = make_plan(load_catalog(catalog, self.presets, read_settings()), {})
        takes = list(plan.takes())
        with closing(open_ledger(read_settings().database)) as ledger, ledger.write() as connection:
            run_id = plans.begin_or_resume(connection, plan.catalog, plans.RunTerms("tone"), exactly(takes), 1).run_id
            made = [attempt(take, run_id=run_id) for take in takes]
            record_facts(connection, [started(), *made], lambda machine, at_ms: DOLLAR_AN_HOUR, 1)
            connection.exec_driver_sql("update run set state = 'finished'")

    def ask(self, *arguments: str) -> Any:
        return CliRunner().invoke(program(), list(arguments))

    def json(self, *arguments: str) -> Any:
        result = self.ask(*arguments, "--json")
        assert result.exception is None, result.output
        return json.loads(result.stdout)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TUNEMILL_PRESETS", str(made.presets))
    return made


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [("zones", "z0", "zz"), ("zones", "z2", "a"), ("genres", "g0", "zz"), ("genres", "g1", "a")],
)
def test_a_renamed_place_plans_the_same_takes_wherever_its_name_now_stands_in_the_alphabet(place, kind, old, new):
    before = place.ids()
    place.rename(kind, old, new)
    assert place.ids() == before
    place.rename(kind, new, "another", keep=False)  # the line stays as it is
    assert place.ids() == before


def test_without_the_line_a_renamed_place_is_another(place):
    before = place.ids()
    place.rename("zones", "z0", "zz", keep=False)
    assert not set(place.ids()) >= set(before)


def test_a_renamed_catalog_plans_the_same_takes_under_both_names(place):
    before = place.ids()
    place.rename("catalogs", "mini", "maxi")
    assert place.ids("maxi") == before
    assert place.ids("mini") == before
    assert place.ids(str(place.presets / "catalogs" / "maxi.yaml")) == before


def test_a_catalog_of_prompts_may_be_renamed_too(place):
    write(place.presets / "catalogs" / "p.yaml", {"title": "P", "model": "tone", "prompts": "p.csv"})
    write(place.presets / "catalogs" / "p.csv", "caption\na calm pad\nloud brass\n")
    before = place.ids("p")
    place.rename("catalogs", "p", "q")
    assert place.ids("q") == before


def test_a_preset_that_extends_a_renamed_one_keeps_its_own_name(place):
    place.rename("zones", "z0", "zz")
    write(place.presets / "zones" / "child.yaml", {"extends": "zz", "name": "Child"})
    tracks = [planned.track for planned in expand(load_catalog("mini", place.presets, read_settings()))]
    assert {track.zone for track in tracks} == {"z0", "z1", "z2", "child"}


def test_two_zones_that_would_share_their_tracks_are_refused(place):
    write(place.presets / "zones" / "twin.yaml", {**ZONE, "renamed_from": "z1"})
    with pytest.raises(PresetError, match=r"twin\.yaml:\d+.*'z1' and 'twin' would share"):
        place.ids()
    write(place.presets / "zones" / "z1.yaml", {**ZONE, "renamed_from": "z9"})
    assert place.ids()
    write(place.presets / "genres" / "twin.yaml", {**GENRE, "renamed_from": "g9"})
    write(place.presets / "genres" / "other.yaml", {**GENRE, "renamed_from": "g9"})
    with pytest.raises(PresetError, match="genres 'other' and 'twin' would share"):
        place.ids()


@pytest.mark.parametrize("asked", ["mini", "maxi"])
def test_two_catalogs_that_would_share_their_tracks_are_refused_whichever_is_asked_for(place, asked):
    write(place.presets / "catalogs" / "maxi.yaml", {**CATALOG, "renamed_from": "mini"})
    with pytest.raises(PresetError, match="would share the tracks of 'mini'") as told:
        place.ids(asked)
    assert "renamed_from" in told.value.fix


def test_a_renamed_catalog_hides_one_of_its_earlier_name_in_a_layer_below(place, tmp_path):
    write(place.presets / "catalogs" / "hotel.yaml", {**CATALOG, "title": "Mine", "renamed_from": "hotel_group"})
    loaded = load_catalog("hotel_group", place.presets, read_settings())
    assert (loaded.preset.name, loaded.title) == ("hotel", "Mine")


@pytest.mark.parametrize("wrong", ["Old Name", "a/b", 7, ["a"], ""])
def test_an_earlier_name_that_is_no_name_is_a_mistake(place, wrong):
    write(place.presets / "catalogs" / "mini.yaml", {**CATALOG, "renamed_from": wrong})
    with pytest.raises(TunemillError):
        place.ids()


def test_plan_list_and_status_show_the_new_names_and_take_both(place):
    place.make()
    place.rename("zones", "z0", "lounge")
    place.rename("catalogs", "mini", "maxi")
    for catalog in ("mini", "maxi"):
        for zone in ("z0", "lounge"):
            plan = place.json("plan", catalog, "--zone", zone)
            assert (plan["catalog"], {cell["zone"] for cell in plan["cells"]}) == ("maxi", {"lounge"})
            assert plan["takes"]["unchanged"] == plan["takes"]["total"] > 0
            listed = place.json("catalog", "list", catalog, "--zone", zone)
            assert {(row["catalog"], row["zone"]) for row in listed} == {("maxi", "lounge")}
            assert all(row["track"].startswith("mini/z0/") for row in listed)
    assert place.json("plan", "maxi")["takes"]["new"] == 0
    assert "maxi" in place.ask("status").stdout
    assert "\nlounge " in place.ask("plan", "maxi").stdout


@pytest.mark.parametrize(
    "command", [("retry",), ("catalog", "verify", "--quick"), ("costs", "forecast"), ("catalog", "list")]
)
def test_commands_that_read_the_ledger_take_the_new_name_of_a_catalog(place, command):
    place.make()
    before = place.ask(*command, "mini")
    place.rename("catalogs", "mini", "maxi")
    after = place.ask(*command, "maxi")
    assert (after.exit_code, type(after.exception)) == (before.exit_code, type(before.exception)), after.output
    assert isinstance(place.ask("retry", "midi").exception, UnknownNameError)


@pytest.mark.parametrize(
    ("kind", "old", "new"), [("zones", "z0", "lounge"), ("genres", "g1", "drift"), ("catalogs", "mini", "maxi")]
)
def test_a_plan_that_would_make_all_anew_for_a_name_says_how_to_keep_it(place, kind, old, new):
    place.make()
    place.rename(kind, old, new, keep=False)
    catalog = new if kind == "catalogs" else "mini"
    (hint,) = [note for note in place.json("plan", catalog)["notes"] if "renamed" in note]
    assert f"write `renamed_from: {old}` in {kind}/{new}.yaml" in hint
    file = place.presets / kind / f"{new}.yaml"
    file.write_text(file.read_text() + f"renamed_from: {old}\n")
    plan = place.json("plan", catalog)
    assert (plan["takes"]["new"], [note for note in plan["notes"] if "renamed" in note]) == (0, [])


def test_no_preset_that_comes_with_the_program_was_renamed():
    """`_may_be_renamed` (orchestrator/cli/names.py) does not look there, which saves every command that time."""
    for file in (Path(__file__).parents[2] / "presets").glob("*/*.yaml"):
        assert "renamed_from" not in file.read_text()

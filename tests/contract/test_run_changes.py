"""Noise never takes the place of music because something was forgotten; what a run changes is told beforehand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from catalog.errors import BusyError, ModelError, ReplacementError, UnknownNameError
from catalog.settings import read_settings
from orchestrator.cli import catalog as catalog_command
from orchestrator.cli import plan as plan_command
from orchestrator.cli import run as run_command
from orchestrator.ledger import Ledger, open_ledger, readings
from orchestrator.ledger.facts import record_facts
from orchestrator.matrix import load_catalog
from orchestrator.planning.plan import make_plan
from orchestrator.runs.attached import RunEnd, RunResult
from tests.support.farm import DOLLAR_AN_HOUR, attempt, started
from tests.support.makers import exactly
from tests.support.preset_files import a_library, write

MUSIC, NOISE, TONE = "acestep-v15-turbo", "tiny-random", "tone"


class Place:
    """A home, a preset folder with the catalog `mini`, and the commands, without weights and without a terminal."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.monkeypatch = root, monkeypatch
        self.presets = a_library(root / "presets")
        self.write()
        monkeypatch.setenv("TUNEMILL_HOME", str(root / "home"))
        monkeypatch.setenv("TUNEMILL_PRESETS", str(self.presets))
        self.rendered: list[str] = []  # models of runs that went ahead
        monkeypatch.setattr(run_command.AttachedRun, "run", partialmethod(_go_ahead, self.rendered))

    def write(self, model: str = "auto", tracks: int = 6) -> None:
        content = {"title": "Mini", "model": model, "matrix": {"zones": "all", "genres": "all"}, "tracks": tracks}
        write(self.presets / "catalogs" / "mini.yaml", content)

    def make(self, model: str) -> None:
        """The catalog as it is now was rendered with `model` and accepted."""
        with self.ledger() as ledger:
            planned = list(make_plan(load_catalog("mini", self.presets, read_settings()), {}, model=model).takes())
            run_id = ledger.begin_or_resume_run("mini", model, exactly(planned)).run_id
            with ledger.write() as connection:
                records = [started(), *(attempt(take, run_id=run_id) for take in planned)]
                record_facts(connection, records, lambda machine, at_ms: DOLLAR_AN_HOUR, 1)
                connection.exec_driver_sql("update run set state = 'finished'")

    def listed(self) -> dict[str, int]:
        found = json.loads(self.ask("catalog", "list", "mini", "--json").stdout)
        models = [track["model"] for track in found]
        return {model: models.count(model) for model in sorted(set(models))}

    def ask(self, *arguments: str, attended: bool = False, answer: str | None = None) -> Any:
        app = typer.Typer()
        for command in (run_command, plan_command, catalog_command):
            command.register(app)
        for module in (run_command, plan_command):
            self.monkeypatch.setattr(module, "is_attended", lambda: attended)
        return CliRunner().invoke(app, list(arguments), input=answer)

    def ledger(self) -> closing[Ledger]:
        return closing(open_ledger(read_settings().database))


def _go_ahead(attached: Any, rendered: list[str]) -> RunResult:
    """A run that only says which model it would have rendered with."""
    rendered.append(attached._model)
    with attached._ledger.read() as connection:
        return RunResult(RunEnd.DONE, readings.count_takes(connection, attached._run_id))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Iterator[Place]:
    return Place(tmp_path, monkeypatch)


def refused(result: Any) -> ModelError:
    assert isinstance(result.exception, ModelError), result.output
    assert result.exception.exit_code == 41
    return result.exception


@pytest.mark.parametrize("made", [(), (NOISE,), (MUSIC,), (NOISE, MUSIC), (MUSIC, NOISE), (TONE,)])
@pytest.mark.parametrize("arguments", [(), ("--json",), ("--max-usd", "15"), ("--model", "auto")])
def test_a_refresh_without_weights_changes_nothing_and_ends_with_41_whatever_there_was(place, made, arguments):
    for model in made:
        place.make(model)
    before = place.listed()
    assert "TUNEMILL_WEIGHTS" in refused(place.ask("refresh", "mini", *arguments)).fix
    assert place.listed() == before
    assert place.rendered == []


@pytest.mark.parametrize("model", [MUSIC, "acestep-v15-xl-turbo"])
def test_a_refresh_of_a_catalog_that_names_a_trained_model_ends_with_41_too_even_when_all_is_made(place, model):
    place.write(model)
    assert refused(place.ask("refresh", "mini"))
    place.make(model)
    assert refused(place.ask("refresh", "mini"))
    assert place.listed() == {model: 6}


def test_weights_that_are_not_there_are_no_weights(place, monkeypatch):
    place.make(MUSIC)
    monkeypatch.setenv("TUNEMILL_WEIGHTS", str(place.root / "gone"))
    refused(place.ask("refresh", "mini"))
    assert place.listed() == {MUSIC: 6}


def test_auto_is_noise_for_a_person_at_a_terminal_and_a_catalog_that_never_had_anything_else(place):
    refused(place.ask("run", "mini"))
    assert "noise" in place.ask("run", "mini", attended=True).output
    assert place.rendered == [NOISE]
    refused(place.ask("run", "mini"))  # still nobody's doing
    place.ask("run", "mini", attended=True)
    assert place.rendered == [NOISE, NOISE]


@pytest.mark.parametrize("other", [MUSIC, TONE, "acestep-v15-turbo-spring"])
def test_auto_is_never_noise_in_a_catalog_that_had_anything_else(place, other):
    place.make(NOISE)
    place.make(other)
    place.write(tracks=7)
    refused(place.ask("run", "mini", attended=True))
    assert place.rendered == []


def test_a_planned_run_of_music_that_has_made_nothing_yet_counts_too(place):
    with place.ledger() as ledger:
        planned = list(make_plan(load_catalog("mini", place.presets, read_settings()), {}, model=MUSIC).takes())
        ledger.begin_or_resume_run("mini", MUSIC, exactly(planned))
    assert refused(place.ask("run", "mini", attended=True))
    assert place.rendered == []


@pytest.mark.parametrize("model", [NOISE, TONE])
@pytest.mark.parametrize("by", ["option", "catalog"])
@pytest.mark.parametrize("command", ["run", "refresh"])
def test_a_rehearsal_that_is_named_runs_but_never_takes_the_place_of_music(place, model, by, command):
    if by == "catalog":
        place.write(model)
    named = ("--model", model) if by == "option" else ()
    assert place.ask(command, "mini", *named).exit_code == 0
    assert place.rendered == [model]
    place.make(MUSIC)
    assert place.listed() == {MUSIC: 6}
    for attended in (True, False):
        error = refused(place.ask(command, "mini", *named, attended=attended))
        assert f"6 of {MUSIC}" in error.what
        assert "TUNEMILL_HOME" in error.fix
    assert place.listed() == {MUSIC: 6}
    assert place.rendered == [model]


def test_noise_that_was_made_before_is_not_brought_back_in_the_place_of_music(place):
    place.make(NOISE)
    place.make(MUSIC)
    refused(place.ask("run", "mini", "--model", NOISE, attended=True))
    assert place.listed() == {MUSIC: 6}


def test_music_that_was_made_before_is_brought_back_without_weights_and_counted(place):
    place.make(MUSIC)
    place.make(NOISE)  # as an earlier version let it
    result = place.ask("run", "mini", "--model", MUSIC)
    assert result.exit_code == 0
    assert f"6 accepted takes (6 of {NOISE}) are replaced" in " ".join(result.output.split())
    assert f"6 accepted takes (6 of {MUSIC}), made for an earlier version" in " ".join(result.output.split())
    assert "nothing to render" in result.output
    assert place.listed() == {MUSIC: 6}


def test_plan_run_and_summary_count_what_is_replaced_retired_and_restored(place):
    place.make(TONE)
    place.write(TONE, tracks=4)
    changes = {"replaced": {}, "retired": {TONE: 2}, "restored": {}}
    assert json.loads(place.ask("plan", "mini", "--json").stdout)["changes"] == changes
    assert "2 accepted takes (2 of tone) are no longer planned" in " ".join(place.ask("plan", "mini").output.split())
    assert json.loads(place.ask("run", "mini", "--json").stdout)["changes"] == changes
    replacing = {"replaced": {TONE: 4}, "retired": {}, "restored": {}}
    asked = ("mini", "--model", NOISE)
    assert json.loads(place.ask("plan", *asked, "--json").stdout)["changes"] == replacing
    shown = " ".join(place.ask("refresh", *asked).output.split())
    assert shown.count("4 accepted takes (4 of tone) are replaced") == 2, "before it is done, and in the summary"
    place.make(NOISE)
    place.write(TONE, tracks=5)
    found = json.loads(place.ask("refresh", "mini", "--json").stdout)["changes"]
    assert found == {"replaced": {NOISE: 4}, "retired": {}, "restored": {TONE: 5}}


def test_a_plan_says_what_the_run_would_refuse(place):
    place.make(MUSIC)
    words = " ".join(place.ask("plan", "mini", "--model", TONE).output.split())
    assert "would refuse: tone is for rehearsals and must not replace the music of 'mini'" in words
    place.write(tracks=7)
    assert "would refuse: acestep-v15-turbo needs trained weights" in " ".join(place.ask("plan", "mini").output.split())


def test_a_refresh_gives_up_at_once_where_another_run_is_active_and_waits_where_it_may(place):
    place.write(TONE)
    with place.ledger() as ledger:
        lock = ledger.writer_lock()
        lock.acquire()
        for wait in ((), ("--wait", "1.2")):
            began_s = time.monotonic()
            gave_up = place.ask("refresh", "mini", *wait)
            assert isinstance(gave_up.exception, BusyError)
            assert ("waiting for up to" in " ".join(gave_up.output.split())) is bool(wait)
            assert not wait or time.monotonic() - began_s > 1.2
        assert place.rendered == []
        threading.Timer(1.5, lock.release).start()
        result = place.ask("refresh", "mini", "--wait", "60")
    assert "waiting for up to 1 min" in " ".join(result.output.split())
    assert place.rendered == [TONE]


# -------------------------------------------------- asking before accepted tracks leave the list


def declined(result: Any) -> ReplacementError:
    assert isinstance(result.exception, ReplacementError), result.output
    assert result.exception.exit_code == 53
    return result.exception


def kept(place: Place) -> tuple[dict[str, int], int]:
    """What the catalog lists, and how many runs the ledger has."""
    with place.ledger() as ledger, ledger.read() as connection:
        return place.listed(), len(readings.latest_runs(connection, 99))


@pytest.fixture
def changed(place) -> Place:
    """A catalog of six accepted tracks whose preset now has four, of another title word and tempo."""
    place.make(TONE)
    place.write(TONE, tracks=4)
    return place


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_a_terminal_is_asked_before_accepted_tracks_leave_and_no_is_the_default(changed, answer):
    before = kept(changed)
    result = changed.ask("run", "mini", attended=True, answer=answer)
    assert "replace or retire 2 accepted tracks?" in result.output
    assert kept(changed) == before
    if answer:
        assert "tunemill plan mini --changes" in declined(result).fix
    else:
        assert result.exit_code != 0  # the terminal is gone


@pytest.mark.parametrize(("more", "answer"), [((), "y\n"), (("--yes",), None)])
def test_a_yes_lets_them_go(changed, more, answer):
    result = changed.ask("run", "mini", *more, attended=True, answer=answer)
    assert result.exit_code == 0, result.output
    assert ("replace or retire" in result.output) is (answer is not None)
    assert changed.listed() == {TONE: 4}


def test_without_a_terminal_nothing_is_asked(changed):
    result = changed.ask("run", "mini")
    assert (result.exit_code, "replace or retire" in result.output) == (0, False)
    assert changed.listed() == {TONE: 4}


def test_nothing_is_asked_where_nothing_leaves(place):
    place.make(TONE)
    place.write(TONE, tracks=8)
    result = place.ask("run", "mini", attended=True)
    assert (result.exit_code, "replace or retire" in result.output) == (0, False)


@pytest.mark.parametrize("attended", [True, False])
@pytest.mark.parametrize("command", ["run", "refresh"])
def test_no_replace_refuses_and_changes_nothing(changed, command, attended):
    before = kept(changed)
    assert "2 accepted tracks" in declined(changed.ask(command, "mini", "--no-replace", attended=attended)).what
    assert kept(changed) == before
    changed.write(TONE, tracks=8)
    assert changed.ask(command, "mini", "--no-replace").exit_code == 0


def test_a_background_run_gets_the_whole_order_and_is_asked_about_before(changed):
    began: list[list[str]] = []
    changed.monkeypatch.setattr(
        run_command,
        "start_detached",
        lambda home, arguments: began.append(arguments) or SimpleNamespace(pid=1, log="l"),
    )
    declined(changed.ask("run", "mini", "--detach", attended=True, answer="n\n"))
    assert began == []
    asked = ("--zone", "z0", "--genre", "g1", "--sample", "9-per-cell", "--limit", "3", "--no-replace")
    changed.write(TONE, tracks=20)
    changed.ask("run", "mini", "--detach", *asked, attended=True)
    (order,) = began
    assert all(part in order for part in asked)
    assert order[:2] == ["run", "mini"]


# -------------------------------------------------- a part of the catalog


def test_a_selected_run_makes_its_part_and_the_rest_stays_for_a_later_one(place):
    place.write(TONE, tracks=12)
    first = json.loads(place.ask("run", "mini", "--zone", "z0", "--sample", "1", "--json").stdout)
    assert (first["selected"], first["planned"], first["takes"]["total"]) == (2, 12, 2)
    with place.ledger() as ledger:
        assert len(ledger.known_takes("mini")) == 2
        (run,) = {row.run_id for row in _takes(ledger)}
        assert run == first["run_id"]
    whole = json.loads(place.ask("run", "mini", "--json").stdout)
    assert whole["takes"]["total"] == 12
    assert whole["run_id"] == run  # it had not ended


def test_an_unfinished_run_that_waits_for_more_is_named_before_anything_changes(place):
    place.write(TONE, tracks=12)
    place.ask("run", "mini")
    told = place.ask("run", "mini", "--limit", "1", "--genre", "g0")
    assert isinstance(told.exception, BusyError)
    assert "tunemill cancel mini" in told.exception.fix
    assert "would refuse: an unfinished run" in " ".join(place.ask("plan", "mini", "--genre", "g0").output.split())


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_typing_error_in_a_selection_is_told_with_the_right_name(place, command):
    for option, slip, meant in (("--zone", "Z0", "--zone z0"), ("--genre", "g9", "--genre")):
        error = place.ask(command, "mini", option, slip).exception
        assert isinstance(error, UnknownNameError)
        assert meant in error.fix
    assert not (place.root / "home").exists()


def test_a_list_before_anything_was_made_knows_the_names_of_the_presets(place):
    place.write(TONE)
    for planned in ((), ("mini",), ("mini", "--zone", "z1"), ("--genre", "g0")):
        result = place.ask("catalog", "list", *planned)
        assert (result.exit_code, "no finished tracks" in result.output) == (0, True), result.output
    for wrong in (("minni",), ("mini", "--zone", "z11"), ("--genre", "gg")):
        assert isinstance(place.ask("catalog", "list", *wrong).exception, UnknownNameError)
    assert not (place.root / "home").exists()


def test_a_list_of_a_place_that_is_planned_and_empty_is_a_note_and_of_an_unknown_one_an_error(place):
    place.write(TONE)
    run = json.loads(place.ask("run", "mini", "--zone", "z0", "--json").stdout)
    with place.ledger() as ledger, ledger.write() as connection:
        made = [
            attempt(take, run_id=run["run_id"]) for take in readings.read_takes(connection, _ids(connection)).values()
        ]
        record_facts(connection, [started(), *made], lambda machine, at_ms: DOLLAR_AN_HOUR, 1)
    assert {row["zone"] for row in json.loads(place.ask("catalog", "list", "mini", "--json").stdout)} == {"z0"}
    for empty in (("mini", "--zone", "z1"), ("--zone", "z1"), ("mini", "--zone", "z1", "--genre", "g0")):
        result = place.ask("catalog", "list", *empty)
        assert (result.exit_code, "no finished tracks there" in result.output) == (0, True), result.output
    for wrong in (("mini", "--zone", "z11"), ("--genre", "gg"), ("mini", "--axis", "daypart=noon")):
        assert isinstance(place.ask("catalog", "list", *wrong).exception, UnknownNameError)


def _takes(ledger: Ledger) -> Any:
    with ledger.read() as connection:
        return connection.exec_driver_sql("select run_id from take").all()


def _ids(connection: Any) -> list[str]:
    return [row[0] for row in connection.exec_driver_sql("select take_id from take").all()]


# -------------------------------------------------- what changes, one by one


def test_the_changes_of_a_plan_are_listed_with_what_differs(place):
    place.make(TONE)
    content = {"title": "Mini", "model": TONE, "matrix": {"zones": "all", "genres": "all"}, "tracks": 5}
    write(place.presets / "catalogs" / "mini.yaml", {**content, "defaults": {"shift": 2}})
    found = json.loads(place.ask("plan", "mini", "--changes", "--json").stdout)
    kinds = [(change["change"], change["accepted_leaves"]) for change in found["tracks"]]
    assert kinds == [("changed", True)] * 5 + [("retired", True)]
    assert all(change["differs"] == {"diffusion.shift": [3.0, 2.0]} for change in found["tracks"][:5])
    assert "tracks" not in json.loads(place.ask("plan", "mini", "--json").stdout)
    piped = place.ask("plan", "mini", "--changes").stdout
    assert piped.count("diffusion.shift 3.0 → 2.0") == 5


def test_a_terminal_shows_the_first_changes_and_counts_the_rest(place, terminal):
    place.write(TONE, tracks=100)
    assert place.ask("plan", "mini", "--changes").stdout.count("\nnew ") == 100
    terminal(80)
    shown = place.ask("plan", "mini", "--changes").stdout
    assert shown.count("\nnew ") == 60
    assert "and 40 more changes" in shown
    assert max(map(len, shown.splitlines())) <= 80

"""Noise never takes the place of music because something was forgotten; what a run changes is told beforehand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from catalog.errors import BusyError, ModelError
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
            run_id = ledger.begin_or_resume_run("mini", model, planned).run_id
            with ledger.write() as connection:
                records = [started(), *(attempt(take, run_id=run_id) for take in planned)]
                record_facts(connection, records, lambda machine, at_ms: DOLLAR_AN_HOUR, 1)
                connection.exec_driver_sql("update run set state = 'finished'")

    def listed(self) -> dict[str, int]:
        found = json.loads(self.ask("catalog", "list", "mini", "--json").stdout)
        models = [track["model"] for track in found]
        return {model: models.count(model) for model in sorted(set(models))}

    def ask(self, *arguments: str, attended: bool = False) -> Any:
        app = typer.Typer()
        for command in (run_command, plan_command, catalog_command):
            command.register(app)
        for module in (run_command, plan_command):
            self.monkeypatch.setattr(module, "is_attended", lambda: attended)
        return CliRunner().invoke(app, list(arguments))

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
        ledger.begin_or_resume_run("mini", MUSIC, planned)
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
    assert "would refuse: tone is for rehearsals, and would replace the music of 'mini'" in words
    place.write(tracks=7)
    assert "would refuse: acestep-v15-turbo needs trained weights" in " ".join(place.ask("plan", "mini").output.split())


def test_a_refresh_gives_up_at_once_where_another_run_is_active_and_waits_where_it_may(place):
    place.write(TONE)
    with place.ledger() as ledger:
        lock = ledger.writer_lock()
        lock.acquire()
        for wait in ((), ("--wait", "1.2")):
            began_s = time.monotonic()
            assert isinstance(place.ask("refresh", "mini", *wait).exception, BusyError)
            assert (time.monotonic() - began_s > 1.2) is bool(wait)
        assert place.rendered == []
        threading.Timer(1.5, lock.release).start()
        result = place.ask("refresh", "mini", "--wait", "60")
    assert "waiting for up to 1 min" in " ".join(result.output.split())
    assert place.rendered == [TONE]

"""`tunemill worker` and `tunemill replay` as a person meets them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from catalog.errors import DifferentAudioError, UnknownNameError, WorkerError
from catalog.keys import sidecar_key
from catalog.messages import AttemptMade
from catalog.sidecar import Sidecar
from catalog.store import open_store
from orchestrator.cli import worker
from orchestrator.ledger import open_ledger
from orchestrator.ledger.facts import record_facts
from tests.support.fakes import FakeRenderer, a_context
from tests.support.makers import a_message, a_take, exactly
from workers.render import render_take
from workers.tone import load_engine

TAKE = a_take()


def run(*arguments: str) -> Result:
    app = typer.Typer()
    worker.register(app)
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AttemptMade:
    """A take that was rendered into the store and recorded in the ledger of TUNEMILL_HOME."""
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    context = a_context(FakeRenderer(load_engine()), store=open_store(str(tmp_path / "store")))
    render_take(a_message(TAKE).model_dump(mode="json"), context)
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.begin_or_resume_run("spa", "tone", exactly([TAKE]))
    with ledger.write() as connection:
        record_facts(connection, context.recorder.records, lambda machine, at_ms: None, 1)
    ledger.close()
    return context.recorder.attempts()[0]


@pytest.mark.usefixtures("attempt")
def test_replay_finds_a_take_by_its_first_digits_and_says_that_it_is_the_same():
    result = run("replay", TAKE.id[:8])
    assert result.exit_code == 0, result.output
    assert f"take {TAKE.id}: bit-equal" in result.stdout
    assert result.stderr == ""  # the renderer's log is nobody's business while all goes well
    result = run("replay", TAKE.id, "--json")
    assert json.loads(result.stdout)["verdict"] == "bit-equal"


def test_replay_of_changed_audio_is_an_error_of_its_own(attempt, tmp_path):
    other = a_take("0002", keyscale="G minor")
    store = open_store(str(tmp_path / "store"))
    render_take(a_message(other).model_dump(mode="json"), a_context(FakeRenderer(load_engine()), store=store))
    wrong = Sidecar.model_validate_json(store.find(sidecar_key(other)) or b"")
    path = tmp_path / "store" / attempt.sidecar.audio.key
    path.chmod(0o644)
    path.write_bytes((tmp_path / "store" / wrong.audio.key).read_bytes())
    result = run("replay", TAKE.id)
    assert isinstance(result.exception, DifferentAudioError)
    assert "checksum" in result.exception.why
    assert "different" in result.output


@pytest.mark.usefixtures("attempt")
def test_replay_of_a_take_nobody_knows_is_said_in_words():
    result = run("replay", "ffff")
    assert isinstance(result.exception, UnknownNameError)


@pytest.mark.usefixtures("attempt")
def test_what_the_renderer_says_is_not_hidden_and_its_exit_code_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("TUNEMILL_STORE_URL", str(tmp_path / "elsewhere"))
    result = run("replay", TAKE.id)
    assert result.exit_code == 31
    assert "is not in the store" in result.stderr


def test_without_the_worker_extra_the_fix_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    result = run("worker")
    assert isinstance(result.exception, WorkerError)
    assert "torch" in result.exception.why
    assert 'pip install "tunemill[worker]"' in result.exception.fix


def test_the_command_becomes_the_worker(tmp_path):
    program = """
        import typer
        from orchestrator.cli import worker
        app = typer.Typer()
        worker.register(app)
        app(["worker", "--model", "tone", "--threads", "3"])
    """
    (tmp_path / "workers").mkdir()  # a folder of the same name where the command is typed
    (tmp_path / "workers" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 30
    assert "no broker is named" in done.stderr
    assert "fix:" in done.stderr

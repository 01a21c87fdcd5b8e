"""How the program ends: a mistake in words and as JSON, a reader that has gone without a word, a full disk in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = [sys.executable, "-c", "from orchestrator.cli import main; main()"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "TUNEMILL_HOME": str(tmp_path_factory.mktemp("home"))}


def tunemill(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["plan", "nosuch"], 10, "unknown name"),
        (["plan", "demo", "--max-usd", "much"], 35, "settings"),
        (["plan", "demo", "--nosuch"], 2, "usage"),
        (["plan"], 2, "usage"),
        (["stauts"], 2, "usage"),
        (["status", "--runs", "none"], 2, "usage"),
        (["controller"], 30, "broker"),
        (["worker", "--model", "tone"], 30, "broker"),
    ],
)
def test_an_error_is_one_json_document_and_the_same_in_words(environment, arguments, code, kind):
    done = tunemill(environment, *arguments, "--json")
    assert done.returncode == code, done.stderr
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["kind"]) == (code, kind)
    assert error["fix"]
    assert f"fix: {error['fix']}" in done.stderr
    assert "Input should be" not in done.stderr


def test_a_defect_is_a_json_document_too(environment):
    broken = "from orchestrator.cli import app; app._register = None; app.run()"
    done = subprocess.run([sys.executable, "-c", broken, "--json"], env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["kind"] == "defect"
    assert b"Traceback" in done.stderr


def test_a_result_is_the_only_document_where_the_command_ends_with_a_code_of_its_own(environment):
    told = (
        "from orchestrator.cli import app, console\n"
        "from catalog.errors import IncompleteError\n"
        "console.print_json({'takes': 3})\n"
        "console.print_error_as_json(IncompleteError('one was rejected'))\n"
    )
    done = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout) == {"takes": 3}


@pytest.mark.parametrize("command", ["--help", "presets list", "presets list --json", "plan demo", "costs prices list"])
def test_a_reader_that_goes_away_is_no_mistake(environment, command):
    piped = f'set -o pipefail; "$@" {command} | head -1 >/dev/null'
    done = subprocess.run(
        ["bash", "-c", piped, "-", *PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Broken pipe" not in done.stderr


def test_a_watch_ends_with_its_reader(environment):
    piped = 'set -o pipefail; "$@" status --watch --every 0.2 | head -1'
    bash = ["timeout", "30", "bash", "-c", piped, "-", *PROGRAM]
    assert subprocess.run(bash, env=environment, capture_output=True, check=False).returncode == 0


def test_the_code_of_a_command_is_kept_when_its_reader_goes_away(environment):
    piped = 'set -o pipefail; "$@" plan nosuch --json | true'
    bash = ["bash", "-c", piped, "-", *PROGRAM]
    assert subprocess.run(bash, env=environment, capture_output=True, check=False).returncode == 10


@pytest.mark.parametrize("command", ["--help", "presets list", "presets list --json"])
def test_an_output_without_room_is_said_in_words_that_name_it(environment, command):
    done = subprocess.run(
        ["bash", "-c", f'"$@" {command} >/dev/full', "-", *PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 32
    assert "standard output" in done.stderr
    assert "TUNEMILL_HOME" not in done.stderr


def test_streams_that_are_closed_or_full_end_no_work(environment):
    for streams in (">&-", "2>&-", ">&- 2>&-", "2>/dev/full"):
        bash = ["bash", "-c", f'"$@" presets list {streams}', "-", *PROGRAM]
        assert subprocess.run(bash, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0, streams

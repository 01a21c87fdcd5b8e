"""Help and completion: both are answered from the outline, which says what the commands say, and load nothing else."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import typer

from orchestrator.cli import app as program
from orchestrator.cli import completion, outline, reference
from orchestrator.ledger import open_ledger
from tests.support.farm import takes
from tests.support.makers import exactly
from tests.support.preset_files import GENRE, ZONE, write

PROGRAM = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
COMMANDS = [command.name for command in reference.commands()]
WIDTH_LEFT = 80 - 2 - 6  # of an ordinary terminal: its margin, and the gaps of the table
HEAVY = {"pydantic", "sqlalchemy", "sqlmodel", "celery", "rich.console", "orchestrator.ledger", "catalog.spec"}


def help_of(program_or_outline: typer.Typer, capsys) -> dict[str, str]:
    """Name of each command -> its help."""
    command, told = typer.main.get_command(program_or_outline), {}
    for name in ("tunemill", *COMMANDS):
        command.main([*name.split()[1:], "--help"], "tunemill", standalone_mode=False)
        told[name] = capsys.readouterr().out
    return told


def test_the_outline_says_what_the_commands_say(capsys):
    program._register()
    every_word = {word for name in COMMANDS for word in name.split()}
    assert help_of(outline.read_app(every_word), capsys) == help_of(program.app, capsys)


def test_the_outline_is_current():
    assert outline.FILE.read_text(encoding="utf-8") == reference.outline_text(), "run `make docs`"


@pytest.mark.parametrize("name", ["tunemill", *(each.name for each in reference.commands() if each.is_group)])
def test_no_summary_of_a_list_of_commands_is_cut_at_80_columns(name):
    below = [each for each in reference.commands() if each.name.rpartition(" ")[0] == name]
    room = WIDTH_LEFT - max(len(each.name.split()[-1]) for each in below)
    assert not [each.name for each in below if each.click.get_short_help_str(room).endswith("...")]


# ------------------------------------------------------------ completion


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home with presets, a price and the ledger of a run, and a folder of the user's own with two zones."""
    folder = tmp_path_factory.mktemp("home")
    write(folder / "home/presets/catalogs/winter.yaml", {"matrix": {}})
    write(folder / "mine/zones/wellness.yaml", ZONE)
    write(folder / "mine/genres/zither.yaml", GENRE)
    write(folder / "home/prices/2026-11-01.yaml", {"prices": [{"sku": "h999-1tb", "usd_per_hour": "1"}]})
    with closing(open_ledger(f"sqlite:///{folder / 'home/ledger.sqlite'}")) as ledger:
        ledger.begin_or_resume_run("spring", "tone", exactly(takes(3)))
    return folder


def offered(home: Path, line: str, shell: str = "bash", **environment: str) -> list[str]:
    """The names that a shell is offered for the last word of `line`."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line}
    action = {"_TYPER_COMPLETE_FISH_ACTION": "get-args", outline.COMPLETE_VARIABLE: f"complete_{shell}"}
    ours = {"PATH": os.environ["PATH"], "HOME": str(home), "TUNEMILL_HOME": str(home / "home")}
    done = subprocess.run(
        PROGRAM,
        env={**ours, "TUNEMILL_PRESETS": str(home / "mine"), **asked, **action, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return [each for each in done.stdout.splitlines() if each]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("tunemill plan win", ["winter"]),
        ("tunemill run hotel_g", ["hotel_group"]),
        ("tunemill plan winter --zone well", ["wellness"]),
        ("tunemill plan winter --genre zith", ["zither"]),
        ("tunemill plan winter --gpu h99", ["h999-1tb"]),
        ("tunemill plan winter --gpu=h99", ["h999-1tb"]),
        ("tunemill presets show wellne", ["wellness"]),
        ("tunemill pause spr", ["spring"]),
        ("tunemill catalog list spr", ["spring"]),
        ("tunemill catalog li", ["list"]),
        ("tunemill plan --max", ["--max-usd"]),
        ("tunemill plan nothing_such", []),
    ],
)
def test_a_shell_is_offered_the_names_there_are(home, line, names):
    assert offered(home, line) == names


def test_zsh_and_fish_are_offered_the_same_names(home):
    assert offered(home, "tunemill plan win", "fish") == ["winter"]
    assert '"winter"' in offered(home, "tunemill plan win", "zsh")[0]
    assert "catalog\tList finished tracks" in "\n".join(offered(home, "tunemill cat", "fish"))


def test_runs_are_offered_by_their_ids(home):
    with closing(sqlite3.connect(home / "home/ledger.sqlite")) as ledger:
        (run_id,) = ledger.execute("select run_id from run").fetchone()
    assert offered(home, f"tunemill costs report --run {run_id[:4]}") == [run_id]


def test_completion_never_fails_and_leaves_no_file_behind(home, tmp_path):
    before = sorted(path for path in home.rglob("*") if path.is_file())
    for line in ("tunemill pause ", "tunemill plan ", "tunemill plan x --gpu ", "tunemill nonsense "):
        offered(home, line)
        offered(home, line, TUNEMILL_HOME="/proc/nowhere", TUNEMILL_PRESETS="\n", TUNEMILL_PRICES="/etc/passwd")
        offered(home, line, TUNEMILL_DATABASE_URL="postgresql://nobody@nowhere/x")
        offered(home, line, TUNEMILL_HOME=str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert sorted(path for path in home.rglob("*") if path.is_file()) == before


def test_a_ledger_in_use_is_read_too(home, monkeypatch):
    monkeypatch.setenv("TUNEMILL_HOME", str(home / "home"))
    with closing(sqlite3.connect(home / "home/ledger.sqlite", isolation_level=None)) as writer:
        writer.execute("begin immediate")
        assert completion.made_catalogs(typer.Context(typer.main.get_command(program.app)), "") == ["spring"]
        writer.execute("rollback")


@pytest.mark.parametrize("arguments", [["--help"], ["costs", "report", "--help"], []])
def test_help_loads_no_heavy_module(arguments):
    told = (
        "import sys\n"
        "from orchestrator.cli import main\n"
        f"sys.argv = ['tunemill', *{arguments!r}]\n"
        "main()\n"
        "import json\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(done.stdout.splitlines()[-1])) == set()

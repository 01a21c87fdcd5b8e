"""`tunemill presets import` and `weights pull`: what they print, exit codes, and remedies that work when followed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from catalog.errors import TunemillError
from orchestrator.cli import presets, weights
from tests.support.preset_files import a_library, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A preset folder to import into."""
    return a_library(tmp_path / "lib", 1, 1)


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `tunemill ...`; an error's words stand in the last."""
    app = typer.Typer()
    presets.register(app)
    weights.register(app)
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(done.exception, TunemillError):
        return done.exception.exit_code, done.stdout, f"{done.stderr}{done.exception}"
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def imported(file: Path, root: Path, *options: str) -> tuple[int, str, str]:
    return run("presets", "import", file, "--as", "mine", "--force", "--presets", root, *options)


def in_json(file: Path, root: Path, *options: str) -> Any:
    code, printed, _ = imported(file, root, "--json", *options)
    assert code == 0
    return json.loads(printed)


def test_rows_that_cannot_be_imported_are_told_by_reason_and_the_exit_code_is_0(tmp_path: Path, root: Path) -> None:
    rows = [{"caption": f"piece {n}", "task_type": "cover" if n % 2 else "text2music"} for n in range(60)]
    file = write(tmp_path / "p.json", json.dumps(rows))
    code, printed, noted = imported(file, root)
    assert code == 0
    assert "prompts: 30; takes: 30;" in printed
    assert "left out: 30" in noted
    assert noted.count("the task 'cover'") == 1
    assert "and 29 more" in noted
    told = in_json(file, root)
    assert (told["prompts"], len(told["rows_left_out"])) == (30, 30)
    assert set(told["rows_left_out"][0]) == {"where", "reason", "fix", "error"}


def test_strict_imports_all_or_nothing(tmp_path: Path, root: Path) -> None:
    file = write(tmp_path / "p.csv", "caption,bpm\na,90\nb,900\n")
    code, _, noted = imported(file, root, "--strict")
    assert (code, "p.csv:3: column 'bpm': '900'" in noted) == (12, True)
    assert not (root / "catalogs/mine.csv").exists()
    assert imported(file, root)[0] == 0


def test_every_unused_heading_is_named(tmp_path: Path, root: Path) -> None:
    names = [f"other{n}" for n in range(40)]
    file = write(tmp_path / "p.csv", f"caption,{','.join(names)}\nx{',1' * 40}\n")
    assert f"not used: {', '.join(names)}" in " ".join(imported(file, root)[2].split())
    assert in_json(file, root)["left_out"] == names


WRONG = [
    '[{"description": "house music", "instrumental": true}]',
    '[{"description": "a folk duet about the sea", "instrumental": false}]',
    '[{"task_type": "cover", "src_audio": "a.wav", "caption": "jazz", "model": "mine", "lora": "x"}]',
    '[{"prompt": "[Verse]\\nla la", "style": "folk", "mv": "chirp-v4", "make_instrumental": false}]',
    '[{"caption": "x", "prompt": "y"}]',
    '[{"caption": "x", "duraton": 90}]',
    '[{"caption": "x", "makeInstrumental": true, "lyrics": "la la"}]',
    '[{"caption": "x", "has_vocals": true}]',
]


@pytest.mark.parametrize("content", WRONG)
def test_following_the_remedies_that_are_named_leads_to_an_import(tmp_path: Path, root: Path, content: str) -> None:
    file, options = write(tmp_path / "p.json", content), []
    for _ in range(4):
        code, _, noted = imported(file, root, *options)
        if code == 0:
            break
        assert code == 11
        fix = re.search(r"fix: (.*)", noted, re.DOTALL)
        found = re.findall(r"--(?:column|ignore) \S+", fix[1] if fix else "")
        assert found, noted
        options += shlex.split(" ".join(each.rstrip(",") for each in found))
    assert code == 0


def test_a_column_option_that_is_no_pair_is_refused(tmp_path: Path, root: Path) -> None:
    file = write(tmp_path / "p.csv", "caption\nx\n")
    for wrong in ("caption", "=x", "caption="):
        code, _, noted = imported(file, root, "--column", wrong)
        assert (code, "write --column caption=description" in noted) == (35, True)


def test_pulling_nothing_is_refused_with_what_can_be_pulled() -> None:
    code, _, noted = run("weights", "pull")
    assert (code, "add --tokenizer" in noted) == (35, True)

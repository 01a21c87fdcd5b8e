"""`tunemill --version`: a person who reports a fault says with it which commit and which forms."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from typer.testing import CliRunner

from orchestrator.cli.app import app
from orchestrator.cli.version import find_commit
from orchestrator.ledger.migrations import HEAD


def test_the_version_names_the_release_and_the_forms_that_the_program_writes():
    first, second = CliRunner().invoke(app, ["--version"]).stdout.splitlines()
    assert re.fullmatch(rf"tunemill {re.escape(version('tunemill'))} \(commit ([0-9a-f]{{10,}}\+?|unknown)\)", first)
    assert second == f"forms: recipe of ids 1, message 1, sidecar 1, verdict 1, ledger schema {HEAD}"


def test_a_built_package_has_its_commit_in_a_file(tmp_path: Path):
    (tmp_path / "commit.txt").write_text("0123456789\n")
    assert find_commit(tmp_path) == "0123456789"


def test_a_checkout_tells_its_commit_and_that_files_were_changed(tmp_path: Path):
    package = tmp_path / "catalog"
    package.mkdir()
    (package / "a.py").write_text("")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-q", "-m", "a"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert find_commit(package) == head.stdout[:10]
    (package / "a.py").write_text("changed")
    assert find_commit(package) == head.stdout[:10] + "+"


def test_a_folder_within_another_projects_checkout_has_no_commit(tmp_path: Path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    package = tmp_path / "vendor" / "catalog"
    package.mkdir(parents=True)
    assert not find_commit(package)

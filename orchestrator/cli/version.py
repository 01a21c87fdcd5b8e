"""The version as a person reports it: the release, its commit, and the versions of the published forms.

Two programs with the same forms read each other's orders, records, sidecars and ledgers.
"""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import catalog
from catalog.messages import MESSAGE_VERSION
from catalog.sidecar import SIDECAR_VERSION
from catalog.spec import RECIPE_VERSION
from catalog.verdicts import VERDICT_VERSION
from orchestrator.ledger.migrations import HEAD

_ROOT = Path(catalog.__file__).resolve().parent


def version_text() -> str:
    """Two lines: the release with its commit, and the versions of the forms."""
    forms = {
        "recipe of ids": RECIPE_VERSION,
        "message": MESSAGE_VERSION,
        "sidecar": SIDECAR_VERSION,
        "verdict": VERDICT_VERSION,
        "ledger schema": HEAD,
    }
    listed = ", ".join(f"{name} {number}" for name, number in forms.items())
    return f"tunemill {version('tunemill')} (commit {find_commit(_ROOT) or 'unknown'})\nforms: {listed}"


def find_commit(package: Path) -> str:
    """Commit that the package in this folder was made from, with `+` where files were changed; "" when nobody knows.

    A built package has it in a file; a checkout asks git.
    """
    built = package / "commit.txt"
    if built.is_file():
        return built.read_text(encoding="utf-8").strip()
    if not (package.parent / ".git").exists():
        return ""
    command = ["git", "-C", str(package.parent), "describe", "--always", "--exclude=*", "--abbrev=10", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, or another user's checkout
        return ""

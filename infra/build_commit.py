"""The build hook: a built package says which commit it was made from.

Hatchling runs it for a wheel and a source archive, and the file that it adds, `catalog/commit.txt`, is what
`tunemill --version` reads where no git is. Where the commit is unknown, nothing is added and the build goes on.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):  # type: ignore[type-arg,misc]
    """Adds the commit of the checkout to what is built from it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the commit to a temporary file and have it included; an editable package reads git itself."""
        del version
        commit = _commit(Path(self.root))
        if not commit or build_data.get("editable"):
            return
        folder = Path(tempfile.mkdtemp(prefix="tunemill-build-"))
        (folder / "commit.txt").write_text(f"{commit}\n", encoding="utf-8")
        build_data["force_include"][str(folder / "commit.txt")] = "catalog/commit.txt"


def _commit(root: Path) -> str:
    """Short id of the commit, with `+` where files were changed; "" outside a checkout of its own or without git."""
    if not (root / ".git").exists():
        return ""  # a source archive within another project's checkout has no commit of that project
    command = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=10", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""

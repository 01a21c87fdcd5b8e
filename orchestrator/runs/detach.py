"""Detaching: start a run in the background, so that it continues when its terminal is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from orchestrator.runs.local.exit_report import error_of

_WATCH_S: Final = 3.0  # a run that cannot start ends within this time
_PROGRAM: Final = "from orchestrator.cli import main; main()"


class Detached(NamedTuple):
    """A run in the background: its process and its log."""

    pid: int
    log: Path


def start_detached(home: Path, arguments: Sequence[str]) -> Detached:
    """Start this program with `arguments` in a session of its own; its output goes to a log below `home`.

    Raises the TunemillError that the program printed when the program ends at once.
    """
    log_path = home / "logs" / f"run-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        command = [sys.executable, "-c", _PROGRAM, *arguments]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + _WATCH_S
    while time.monotonic() < deadline and (code := child.poll()) != 0:  # 0: nothing was left to render
        if code is not None:
            raise error_of("the run in the background", code, log_path)
        time.sleep(0.1)
    return Detached(child.pid, log_path)

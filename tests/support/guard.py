"""A guard for each pytest process: it ends the processes that pytest started and left running.

Fixtures end the processes that they have started, unless pytest is killed or kills its own workers. So a guard process
runs beside each pytest process, in a session of its own that no Ctrl-C reaches. It finds the processes whose
environment names the folder of these tests. A server may overwrite its environment; the guard finds it by its working
directory in that folder. It ends each one by its id. It reads all of this in /proc; on a system without /proc, it only
deletes the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

FOLDER: Final = "TESTSFOLDER"  # the variable; its value is in the environment of all that these tests start
_LOOK_EVERY_S, _GRACE_S, _GIVE_UP_S = 0.2, 2.0, 20.0


def begin() -> None:
    """Guard this process; whatever it starts from now on is ended with it."""
    folder = tempfile.mkdtemp(prefix="tm", dir="/tmp")
    os.environ[FOLDER] = folder
    none = subprocess.DEVNULL
    command = [sys.executable, "-I", __file__, folder, str(os.getpid())]
    subprocess.Popen(command, stdin=none, stdout=none, stderr=none, cwd="/", start_new_session=True)


@contextmanager
def new_folder() -> Iterator[Path]:
    """A folder for a server's files, below that of these tests; its path leaves room for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="", dir=os.environ[FOLDER]) as name:
        yield Path(name)


def started_by(folder: str) -> set[int]:
    """The living processes that the tests of that folder have started, and all that these have started."""
    found, mark = set(), f"{FOLDER}={folder}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended, or is somebody else's
            is_marked = mark in (path / "environ").read_bytes().split(b"\0")
            if is_marked or (path / "cwd").readlink().is_relative_to(folder):
                found.add(int(path.name))
    return found - {os.getpid()}


def _end_all(folder: str) -> None:
    """Ask them to end, and after a moment do not ask any more."""
    began_s = time.monotonic()
    _signal(started_by(folder), signal.SIGTERM)
    while (left := started_by(folder)) and time.monotonic() - began_s < _GIVE_UP_S:
        if time.monotonic() - began_s > _GRACE_S:
            _signal(left, signal.SIGKILL)
        time.sleep(_LOOK_EVERY_S)


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _watch(folder: str, guarded: int) -> None:
    while os.getppid() == guarded:
        time.sleep(_LOOK_EVERY_S)
    _end_all(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _watch(sys.argv[1], int(sys.argv[2]))

"""The local worker: one worker process on this machine, which a run starts, checks and ends.

The worker has a process session of its own, so a Ctrl-C in the terminal reaches only the run, which then stops the
worker in order. When the run is killed, the kernel ends the worker (on Linux); elsewhere, the next run ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from catalog.errors import TunemillError
from orchestrator.runs.local.exit_report import error_of

STALE_TIMEOUT_S: Final = 20.0  # for the worker of a killed run to finish the takes that it holds
_KILL_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1


class LocalWorker:
    """A worker process for one model; its log lies below `home`/logs."""

    def __init__(self, home: Path, model: str, environment: Mapping[str, str], options: Sequence[str] = ()) -> None:
        self._note = home / "worker.json"
        self._options = tuple(options)
        self._model, self._environment = model, environment
        self.log = home / "logs" / f"worker-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._began_at = 0

    def start(self) -> None:
        """Start the process; `running` says later whether the process is still there."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # -P: a folder workers/ in the working directory must not replace this program's package.
        command = [sys.executable, "-P", "-m", "workers", "serve", "--model", self._model, *self._options]
        with self.log.open("ab") as log:
            self._began_at = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=_without_database({**os.environ, **self._environment}),
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        pid = self._process.pid
        self._note.write_text(json.dumps({"pid": pid, "identity": _identity(pid)}))

    @property
    def started(self) -> bool:
        """The process was started at least once."""
        return self._process is not None

    @property
    def running(self) -> bool:
        """The process runs now."""
        return self._process is not None and self._process.poll() is None

    def ask_to_stop(self) -> None:
        """Ask the worker to finish the takes that it renders, give the others back, and end."""
        if self._process is not None and self.running:
            self._process.terminate()

    def kill(self) -> None:
        """End the worker at once, with every process that it started."""
        if self._process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def forget(self) -> None:
        """Remove the note by which a later run finds a stale worker; for a worker that has ended."""
        self._note.unlink(missing_ok=True)

    def read_exit_error(self) -> TunemillError:
        """Return the error that the ended worker reported."""
        code = self._process.poll() if self._process else None
        return error_of("the worker", code, self.log, began_at=self._began_at)


def _without_database(environment: dict[str, str]) -> dict[str, str]:
    """Remove the database's address: a worker never sees the database, not even on the ledger's machine."""
    return {name: value for name, value in environment.items() if name != "TUNEMILL_DATABASE_URL"}


def end_stale_worker(home: Path) -> bool:
    """End the worker that a killed run left behind; True when there was one."""
    note = home / "worker.json"
    try:
        found = json.loads(note.read_text())
        pid, identity = int(found["pid"]), str(found["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    was_alive = bool(identity) and _identity(pid) == identity  # the process id may belong to another process by now
    if was_alive:
        _end(pid, identity)
    note.unlink(missing_ok=True)
    return was_alive


def _end(pid: int, identity: str) -> None:
    for sign, timeout_s in ((signal.SIGTERM, STALE_TIMEOUT_S), (signal.SIGKILL, _KILL_TIMEOUT_S)):
        with contextlib.suppress(ProcessLookupError):
            if sign is signal.SIGKILL:
                os.killpg(pid, sign)
            else:
                os.kill(pid, sign)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if _identity(pid) != identity:
                return
            time.sleep(_POLL_S)


def _identity(pid: int) -> str:
    """Start time and command line of a process; empty when there is no such process or a zombie only."""
    if not Path("/proc/self/stat").exists():
        asked = ["ps", "-o", "stat=,lstart=,command=", "-p", str(pid)]
        listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        state, _, rest = listed.strip().partition(" ")
        return "" if state.startswith("Z") else rest.strip()
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        # The name in parentheses may hold anything; the state follows it, the start time is 19 fields further.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else f"{fields[19]} {command.decode(errors='replace')}"


def _end_with_parent() -> None:
    # SIGTERM, not SIGKILL: the worker finishes the takes that it renders; their records wait for the next run.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

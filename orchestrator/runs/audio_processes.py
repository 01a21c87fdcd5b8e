"""Work on audio by the data plane on this machine: a line of JSON goes in for each job, and one comes out.

The processes are of the package `workers`, which this side never imports. They never see the ledger.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Generic, Self, TypeVar

from pydantic import ValidationError

from catalog.errors import WorkerError
from catalog.forms import Frozen
from orchestrator.runs.local.exit_report import error_of

_END_S: Final = 10.0  # for a process whose input has ended

_Result = TypeVar("_Result", bound=Frozen)


class AudioProcesses(Generic[_Result]):
    """The processes that work on audio: one for each thread that asks."""

    def __init__(self, command: str, result: type[_Result], home: Path) -> None:
        self._command, self._result = command, result
        self._log = home / "logs" / f"{command}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        self._own = threading.local()
        self._all: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes: what is being written ends with its input."""
        self._close()

    def ask(self, job: Frozen) -> _Result:
        """Have one job done."""
        process = self._process()
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(job.model_dump_json() + "\n")
            process.stdin.flush()
            return self._result.model_validate_json(process.stdout.readline())
        except (OSError, ValidationError):
            raise error_of("the process that works on audio", process.wait(), self._log) from None

    def _process(self) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] | None = getattr(self._own, "process", None)
        if process is None:
            process = self._own.process = self._start()
            self._all.append(process)
        return process

    def _start(self) -> subprocess.Popen[str]:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name != "TUNEMILL_DATABASE_URL"}
        environment |= {"OMP_NUM_THREADS": "1"}  # there is a process for each core
        with self._log.open("ab") as log:
            # -P: a folder "workers" in the working directory must not replace this program's package.
            command = [sys.executable, "-P", "-m", "workers", self._command]
            try:
                return subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
                )
            except OSError as error:
                raise WorkerError(f"a process that works on audio cannot be started: {error}") from None

    def _close(self) -> None:
        for process in self._all:
            if process.stdin is not None:
                with suppress(OSError):  # it has ended already
                    process.stdin.close()
        for process in self._all:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

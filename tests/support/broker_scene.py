"""A controller, a busy worker and an idle worker on one real server, to which a test applies a fault.

Each process must survive the fault, and all work must be done afterwards.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.broker_faults import OPTIONS
from tests.support.servers import BrokerServer

ROOT = Path(__file__).parents[2]
TUNEMILL = ["-c", "from orchestrator.cli import main; main()"]
PASSWORDS = {"controller": "ctl-Pa$sw0rd-planted", "worker": "wrk-Pa$sw0rd-planted"}
PLANTED = "Pa$sw0rd"
FIRST, SECOND = 6, 4  # takes before and after the fault
CATALOG = """
title: {title}
description: Tracks of the tone engine.
model: tone
defaults: {{duration_s: 10, takes: 1}}
matrix: {{zones: [hotel_lobby], genres: [piano_solo]}}
tracks: {tracks}
"""
BUSY_WORKER = """
import sys
from pathlib import Path
from catalog.errors import TunemillError
from catalog.messages import now_ms
from catalog.settings import read_settings
from workers.engine.process import EngineRecipe
from workers.service import ServeOptions, serve
options = {"batch_s": float(sys.argv[2]), "folder": Path(sys.argv[1]), "plan_limit": 0}
recipe = EngineRecipe("tests.support.fakes:SlowEngine", options)
try:
    sys.exit(serve(read_settings(), ServeOptions("tone", grace_s=5), started_at_ms=now_ms(), recipe=recipe))
except TunemillError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


class Scene:
    """The processes, by name, and their ledger."""

    def __init__(self, server: BrokerServer, folder: Path, *, batch_s: float) -> None:
        self.server, self.folder, self._batch_s = server, folder, batch_s
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TUNEMILL_")}
        common = {
            **clean,
            "TUNEMILL_HOME": str(folder / "home"),
            "TUNEMILL_STORE_URL": str(folder / "store"),
            "TUNEMILL_GPU": "cpu",
            "TUNEMILL_HEARTBEAT_S": "1",
            "TUNEMILL_SILENT_AFTER_S": "5",
            "OMP_NUM_THREADS": "1",
        }
        self._worker = {**common, "TUNEMILL_BROKER_URL": server.url("worker")}
        self._control = {
            **common,
            "TUNEMILL_BROKER_URL": server.url("controller"),
            "TUNEMILL_DATABASE_URL": f"sqlite:///{folder / 'ledger.sqlite'}",
            "TUNEMILL_PRESETS": str(ROOT / "presets"),
        }

    def begin(self) -> None:
        """Returns as soon as one worker holds all takes of a run, while the other finds none."""
        self._start("idle", ["-m", "workers", "serve", "--model", "tone", "--threads", "2"], self._worker)
        self._start("busy", ["-c", BUSY_WORKER, str(self.folder), str(self._batch_s)], self._worker)
        self.wait(lambda: " serves " in self.said("idle"), "the idle worker is ready")
        self.processes["idle"].send_signal(signal.SIGSTOP)
        time.sleep(1.5)  # the server takes the worker for waiting until its question has timed out
        self.dispatch("first", FIRST)
        self._start("controller", [*TUNEMILL, "controller"], self._control)
        self.wait(lambda: self.count("held_by is not null") == FIRST, "the busy worker holds all takes")
        self.processes["idle"].send_signal(signal.SIGCONT)
        time.sleep(0.5)

    def dispatch(self, name: str, tracks: int) -> None:
        """Plan a run and leave it to the controller."""
        catalog = self.folder / f"{name}.yaml"
        catalog.write_text(CATALOG.format(title=name, tracks=tracks))
        command = [sys.executable, *TUNEMILL, "run", str(catalog), "--detach"]
        done = subprocess.run(
            command, cwd=ROOT, env=self._control, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def endure(self, seconds: float) -> None:
        """Let time pass, in which nobody may end."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            assert not self.ended(), self._all_said()
            time.sleep(0.1)

    def finish(self) -> None:
        """Prove that everything is made, that nobody has ended by itself, and that nobody has shown a traceback."""
        self.wait(lambda: self.count("state = 'accepted'") == FIRST, "what was held is done")
        self.dispatch("second", SECOND)
        self.wait(lambda: self.count("state = 'accepted'") == FIRST + SECOND, "new takes are made")
        assert not self.ended(), self._all_said()
        for process in self.processes.values():
            process.terminate()
        codes = {name: process.wait(timeout=30) for name, process in self.processes.items()}
        assert set(codes.values()) == {0}, self._all_said()
        assert "Traceback" not in self._all_said(), self._all_said()
        assert PLANTED not in self._all_said()

    def ended(self) -> dict[str, int]:
        """The processes that have ended, with their exit codes."""
        return {name: code for name, each in self.processes.items() if (code := each.poll()) is not None}

    def said(self, name: str) -> str:
        """The log of one of them."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def count(self, which: str) -> int:
        """Takes in the ledger; -1 while it cannot be read."""
        try:
            with closing(sqlite3.connect(self.folder / "ledger.sqlite")) as ledger:
                return int(ledger.execute(f"select count(*) from take where {which}").fetchone()[0])  # noqa: S608
        except sqlite3.Error:
            return -1

    def wait(self, condition: Callable[[], bool], what: str, *, timeout_s: float = 90) -> None:
        """Until something is the case."""
        until_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until_s:
                pytest.fail(f"after {timeout_s:.0f} s still not: {what}\n{self._all_said()}")
            time.sleep(0.1)

    def close(self) -> None:
        """End all that is left."""
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _start(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log,
            )  # fmt: skip

    def _all_said(self) -> str:
        return "\n".join(f"--- {name}:\n{self.said(name)[-4000:]}" for name in self.processes)


@contextmanager
def a_server(kind: str, folder: Path) -> Iterator[BrokerServer]:
    """A running server of its own."""
    (folder / "server").mkdir()
    with closing(BrokerServer(kind, folder / "server", PASSWORDS)) as server:
        server.start(*OPTIONS)
        yield server


@contextmanager
def a_scene(kind: str, folder: Path, *, batch_s: float) -> Iterator[Scene]:
    """A scene that has begun, on a server of its own."""
    with a_server(kind, folder) as server, closing(Scene(server, folder, batch_s=batch_s)) as scene:
        scene.begin()
        yield scene

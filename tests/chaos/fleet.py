"""A fleet of real processes to be hurt: a broker, a database, a store, workers, and who feeds and records.

Every process is known by its id and carries the fleet's mark in its environment, so that at the end nothing is
left. Whoever dies is started again while a test waits, as an init system would; what a test has stopped stays so.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner

from catalog.orders import write_new_signer
from catalog.store import Store, open_store
from orchestrator.control.broker import Queues
from orchestrator.ledger.work import Outgoing
from tests.chaos.services import Valkey, engine_of, processes_with

ROOT = Path(__file__).parents[2]
TUNEMILL = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
WAIT_S = 120.0  # the machine may be busy with other things
RESTART_AFTER_S = 0.5
CATALOG = """
title: Chaos
description: Tracks of the tone engine.
model: tone
defaults: {{duration_s: 10, takes: 1}}
matrix:
  zones: [hotel_lobby, coffee_shop]
  genres: [piano_solo, acoustic_guitar]
tracks: {tracks}
"""
ACCEPTED = "select count(*) from take where state = 'accepted'"
HELD = "select count(*) from take where held_by is not null"
PENDING = "select count(*) from take where state in ('waiting', 'sent')"
ACTIVE = "select count(*) from run where state not in ('finished', 'cancelled')"
RUNS = "select count(*) from run"
LIVING = "select count(*) from worker where ended_at_ms is null"


@dataclass
class Life:
    """One process from start to end, by this machine's steady clock."""

    process: subprocess.Popen[bytes]
    log: Path
    began_s: float = field(default_factory=time.monotonic)
    ended_s: float | None = None
    was_told: bool = False  # to end in order

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def worker_id(self) -> str | None:
        found = re.search(r"worker ((?:[a-z0-9_-]+\.)?[0-9a-f]{32}) serves", self.said)
        return found.group(1) if found else None

    @property
    def code(self) -> int | None:
        code = self.process.poll()
        if code is not None and self.ended_s is None:
            self.ended_s = time.monotonic()
        return code


class Unit:
    """One service of the fleet: a command that is started again whenever it ends, until it is told to stop."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], logs: Path) -> None:
        self.name, self._command, self._environment, self._logs = name, list(command), dict(environment), logs
        self.lives: list[Life] = []
        self.is_wanted = False
        self.done_with: Callable[[int], bool] = lambda code: False  # exit codes after which it is not started again

    def start(self) -> Unit:
        self.is_wanted = True
        self._begin()
        return self

    def _begin(self) -> None:
        path = self._logs / f"{self.name}-{len(self.lives)}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.lives.append(Life(process, path))

    @property
    def life(self) -> Life:
        return self.lives[-1]

    @property
    def pid(self) -> int:
        return self.life.process.pid

    @property
    def is_up(self) -> bool:
        return bool(self.lives) and self.life.code is None

    def tend(self) -> None:
        """Start it again, some moments after it has ended."""
        if not self.is_wanted or self.is_up:
            return
        ended_s = self.life.ended_s or 0.0
        if self.done_with(self.life.process.returncode):
            self.is_wanted = False
        elif time.monotonic() - ended_s > RESTART_AFTER_S:
            self._begin()

    def signal(self, number: int) -> None:
        if self.is_up:
            self.life.process.send_signal(number)

    def kill(self) -> None:
        """The process alone, at once."""
        self.signal(signal.SIGKILL)
        self.life.process.wait()

    def kill_group(self) -> None:
        """The process with all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.life.process.wait()

    def kill_engine(self) -> bool:
        engine = engine_of(self.pid)
        if engine is not None:
            with suppress(ProcessLookupError):
                os.kill(engine, signal.SIGKILL)
        return engine is not None

    def stop(self, timeout_s: float = 60) -> int:
        """Tell it to end, for good; its exit code."""
        self.is_wanted = False
        if self.is_up:
            self.life.was_told = True
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            return self.life.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return pytest.fail(f"{self.name} does not end; it said:\n{self.life.said[-3000:]}")
        finally:
            assert self.life.code is not None or self.kill_group() is None


class Fleet:
    """All of it, in one folder whose path must be short enough for a socket."""

    def __init__(
        self,
        folder: Path,
        *,
        tracks: int = 16,
        window: int = 4,
        on_one_machine: bool = False,  # then `tunemill run` brings broker and worker itself
        keeps_messages: bool = True,
        database_url: str | None = None,
        store_url: str | None = None,
        endpoint: str | None = None,  # of S3, as workers reach it
        true_endpoint: str | None = None,  # of S3, for whoever checks
        broker_folder: Path | None = None,
        heartbeat_s: float = 0.5,
        silent_after_s: float = 3.0,
    ) -> None:
        self.folder, self.mark, self.tracks = folder, f"TUNEMILL_CHAOS_FLEET={uuid4().hex}", tracks
        self.home, self.logs = folder / "home", folder / "logs"
        self.home.mkdir()
        self.logs.mkdir()
        self.catalog = folder / "chaos.yaml"
        self.catalog.write_text(CATALOG.format(tracks=tracks))
        self.store_url = store_url or str(self.home / "store")
        self._true_endpoint = true_endpoint or endpoint
        mark_name, _, mark_value = self.mark.partition("=")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TUNEMILL_")}
        environment = {**clean, mark_name: mark_value, "OMP_NUM_THREADS": "1"}
        self.broker = Valkey(broker_folder or folder / "b", environment, keeps=keeps_messages)
        self.signer = write_new_signer(folder / "signing.key")
        self.database_url = database_url or f"sqlite:///{self.home / 'ledger.sqlite'}"
        self.worker_environment = {
            **environment,
            "TUNEMILL_HOME": str(self.home),
            "TUNEMILL_BROKER_URL": self.broker.workers_url,
            "TUNEMILL_VERIFY_ORDERS": self.signer.public_key,
            "TUNEMILL_STORE_URL": self.store_url,
            "TUNEMILL_HEARTBEAT_S": str(heartbeat_s),
            "TUNEMILL_GPU": "cpu",  # which has a price; an odd engine names a GPU of its own
            "TUNEMILL_SILENT_AFTER_S": str(silent_after_s),
            **({"TUNEMILL_S3_ENDPOINT_URL": endpoint} if endpoint else {}),
        }
        self.environment = {
            **self.worker_environment,
            "TUNEMILL_BROKER_URL": self.broker.url,
            "TUNEMILL_SIGNING_FILE": str(folder / "signing.key"),
            "TUNEMILL_DATABASE_URL": self.database_url,
            "TUNEMILL_PRESETS": str(ROOT / "presets"),
            "TUNEMILL_WINDOW": str(window),
        }
        self.units: list[Unit] = []
        self.story: list[str] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._began_s = time.monotonic()
        self._reader = create_engine(self._reading_url(), poolclass=NullPool)
        if on_one_machine:
            del self.environment["TUNEMILL_BROKER_URL"], self.environment["TUNEMILL_VERIFY_ORDERS"]
        else:
            self.broker.start()

    # ------------------------------------------------------------ who is in it

    @property
    def workers(self) -> list[Unit]:
        return [unit for unit in self.units if unit.name.startswith("worker")]

    def start_worker(
        self,
        *options: str,
        batch_s: float | None = None,
        threads: int = 3,
        clock_ahead_s: float = 0,
        clock_set_after_s: float = 0,
        **environment: str,
    ) -> Unit:
        """A worker with the tone engine; with `batch_s` or another clock an odd one."""
        if batch_s is None and not clock_ahead_s:
            command = [sys.executable, "-m", "workers", "serve", "--model", "tone", "--threads", str(threads)]
        else:
            command = [sys.executable, "-m", "tests.chaos.odd_worker", str(self.folder), "--threads", str(threads)]
            command += [] if batch_s is None else ["--batch-s", str(batch_s)]
            command += [f"--clock-ahead-s={clock_ahead_s}", f"--clock-set-after-s={clock_set_after_s}"]
        name = f"worker{len(self.workers)}"
        unit = Unit(name, [*command, *options], {**self.worker_environment, **environment}, self.logs)
        self.units.append(unit)
        return unit.start()

    def start_controller(self, *, clock_ahead_s: float = 0, clock_set_after_s: float = 0) -> Unit:
        name = f"controller{sum(unit.name.startswith('controller') for unit in self.units)}"
        program = TUNEMILL
        if clock_ahead_s:
            odd = f"from tests.chaos.clocks import set_wall_clock; set_wall_clock({clock_ahead_s}, after_s={{}}); "
            program = [sys.executable, "-c", odd.format(clock_set_after_s) + TUNEMILL[-1]]
        unit = Unit(name, [*program, "controller"], self.environment, self.logs)
        self.units.append(unit)
        return unit.start()

    def start_run(self, *options: str) -> Unit:
        """`tunemill run` in the foreground: it feeds and records until the run is done."""
        unit = Unit("run", [*TUNEMILL, "run", str(self.catalog), *options], self.environment, self.logs)
        unit.done_with = lambda code: code == 0
        self.units.append(unit)
        return unit.start()

    def dispatch(self) -> None:
        """`tunemill run --detach`: the plan is in the ledger, for a controller to feed."""
        self.ask("run", str(self.catalog), "--detach")

    def ask(self, *arguments: str) -> Any:
        """What a command that only looks, or that returns at once, says as JSON; in this process, which is quicker."""
        said = CliRunner().invoke(_program(), [*arguments, "--json"], env=self.environment)
        assert said.exit_code == 0, (arguments, said.output, said.exception)
        return json.loads(said.stdout)

    def tunemill(self, *arguments: str, timeout_s: float = WAIT_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TUNEMILL, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    # ------------------------------------------------------------ what is known of it

    def query(self, sql: str) -> list[Any]:
        """Rows of the ledger."""
        with self._reader.connect() as connection:
            return list(connection.execute(text(sql)).all())

    def count(self, sql: str) -> int:
        """The one number that `sql` gives; -1 while there is no ledger to ask."""
        try:
            return int(self.query(sql)[0][0])
        except SQLAlchemyError:
            return -1

    def open_store(self) -> Store:
        """The store as it really is, with no fault in between."""
        return open_store(self.store_url, s3_endpoint_url=self._true_endpoint)

    def sidecars(self) -> list[str]:
        """Keys of the sidecars that are stored."""
        return [info.key for info in self.open_store().list("chaos/takes/")]

    def batches_begun(self) -> list[Path]:
        """What slow engines leave behind: a file for each batch."""
        return sorted(self.folder.glob("began-*"))

    def send_again(self) -> None:
        """A second message for every take that is not done, as after a loss that was none."""
        from catalog.messages import RenderMessage, now_ms
        from catalog.queues import queue_of
        from catalog.track import Take
        from orchestrator.ledger import open_ledger
        from orchestrator.ledger.tables import TAKE

        ledger = open_ledger(self.database_url)
        with ledger.read() as connection:
            rows = connection.execute(TAKE.select().where(TAKE.c.state.in_(["waiting", "sent"]))).mappings().all()
        ledger.close()
        takes = [(row["run_id"], Take.model_validate(row["message"])) for row in rows]
        queues = Queues(self.broker.url, self.signer)
        messages = [RenderMessage(run_id=run_id, take=take) for run_id, take in takes]
        queues.send([Outgoing(queue_of(each.take.spec), each, now_ms()) for each in messages])
        queues.close()

    def tell(self, words: str) -> None:
        """A line of the story, which is told when a test fails."""
        self.story.append(f"{time.monotonic() - self._began_s:6.1f} s  {words}")

    # ------------------------------------------------------------ waiting

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something while a test waits, after so long."""
        self._later.append((time.monotonic() + seconds, action))

    def tend(self) -> None:
        """What goes on by itself: services come up again, and what was put off is done."""
        due = [each for each in self._later if each[0] <= time.monotonic()]
        self._later = [each for each in self._later if each not in due]
        for _, action in due:
            action()
        for unit in self.units:
            unit.tend()

    def wait(self, condition: Callable[[], Any], what: str, *, timeout_s: float = WAIT_S) -> Any:
        """Tend the fleet until something is the case."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            self.tend()
            if result := condition():
                return result
            time.sleep(0.1)  # a look costs a connection to the ledger
        return self.fail(f"after {timeout_s:.0f} s still not: {what}")

    def wait_until(self, sql: str, at_least: int = 1, *, timeout_s: float = WAIT_S) -> None:
        self.wait(lambda: self.count(sql) >= at_least, f"{sql} >= {at_least}", timeout_s=timeout_s)

    def wait_until_none(self, sql: str, *, timeout_s: float = WAIT_S) -> None:
        self.wait(lambda: self.count(sql) == 0, f"{sql} = 0", timeout_s=timeout_s)

    def finish(self) -> None:
        """Until the run is done and all that anybody has to say is written down; then everybody goes home.

        Somebody who records must be there.
        """
        self.wait(lambda: self.count(RUNS) > 0 and self.count(ACTIVE) == 0, "the run is done")
        for _, action in self._later:
            action()
        self._later.clear()
        for worker in self.workers:
            worker.is_wanted = False
        for worker in self.workers:
            self._send_home(worker)
        recorder = self._recorder()
        self.wait_until_none(LIVING)
        self.wait(lambda: self.records_waiting() == 0, "all records are written down")
        assert recorder.stop() == 0, recorder.life.said
        for unit in self.units:
            unit.is_wanted = False
        self.broker.kill()
        # An engine hears of its worker's end from the kernel, or from a closed pipe.
        self.wait(lambda: not processes_with(self.mark), "nobody is left", timeout_s=30)

    def _send_home(self, worker: Unit) -> None:
        was_up = worker.is_up
        code = worker.stop()
        if was_up and worker.life.was_told:
            # One that Python is still importing has no handler yet and holds nothing: the signal itself ends it.
            unborn = (-signal.SIGTERM,) if not worker.life.said else ()
            assert code in (0, *unborn), worker.life.said

    def _recorder(self) -> Unit:
        """The controller that is up; an attached run has ended with its run, so that one takes its place."""
        up = [unit for unit in self.units if unit.name.startswith("controller") and unit.is_up]
        if not up:
            self.wait(lambda: not any(unit.is_up for unit in self.units if unit.name == "run"), "the run has ended")
        return up[0] if up else self.start_controller()

    def renders_waiting(self) -> int:
        """Messages that no worker has taken."""
        with self.broker.client() as client:
            return sum(int(client.llen(key)) for key in client.scan_iter("tunemill:render.*"))

    def records_waiting(self) -> int:
        with self.broker.client() as client:
            return sum(int(client.llen(key)) for key in client.scan_iter("tunemill:records*"))

    # ------------------------------------------------------------ the end

    def fail(self, why: str) -> Any:
        """End the test with all that helps to understand why."""
        pytest.fail(f"{why}\n{self.describe()}")

    def describe(self) -> str:
        lines = ["-- the story", *self.story]
        with suppress(SQLAlchemyError):
            states = self.query("select state, held_by, count(*) from take group by state, held_by")
            workers = self.query("select worker_id, started_at_ms, last_seen_ms, ended_at_ms, end_reason from worker")
            runs = self.query("select * from run")
            lines += ["-- takes", *map(str, states), "-- workers", *map(str, workers), "-- runs", *map(str, runs)]
        for unit in self.units:
            for life in unit.lives[-3:]:
                lines += [f"-- {life.log.name}, pid {life.process.pid}, code {life.code}", life.said[-1500:]]
        return "\n".join(lines)

    def close(self) -> list[int]:
        """End everything; the processes that had outlived those who started them."""
        for unit in self.units:
            unit.is_wanted = False
            with suppress(ProcessLookupError):
                os.kill(unit.pid, signal.SIGCONT)
            unit.kill_group()
        self.broker.go_on()
        self.broker.kill()
        self._reader.dispose()
        deadline_s = time.monotonic() + 10  # an engine hears of its worker's end from the kernel or a closed pipe
        while (left := processes_with(self.mark)) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def _reading_url(self) -> str:
        if not self.database_url.startswith("sqlite"):
            return self.database_url
        path = self.database_url.removeprefix("sqlite:///")
        return f"sqlite:///file:{path}?mode=ro&uri=true&timeout=10"


@cache
def _program() -> typer.Typer:
    program = typer.Typer(pretty_exceptions_enable=False)
    for module in ("run", "catalog", "costs", "controls"):
        import_module(f"orchestrator.cli.{module}").register(program)
    return program


@contextmanager
def a_fleet(folder: Path, **parts: Any) -> Iterator[Fleet]:
    """A fleet for one test; nothing of it outlives the test."""
    fleet = Fleet(folder, **parts)
    try:
        yield fleet
    except BaseException as error:
        if isinstance(error, AssertionError):
            error.add_note(fleet.describe())
        raise
    finally:
        left = fleet.close()
    assert not left, f"processes {left} have outlived their fleet"


def begin(fleet: Fleet, **worker: Any) -> Unit:
    """A run under way: dispatched, with a controller and one worker, which comes back."""
    fleet.dispatch()
    fleet.start_controller()
    return fleet.start_worker(**worker)

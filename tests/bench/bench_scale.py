"""A whole fleet on this machine: takes a second, memory of each part and the ledger's size, as catalogs grow.

Valkey, Postgres, a folder store, `tunemill run --detach`, `tunemill controller` and workers are real processes. By
default the workers' audio is canned (see `scale_worker`); `--audio tone` renders, checks and masters every take.
`python -m tests.bench.bench_scale --sizes 1000,10000,100000` fills the whole table.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import redis
from sqlalchemy import create_engine, text

from tests.bench.bench_plan import write_presets
from tests.bench.measuring import ROOT, Figure, hand_back
from tests.support import servers

PROGRAM = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
WORKERS = {
    "canned": [sys.executable, "-m", "tests.bench.scale_worker"],
    "tone": [sys.executable, "-m", "workers", "serve", "--model", "tone"],
}
SIZES = (1_000, 10_000)
LOOK_EVERY_S = 0.5
STATUS_EVERY = 40  # looks
MIB = 2**20


class Measured(NamedTuple):
    """One size of catalog."""

    takes: int
    plan_s: float  # `tunemill run --detach`: expand, estimate, write down
    plan_mib: float  # its peak
    takes_per_s: float  # from the first worker's start to the last record
    controller_mib: float  # peak
    broker_mib: float  # peak
    ledger_mib: float
    busy_status_s: float  # the slowest `tunemill status --json` while workers and servers filled every core
    status_s: float  # the same command with the whole ledger, once they had ended


class Fleet:
    """Servers and processes of one measurement."""

    def __init__(self, folder: Path, broker_url: str, database_url: str, takes: int) -> None:
        write_presets(folder / "presets", zones=10, genres=10, tracks=takes)
        catalog = folder / "presets" / "catalogs" / "bench.yaml"
        written = catalog.read_text(encoding="utf-8")
        catalog.write_text(written.replace("acestep-v15-turbo", "tone").replace("- 120\n", "- 10\n"), encoding="utf-8")
        self.folder, self.takes = folder, takes
        self.environment = {
            **os.environ,
            "TUNEMILL_HOME": str(folder / "home"),
            "TUNEMILL_PRESETS": str(folder / "presets"),
            "TUNEMILL_BROKER_URL": broker_url,
            "TUNEMILL_DATABASE_URL": database_url,
            "TUNEMILL_STORE_URL": str(folder / "store"),
            "OMP_NUM_THREADS": "1",
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """A process of the fleet, its words in a log."""
        with (self.folder / f"{len(self._started)}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        self._started.append(process)
        return process

    def tunemill(self, *arguments: str) -> Any:
        """What the command says as JSON."""
        done = subprocess.run(
            [*PROGRAM, *arguments, "--json"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"tunemill {' '.join(arguments)}: {done.stderr}")
        return json.loads(done.stdout)

    def end(self) -> None:
        """Stop all of it."""
        for process in self._started:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def peak_mib(pid: int) -> float:
    """The most memory that a process has held so far."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def measure(takes: int, *, audio: str, workers: int, folder: Path, broker_url: str, database_url: str) -> Measured:
    """Make a catalog of so many takes and look on."""
    fleet = Fleet(folder, broker_url, database_url, takes)
    catalog = str(folder / "presets" / "catalogs" / "bench.yaml")
    try:
        began_s = time.monotonic()
        planner = fleet.start([*PROGRAM, "run", catalog, "--detach"])
        plan_mib = _watch(planner)
        plan_s = time.monotonic() - began_s
        for _ in range(workers):
            fleet.start(WORKERS[audio])
        began_s = time.monotonic()
        controller = fleet.start([*PROGRAM, "controller", "--until-done"])
        controller_mib, status_s = _watch_controller(fleet, controller)
        whole_s = time.monotonic() - began_s
    finally:
        fleet.end()
    began_s = time.monotonic()
    run = fleet.tunemill("status")["runs"][0]
    idle_status_s = time.monotonic() - began_s
    if run["takes"]["accepted"] != takes:
        raise SystemExit(f"not every take was accepted: {run['takes']}")
    ledger_mib = _ledger_bytes(database_url) / MIB
    return Measured(
        takes=takes,
        plan_s=plan_s,
        plan_mib=plan_mib,
        takes_per_s=takes / whole_s,
        controller_mib=controller_mib,
        broker_mib=_broker_peak(broker_url) / MIB,
        ledger_mib=ledger_mib,
        busy_status_s=status_s,
        status_s=idle_status_s,
    )


def _watch(process: subprocess.Popen[bytes]) -> float:
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, peak_mib(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"planning ended with {process.returncode}")
    return peak


def _watch_controller(fleet: Fleet, controller: subprocess.Popen[bytes]) -> tuple[float, float]:
    peak, slowest_s, looks = 0.0, 0.0, 0
    while controller.poll() is None:
        peak = max(peak, peak_mib(controller.pid))
        if looks % STATUS_EVERY == STATUS_EVERY // 2:
            began_s = time.monotonic()
            done = fleet.tunemill("status")["runs"][0]["takes"]["accepted"]
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            sys.stderr.write(f"{done:,} of {fleet.takes:,}\n")
        looks += 1
        time.sleep(LOOK_EVERY_S)
    if controller.returncode:
        raise SystemExit(f"the controller ended with {controller.returncode}")
    return peak, slowest_s


def _broker_peak(broker_url: str) -> int:
    path = broker_url.removeprefix("redis+socket://").partition("?")[0]
    with redis.Redis(unix_socket_path=path) as client:
        return int(client.info("memory")["used_memory_peak"])


def _ledger_bytes(database_url: str) -> int:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        size = connection.execute(text("select pg_database_size(current_database())")).scalar()
    engine.dispose()
    return int(size or 0)


@contextmanager
def _surroundings() -> Iterator[tuple[Path, str, str]]:
    """A folder, a fresh broker and an empty database."""
    with tempfile.TemporaryDirectory(prefix="tm", dir="/tmp") as name:
        folder = Path(name)
        (folder / "valkey").mkdir()
        with servers.valkey(folder / "valkey") as broker_url, servers.postgres(folder / "pg") as maintenance_url:
            yield folder, broker_url, maintenance_url


def main(argv: list[str] | None = None) -> None:
    """Measure every size, each with fresh servers, and hand back."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_scale", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="takes, with commas between")
    parser.add_argument("--audio", choices=sorted(WORKERS), default="canned", help="what the workers make")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    arguments = parser.parse_args(argv)
    figures: list[Figure] = []
    for takes in map(int, arguments.sizes.split(",")):
        with _surroundings() as (folder, broker_url, database_url):
            found = measure(
                takes,
                audio=arguments.audio,
                workers=arguments.workers,
                folder=folder,
                broker_url=broker_url,
                database_url=database_url,
            )
        sys.stderr.write(f"{found}\n")
        units = {"plan_s": "s", "takes_per_s": "takes/s", "busy_status_s": "s", "status_s": "s"}
        promises = {"status_s": 1.0}
        for name, value in found._asdict().items():
            if name != "takes":
                figures.append(
                    Figure(f"{takes:,} takes: {name}", value, units.get(name, "MiB"), at_most=promises.get(name))
                )
    hand_back(figures)


if __name__ == "__main__":
    main()

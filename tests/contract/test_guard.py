"""Nothing that tests have started outlives them, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from tests.chaos.services import processes_with
from tests.support import guard, servers

ROOT = Path(__file__).parents[2]
MARK = "TESTS_OF_THE_GUARD"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")

# A server of each kind, a worker with its engine, and a broker that has outlived who started it; then it hangs.
TESTS = """
import os, subprocess, sys, time
from pathlib import Path

TOLD = Path(__file__).parent
BROKER = "import sys; from pathlib import Path; from orchestrator.runs.local.broker import EmbeddedBroker;"
BROKER += "broker = EmbeddedBroker(Path(sys.argv[1])); broker.start(); print(broker._find_pid())"

def hang(name, *pids):
    (TOLD / f"{name}.part").write_text(" ".join(map(str, pids)))
    (TOLD / f"{name}.part").rename(TOLD / f"{name}.pids")
    time.sleep(100)

def test_with_a_database(_postgres):
    folder = _postgres.rpartition("host=")[2]
    hang("database", (Path(folder) / "postmaster.pid").read_text().split()[0])

def test_with_brokers_and_a_worker(broker_url, short_tmp):
    own = {"TUNEMILL_HOME": str(short_tmp), "TUNEMILL_STORE_URL": str(short_tmp), "TUNEMILL_BROKER_URL": broker_url}
    command = [sys.executable, "-m", "workers", "serve", "--model", "tone"]
    worker = subprocess.Popen(command, env={**os.environ, **own}, start_new_session=True)
    said = subprocess.run([sys.executable, "-c", BROKER, str(short_tmp)], capture_output=True, text=True, check=True)
    hang("broker", said.stdout.strip(), worker.pid)
"""

# These tests may themselves run in the background of a shell, where Ctrl-C is ignored.
PYTEST = "import signal, sys, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(pytest.main())"
# How long pytest waits for its own workers before it ends them the hard way, in which no fixture is cleaned up.
IMPATIENT = "from xdist.workermanage import NodeManager; NodeManager.EXIT_TIMEOUT = 0.5"


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not (done := condition()) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return done


def told(folder: Path) -> list[int]:
    """The processes that the tests in that folder have told of."""
    return [int(pid) for path in folder.glob("*.pids") for pid in path.read_text().split()]


@pytest.fixture
def inner(tmp_path: Path):
    """A run of pytest that hangs, in a process group of its own; and the folder where it tells whom it has started."""
    (tmp_path / "test_inner.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text(IMPATIENT)
    mark = f"{MARK}={uuid4().hex}"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    arguments = ["-p", "tests.conftest", "-n", "2", str(tmp_path / "test_inner.py")]
    with (tmp_path / "said").open("wb") as said:
        run = subprocess.Popen(
            [sys.executable, "-c", PYTEST, *arguments],
            cwd=ROOT,
            env={**ours, MARK: mark.partition("=")[2]},
            stdout=said,
            stderr=said,
            process_group=0,
        )
    yield run, mark
    for pid in [run.pid, *told(tmp_path), *processes_with(mark)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run.wait()


@pytest.mark.parametrize("ending", ["Ctrl-C", "SIGKILL"])
def test_nothing_that_tests_have_started_outlives_them(inner, tmp_path, ending):
    run, mark = inner
    assert wait(lambda: len(told(tmp_path)) == 3, 60), (tmp_path / "said").read_text()
    assert wait(lambda: any(b"spawn_main" in _command(pid) for pid in processes_with(mark)), 20)  # the engine
    started = {*processes_with(mark), *told(tmp_path)} - {run.pid}
    if ending == "Ctrl-C":
        os.killpg(run.pid, signal.SIGINT)
    else:
        run.send_signal(signal.Signals[ending])
    run.wait(timeout=30)
    assert wait(lambda: not any(map(is_alive, started)), 10), [(pid, _command(pid)) for pid in started if is_alive(pid)]
    assert processes_with(mark) == []


def test_a_server_whose_files_lie_elsewhere_is_known_all_the_same(tmp_path):
    with servers.fleet_valkey(tmp_path, {"controller": "one", "worker": "another"}):
        ours = guard.started_by(os.environ[guard.FOLDER])
        assert tmp_path in [Path(f"/proc/{pid}/cwd").readlink() for pid in ours if is_alive(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""

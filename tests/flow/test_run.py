"""From presets to finished tracks in real processes: the tone engine, an embedded broker, SQLite and a folder.

Whatever is killed in the middle, the same command ends with exactly the planned tracks, none twice.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.runs.local import broker as embedded
from orchestrator.runs.local.broker import EmbeddedBroker
from tests.support.servers import missing

PRESETS = Path(__file__).parents[2] / "presets"
TRACKS = 24
CATALOG = f"""
title: Flow
description: Tracks of the tone engine.
model: tone
defaults: {{duration_s: [20, 40], takes: 1}}
matrix:
  zones: [hotel_lobby, coffee_shop]
  genres: [piano_solo, acoustic_guitar]
tracks: {TRACKS}
"""


class Machine:
    """A computer with nothing on it but this program: a home, a catalog and the command line."""

    def __init__(self, home: Path) -> None:
        self.home, self.catalog = home, home / "flow.yaml"
        home.mkdir(exist_ok=True)
        self.catalog.write_text(CATALOG)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TUNEMILL_")},
            "TUNEMILL_HOME": str(home),
            "TUNEMILL_PRESETS": str(PRESETS),
            "TUNEMILL_HEARTBEAT_S": "1",
            "TUNEMILL_WINDOW": "4",  # so that there is a middle to be killed in
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from orchestrator.cli import main; main()", *arguments],
            env={**self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tunemill(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        try:
            said, warned = process.communicate(timeout=120)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, said, warned)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.tunemill("run", str(self.catalog), *arguments, **environment)

    def query(self, sql: str) -> list[tuple]:
        with sqlite3.connect(f"file:{self.home / 'ledger.sqlite'}?mode=ro", uri=True, timeout=10) as connection:
            return connection.execute(sql).fetchall()

    def wait_until(self, sql: str, at_least: int = 1) -> None:
        """Wait until the first number that `sql` gives is large enough."""
        for _ in range(2_400):
            try:
                if self.query(sql)[0][0] >= at_least:
                    return
            except sqlite3.OperationalError:
                pass  # no ledger yet
            time.sleep(0.05)
        pytest.fail(f"it never came to {at_least}: {sql}")

    def worker_pid(self) -> int:
        return int(json.loads((self.home / "worker.json").read_text())["pid"])

    def clean_up(self) -> None:
        broker = EmbeddedBroker(self.home)
        broker.start()
        broker.stop()


@pytest.fixture
def machine(short_tmp):
    try:
        embedded._find_program()
    except Exception:
        missing("a Valkey server")
    made = Machine(short_tmp / "home")
    yield made
    made.clean_up()


ACCEPTED = "select count(*) from take where state = 'accepted'"
MADE = "select count(*) from attempt where outcome = 'accepted'"


def assert_complete(machine: Machine) -> None:
    """Exactly the planned tracks, none twice, each with its audio and its sidecar."""
    assert machine.query("select state, count(*) from take group by state") == [("accepted", TRACKS)]
    assert machine.query("select count(*), count(distinct take_id) from rendition") == [(TRACKS, TRACKS)]
    store = machine.home / "store" / "flow"
    sidecars = [json.loads(path.read_text()) for path in (store / "takes").glob("*.json")]
    assert len(sidecars) == TRACKS
    named = {sidecar["audio"]["key"] for sidecar in sidecars}
    assert {key for (key,) in machine.query("select audio_key from rendition")} == named
    for sidecar in sidecars:
        assert (machine.home / "store" / sidecar["audio"]["key"]).stat().st_size == sidecar["audio"]["bytes"]


def wait_for_end(pid: int) -> bool:
    """Whether the process ends within some seconds; it is not our child."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_a_catalog_is_made_and_a_second_run_sends_nothing(machine):
    first = machine.run("--json")
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert summary["ending"] == "done"
    assert summary["takes"]["accepted"] == TRACKS
    assert_complete(machine)
    second = machine.run()
    assert second.returncode == 0
    assert f"nothing to do: {TRACKS} unchanged" in second.stdout
    assert len(list((machine.home / "logs").iterdir())) == 1  # no second worker was started
    assert not EmbeddedBroker(machine.home).answers()

    listed = json.loads(machine.tunemill("catalog", "list", "--zone", "hotel_lobby", "--json").stdout)
    assert Counter(track["zone"] for track in listed) == {"hotel_lobby": TRACKS // 2}
    assert all(Path(track["file"]).is_file() for track in listed)
    status = json.loads(machine.tunemill("status", "--json").stdout)
    assert [run["state"] for run in status["runs"]] == ["finished"]
    assert [worker["state"] for worker in status["workers"]] == ["ended"]
    assert status["runs"][0]["usd_micros"] > 0
    assert f"{TRACKS} takes unchanged" in machine.tunemill("refresh", str(machine.catalog)).stderr


def test_the_run_is_killed_in_the_middle_and_run_again(machine):
    first = machine.start("run", str(machine.catalog))
    machine.wait_until(MADE, 2)
    first.kill()
    first.communicate()
    assert machine.query(MADE)[0][0] < TRACKS
    second = machine.run("--json")
    assert second.returncode == 0, second.stderr
    assert "going on with run" in second.stderr
    assert_complete(machine)
    assert len(machine.query("select * from run")) == 1


def test_the_worker_is_killed_in_the_middle_and_the_run_goes_on(machine):
    run = machine.start("run", str(machine.catalog))
    machine.wait_until(MADE, 2)
    os.killpg(machine.worker_pid(), signal.SIGKILL)
    assert machine.query(MADE)[0][0] < TRACKS
    # What a heartbeat had named is sent again at once; what had just arrived, when it has been missing for a minute.
    said, warned = run.communicate(timeout=120)
    assert run.returncode == 0, said + warned
    assert "starting it again" in warned
    assert_complete(machine)
    assert machine.query("select max(tries) from take") == [(0,)]


def test_the_broker_is_killed_in_the_middle_and_the_run_goes_on(machine):
    run = machine.start("run", str(machine.catalog))
    machine.wait_until(MADE, 2)
    os.kill(EmbeddedBroker(machine.home)._find_pid(), signal.SIGKILL)
    said, warned = run.communicate(timeout=120)
    assert run.returncode == 0, said + warned
    assert "going on" in warned
    assert_complete(machine)


def test_a_polite_stop_keeps_what_was_made_and_says_how_to_go_on(machine):
    run = machine.start("run", str(machine.catalog))
    machine.wait_until(MADE, 1)
    run.send_signal(signal.SIGINT)
    said, warned = run.communicate(timeout=120)
    assert run.returncode == 130, said + warned
    assert "the same command goes on" in warned
    assert machine.query("select count(*) from take where state = 'sent'") == [(0,)]
    assert not (machine.home / "worker.json").exists()
    assert not EmbeddedBroker(machine.home).answers()
    assert 0 < machine.query(MADE)[0][0] < TRACKS
    assert machine.run().returncode == 0
    assert_complete(machine)
    assert machine.query(MADE) == [(TRACKS,)]  # nothing was rendered twice


def test_a_second_run_at_the_same_time_is_refused_with_the_name_of_the_first(machine):
    first = machine.start("run", str(machine.catalog))
    machine.wait_until("select count(*) from worker")
    second = machine.tunemill("refresh", str(machine.catalog))
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert second.returncode == 34
    assert f"pid {first.pid}" in second.stderr


def test_a_run_in_the_background_ends_by_itself(machine):
    started = machine.run("--detach", "--json")
    assert started.returncode == 0, started.stderr
    machine.wait_until(ACCEPTED, TRACKS)
    machine.wait_until("select count(*) from run where state = 'finished'")
    assert wait_for_end(json.loads(started.stdout)["pid"])
    assert_complete(machine)
    assert not EmbeddedBroker(machine.home).answers()


def test_a_budget_that_is_too_small_is_refused_before_anything_starts(machine):
    refused = machine.run("--max-usd", "0.000001")
    assert refused.returncode == 21
    assert [path.name for path in machine.home.iterdir()] == [machine.catalog.name]


def test_a_store_that_refuses_ends_the_run_with_the_workers_words(machine):
    blocked = machine.home / "blocked"
    blocked.write_text("a file where a folder should be")
    ended = machine.run(TUNEMILL_STORE_URL=str(blocked / "store"))
    assert ended.returncode == 31, ended.stdout + ended.stderr
    assert "error:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_fleet_is_fed_and_recorded_by_a_controller(machine, broker_url):
    fleet = {"TUNEMILL_BROKER_URL": broker_url}
    detached = machine.run("--detach", "--json", **fleet)
    assert json.loads(detached.stdout)["pending"] == TRACKS
    worker = subprocess.Popen(
        [sys.executable, "-m", "workers", "serve", "--model", "tone"], env={**machine._environment, **fleet}
    )
    try:
        ended = machine.tunemill("controller", "--until-done", **fleet)
    finally:
        worker.terminate()
        worker.wait(timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert_complete(machine)


NEEDS_WEIGHTS = """
title: Flow
description: A trained model's takes.
model: acestep-v15-turbo
defaults: {duration_s: 10, planner: %s}
matrix: {zones: [hotel_lobby], genres: [piano_solo]}
tracks: 1
"""


def test_a_machine_too_small_for_a_take_says_so_and_one_without_planner_loads_none(machine):
    weights = subprocess.run(
        [sys.executable, "-m", "workers", "tiny", "--home", str(machine.home)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    small = {"TUNEMILL_WEIGHTS": weights, "TUNEMILL_VRAM_GIB": "5"}
    machine.catalog.write_text(NEEDS_WEIGHTS % "true")
    refused = machine.run(**small)
    assert refused.returncode == 40
    assert "this machine has too little memory for 1 of the takes" in refused.stderr
    assert "render.acestep-v15-turbo.15g" in refused.stderr
    machine.catalog.write_text(NEEDS_WEIGHTS % "false")
    done = machine.run(**small)
    assert done.returncode == 0, done.stderr
    logs = "".join(path.read_text() for path in (machine.home / "logs").glob("worker-*.log"))
    assert "planner off" in logs
    assert machine.query(ACCEPTED) == [(1,)]


def test_a_store_that_refuses_is_found_before_a_run_begins(machine):
    refused = machine.run(TUNEMILL_STORE_URL="/proc/nowhere")
    assert refused.returncode == 31
    assert machine.query("select count(*) from run") == [(0,)]

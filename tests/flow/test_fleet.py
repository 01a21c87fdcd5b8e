"""The same commands drive a fleet: a controller at work, runs that are watched or left to it, cards of every size."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.flow.test_run import ACCEPTED, CATALOG, MADE, TRACKS, Machine, assert_complete

MANY = 400  # so many that there is a middle for several commands


@pytest.fixture
def fleet(short_tmp, broker_url):
    """A machine whose settings name a broker, and the processes that were started on it."""
    machine = Machine(short_tmp / "home")
    machine._environment["TUNEMILL_BROKER_URL"] = broker_url
    started: list[subprocess.Popen] = []
    machine.begin = lambda *arguments: started.append(machine.start(*arguments)) or started[-1]
    machine.begin_worker = lambda: (
        started.append(
            subprocess.Popen([sys.executable, "-m", "workers", "serve", "--model", "tone"], env=machine._environment)
        )
        or started[-1]
    )
    yield machine
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def wait_for_controller(machine: Machine) -> None:
    machine.wait_until("select count(*) from writer where holder like 'controller%'")


def test_a_run_where_a_controller_is_at_work_is_watched_until_it_is_done(fleet):
    fleet.begin("controller")
    wait_for_controller(fleet)
    fleet.begin_worker()
    watched = fleet.run("--json")
    assert watched.returncode == 0, watched.stderr
    assert "feeds and records this run" in watched.stderr
    assert json.loads(watched.stdout)["takes"]["accepted"] == TRACKS
    assert_complete(fleet)


def test_who_watches_may_leave_and_the_run_goes_on(fleet):
    fleet.begin("controller")
    wait_for_controller(fleet)
    watching = fleet.begin("run", str(fleet.catalog))
    fleet.wait_until("select count(*) from take where state = 'sent'")
    time.sleep(1)  # it has begun to watch
    watching.send_signal(signal.SIGINT)
    _, warned = watching.communicate(timeout=60)
    assert watching.returncode == 130, warned
    assert "the controller goes on" in warned
    fleet.begin_worker()
    fleet.wait_until(ACCEPTED, TRACKS)
    assert_complete(fleet)


def test_a_second_controller_is_refused_with_the_name_of_the_first(fleet):
    first = fleet.begin("controller")
    wait_for_controller(fleet)
    second = fleet.tunemill("controller", "--until-done")
    assert second.returncode == 34
    assert f"controller (pid {first.pid}" in second.stderr


def test_a_run_is_paused_resumed_and_cancelled_while_workers_go_on(fleet):
    fleet.catalog.write_text(CATALOG.replace(f"tracks: {TRACKS}", f"tracks: {MANY}"))
    assert fleet.run("--detach").returncode == 0
    fleet.begin("controller")
    fleet.begin_worker()
    fleet.wait_until(MADE, 2)
    assert fleet.tunemill("pause", "flow").returncode == 0
    refused = fleet.tunemill("refresh", str(fleet.catalog))
    assert refused.returncode == 36, refused.stderr
    fleet.wait_until("select count(*) = 0 from take where state = 'sent'")
    made = fleet.query(MADE)[0][0]
    time.sleep(2)
    assert fleet.query(MADE) == [(made,)]
    assert fleet.tunemill("resume", "flow").returncode == 0
    fleet.wait_until(MADE, made + 1)
    assert fleet.tunemill("cancel", "flow").returncode == 0
    fleet.wait_until("select count(*) from run where state = 'cancelled'")
    counts = dict(fleet.query("select state, count(*) from take group by state"))
    assert sorted(counts) == ["accepted", "cancelled"]
    assert sum(counts.values()) == MANY
    again = fleet.run("--detach", "--json")
    assert json.loads(again.stdout)["pending"] == counts["cancelled"]

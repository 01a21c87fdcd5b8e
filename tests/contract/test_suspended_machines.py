"""A machine that was suspended has heard nobody meanwhile, and takes nobody for dead when it goes on."""

from __future__ import annotations

import time

import pytest

from catalog.clock import SuspendDetector
from catalog.errors import NoWorkerError
from orchestrator.runs.presence import WorkerPresence
from tests.contract.test_controller import Farm
from tests.support.farm import heartbeat, started, takes

NIGHT_S = 8 * 3600


@pytest.fixture
def suspend(monkeypatch):
    """A function that suspends this machine for so many seconds, for all that begins after it was made."""
    suspended_ns = [0]

    def detector() -> SuspendDetector:
        return SuspendDetector(lambda: time.monotonic_ns() + suspended_ns[0])

    for module in ("control.controller", "runs.presence"):
        monkeypatch.setattr(f"orchestrator.{module}.SuspendDetector", detector)

    def suspend(seconds: int) -> None:
        suspended_ns[0] += seconds * 1_000_000_000

    return suspend


def busy_farm() -> Farm:
    """A farm whose worker holds all takes."""
    farm = Farm(takes(2))
    farm.step(started(started_at_ms=farm.now_ms, at_ms=farm.now_ms))
    farm.step(heartbeat([take.id for take in farm.received()], at_ms=farm.now_ms), after_s=2)
    assert farm.counts.sent == 2
    return farm


def test_a_controller_that_was_suspended_takes_no_worker_for_dead(suspend):
    farm = busy_farm()
    suspend(NIGHT_S)
    assert farm.step(after_s=NIGHT_S).sent_again == 0
    assert farm.step(after_s=59).sent_again == 0
    assert farm.worker().ended_at_ms is None
    assert farm.step(after_s=2).sent_again == 2, "a worker that stays silent has lost its takes"


def test_a_controller_that_was_suspended_waits_for_takes_that_no_queue_has(suspend):
    farm = Farm(takes(2))
    farm.step()
    farm.received()
    farm.step(after_s=61)
    suspend(NIGHT_S)
    assert farm.step(after_s=NIGHT_S).sent_again == 0
    assert farm.step(after_s=4).sent_again == 0
    assert farm.step(after_s=2).sent_again == 2


def test_a_controller_that_only_heard_nobody_takes_a_worker_for_dead():
    farm = busy_farm()
    assert farm.step(after_s=61).sent_again == 2


def test_who_follows_a_run_on_a_machine_that_was_suspended_is_patient_anew(suspend, monkeypatch):
    monkeypatch.setattr("orchestrator.runs.presence._LOOK_EVERY_S", 0.0)
    farm = busy_farm()
    presence = WorkerPresence(farm.ledger, str(farm.run_id), 600, clock=lambda: farm.now_ms)
    suspend(NIGHT_S)
    farm.now_ms += NIGHT_S * 1000
    presence.check()
    farm.now_ms += 600_000
    presence.check()
    farm.now_ms += 1_000
    with pytest.raises(NoWorkerError):
        presence.check()

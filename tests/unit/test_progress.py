"""Progress tells the rate of the last minutes and the time left at that rate; a second request to stop hastens."""

from __future__ import annotations

import os
import signal
import time

from orchestrator.ledger import open_ledger
from orchestrator.ledger.facts import record_facts
from orchestrator.progress import Meter
from orchestrator.stopping import StopRequest
from tests.farm import DOLLAR_AN_HOUR, attempt, takes


def test_the_rate_is_that_of_the_last_two_minutes_and_the_time_left_follows():
    plan = takes(10)
    ledger = open_ledger("sqlite://")
    meter = Meter(ledger, ledger.begin_or_resume_run("spring", "tone", plan).run_id)
    first = meter.read(1_000_000)
    assert (first.takes_per_min, first.eta_ms) == (None, None)
    with ledger.write() as connection:
        record_facts(connection, [attempt(take) for take in plan[:4]], lambda gpu, at_ms: DOLLAR_AN_HOUR, 1)
    second = meter.read(1_060_000)
    assert (second.takes_per_min, second.eta_ms) == (4.0, 90_000)
    assert meter.read(1_900_000).takes_per_min is None


def test_the_first_signal_asks_and_the_second_hastens():
    with StopRequest().listening() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # the echo of the same request
        stop.wait(0.01)
        assert stop.made
        assert not stop.hasty
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGINT)
        stop.wait(0.01)
        assert stop.hasty
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

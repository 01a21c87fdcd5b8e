"""Progress tells the rate of the last minutes and the time left at that rate; requests to stop are heard at once."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from orchestrator.ledger import open_ledger
from orchestrator.ledger.facts import record_facts
from orchestrator.runs import stop as stopping
from orchestrator.runs.progress import ProgressReader
from orchestrator.runs.stop import StopRequest
from tests.support.farm import DOLLAR_AN_HOUR, attempt, takes
from tests.support.makers import exactly


def test_the_rate_is_that_of_the_last_two_minutes_and_the_time_left_follows():
    plan = takes(10)
    ledger = open_ledger("sqlite://")
    reader = ProgressReader(ledger, ledger.begin_or_resume_run("spring", "tone", exactly(plan)).run_id)
    first = reader.read(1_000_000)
    assert (first.takes_per_min, first.eta_ms) == (None, None)
    with ledger.write() as connection:
        record_facts(connection, [attempt(take) for take in plan[:4]], lambda machine, at_ms: DOLLAR_AN_HOUR, 1)
    second = reader.read(1_060_000)
    assert (second.takes_per_min, second.eta_ms) == (4.0, 90_000)
    assert reader.read(1_900_000).takes_per_min is None


def test_the_first_signal_requests_a_stop_and_the_second_an_immediate_one():
    with StopRequest().listening() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # the echo of the same request
        stop.wait(0.01)
        assert stop.requested
        assert not stop.immediate
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGINT)
        stop.wait(0.01)
        assert stop.immediate
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_each_request_to_stop_ends_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_ECHO_S", 0.0)
    with StopRequest().listening() as stop:
        for immediate in (False, True):
            asking = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
            asking.start()
            began_s = time.monotonic()
            stop.wait(30)
            asking.join()
            assert time.monotonic() - began_s < 10
            assert (stop.requested, stop.immediate) == (True, immediate)


def test_a_hang_up_that_nohup_has_muted_stays_muted() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest().listening() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

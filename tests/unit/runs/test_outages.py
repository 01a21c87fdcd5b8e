"""An outage is reported once and so is the recovery; the waits between tries grow up to a limit."""

from __future__ import annotations

from contextlib import closing

import pytest

from catalog.errors import BrokerError, LedgerError
from catalog.retry import Outage
from catalog.settings import Settings
from orchestrator.ledger import open_ledger
from orchestrator.runs.attached import LEDGER_PATIENCE_S, AttachedRun
from orchestrator.runs.outages import BACKOFF, report_recovery, wait_out
from orchestrator.runs.progress import RunProgress
from orchestrator.runs.stop import StopRequest
from tests.support.farm import takes
from tests.support.makers import exactly


class FakeWatcher:
    """Keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def show(self, progress: RunProgress) -> None:
        raise NotImplementedError

    def say(self, text: str) -> None:
        self.messages.append(text)


class FakeStop(StopRequest):
    """Keeps the seconds and does not sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits_s.append(seconds)


def test_an_outage_and_the_recovery_are_reported_once() -> None:
    outage, watcher, stop = Outage(BACKOFF), FakeWatcher(), FakeStop()
    report_recovery(outage, watcher)
    assert watcher.messages == []
    wait_out(outage, BrokerError("no answer", why="refused"), watcher, stop)
    wait_out(outage, LedgerError("no answer either"), watcher, stop)
    report_recovery(outage, watcher)
    report_recovery(outage, watcher)
    assert watcher.messages == ["no answer: refused; trying again", "going on"]
    wait_out(outage, LedgerError("no answer again"), watcher, stop)
    assert watcher.messages[-1] == "no answer again: no reason given; trying again"


def test_waits_grow_up_to_the_longest_and_begin_anew_with_the_next_outage() -> None:
    outage, watcher, stop = Outage(BACKOFF), FakeWatcher(), FakeStop()
    for _ in range(12):
        wait_out(outage, BrokerError("no answer"), watcher, stop)
    assert stop.waits_s == sorted(stop.waits_s)
    assert (stop.waits_s[0], stop.waits_s[-1]) == (BACKOFF.first_s, BACKOFF.longest_s)
    report_recovery(outage, watcher)
    wait_out(outage, BrokerError("no answer"), watcher, stop)
    assert stop.waits_s[-1] == BACKOFF.first_s


def test_a_run_gives_a_ledger_file_two_minutes_and_a_broker_any_time(tmp_path) -> None:
    now_s = 0.0
    settings = Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0", silent_after_s=60)
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    run_id = str(ledger.begin_or_resume_run("spring", "tone", exactly(takes(1))).run_id)
    stop, watcher = FakeStop(), FakeWatcher()
    with closing(ledger), ledger.writer_lock() as lock:
        run = AttachedRun(
            ledger,
            lock,
            settings,
            run_id=run_id,
            price_of=lambda machine, at_ms: None,
            watcher=watcher,
            local_worker=None,
        )
        run._outage = Outage(BACKOFF, clock=lambda: now_s)
        run._wait_out(LedgerError("the disk is gone"), stop)
        now_s = LEDGER_PATIENCE_S
        run._wait_out(LedgerError("the disk is gone"), stop)
        now_s = LEDGER_PATIENCE_S * 100
        run._wait_out(BrokerError("no answer"), stop)
        with pytest.raises(LedgerError, match="the disk is gone"):
            run._wait_out(LedgerError("the disk is gone"), stop)
    assert len(stop.waits_s) == 3
    assert watcher.messages == ["the disk is gone: no reason given; trying again"]

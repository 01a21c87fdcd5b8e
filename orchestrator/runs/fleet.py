"""Serving a fleet: one controller feeds and records every active run, for as long as it is let."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final

from catalog.errors import BrokerError, LedgerError, StoreFullError, TunemillError
from catalog.settings import Settings
from orchestrator.control.broker import Queues
from orchestrator.control.controller import Controller, Step
from orchestrator.ledger import Ledger, work
from orchestrator.ledger.facts import PriceOf
from orchestrator.ledger.lock import WriterLock
from orchestrator.runs.progress import Watcher
from orchestrator.runs.stop import StopRequest

POLL_S: Final = 0.5
_BACKOFF_MAX_S: Final = 30.0


def serve_runs(
    ledger: Ledger, lock: WriterLock, settings: Settings, *, price_of: PriceOf, watcher: Watcher, until_done: bool
) -> None:
    """Step until told to stop or, with `until_done`, until no run is active. Outages are waited out."""
    queues = Queues(str(settings.broker_url))
    queues.check()
    ledger = ledger.fenced(lock)
    controller = Controller(
        ledger,
        queues,
        price_of=price_of,
        window=settings.window,
        silent_after_s=settings.silent_after_s,
        time_zone=settings.finance_tz,
    )
    watcher.say("controller started")
    told: set[str] = set()
    away_since_s: float | None = None
    with closing(queues), StopRequest().listening() as stop:
        while not stop.made:
            try:
                lock.verify(now=away_since_s is not None)
                step = controller.step()
                if until_done and not step.more and not _any_active(ledger):  # heartbeats never cease
                    break
            except (BrokerError, LedgerError, StoreFullError) as error:
                if away_since_s is None:
                    away_since_s = time.monotonic()
                    watcher.say(f"{error.what}: {error.why}; trying again")
                stop.wait(min(POLL_S + (time.monotonic() - away_since_s) / 4, _BACKOFF_MAX_S))
                continue
            if away_since_s is not None:
                away_since_s = None
                watcher.say("going on")
            _tell(step, told, watcher)
            if not step.more:
                stop.wait(POLL_S)
    watcher.say("controller stopped; what is on its way is recorded when the next one starts")


def _any_active(ledger: Ledger) -> bool:
    with ledger.read() as connection:
        return bool(work.active_runs(connection))


def _tell(step: Step, told: set[str], watcher: Watcher) -> None:
    for run_id in step.finished:
        watcher.say(f"run {run_id} is finished")
    refusal: TunemillError
    for run_id, refusal in step.refused.items():
        if run_id not in told:
            told.add(run_id)
            watcher.say(f"run {run_id} is not fed: {refusal.what} ({refusal.fix})")
    told &= step.refused.keys()

"""Serving a fleet: one controller feeds and records every active run until a person stops it."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Final

from catalog.errors import BrokerError, LedgerError, StoreFullError, TunemillError
from catalog.messages import now_ms
from catalog.retry import Outage
from catalog.settings import Settings
from catalog.store import open_configured_store
from orchestrator.control.broker import Queues
from orchestrator.control.choice import TakeChoice
from orchestrator.control.controller import Controller, Step
from orchestrator.control.duplicates import DuplicateCheck
from orchestrator.control.signing import open_order_proof
from orchestrator.ledger import Ledger, work
from orchestrator.ledger.lock import WriterLock
from orchestrator.ledger.machines import PriceOf
from orchestrator.runs.outages import BACKOFF, report_recovery, wait_out
from orchestrator.runs.progress import Watcher
from orchestrator.runs.stop import StopRequest

POLL_S: Final = 0.5


def serve_runs(
    ledger: Ledger, lock: WriterLock, settings: Settings, *, price_of: PriceOf, watcher: Watcher, until_done: bool
) -> None:
    """Make steps until somebody stops the controller or, with `until_done`, until no run is active.

    An outage of the broker or the ledger is waited out.
    """
    proof = open_order_proof(ledger, settings)
    queues = Queues(str(settings.broker_url), proof.signer if proof else None)
    queues.check()
    ledger = ledger.fenced(lock)
    controller = Controller(
        ledger,
        queues,
        price_of=price_of,
        window=settings.window,
        silent_after_s=settings.silent_after_s,
        time_zone=settings.finance_tz,
        proof=proof,
        duplicates=DuplicateCheck(ledger, partial(open_configured_store, settings), now_ms),
        choice=TakeChoice(ledger, partial(open_configured_store, settings), now_ms),
    )
    watcher.say("controller started")
    reported: set[str] = set()  # ids of runs whose refusal was reported
    outage = Outage(BACKOFF)
    with closing(queues), StopRequest().listening() as stop:
        while not stop.requested:
            try:
                lock.verify(now=outage.is_on)
                step = controller.step()
                if until_done and not _any_active(ledger):
                    controller.record_waiting()
                    break
            except (BrokerError, LedgerError, StoreFullError) as error:
                wait_out(outage, error, watcher, stop)
                continue
            report_recovery(outage, watcher)
            _report(step, reported, watcher)
            if not step.more:
                stop.wait(POLL_S)
    watcher.say("controller stopped; what is on its way is recorded when the next one starts")


def _any_active(ledger: Ledger) -> bool:
    with ledger.read() as connection:
        return bool(work.active_runs(connection))


def _report(step: Step, reported: set[str], watcher: Watcher) -> None:
    for run_id in step.finished:
        watcher.say(f"run {run_id} is finished")
    refusal: TunemillError
    for run_id, refusal in step.refused.items():
        if run_id not in reported:
            reported.add(run_id)
            watcher.say(f"run {run_id} is not fed: {refusal.what} ({refusal.fix})")
    reported &= step.refused.keys()

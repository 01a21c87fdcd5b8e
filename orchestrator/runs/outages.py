"""Outages on the control side: report the first error, try again at growing intervals, and report the recovery.

A run, a controller and a follower wait for a broker or a ledger in the same way. Their state is in the ledger and on
the broker, so waiting loses nothing. An error that only a person can mend ends the command at once, because a waiting
command would hide it.
"""

from __future__ import annotations

from typing import Final

from catalog.errors import BrokerError, LedgerError, TunemillError
from catalog.retry import Backoff, Outage
from orchestrator.runs.progress import Watcher
from orchestrator.runs.stop import StopRequest

BACKOFF: Final = Backoff(first_s=0.2, longest_s=15.0)


def wait_out(outage: Outage, error: TunemillError, watcher: Watcher, stop: StopRequest) -> None:
    """Note a try that failed, and sleep until the next one is due or somebody asks to stop.

    Raises `error` where only a person can mend it.
    """
    if isinstance(error, BrokerError | LedgerError) and error.needs_person:
        raise error
    if outage.failed():
        watcher.say(f"{error.what}: {error.why or 'no reason given'}; trying again")
    stop.wait(outage.next_wait_s())


def report_recovery(outage: Outage, watcher: Watcher) -> None:
    """Note a try that succeeded."""
    if outage.ended():
        watcher.say("going on")

"""Following: a run that a controller feeds and records, watched from here until it ends.

Nothing depends on the one who watches: when it is told to stop, the run goes on.
"""

from __future__ import annotations

import time
from typing import Final

from catalog.errors import LedgerError
from catalog.messages import now_ms
from orchestrator.ledger import Ledger, RunRow, readings
from orchestrator.runs.attached import WISH_WORDS, Ending, Outcome
from orchestrator.runs.progress import Meter, Watcher
from orchestrator.runs.stop import StopRequest

POLL_S: Final = 1.0
_BACKOFF_MAX_S: Final = 15.0


def follow_run(ledger: Ledger, run_id: str, watcher: Watcher) -> Outcome:
    """Show the run until it ends or we are told to stop; a ledger that is away is waited for."""
    meter, wish, away_since_s = Meter(ledger, run_id), "", 0.0
    run: RunRow | None = None
    with StopRequest().listening() as stop:
        while not stop.made:
            try:
                with ledger.read() as connection:
                    run = readings.get_run(connection, run_id)
                progress = meter.read(now_ms())
            except LedgerError as error:
                away_since_s = _endure(error, away_since_s, stop, watcher)
                continue
            away_since_s = 0.0
            watcher.show(progress)
            if run.state != "active":
                break
            if run.wish != wish:
                wish = run.wish
                watcher.say(WISH_WORDS[wish].format(catalog=run.catalog))
            stop.wait(POLL_S)
    with ledger.read() as connection:
        counts = readings.count_takes(connection, run_id)
    endings = {"finished": Ending.DONE, "cancelled": Ending.CANCELLED}
    return Outcome(endings.get(run.state if run else "active", Ending.LEFT), counts)


def _endure(error: LedgerError, since_s: float, stop: StopRequest, watcher: Watcher) -> float:
    """Wait for a while; since when the ledger is away."""
    now_s = time.monotonic()
    if not since_s:
        watcher.say(f"{error.what}: {error.why}; trying again")
        since_s = now_s
    stop.wait(min(max(POLL_S, (now_s - since_s) / 4), _BACKOFF_MAX_S))
    return since_s

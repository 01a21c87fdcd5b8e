"""Following: show the progress of a run that a controller feeds and records, until the run ends.

The run does not depend on its follower: when a person stops the follower, the run continues.
"""

from __future__ import annotations

import math
from typing import Final

from catalog.errors import LedgerError
from catalog.messages import now_ms
from catalog.retry import Outage
from orchestrator.ledger import Ledger, RunRow, readings
from orchestrator.runs.attached import CONTROL_MESSAGES, RunEnd, RunResult
from orchestrator.runs.outages import BACKOFF, report_recovery, wait_out
from orchestrator.runs.presence import WorkerPresence
from orchestrator.runs.progress import ProgressReader, Watcher
from orchestrator.runs.stop import StopRequest

POLL_S: Final = 1.0


def follow_run(ledger: Ledger, run_id: str, watcher: Watcher, *, worker_patience_s: float = math.inf) -> RunResult:
    """Show the run until it ends or somebody stops the follower; an outage of the ledger is waited out.

    Raises NoWorkerError after `worker_patience_s` without a word from any worker.
    """
    presence = WorkerPresence(ledger, run_id, worker_patience_s)
    reader, control, outage = ProgressReader(ledger, run_id), "", Outage(BACKOFF)
    run: RunRow | None = None
    with StopRequest().listening() as stop:
        while not stop.requested:
            try:
                with ledger.read() as connection:
                    run = readings.get_run(connection, run_id)
                progress = reader.read(now_ms())
                presence.check()
            except LedgerError as error:
                wait_out(outage, error, watcher, stop)
                continue
            report_recovery(outage, watcher)
            watcher.show(progress)
            if run.state != "active":
                break
            if run.wish != control:
                control = run.wish
                watcher.say(CONTROL_MESSAGES[control].format(catalog=run.catalog))
            stop.wait(POLL_S)
    with ledger.read() as connection:
        counts = readings.count_takes(connection, run_id)
    ends = {"finished": RunEnd.DONE, "cancelled": RunEnd.CANCELLED}
    return RunResult(ends.get(run.state if run else "active", RunEnd.LEFT), counts)

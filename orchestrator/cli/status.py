"""`tunemill status`: runs, workers and queues at this moment; it reads and waits for nobody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from catalog.errors import TunemillError
from catalog.messages import now_ms
from catalog.queues import RECORD_QUEUE
from catalog.settings import Settings, read_settings
from orchestrator.cli.columns import Column, number, print_table
from orchestrator.cli.console import JsonFlag, clock, out, print_json, say, usd, warn
from orchestrator.cli.plan import find_ledger
from orchestrator.costs.time_use import MEND_WAITING_FOR_POST, WAITING_FOR_POST_MAX, TimeUse
from orchestrator.embedded import EmbeddedBroker
from orchestrator.ledger import Ledger, WorkerRow, readings, work
from orchestrator.queues import Queues

_WORKERS_SHOWN = 20
_USE_OF_MS = 3_600_000  # busy and waiting are shares of a worker's last hour
_GROWTH_MAX_MIB = 20.0  # over 100 takes: 3 GiB in a night of 15,000
_COUNTS = ("waiting", "sent", "rejected", "failed")
_RUN_COLUMNS = (
    Column("run"),
    Column("catalog", least=10),
    Column("model", least=12, spare=2),
    Column("state"),
    Column("started (UTC)", spare=1),
    number("done"),
    number("waiting", spare=3),
    number("sent", spare=4),
    number("rejected"),
    number("failed"),
    number("cost"),
)
_WORKER_COLUMNS = (
    Column("worker"),
    Column("host", least=8),
    Column("gpu", least=12),
    Column("model", least=12, spare=1),
    Column("state"),
    number("holds"),
    number("busy"),
    number("batch", spare=3),
    number("plans", spare=4),
    number("MiB", spare=5),
    number("per 100 takes", spare=6),
    number("life"),
    number("an hour"),
)


def show_status(
    runs: Annotated[int, typer.Option(help="Show so many runs, newest first.", min=1)] = 10,
    json: JsonFlag = False,
) -> None:
    """Show runs with their counts and money, workers, and what waits in the queues."""
    settings = read_settings()
    ledger = find_ledger(settings)
    status = {"runs": [], "workers": [], "queues": None} if ledger is None else read_status(ledger, settings, runs=runs)
    if json:
        print_json(status)
    elif not status["runs"]:
        warn("there are no runs yet; start one with `tunemill run CATALOG`")
    else:
        _print_status(status)


def read_status(ledger: Ledger, settings: Settings, *, runs: int) -> dict[str, Any]:
    """Runs, workers and queues as plain values; queues are None when no broker answers."""
    now = now_ms()
    with ledger.read() as connection:
        latest = readings.latest_runs(connection, runs)
        held = readings.held_takes(connection)
        queues = work.sent_queues(connection, [run.run_id for run in latest])
        rows = []
        for run in latest:
            counts, spend = readings.count_takes(connection, run.run_id), readings.spend_of_run(connection, run)
            rows.append(
                {
                    **run.model_dump(),
                    "takes": {**counts._asdict(), "total": counts.total},
                    "usd_micros": None if spend.unpriced else spend.usd_micros,
                }
            )
        workers = readings.latest_workers(connection, _WORKERS_SHOWN)
        use = readings.latest_time_use(connection, [worker.worker_id for worker in workers], _USE_OF_MS)
    return {
        "runs": rows,
        "workers": [
            {
                **worker.model_dump(),
                "state": _state_of(worker, now, settings.silent_after_s),
                "holds": held[worker.worker_id],
                "use_of_last_hour": use[worker.worker_id].as_plain_values(),
                "warnings": list(_warnings(worker, use[worker.worker_id])),
            }
            for worker in workers
        ],
        "queues": _queue_lengths(settings, [*queues, RECORD_QUEUE]),
    }


def _state_of(worker: WorkerRow, now: int, silent_after_s: float) -> str:
    if worker.ended_at_ms is not None:
        return "ended"
    return "alive" if now - worker.last_seen_ms <= silent_after_s * 1000 else "silent"


def _warnings(worker: WorkerRow, use: TimeUse) -> Iterator[str]:
    """What should be mended of a worker that has not ended."""
    if worker.ended_at_ms is not None:
        return
    if (waiting := use.waiting_for_post_share) > WAITING_FOR_POST_MAX:
        yield f"its engine waited for post {waiting:.0%} of the last hour: {MEND_WAITING_FOR_POST}"
    if (growth := worker.growth_mib_per_100_takes or 0.0) > _GROWTH_MAX_MIB:
        yield (
            f"its engine's memory grows by {growth:,.0f} MiB every 100 takes: it will be started anew before that "
            "does harm, and each start costs time; its log says when"
        )


def _queue_lengths(settings: Settings, names: list[str]) -> dict[str, int] | None:
    url = settings.broker_url
    if url is None:
        broker = EmbeddedBroker(settings.home)
        if not broker.answers():
            return None
        url = broker.url
    queues = Queues(url)
    try:
        queues.check()
        return queues.lengths(names)
    except TunemillError:
        return None  # a status must not fail because a part is down; it says so
    finally:
        queues.close()


def _print_status(status: dict[str, Any]) -> None:
    _print_runs(status["runs"])
    if status["workers"]:
        out.print()
        _print_workers(status["workers"])
    queues = status["queues"]
    out.print()
    if queues is None:
        say("no broker answers (on one machine it runs only during a run)", label="queues: ")
    else:
        say(", ".join(f"{name} {length:,}" for name, length in queues.items()), label="queues: ")


def _print_runs(runs: list[dict[str, Any]]) -> None:
    rows = []
    for run in runs:
        takes = run["takes"]
        ended = takes["accepted"] + takes["rejected"] + takes["failed"]
        done = f"{ended:,}/{takes['total'] - takes['cancelled']:,}"
        started = datetime.fromtimestamp(run["started_at_ms"] / 1000, tz=UTC).strftime("%m-%d %H:%M")
        names = (run["run_id"][:8], run["catalog"], run["model"], run["state"], started)
        rows.append((*names, done, *(f"{takes[name]:,}" for name in _COUNTS), usd(run["usd_micros"])))
    print_table(_RUN_COLUMNS, rows)


def _print_workers(workers: list[dict[str, Any]]) -> None:
    rows = []
    for worker in workers:
        life = clock((worker["ended_at_ms"] or worker["last_seen_ms"]) - worker["started_at_ms"])
        names = (worker["worker_id"][:8], worker["host"], worker["gpu"] or "loading", worker["model"], worker["state"])
        limits = (str(worker["batch_limit"]), str(worker["plan_limit"] or "-"))
        numbers = (str(worker["holds"]), _percent(worker["use_of_last_hour"]["busy_share"]), *limits, *_memory(worker))
        rows.append((*names, *numbers, life, usd(worker["rate_usd_micros_per_h"])))
    print_table(_WORKER_COLUMNS, rows)
    for worker in workers:
        for words in worker["warnings"]:
            warn(f"worker {worker['worker_id'][:8]}: {words}")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _memory(worker: dict[str, Any]) -> tuple[str, str]:
    """MiB in use, and how they grow."""
    if worker["rss_mib"] is None:
        return "-", "-"
    growth = worker["growth_mib_per_100_takes"]
    return f"{worker['rss_mib'] + worker['device_mib']:,.0f}", "-" if growth is None else f"{growth:+,.1f}"

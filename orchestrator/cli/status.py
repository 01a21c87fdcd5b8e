"""`tunemill status`: runs, workers and queues at this moment. The command reads only and takes no lock.

`--watch` reads a snapshot every few seconds and shows it: redrawn on a terminal, one JSON document a line for scripts.
The terminal's alternate screen is drawn row by row from the top, so that neither another size nor a typed key shifts
the rows; the last snapshot stays on the ordinary screen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.control import Control
from rich.text import Text
from sqlalchemy import Connection

from catalog.errors import LedgerError, TunemillError
from catalog.logins import RECORD_QUEUE, short_worker_id
from catalog.messages import FAULT, now_ms
from catalog.settings import Settings, read_settings
from orchestrator.cli.console import JsonFlag, clock, err, out, print_json, print_json_line, say, usd, warn
from orchestrator.cli.dead import dead_as_json, print_dead
from orchestrator.cli.display import Column, describe_paid, number, print_table
from orchestrator.cli.ledger import find_ledger
from orchestrator.cli.names import read_names
from orchestrator.cli.streams import has_reader
from orchestrator.control.broker import Queues
from orchestrator.ledger import Ledger, RunRow, WorkerRow, readings, run_control, set_aside, work
from orchestrator.ledger.time_use import MEND_WAITING_FOR_POST, WAITING_FOR_POST_MAX, TimeUse
from orchestrator.runs.local.broker import EmbeddedBroker
from orchestrator.runs.stop import StopRequest

_WORKERS_SHOWN = 20
_USE_OF_MS = 3_600_000  # busy and waiting are shares of a worker's last hour
_GROWTH_MAX_MIB = 20.0  # over 100 takes: 3 GiB in a night of 15,000
_JUDGED_AFTER_MS = 600_000  # of an engine's time; earlier its caches still fill, and one wait is a large share
_RESIZE_POLL_S = 0.2
_COUNTS = ("waiting", "sent", "rejected", "failed")
_DEAD_SHOWN = 100
_MS_PER_MIN = 60_000
_CONTROL_STATES = {run_control.PAUSE: "paused", run_control.CANCEL: "cancelling"}
_RUN_COLUMNS = (
    Column("run"),
    Column("catalog", least=10),
    Column("model", least=12, spare=2),
    Column("state"),
    Column("started (UTC)", spare=6),
    number("done"),
    number("a min", spare=1),
    number("left", spare=1),
    number("waiting", spare=3),
    number("sent", spare=4),
    number("rejected", spare=5),
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


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("status")(show_status)


def show_status(
    runs: Annotated[int, typer.Option(help="Number of runs to show, newest first.", min=1)] = 10,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh the display until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two refreshes of --watch.", min=0.2)] = 2.0,
    dead: Annotated[bool, typer.Option("--dead", help="List the dead takes with their reasons.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show the current runs, workers and queues.

    For each run it shows counts, rate, remaining time and cost.
    """
    settings = read_settings()
    if watch:
        _watch(settings, runs=runs, every_s=every, json=json)
        return
    status = _status_now(settings, runs)
    if dead:
        _show_dead(settings, json=json)
    elif json:
        print_json(status)
    elif not status["runs"]:
        warn("there are no runs yet; start one with `tunemill run CATALOG`")
    else:
        _print_status(status)


def _status_now(settings: Settings, runs: int) -> dict[str, Any]:
    ledger = find_ledger(settings)
    if ledger is None:
        return {"runs": [], "workers": [], "queues": None, "dead": 0, "records_set_aside": 0}
    with closing(ledger):
        return read_status(ledger, settings, runs=runs)


def _watch(settings: Settings, *, runs: int, every_s: float, json: bool) -> None:
    """Show the status until interrupted; an outage is reported, and the next snapshot tries again."""
    on_screen = out.is_interactive and not json
    status: dict[str, Any] = {}
    with StopRequest().listening() as stop:
        with out.screen() if on_screen else nullcontext():
            while not stop.requested and has_reader():
                status = _read_snapshot(settings, runs)
                if on_screen:
                    _show_on_screen(status, every_s, stop)
                    continue
                if json:
                    print_json_line(status)
                else:
                    _print_snapshot(status)
                    out.print()
                sys.stdout.flush()
                stop.wait(every_s)
        if on_screen and status:
            _print_snapshot(status)


def _read_snapshot(settings: Settings, runs: int) -> dict[str, Any]:
    """Read the status with its instant, or the error that prevents that."""
    try:
        return {"at_ms": now_ms(), **_status_now(settings, runs)}
    except LedgerError as error:
        return {"at_ms": now_ms(), "error": error.what, "why": error.why}


def _show_on_screen(status: dict[str, Any], seconds: float, stop: StopRequest) -> None:
    """Show one snapshot for so many seconds, drawn again as soon as the terminal has another size."""
    drawn_for, until_s = None, time.monotonic() + seconds
    while not stop.requested and (left_s := until_s - time.monotonic()) > 0:
        if out.size != drawn_for:
            drawn_for = out.size
            _draw(status)
        stop.wait(min(left_s, _RESIZE_POLL_S))


def _draw(status: dict[str, Any]) -> None:
    """Fill the terminal with one snapshot; the last row counts the rows that find no room."""
    # A rich Live would add its own frame to the text captured from its console; a screen adds nothing.
    with out.capture() as captured:
        _print_snapshot(status)
    lines, height = captured.get().splitlines(), out.height
    if len(lines) > height:
        lines[height - 1 :] = [f"… {len(lines) - height + 1:,} more lines; a higher terminal shows them"]
    out.update_screen(Text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop"))
    out.control(Control.home())  # here an echoed key or Ctrl-C pushes no row up


def _print_snapshot(status: dict[str, Any]) -> None:
    """Print one snapshot, notes included, to standard output."""
    say(datetime.fromtimestamp(status["at_ms"] / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))
    if "error" in status:
        say(f"{status['error']}: {status['why']}; looking again")
    elif status["runs"]:
        _print_status(status, notes_to=out)
    else:
        say("there are no runs yet")


def _show_dead(settings: Settings, *, json: bool) -> None:
    ledger = find_ledger(settings)
    found, count = [], 0
    if ledger is not None:
        with closing(ledger), ledger.read() as connection:
            count = run_control.count_dead(connection)
            found = run_control.dead_takes(connection, limit=None if json else _DEAD_SHOWN)
    if json:
        print_json(dead_as_json(found))
        return
    print_dead(found)
    if count > len(found):
        say(f"{count:,} in all; --json lists every one")


def read_status(ledger: Ledger, settings: Settings, *, runs: int) -> dict[str, Any]:
    """Read runs, workers and queues as plain values; queues are None when no broker answers."""
    now, names = now_ms(), read_names(settings)
    with ledger.read() as connection:
        latest = readings.latest_runs(connection, runs)
        held = readings.held_takes(connection)
        queues = work.sent_queues(connection, [run.run_id for run in latest])
        rows = []
        for run in latest:
            counts, spend = readings.count_takes(connection, run.run_id), readings.spend_of_run(connection, run)
            rate = readings.takes_per_min(connection, run, now) if run.state == "active" and not run.wish else None
            rows.append(
                {
                    **run.model_dump(),
                    "catalog_now": names.catalog(run.catalog),
                    "shown_state": _CONTROL_STATES.get(run.wish, run.state),
                    "takes": {**counts._asdict(), "total": counts.total},
                    "takes_per_min": rate,
                    "eta_ms": round(counts.pending / rate * _MS_PER_MIN) if rate else None,
                    "paid_meanwhile": _paid_meanwhile(connection, run, now),
                    "usd_micros": None if spend.unpriced else spend.usd_micros,
                }
            )
        dead, aside = run_control.count_dead(connection), set_aside.count_set_aside(connection)
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
                "warnings": [
                    *_warnings(worker, use[worker.worker_id]),
                    *([_why_down(worker)] if _is_down(worker, workers) else []),
                ],
            }
            for worker in workers
        ],
        "queues": _queue_lengths(settings, queues),
        "dead": dead,
        "records_set_aside": aside,
    }


def _paid_meanwhile(connection: Connection, run: RunRow, now: int) -> dict[str, Any] | None:
    """What the machines of a paused run go on costing; None of a run that is not paused."""
    if run.state != "active" or run.wish != run_control.PAUSE:
        return None
    return readings.paid_meanwhile(connection, run, now)._asdict()


def _state_of(worker: WorkerRow, now: int, silent_after_s: float) -> str:
    if worker.ended_at_ms is not None:
        return "ended"
    return "alive" if now - worker.heard_at_ms <= silent_after_s * 1000 else "silent"


def _is_down(worker: WorkerRow, workers: Sequence[WorkerRow]) -> bool:
    """True when a worker ended by a fault of its own, and no other has taken its place on the machine since."""
    if worker.ended_at_ms is None or not (worker.end_reason or "").startswith(FAULT):
        return False
    place = (worker.host, worker.lane)
    return all((each.host, each.lane) != place or each.started_at_ms <= worker.started_at_ms for each in workers)


def _why_down(worker: WorkerRow) -> str:
    place = f"{worker.host}, GPU {worker.lane}" if worker.lane else worker.host
    return f"it is down on {place}, and nothing has taken its place: {(worker.end_reason or '').removeprefix(FAULT)}"


def _warnings(worker: WorkerRow, use: TimeUse) -> Iterator[str]:
    """Yield the faults of a worker that a person should mend; none for a worker that has ended."""
    if worker.ended_at_ms is not None:
        return
    if worker.clock_ahead_ms:
        direction = "ahead of" if worker.clock_ahead_ms > 0 else "behind"
        yield f"its clock is {clock(abs(worker.clock_ahead_ms))} {direction} this one: set it, S3 allows 15 minutes"
    if use.up_ms < _JUDGED_AFTER_MS:
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
        return {**queues.lengths(names), RECORD_QUEUE: queues.count_records()}
    except TunemillError:
        return None  # the status reports an outage and must not fail by it
    finally:
        queues.close()


def _print_status(status: dict[str, Any], *, notes_to: Console = err) -> None:
    _print_runs(status["runs"])
    if status["workers"]:
        out.print()
        _print_workers(status["workers"], notes_to)
    queues = status["queues"]
    out.print()
    if queues is None:
        say("no broker answers (on one machine it runs only during a run)", label="queues: ")
    else:
        say(", ".join(f"{name} {length:,}" for name, length in queues.items()), label="queues: ")
    if status["dead"]:
        mending = "`tunemill status --dead` shows the reasons, `tunemill retry CATALOG --failed` tries them again"
        warn(f"{status['dead']:,} dead takes: {mending}", to=notes_to)
    if status["records_set_aside"]:
        warn(f"{status['records_set_aside']:,} records set aside: see `tunemill records list`", to=notes_to)


def _print_runs(runs: list[dict[str, Any]]) -> None:
    rows = []
    for run in runs:
        takes = run["takes"]
        ended = takes["accepted"] + takes["rejected"] + takes["failed"]
        done = f"{ended:,}/{takes['total'] - takes['cancelled']:,}"
        started = datetime.fromtimestamp(run["started_at_ms"] / 1000, tz=UTC).strftime("%m-%d %H:%M")
        names = (run["run_id"][:8], run["catalog_now"], run["model"], run["shown_state"], started)
        rate = "-" if run["takes_per_min"] is None else f"{run['takes_per_min']:,.1f}"
        pace = (rate, "-" if run["eta_ms"] is None else clock(run["eta_ms"]))
        rows.append((*names, done, *pace, *(f"{takes[name]:,}" for name in _COUNTS), usd(run["usd_micros"])))
    print_table(_RUN_COLUMNS, rows)
    for run in runs:
        if paid := run["paid_meanwhile"]:
            say(f"{run['catalog_now']} is paused; {describe_paid(readings.PaidMeanwhile(**paid))}", hang=2)


def _print_workers(workers: list[dict[str, Any]], notes_to: Console) -> None:
    rows = []
    for worker in workers:
        life = clock((worker["ended_at_ms"] or worker["last_seen_ms"]) - worker["started_at_ms"])
        names = (
            short_worker_id(worker["worker_id"]),
            worker["host"],
            worker["gpu"] or "loading",
            worker["model"],
            worker["state"],
        )
        limits = (str(worker["batch_limit"]), str(worker["plan_limit"] or "-"))
        numbers = (str(worker["holds"]), _percent(worker["use_of_last_hour"]["busy_share"]), *limits, *_memory(worker))
        rows.append((*names, *numbers, life, usd(worker["rate_usd_micros_per_h"])))
    print_table(_WORKER_COLUMNS, rows)
    for worker in workers:
        for words in worker["warnings"]:
            warn(f"worker {short_worker_id(worker['worker_id'])}: {words}", to=notes_to)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _memory(worker: dict[str, Any]) -> tuple[str, str]:
    """Format the memory in use and its growth, in MiB."""
    if worker["rss_mib"] is None:
        return "-", "-"
    growth = worker["growth_mib_per_100_takes"]
    return f"{worker['rss_mib'] + worker['device_mib']:,.0f}", "-" if growth is None else f"{growth:+,.1f}"

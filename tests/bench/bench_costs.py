"""The books at scale: posting, reports and packs over a year of work, on SQLite and on Postgres.

Every step runs in a process of its own, so that its peak memory is its own. `python -m tests.bench.bench_costs
--attempts 100000,1000000` fills the whole table, `--databases sqlite` only the half of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, func, insert, select, text

from catalog.messages import AttemptMade, Record, Span, SpansClosed, WorkerStarted, WorkerStopped
from catalog.rental import RentalNote
from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.books.books import update_books
from orchestrator.finance.books.invoices import write_invoice
from orchestrator.finance.months import bounds_of
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.tables import ATTEMPT, COST_ENTRY, COST_MONTHLY, RENTAL, RUN, TAKE, WORKER
from tests.bench.measuring import ROOT, Figure, hand_back, peak_rss_mib, timed
from tests.support import servers
from tests.support.cost_ledger import DAY_MS, GPUS, YEAR_MS, a_line, add_living, an_invoice, fill_year, price_of
from tests.support.makers import a_sidecar

ATTEMPTS = "100000"
DATABASES = "sqlite,postgres"
MONTH = "2025-06"
REPORTS = (
    ("--period", MONTH),
    ("--period", MONTH, "--by", "zone,genre"),
    ("--period", MONTH, "--by", "run"),
    ("--period", MONTH, "--by", "provider,gpu,market"),
    ("--period", MONTH, "--run", "run0000200"),
    (),
    ("--by", "month"),
)
REPORT_S, PACK_S, POST_S = 2.0, 30.0, 180.0
RECORDED = 20_000  # attempts in the step that records facts
TAKES_AT_ONCE = 250  # with a span each: 500 records in a transaction, as the controller
NOW_MS = YEAR_MS + 400 * DAY_MS
MIB = 2**20


class Measured(NamedTuple):
    """One step on one ledger."""

    name: str
    seconds: float
    cpu_s: float  # of our own process, which waits for Postgres
    peak_mib: float
    found: dict[str, Any]  # what it counted


# ---------------------------------------------------------------- steps, each in a process of its own


def fill(ledger: Ledger, attempts: int) -> dict[str, Any]:
    """A year of work."""
    year = fill_year(ledger, attempts)
    return {"rows": year.rows, "attempts": year.attempts}


def record(ledger: Ledger, attempts: int) -> dict[str, Any]:
    """Facts as the controller writes them: each take with its rendition, 500 records in a transaction."""
    count, at_ms = min(attempts, RECORDED), YEAR_MS
    with ledger.write() as connection:
        connection.execute(insert(RUN), [_run("recorded")])
        connection.execute(insert(TAKE), [_take(f"f{n:023x}", "recorded") for n in range(count)])
    made = 0
    with timed() as watch:
        for start in range(0, count, TAKES_AT_ONCE):
            with ledger.write() as connection:
                record_facts(connection, list(_records(start, at_ms + start * 1_000)), price_of, at_ms)
            made += TAKES_AT_ONCE
    return {"rows": made, "rate_s": watch.seconds}


def post(ledger: Ledger, attempts: int) -> dict[str, Any]:
    """Everything that is known and not posted."""
    with ledger.read() as connection:
        before = connection.execute(select(func.count()).select_from(COST_ENTRY)).scalar() or 0
    with timed() as watch:
        updated = update_books(ledger, time_zone="UTC", price_of=price_of, at_ms=NOW_MS)
    with ledger.read() as connection:
        entries = connection.execute(select(func.count()).select_from(COST_ENTRY)).scalar() or 0
        sums = connection.execute(select(func.count()).select_from(COST_MONTHLY)).scalar()
    counts = {"posted": updated.posted, "reversed": updated.reversed, "sums": sums}
    return {"rows": entries - before, "rate_s": watch.seconds, **counts}


def bill(ledger: Ledger, attempts: int) -> dict[str, Any]:
    """An invoice of each provider for each month, with two lines for every rental that began in it."""
    lines = 0
    for period in (f"2025-{number:02d}" for number in range(1, 13)):
        for provider in ("runpod", "vast"):
            with ledger.write() as connection:
                lines += _bill(connection, provider, period)
    return {"rows": lines}


def _bill(connection: Connection, provider: str, period: str) -> int:
    start_ms, end_ms = bounds_of(period, "UTC")
    began = (
        select(RENTAL.c.external_id)
        .join(WORKER, WORKER.c.rental_id == RENTAL.c.rental_id)
        .where(RENTAL.c.provider == provider, WORKER.c.started_at_ms.between(start_ms, end_ms - 1))
        .distinct()
        .order_by(RENTAL.c.external_id)
    )
    lines = []
    for name in connection.execute(began).scalars():
        lines.append(a_line(len(lines), name, 2_000_000))
        lines.append(a_line(len(lines), name, 30_000, Meter.DISK))
    fields = {"start_ms": start_ms, "end_ms": end_ms, "provider": provider}
    write_invoice(connection, an_invoice(lines, f"{provider}-{period}", **fields), NOW_MS)
    return len(lines)


def live(ledger: Ledger, attempts: int) -> dict[str, Any]:
    """A machine of eight GPUs that has run for a month, and runs on."""
    add_living(ledger, attempts * 3 // 10)
    with ledger.read() as connection:
        return {"rows": connection.execute(select(func.count()).where(ATTEMPT.c.take_id.like("living-%"))).scalar()}


STEPS: dict[str, Callable[[Ledger, int], dict[str, Any]]] = {
    step.__name__: step for step in (fill, record, post, bill, live)
}
# A command of the program, that tells at its end how much memory and processor time it has taken.
COMMAND = """
import atexit, json, sys, time
from tests.bench.measuring import peak_rss_mib
tell = lambda: sys.stderr.write(json.dumps({"peak_mib": peak_rss_mib(), "cpu_s": time.process_time()}) + chr(10))
atexit.register(tell)
from orchestrator.cli import main
main()
"""


def do_step(name: str, attempts: int) -> None:
    """One step, and what it found as a line of JSON."""
    ledger = open_ledger(os.environ["TUNEMILL_DATABASE_URL"])
    found = STEPS[name](ledger, attempts)
    ledger.close()
    sys.stderr.write(json.dumps({**found, "peak_mib": peak_rss_mib(), "cpu_s": time.process_time()}) + "\n")


def _run(run_id: str) -> dict[str, Any]:
    times = {"started_at_ms": YEAR_MS, "finished_at_ms": NOW_MS, "max_usd_micros": None, "take_usd_micros": None}
    return {"run_id": run_id, "catalog": "catalog-0", "model": "tone", "state": "finished", "wish": "", **times}


def _take(take_id: str, run_id: str) -> dict[str, Any]:
    return (
        {"take_id": take_id, "run_id": run_id, "catalog": "catalog-0", "zone": "zone-00", "genre": "genre-00"}
        | {"track_key": take_id, "number": 1, "title": "", "model": "tone", "queue": "q", "bucket": "b"}
        | {"duration_ms": 10_000, "message": {}, "state": "sent", "current": True, "alone": False}
        | {"tries": 0, "losses": 0, "rendition_id": None}
    )


def _records(first: int, at_ms: int) -> Iterator[Record]:
    """What one worker says in its life: a batch of one take after the other."""
    worker_id = f"recorded-{first}"
    note = RentalNote(provider="runpod", external_id=worker_id, gpu_count=1)
    yield WorkerStarted(
        **{"worker_id": worker_id, "at_ms": at_ms, "host": "h", "gpu": sorted(GPUS)[0], "vram_gib": 80.0},
        **{"model": "tone", "model_fingerprint": "f", "code": "c", "noise": False, "batch_limit": 8},
        **{"batch_limit_reason": "table", "started_at_ms": at_ms, "rental": note, "lane": "0"},
    )
    sidecar = a_sidecar(run_id="recorded", worker_id=worker_id)
    for number in range(TAKES_AT_ONCE):
        ids = {"take_id": f"f{first + number:023x}", "record_id": f"{first + number:032x}"}
        ends_ms = at_ms + (number + 1) * 1_000
        made = AttemptMade.of(sidecar.model_copy(update={**ids, "created_at_ms": ends_ms}))
        yield made
        span = Span(state="render", start_ms=ends_ms - 1_000, end_ms=ends_ms, batch_id="batch-7")
        yield SpansClosed(worker_id=worker_id, at_ms=ends_ms, spans=[span])
    yield WorkerStopped(worker_id=worker_id, at_ms=at_ms + TAKES_AT_ONCE * 1_000, reason="done")


# ---------------------------------------------------------------- the whole


class Bench:
    """One ledger and what was measured on it."""

    def __init__(self, folder: Path, url: str, database: str, attempts: int) -> None:
        self.folder, self.url, self.database, self.attempts = folder, url, database, attempts
        self.measured: list[Measured] = []

    def step(self, name: str, shown: str = "") -> None:
        """Run a step."""
        inside = ("-m", "tests.bench.bench_costs", "--step", name, "--attempts", str(self.attempts))
        self._run(shown or name, *inside)

    def command(self, *arguments: str, shown: str = "") -> None:
        """Run a command of the program; what it prints is thrown away."""
        self._run(shown or " ".join(arguments), "-c", COMMAND, "costs", *arguments)

    def _run(self, name: str, *arguments: str) -> None:
        environment = {**os.environ, "TUNEMILL_DATABASE_URL": self.url, "TUNEMILL_HOME": str(self.folder / "home")}
        with timed() as watch:
            done = subprocess.run(
                [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise SystemExit(f"{name} failed: {done.stderr}")
        found = json.loads(done.stderr.splitlines()[-1])
        measured = Measured(name, watch.seconds, found.pop("cpu_s"), found.pop("peak_mib"), found)
        self.measured.append(measured)
        sys.stderr.write(f"{self.database} {self.attempts:,} {name}: {_cell(measured)}\n")

    def run(self) -> None:
        """All steps, in the order in which a year would bring them."""
        for step in ("fill", "record", "post", "bill"):
            self.step(step)
        self.step("post", "post bills")
        for arguments in REPORTS:
            self.command("report", *arguments)
        month = ("report", "--period", MONTH, "--out", str(self.folder / "pack"))
        self.command(*month, shown=f"pack of {MONTH}")
        self.command(*month, "--focus", shown=f"pack of {MONTH} with FOCUS")
        self.command("verify")
        self.command("close", "2025-01")
        self.step("live")
        for shown in ("first report with what still runs", "next report with what still runs"):
            self.command("report", "--period", "2025-12", shown=shown)
        self.measured.append(Measured("ledger", 0, 0, _ledger_mib(self.url), {}))


def _ledger_mib(url: str) -> float:
    ledger = open_ledger(url)
    size = "select pg_database_size(current_database())"
    if ledger.engine.dialect.name == "sqlite":
        size = "select page_count * page_size from pragma_page_count(), pragma_page_size()"
    with ledger.read() as connection:
        found = int(connection.execute(text(size)).scalar() or 0)
    ledger.close()
    return found / MIB


@contextmanager
def _databases(names: list[str], folder: Path) -> Iterator[dict[str, Callable[[], AbstractContextManager[str]]]]:
    """Makers of empty ledgers, by database."""

    @contextmanager
    def a_file() -> Iterator[str]:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            yield f"sqlite:///{name}/ledger.sqlite"

    makers: dict[str, Callable[[], AbstractContextManager[str]]] = {"sqlite": a_file}
    with ExitStack() as stack:
        if "postgres" in names:
            maintenance_url = stack.enter_context(servers.postgres(folder / "pg"))
            makers["postgres"] = lambda: servers.new_database(maintenance_url)
        yield {name: makers[name] for name in names}


def _print_table(benches: list[Bench]) -> None:
    """Seconds and MiB of each step, ledgers side by side."""
    table = Table("step", *(f"{each.database} {each.attempts:,}" for each in benches), box=None)
    for row in zip(*(each.measured for each in benches), strict=True):
        table.add_row(row[0].name, *map(_cell, row))
    Console(stderr=True, width=60 + 45 * len(benches)).print(table)


def _cell(measured: Measured) -> str:
    rate = measured.found.get("rows", 0) / measured.found["rate_s"] if "rate_s" in measured.found else 0
    rows = f"{measured.found['rows']:,} rows" if "rows" in measured.found else ""
    times = f"{measured.seconds:.1f} s ({measured.cpu_s:.1f} CPU)" if measured.seconds else ""
    parts = (times, f"{measured.peak_mib:,.0f} MiB", rows, f"{rate:,.0f}/s" if rate else "")
    return ", ".join(part for part in parts if part)


def _figures(benches: list[Bench]) -> Iterator[Figure]:
    for bench in benches:
        of = f"{bench.database}, {bench.attempts:,} attempts"
        for each in bench.measured:
            if each.seconds:
                yield Figure(f"{of}: {each.name}", each.seconds, "s", at_most=_promised_s(each.name))
            yield Figure(f"{of}: {each.name}, peak" if each.seconds else f"{of}: {each.name}", each.peak_mib, "MiB")


def _promised_s(name: str) -> float | None:
    if name.startswith("pack") and "FOCUS" not in name:
        return PACK_S
    if name.startswith("report --period"):
        return REPORT_S
    return POST_S if name == "post" else None


def main(argv: list[str] | None = None) -> None:
    """Measure every size on every database, and hand back; or do one step of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_costs", description=__doc__)
    parser.add_argument("--attempts", default=ATTEMPTS, help="sizes of ledgers, with commas between")
    parser.add_argument("--databases", default=DATABASES, help="sqlite, postgres or both, with a comma between")
    parser.add_argument("--step", choices=sorted(STEPS), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.step:
        do_step(options.step, int(options.attempts))
        return
    benches: list[Bench] = []
    with tempfile.TemporaryDirectory(prefix="tm", dir="/tmp") as name:
        folder = Path(name)
        with _databases(options.databases.split(","), folder) as makers:
            for database, maker in makers.items():
                for attempts in map(int, options.attempts.split(",")):
                    with maker() as url:
                        benches.append(Bench(folder, url, database, attempts))
                        benches[-1].run()
    _print_table(benches)
    hand_back(_figures(benches))


if __name__ == "__main__":
    main()

"""`tunemill records`: list, show, retry and drop the records that could not be written into the ledger."""

from __future__ import annotations

import json as json_library
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from catalog.errors import BusyError, SettingsError
from catalog.messages import now_ms
from catalog.settings import Settings, read_settings
from orchestrator.cli.console import JsonFlag, print_json, say
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.ledger import find_ledger, get_ledger_of_names
from orchestrator.control.broker import RawRecord
from orchestrator.control.recording import RecordWriter
from orchestrator.control.signing import open_order_proof
from orchestrator.finance.prices.layers import open_price_book
from orchestrator.finance.prices.lookup import price_lookup
from orchestrator.ledger import Ledger, set_aside
from orchestrator.ledger.tables import SetAsideRow

_ID_DIGITS_SHOWN = 12
_RAW_SHOWN = 2_000
_LISTED = 100
_COLUMNS = (
    Column("record"),
    Column("set aside (UTC)", spare=2),
    Column("worker", least=12),
    Column("kind", least=8, spare=1),
    number("bytes", spare=3),
    Column("fault"),
    Column("reason", least=24),
)
_FAULTS = {
    "newer": "a newer version of this program wrote it; upgraded, this program records it by itself",
    "unreadable": "it is not what a worker writes",
    "refused": "it could be read, and what it says cannot be written down",
}

RecordsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECORD]...", help="Ids of records from `records list`, or their beginnings."),
]
AllOption = Annotated[bool, typer.Option("--all", help="All records that were set aside.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    records = typer.Typer(no_args_is_help=True, help="Show records of workers that could not be recorded.")
    records.command("list")(list_records)
    records.command("show")(show_record)
    records.command("retry")(retry)
    records.command("drop")(drop)
    app.add_typer(records, name="records")


def list_records(json: JsonFlag = False) -> None:
    """List the records that were set aside, newest first.

    Each has the reason. They hold up nothing.
    """
    ledger = find_ledger(read_settings())
    rows: list[SetAsideRow] = []
    count = 0
    if ledger is not None:
        with ledger.read() as connection:
            rows = set_aside.list_set_aside(connection, None if json else _LISTED)
            count = set_aside.count_set_aside(connection)
    if json:
        print_json([_as_json(row) for row in rows])
    elif not rows:
        say("no records are set aside")
    else:
        print_table(_COLUMNS, [_cells(row) for row in rows])
        say(f"{count:,} records set aside" + (f"; the newest {len(rows):,} are shown" if count > len(rows) else ""))
        say("`tunemill records show RECORD` shows one, `retry` tries again, `drop` forgets", hang=2)


def show_record(
    record: Annotated[str, typer.Argument(help="Id of a record from `records list`, or its beginning.")],
    json: JsonFlag = False,
) -> None:
    """Show a whole record, its sender, and why it was set aside."""
    with get_ledger_of_names(read_settings()).read() as connection:
        (row,) = set_aside.find_set_aside(connection, [record])
    if json:
        print_json({**_as_json(row), **_content_as_json(row)})
        return
    facts = {
        "record": row.digest,
        "set aside": f"{_instant(row.set_aside_ms)} UTC",
        "login": row.login or "none",
        "worker": row.worker_id or "not said",
        "kind": row.kind or "not said",
        "version": str(row.version) if row.version else "not said",
        "size": f"{row.size_bytes:,} bytes",
        "fault": f"{row.fault}: {_FAULTS[row.fault]}",
        "reason": row.reason,
    }
    for name, value in facts.items():
        say(value, label=f"{name:<10} ")
    say(_content(row), lines=True)


def retry(records: RecordsArgument = None, everything: AllOption = False, json: JsonFlag = False) -> None:
    """Try to record these again, such as after an upgrade.

    Those that fail once more stay, with the new reason.
    """
    settings = read_settings()
    ledger = get_ledger_of_names(settings)
    chosen = _choose(ledger, records, everything)
    with ledger.write() as connection:
        set_aside.mark_due(connection, chosen)
    at_work = ""
    try:
        with ledger.writer_lock() as lock:
            _retry_now(ledger.fenced(lock), settings)
    except BusyError as error:
        at_work = error.holder or "another program"
    left = _count_left(ledger, chosen)
    if json:
        print_json({"chosen": len(chosen), "recorded": len(chosen) - left, "set_aside": left, "left_to": at_work})
    elif at_work:
        say(f"{at_work} tries {len(chosen):,} records again within seconds; see `tunemill records list`", hang=2)
    else:
        say(f"{len(chosen) - left:,} recorded, {left:,} set aside again")


def drop(records: RecordsArgument = None, everything: AllOption = False, json: JsonFlag = False) -> None:
    """Forget these records for good, with all they say.

    A take whose record is dropped is found or made again.
    """
    ledger = get_ledger_of_names(read_settings())
    chosen = _choose(ledger, records, everything)
    with ledger.write() as connection:
        set_aside.drop(connection, chosen)
    if json:
        print_json({"dropped": len(chosen)})
    else:
        say(f"{len(chosen):,} records dropped")


def _retry_now(ledger: Ledger, settings: Settings) -> None:
    book = open_price_book(settings)
    proof = open_order_proof(ledger, settings)
    writer = RecordWriter(ledger, price_of=price_lookup(book), clock=now_ms, proof=proof)
    while writer.retry_due():
        pass


def _choose(ledger: Ledger, records: list[str] | None, everything: bool) -> list[str]:
    if bool(records) is everything:
        raise SettingsError(
            "name the records, or --all of them" if not everything else "records are named together with --all",
            why="the command changes only the records that are named",
            fix="take ids from `tunemill records list`, or write --all alone",
        )
    with ledger.read() as connection:
        if everything:
            return [row.digest for row in set_aside.list_set_aside(connection)]
        return [row.digest for row in set_aside.find_set_aside(connection, records or [])]


def _count_left(ledger: Ledger, chosen: list[str]) -> int:
    with ledger.read() as connection:
        kept = {row.digest for row in set_aside.list_set_aside(connection)}
    return len(kept & set(chosen))


def _cells(row: SetAsideRow) -> tuple[str, ...]:
    named = (row.digest[:_ID_DIGITS_SHOWN], _instant(row.set_aside_ms), row.worker_id or "-", row.kind or "-")
    return (*named, f"{row.size_bytes:,}", row.fault, row.reason)


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def _as_json(row: SetAsideRow) -> dict[str, Any]:
    return row.model_dump(exclude={"raw"})


def _content(row: SetAsideRow) -> str:
    """The record's text in ASCII: a stranger's record may hold any bytes."""
    payload = RawRecord(row.raw).payload
    if payload is not None:
        return json_library.dumps(payload, indent=1)
    shown = row.raw[:_RAW_SHOWN].decode("ascii", "backslashreplace")
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in shown)


def _content_as_json(row: SetAsideRow) -> dict[str, Any]:
    payload = RawRecord(row.raw).payload
    try:
        json_library.dumps(payload, allow_nan=False).encode()
    except ValueError:  # NaN, infinity or a lone surrogate, which only Python reads
        payload = None
    return {"payload": payload, "raw": row.raw.decode("ascii", "backslashreplace")}

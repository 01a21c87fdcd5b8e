"""`tunemill costs close`, `periods` and `verify`: months that are booked, and whether the books agree."""

from __future__ import annotations

import getpass
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

import typer

from catalog.errors import DisagreementError
from catalog.messages import now_ms
from catalog.settings import read_settings
from orchestrator.cli.console import JsonFlag, print_json, say
from orchestrator.cli.display import Column, number, print_table, working
from orchestrator.cli.ledger import find_ledger, get_ledger
from orchestrator.cli.options import PricesOption
from orchestrator.finance.accounts import bring_up_to_date
from orchestrator.finance.books import periods as ledger_periods
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.money import dollars
from orchestrator.finance.months import parse_period
from orchestrator.finance.prices.layers import open_price_book

_COLUMNS = (
    Column("month"),
    Column("state"),
    number("entries", spare=2),
    number("total"),
    Column("closed", spare=1),
    Column("by", spare=3),
)


def register(costs: typer.Typer) -> None:
    """Add the commands to the group of costs."""
    costs.command("close")(close)
    costs.command("periods")(list_periods)
    costs.command("verify")(verify)


def close(
    period: Annotated[str, typer.Argument(help="The month, as 2026-11.")],
    by: Annotated[
        str | None, typer.Option(help="Name of the person who closes it; by default the current user.")
    ] = None,
    with_unknown: Annotated[
        bool, typer.Option("--with-unknown", help="Close the month although some of its time has no price.")
    ] = False,
    prices: PricesOption = None,
    json: JsonFlag = False,
) -> None:
    """Close a month for good.

    The month gets no more entries; corrections are posted in the open month.

    Exit codes: 23 when the month cannot be closed (it is not over, is not complete, follows an open month, or has time
    without a price), 33 while there is no ledger.
    """
    settings, month = read_settings(), parse_period(period, name="PERIOD")
    with closing(get_ledger(settings, f"{month} is not closed")) as ledger:
        book = open_price_book(settings, prices)
        with working("posting", "rentals") as progress:
            updated = bring_up_to_date(ledger, settings, book, progress=progress)
        with ledger.write() as connection:
            closed = ledger_periods.close_period(
                connection,
                month,
                time_zone=settings.finance_tz,
                by=by or getpass.getuser(),
                at_ms=now_ms(),
                complete_through_ms=updated.complete_through_ms,
                with_unknown=with_unknown,
            )
    if json:
        print_json(closed.model_dump())
        return
    say(f"{month} is closed: {closed.entries:,} entries, {_signed(closed.control_usd_micros)}")
    say(f"sha256 of its entries: {closed.sha256}", hang=2)


def list_periods(json: JsonFlag = False) -> None:
    """List the months that have entries on the books.

    For a closed month the list shows when and by whom it was closed.
    """
    settings = read_settings()
    ledger = find_ledger(settings)
    rows: list[dict[str, object]] = []
    if ledger is not None:
        with closing(ledger), ledger.read() as connection:
            closed = {row.period: row for row in cost_readings.closed_periods(connection)}
            totals = cost_readings.read_totals(connection)
        rows = [
            {
                "period": period,
                "state": "closed" if period in closed else "open",
                "usd_micros": totals.get(period, 0),
                **(closed[period].model_dump(exclude={"period"}) if period in closed else {}),
            }
            for period in sorted({*totals, *closed})
        ]
    if json:
        print_json({"time_zone": settings.finance_tz, "currency": "USD", "periods": rows})
    elif not rows:
        say("nothing is on the books yet; `tunemill costs report` posts the known facts")
    else:
        print_table(_COLUMNS, [_row(row) for row in rows])


def verify(json: JsonFlag = False) -> None:
    """Check the books for contradictions.

    The check covers entries, sums, reversals and closed months.

    Exit codes: 52 when they contradict each other, 33 while there is no ledger.
    """
    with closing(get_ledger(read_settings(), "no books were verified")) as ledger, ledger.read() as connection:
        found = ledger_periods.verify_books(connection)
    if json:
        print_json({"findings": found})
    elif not found:
        say("the books have no contradictions")
    if found:
        raise DisagreementError(
            f"the books contradict themselves in {len(found):,} places",
            why="; ".join(found[:5]),
            fix="restore a backup of the ledger: another program has changed it",
        )


def _row(row: dict[str, object]) -> tuple[str, ...]:
    closed_ms = row.get("closed_ms")
    day = datetime.fromtimestamp(closed_ms / 1000, tz=UTC).date().isoformat() if isinstance(closed_ms, int) else "-"
    entries, total = row.get("entries"), row["usd_micros"]
    assert isinstance(total, int)  # noqa: S101 - it is a sum
    return (
        str(row["period"]),
        str(row["state"]),
        f"{entries:,}" if isinstance(entries, int) else "-",
        _signed(total),
        day,
        str(row.get("closed_by", "-")),
    )


def _signed(micros: int) -> str:
    return f"-${dollars(-micros)}" if micros < 0 else f"${dollars(micros)}"

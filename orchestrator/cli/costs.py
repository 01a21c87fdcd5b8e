"""`tunemill costs`: what the takes cost, and the prices that this rests on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from catalog.messages import now_ms
from catalog.settings import read_settings
from orchestrator.cli.columns import Column, number, print_table
from orchestrator.cli.console import JsonFlag, clock, out, print_json, say, warn
from orchestrator.cli.opening import find_ledger
from orchestrator.cli.options import PricesOption
from orchestrator.costs.prices import MICROS_PER_USD, Price, PriceBook, dollars, find_prices_folder, read_price_book
from orchestrator.costs.report import (
    CUTS,
    WHOLE,
    CostReport,
    PrintedMoney,
    Row,
    Scope,
    TimeFacts,
    make_report,
    printed_money,
    with_prices,
)
from orchestrator.costs.time_use import MEND_WAITING_FOR_POST, WAITING_FOR_POST_MAX
from orchestrator.ledger import Ledger, readings
from orchestrator.ledger.cost_queries import check_scope, read_time_facts

_MS_PER_MIN = 60_000
_NOTHING = TimeFacts([], [], [])
_MONEY_COLUMNS = (
    number("takes", spare=4),  # accepted ones
    number("tries", spare=6),
    number("audio min", spare=5),
    number("direct", spare=1),
    number("wasted", spare=2),
    number("shared", spare=3),
    number("total"),
    number("per take"),
)
_PRICE_COLUMNS = (
    Column("sku"),
    Column("market"),
    number("USD/h"),
    number("GiB"),
    Column("valid from"),
    Column("source", least=16),
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    costs = typer.Typer(no_args_is_help=True, help="Report what the takes cost, and the prices this rests on.")
    costs.command("report")(show_report)
    costs.command("prices")(show_prices)
    app.add_typer(costs, name="costs")


def show_report(
    by: Annotated[str, typer.Option(help=f"Add up by these, with commas between: {', '.join(CUTS)}.")] = "zone",
    run: Annotated[
        str | None, typer.Option(help="Report only what this run has cost; its first digits will do.")
    ] = None,
    catalog: Annotated[str | None, typer.Option(help="Report only what this catalog has cost.")] = None,
    prices: PricesOption = None,
    json: JsonFlag = False,
) -> None:
    """Show what accepted takes cost; the rows add up to the workers' time at its price."""
    settings = read_settings()
    ledger = find_ledger(settings)
    facts = _NOTHING
    if ledger is None:
        warn("there is no ledger yet: nothing has been rendered, so nothing has cost anything")
    else:
        run = _whole_run_id(run, ledger) if run else None
        check_scope(ledger.engine, run_id=run, catalog=catalog)
        facts = read_time_facts(ledger.engine)
    book = read_price_book(find_prices_folder(prices, settings.prices))
    cuts = [cut.strip() for cut in by.split(",") if cut.strip()]
    report = make_report(with_prices(facts, book), by=cuts or CUTS[:1], scope=Scope(run, catalog))
    if json:
        print_json(report_as_json(report))
    else:
        _print_report(report, book)


def _whole_run_id(digits: str, ledger: Ledger) -> str:
    """The id of the run that `digits` begin; `digits` themselves when no run or several begin so."""
    with ledger.read() as connection:
        found = readings.find_run_ids(connection, digits)
    return found[0] if len(found) == 1 else digits


def show_prices(prices: PricesOption = None, json: JsonFlag = False) -> None:
    """Show the price book: what an hour of each GPU costs today, since when, and who says so."""
    book = read_price_book(find_prices_folder(prices, read_settings().prices))
    in_force = book.in_force(now_ms())
    if json:
        rows = [
            {**price._asdict(), "valid_from": price.valid_from.isoformat(), "in_force": price in in_force}
            for price in book.prices
        ]
        print_json({"folder": str(book.folder), "currency": "USD", "prices": rows})
        return
    print_table(_PRICE_COLUMNS, [_price_row(price) for price in in_force])
    say(f"price book: {book.folder}", hang=2)


def _price_row(price: Price) -> tuple[str, ...]:
    market, vram = price.market.replace("_", " "), f"{price.vram_gib:g}" if price.vram_gib else "-"
    return (price.sku, market, dollars(price.usd_micros_per_h), vram, price.valid_from.isoformat(), price.source)


def report_as_json(report: CostReport) -> dict[str, Any]:
    """The report for scripts; money in micro-dollars, null where a price is unknown."""
    return {
        "by": list(report.by),
        "run": report.scope.run_id,
        "catalog": report.scope.catalog,
        "estimate_from": list(report.sources),
        "currency": "USD",
        "rows": [{**dict(zip(report.by, row.name, strict=True)), **_row_as_json(row)} for row in report.rows],
        "total": _row_as_json(report.total),
        "workers": report.workers,
        "workers_ms": report.workers_ms,
        "workers_usd_micros": report.whole_usd_micros,
        "share_of_whole": report.share,
        "unpriced": [each._asdict() for each in report.unpriced],
        "use": report.use.as_plain_values(),
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    known = not row.unpriced_ms or row.total > 0
    return {
        "accepted": row.accepted,
        "attempts": row.attempts,
        "audio_ms": row.audio_ms,
        "direct_usd_micros": row.direct if known else None,
        "wasted_usd_micros": row.wasted if known else None,
        "shared_usd_micros": row.shared if known else None,
        "total_usd_micros": row.total if known else None,
        "usd_micros_per_accepted": row.per_accepted,
        "unpriced_ms": row.unpriced_ms,
        "usd_micros_by_category": {str(category): micros for category, micros in sorted(row.usd_micros.items())},
    }


def _print_report(report: CostReport, book: PriceBook) -> None:
    unit, cells = printed_money(report)
    basis = f"estimate: {', '.join(report.sources)}" if report.sources else "no priced time"
    say(f"costs by {', '.join(report.by)} in USD ({basis})", hang=2)
    sums = PrintedMoney(*(sum(column) for column in zip(*cells, strict=True))) if cells else PrintedMoney(0, 0, 0)
    print_table(
        (*(Column(cut, least=16) for cut in report.by), *_MONEY_COLUMNS),
        [(*_names(report, row), *_row_cells(row, money, unit)) for row, money in zip(report.rows, cells, strict=True)],
        total=("total", *[""] * (len(report.by) - 1), *_row_cells(report.total, sums, unit)),
    )
    whole = _money(report.whole_usd_micros, unit)
    workers = "1 worker" if report.workers == 1 else f"{report.workers:,} workers"
    line = f"{workers}, {clock(report.workers_ms)}, ${whole}"
    if report.unpriced:
        line += f", of which {clock(sum(each.ms for each in report.unpriced))} at an unknown price"
    say(line if _is_scoped(report) else f"{line}: the total above", hang=2)
    if _is_scoped(report):
        share = "none" if report.share is None else f"{report.share:.1%}"
        say(f"shown: ${_money(report.total.total, unit)} of ${whole} ({share} of all that was spent)", hang=2)
    _print_use(report)
    _warn_of_unpriced(report, book)


def _print_use(report: CostReport) -> None:
    """What the workers' time went into, and what to do about it when they wait for what can be mended."""
    if not report.use.total_ms:
        return
    out.print()
    rows = [(use.name, clock(use.ms), f"{use.share / 10:.1f}%") for use in report.use.uses()]
    heading = "use of the workers' time" + (", other work included" if _is_scoped(report) else "")
    print_table((Column(heading, least=16), number("time"), number("share")), rows)
    if (waiting := report.use.waiting_for_post_share) > WAITING_FOR_POST_MAX:
        warn(f"engines waited for post {waiting:.0%} of the time they were up: {MEND_WAITING_FOR_POST}")


def _warn_of_unpriced(report: CostReport, book: PriceBook) -> None:
    for each in report.unpriced:
        if not each.gpu:
            warn(
                f"{clock(each.ms)} of workers that ended before they named their GPU have no price and are not in "
                "these dollars; fix: set TUNEMILL_GPU where they run"
            )
            continue
        warn(
            f"{clock(each.ms)} on {each.gpu!r} has no price and is not in these dollars; fix: add a row for it to a "
            f"file in {book.folder} with valid_from {_day(each.first_ms)} or earlier"
        )


def _names(report: CostReport, row: Row) -> list[str]:
    """The row's names; a terminal has no room for all digits of a run."""
    short = out.is_terminal
    return [name[:8] if cut == "run" and short else name for cut, name in zip(report.by, row.name, strict=True)]


def _is_scoped(report: CostReport) -> bool:
    return report.scope != WHOLE


def _row_cells(row: Row, money: PrintedMoney, unit: int) -> list[str]:
    dollars_shown = [_money(part, unit) for part in (*money, money.total)]
    if row.unpriced_ms and not row.total:
        dollars_shown = ["-", "-", "-", "unknown"]
    each = "unknown" if row.unpriced_ms and row.accepted else "-"
    if row.per_accepted is not None:
        each = _money(row.per_accepted, 1)
    return [f"{row.accepted:,}", f"{row.attempts:,}", f"{row.audio_ms / _MS_PER_MIN:,.1f}", *dollars_shown, each]


def _money(micros: int, unit: int) -> str:
    """Dollars with as many decimals as `unit` micro-dollars need: six, or two."""
    whole, part = divmod((micros + unit // 2) // unit, MICROS_PER_USD // unit)
    return f"{whole:,}.{part:0{6 if unit == 1 else 2}d}"


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).date().isoformat()

"""`tunemill costs`: what the takes cost, by whatever finance asks for, on the screen or as the pack of a month."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from sqlalchemy import Connection

from catalog.errors import SettingsError, UnknownNameError
from catalog.settings import Settings, read_settings
from orchestrator.cli import completion
from orchestrator.cli.console import JsonFlag, clock, out, print_json, say, warn
from orchestrator.cli.costs import budgets, invoices, outlook, periods, strikes
from orchestrator.cli.costs.prices import register_prices
from orchestrator.cli.display import Column, number, print_table, working
from orchestrator.cli.ledger import find_ledger, no_ledger
from orchestrator.cli.names import catalog_key
from orchestrator.cli.options import PricesOption
from orchestrator.finance.accounts import Accounts, bring_up_to_date, read_accounts
from orchestrator.finance.allocation.charges import ChargeKind, CostGroup
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.books import time as time_readings
from orchestrator.finance.books.readings import Scope, Unpriced
from orchestrator.finance.money import MICROS_PER_USD
from orchestrator.finance.months import bounds_of, parse_period
from orchestrator.finance.prices.book import PriceBook
from orchestrator.finance.prices.layers import open_price_book
from orchestrator.finance.report.figures import (
    FIELD_OF_CUT,
    LOADED,
    MICRO,
    Pivot,
    RoundedTable,
    Sums,
    brief_money,
    paper_of,
    pivot,
    shown,
)
from orchestrator.ledger import Ledger, readings
from orchestrator.ledger.time_use import MEND_WAITING_FOR_POST, WAITING_FOR_POST_MAX, TimeUse

CUTS = ("catalog", "zone", "genre", "run", "provider", "gpu", "market", "month")
_MS_PER_MIN = 60_000
_COUNT_COLUMNS = (
    number("tracks", spare=5),  # accepted ones
    number("tries", spare=7),
    number("audio min", spare=6),
)
_NARROW = 80  # cells
_EXAMPLES = """\b
Examples:
  tunemill costs report --period 2026-11 --by zone,genre
  tunemill costs report --run 3f2a --json
  tunemill costs report --period 2026-11 --out finance/2026-11 --focus"""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    costs = typer.Typer(no_args_is_help=True, help="Cost reports, prices, invoices, budgets, closing of months.")
    costs.command("report", epilog=_EXAMPLES)(show_report)
    outlook.register(costs)
    register_prices(costs)
    invoices.register(costs)
    budgets.register(costs)
    periods.register(costs)
    strikes.register(costs)
    app.add_typer(costs, name="costs")


class Shown(NamedTuple):
    """All that a report shows."""

    scope: Scope
    table: Pivot
    accounts: Accounts
    use: TimeUse
    workers: int
    workers_ms: int
    sources: list[str]
    unpriced: list[Unpriced]


def show_report(
    by: Annotated[str, typer.Option(help=f"Group by these, with commas between: {', '.join(CUTS)}.")] = "zone",
    period: Annotated[
        str | None, typer.Option(help="Report only entries of this month, as 2026-11; by default all months.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            help="Report only this run, by its id or the first digits of its id.", autocompletion=completion.runs
        ),
    ] = None,
    catalog: Annotated[
        str | None,
        typer.Option(
            help="Report only this catalog.",
            autocompletion=completion.made_catalogs,
            callback=catalog_key,
        ),
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Report only this zone.", autocompletion=completion.zones)] = None,
    genre: Annotated[str | None, typer.Option(help="Report only this genre.", autocompletion=completion.genres)] = None,
    provider: Annotated[str | None, typer.Option(help="Report only this provider.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Report only this GPU, by the driver's name.")] = None,
    out_folder: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write the month's pack to this folder (workbook, page, CSV, manifest); needs --period."
        ),
    ] = None,
    focus: Annotated[bool, typer.Option("--focus", help="With --out: add the FOCUS files.")] = False,
    tracks: Annotated[
        int | None, typer.Option(min=1, help="With --out: forecast the next refresh for this number of kept tracks.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="With --out: compare the cost with this price of a song; by default the cheapest."),
    ] = None,
    prices: PricesOption = None,
    json: JsonFlag = False,
) -> None:
    """Show the cost of accepted tracks.

    The rows add up to the bills; time without a bill counts at its price.

    Exit codes: 10 for a name that is not on the books, 33 for --out while there is no ledger.
    """
    settings = read_settings()
    if out_folder is not None and period is None:
        raise SettingsError(
            "--out needs --period", why="a pack holds the costs of one month", fix="add --period 2026-11"
        )
    if out_folder is not None and str(out_folder) in ("", "."):
        raise SettingsError(
            "--out needs a folder of its own", why="a pack is a folder of files", fix="add --out finance/2026-11"
        )
    if focus and out_folder is None:
        raise SettingsError("--focus needs --out", why="the FOCUS files are part of a pack", fix="add --out FOLDER")
    for option, given in (("--tracks", tracks), ("--baseline", baseline)):
        if given is not None and out_folder is None:
            raise SettingsError(
                f"{option} needs --out",
                why="the forecast and the price of a song are part of a pack",
                fix=f"add --out FOLDER, or see `tunemill costs forecast {option} {given}`",
            )
    month = parse_period(period) if period else None
    cuts = _cuts(by)
    ledger = find_ledger(settings)
    if ledger is None:
        _refuse_names(Scope(None, run, catalog, zone, genre, provider, gpu))
        if out_folder is None:
            warn("there is no ledger yet: nothing has been rendered, so nothing has cost anything")
        report = _nothing(cuts)
        print_json(report_as_json(report)) if json else _print_report(report)
        if out_folder is not None:
            raise no_ledger(f"no pack of {month} is written")
        return
    with closing(ledger):
        book = open_price_book(settings, prices)
        run_id = _whole_run_id(run, ledger) if run else None
        scope = Scope(month, run_id, catalog, zone, genre, provider, gpu)
        with ledger.read() as connection:
            cost_readings.check_names(connection, scope)
        with working("posting", "rentals") as progress:
            updated = bring_up_to_date(ledger, settings, book, progress=progress)
        with ledger.snapshot() as connection:
            accounts = read_accounts(connection, settings, updated, scope, [FIELD_OF_CUT[cut] for cut in cuts])
            report = _read(connection, settings, accounts, cuts, scope)
        if json:
            print_json(report_as_json(report))
        else:
            _print_report(report)
            _warn_of_unpriced(report, book)
        if out_folder is not None and month is not None:
            from orchestrator.cli.costs.packing import write_month

            write_month(ledger, settings, book, updated, month, out_folder, focus=focus, tracks=tracks, song=baseline)


def _refuse_names(scope: Scope) -> None:
    """Raise for what a ledger without any row would not know either."""
    for name, value in scope._asdict().items():
        if value is not None:
            raise UnknownNameError(
                f"there is no ledger yet, and no {name.removesuffix('_id')} {value!r:.80} in it",
                why="nothing has been run, or TUNEMILL_HOME or TUNEMILL_DATABASE_URL points to another place",
                fix="correct these variables, or leave the option out",
            )


def _cuts(by: str) -> list[str]:
    cuts = [cut.strip() for cut in by.split(",") if cut.strip()] or ["zone"]
    for cut in cuts:
        if cut not in CUTS:
            raise UnknownNameError(f"there is no report by {cut!r}", fix=f"choose from {', '.join(CUTS)}")
    return list(dict.fromkeys(cuts))


def _whole_run_id(prefix: str, ledger: Ledger) -> str:
    """The id of the run that begins with `prefix`; `prefix` itself when there is none, for the error that follows."""
    with ledger.read() as connection:
        found = readings.find_run_ids(connection, prefix)
    if len(found) > 1 and prefix not in found:
        raise UnknownNameError(
            f"{len(found)} runs begin with {prefix!r}", why=", ".join(found[:4]), fix="write more digits of the run id"
        )
    return prefix if prefix in found or not found else found[0]


def _read(connection: Connection, settings: Settings, accounts: Accounts, cuts: list[str], scope: Scope) -> Shown:
    start_ms, end_ms = bounds_of(scope.period, settings.finance_tz) if scope.period else (None, None)
    workers, workers_ms = time_readings.count_workers(connection, start_ms, end_ms)
    return Shown(
        scope=scope,
        table=pivot(accounts.all_rows, *cuts),
        accounts=accounts,
        use=time_readings.read_time_use(connection, scope, start_ms, end_ms),
        workers=workers,
        workers_ms=workers_ms,
        sources=cost_readings.read_sources(connection, scope.period),
        unpriced=cost_readings.read_unpriced(connection, accounts.all_rows),
    )


def _nothing(cuts: list[str]) -> Shown:
    accounts = Accounts([], [], cost_readings.NO_COVERAGE, 0)
    return Shown(Scope(), pivot([], *cuts), accounts, TimeUse({}), 0, 0, [], [])


# ---------------------------------------------------------------- for scripts


def report_as_json(report: Shown) -> dict[str, Any]:
    """The report for scripts; money in micro-dollars, null where a price is unknown."""
    coverage = report.accounts.coverage
    return {
        "by": list(report.table.cuts),
        **{name.removesuffix("_id"): value for name, value in report.scope._asdict().items()},
        "currency": "USD",
        "estimate_from": report.sources,
        "coverage": {
            "usd_micros": {str(kind): micros for kind, micros in coverage.usd_micros.items()},
            "billed_share": coverage.billed_share,
            "unpriced_ms": coverage.unpriced_ms,
            "complete_through_ms": coverage.complete_through_ms,
        },
        "rows": [
            {**dict(zip(report.table.cuts, line.name, strict=True)), **_sums_as_json(line.sums)}
            for line in report.table.lines
        ],
        "total": _sums_as_json(report.table.total),
        "whole_usd_micros": report.accounts.whole_usd_micros,
        "share_of_whole": report.table.total.usd() / whole if (whole := report.accounts.whole_usd_micros) else None,
        "workers": report.workers,
        "workers_ms": report.workers_ms,
        "unpriced": [each._asdict() for each in report.unpriced],
        "use": report.use.as_plain_values(),
    }


def _sums_as_json(sums: Sums) -> dict[str, Any]:
    known = not sums.is_unknown()
    return {
        "accepted": sums.tracks,
        "attempts": sums.attempts,
        "audio_ms": sums.audio_ms,
        **{f"{group}_usd_micros": sums.usd([group]) if known else None for group in CostGroup},
        "loaded_usd_micros": sums.usd(LOADED) if known else None,
        "total_usd_micros": sums.usd() if known else None,
        "usd_micros_per_accepted": sums.per_track(),
        "usd_micros_per_audio_min": sums.per_audio_min(),
        "direct_usd_micros_per_accepted": sums.per_track([CostGroup.DIRECT]),
        "unpriced_ms": sums.unpriced(),
        "usd_micros_by_category": {str(each): micros for each, micros in sorted(sums.usd_micros.items()) if micros},
    }


# ---------------------------------------------------------------- for people


def _print_report(report: Shown) -> None:
    paper = paper_of(report.table.total)
    groups = [group for group in CostGroup if group is not CostGroup.ADJUSTMENT or report.table.total.usd([group])]
    columns_of = _columns_of(groups)
    month = f" in {report.scope.period}" if report.scope.period else ""
    say(f"costs by {', '.join(report.table.cuts)}{month} in USD ({_basis(report)})", hang=2)
    columns = (
        *(Column(cut, least=12) for cut in report.table.cuts),
        *_COUNT_COLUMNS,
        *(number(name) for name in columns_of),
        number("total"),
        number("per track"),
    )
    rows = [
        (*_names(report, line.name), *_cells(line.sums, cells, columns_of, paper.unit))
        for line, cells in zip(report.table.lines, paper.lines(report.table), strict=True)
    ]
    total = _cells(report.table.total, dict(paper.groups), columns_of, paper.unit)
    print_table(columns, rows, total=("total", *[""] * (len(report.table.cuts) - 1), *total))
    _print_whole(report, paper)
    _print_waste(report)
    _print_use(report)


def _basis(report: Shown) -> str:
    """The basis of the figures, in a few words."""
    micros = report.accounts.coverage.usd_micros
    parts = []
    if ChargeKind.BILLED in micros:
        share = report.accounts.coverage.billed_share or 0.0
        # All of it only when it is: 99.9 % must not look like a month that is covered by bills.
        parts.append("billed" if len(micros) == 1 else f"{min(share, 0.99):.0%} billed")
    if ChargeKind.ESTIMATE in micros:
        parts.append(f"estimate: {', '.join(report.sources) or 'price book'}")
    if ChargeKind.PROVISIONAL in micros:
        parts.append("provisional for what still runs")
    return ", ".join(parts) or "no priced time"


def _columns_of(groups: list[CostGroup]) -> dict[str, list[CostGroup]]:
    """The columns of money. A narrow terminal has room for fewer, and they add up there as well."""
    if out.is_terminal and out.width < _NARROW:
        rest: list[CostGroup] = [group for group in groups if group not in LOADED]
        return {"direct": [CostGroup.DIRECT], "wasted": [CostGroup.WASTED], "other": rest}
    return {str(group): [group] for group in groups}


def _cells(sums: Sums, units: dict[CostGroup, int], columns: dict[str, list[CostGroup]], unit: int) -> list[str]:
    if sums.is_unknown():
        money = [*["-"] * len(columns), "unknown"]
    else:
        money = [_money(sum(units[group] for group in groups), unit) for groups in columns.values()]
        money.append(_money(sum(units.values()), unit))
    each = sums.per_track()
    per_track = _money(each, MICRO) if each is not None else "unknown" if sums.unpriced() and sums.tracks else "-"
    return [f"{sums.tracks:,}", f"{sums.attempts:,}", f"{sums.audio_ms / _MS_PER_MIN:,.1f}", *money, per_track]


def _print_whole(report: Shown, paper: RoundedTable) -> None:
    workers = "1 worker" if report.workers == 1 else f"{report.workers:,} workers"
    line = f"{workers}, {clock(report.workers_ms)}, {_dollars(report.accounts.whole_usd_micros, paper.unit)}"
    if report.unpriced:
        line += f", of which {clock(sum(each.ms for each in report.unpriced))} at an unknown price"
    say(line if not report.scope.is_whole else f"{line}: the total above", hang=2)
    if not report.scope.is_whole:
        shown_, whole = report.table.total.usd(), report.accounts.whole_usd_micros
        share = f"{shown_ / whole:.1%}" if whole else "none"
        dollars = f"{_dollars(shown_, paper.unit)} of {_dollars(whole, paper.unit)}"
        say(f"shown: {dollars} ({share} of all that was spent)", hang=2)
    complete_ms = report.accounts.coverage.complete_through_ms
    if complete_ms:
        say(f"complete through {_instant(complete_ms)}", hang=2)


def _print_waste(report: Shown) -> None:
    """The waste by reason, when there is any."""
    reasons = {each: micros for each, micros in report.table.total.usd_micros.items() if micros}
    parts = [
        f"{each} {brief_money(reasons[each])}" for each in sorted(reasons) if each in ("rejected", "failed", "lost")
    ]
    if parts:
        say(f"wasted: {', '.join(parts)}", hang=2)


def _print_use(report: Shown) -> None:
    """Print the use of the workers' time, and the remedy when engines wait for a cause that a person can mend."""
    if not report.use.total_ms:
        return
    out.print()
    rows = [(use.name, clock(use.ms), f"{use.share / 10:.1f}%") for use in report.use.uses()]
    heading = "use of the workers' time" + ("" if report.scope.is_whole else ", other work included")
    print_table((Column(heading, least=16), number("time"), number("share")), rows)
    if (waiting := report.use.waiting_for_post_share) > WAITING_FOR_POST_MAX:
        warn(f"engines waited for post {waiting:.0%} of the time they were up: {MEND_WAITING_FOR_POST}")


def _warn_of_unpriced(report: Shown, book: PriceBook) -> None:
    for each in report.unpriced:
        if not each.gpu:
            warn(
                f"{clock(each.ms)} of workers that ended before they named their GPU have no price and are not in "
                "these dollars; fix: set TUNEMILL_GPU where they run"
            )
            continue
        warn(
            f"{clock(each.ms)} on {each.gpu!r} has no price and is not in these dollars; fix: add one that is valid "
            f"from {_day(each.first_ms)} or earlier with `tunemill costs prices add`"
        )


def _names(report: Shown, name: tuple[str, ...]) -> list[str]:
    """The row's names; a terminal has no room for all digits of a run."""
    short = out.is_terminal
    return [
        shown(each[:8] if cut == "run" and short else each) for cut, each in zip(report.table.cuts, name, strict=True)
    ]


def _money(units: int, unit: int) -> str:
    """Dollars without their sign: six decimals for micro-dollars, two for cents."""
    whole, part = divmod(abs(units), MICROS_PER_USD // unit)
    return f"{'-' if units < 0 else ''}{whole:,}.{part:0{6 if unit == MICRO else 2}d}"


def _dollars(micros: int, unit: int) -> str:
    return f"${_money((micros + unit // 2) // unit, unit)}"


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).date().isoformat()

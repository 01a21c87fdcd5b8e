"""`tunemill costs import-invoice`, `invoices`, `reconcile` and `rentals`: what providers ask for, and for what."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from catalog.errors import DisagreementError, SettingsError, UnknownNameError
from catalog.messages import now_ms
from catalog.rental import Market, parse_rental, rental_id_of
from catalog.settings import read_settings
from orchestrator.cli import completion
from orchestrator.cli.console import JsonFlag, clock, print_json, say, warn
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.ledger import find_ledger, get_ledger
from orchestrator.cli.options import PricesOption
from orchestrator.finance.accounts import bring_up_to_date
from orchestrator.finance.allocation.charges import Rental
from orchestrator.finance.books import invoices as ledger_invoices
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.invoices.reading import STYLES, read_invoice
from orchestrator.finance.invoices.values import instant_of, zone_of
from orchestrator.finance.money import dollars, parse_usd
from orchestrator.finance.months import parse_period
from orchestrator.finance.prices.layers import open_price_book
from orchestrator.finance.reconciling import reconcile_period
from orchestrator.finance.records import Match
from orchestrator.ledger import open_ledger

_MATCH_COLUMNS = (
    Column("finding", least=8),
    Column("provider", spare=3),
    Column("id", least=10),
    Column("for", spare=2),
    number("expected"),
    number("billed"),
    number("difference", spare=1),
    Column("note", least=12, spare=4),
)
_INVOICE_COLUMNS = (
    Column("provider"),
    Column("number", least=12),
    number("lines", spare=1),
    number("total"),
    number("paid in", spare=2),
    Column("file", least=12, spare=3),
    Column("replaced by", spare=4),
)
_RENTAL_COLUMNS = (
    Column("provider"),
    Column("id", least=12),
    Column("gpu", least=10),
    number("gpus", spare=2),
    Column("market", spare=3),
    number("USD/h", spare=1),
    number("workers", spare=4),
)
_EXAMPLES = """\b
Examples:
  tunemill costs import-invoice runpod-2026-11.csv
  tunemill costs import-invoice export.csv --mapping ours.yaml --provider coreweave --period 2026-11
  tunemill costs import-invoice fixed.csv --number 4711 --replaces 4711"""


def register(costs: typer.Typer) -> None:
    """Add the commands to the group of costs."""
    costs.command("import-invoice", epilog=_EXAMPLES)(import_invoice)
    costs.command("invoices")(list_invoices)
    costs.command("reconcile")(reconcile)
    rentals = typer.Typer(no_args_is_help=True, help="List and add rented machines.")
    rentals.command("list")(list_rentals)
    rentals.command("add")(add_rental)
    costs.add_typer(rentals, name="rentals")


def import_invoice(
    file: Annotated[Path, typer.Argument(help="The provider's file: CSV or JSON.", dir_okay=False)],
    style: Annotated[
        str | None, typer.Option(help=f"Layout of the file: {', '.join(STYLES)}; by default found from its columns.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="YAML file with the meaning of each column, for any other CSV.", dir_okay=False)
    ] = None,
    provider: Annotated[str | None, typer.Option(help="The provider, if the file does not name it.")] = None,
    number_: Annotated[str | None, typer.Option("--number", help="The invoice number, if the file has none.")] = None,
    period: Annotated[
        str | None, typer.Option(help="The billed period, if the file has none: 2026-11 or 2026-11-03..2026-11-10.")
    ] = None,
    time_zone: Annotated[str | None, typer.Option(help="Time zone of times without an offset; by default UTC.")] = None,
    bucket: Annotated[
        str | None, typer.Option(help="Bucket of a RunPod file that states none: hour, day, week or month.")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="The currency, if the file names none; by default USD.")] = None,
    usd_per_unit: Annotated[
        str | None, typer.Option(help="Price of one unit of another currency in dollars: 1.0853.")
    ] = None,
    rate_source: Annotated[str, typer.Option(help="Source and day of that rate: 'ECB 2026-11-30'.")] = "",
    replaces: Annotated[str | None, typer.Option(help="Number of the invoice that this one replaces.")] = None,
    prices: PricesOption = None,
    json: JsonFlag = False,
) -> None:
    """Book a provider's invoice; it replaces the estimates.

    The billed amounts are posted to the micro-dollar.

    Importing the same file again changes nothing.

    Exit codes: 15 a file or layout that cannot be read, 22 an invoice that cannot be booked.
    """
    settings = read_settings()
    invoice = read_invoice(
        file,
        style=style,
        mapping=mapping,
        provider=provider,
        number=number_,
        currency=currency,
        period=period,
        time_zone=time_zone,
        bucket=bucket,
        usd_per_unit=usd_per_unit,
        rate_source=rate_source,
    )
    book = open_price_book(settings, prices)
    found = find_ledger(settings)
    if found is None and replaces is not None:
        raise UnknownNameError(
            f"there is no ledger yet, and no invoice {replaces!r:.80} in it to replace",
            why="no invoice was imported, or TUNEMILL_HOME or TUNEMILL_DATABASE_URL points to another place",
            fix="correct these variables, or leave --replaces out",
        )
    with closing(found or open_ledger(settings.database)) as ledger:
        with ledger.write() as connection:
            done = ledger_invoices.write_invoice(connection, invoice, now_ms(), replaces=replaces)
        updated = bring_up_to_date(ledger, settings, book)
    if json:
        totals = {str(meter): micros for meter, micros in ledger_invoices.billed_meters(invoice.lines).items()}
        figures = {"total_usd_micros": invoice.total_usd_micros, "topup_usd_micros": invoice.topup_usd_micros}
        about = {"provider": invoice.provider, "number": invoice.number, "currency": invoice.currency, **figures}
        written = {"posted": updated.posted, "reversed": updated.reversed}
        print_json({**done._asdict(), **about, "usd_micros_by_meter": totals, **written})
        return
    if not done.is_new:
        say(f"this file was imported before, as invoice {invoice.number} of {invoice.provider}: nothing to do", hang=2)
        return
    say(
        f"invoice {invoice.number} of {invoice.provider}: {_lines(done.lines)}, {_signed(invoice.total_usd_micros)}"
        + (f", and {_signed(invoice.topup_usd_micros)} paid in advance" if invoice.topup_usd_micros else ""),
        hang=2,
    )
    say(
        f"{_lines(done.matched)} for machines on the books; {updated.reversed:,} postings reversed, "
        f"{updated.posted:,} written",
        hang=2,
    )
    if done.matched < sum(bool(line.external_id) for line in invoice.lines):
        warn("some lines bill a machine that the ledger does not know; `tunemill costs reconcile` lists them")


def list_invoices(json: JsonFlag = False) -> None:
    """List the imported invoices with their totals."""
    ledger = find_ledger(read_settings())
    rows: list[dict[str, Any]] = []
    if ledger is not None:
        with closing(ledger), ledger.read() as connection:
            rows = ledger_invoices.read_invoices(connection)
    if json:
        print_json({"currency": "USD", "invoices": rows})
    elif not rows:
        say("no invoice was imported yet; import one with `tunemill costs import-invoice FILE`")
    else:
        print_table(_INVOICE_COLUMNS, [_invoice_row(row) for row in rows])


def reconcile(
    period: Annotated[str, typer.Option(help="The month, as 2026-11.")],
    prices: PricesOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Show lines and rentals that match, too.")] = False,
    json: JsonFlag = False,
) -> None:
    """Compare invoices with rentals.

    The report shows matches, price and quantity variances, billed machines without a rental, and missing bills.

    Exit codes: 52 when a line bills a machine that the ledger does not know, 33 while there is no ledger.
    """
    settings, month = read_settings(), parse_period(period)
    book = open_price_book(settings, prices)
    with closing(get_ledger(settings, f"nothing of {month} was reconciled")) as ledger:
        bring_up_to_date(ledger, settings, book)
        with ledger.snapshot() as connection:
            matches = reconcile_period(connection, settings, book, month, as_of_ms=now_ms())
    if json:
        found = [{**match._asdict(), "difference_usd_micros": match.difference_usd_micros} for match in matches]
        print_json({"period": month, "currency": "USD", "matches": found})
    else:
        _print_matches(matches, month, show_all=all_)
    _refuse_leaks(matches)


def _print_matches(matches: list[Match], month: str, *, show_all: bool) -> None:
    counts: dict[str, int] = {}
    for match in matches:
        counts[match.finding] = counts.get(match.finding, 0) + 1
    shown = matches if show_all else [match for match in matches if match.finding != "matched"]
    if shown:
        print_table(_MATCH_COLUMNS, [_match_row(match) for match in shown])
    words = ", ".join(f"{finding}: {count:,}" for finding, count in sorted(counts.items()))
    say(f"{month}: {words or 'nothing was rented or billed'}", hang=2)


def _refuse_leaks(matches: list[Match]) -> None:
    leaks = [match for match in matches if match.finding == "line without rental" and match.external_id]
    if leaks:
        raise DisagreementError(
            f"{len(leaks):,} billed machines are unknown here, "
            f"{_signed(sum(each.billed_usd_micros or 0 for each in leaks))}",
            why=f"no worker has named {', '.join(each.external_id for each in leaks[:5])}",
            fix="look for forgotten machines at the provider; add a machine that is yours with `tunemill costs "
            "rentals add`",
        )


def list_rentals(
    local: Annotated[
        bool, typer.Option("--local", help="Include the rentals of workers that named no machine.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """List the rented machines on the books."""
    ledger = find_ledger(read_settings())
    rentals: list[Rental] = []
    workers: dict[str, int] = {}
    if ledger is not None:
        with closing(ledger), ledger.read() as connection:
            rentals = list(ledger_invoices.read_rentals(connection, local=local))
            workers = cost_readings.workers_by_rental(connection)
    if json:
        print_json({"rentals": [{**each._asdict(), "workers": workers.get(each.rental_id, 0)} for each in rentals]})
    elif not rentals:
        say("no worker has named a machine yet (TUNEMILL_RENTAL), and none was added by hand", hang=2)
    else:
        print_table(_RENTAL_COLUMNS, [_rental_row(each, workers.get(each.rental_id, 0)) for each in rentals])


def add_rental(
    rental: Annotated[str, typer.Argument(help="The machine, as provider/id.")],
    gpu: Annotated[
        str,
        typer.Option(
            help="The machine's GPU, as the driver or the price book names it.", autocompletion=completion.gpus
        ),
    ] = "",
    gpu_count: Annotated[int, typer.Option(min=0, max=1024, help="Number of GPUs; 0: as many as had a worker.")] = 0,
    market: Annotated[
        str | None,
        typer.Option(help="Market of the rental: on_demand or spot; by default on_demand for a new machine."),
    ] = None,
    region: Annotated[str, typer.Option(help="The machine's region.")] = "",
    account: Annotated[str, typer.Option(help="The account that is billed.")] = "",
    usd_per_hour: Annotated[str | None, typer.Option(help="The agreed or bid price of one GPU for an hour.")] = None,
    start: Annotated[str | None, typer.Option(help="Start of the paid time: 2026-11-03T14:00Z.")] = None,
    end: Annotated[str | None, typer.Option(help="End of the paid time: 2026-11-04T14:00Z.")] = None,
    run: Annotated[
        str | None, typer.Option(help="The run for which the machine was rented.", autocompletion=completion.runs)
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Add a rented machine, or change its data.

    The data are its agreed price, its paid time, its GPU, market and region.
    """
    settings = read_settings()
    provider, external_id = parse_rental(rental, name="RENTAL")
    if market is not None and market not in Market.__args__:  # type: ignore[attr-defined]
        raise SettingsError(f"--market is wrong: {market!r}", fix="choose on_demand or spot")
    zone = zone_of(settings.finance_tz)
    start_ms, end_ms = _instant(start, zone, "--start"), _instant(end, zone, "--end")
    if start_ms is not None and end_ms is not None and end_ms < start_ms:
        raise SettingsError(
            "--end is before --start", why="the paid time must begin before it ends", fix="correct --start or --end"
        )
    known = Rental(
        rental_id=rental_id_of(provider, external_id),
        provider=provider,
        external_id=external_id,
        gpu=gpu,
        gpu_count=gpu_count,
        market=market or "",
        region=region,
        account=account,
        run_id=run,
        rate_usd_micros_per_h=parse_usd(usd_per_hour, name="--usd-per-hour") if usd_per_hour else None,
        billed_start_ms=start_ms,
        billed_end_ms=end_ms,
    )
    with closing(find_ledger(settings) or open_ledger(settings.database)) as ledger, ledger.write() as connection:
        is_new = ledger_invoices.write_rental(connection, known)
    if json:
        print_json({**known._asdict(), "is_new": is_new})
    else:
        say(f"{known.rental_id} is {'added' if is_new else 'updated'}")


def _instant(text: str | None, zone: ZoneInfo, option: str) -> int | None:
    try:
        return None if text is None else instant_of(text, zone)
    except ValueError as error:
        raise SettingsError(f"{option} is wrong: {error}", fix=f"write {option} 2026-11-03T14:00Z") from None


def _match_row(match: Match) -> tuple[str, ...]:
    difference = match.difference_usd_micros
    return (
        match.finding,
        match.provider,
        match.external_id or "-",
        match.meter,
        _or_dash(match.expected_usd_micros),
        _or_dash(match.billed_usd_micros),
        _or_dash(difference),
        match.note or (f"{clock(match.expected_ms)} seen" if match.expected_ms is not None else ""),
    )


def _invoice_row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["provider"],
        row["number"],
        f"{row['lines']:,}",
        _signed(row["total_usd_micros"]),
        _signed(row["topup_usd_micros"]) if row["topup_usd_micros"] else "-",
        row["file_name"],
        row["replaced_by"] or "-",
    )


def _rental_row(rental: Rental, workers: int) -> tuple[str, ...]:
    rate = rental.rate_usd_micros_per_h
    return (
        rental.provider,
        rental.external_id,
        rental.gpu or "-",
        str(rental.gpu_count or "-"),
        rental.market.replace("_", " "),
        "-" if rate is None else dollars(rate),
        f"{workers:,}",
    )


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


def _or_dash(micros: int | None) -> str:
    return "-" if micros is None else _signed(micros)


def _signed(micros: int) -> str:
    return f"-${dollars(-micros)}" if micros < 0 else f"${dollars(micros)}"

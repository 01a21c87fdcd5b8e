"""`tunemill costs forecast`: what the next refresh of each catalog will cost, and when rendering beats buying."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from catalog.errors import UnknownNameError
from catalog.messages import now_ms
from catalog.settings import read_settings
from orchestrator.cli.console import JsonFlag, print_json, say, usd, warn
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.ledger import find_ledger
from orchestrator.cli.names import MadeCatalogArgument
from orchestrator.cli.options import PricesOption
from orchestrator.finance import accounts
from orchestrator.finance.prices.layers import open_price_book
from orchestrator.finance.records import Baseline, Forecast

_COLUMNS = (
    Column("catalog", least=12),
    number("tracks"),
    number("forecast"),
    number("low", spare=1),
    number("high", spare=1),
    number("runs", spare=2),
    number("past error", spare=3),
    Column("confidence", spare=4),
)


def register(costs: typer.Typer) -> None:
    """Add the command to the group of costs."""
    costs.command("forecast")(show_forecast)


def show_forecast(
    catalog: MadeCatalogArgument = None,
    tracks: Annotated[
        int | None, typer.Option(min=1, help="Number of kept tracks; by default as many as in the last runs.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Compare the cost with this price of a song; by default the cheapest.")
    ] = None,
    prices: PricesOption = None,
    json: JsonFlag = False,
) -> None:
    """Forecast the next refresh, and compare it with buying.

    The forecast is calculated from the last runs, and shows the error of earlier forecasts.
    """
    settings = read_settings()
    book = open_price_book(settings, prices)
    ledger = find_ledger(settings)
    forecasts: list[Forecast] = []
    bought: Baseline | None = None
    if ledger is None:
        accounts.baseline((), book, (), now_ms(), song=baseline)  # a price that the book has not is told all the same
    else:
        with closing(ledger):
            updated = accounts.bring_up_to_date(ledger, settings, book)
            with ledger.snapshot() as connection:
                forecasts, bought = accounts.outlook_of(
                    connection, settings, book, updated, catalog=catalog, tracks=tracks, song=baseline
                )
    if catalog is not None and not forecasts:
        raise UnknownNameError(
            f"no run of {catalog!r} is finished and on the books",
            fix="`tunemill costs report --by catalog` shows the catalogs on the books",
        )
    if json:
        print_json(
            {"currency": "USD", "forecasts": [each._asdict() for each in forecasts], "baseline": _as_json(bought)}
        )
        return
    if not forecasts:
        warn("no run is finished yet, so nothing can be forecast")
        return
    print_table(_COLUMNS, [_row(each) for each in forecasts])
    if bought is not None:
        _print_baseline(bought)


def _print_baseline(bought: Baseline) -> None:
    word = "saved" if bought.saved_usd_micros >= 0 else "lost"
    price = f"{usd(bought.usd_micros_per_song)} a song"
    if bought.songs_per_request > 1:
        price += f", {bought.songs_per_request} for each that is kept"
    say(
        f"{bought.tracks:,} tracks so far, bought at {bought.name} ({price}, {bought.valid_from}): "
        f"{usd(bought.bought_usd_micros)}; rendered {usd(bought.own_usd_micros)}: "
        f"{usd(abs(bought.saved_usd_micros))} {word}",
        hang=2,
    )
    for name, rate in bought.break_even.items():
        if rate is not None:
            say(f"break-even on {name}: {rate:,} kept tracks an hour", hang=2)


def _row(each: Forecast) -> tuple[str, ...]:
    error = "-" if each.past_error is None else f"{each.past_error:.0%}"
    money = (usd(each.usd_micros), usd(each.low_usd_micros), usd(each.high_usd_micros))
    return (each.catalog, f"{each.tracks:,}", *money, f"{each.runs:,}", error, each.confidence)


def _as_json(bought: Baseline | None) -> dict[str, Any] | None:
    return None if bought is None else {**bought._asdict(), "saved_usd_micros": bought.saved_usd_micros}

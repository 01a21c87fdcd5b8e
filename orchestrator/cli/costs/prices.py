"""`tunemill costs prices`: the price book in force, and new prices by hand or from a catalog."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from catalog.errors import SettingsError
from catalog.messages import now_ms
from catalog.settings import Settings, read_settings
from orchestrator.cli import completion
from orchestrator.cli.console import JsonFlag, clock, out, print_json, say, warn
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.ledger import find_ledger
from orchestrator.cli.options import PricesOption
from orchestrator.finance.money import dollars
from orchestrator.finance.prices.book import (
    UNITS,
    Price,
    PriceBook,
    PriceRow,
    UnitPrice,
    hourly_price,
    is_priced_by,
    read_price_layers,
)
from orchestrator.finance.prices.catalogs import KINDS, NeverUsed, import_prices
from orchestrator.finance.prices.files import a_row, add_price
from orchestrator.finance.prices.layers import find_price_layers, open_price_book, writable_layer
from orchestrator.ledger.readings import RecordedRate, recorded_rates

_PRICE_COLUMNS = (
    Column("sku"),
    Column("market"),
    Column("provider"),
    number("USD/h"),
    number("GiB", spare=2),
    Column("valid from"),
    Column("layer", spare=1),
    Column("source", least=16),
)
_UNIT_COLUMNS = (
    Column("sku"),
    Column("provider"),
    number("USD"),
    Column("unit"),
    Column("valid from"),
    Column("layer", spare=1),
    Column("source", least=16),
)
_UNIT_WORDS = {"gb_month": "GB-month", "gb": "GB", "song": "song"}

ValidFromOption = Annotated[
    str | None, typer.Option("--valid-from", help="First day of the price (YYYY-MM-DD); by default today.")
]
CorrectionFlag = Annotated[
    bool,
    typer.Option("--correction", help="Replace a wrong price of the same first day; the files keep the two prices."),
]


def register_prices(costs: typer.Typer) -> None:
    """Add the commands to `costs`."""
    prices = typer.Typer(invoke_without_command=True, help="Show the price book, or add to it.")
    prices.callback()(show_or_go_on)
    prices.command("list")(list_prices)
    prices.command("add")(add)
    prices.command("import")(import_catalog)
    costs.add_typer(prices, name="prices")


def show_or_go_on(context: typer.Context, prices: PricesOption = None, json: JsonFlag = False) -> None:
    """Show the price book, or add to it; without a command, show what is in force."""
    if context.invoked_subcommand is None:
        list_prices(prices, json)
    elif prices is not None or json:
        raise SettingsError(
            "--prices and --json must come after the command", fix=f"write them after {context.invoked_subcommand}"
        )


def list_prices(prices: PricesOption = None, json: JsonFlag = False) -> None:
    """Show today's prices of GPUs, songs and disks.

    Each price has its date and its source.
    """
    book = open_price_book(read_settings(), prices)
    if json:
        print_json(book_as_json(book, now_ms()))
        return
    print_table(_PRICE_COLUMNS, [_price_row(price) for price in book.in_force(now_ms())])
    if units := book.units_in_force(now_ms()):
        out.print()
        print_table(_UNIT_COLUMNS, [_unit_row(price) for price in units])
    for price in book.overlaid(now_ms()):
        above = next(each for each in book.in_force(now_ms()) if each.key == price.key)
        amounts = f"${dollars(above.usd_micros_per_h)} ({above.layer}) is laid over ${dollars(price.usd_micros_per_h)}"
        say(f"{_name_of(price)}: {amounts} ({price.layer})", hang=2)
    say("price book, the lowest layer first:")
    for layer in book.layers:
        say(f"  {layer.name}: {layer.folder}", hang=4)


def add(
    sku: Annotated[
        str, typer.Argument(help="Name of the priced thing, in small letters: a100-80gb, mureka-v9, volume-disk.")
    ],
    usd: Annotated[str, typer.Argument(help="Dollars for one unit, as a decimal number: 1.64.")],
    source: Annotated[str, typer.Option(help="Source of the price, with its date; reports show it.")],
    unit: Annotated[str, typer.Option(help=f"The priced unit: {', '.join(UNITS)}.")] = "hour",
    market: Annotated[str, typer.Option(help="How a GPU is rented: on_demand or spot.")] = "on_demand",
    match: Annotated[
        list[str] | None,
        typer.Option(help="A part of the driver's name of the GPU; may be repeated."),
    ] = None,
    vram_gib: Annotated[float | None, typer.Option(help="The GPU's memory in GiB.")] = None,
    songs_per_request: Annotated[
        int | None, typer.Option(help="Songs that one request makes, of which one is kept (for the unit song).")
    ] = None,
    provider: Annotated[str, typer.Option(help="The provider that has this price.")] = "",
    region: Annotated[str, typer.Option(help="The region that has this price.")] = "",
    valid_from: ValidFromOption = None,
    correction: CorrectionFlag = False,
    prices: PricesOption = None,
    json: JsonFlag = False,
) -> None:
    """Write the price of SKU into a new dated price file."""
    settings, usd = read_settings(), usd.strip().removeprefix("$")
    layer = writable_layer(settings, prices)
    row = a_row(
        sku=sku,
        match=tuple(match or ()),
        market=market,
        unit=unit,
        usd_per_hour=usd if unit == "hour" else None,
        usd=None if unit == "hour" else usd,
        songs_per_request=songs_per_request,
        vram_gib=vram_gib,
        provider=provider,
        region=region,
        source=source,
    )
    first_day = _day(valid_from)
    book = read_price_layers(find_price_layers(settings, prices))
    path = add_price(layer.folder, row, first_day, book=book, is_correction=correction)
    is_of_gpu = unit == "hour"
    meaning = _what_it_changes(hourly_price(row, first_day, path.stem), settings) if is_of_gpu else []
    _print_written(path, (row,), (), (), meaning, json=json)


def import_catalog(
    file: Annotated[Path, typer.Argument(help="The CSV of one provider from the SkyPilot or a gpuhunt catalog.")],
    provider: Annotated[str, typer.Option(help="The provider of the prices: runpod, vast, lambda.")],
    kind: Annotated[str, typer.Option(help=f"The catalog's layout: {', '.join(KINDS)}.")] = "auto",
    region: Annotated[
        str | None, typer.Option(help="Read only this region's prices; by default the highest of all regions.")
    ] = None,
    sku: Annotated[
        list[str] | None,
        typer.Option(
            help="Read only this GPU, by its name in the price book; may be repeated.", autocompletion=completion.gpus
        ),
    ] = None,
    valid_from: ValidFromOption = None,
    correction: CorrectionFlag = False,
    prices: PricesOption = None,
    json: JsonFlag = False,
) -> None:
    """Write the prices of a catalog FILE into a new dated price file."""
    if kind not in KINDS:
        raise SettingsError(f"--kind is wrong: {kind!r}", fix=f"choose one of {', '.join(KINDS)}")
    settings = read_settings()
    imported = import_prices(
        file,
        writable_layer(settings, prices),
        book=read_price_layers(find_price_layers(settings, prices)),
        valid_from=_day(valid_from),
        read_on=_today(),
        provider=provider,
        kind=kind,
        region=region,
        skus=tuple(sku or ()),
        is_correction=correction,
    )
    _print_written(imported.path, imported.rows, imported.notes, imported.never_used, [], json=json)


def book_as_json(book: PriceBook, at_ms: int) -> dict[str, Any]:
    """The price book for scripts: GPUs by the hour, and other units, with what is in force."""
    hours, units = book.in_force(at_ms), book.units_in_force(at_ms)
    return {
        "folder": str(book.folder),
        "layers": [{"name": layer.name, "folder": str(layer.folder)} for layer in book.layers],
        "currency": "USD",
        "prices": [_as_json(price, in_force=price in hours) for price in book.prices],
        "unit_prices": [_as_json(price, in_force=price in units) for price in book.unit_prices],
    }


def _as_json(price: Price | UnitPrice, *, in_force: bool) -> dict[str, Any]:
    return {**price._asdict(), "valid_from": price.valid_from.isoformat(), "in_force": in_force}


def _what_it_changes(price: Price, settings: Settings) -> list[str]:
    """Sentences on the time that the ledger has recorded, which keeps its price, and on the time to come."""
    ledger = find_ledger(settings)
    if ledger is None:
        return []
    with ledger.read() as connection:
        rates = [rate for rate in recorded_rates(connection) if is_priced_by(rate.gpu, price)]
    said = [_recorded_in_words(rate, price) for rate in rates]
    if said:
        said.append(
            f"workers that start from {price.valid_from} on take the new price where their machine's provider, region "
            "and market fit; `tunemill costs rentals add PROVIDER/ID --usd-per-hour` prices a recorded machine anew"
        )
    return said


def _recorded_in_words(rate: RecordedRate, price: Price) -> str:
    workers = "1 worker" if rate.workers == 1 else f"{rate.workers} workers"
    time = f"{clock(rate.ms)} of {workers} on {rate.gpu!r}"
    if rate.usd_micros_per_h is not None:
        return f"recorded: {time} stays at ${dollars(rate.usd_micros_per_h)} an hour"
    if rate.first_ms >= price.valid_from_ms:
        return f"recorded: {time} had no price and takes this one where it fits"
    day = datetime.fromtimestamp(rate.first_ms / 1000, tz=UTC).date()
    return f"recorded: {time} has no price; one that is valid from {day} or earlier would be taken"


def _print_written(
    path: Path,
    rows: tuple[PriceRow, ...],
    notes: tuple[str, ...],
    never_used: tuple[NeverUsed, ...],
    meaning: list[str],
    *,
    json: bool,
) -> None:
    if json:
        plain_rows = [{**row.model_dump(mode="json"), "usd_micros": row.usd_micros} for row in rows]
        never = [{"sku": row.sku, "market": row.market, "why": why, "fix": fix} for row, why, fix in never_used]
        print_json({"file": str(path), "prices": plain_rows, "notes": notes, "never_used": never, "recorded": meaning})
        return
    for note in notes:
        warn(note)
    for row, why, fix in never_used:
        warn(f"no machine will be priced by {row.sku} ({row.market.replace('_', ' ')}): {why}; fix: {fix}")
    count = "1 price" if len(rows) == 1 else f"{len(rows)} prices"
    say(f"{count} written to {path}", hang=2)
    for sentence in meaning:
        say(sentence, hang=2)


def _name_of(price: Price) -> str:
    return " ".join(part for part in (price.sku, price.market.replace("_", " "), price.provider, price.region) if part)


def _price_row(price: Price) -> tuple[str, ...]:
    market, vram = price.market.replace("_", " "), f"{price.vram_gib:g}" if price.vram_gib else "-"
    place = " ".join(part for part in (price.provider, price.region) if part) or "any"
    amount, day = dollars(price.usd_micros_per_h), price.valid_from.isoformat()
    return price.sku, market, place, amount, vram, day, str(price.layer), price.source


def _unit_row(price: UnitPrice) -> tuple[str, ...]:
    unit = _UNIT_WORDS[price.unit]
    if price.songs_per_request > 1:
        unit += f", {price.songs_per_request} a request"
    amount = dollars(price.usd_micros)
    day = price.valid_from.isoformat()
    return price.sku, price.provider or "-", amount, unit, day, str(price.layer), price.source


def _today() -> date:
    return datetime.fromtimestamp(now_ms() / 1000, tz=UTC).date()


def _day(text: str | None) -> date:
    if text is None:
        return _today()
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise SettingsError(f"--valid-from is wrong: {text!r}", fix="write --valid-from 2026-12-01") from None

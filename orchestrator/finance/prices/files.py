"""Writing the price book: a price that changes is a new dated file, never an edited one.

A file appears whole or not at all, under a name that nobody has. Two prices of one GPU, market and day are refused,
unless the second is said to be a correction; it then stands in a file that comes later by name, and wins. Catalogs of
SkyPilot and gpuhunt are read from their CSV, of which neither library is needed.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

import yaml
from pydantic import ValidationError

from catalog.errors import PriceError, UnreadableFileError
from orchestrator.finance.invoices.files import FileRow, FileTable, plain, read_source, read_table
from orchestrator.finance.invoices.values import amount_of
from orchestrator.finance.money import MICROS_PER_USD, dollars
from orchestrator.finance.prices.book import Price, PriceBook, PriceRow, UnitPrice, read_price_book, read_price_file

KINDS: Final = ("auto", "skypilot", "gpuhunt")
_SKYPILOT: Final = ("AcceleratorName", "AcceleratorCount", "Price", "Region")
_GPUHUNT: Final = ("gpu_name", "gpu_count", "price", "location", "spot")
_NAMES_MAX: Final = 99  # files of one day
_WIDTH: Final = 10_000  # of a line: a source stays on one


class ImportedPrices(NamedTuple):
    """What an import wrote."""

    path: Path
    rows: tuple[PriceRow, ...]
    notes: tuple[str, ...]  # what was left out, and why


def add_price(folder: Path, row: PriceRow, valid_from: date, *, is_correction: bool = False) -> Path:
    """Write one price into a new file of `folder` and return its path.

    A row of a GPU that the book knows takes over the names it is matched by, unless it brings its own. Raises
    PriceError for a price that the book has already for that day, unless it is a correction.
    """
    book = _book_of(folder)
    known = next((price for price in reversed(book.prices) if price.sku == row.sku), None)
    if row.unit == "hour" and known is not None:
        row = row.model_copy(
            update={
                "match": row.match or known.match,
                "vram_gib": known.vram_gib if row.vram_gib is None else row.vram_gib,
            }
        )
    return _write(folder, book, (row,), valid_from, is_correction=is_correction)


def a_row(**fields: object) -> PriceRow:
    """A row of the given fields. Raises PriceError in words for one that is wrong."""
    try:
        return PriceRow.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "the price"
        raise PriceError(
            f"{name}: {first['msg'].removeprefix('Value error, ')}",
            why="a price is written down only as it can be read again",
            fix="correct the option of that name",
        ) from None


def import_prices(  # noqa: PLR0913 - every option of the import is one
    path: Path,
    folder: Path,
    *,
    valid_from: date,
    read_on: date,
    provider: str,
    kind: str = "auto",
    region: str | None = None,
    skus: Sequence[str] = (),
    is_correction: bool = False,
) -> ImportedPrices:
    """Write the prices of a catalog's CSV into one new file of `folder`.

    A GPU with several prices in one market (regions, sizes of machines) gets the highest of them, which its source
    says. `region` and `skus` choose; `read_on` is the day that the sources name. Raises UnreadableFileError for a file
    that is no such catalog, PriceError when nothing is left to write.
    """
    source = read_source(path)
    table = read_table(source)
    kind = _kind_of(table, kind, path)
    book = _book_of(folder)
    left_out: Counter[str] = Counter()
    offers: dict[tuple[str, str], list[_Offer]] = defaultdict(list)
    for offer in _OFFERS_OF[kind](table, path, left_out):
        if region is not None and offer.region.lower() != region.lower():
            continue
        name = _known_as(offer, book)
        if skus and name not in skus:
            continue
        offers[name, offer.market].append(offer)
    origin = f"{'SkyPilot' if kind == 'skypilot' else 'gpuhunt'} catalog {path.name}, read {read_on.isoformat()}"
    rows = tuple(_row_of(key, offers[key], book, provider, origin) for key in sorted(offers))
    notes = tuple(f"{count} left out: {reason}" for reason, count in sorted(left_out.items()))
    if not rows:
        raise PriceError(
            f"{path}: no price is left to write",
            why="; ".join(notes) or "no row is of that region and GPU",
            fix="check --region and --sku, and that the file has prices of GPUs",
        )
    return ImportedPrices(_write(folder, book, rows, valid_from, is_correction=is_correction), rows, notes)


# Writing


def _book_of(folder: Path) -> PriceBook:
    return read_price_book(folder) if any(folder.glob("*.yaml")) else PriceBook(folder, ())


def _write(folder: Path, book: PriceBook, rows: Sequence[PriceRow], valid_from: date, *, is_correction: bool) -> Path:
    after = _doubles(book, rows, valid_from, is_correction=is_correction)
    content = {
        "valid_from": valid_from,
        "currency": "USD",
        "prices": [_as_plain_values(row) for row in rows],
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=_WIDTH)
    draft = folder / f".{valid_from.isoformat()}.{os.getpid()}.draft"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        list(read_price_file(draft))  # what cannot be read again is not put there
        return _publish(draft, folder, valid_from, after)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PriceError(
            f"{folder}: no price file can be written: {reason}",
            why="a price is a new file in the folder of price files",
            fix="name a folder of your own with --prices or TUNEMILL_PRICES; copy the files there first",
        ) from None
    finally:
        with suppress(OSError):  # where there is no folder, there is no draft
            draft.unlink(missing_ok=True)


def _publish(draft: Path, folder: Path, valid_from: date, after: str) -> Path:
    """Give the draft a name that nobody has and that comes later than `after`."""
    base = max(valid_from.isoformat(), re.sub(r"-\d{2}$", "", after) if not _is_day(after) else after)
    for count in range(1, _NAMES_MAX + 1):
        stem = base if count == 1 else f"{base}-{count:02d}"
        if stem <= after:
            continue
        try:
            os.link(draft, folder / f"{stem}.yaml")  # unlike a rename, a link never replaces a file
        except FileExistsError:
            continue
        return folder / f"{stem}.yaml"
    raise PriceError(
        f"{folder} has {_NAMES_MAX} files named {base}",
        why="every price is a file of its own",
        fix="add several prices in one file, written by hand",
    )


def _is_day(stem: str) -> bool:
    return re.fullmatch(r"\d{4}-\d{2}-\d{2}", stem) is not None


def _doubles(book: PriceBook, rows: Sequence[PriceRow], valid_from: date, *, is_correction: bool) -> str:
    """The last file by name that has one of these prices for that day; empty without any."""
    written: list[Price | UnitPrice] = [*book.prices, *book.unit_prices]
    there = {_key_of(price): price for price in written if price.valid_from == valid_from}
    doubles = [there[_key_of(row)] for row in rows if _key_of(row) in there]
    if doubles and not is_correction:
        first = doubles[0]
        raise PriceError(
            f"{first.sku!r} has a price from {valid_from.isoformat()} already: {_amount_of(first)}",
            why=f"it stands in {book.folder / first.file}.yaml",
            fix="choose a later day with --valid-from, or say that it was wrong with --correction",
        )
    if is_correction and not doubles:
        raise PriceError(
            f"{rows[0].sku!r} has no price from {valid_from.isoformat()} that could be corrected",
            why="a correction is of a price with the same first day",
            fix="leave --correction out, or name the day of the price that was wrong",
        )
    return max((price.file for price in doubles), default="")


def _key_of(price: PriceRow | Price | UnitPrice) -> tuple[str, ...]:
    if isinstance(price, Price) or (isinstance(price, PriceRow) and price.unit == "hour"):
        return price.sku, price.market, price.provider, price.region
    return price.sku, price.unit, price.provider, price.region


def _amount_of(price: Price | UnitPrice) -> str:
    if isinstance(price, Price):
        return f"${dollars(price.usd_micros_per_h)} an hour"
    return f"${dollars(price.usd_micros)} a {price.unit.replace('_', '-')}"


def _as_plain_values(row: PriceRow) -> dict[str, object]:
    values = row.model_dump(exclude_defaults=True)
    if "match" in values:
        values["match"] = list(row.match)
    if row.vram_gib is not None:
        values["vram_gib"] = int(row.vram_gib) if row.vram_gib == int(row.vram_gib) else row.vram_gib
    return values


# Catalogs


class _Offer(NamedTuple):
    """What one row of a catalog asks for one GPU."""

    gpu: str
    vram_gib: float | None
    market: str
    region: str
    usd_micros: int


def _kind_of(table: FileTable, kind: str, path: Path) -> str:
    columns = {plain(name) for name in table.header}
    fits = {
        "skypilot": all(plain(name) in columns for name in _SKYPILOT),
        "gpuhunt": all(plain(name) in columns for name in _GPUHUNT),
    }
    found = next((name for name, does_fit in fits.items() if does_fit), None) if kind == "auto" else kind
    if found is None or not fits.get(found):
        raise UnreadableFileError(
            f"{path}:1: the file is no catalog of {'SkyPilot or gpuhunt' if kind == 'auto' else kind}",
            why=f"found: {', '.join(table.header)}; wanted: {', '.join(_SKYPILOT)}; or {', '.join(_GPUHUNT)}",
            fix="download the catalog of one provider as CSV",
        )
    return found


def _skypilot_offers(table: FileTable, path: Path, left_out: Counter[str]) -> Iterator[_Offer]:
    for row in table.rows:
        name, count = row.cells[plain("AcceleratorName")], row.cells[plain("AcceleratorCount")]
        for column, market in (("Price", "on_demand"), ("SpotPrice", "spot")):
            text = row.cells.get(plain(column), "")
            micros = _per_gpu(row, name, count, text, path, left_out)
            if micros is not None:
                yield _Offer(name, None, market, row.cells[plain("Region")], micros)


def _gpuhunt_offers(table: FileTable, path: Path, left_out: Counter[str]) -> Iterator[_Offer]:
    for row in table.rows:
        cells = row.cells
        name, count = cells[plain("gpu_name")], cells[plain("gpu_count")]
        micros = _per_gpu(row, name, count, cells[plain("price")], path, left_out)
        if micros is not None:
            memory = cells.get(plain("gpu_memory"), "")
            vram_gib = float(_number(row, memory, "gpu_memory", path)) if memory else None
            market = "spot" if cells[plain("spot")].lower() == "true" else "on_demand"
            yield _Offer(name, vram_gib, market, cells[plain("location")], micros)


_OFFERS_OF: Final = {"skypilot": _skypilot_offers, "gpuhunt": _gpuhunt_offers}


def _per_gpu(row: FileRow, name: str, count: str, price: str, path: Path, left_out: Counter[str]) -> int | None:
    """Micro-dollars an hour of one GPU; None, and a reason counted, for what has no exact price."""
    if not name or not count or name.lower().startswith("tpu"):
        left_out["machines without a GPU"] += 1
        return None
    if not price:
        return None
    gpus = _number(row, count, "count", path)
    micros = Fraction(_number(row, price, "price", path)) * MICROS_PER_USD
    if micros < 0 or gpus < 0:
        raise PriceError(f"{path}:{row.line}: a negative price", why=f"{count} x {name} at {price}", fix="correct it")
    if not micros or not gpus:
        left_out["prices of zero, which is no price"] += 1
        return None
    micros /= Fraction(gpus)
    if micros.denominator != 1:
        left_out["prices that a whole micro-dollar for each GPU does not divide"] += 1
        return None
    return int(micros)


def _number(row: FileRow, text: str, column: str, path: Path) -> Decimal:
    try:
        return amount_of(text, thousands="")
    except ValueError as error:
        raise PriceError(
            f"{path}:{row.line}: {column}: {error}", why="a price is read exactly or not at all", fix="correct it"
        ) from None


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("nvidia"))


def _known_as(offer: _Offer, book: PriceBook) -> str:
    """The sku by which the book knows the GPU of an offer; else one made from its name."""
    names = [offer.gpu]
    if offer.vram_gib:
        names.insert(0, f"{offer.gpu}-{offer.vram_gib:g}gb")
    known: Mapping[str, str] = {
        **{_squeezed(part): price.sku for price in book.prices for part in price.match},
        **{_squeezed(price.sku): price.sku for price in book.prices},
    }
    for name in names:
        if found := known.get(_squeezed(name)):
            return found
    return re.sub(r"[^a-z0-9._]+", "-", names[0].lower()).strip("-._")


def _row_of(key: tuple[str, str], offers: Sequence[_Offer], book: PriceBook, provider: str, origin: str) -> PriceRow:
    sku, market = key
    known = next((price for price in reversed(book.prices) if price.sku == sku), None)
    dearest = max(offers, key=lambda offer: (offer.usd_micros, offer.region))
    prices = {offer.usd_micros for offer in offers}
    regions = sorted({offer.region for offer in offers})
    where = f"region {dearest.region}" if dearest.region else "no region"
    words = f"the highest of {len(prices)} prices in {len(regions)} regions" if len(prices) > 1 else ""
    vram = next((offer.vram_gib for offer in offers if offer.vram_gib), None)
    # Drivers write RTX 4090 where catalogs write RTX4090.
    match = known.match if known else (re.sub(r"^(RTX|GTX)(?=A?\d)", r"\1 ", offers[0].gpu),)
    return a_row(
        sku=sku,
        match=match,
        market=market,
        usd_per_hour=dollars(dearest.usd_micros).replace(",", ""),
        vram_gib=known.vram_gib if known and known.vram_gib is not None else vram,
        provider=provider,
        region=dearest.region if len(regions) == 1 else "",
        source="; ".join(part for part in (f"{origin}, {provider}, {where}", words) if part),
    )

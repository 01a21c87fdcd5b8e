"""Writing the price book: a changed price is a new dated file, and no file is ever edited.

A file appears whole or not at all, under an unused name, in the user's folder or the home, never among the files that
were installed with the program. A second price for the same GPU, market and day is refused, unless the user says that
it is a correction. A correction stands in a file whose name sorts later, so it wins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from catalog.errors import PriceError
from orchestrator.finance.money import dollars
from orchestrator.finance.prices.book import (
    Price,
    PriceBook,
    PriceLayer,
    PriceLayerName,
    PriceRow,
    UnitPrice,
    read_price_file,
    read_price_layers,
)
from orchestrator.finance.prices.words import problem_of

# The option for each key of a row.
_OPTIONS: Final = {
    "sku": "SKU",
    "usd": "USD",
    "usd_per_hour": "USD",
    **{
        name: f"--{name.replace('_', '-')}"
        for name in PriceRow.model_fields
        if name not in ("sku", "usd", "usd_per_hour")
    },
}
_NAMES_MAX: Final = 99  # files of one day
_WIDTH: Final = 10_000  # of a line: a source stays on one


def add_price(
    folder: Path, row: PriceRow, valid_from: date, *, book: PriceBook | None = None, is_correction: bool = False
) -> Path:
    """Write one price into a new file of `folder` and return its path.

    A row of a GPU that `book`, or else the folder, knows takes over the names it is matched by, unless it brings its
    own. Raises PriceError for a price that the folder has already for that day, unless it is a correction.
    """
    known = known_price(row.sku, book or _book_of(folder))
    if row.unit == "hour" and known is not None:
        row = row.model_copy(
            update={
                "match": row.match or known.match,
                "vram_gib": known.vram_gib if row.vram_gib is None else row.vram_gib,
            }
        )
    return write_prices(folder, (row,), valid_from, is_correction=is_correction)


def known_price(sku: str, book: PriceBook) -> Price | None:
    """The latest price of that sku; None when the book has none."""
    return next((price for price in reversed(book.prices) if price.sku == sku), None)


def a_row(**fields: object) -> PriceRow:
    """A row of the given fields. Raises PriceError in words for one that is wrong."""
    try:
        return PriceRow.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        _, what, fix = problem_of(error, _OPTIONS)
        raise PriceError(what, why="a price is written down only as it can be read again", fix=fix) from None


def write_prices(folder: Path, rows: Sequence[PriceRow], valid_from: date, *, is_correction: bool = False) -> Path:
    """Write rows into one new file of `folder` and return its path. Raises PriceError as `add_price` does."""
    return _write(folder, _book_of(folder), rows, valid_from, is_correction=is_correction)


# Writing


def _book_of(folder: Path) -> PriceBook:
    """The prices of that folder alone."""
    return read_price_layers([PriceLayer(PriceLayerName.YOURS, folder)])


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
        list(read_price_file(draft))  # a file that cannot be read back is not published
        return _publish(draft, folder, valid_from, after)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PriceError(
            f"{folder}: no price file can be written: {reason}",
            why="a price is a new file in the folder of price files",
            fix="name a folder of your own with --prices or TUNEMILL_PRICES",
        ) from None
    finally:
        with suppress(OSError):  # where there is no folder, there is no draft
            draft.unlink(missing_ok=True)


def _publish(draft: Path, folder: Path, valid_from: date, after: str) -> Path:
    """Give the draft an unused name that sorts later than `after`."""
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
        fix="write several prices into one file by hand",
    )


def _is_day(stem: str) -> bool:
    return re.fullmatch(r"\d{4}-\d{2}-\d{2}", stem) is not None


def _doubles(book: PriceBook, rows: Sequence[PriceRow], valid_from: date, *, is_correction: bool) -> str:
    """The last file by name that has one of these prices for that day; empty without any."""
    written: list[Price | UnitPrice] = [*book.prices, *book.unit_prices]
    there = {price.key: price for price in written if price.valid_from == valid_from}
    doubles = [there[key_of(row)] for row in rows if key_of(row) in there]
    if doubles and not is_correction:
        first = doubles[0]
        raise PriceError(
            f"{first.sku!r} has a price from {valid_from.isoformat()} already: {_amount_of(first)}",
            why=f"it stands in {book.folder / first.file}.yaml",
            fix="choose a later day with --valid-from, or replace the wrong price with --correction",
        )
    if is_correction and not doubles:
        raise PriceError(
            f"{rows[0].sku!r} has no price from {valid_from.isoformat()} to correct",
            why="a correction replaces a price with the same first day",
            fix="leave --correction out, or name the day of the price that was wrong",
        )
    return max((price.file for price in doubles), default="")


def key_of(row: PriceRow) -> tuple[str, ...]:
    """The key of the price that a row becomes."""
    return row.sku, row.market if row.unit == "hour" else row.unit, row.provider, row.region


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

"""Conformance: the rules that our FOCUS files must obey, checked on the files themselves.

The rental file is checked by itself and, where the totals of invoices are known, against them. The allocation file is
checked by itself and against the rental file that it divides. All arithmetic is exact: a product or a sum that is off
by one digit is a breach.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final

from orchestrator.finance.focus.columns import (
    COLUMN_OF_NAME,
    COLUMNS,
    MONEY_DECIMALS,
    SPLIT_COLUMNS,
    SUBCATEGORIES,
    SplitRole,
)
from orchestrator.finance.focus.row_checks import decimal_of, row_breaches
from orchestrator.finance.focus.rules import Breach, Cells, Found, Rule

InvoiceTotals = Mapping[tuple[str, str], int]  # (issuer, invoice) -> micro-dollars

_PRECISION: Final = 100  # digits; no product of two cells needs more
_MOST_BREACHES: Final = 1_000  # of one rule: a file that is wrong everywhere is described well enough by them


def check_rental_file(path: Path, invoice_totals: InvoiceTotals | None = None) -> list[Breach]:
    """The breaches of a rental file; with `invoice_totals`, also sums that differ from the invoices'."""
    breaches = _Breaches()
    origins: set[str] = set()
    billed: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    whole = _Whole()
    with localcontext() as context:
        context.prec = _PRECISION
        for number, row in _read(path, breaches):
            breaches.of_row(number, [*row_breaches(row), *whole.breaches(row), *_rental_breaches(row)])
            if row["x_OriginId"] in origins:
                breaches.add(Rule.ORIGIN_TWICE, number, "x_OriginId", f"{row['x_OriginId']!r} is there before")
            origins.add(row["x_OriginId"])
            if row["InvoiceId"]:
                billed[row["InvoiceIssuerName"], row["InvoiceId"]] += decimal_of(row["BilledCost"]) or 0
        for invoice, what in _wrong_sums(billed, invoice_totals):
            breaches.add(Rule.INVOICE_SUM, 0, "BilledCost", f"invoice {'/'.join(invoice)}: {what}")
    return breaches.found


def check_allocation_file(path: Path, rental_path: Path) -> list[Breach]:
    """The breaches of an allocation file, by itself and as the division of the rental file at `rental_path`."""
    breaches = _Breaches()
    whole = _Whole()
    with localcontext() as context:
        context.prec = _PRECISION
        origins = {row["x_OriginId"]: _Origin(dict(row)) for _, row in _read(rental_path, _Breaches())}
        for number, row in _read(path, breaches):
            breaches.of_row(number, [*row_breaches(row), *whole.breaches(row), *_split_breaches(row)])
            origin = origins.get(row["x_OriginId"])
            if origin is None:
                breaches.add(Rule.ORIGIN_KNOWN, number, "x_OriginId", f"{row['x_OriginId']!r} is not in {rental_path}")
            else:
                breaches.of_row(number, origin.take(row))
        for origin in origins.values():
            breaches.of_row(0, origin.breaches())
    return breaches.found


# ------------------------------------------------------------ files


class _Breaches:
    """Breaches of one file, so many of each rule at most."""

    def __init__(self) -> None:
        self.found: list[Breach] = []
        self._count: Counter[Rule] = Counter()

    def add(self, rule: Rule, row: int, column: str, what: str) -> None:
        self._count[rule] += 1
        if self._count[rule] <= _MOST_BREACHES:
            self.found.append(Breach(rule, row, column, what))

    def of_row(self, row: int, found: Found | list[tuple[Rule, str, str]]) -> None:
        for rule, column, what in found:
            self.add(rule, row, column, what)


def _read(path: Path, breaches: _Breaches) -> Iterator[tuple[int, Cells]]:
    """The rows, with every column of ours: a missing one is a breach of its own and null from there on."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        breaches.of_row(0, _header_breaches(header))
        blank = dict.fromkeys((column.name for column in COLUMNS), "")
        for number, cells in enumerate(lines, 1):
            if len(cells) != len(header):
                breaches.add(Rule.CELL_COUNT, number, "", f"{len(cells)} cells under {len(header)} columns")
                continue
            yield number, {**blank, **dict(zip(header, cells, strict=True))}


def _header_breaches(header: list[str]) -> Found:
    for column in COLUMNS:
        if column.name not in header:
            yield Rule.COLUMN_MISSING, column.name, "mandatory in FOCUS" if column.is_mandatory else "promised by us"
    for name, count in Counter(header).items():
        if count > 1:
            yield Rule.COLUMN_TWICE, name, f"{count} times"
        if not name.startswith("x_") and name not in COLUMN_OF_NAME:
            yield Rule.COLUMN_UNKNOWN, name, "not among the columns of FOCUS that we know"
    first_of_ours = next((index for index, name in enumerate(header) if name.startswith("x_")), len(header))
    for name in header[first_of_ours:]:
        if not name.startswith("x_"):
            yield Rule.COLUMN_ORDER, name, f"stands after {header[first_of_ours]}"


class _Whole:
    """The values on which the rows of one charge must agree."""

    def __init__(self) -> None:
        self._services: dict[str, tuple[str, str]] = {}
        self._skus: dict[str, str] = {}

    def breaches(self, row: Cells) -> Found:
        kind = (row["ServiceCategory"], row["ServiceSubcategory"])
        known = self._services.setdefault(row["ServiceName"], kind)
        if known != kind:
            yield Rule.SERVICE, "ServiceName", f"{row['ServiceName']!r} is {kind} and {known}"
        if kind[1] and kind[0] in SUBCATEGORIES and kind[1] not in SUBCATEGORIES[kind[0]]:
            yield Rule.SUBCATEGORY, "ServiceSubcategory", f"{kind[1]!r} is not in {kind[0]!r}"
        if row["SkuPriceId"]:
            sku = self._skus.setdefault(row["SkuPriceId"], row["SkuId"])
            if sku != row["SkuId"]:
                yield Rule.SKU_PRICE, "SkuPriceId", f"{row['SkuPriceId']!r} belongs to {sku!r} and {row['SkuId']!r}"


def _rental_breaches(row: Cells) -> Found:
    for name in SPLIT_COLUMNS:
        if row[name]:
            yield Rule.NOT_SPLIT, name, repr(row[name])


def _wrong_sums(
    billed: Mapping[tuple[str, str], Decimal], totals: InvoiceTotals | None
) -> Iterator[tuple[tuple[str, str], str]]:
    if totals is None:
        return
    for invoice in sorted({*billed, *totals}):
        expected = Decimal(totals[invoice]).scaleb(-MONEY_DECIMALS) if invoice in totals else None
        found = billed.get(invoice, Decimal(0))
        if found != expected:
            yield invoice, f"{found} in the file, {expected if expected is not None else 'nothing'} on the invoice"


# ------------------------------------------------------------ splits


def _shares(row: Cells) -> list[Decimal]:
    """The ratios that a row states; none when it states them wrongly."""
    try:
        elements = json.loads(row["AllocatedMethodDetails"] or "{}", parse_float=Decimal, parse_int=Decimal)["Elements"]
        ratios = [element["AllocatedRatio"] for element in elements]
    except (ValueError, KeyError, TypeError):
        return []
    return [ratio for ratio in ratios if isinstance(ratio, Decimal)]


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _split_breaches(row: Cells) -> Found:
    if not row["AllocatedMethodId"]:
        yield Rule.SPLIT_METHOD, "AllocatedMethodId", "is null"
    if not _shares(row):
        yield Rule.SPLIT_METHOD, "AllocatedMethodDetails", "states no AllocatedRatio"
    if not row["AllocatedResourceId"]:
        for name in ("AllocatedResourceName", "AllocatedTags"):
            if row[name]:
                yield Rule.UNALLOCATED, name, repr(row[name])
    for key in _object(row["AllocatedTags"]).keys() & _object(row["Tags"]).keys():
        yield Rule.ALLOCATED_TAGS, "AllocatedTags", f"{key!r} is in Tags"


_SUMMED: Final = tuple(column.name for column in COLUMNS if column.role is SplitRole.SUM)
_REPEATED: Final = tuple(column.name for column in COLUMNS if column.role in (SplitRole.DIMENSION, SplitRole.PRICE))


class _Origin:
    """A row of the rental file, and the sums so far of its allocated rows."""

    def __init__(self, row: Cells) -> None:
        self._row = row
        self._sums: dict[str, Decimal] = dict.fromkeys(_SUMMED, Decimal(0))
        self._ratio = Decimal(0)
        self._rows = 0

    def take(self, row: Cells) -> Found:
        """Count an allocated row; a cell that differs from the origin's is a breach."""
        self._rows += 1
        self._ratio += sum(_shares(row), Decimal(0))
        for name in _SUMMED:
            self._sums[name] += decimal_of(row[name]) or 0
        for name in _REPEATED:
            if row[name] != self._row[name]:
                yield Rule.ORIGIN_SAME, name, f"{row[name] or 'null'}, and its origin says {self._row[name] or 'null'}"

    def breaches(self) -> Found:
        """The breaches that are known once all rows are counted."""
        origin = self._row["x_OriginId"]
        if not self._rows:
            yield Rule.ORIGIN_SPLIT, "x_OriginId", f"{origin} is not in the allocation file"
            return
        for name, found in self._sums.items():
            expected = decimal_of(self._row[name]) or Decimal(0)
            if found != expected:
                yield Rule.ORIGIN_SUM, name, f"{found} of {origin}, which has {expected}"
        if self._ratio != 1:
            yield Rule.ORIGIN_RATIO, "AllocatedMethodDetails", f"{self._ratio} of {origin}"

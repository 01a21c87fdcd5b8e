"""Conformance: what must be true of our FOCUS files, checked on the files themselves.

Every rule is stated once, as a member of `Rule`. The rental file is checked by itself and, where the totals of invoices
are known, against them; the allocation file is checked by itself and against the rental file that it divides. All
arithmetic is exact: a product or a sum that is off by any digit is a breach.

Source: the requirements of FOCUS 1.2 for these columns and the split cost allocation of 1.3, stricter where our files
promise more (six decimals, whole seconds, vendor and issuer the same).
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal, localcontext
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from orchestrator.costs.focus.columns import (
    COLUMN_OF_NAME,
    COLUMNS,
    MONEY_DECIMALS,
    SPLIT_COLUMNS,
    SUBCATEGORIES,
    Column,
    DataType,
    Role,
)

Cells = Mapping[str, str]  # a row as read; "" is null
InvoiceTotals = Mapping[tuple[str, str], int]  # (issuer, invoice) -> micro-dollars

_PRECISION: Final = 100  # digits; no product of two cells needs more
_MOST_BREACHES: Final = 1_000  # of one rule: a file that is wrong everywhere is described well enough by them


class Rule(StrEnum):
    """What can be broken."""

    COLUMN_MISSING = "a column is missing"
    COLUMN_UNKNOWN = "a column is neither FOCUS's nor begins with x_"
    COLUMN_TWICE = "a column is there twice"
    COLUMN_ORDER = "columns of FOCUS come before those that begin with x_"
    CELL_COUNT = "a row has a cell for every column"
    NOT_NULL = "a column that allows no null has a value"
    PLACEHOLDER = "null is an empty cell and no word for it"
    DECIMAL = "a number is written plainly"
    MONEY_DECIMALS = "billed and effective cost have six decimals"
    SCALE = "a number has no more decimals than its column"
    INSTANT = "an instant is UTC, to the second, and ends with Z"
    JSON = "an object is flat JSON with keys that are there once"
    CLOSED_LIST = "a value is on the closed list of its column"
    CURRENCY = "a currency is three capital letters"
    FORMULA = "no text begins like a formula"
    COMMITMENT = "no commitment, no status of one"
    PRICED = "usage and purchases have SKU, prices and a priced quantity"
    CONSUMED = "usage, and only usage, has a consumed quantity"
    TAX_WITHOUT_PRICE = "a tax has neither SKU nor price"
    CREDIT_WITHOUT_QUANTITY = "a credit or an adjustment counts nothing"
    TOGETHER = "two columns are null together"
    NEEDS = "a column is null when the one that it explains is"
    FREQUENCY = "a purchase is not usage-based"
    PRICE_SIGN = "a unit price is not negative"
    LIST_COST = "list cost is list price times quantity"
    CONTRACTED_COST = "contracted cost is contracted price times quantity"
    UNPRICED_COST = "list and contracted cost of what has no price are its amount"
    EFFECTIVE_COST = "effective cost is the billed one, none for a purchase, or all of what is paid elsewhere"
    SAME_CURRENCY = "in one currency, prices and costs are the same in both"
    PERIOD_ORDER = "a period ends after it starts"
    PERIOD_WITHIN = "a charge lies within its billing period unless it corrects an earlier one"
    VENDOR = "provider, publisher, service and host provider are one"
    ISSUER = "what another issuer is paid for is not billed"
    SERVICE = "a service has one category and one subcategory"
    SUBCATEGORY = "a subcategory belongs to its category"
    SKU_PRICE = "a price of a SKU belongs to one SKU"
    INVOICE_SUM = "billed cost of an invoice adds up to its total"
    ORIGIN_TWICE = "a row of the rental file has an id of its own"
    NOT_SPLIT = "the rental file allocates nothing"
    SPLIT_METHOD = "an allocated row names its method and its share"
    UNALLOCATED = "what has no allocated resource has neither name nor tags of one"
    ALLOCATED_TAGS = "allocated tags repeat no tag of the charge"
    ORIGIN_KNOWN = "an allocated row has an origin"
    ORIGIN_SPLIT = "every origin is allocated"
    ORIGIN_SAME = "an allocated row repeats what its origin says"
    ORIGIN_SUM = "allocated costs and quantities add up to those of the origin"
    ORIGIN_RATIO = "shares of an origin add up to one"


class Breach(NamedTuple):
    """A rule that does not hold. Rows count from 1, without the header; 0 is the file itself."""

    rule: Rule
    row: int
    column: str
    what: str


def check_rental_file(path: Path, invoice_totals: InvoiceTotals | None = None) -> list[Breach]:
    """What is wrong with a rental file; with `invoice_totals`, also what its invoices do not add up to."""
    breaches = _Breaches()
    origins: set[str] = set()
    billed: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    whole = _Whole()
    with localcontext() as context:
        context.prec = _PRECISION
        for number, row in _read(path, breaches):
            breaches.of_row(number, [*_row_breaches(row), *whole.breaches(row), *_rental_breaches(row)])
            if row["x_OriginId"] in origins:
                breaches.add(Rule.ORIGIN_TWICE, number, "x_OriginId", f"{row['x_OriginId']!r} is there before")
            origins.add(row["x_OriginId"])
            if row["InvoiceId"]:
                billed[row["InvoiceIssuerName"], row["InvoiceId"]] += _number(row["BilledCost"]) or 0
        for invoice, what in _wrong_sums(billed, invoice_totals):
            breaches.add(Rule.INVOICE_SUM, 0, "BilledCost", f"invoice {'/'.join(invoice)}: {what}")
    return breaches.found


def check_allocation_file(path: Path, rental_path: Path) -> list[Breach]:
    """What is wrong with an allocation file, by itself and as the division of the rental file at `rental_path`."""
    breaches = _Breaches()
    whole = _Whole()
    with localcontext() as context:
        context.prec = _PRECISION
        origins = {row["x_OriginId"]: _Origin(dict(row)) for _, row in _read(rental_path, _Breaches())}
        for number, row in _read(path, breaches):
            breaches.of_row(number, [*_row_breaches(row), *whole.breaches(row), *_split_breaches(row)])
            origin = origins.get(row["x_OriginId"])
            if origin is None:
                breaches.add(Rule.ORIGIN_KNOWN, number, "x_OriginId", f"{row['x_OriginId']!r} is not in {rental_path}")
            else:
                breaches.of_row(number, origin.take(row))
        for origin in origins.values():
            breaches.of_row(0, origin.breaches())
    return breaches.found


# ------------------------------------------------------------ files

_Found = Iterator[tuple[Rule, str, str]]  # rule, column, what


class _Breaches:
    """Breaches of one file, so many of each rule at most."""

    def __init__(self) -> None:
        self.found: list[Breach] = []
        self._count: Counter[Rule] = Counter()

    def add(self, rule: Rule, row: int, column: str, what: str) -> None:
        self._count[rule] += 1
        if self._count[rule] <= _MOST_BREACHES:
            self.found.append(Breach(rule, row, column, what))

    def of_row(self, row: int, found: _Found | list[tuple[Rule, str, str]]) -> None:
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


def _header_breaches(header: list[str]) -> _Found:
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


# ------------------------------------------------------------ cells

_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_SIX_DECIMALS: Final = re.compile(r"-?[0-9]+\.[0-9]{6}")
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_PLACEHOLDERS: Final = frozenset({"", "null", "nil", "n/a", "nan", "not applicable"})
_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_MONEY: Final = ("BilledCost", "EffectiveCost", "PricingCurrencyEffectiveCost")


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _DECIMAL.fullmatch(text) else None


def _instant(text: str) -> datetime | None:
    if not _INSTANT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _row_breaches(row: Cells) -> _Found:
    for column in COLUMNS:
        text = row[column.name]
        if text:
            yield from _cell_breaches(column, text)
        elif not column.allows_null:
            yield Rule.NOT_NULL, column.name, "is null"
    for check in _ROW_CHECKS:
        yield from check(row)


def _cell_breaches(column: Column, text: str) -> _Found:
    if not column.is_ours and text.strip().lower() in _PLACEHOLDERS:
        yield Rule.PLACEHOLDER, column.name, repr(text)
    if column.values and text not in column.values:
        yield Rule.CLOSED_LIST, column.name, repr(text)
    if column.type is DataType.DECIMAL:
        yield from _decimal_breaches(column, text)
    elif column.type is DataType.DATETIME:
        if _instant(text) is None:
            yield Rule.INSTANT, column.name, repr(text)
    elif column.type is DataType.JSON:
        if why := _wrong_json(text, is_flat=column.name != "AllocatedMethodDetails"):
            yield Rule.JSON, column.name, why
    elif text.startswith(_FORMULA_SIGNS):
        yield Rule.FORMULA, column.name, repr(text)


def _decimal_breaches(column: Column, text: str) -> _Found:
    if not _DECIMAL.fullmatch(text):
        yield Rule.DECIMAL, column.name, repr(text)
    elif len(text.partition(".")[2]) > column.scale:
        yield Rule.SCALE, column.name, f"{text} has more than {column.scale} decimals"
    if column.name in _MONEY and not _SIX_DECIMALS.fullmatch(text):
        yield Rule.MONEY_DECIMALS, column.name, f"{text} has not {MONEY_DECIMALS} decimals"


def _wrong_json(text: str, *, is_flat: bool) -> str:
    """Why it is no object that FOCUS takes; "" when it is."""
    twice: list[str] = []

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=object_of)
    except ValueError as error:
        return str(error)
    if not isinstance(value, dict):
        return "no object"
    if twice:
        return f"{', '.join(twice)} more than once"
    nested = [key for key, each in value.items() if isinstance(each, dict | list)]
    return f"{', '.join(nested)} is not a plain value" if is_flat and nested else ""


# ------------------------------------------------------------ rows

_TOGETHER: Final = (
    ("PricingQuantity", "PricingUnit"),
    ("ConsumedQuantity", "ConsumedUnit"),
    ("RegionId", "RegionName"),
    ("ResourceId", "ResourceType"),
    ("SubAccountId", "SubAccountName"),
)
_NEEDS: Final = (
    ("ResourceName", "ResourceId"),
    ("SkuMeter", "SkuId"),
    ("SkuPriceDetails", "SkuPriceId"),
    ("InvoiceDetailId", "InvoiceId"),
)
_UNIT_PRICES: Final = (
    "ListUnitPrice",
    "ContractedUnitPrice",
    "PricingCurrencyListUnitPrice",
    "PricingCurrencyContractedUnitPrice",
)
_PRICED: Final = ("SkuId", "SkuPriceId", "PricingCategory", "PricingQuantity", *_UNIT_PRICES)
_VENDORS: Final = ("PublisherName", "ServiceProviderName", "HostProviderName")


def _null_breaches(row: Cells) -> _Found:
    if row["CommitmentDiscountStatus"] and not row.get("CommitmentDiscountId"):
        yield Rule.COMMITMENT, "CommitmentDiscountStatus", "without a commitment"
    for one, other in _TOGETHER:
        if bool(row[one]) != bool(row[other]):
            yield Rule.TOGETHER, other, f"{one} is {row[one] or 'null'} and {other} is {row[other] or 'null'}"
    for name, needed in _NEEDS:
        if row[name] and not row[needed]:
            yield Rule.NEEDS, name, f"{needed} is null"


def _category_breaches(row: Cells) -> _Found:
    category, is_correction = row["ChargeCategory"], row["ChargeClass"] == "Correction"
    if category in ("Usage", "Purchase") and not is_correction:
        for name in _PRICED:
            if not row[name]:
                yield Rule.PRICED, name, f"null for {category}"
    consumes = category == "Usage"
    if bool(row["ConsumedQuantity"]) != consumes and not (consumes and is_correction):
        yield Rule.CONSUMED, "ConsumedQuantity", f"{row['ConsumedQuantity'] or 'null'} for {category}"
    if category == "Tax":
        for name in _PRICED:
            if row[name]:
                yield Rule.TAX_WITHOUT_PRICE, name, repr(row[name])
    if category in ("Credit", "Adjustment") and row["PricingQuantity"]:
        yield Rule.CREDIT_WITHOUT_QUANTITY, "PricingQuantity", row["PricingQuantity"]
    if category == "Purchase" and row["ChargeFrequency"] == "Usage-Based":
        yield Rule.FREQUENCY, "ChargeFrequency", "usage-based purchase"


def _cost_breaches(row: Cells) -> _Found:
    for name in _UNIT_PRICES:
        if (_number(row[name]) or 0) < 0:
            yield Rule.PRICE_SIGN, name, row[name]
    quantity, effective, billed = (_number(row[name]) for name in ("PricingQuantity", "EffectiveCost", "BilledCost"))
    products = (
        (Rule.LIST_COST, "ListCost", "ListUnitPrice"),
        (Rule.CONTRACTED_COST, "ContractedCost", "ContractedUnitPrice"),
    )
    for rule, cost_name, price_name in products:
        cost, price = _number(row[cost_name]), _number(row[price_name])
        if price is not None and quantity is not None:
            if cost != price * quantity and row["ChargeClass"] != "Correction":
                yield rule, cost_name, f"{cost} is not {price} x {quantity}"
        elif row["ChargeCategory"] not in ("Usage", "Purchase") and cost != effective:
            yield Rule.UNPRICED_COST, cost_name, f"{cost} is not {effective}"
    may_be_unbilled = row["ChargeCategory"] == "Usage" or row["InvoiceIssuerName"] != row["ProviderName"]
    if row["ChargeCategory"] == "Purchase":
        is_right = effective == 0  # all that we buy ahead of use is used later, and costs then
    else:
        is_right = effective == billed or (may_be_unbilled and billed == 0)
    if not is_right:
        yield Rule.EFFECTIVE_COST, "EffectiveCost", f"{effective} where {billed} is billed"


def _currency_breaches(row: Cells) -> _Found:
    for name in ("BillingCurrency", "PricingCurrency"):
        if row[name] and not re.fullmatch("[A-Z]{3}", row[name]):
            yield Rule.CURRENCY, name, repr(row[name])
    if row["BillingCurrency"] == row["PricingCurrency"]:
        for name in ("ListUnitPrice", "ContractedUnitPrice", "EffectiveCost"):
            if _number(row[f"PricingCurrency{name}"]) != _number(row[name]):
                yield Rule.SAME_CURRENCY, f"PricingCurrency{name}", f"{row[f'PricingCurrency{name}']}, not {row[name]}"


def _period_breaches(row: Cells) -> _Found:
    starts = {name: _instant(row[f"{name}PeriodStart"]) for name in ("Billing", "Charge")}
    ends = {name: _instant(row[f"{name}PeriodEnd"]) for name in ("Billing", "Charge")}
    for name, start in starts.items():
        end = ends[name]
        if start and end and start >= end:
            yield Rule.PERIOD_ORDER, f"{name}PeriodEnd", f"{end} is not after {start}"
    if row["ChargeClass"] == "Correction":
        return
    if starts["Charge"] and starts["Billing"] and starts["Charge"] < starts["Billing"]:
        yield Rule.PERIOD_WITHIN, "ChargePeriodStart", f"{starts['Charge']} is before {starts['Billing']}"
    if ends["Charge"] and ends["Billing"] and ends["Charge"] > ends["Billing"]:
        yield Rule.PERIOD_WITHIN, "ChargePeriodEnd", f"{ends['Charge']} is after {ends['Billing']}"


def _vendor_breaches(row: Cells) -> _Found:
    for name in _VENDORS:
        if row[name] and row[name] != row["ProviderName"]:
            yield Rule.VENDOR, name, f"{row[name]!r}, and the provider is {row['ProviderName']!r}"
    if row["InvoiceIssuerName"] != row["ProviderName"] and _number(row["BilledCost"]):
        yield Rule.ISSUER, "BilledCost", f"{row['BilledCost']} though {row['InvoiceIssuerName']!r} is the issuer"


_ROW_CHECKS: Final[tuple[Callable[[Cells], _Found], ...]] = (
    _null_breaches,
    _category_breaches,
    _cost_breaches,
    _currency_breaches,
    _period_breaches,
    _vendor_breaches,
)


class _Whole:
    """What rows must agree on."""

    def __init__(self) -> None:
        self._services: dict[str, tuple[str, str]] = {}
        self._skus: dict[str, str] = {}

    def breaches(self, row: Cells) -> _Found:
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


def _rental_breaches(row: Cells) -> _Found:
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


def _split_breaches(row: Cells) -> _Found:
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


_SUMMED: Final = tuple(column.name for column in COLUMNS if column.role is Role.SUM)
_REPEATED: Final = tuple(column.name for column in COLUMNS if column.role in (Role.DIMENSION, Role.PRICE))


class _Origin:
    """A row of the rental file, and what its allocated rows add up to so far."""

    def __init__(self, row: Cells) -> None:
        self._row = row
        self._sums: dict[str, Decimal] = dict.fromkeys(_SUMMED, Decimal(0))
        self._ratio = Decimal(0)
        self._rows = 0

    def take(self, row: Cells) -> _Found:
        """Count an allocated row in; what it does not repeat is a breach."""
        self._rows += 1
        self._ratio += sum(_shares(row), Decimal(0))
        for name in _SUMMED:
            self._sums[name] += _number(row[name]) or 0
        for name in _REPEATED:
            if row[name] != self._row[name]:
                yield Rule.ORIGIN_SAME, name, f"{row[name] or 'null'}, and its origin says {self._row[name] or 'null'}"

    def breaches(self) -> _Found:
        """What is wrong once all rows are counted."""
        origin = self._row["x_OriginId"]
        if not self._rows:
            yield Rule.ORIGIN_SPLIT, "x_OriginId", f"{origin} is not in the allocation file"
            return
        for name, found in self._sums.items():
            expected = _number(self._row[name]) or Decimal(0)
            if found != expected:
                yield Rule.ORIGIN_SUM, name, f"{found} of {origin}, which has {expected}"
        if self._ratio != 1:
            yield Rule.ORIGIN_RATIO, "AllocatedMethodDetails", f"{self._ratio} of {origin}"

"""Row checks: the faults of a single row of a FOCUS file. Numbers are compared exactly."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from orchestrator.finance.focus.columns import COLUMNS, MONEY_DECIMALS, DataType, FocusColumn
from orchestrator.finance.focus.rules import Cells, Found, Rule

_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_SIX_DECIMALS: Final = re.compile(r"-?[0-9]+\.[0-9]{6}")
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_PLACEHOLDERS: Final = frozenset({"", "null", "nil", "n/a", "nan", "not applicable"})
_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_MONEY: Final = ("BilledCost", "EffectiveCost", "PricingCurrencyEffectiveCost")


def decimal_of(text: str) -> Decimal | None:
    """The number in a cell; None where there is none."""
    return Decimal(text) if _DECIMAL.fullmatch(text) else None


def _instant(text: str) -> datetime | None:
    if not _INSTANT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def row_breaches(row: Cells) -> Found:
    """The faults of a row's cells, each by itself and in combination."""
    for column in COLUMNS:
        text = row[column.name]
        if text:
            yield from _cell_breaches(column, text)
        elif not column.allows_null:
            yield Rule.NOT_NULL, column.name, "is null"
    for check in _ROW_CHECKS:
        yield from check(row)


def _cell_breaches(column: FocusColumn, text: str) -> Found:
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


def _decimal_breaches(column: FocusColumn, text: str) -> Found:
    if not _DECIMAL.fullmatch(text):
        yield Rule.DECIMAL, column.name, repr(text)
    elif len(text.partition(".")[2]) > column.scale:
        yield Rule.SCALE, column.name, f"{text} has more than {column.scale} decimals"
    if column.name in _MONEY and not _SIX_DECIMALS.fullmatch(text):
        yield Rule.MONEY_DECIMALS, column.name, f"{text} has not {MONEY_DECIMALS} decimals"


def _wrong_json(text: str, *, is_flat: bool) -> str:
    """The reason why a cell is no JSON object that FOCUS accepts; "" when it is one."""
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


def _null_breaches(row: Cells) -> Found:
    if row["CommitmentDiscountStatus"] and not row.get("CommitmentDiscountId"):
        yield Rule.COMMITMENT, "CommitmentDiscountStatus", "without a commitment"
    for one, other in _TOGETHER:
        if bool(row[one]) != bool(row[other]):
            yield Rule.TOGETHER, other, f"{one} is {row[one] or 'null'} and {other} is {row[other] or 'null'}"
    for name, needed in _NEEDS:
        if row[name] and not row[needed]:
            yield Rule.NEEDS, name, f"{needed} is null"


def _category_breaches(row: Cells) -> Found:
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


def _cost_breaches(row: Cells) -> Found:
    for name in _UNIT_PRICES:
        if (decimal_of(row[name]) or 0) < 0:
            yield Rule.PRICE_SIGN, name, row[name]
    quantity, effective, billed = (decimal_of(row[name]) for name in ("PricingQuantity", "EffectiveCost", "BilledCost"))
    products = (
        (Rule.LIST_COST, "ListCost", "ListUnitPrice"),
        (Rule.CONTRACTED_COST, "ContractedCost", "ContractedUnitPrice"),
    )
    for rule, cost_name, price_name in products:
        cost, price = decimal_of(row[cost_name]), decimal_of(row[price_name])
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


def _currency_breaches(row: Cells) -> Found:
    for name in ("BillingCurrency", "PricingCurrency"):
        if row[name] and not re.fullmatch("[A-Z]{3}", row[name]):
            yield Rule.CURRENCY, name, repr(row[name])
    if row["BillingCurrency"] == row["PricingCurrency"]:
        for name in ("ListUnitPrice", "ContractedUnitPrice", "EffectiveCost"):
            if decimal_of(row[f"PricingCurrency{name}"]) != decimal_of(row[name]):
                yield Rule.SAME_CURRENCY, f"PricingCurrency{name}", f"{row[f'PricingCurrency{name}']}, not {row[name]}"


def _period_breaches(row: Cells) -> Found:
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


def _vendor_breaches(row: Cells) -> Found:
    for name in _VENDORS:
        if row[name] and row[name] != row["ProviderName"]:
            yield Rule.VENDOR, name, f"{row[name]!r}, and the provider is {row['ProviderName']!r}"
    if row["InvoiceIssuerName"] != row["ProviderName"] and decimal_of(row["BilledCost"]):
        yield Rule.ISSUER, "BilledCost", f"{row['BilledCost']} though {row['InvoiceIssuerName']!r} is the issuer"


_ROW_CHECKS: Final[tuple[Callable[[Cells], Found], ...]] = (
    _null_breaches,
    _category_breaches,
    _cost_breaches,
    _currency_breaches,
    _period_breaches,
    _vendor_breaches,
)

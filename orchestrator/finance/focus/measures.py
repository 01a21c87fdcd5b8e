"""Measures: the quantity and the unit price of a charge, such that their product is exact.

Quantities are integer billionths of a unit, and unit prices are integer billionths of a dollar. Their product, in
10^-18 dollars, needs no rounding, and the parts of a quantity together cost exactly as much as the whole.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from typing import Final, NamedTuple

from orchestrator.ledger.observations import MS_PER_H

NANO: Final = 10**9
HOURS: Final = "Hours"
ONE_UNIT: Final = "Units"

# How providers call a unit, what FOCUS calls it, and how many of theirs are one of it. Only units that convert without
# a rounded factor are converted: a month of a disk has no fixed number of hours, so it stays a month.
_UNITS: Final[dict[str, tuple[str, int]]] = {
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "gpu hour", "gpu hours"), (HOURS, 1)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), (HOURS, 60)),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), (HOURS, 3_600)),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), (HOURS, MS_PER_H)),
    **dict.fromkeys(("gb", "gbs"), ("GB", 1)),
    **dict.fromkeys(("gb hour", "gb hours", "gb h", "gb hr"), ("GB-Hours", 1)),
    **dict.fromkeys(("gb month", "gb months", "gb mo"), ("GB-Months", 1)),
}


class Measure(NamedTuple):
    """A quantity with its unit, and the price of one unit if it is known."""

    nano_units: int
    unit: str
    unit_price: Decimal | None = None  # dollars for one unit


def nano_of(amount: Decimal) -> int:
    """A quantity or price in billionths, rounded half to even."""
    with localcontext() as context:
        context.prec = 80  # no digit that a provider writes is lost before the one rounding
        return int((amount * NANO).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def measure_of_ms(ms: int, gpu_count: int = 1) -> Measure:
    """Hours of GPU time: two GPUs have two of them in every hour. Rounded once, to a billionth of an hour."""
    whole, part = divmod(ms * gpu_count * NANO, MS_PER_H)
    return Measure(whole + (2 * part >= MS_PER_H), HOURS)


def find_measure(quantity: str, unit: str, unit_price: str = "") -> Measure | None:
    """The measure that a line's text names; None when the line states no quantity, or an unknown unit.

    A price for a second or a minute becomes the price of an hour.
    """
    known = _UNITS.get(unit.strip().lower().replace("-", " ").replace("_", " "))
    amount, price = _decimal(quantity), _decimal(unit_price)
    if known is None or amount is None:
        return None
    name, per_unit = known
    with localcontext() as context:
        context.prec = 80
        return Measure(nano_of(amount / per_unit), name, None if price is None else price * per_unit)


def _decimal(text: str) -> Decimal | None:
    try:
        amount = Decimal(text.strip().replace(",", "").removeprefix("$"))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def decimal_text(units: int, decimals: int, *, at_least: int | None = None) -> str:
    """An integer count of 10^-`decimals` as text, trailing zeros dropped down to `at_least` decimals.

    At least one decimal is always wanted by the caller: a column of whole numbers is read back as one of integers.
    """
    whole, part = divmod(abs(units), 10**decimals)
    keep = decimals if at_least is None else at_least
    digits = f"{part:0{decimals}d}"
    kept = digits[:keep] + digits[keep:].rstrip("0")
    return f"{'-' if units < 0 else ''}{whole}.{kept}"

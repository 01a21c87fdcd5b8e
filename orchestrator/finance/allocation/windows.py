"""Windows: the billed stretch of a rental, from providers that state only the hours used in a billing bucket.

RunPod and Vast.ai bill in buckets. A bucket of a day, read as paid time, would make three hours of work look like three
hours used and twenty-one hours idle. Therefore a bucket is reduced to the billed time, placed over the part of the
bucket in which the rental was seen. When the provider billed more time than was seen, the window extends beyond that
part, and the extra time is unobserved.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

BUCKET: Final = "bucket"  # unit of a line that does not say how much of its window was used
_MS_OF: Final = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1_000),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60_000),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600_000),
}


def billed_ms(quantity: str, unit: str) -> int | None:
    """The time that a line's quantity stands for; None when the quantity is no time."""
    factor = _MS_OF.get(unit.strip().lower())
    if factor is None:
        return None
    try:
        amount = Decimal(quantity.replace(",", ""))
    except InvalidOperation:
        return None
    return round(amount * factor) if amount.is_finite() and 0 <= amount < 10**12 else None


def narrowed(window: tuple[int, int], quantity: str, unit: str, seen: tuple[int, int]) -> tuple[int, int]:
    """The part of `window` that a line pays for, given the time in which the rental was seen; all three are half-open.

    A window that the quantity fills, or whose quantity is no time, is exact and stays as it is.
    """
    start_ms, end_ms = window
    billed = billed_ms(quantity, unit)
    if unit != BUCKET and (billed is None or billed >= end_ms - start_ms):
        return window
    begin_ms, until_ms = max(start_ms, seen[0]), min(end_ms, seen[1])
    if until_ms <= begin_ms:  # not seen in it at all
        return window if billed is None else (start_ms, start_ms + billed)
    if billed is None:
        return begin_ms, until_ms
    until_ms = min(end_ms, begin_ms + billed)
    return max(start_ms, until_ms - billed), until_ms

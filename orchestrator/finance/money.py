"""Money: integer micro-dollars, parsed from text and printed as dollars."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from catalog.errors import SettingsError

MICROS_PER_USD: Final = 1_000_000


def micros_of(usd: Decimal | str) -> int:
    """Dollars as integer micro-dollars. Raises ValueError for a negative amount, a part of a micro, or other text."""
    try:
        micros = Decimal(usd) * MICROS_PER_USD
    except InvalidOperation:
        raise ValueError(f"{usd!r} is not an amount; write dollars such as 1.64") from None
    if not micros.is_finite() or micros < 0 or micros > 2**63 - 1:
        raise ValueError(f"{usd} is not a possible amount")
    if micros != int(micros):
        raise ValueError(f"{usd} is finer than a micro-dollar (six decimals)")
    return int(micros)


def dollars(micros: int) -> str:
    """Micro-dollars exactly, with two decimals where they are enough and six where not."""
    whole, part = divmod(micros, MICROS_PER_USD)
    return f"{whole:,}.{part:06d}".removesuffix("0000")


def parse_usd(text: str, *, name: str = "--max-usd") -> int:
    """An option or setting in dollars as micro-dollars. Raises SettingsError naming it."""
    try:
        return micros_of(text.strip().removeprefix("$"))
    except ValueError as error:
        raise SettingsError(f"{name} is wrong: {error}", fix=f"write {name} in dollars: 12.50") from None

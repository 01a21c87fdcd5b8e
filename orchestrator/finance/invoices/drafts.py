"""Drafts: the form into which every provider's file is read, and the step from drafts to the lines of an invoice.

This module checks the rules that hold for every provider: usage is never negative, a window begins before it ends, no
line occurs twice, and the lines add up to the total that the file states. Then the total is rounded once, half to even,
and its micro-dollars are divided among the lines, each within one micro-dollar of its exact amount.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

from catalog.errors import InvoiceError
from catalog.split import split
from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.invoices.lines import InvoiceLine
from orchestrator.finance.money import MICROS_PER_USD

_USAGE: Final = (Meter.GPU, Meter.DISK, Meter.EGRESS)
_MICRO: Final = Fraction(1, MICROS_PER_USD)
_HALF_CENT: Final = Fraction(1, 200)
MICROS_MAX: Final = 10**15  # a billion dollars: a larger amount is a mistake, and its sums would overflow


class LineDraft(NamedTuple):
    """A line as its provider bills it."""

    line: int  # of the file, from 1
    meter: Meter
    amount: Decimal  # in the currency of the invoice
    external_id: str = ""
    sku: str = ""
    description: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    quantity: str = ""
    unit: str = ""
    unit_price: str = ""
    mark: str = ""  # further text that tells two lines apart


class InvoiceDraft(NamedTuple):
    """The content of a provider's file."""

    drafts: Sequence[LineDraft]
    provider: str = ""
    number: str = ""
    currency: str = ""
    total: Decimal | None = None  # as stated, without top-ups
    start_ms: int | None = None  # of the period, where the file says so
    end_ms: int | None = None


def check_drafts(reading: InvoiceDraft, path: Path) -> None:
    """Refuse lines that cannot be posted. Raises InvoiceError with file and line."""
    seen: dict[tuple[object, ...], int] = {}
    for draft in reading.drafts:
        where = f"{path}:{draft.line}"
        _check_signs(draft, where)
        _check_window(draft, where)
        words = "" if draft.external_id else draft.description
        key = (*draft[1:5], draft.start_ms, draft.end_ms, draft.mark, words)
        if key in seen and draft.amount:
            raise InvoiceError(
                f"{where}: the same line is already on line {seen[key]}",
                why=f"{draft.external_id or draft.description or 'both'}: same meter, sku, window and amount",
                fix="remove one of the two lines, or export the period again",
            )
        seen[key] = draft.line


def _check_signs(draft: LineDraft, where: str) -> None:
    if draft.meter in _USAGE and draft.amount < 0:
        raise InvoiceError(
            f"{where}: negative usage of {draft.amount}",
            why="only a credit or a refund is negative",
            fix="read the line as meter credit, with a mapping; or ask the provider about the line",
        )
    if draft.meter is Meter.CREDIT and draft.amount > 0:
        raise InvoiceError(
            f"{where}: a credit of {draft.amount} is owed to the provider",
            why="a credit is a negative amount",
            fix="correct the sign or the meter of the line",
        )
    if draft.meter is Meter.TOPUP and draft.amount < 0:
        raise InvoiceError(
            f"{where}: a top-up of {draft.amount} takes money out",
            why="money paid in advance is a positive amount",
            fix="remove the line, or ask the provider about it",
        )
    if draft.quantity.startswith("-") and draft.meter in (*_USAGE, Meter.TOPUP):
        raise InvoiceError(
            f"{where}: the quantity is {draft.quantity}",
            why="usage is never negative",
            fix="correct the quantity in the file",
        )


def _check_window(draft: LineDraft, where: str) -> None:
    if (draft.start_ms is None) != (draft.end_ms is None):
        raise InvoiceError(
            f"{where}: the line has a start or an end, but not both",
            why="a billed time needs a start and an end",
            fix="add the missing one, or remove the other",
        )
    if draft.start_ms is not None and draft.end_ms is not None and draft.end_ms < draft.start_ms:
        raise InvoiceError(
            f"{where}: the line ends before it starts",
            why=f"from {draft.start_ms} to {draft.end_ms} in epoch milliseconds",
            fix="correct the dates in the file, or their format in the mapping",
        )


def settle(reading: InvoiceDraft, usd_per_unit: Decimal, path: Path) -> tuple[InvoiceLine, ...]:
    """The lines in micro-dollars: those that are owed sum to the total, rounded once; so do those paid in advance."""
    exact = [Fraction(draft.amount) for draft in reading.drafts]
    paid = [index for index, draft in enumerate(reading.drafts) if draft.meter is Meter.TOPUP]
    owed = [index for index, draft in enumerate(reading.drafts) if draft.meter is not Meter.TOPUP]
    scale = Fraction(usd_per_unit) * MICROS_PER_USD
    total = _agreed_total(sum((exact[index] for index in owed), Fraction()), reading.total, path)
    micros = dict(zip(owed, _rounded_parts([exact[index] for index in owed], total, scale), strict=True))
    total_paid = sum((exact[index] for index in paid), Fraction())
    micros.update(zip(paid, _rounded_parts([exact[index] for index in paid], total_paid, scale), strict=True))
    if sum(abs(each) for each in micros.values()) > MICROS_MAX:
        raise InvoiceError(f"{path}: the amounts are impossibly large", fix="check the currency and the signs")
    return tuple(
        InvoiceLine(
            index + 1,
            draft.meter,
            draft.external_id,
            draft.sku,
            draft.description,
            draft.start_ms,
            draft.end_ms,
            draft.quantity,
            draft.unit,
            draft.unit_price,
            micros[index],
        )
        for index, draft in enumerate(reading.drafts)
    )


def _agreed_total(exact: Fraction, stated: Decimal | None, path: Path) -> Fraction:
    """The stated total, when it is the rounded sum of the lines; else the sum of the lines."""
    if stated is None:
        return exact
    if abs(exact - Fraction(stated)) > slack_of(stated):
        raise InvoiceError(
            f"{path}: the lines add up to {_decimals(exact)}, but the file states a total of {stated}",
            why="a line is missing, is there twice, or was read with a wrong sign",
            fix="export the whole file again, or correct the mapping",
        )
    return Fraction(stated)


def slack_of(stated: Decimal) -> Fraction:
    """The error bound of a stated amount: half a unit of its last place, from a micro-dollar to half a cent."""
    exponent = stated.as_tuple().exponent
    half = Fraction(1, 2) * Fraction(10) ** (exponent if isinstance(exponent, int) else 0)
    return min(max(half, _MICRO), _HALF_CENT)


def plus(amount: Decimal, more: Fraction) -> Decimal:
    """The exact sum of an amount and a difference of amounts."""
    with localcontext(prec=120):
        return amount + Decimal(more.numerator) / more.denominator


def _rounded_parts(amounts: Sequence[Fraction], total: Fraction, scale: Fraction) -> list[int]:
    """Micro-dollars for each amount that sum to `total`, rounded half to even."""
    exact = [amount * scale for amount in amounts]
    parts = [each.__floor__() for each in exact]
    left_over = round(sum(exact, Fraction())) - sum(parts)
    by_remainder = sorted(range(len(parts)), key=lambda index: (parts[index] - exact[index], index))
    for index in by_remainder[:left_over]:
        parts[index] += 1
    # A total that is stated in cents differs by less than one of them: each line bears its share of it.
    rest = round(total * scale) - sum(parts)
    if rest:
        weights = {(index,): abs(part) for index, part in enumerate(parts)}
        shares = split(rest, weights if any(weights.values()) else dict.fromkeys(weights, 1))
        parts = [part + shares[index,] for index, part in enumerate(parts)]
    return parts


def _decimals(amount: Fraction) -> str:
    return f"{Decimal(amount.numerator) / Decimal(amount.denominator):f}"

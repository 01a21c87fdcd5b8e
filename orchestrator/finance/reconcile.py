"""Reconciliation: compare the expected cost of rentals with the invoices, and give every difference a name.

Each side is summed by provider, id, meter and month. Every billed micro-dollar and every expected rental belongs to
exactly one finding. A difference within the tolerance counts as matched, and its amount is still shown. A bill for an
unknown rental is a leak. A rental without a bill is pending, and overdue once its invoice should have arrived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from catalog.rental import LOCAL
from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.records import Match

MATCHED: Final = "matched"
PRICE_VARIANCE: Final = "price variance"  # the same time, other money
QUANTITY_VARIANCE: Final = "quantity variance"  # other time
LINE_WITHOUT_RENTAL: Final = "line without rental"  # a leak: a person should look today
RENTAL_WITHOUT_LINE: Final = "rental without line"
FINDINGS: Final = (LINE_WITHOUT_RENTAL, RENTAL_WITHOUT_LINE, QUANTITY_VARIANCE, PRICE_VARIANCE, MATCHED)

OVERDUE_AFTER_MS: Final = 35 * 86_400_000  # a month's invoice, and some days to write it
TOLERANCE_MS: Final = 60_000  # providers count whole minutes
_INVOICES_NAMED: Final = 3
_WITHOUT_USAGE: Final = {
    Meter.CREDIT: "a credit: no rental is behind it",
    Meter.TAX: "a tax: no rental is behind it",
    Meter.TOPUP: "paid in advance: no expense",
}


class Expected(NamedTuple):
    """The expected bill of a rental for one meter in one month, as far as it is known."""

    provider: str
    external_id: str
    meter: str
    period: str
    ms: int
    usd_micros: int | None  # None: the price is unknown
    start_ms: int
    end_ms: int
    is_over: bool


class BilledAmount(NamedTuple):
    """The amount that a line of an invoice bills in one month."""

    provider: str
    external_id: str  # "" for a line of no rental
    meter: str
    period: str
    ms: int | None  # None: the line names no time
    usd_micros: int
    invoice: str
    line_id: str


class Tolerance(NamedTuple):
    """The difference that counts as none: the larger of an amount and a share of the expected amount."""

    usd_micros: int = 10_000
    share_ppm: int = 10_000  # parts per million: one per cent
    ms: int = TOLERANCE_MS

    def allows_money(self, expected: int, billed: int) -> bool:
        """True when two amounts count as equal."""
        return abs(billed - expected) <= max(self.usd_micros, abs(expected) * self.share_ppm // 1_000_000)

    def allows_time(self, expected_ms: int, billed_ms: int) -> bool:
        """True when two lengths of time count as equal."""
        return abs(billed_ms - expected_ms) <= max(self.ms, expected_ms * self.share_ppm // 1_000_000)


_Key = tuple[str, str, str, str]


def reconcile(
    expected: Sequence[Expected],
    billed: Sequence[BilledAmount],
    *,
    tolerance: Tolerance = Tolerance(),  # noqa: B008 - a value, not a state
    as_of_ms: int,
    overdue_after_ms: int = OVERDUE_AFTER_MS,
) -> list[Match]:
    """One finding for each provider, id, meter and month on either side; those that need a person come first."""
    rentals: dict[_Key, list[Expected]] = defaultdict(list)
    lines: dict[_Key, list[BilledAmount]] = defaultdict(list)
    for rental in expected:
        rentals[rental[:4]].append(rental)
    for line in billed:
        lines[line[:4]].append(line)
    known = {(rental.provider, rental.external_id) for rental in expected}
    found = []
    for key in sorted({*rentals, *lines}):
        if key not in lines:
            found.append(_unbilled(key, rentals[key], as_of_ms, overdue_after_ms))
        elif key not in rentals:
            found.append(_unexpected(key, lines[key], is_known=key[:2] in known))
        else:
            found.append(_compared(key, rentals[key], lines[key], tolerance))
    return sorted(found, key=lambda match: FINDINGS.index(match.finding))


def _compared(key: _Key, rentals: Sequence[Expected], lines: Sequence[BilledAmount], tolerance: Tolerance) -> Match:
    expected_ms, billed_ms = sum(rental.ms for rental in rentals), _sum(line.ms for line in lines)
    expected, billed = _sum(rental.usd_micros for rental in rentals), sum(line.usd_micros for line in lines)
    notes = []
    finding = MATCHED
    if expected is None:
        notes.append("the price is unknown: money was not compared")
    elif not tolerance.allows_money(expected, billed):
        finding = PRICE_VARIANCE
    elif expected != billed:
        notes.append("within tolerance")
    if billed_ms is None:
        notes.append("the bill names no time")
    elif not tolerance.allows_time(expected_ms, billed_ms):
        finding = QUANTITY_VARIANCE
    return Match(finding, *key, expected, billed, expected_ms, billed_ms, _note(notes, lines))


def _unexpected(key: _Key, lines: Sequence[BilledAmount], *, is_known: bool) -> Match:
    """A bill that nothing was expected for; `is_known` when the rental is known from another meter or month."""
    meter = key[2]
    billed, billed_ms = sum(line.usd_micros for line in lines), _sum(line.ms for line in lines)
    if meter in _WITHOUT_USAGE:
        return Match(MATCHED, *key, None, billed, None, billed_ms, _note([_WITHOUT_USAGE[Meter(meter)]], lines))
    if not is_known:
        words = "nobody knows this rental" if key[1] else "the line names no rental"
        return Match(LINE_WITHOUT_RENTAL, *key, None, billed, None, billed_ms, _note([words], lines))
    if meter == Meter.GPU:
        notes = ["the rental is known, but not for this month"]
        return Match(QUANTITY_VARIANCE, *key, 0, billed, 0, billed_ms, _note(notes, lines))
    return Match(MATCHED, *key, None, billed, None, billed_ms, _note(["not reckoned in advance"], lines))


def _unbilled(key: _Key, rentals: Sequence[Expected], as_of_ms: int, overdue_after_ms: int) -> Match:
    expected = _sum(rental.usd_micros for rental in rentals)
    if key[0] == LOCAL:
        note = "nobody has said whose machine it is"
    elif not all(rental.is_over for rental in rentals):
        note = "pending: it still runs"
    elif as_of_ms - max(rental.end_ms for rental in rentals) > overdue_after_ms:
        note = "overdue: its invoice should have come"
    else:
        note = "pending: no invoice yet"
    if expected is None:
        note += "; the price is unknown"
    return Match(RENTAL_WITHOUT_LINE, *key, expected, None, sum(rental.ms for rental in rentals), None, note)


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum; None when a part of it is unknown."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _note(notes: Sequence[str], lines: Sequence[BilledAmount]) -> str:
    invoices = list(dict.fromkeys(line.invoice for line in lines))
    named = ", ".join(invoices[:_INVOICES_NAMED])
    more = f" and {len(invoices) - _INVOICES_NAMED} more" if len(invoices) > _INVOICES_NAMED else ""
    return "; ".join((*notes, f"invoice {named}{more}"))

"""Finance records: the values that forecasts, budgets and reconciliation hand to the reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.finance.allocation.charges import ChargeKind


class Coverage(NamedTuple):
    """The billed share of a month, and the instant through which everything is known."""

    usd_micros: Mapping[ChargeKind, int]
    unpriced_ms: int
    complete_through_ms: int  # all time before it is on the books; at most the month's end

    @property
    def billed_share(self) -> float | None:
        """The part of the money that an invoice confirms; None without any money."""
        total = sum(self.usd_micros.values())
        return self.usd_micros.get(ChargeKind.BILLED, 0) / total if total else None


class BudgetLine(NamedTuple):
    """A budget beside the money spent and the money reserved by takes on their way."""

    scope: str  # month, catalog or run
    name: str
    budget_usd_micros: int
    actual_usd_micros: int


class Baseline(NamedTuple):
    """The cost of buying the kept tracks, at a dated price."""

    name: str  # sku of the price row
    source: str
    valid_from: str
    usd_micros_per_song: int
    songs_per_request: int
    tracks: int
    bought_usd_micros: int
    own_usd_micros: int  # fully loaded
    own_usd_micros_per_track: int | None
    break_even: Mapping[str, int | None]  # GPU and rate -> tracks an hour above which self-hosting is cheaper

    @property
    def saved_usd_micros(self) -> int:
        """The money saved by rendering; negative when buying would have been cheaper."""
        return self.bought_usd_micros - self.own_usd_micros


class Forecast(NamedTuple):
    """The cost of a catalog's next refresh, and the errors of earlier forecasts."""

    catalog: str
    tracks: int
    usd_micros: int | None
    low_usd_micros: int | None
    high_usd_micros: int | None
    runs: int  # finished runs it rests on
    confidence: str  # ok, few runs or low confidence
    past_error: float | None  # median of |forecast - actual| / actual over past runs


class Match(NamedTuple):
    """One finding of the reconciliation of invoices with rentals."""

    finding: str  # matched, price variance, quantity variance, line without rental, rental without line
    provider: str
    external_id: str
    meter: str
    period: str
    expected_usd_micros: int | None
    billed_usd_micros: int | None
    expected_ms: int | None
    billed_ms: int | None
    note: str

    @property
    def difference_usd_micros(self) -> int | None:
        """Billed over expected."""
        if self.expected_usd_micros is None or self.billed_usd_micros is None:
            return None
        return self.billed_usd_micros - self.expected_usd_micros


class InvoiceSummary(NamedTuple):
    """An invoice with lines in the month."""

    invoice_id: str
    provider: str
    number: str
    currency: str
    total_usd_micros: int  # without money paid in advance
    topup_usd_micros: int
    in_period_usd_micros: int  # booked in the month of the pack


class Statement(NamedTuple):
    """A prepaid account over the month: opening balance, top-ups, draw-down and closing balance."""

    provider: str
    opening_usd_micros: int
    topups_usd_micros: int
    drawn_usd_micros: int

    @property
    def closing_usd_micros(self) -> int:
        """The closing balance: opening + top-ups - draw-down."""
        return self.opening_usd_micros + self.topups_usd_micros - self.drawn_usd_micros


class PriceUsed(NamedTuple):
    """A rate that a figure of the month rests on."""

    sku: str
    market: str
    usd_micros_per_h: int | None
    source: str


class Extracted(NamedTuple):
    """One row of the ledger extract: an entry with all that it is known by."""

    entry_id: int
    posting_id: int
    posted_ms: int
    period: str
    applies_to: str
    kind: ChargeKind
    category: str
    catalog: str
    zone: str
    genre: str
    run_id: str
    provider: str
    gpu: str
    market: str
    rental_id: str
    usd_micros: int | None
    ms: int
    tracks: int
    attempts: int
    audio_ms: int
    source: str
    method: str
    reverses_id: int | None

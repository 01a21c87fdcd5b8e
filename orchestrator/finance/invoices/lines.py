"""Invoice lines: the content of an invoice in one form, the same for every provider's file.

The micro-dollars of the lines add up to the invoice's own total, which is rounded once. A provider bills in finer
fractions, so rounding each line by itself would lose money.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.finance.allocation.charges import Meter


class InvoiceLine(NamedTuple):
    """One line. Quantity and unit price stay the text that the provider wrote; empty where it wrote none."""

    number: int  # its place in the file, from 1
    meter: Meter
    external_id: str  # the provider's id of the rental; "" for a line of none
    sku: str
    description: str
    start_ms: int | None  # None with `end_ms`: as long as the rental was paid for within the invoice's period
    end_ms: int | None
    quantity: str
    unit: str
    unit_price: str
    usd_micros: int  # negative for a credit


class Invoice(NamedTuple):
    """One file. `start_ms` and `end_ms` are the period it bills, half-open."""

    provider: str
    number: str
    currency: str  # as billed; the lines are in USD
    usd_per_unit: str  # the price of a unit of `currency` in dollars; "1" for USD
    rate_source: str  # who says so; "" for USD
    start_ms: int
    end_ms: int
    file_name: str
    sha256: str
    text: str  # the file, whole
    lines: Sequence[InvoiceLine]

    @property
    def total_usd_micros(self) -> int:
        """The amount owed; money paid in advance is no expense and is left out."""
        return sum(line.usd_micros for line in self.lines if line.meter is not Meter.TOPUP)

    @property
    def topup_usd_micros(self) -> int:
        """The money paid in advance, as a positive amount."""
        return sum(line.usd_micros for line in self.lines if line.meter is Meter.TOPUP)

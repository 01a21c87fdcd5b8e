"""Charges and entries: an amount that a provider bills, and the rows that divide it in the books.

A charge is a line of an invoice, or an unbilled stretch of time at the price book's rate. Its entries say who pays
which part, and for what; they add up to the charge exactly, in micro-dollars as in milliseconds. A charge without a
known price has time and no dollars.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from orchestrator.ledger.observations import Category, CostObject


class Sharing(StrEnum):
    """The way of dividing shared costs among payers; every posting names it."""

    BUSY = "busy"  # by the time that engines worked for each
    EVEN = "even"  # the same for each that engines worked for
    NONE = "none"  # to no payer: it stays unallocated

    @property
    def method(self) -> str:
        """The method's name in books and files; a new way of computing needs a new name."""
        return "busy-ms.v1" if self is Sharing.BUSY else f"{self}.v1"


METHOD: Final = Sharing.BUSY.method  # unless the user chooses another


class ChargeKind(StrEnum):
    """The basis of an amount."""

    BILLED = "billed"  # a line of an invoice
    ESTIMATE = "estimate"  # the price book, until the bill comes
    WORK = "work"  # no money: the results of the time, attempts and kept tracks
    PROVISIONAL = "provisional"  # the same for a rental that still runs: not posted yet


class Meter(StrEnum):
    """The good or service that a line of an invoice bills."""

    GPU = "gpu"
    DISK = "disk"
    EGRESS = "egress"
    CREDIT = "credit"
    TAX = "tax"
    TOPUP = "topup"  # money paid in advance: cash, never an expense


# Lines without time, and their names in reports.
CATEGORY_OF_METER: Final = {
    Meter.DISK: Category.STORAGE,
    Meter.EGRESS: Category.EGRESS,
    Meter.CREDIT: Category.CREDIT,
    Meter.TAX: Category.TAX,
}


class CostGroup(StrEnum):
    """The columns of a report; every category belongs to exactly one."""

    DIRECT = "direct"
    WASTED = "wasted"
    IDLE = "idle"
    OVERHEAD = "overhead"
    ADJUSTMENT = "adjustment"


_GROUPS: Final = {
    Category.ACCEPTED: CostGroup.DIRECT,
    Category.REJECTED: CostGroup.WASTED,
    Category.FAILED: CostGroup.WASTED,
    Category.LOST: CostGroup.WASTED,
    Category.IDLE: CostGroup.IDLE,
    Category.CREDIT: CostGroup.ADJUSTMENT,
    Category.TAX: CostGroup.ADJUSTMENT,
}
WASTED: Final = tuple(category for category, group in _GROUPS.items() if group is CostGroup.WASTED)


def group_of(category: Category) -> CostGroup:
    """The column that shows a category; a category of no other column is overhead."""
    return _GROUPS.get(category, CostGroup.OVERHEAD)


class Rental(NamedTuple):
    """A rented machine. A rental without a name has its worker's id as name, at the provider "local"."""

    rental_id: str  # provider/external_id
    provider: str
    external_id: str  # the provider's own id
    gpu: str  # the driver's or the provider's name; "" while it is unknown
    gpu_count: int
    market: str  # on_demand or spot
    region: str
    account: str
    run_id: str | None  # who asked for it
    rate_usd_micros_per_h: int | None  # of one GPU, as agreed; None: the price book's
    billed_start_ms: int | None
    billed_end_ms: int | None


class Charge(NamedTuple):
    """An amount for one month of finance, to be divided among payers."""

    key: str  # its identity: the same charge computed again has the same key
    kind: ChargeKind
    meter: Meter
    rental_id: str | None  # None: a line of no rental that we know
    provider: str
    gpu: str
    market: str
    region: str
    sku: str
    applies_to: str  # YYYY-MM, in finance's time zone
    start_ms: int
    end_ms: int
    usd_micros: int | None  # None: the price is unknown
    rate_usd_micros_per_h: int | None  # of one GPU
    source: str  # the price row, or the invoice
    invoice_line_id: str | None

    @property
    def ms(self) -> int:
        """The length of its window."""
        return max(0, self.end_ms - self.start_ms)


class CostEntry(NamedTuple):
    """A part of a charge, with its payer and category. `usd_micros` is None where the price is unknown."""

    category: Category
    payer: CostObject
    usd_micros: int | None
    ms: int  # of the charge's time; 0 for disks, traffic and lines without usage
    tracks: int = 0  # accepted takes, each counted in one entry
    attempts: int = 0
    audio_ms: int = 0  # accepted


class Posting(NamedTuple):
    """A charge in the books, with its entries. A reversal is the same posting with every number negated."""

    posting_id: int  # 0: provisional
    period: str  # YYYY-MM it is booked in; later than `applies_to` when that month had been closed
    charge: Charge
    entries: tuple[CostEntry, ...]
    posted_ms: int
    reverses_id: int | None = None


class CostRow(NamedTuple):
    """The rows from which reports are made: sums of entries that agree in every column by which a report can group."""

    period: str
    applies_to: str
    kind: ChargeKind
    category: Category
    catalog: str
    zone: str
    genre: str
    run_id: str
    provider: str
    gpu: str
    market: str
    usd_micros: int
    unpriced_ms: int
    ms: int
    tracks: int
    attempts: int
    audio_ms: int

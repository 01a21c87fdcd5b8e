"""Contents: all figures of a pack, computed once before any file is written.

Every format takes its figures from here, so workbook, page, extract and manifest cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.finance.allocation.charges import CostRow
from orchestrator.finance.records import (
    Baseline,
    BudgetLine,
    Coverage,
    Extracted,
    Forecast,
    InvoiceSummary,
    Match,
    PriceUsed,
    Statement,
)


@dataclass(frozen=True, slots=True)
class Contents:
    """The month."""

    period: str  # YYYY-MM
    start_ms: int
    end_ms: int
    time_zone: str
    state: str  # open or closed
    closed_ms: int | None
    closed_by: str
    method: str
    code: str  # version of the program
    high_water_id: int  # of the last entry that is counted
    rows: Sequence[CostRow]  # of the month, provisional ones included
    trend: Sequence[CostRow]  # of the twelve months up to it, by kind and category alone (the other cuts are empty)
    coverage: Coverage
    budgets: Sequence[BudgetLine]
    baseline: Baseline | None
    forecasts: Sequence[Forecast]
    matches: Sequence[Match]
    invoices: Sequence[InvoiceSummary]
    statements: Sequence[Statement]
    prices: Sequence[PriceUsed]
    notes: Sequence[str]  # warnings for the reader: unknown prices, provisional figures
    extract: Callable[[], Iterator[Extracted]]  # streamed: there may be millions

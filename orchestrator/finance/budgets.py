"""Budgets: the limits on spending in a month, on a catalog or by a run. The newest statement about each one counts."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class BudgetScope(StrEnum):
    """The object of a budget: a month, a catalog or a run."""

    MONTH = "month"  # everything in a month
    CATALOG = "catalog"  # one catalog in a month
    RUN = "run"


class Budget(NamedTuple):
    """A budget in force."""

    scope: BudgetScope
    name: str  # of the catalog or run; "" for a month
    period: str  # YYYY-MM; "" for every month that has none of its own
    usd_micros: int

    @property
    def words(self) -> str:
        """The object of the budget, in words for people."""
        month = f" in {self.period}" if self.period else ("" if self.scope is BudgetScope.RUN else " in any month")
        return f"everything{month}" if self.scope is BudgetScope.MONTH else f"{self.scope} {self.name}{month}"


def in_force(budgets: Iterable[Budget], *, period: str) -> list[Budget]:
    """The budgets that count in a month: one for each scope and name, the month's own before that of every month."""
    chosen: dict[tuple[BudgetScope, str], Budget] = {}
    for budget in sorted(budgets, key=lambda each: each.period):
        if budget.period in ("", period):
            chosen[budget.scope, budget.name] = budget
    return [chosen[key] for key in sorted(chosen)]


class BudgetLeft(NamedTuple):
    """A budget, and the rest of it."""

    budget: Budget
    spent_usd_micros: int  # posted, and the cost of running work that is not posted yet

    @property
    def usd_micros(self) -> int:
        """Micro-dollars until it is reached; negative beyond."""
        return self.budget.usd_micros - self.spent_usd_micros

"""The feed: sends waiting takes to their queues, in a window ahead of the workers and within the budget.

Each queue of a run has a window of its own, so takes that no worker can serve do not delay the others. The window
follows the number of takes that the queue's workers can hold, so a large planner call never waits for the feed. For a
run with a cap or a budget, the feed sends takes only while the money spent, the takes on their way and the next takes
stay below the cap or budget together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection

from catalog.errors import BrokerError, BudgetError, PriceError, StoreFullError, TunemillError
from orchestrator.control.broker import Broker
from orchestrator.finance.books import budgets
from orchestrator.finance.books.budgets import Spending
from orchestrator.finance.budgets import BudgetLeft, BudgetScope
from orchestrator.finance.money import MICROS_PER_USD, dollars
from orchestrator.ledger import Ledger, RunRow, readings, work

WINDOW_MAX: Final = 10_000  # one statement names all that is on its way, and SQLite allows 32,766 names in one


class Fed(NamedTuple):
    """The result of feeding one run once."""

    sent: int
    refused: TunemillError | None = None  # why nothing more is sent although takes wait


def window_of(least: int, holds_max: Iterable[int]) -> int:
    """The limit of a queue's takes on their way: twice what its workers hold, so as many wait as are held."""
    return min(WINDOW_MAX, max(least, 2 * sum(holds_max)))


WindowFor = Callable[[RunRow, str], int]  # (run, queue) -> takes of the run that may be on their way there


def feed(
    ledger: Ledger,
    broker: Broker,
    runs: Sequence[RunRow],
    *,
    window_for: WindowFor,
    at_ms: int,
    spending: Spending,
) -> dict[str, Fed]:
    """Send the takes for which each queue's window has room. After a BrokerError, the takes wait again."""
    fed = {}
    limits = _SpendingLimits(spending, at_ms)
    for run in runs:
        with ledger.write() as connection:
            outgoing, refused = _next_takes(connection, run, window_for, limits)
        if outgoing:
            _publish(ledger, broker, outgoing)
        fed[run.run_id] = Fed(len(outgoing), refused)
    return fed


def _next_takes(
    connection: Connection, run: RunRow, window_for: WindowFor, limits: _SpendingLimits
) -> tuple[list[work.Outgoing], TunemillError | None]:
    """Mark the takes that have room as sent; if none has although takes wait, give the reason."""
    if not work.is_fed(connection, run.run_id):
        return [], None
    sent = work.count_sent_by_queue(connection, run.run_id)
    room = {queue: window_for(run, queue) - sent.get(queue, 0) for queue in work.waiting_queues(connection, run.run_id)}
    if not any(free > 0 for free in room.values()):
        return [], None
    left, refused = limits.affordable(connection, run, sum(sent.values()))
    outgoing: list[work.Outgoing] = []
    for queue, free in room.items():
        limit = free if left is None else min(free, left - len(outgoing))
        if limit > 0:
            outgoing += work.mark_next_sent(connection, run.run_id, queue, limit, limits.at_ms)
    limits.spending.reserve(run, len(outgoing))
    return outgoing, refused


def _publish(ledger: Ledger, broker: Broker, outgoing: list[work.Outgoing]) -> None:
    try:
        broker.send(outgoing)
    except (BrokerError, StoreFullError):
        # Some may have been published: a take that is sent twice is rendered once, the second time it is found.
        with ledger.write() as connection:
            work.put_back(connection, [each.message.take.id for each in outgoing])
        raise


class _SpendingLimit(NamedTuple):
    """A cap or a budget that a run must stay within."""

    left_usd_micros: int  # without the money reserved by takes on their way
    unsummed_usd_micros: int  # the money that may have been spent since its sum was read
    over: BudgetError

    @property
    def sure_usd_micros(self) -> int:
        """The money that is certainly left, in millionths of a dollar."""
        return self.left_usd_micros - self.unsummed_usd_micros


class _SpendingLimits:
    """The caps and budgets of one feeding; nothing is recorded meanwhile, so a run's price per take is read once."""

    def __init__(self, spending: Spending, at_ms: int) -> None:
        self.spending, self.at_ms = spending, at_ms
        self._take_usd_micros: dict[str, int] = {}  # by run

    def affordable(
        self, connection: Connection, run: RunRow, on_the_way: int
    ) -> tuple[int | None, TunemillError | None]:
        """The number of takes that the run's cap and budgets still pay for, and the reason when that number is 0.

        The number is None when the run has neither cap nor budget. The reason is None when the number is 0 only because
        money may have been spent since a sum was read; the next sum decides.
        """
        lefts, unpriced = budgets.lefts_for(connection, run.catalog, run, at_ms=self.at_ms, spending=self.spending)
        spend = readings.spend_of_run(connection, run) if run.max_usd_micros is not None else None
        if not lefts and spend is None:
            return None, None
        if gpus := sorted({*unpriced, *(spend.unpriced if spend else ())}):
            return 0, _unpriced(run, gpus)
        price = self._price(connection, run)
        limits = [self._limit_of(connection, run, left, on_the_way) for left in lefts]
        if spend is not None:
            left_usd_micros = (run.max_usd_micros or 0) - spend.usd_micros - on_the_way * price
            limits.append(_SpendingLimit(left_usd_micros, 0, _over(run, spend)))
        affordable = min(each.sure_usd_micros for each in limits) // max(1, price)
        if affordable > 0:
            return affordable, None
        least = min(limits, key=lambda each: each.left_usd_micros)
        return 0, least.over if least.left_usd_micros < max(1, price) else None

    def _limit_of(self, connection: Connection, run: RunRow, left: BudgetLeft, on_the_way: int) -> _SpendingLimit:
        if left.budget.scope is BudgetScope.RUN:  # its sum is read each time
            reserved = on_the_way * self._price(connection, run)
            return _SpendingLimit(left.usd_micros - reserved, 0, _over_budget(run, left, reserved))
        is_month = left.budget.scope is BudgetScope.MONTH
        reserved = ended = 0
        for each in self.spending.reserved(connection):
            if is_month or left.budget.name == each.run.catalog:
                price = self._price(connection, each.run) or self._price(connection, run)
                reserved, ended = reserved + each.sent * price, ended + each.ended * price
        # The month's sum has what takes on their way had cost until then, a catalog's only what those that had ended.
        since = self.spending.since_usd_micros
        unsummed = max(ended, since) if is_month else ended + since
        return _SpendingLimit(left.usd_micros - reserved, unsummed, _over_budget(run, left, reserved))

    def _price(self, connection: Connection, run: RunRow) -> int:
        """The expected cost of the next take: as measured in its run, else as estimated, else 0."""
        if run.run_id not in self._take_usd_micros:
            measured = readings.attempt_cost_of_run(connection, run)
            self._take_usd_micros[run.run_id] = measured if measured is not None else run.take_usd_micros or 0
        return self._take_usd_micros[run.run_id]


def _over(run: RunRow, spend: readings.Spend) -> BudgetError:
    cap = (run.max_usd_micros or 0) / MICROS_PER_USD
    return BudgetError(
        f"the run of {run.catalog!r} has reached its cap of ${cap:,.6f}",
        why=f"${spend.usd_micros / MICROS_PER_USD:,.6f} are spent, and the next take would pass the cap",
        fix="run the same command with a higher --max-usd; the run continues where it stopped",
    )


def _over_budget(run: RunRow, left: BudgetLeft, reserved: int) -> BudgetError:
    budget = left.budget
    return BudgetError(
        f"the budget of ${dollars(budget.usd_micros)} for {budget.words} is reached",
        why=f"${dollars(left.spent_usd_micros)} are spent, ${dollars(reserved)} are reserved by takes on their way, "
        f"and the next take of {run.catalog!r} would pass it",
        fix="raise the budget with `tunemill costs budgets set`; the run continues where it stopped",
    )


def _unpriced(run: RunRow, gpus: Sequence[str]) -> PriceError:
    return PriceError(
        f"no price for {', '.join(gpus)}, on which {run.catalog!r} is rendered",
        why="the run has a cap or a budget, and an unknown price is never taken for zero",
        fix="add a price with `tunemill costs prices add`, or set TUNEMILL_GPU to a GPU of the price book; then run "
        "again",
    )

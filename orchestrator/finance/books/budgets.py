"""Budgets: the money spent of each, from postings and from the time of workers that is not posted yet.

The sum is a guard and not a bill. Time that is not posted is priced as it will be posted, from the windows and rates of
rentals, and divided among catalogs by their engine time. A rental that has made nothing yet counts in full for every
catalog with a budget.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, Float, case, cast, func, select

from orchestrator.finance.allocation.posting import draft_rental
from orchestrator.finance.books import rentals as rental_facts
from orchestrator.finance.budgets import Budget, BudgetLeft, BudgetScope, in_force
from orchestrator.finance.months import bounds_of, month_of
from orchestrator.ledger import readings, work
from orchestrator.ledger.machines import PriceOf, WorkerPrice
from orchestrator.ledger.observations import MS_PER_H, Machine
from orchestrator.ledger.tables import ATTEMPT, BUDGET, COST_MONTHLY, POSTING, RENTAL, STANDING, TAKE, WORKER, RunRow

COSTLY_S: Final = 0.05  # an answer that took less is asked for anew each time
PAUSE_OF_COST: Final = 20  # times as long as it took, it serves


class Spent(NamedTuple):
    """Money of a month so far. `unpriced` names GPUs without a price: then `usd_micros` is too low."""

    usd_micros: int
    by_catalog: Counter[str]
    unpriced: tuple[str, ...]


def no_price(machine: Machine, at_ms: int) -> WorkerPrice | None:
    """No price for any machine: only the prices that workers recorded at their start count."""
    return None


class Reserved(NamedTuple):
    """Takes of a run that the sum of a month may lack."""

    run: RunRow
    sent: int  # on their way now
    ended: int  # on their way at some time since the sum was read, and no more


class Spending:
    """The spending of a month, for a caller that asks several times a second.

    Computing the sum takes long when much is not posted yet. Then the last sum is used for a while, so that reading
    never takes more than a small part of the time. Money that may have been spent since the sum was read is counted
    apart: takes that have ended stay reserved, and the time of all workers counts in full. So, until the sum is read
    again, a budget may seem to be used up too early, but never too late.
    """

    def __init__(
        self, time_zone: str, price_of: PriceOf = no_price, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.time_zone, self._price_of, self._clock = time_zone, price_of, clock
        self._period = ""
        self._spent = Spent(0, Counter(), ())
        self._read_s = self._took_s = 0.0
        self._workers = _WorkersCost(0.0, 0)  # when the sum was read
        self._runs: dict[str, RunRow] = {}
        self._takes: Counter[str] = Counter()  # by run: on their way when the sum was read, or sent since
        self.since_usd_micros = 0  # the cost of workers since the sum was read

    def read(self, connection: Connection, period: str) -> Spent:
        """The month's money, as of now or of some moments ago."""
        began_s, workers = self._clock(), _workers_cost(connection)
        serves = self._took_s > COSTLY_S and began_s - self._read_s <= PAUSE_OF_COST * self._took_s
        # The cost of a worker without a price since then is unknown.
        if period != self._period or not serves or workers.unpriced > self._workers.unpriced:
            runs = work.active_runs(connection)
            self._runs = {run.run_id: run for run in runs}
            self._takes = Counter(work.count_sent(connection, list(self._runs)))
            self._spent = spent_in(connection, period, self.time_zone, self._price_of)
            self._period, self._workers, self._read_s = period, workers, self._clock()
            self._took_s = self._read_s - began_s
        self.since_usd_micros = max(0, math.ceil(workers.usd_micros - self._workers.usd_micros))
        return self._spent

    def reserve(self, run: RunRow, takes: int) -> None:
        """Note that so many more takes of a run are on their way."""
        self._runs.setdefault(run.run_id, run)
        self._takes[run.run_id] += takes

    def reserved(self, connection: Connection) -> list[Reserved]:
        """The takes of every run that the sum may lack."""
        runs = self._runs | {run.run_id: run for run in work.active_runs(connection)}
        sent = work.count_sent(connection, list(runs))
        found = [Reserved(run, sent[each], max(0, self._takes[each] - sent[each])) for each, run in runs.items()]
        return [each for each in found if each.sent or each.ended]


class _WorkersCost(NamedTuple):
    """The cost so far of all workers' lives, without those whose GPU has no price, and the number of these."""

    usd_micros: float
    unpriced: int


def _workers_cost(connection: Connection) -> _WorkersCost:
    lived_ms = func.coalesce(WORKER.c.ended_at_ms, WORKER.c.last_seen_ms) - WORKER.c.started_at_ms
    usd_micros = func.sum(cast(WORKER.c.rate_usd_micros_per_h, Float) / MS_PER_H * lived_ms)
    is_unpriced = WORKER.c.rate_usd_micros_per_h.is_(None) & (WORKER.c.gpu != "")
    row = connection.execute(select(usd_micros, func.sum(case((is_unpriced, 1), else_=0)))).one()
    return _WorkersCost(float(row[0] or 0), int(row[1] or 0))


def write_budget(
    connection: Connection, scope: BudgetScope, name: str, period: str, usd_micros: int | None, at_ms: int
) -> None:
    """Set a budget; None ends it. Earlier values stay on record."""
    connection.execute(
        BUDGET.insert().values(scope=scope, name=name, period=period, usd_micros=usd_micros, set_ms=at_ms)
    )


def read_budgets(connection: Connection) -> list[Budget]:
    """The budgets as last set."""
    newest: dict[tuple[str, str, str], int | None] = {}
    for row in connection.execute(select(BUDGET).order_by(BUDGET.c.budget_id)):
        newest[row.scope, row.name, row.period] = row.usd_micros
    return [
        Budget(BudgetScope(scope), name, period, usd_micros)
        for (scope, name, period), usd_micros in sorted(newest.items())
        if usd_micros is not None
    ]


def lefts_for(
    connection: Connection, catalog: str, run: RunRow | None, *, at_ms: int, spending: Spending
) -> tuple[list[BudgetLeft], tuple[str, ...]]:
    """The rest of each budget that a run of `catalog` uses now, and the GPUs whose price is unknown."""
    period = month_of(at_ms, spending.time_zone)
    chosen = [
        budget
        for budget in in_force(read_budgets(connection), period=period)
        if (budget.scope is BudgetScope.MONTH)
        or (budget.scope is BudgetScope.CATALOG and budget.name == catalog)
        or (budget.scope is BudgetScope.RUN and run is not None and budget.name == run.run_id)
    ]
    if not chosen:
        return [], ()
    spent = spending.read(connection, period)
    return [BudgetLeft(budget, _spent_of(connection, budget, spent, run)) for budget in chosen], spent.unpriced


def read_lefts(connection: Connection, *, period: str, time_zone: str) -> list[BudgetLeft]:
    """The rest of every budget that applies to a month."""
    budgets = in_force(read_budgets(connection), period=period)
    spent = spent_in(connection, period, time_zone) if budgets else Spent(0, Counter(), ())
    lefts = []
    for budget in budgets:
        run = None
        if budget.scope is BudgetScope.RUN and readings.find_run_ids(connection, budget.name):
            run = readings.get_run(connection, budget.name)
        lefts.append(BudgetLeft(budget, _spent_of(connection, budget, spent, run)))
    return lefts


def _spent_of(connection: Connection, budget: Budget, spent: Spent, run: RunRow | None) -> int:
    if budget.scope is BudgetScope.MONTH:
        return spent.usd_micros
    if budget.scope is BudgetScope.CATALOG:
        return spent.by_catalog[budget.name]
    return readings.spend_of_run(connection, run).usd_micros if run is not None else 0


def spent_in(connection: Connection, period: str, time_zone: str, price_of: PriceOf = no_price) -> Spent:
    """The spending of a month, posted or not. `price_of` knows prices that came late."""
    posted = (
        select(COST_MONTHLY.c.catalog, func.sum(COST_MONTHLY.c.usd_micros))
        .where(COST_MONTHLY.c.applies_to == period)
        .group_by(COST_MONTHLY.c.catalog)
    )
    by_catalog = Counter({row[0]: int(row[1]) for row in connection.execute(posted)})
    total = by_catalog.total()
    unposted, unpriced = _unposted(connection, period, time_zone, price_of)
    shares = _engine_time(connection, list(unposted), *bounds_of(period, time_zone))
    for rental_id, usd_micros in unposted.items():
        total += usd_micros
        share = shares[rental_id]
        whole = sum(share.values())
        for catalog in share or _all_catalogs(connection):
            by_catalog[catalog] += -(-usd_micros * share[catalog] // whole) if whole else usd_micros
    return Spent(total, by_catalog, unpriced)


def _unposted(
    connection: Connection, period: str, time_zone: str, price_of: PriceOf
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Micro-dollars by rental of a month that the books lack yet, and GPUs without a price."""
    bounds = bounds_of(period, time_zone)
    unsettled = RENTAL.c.settled.is_(False)
    stands = (
        select(STANDING.c.rental_id, func.sum(POSTING.c.usd_micros))
        .join(POSTING, POSTING.c.posting_id == STANDING.c.posting_id)
        .join(RENTAL, RENTAL.c.rental_id == STANDING.c.rental_id)
        .where(POSTING.c.applies_to == period, unsettled)
        .group_by(STANDING.c.rental_id)
    )
    posted = {row[0]: int(row[1] or 0) for row in connection.execute(stands)}
    found: dict[str, int] = {}
    unpriced: set[str] = set()
    for facts in rental_facts.read_windows(connection, *bounds, price_of, unsettled, with_lines=True):
        charges = [each.charge for each in draft_rental(facts, time_zone) if each.charge.applies_to == period]
        if any(charge.usd_micros is None for charge in charges):
            unpriced.update({facts.rental.gpu} - {""})
        due = sum(charge.usd_micros or 0 for charge in charges)
        found[facts.rental.rental_id] = max(0, due - posted.get(facts.rental.rental_id, 0))
    return found, tuple(sorted(unpriced))


def _engine_time(
    connection: Connection, rental_ids: Sequence[str], start_ms: int, end_ms: int
) -> defaultdict[str, Counter[str]]:
    """Engine milliseconds by rental and catalog, of attempts in a stretch of time."""
    engine_ms = ATTEMPT.c.plan_ms + ATTEMPT.c.encode_ms + ATTEMPT.c.diffuse_ms + ATTEMPT.c.decode_ms
    shares: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for at in range(0, len(rental_ids), 500):
        query = (
            select(WORKER.c.rental_id, TAKE.c.catalog, func.sum(engine_ms))
            .join(ATTEMPT, ATTEMPT.c.worker_id == WORKER.c.worker_id)
            .join(TAKE, TAKE.c.take_id == ATTEMPT.c.take_id)
            .where(WORKER.c.rental_id.in_(rental_ids[at : at + 500]), ATTEMPT.c.at_ms.between(start_ms, end_ms))
            .group_by(WORKER.c.rental_id, TAKE.c.catalog)
        )
        for rental_id, catalog, ms in connection.execute(query):
            shares[rental_id][catalog] += int(ms or 0)
    return shares


def _all_catalogs(connection: Connection) -> list[str]:
    return [budget.name for budget in read_budgets(connection) if budget.scope is BudgetScope.CATALOG]

"""Budgets that bite: a running dispatch stops at them, says so, and goes on when one is raised."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from catalog.errors import BudgetError, PriceError
from catalog.messages import Span, SpansClosed
from orchestrator.finance.books import budgets
from orchestrator.finance.books.books import update_books
from orchestrator.finance.budgets import Budget, BudgetScope, in_force
from orchestrator.finance.months import month_of, next_month
from orchestrator.ledger.tables import WORKER
from tests.contract.test_controller import START_MS, Farm
from tests.support.farm import DOLLAR_AN_HOUR, attempt, started, takes

NOW = month_of(START_MS, "UTC")
HOUR_MS = 3_600_000


def set_budget(farm, scope, usd_micros, name="", period=""):
    with farm.ledger.write() as connection:
        budgets.write_budget(connection, BudgetScope(scope), name, period, usd_micros, START_MS)


def spent(farm, period=NOW):
    with farm.ledger.read() as connection:
        return budgets.spent_in(connection, period, "UTC")


def an_hour_of_work(farm, worker_id="w1", catalog_takes=()):
    """A worker that has run for an hour, at a dollar, and made these takes."""
    worked = SpansClosed(
        worker_id=worker_id,
        spans=[Span(state="render", start_ms=START_MS, end_ms=START_MS + HOUR_MS, batch_id="b")],
        at_ms=START_MS + HOUR_MS,
    )
    made = [attempt(take, run_id=farm.run_id, worker_id=worker_id, at_ms=START_MS + 5) for take in catalog_takes]
    return [started(worker_id, at_ms=START_MS, started_at_ms=START_MS), *made, worked]


@pytest.mark.parametrize(
    ("scope", "name"), [("month", ""), ("catalog", "spring"), ("run", None)], ids=["month", "catalog", "run"]
)
def test_a_dispatch_stops_at_a_budget_and_goes_on_when_it_is_raised(scope, name):
    farm = Farm(takes(10), take_usd_micros=400_000)
    name = farm.run_id if name is None else name
    set_budget(farm, scope, 1_000_000, name)
    assert farm.step().sent == 2  # a third would pass it
    assert farm.step().sent == 0  # the two are reserved for
    made = [attempt(take, run_id=farm.run_id) for take in farm.received()]
    step = farm.step(*an_hour_of_work(farm), *made)
    assert step.sent == 0  # the hour has cost a dollar
    refusal = step.refused[farm.run_id]
    assert isinstance(refusal, BudgetError)
    assert "budget of $1.00" in refusal.what
    assert farm.counts.waiting == 8
    set_budget(farm, scope, 100_000_000, name)
    assert farm.step().sent == 8


def test_budgets_of_other_catalogs_runs_and_months_do_not_bite():
    farm = Farm(takes(3), take_usd_micros=400_000)
    set_budget(farm, "catalog", 1, "autumn")
    set_budget(farm, "run", 1, "another")
    set_budget(farm, "month", 1, period=next_month(NOW))
    assert farm.step().sent == 3


def test_the_months_own_budget_goes_before_that_of_every_month():
    every, own = Budget(BudgetScope.MONTH, "", "", 5), Budget(BudgetScope.MONTH, "", NOW, 9)
    assert in_force([own, every], period=NOW) == [own]
    assert in_force([own, every], period=next_month(NOW)) == [every]


def test_a_budget_with_a_gpu_of_unknown_price_is_an_error_and_not_free():
    farm = Farm(takes(3), take_usd_micros=1, price=False)
    set_budget(farm, "month", 1_000_000)
    farm.controller.feeding = False
    farm.step(*an_hour_of_work(farm))
    farm.controller.feeding = True
    assert isinstance(farm.step().refused[farm.run_id], PriceError)


def test_what_is_spent_is_the_same_before_and_after_it_is_posted():
    farm = Farm(takes(4))
    farm.step()
    farm.step(*an_hour_of_work(farm, catalog_takes=farm.plan[:2]))
    before = spent(farm)
    assert (before.usd_micros, before.by_catalog["spring"]) == (1_000_000, 1_000_000)
    with farm.ledger.write() as connection:
        connection.execute(update(WORKER).values(ended_at_ms=START_MS + HOUR_MS))
    update_books(
        farm.ledger, time_zone="UTC", price_of=lambda machine, at_ms: DOLLAR_AN_HOUR, at_ms=START_MS + 2 * HOUR_MS
    )
    assert spent(farm) == before


def test_an_ended_budget_bites_no_more():
    farm = Farm(takes(3), take_usd_micros=400_000)
    set_budget(farm, "month", 1)
    assert farm.step().sent == 0
    set_budget(farm, "month", None)
    assert farm.step().sent == 3

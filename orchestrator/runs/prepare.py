"""Launching: from a catalog's name to a run in the ledger, with everything checked before money is spent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from catalog.errors import PriceError
from catalog.messages import now_ms
from catalog.settings import Settings
from catalog.store import open_store
from orchestrator.control.broker import Queues
from orchestrator.finance.books import budgets
from orchestrator.finance.books.budgets import Spending
from orchestrator.finance.budgets import Left
from orchestrator.finance.money import parse_usd
from orchestrator.finance.prices.book import PriceBook, find_prices_folder, get_price, price_for_gpu, read_price_book
from orchestrator.ledger import BegunRun, Ledger, RunRow, readings
from orchestrator.ledger.wishes import refuse_unless_going_on
from orchestrator.matrix import LoadedCatalog, load_catalog
from orchestrator.planning.estimate import NO_HISTORY, Estimate, default_gpu, estimate
from orchestrator.planning.history import read_history
from orchestrator.planning.models import find_lack, find_replaced_music, resolve_model
from orchestrator.planning.plan import Plan, make_plan


class RunOptions(NamedTuple):
    """What the command line asks for."""

    catalog: str
    presets: Path | None = None
    model: str | None = None
    gpu: str | None = None
    max_usd: str | None = None
    attended: bool = False  # a person looks on
    always_able: bool = False  # what this machine lacks is an error even when there is nothing to render


class Prepared(NamedTuple):
    """A plan that may go ahead."""

    plan: Plan
    book: PriceBook
    estimate: Estimate | None  # None: no price for the GPU is known, and no cap asks for one
    max_usd_micros: int | None
    notes: tuple[str, ...]

    @property
    def take_usd_micros(self) -> int | None:
        """What one take should cost, rounded up."""
        if self.estimate is None or not self.estimate.takes:
            return None
        return -(-self.estimate.usd_micros // self.estimate.takes)


def prepare(wish: RunOptions, ledger: Ledger | None, settings: Settings) -> Prepared:
    """Plan and estimate; `ledger` is None while there is none.

    Raises PresetError, UnknownNameError, ModelError, PausedError, PriceError or BudgetError before anything is written.
    """
    cap = wish.max_usd or settings.max_usd
    max_usd_micros = parse_usd(cap, name="--max-usd" if wish.max_usd else "TUNEMILL_MAX_USD") if cap else None
    loaded = load_catalog(wish.catalog, wish.presets, settings)
    known = ledger.known_models(loaded.name) if ledger else ()
    choice = resolve_model(loaded.model, wish.model, settings, known=known, attended=wish.attended)
    plan = plan_against(loaded, ledger, model=choice.model)
    unfinished = ledger.unfinished_run(plan.catalog) if ledger else None
    if unfinished is not None:
        refuse_unless_going_on(unfinished)
    if (plan.to_render or wish.always_able) and (lack := find_lack(choice.model, settings)):
        raise lack
    if refusal := find_replaced_music(plan.catalog, plan.model, plan.changes.leaving):
        raise refusal
    notes = [choice.warning] if choice.warning and plan.to_render else []
    book = read_price_book(find_prices_folder(None, settings.prices))
    lefts = read_lefts(plan.catalog, unfinished, ledger, settings.finance_tz)
    result = None
    try:
        gpu = default_gpu(choice.model, wish.gpu, settings)
        result = estimate_on(gpu, plan, ledger, book).within(
            max_usd_micros, spent_usd_micros=_spent(unfinished, ledger)
        )
        within_budgets(result, lefts)
    except PriceError as error:
        if wish.gpu or max_usd_micros is not None or lefts:
            raise
        notes.append(f"the cost is unknown: {error.what} ({error.fix})")
    return Prepared(plan, book, result, max_usd_micros, tuple(notes))


def plan_against(catalog: LoadedCatalog, ledger: Ledger | None, *, model: str) -> Plan:
    """The plan of `catalog`, held against what `ledger` has of it; None is a ledger that has nothing."""
    if ledger is None:
        return make_plan(catalog, {}, model=model)
    return make_plan(catalog, ledger.known_takes(catalog.name), ledger.shelved_takes(catalog.name), model=model)


def estimate_on(gpu: str, plan: Plan, ledger: Ledger | None, book: PriceBook) -> Estimate:
    """What `plan` will take on `gpu`, as far as `ledger` has measured it there. Raises PriceError without a price."""
    price = get_price(gpu, now_ms(), book)

    def same_gpu(name: str, sku: str | None) -> bool:
        found = price_for_gpu(name, now_ms(), book)
        return price.sku in (sku, found.sku if found else None)

    history = read_history(ledger.engine, model=plan.model, same_gpu=same_gpu) if ledger else NO_HISTORY
    return estimate(plan, price=price, history=history)


def begin(prepared: Prepared, ledger: Ledger, settings: Settings) -> BegunRun:
    """Write the plan down as a run, or go on with the one that is unfinished.

    Raises BrokerError while there is no broker, and StoreError when this machine is to render and cannot store.
    """
    if settings.broker_url is not None:
        Queues(settings.broker_url).check()
    elif prepared.plan.to_render:
        open_store(settings.store, s3_endpoint_url=settings.s3_endpoint_url).check()
    plan = prepared.plan
    return ledger.begin_or_resume_run(
        plan.catalog, plan.model, plan.takes(), prepared.max_usd_micros, prepared.take_usd_micros
    )


def read_lefts(catalog: str, unfinished: RunRow | None, ledger: Ledger | None, time_zone: str) -> list[Left]:
    """What is left of each budget that a run of `catalog` draws on this month; an unknown price is an error then."""
    if ledger is None:
        return []
    with ledger.read() as connection:
        spending = Spending(time_zone)
        return budgets.lefts_for(connection, catalog, unfinished, at_ms=now_ms(), spending=spending)[0]


def within_budgets(result: Estimate, lefts: Iterable[Left]) -> None:
    """Raise BudgetError when an estimate does not fit what is left of a budget."""
    for left in lefts if result.takes else ():
        result.within(
            left.budget.usd_micros,
            spent_usd_micros=left.spent_usd_micros,
            cap=f"the budget for {left.budget.words}",
            fix="raise it with `tunemill costs budgets set`",
        )


def _spent(unfinished: RunRow | None, ledger: Ledger | None) -> int:
    """Micro-dollars that the catalog's unfinished run has cost already; its cap counts them."""
    if ledger is None or unfinished is None:
        return 0
    with ledger.read() as connection:
        return readings.spend_of_run(connection, unfinished).usd_micros

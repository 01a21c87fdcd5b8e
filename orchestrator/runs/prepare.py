"""Preparing a run: from a catalog's name to a run in the ledger, with every check made before money is spent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from catalog.errors import PriceError
from catalog.messages import now_ms
from catalog.settings import Settings
from catalog.store import open_configured_store
from orchestrator.control.broker import Queues
from orchestrator.finance.books import budgets
from orchestrator.finance.books.budgets import Spending
from orchestrator.finance.budgets import BudgetLeft
from orchestrator.finance.money import parse_usd
from orchestrator.finance.prices.book import PriceBook, find_prices_folder, get_price, price_for_gpu, read_price_book
from orchestrator.ledger import BegunRun, Ledger, RunRow, readings
from orchestrator.ledger.run_control import refuse_unless_going_on
from orchestrator.matrix import LoadedCatalog, load_catalog
from orchestrator.planning.estimate import NO_HISTORY, Estimate, default_gpu, estimate
from orchestrator.planning.history import read_history
from orchestrator.planning.models import find_missing_weights, find_replaced_music, resolve_model
from orchestrator.planning.plan import CatalogPlan, make_plan


class RunOptions(NamedTuple):
    """The options of the command line."""

    catalog: str
    presets: Path | None = None
    model: str | None = None
    gpu: str | None = None
    max_usd: str | None = None
    attended: bool = False  # a person reads the terminal
    check_machine: bool = False  # refuse a machine that cannot render, even when nothing is to be rendered


class Prepared(NamedTuple):
    """A plan that passed every check."""

    plan: CatalogPlan
    book: PriceBook
    estimate: Estimate | None  # None: no price for the GPU is known, and no cap asks for one
    max_usd_micros: int | None
    notes: tuple[str, ...]

    @property
    def take_usd_micros(self) -> int | None:
        """The estimated cost of one take, rounded up."""
        if self.estimate is None or not self.estimate.takes:
            return None
        return -(-self.estimate.usd_micros // self.estimate.takes)


def prepare(options: RunOptions, ledger: Ledger | None, settings: Settings) -> Prepared:
    """Plan and estimate; `ledger` is None while no ledger exists.

    Raises PresetError, UnknownNameError, ModelError, PausedError, PriceError or BudgetError before anything is written.
    """
    cap = options.max_usd or settings.max_usd
    max_usd_micros = parse_usd(cap, name="--max-usd" if options.max_usd else "TUNEMILL_MAX_USD") if cap else None
    loaded = load_catalog(options.catalog, options.presets, settings)
    known = ledger.known_models(loaded.name) if ledger else ()
    choice = resolve_model(loaded.model, options.model, settings, known=known, attended=options.attended)
    plan = plan_against(loaded, ledger, model=choice.model)
    unfinished = ledger.unfinished_run(plan.catalog) if ledger else None
    if unfinished is not None:
        refuse_unless_going_on(unfinished)
    if (plan.to_render or options.check_machine) and (lack := find_missing_weights(choice.model, settings)):
        raise lack
    if refusal := find_replaced_music(plan.catalog, plan.model, plan.changes.leaving):
        raise refusal
    notes = [choice.warning] if choice.warning and plan.to_render else []
    book = read_price_book(find_prices_folder(None, settings.prices))
    lefts = read_lefts(plan.catalog, unfinished, ledger, settings.finance_tz)
    result = None
    try:
        gpu = default_gpu(choice.model, options.gpu, settings)
        result = estimate_on(gpu, plan, ledger, book).within(
            max_usd_micros, spent_usd_micros=_spent(unfinished, ledger)
        )
        within_budgets(result, lefts)
    except PriceError as error:
        if options.gpu or max_usd_micros is not None or lefts:
            raise
        notes.append(f"the cost is unknown: {error.what} ({error.fix})")
    return Prepared(plan, book, result, max_usd_micros, tuple(notes))


def plan_against(catalog: LoadedCatalog, ledger: Ledger | None, *, model: str) -> CatalogPlan:
    """Compare `catalog` with the takes that `ledger` has of it; None stands for an empty ledger."""
    if ledger is None:
        return make_plan(catalog, {}, model=model)
    return make_plan(catalog, ledger.known_takes(catalog.name), ledger.shelved_takes(catalog.name), model=model)


def estimate_on(gpu: str, plan: CatalogPlan, ledger: Ledger | None, book: PriceBook) -> Estimate:
    """Estimate `plan` on `gpu`, with the speeds that `ledger` has measured there. Raises PriceError without a price."""
    price = get_price(gpu, now_ms(), book)

    def same_gpu(name: str, sku: str | None) -> bool:
        found = price_for_gpu(name, now_ms(), book)
        return price.sku in (sku, found.sku if found else None)

    history = read_history(ledger.engine, model=plan.model, same_gpu=same_gpu) if ledger else NO_HISTORY
    return estimate(plan, price=price, history=history)


def begin(prepared: Prepared, ledger: Ledger, settings: Settings) -> BegunRun:
    """Write the plan into the ledger as a run, or resume the unfinished run.

    Raises BrokerError when no broker answers, and StoreError when this machine renders and cannot write to the store.
    """
    if settings.broker_url is not None:
        Queues(settings.broker_url).check()
    elif prepared.plan.to_render:
        open_configured_store(settings).check()
    plan = prepared.plan
    return ledger.begin_or_resume_run(
        plan.catalog, plan.model, plan.takes(), prepared.max_usd_micros, prepared.take_usd_micros
    )


def read_lefts(catalog: str, unfinished: RunRow | None, ledger: Ledger | None, time_zone: str) -> list[BudgetLeft]:
    """Read how much is left of each budget that a run of `catalog` draws on this month."""
    if ledger is None:
        return []
    with ledger.read() as connection:
        spending = Spending(time_zone)
        return budgets.lefts_for(connection, catalog, unfinished, at_ms=now_ms(), spending=spending)[0]


def within_budgets(result: Estimate, lefts: Iterable[BudgetLeft]) -> None:
    """Raise BudgetError when an estimate is larger than the rest of a budget."""
    for left in lefts if result.takes else ():
        result.within(
            left.budget.usd_micros,
            spent_usd_micros=left.spent_usd_micros,
            cap=f"the budget for {left.budget.words}",
            fix="raise it with `tunemill costs budgets set`",
        )


def _spent(unfinished: RunRow | None, ledger: Ledger | None) -> int:
    """Read the micro-dollars that the catalog's unfinished run has cost so far; the run's cap includes them."""
    if ledger is None or unfinished is None:
        return 0
    with ledger.read() as connection:
        return readings.spend_of_run(connection, unfinished).usd_micros

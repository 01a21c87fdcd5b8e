"""Preparing a run: turns a catalog's name into a run in the ledger, after every check that can be made without cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from catalog.errors import PriceError, ReplacementError
from catalog.messages import now_ms
from catalog.settings import Settings
from catalog.store import open_proven_store
from orchestrator.control.broker import Queues
from orchestrator.finance.books import budgets
from orchestrator.finance.books.budgets import Spending
from orchestrator.finance.budgets import BudgetLeft
from orchestrator.finance.money import parse_usd
from orchestrator.finance.prices.book import PriceBook, choose_price, is_priced_by
from orchestrator.finance.prices.gpu_names import card_of
from orchestrator.finance.prices.layers import open_price_book
from orchestrator.ledger import BegunRun, Ledger, RunRow, readings, slots
from orchestrator.ledger.finishing import takes_without_source
from orchestrator.ledger.plans import refuse_others_pending
from orchestrator.ledger.run_control import refuse_unless_going_on
from orchestrator.matrix import LoadedCatalog, load_catalog
from orchestrator.planning.estimate import NO_HISTORY, Estimate, default_gpu, estimate
from orchestrator.planning.history import read_history
from orchestrator.planning.models import (
    ModelChoice,
    advise_on_settings,
    find_missing_weights,
    find_replaced_music,
    resolve_model,
)
from orchestrator.planning.plan import EVERYTHING, NONE_REFUSED, NONE_SHELVED, CatalogPlan, make_plan
from orchestrator.planning.renames import hint_at_renamed_catalog, hint_at_renamed_places
from orchestrator.planning.selection import Selection


class RunOptions(NamedTuple):
    """The options of the command line."""

    catalog: str
    presets: Path | None = None
    model: str | None = None
    gpu: str | None = None
    max_usd: str | None = None
    attended: bool = False  # a person reads the terminal
    check_machine: bool = False  # refuse a machine that cannot render, even when nothing is to be rendered
    selection: Selection = EVERYTHING
    keep_listed: bool = False  # refuse to replace or retire accepted tracks
    remake: bool = False  # render tracks anew whose file alone is to change and that have no master


class Prepared(NamedTuple):
    """A plan that passed every check."""

    plan: CatalogPlan
    book: PriceBook
    estimate: Estimate  # its cost is unknown without a price for the GPU, which no cap may ask for
    max_usd_micros: int | None
    notes: tuple[str, ...]

    @property
    def take_usd_micros(self) -> int | None:
        """The estimated cost of one take, rounded up."""
        usd_micros = self.estimate.usd_micros
        return None if usd_micros is None or not self.estimate.takes else -(-usd_micros // self.estimate.takes)


def prepare(options: RunOptions, ledger: Ledger | None, settings: Settings) -> Prepared:
    """Plan and estimate; `ledger` is None while no ledger exists.

    Raises PresetError, UnknownNameError, ModelError, PausedError, PriceError or BudgetError before anything is written.
    """
    cap = options.max_usd or settings.max_usd
    max_usd_micros = parse_usd(cap, name="--max-usd" if options.max_usd else "TUNEMILL_MAX_USD") if cap else None
    loaded = load_catalog(options.catalog, options.presets, settings)
    choice = choose_model(loaded, options.model, ledger, settings, attended=options.attended)
    plan = plan_against(loaded, ledger, model=choice.model, selection=options.selection, remake=options.remake)
    unfinished = ledger.unfinished_run(plan.catalog) if ledger else None
    if unfinished is not None:
        refuse_unless_going_on(unfinished)
        if plan.selected is not None:
            refuse_others_pending(plan.catalog, plan.others_pending)
    if (plan.to_render or options.check_machine) and (lack := find_missing_weights(choice.model, settings)):
        raise lack
    if refusal := find_replaced_music(plan.catalog, plan.model, plan.changes.leaving):
        raise refusal
    if options.keep_listed and plan.changes.leaving:
        raise listed_would_leave(plan, "--no-replace forbids that", "leave --no-replace out")
    notes = [choice.warning] if choice.warning and plan.to_render else []
    notes += [*advise_on_settings(plan.loads), *hints_at_renames(loaded, plan, ledger)]
    book = open_price_book(settings)
    lefts = read_lefts(plan.catalog, unfinished, ledger, settings.finance_tz)
    result = estimate_on(default_gpu(choice.model, options.gpu, settings), plan, ledger, book)
    result.within(max_usd_micros, spent_usd_micros=_spent(unfinished, ledger))
    within_budgets(result, lefts)
    notes += result.notes
    return Prepared(plan, book, result, max_usd_micros, tuple(notes))


def choose_model(
    catalog: LoadedCatalog, option: str | None, ledger: Ledger | None, settings: Settings, *, attended: bool
) -> ModelChoice:
    """The model to render `catalog` with; raises what `resolve_model` raises."""
    known = ledger.known_models(catalog.name) if ledger else ()
    made = ledger.made_models(catalog.name) if ledger else ()
    return resolve_model(catalog.model, option, settings, known=known, made=made, attended=attended)


def hints_at_renames(catalog: LoadedCatalog, plan: CatalogPlan, ledger: Ledger | None) -> list[str]:
    """Hints that what `plan` would make anew is there already under another name."""
    if ledger is None or not plan.counts.new:
        return []
    if plan.counts.new == plan.counts.total and not plan.gone:
        with ledger.read() as connection:
            others = slots.takes_by_cell(connection)
        return hint_at_renamed_catalog(plan, others, catalog.library.names("catalogs"))
    return hint_at_renamed_places(plan)


def plan_against(
    catalog: LoadedCatalog,
    ledger: Ledger | None,
    *,
    model: str,
    selection: Selection = EVERYTHING,
    remake: bool = False,
) -> CatalogPlan:
    """Compare `catalog` with the takes that `ledger` has of it; None stands for an empty ledger.

    With `remake`, tracks whose file alone is to change, and of which no audio is kept that serves, are rendered anew.
    """
    known = ledger.known_takes(catalog.name) if ledger else {}
    remade: frozenset[str] = frozenset()
    if remake and ledger:
        with ledger.read() as connection:
            remade = takes_without_source(connection, catalog.name)
        known = {slot: each._replace(sound_id="") if each.take_id in remade else each for slot, each in known.items()}
    shelved = ledger.shelved_takes(catalog.name) if ledger else NONE_SHELVED
    refused = ledger.refused_takes(catalog.name) if ledger else NONE_REFUSED
    plan = make_plan(catalog, known, shelved, refused=refused, model=model, selection=selection)
    return replace(plan, remade=remade)


def listed_would_leave(plan: CatalogPlan, why: str, otherwise: str) -> ReplacementError:
    """The error of a run that would take accepted tracks off the list; `otherwise` says how it may do so after all."""
    return ReplacementError(
        f"{plan.changes.leaving.total():,} accepted tracks of {plan.catalog!r} would be replaced or retired",
        why=why,
        fix=f"`tunemill plan {plan.catalog} --changes` lists these tracks with the differences; undo the change in "
        f"the presets, or {otherwise}",
    )


def estimate_on(gpu: str, plan: CatalogPlan, ledger: Ledger | None, book: PriceBook) -> Estimate:
    """Estimate `plan` on `gpu`, with the speeds that `ledger` has measured there; its cost may be unknown."""
    chosen, lack = None, None
    try:
        chosen = choose_price(gpu, now_ms(), book)
    except PriceError as error:
        lack = error
    price = chosen.price if chosen else None

    def same_gpu(name: str, sku: str | None) -> bool:
        if price is None:
            return card_of(name).may_be(card_of(gpu))
        return price.sku == sku or is_priced_by(name, price)

    history = read_history(ledger.engine, model=plan.model, same_gpu=same_gpu) if ledger else NO_HISTORY
    result = estimate(plan, price=price, gpu=gpu, lack=lack, history=history)
    if chosen and chosen.others and result.takes:
        meant = f"{gpu} is taken for {chosen.price.sku}; it may also mean {', '.join(chosen.others)}"
        return result._replace(notes=(*result.notes, meant))
    return result


def begin(prepared: Prepared, ledger: Ledger, settings: Settings) -> BegunRun:
    """Write the plan into the ledger as a run, or resume the unfinished run.

    Raises BrokerError when no broker answers, and StoreError when this machine renders and cannot write to the store.
    """
    if settings.broker_url is not None:
        Queues(settings.broker_url).check()
    elif prepared.plan.to_render:
        open_proven_store(settings)
    plan = prepared.plan
    return ledger.begin_or_resume_run(
        plan.catalog,
        plan.model,
        plan.due,
        prepared.max_usd_micros,
        prepared.take_usd_micros,
        tries=plan.tries,
        duplicates=plan.duplicates,
        choose_by=",".join(plan.choose_by) if plan.keep else "",
        remade=plan.remade,
        is_part=plan.selected is not None,
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
            fix="raise the budget with `tunemill costs budgets set`",
        )


def _spent(unfinished: RunRow | None, ledger: Ledger | None) -> int:
    """Read the micro-dollars that the catalog's unfinished run has cost so far; the run's cap includes them."""
    if ledger is None or unfinished is None:
        return 0
    with ledger.read() as connection:
        return readings.spend_of_run(connection, unfinished).usd_micros

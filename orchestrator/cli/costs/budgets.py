"""`tunemill costs budgets`: what may be spent in a month, on a catalog or by a run, and how much of it is left."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from catalog.errors import SettingsError, UnknownNameError
from catalog.messages import now_ms
from catalog.settings import Settings, read_settings
from orchestrator.cli.console import JsonFlag, print_json, say, warn
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.ledger import find_ledger
from orchestrator.cli.names import catalog_key
from orchestrator.finance.books import budgets as ledger_budgets
from orchestrator.finance.budgets import BudgetLeft, BudgetScope
from orchestrator.finance.money import dollars, parse_usd
from orchestrator.finance.months import month_of, parse_period
from orchestrator.ledger import Ledger, open_ledger, readings

ScopeArgument = Annotated[BudgetScope, typer.Argument(help="The scope of the budget: a month, a catalog or a run.")]
NameArgument = Annotated[
    str, typer.Argument(help="Name of the catalog, or first digits of the run's id; leave it out for a month.")
]
PeriodOption = Annotated[str | None, typer.Option(help="The month of the budget, as 2026-11; by default every month.")]
_COLUMNS = (
    Column("for"),
    Column("name", least=12),
    Column("month"),
    number("budget"),
    number("spent"),
    number("left"),
    number("used", spare=1),
)
_EXAMPLES = """\b
Examples:
  tunemill costs budgets set month --usd 500
  tunemill costs budgets set catalog hotel_group --usd 120 --period 2026-12
  tunemill costs budgets clear catalog hotel_group --period 2026-12"""


def register(costs: typer.Typer) -> None:
    """Add the commands to the group of costs."""
    budgets = typer.Typer(no_args_is_help=True, help="Show, set and end budgets.")
    budgets.command("list")(list_budgets)
    budgets.command("set", epilog=_EXAMPLES)(set_budget)
    budgets.command("clear")(clear_budget)
    costs.add_typer(budgets, name="budgets")


def list_budgets(
    period: Annotated[str | None, typer.Option(help="The month, as 2026-11; by default the current month.")] = None,
    json: JsonFlag = False,
) -> None:
    """Show the budgets of a month, the money spent and left."""
    settings = read_settings()
    month = parse_period(period) if period else month_of(now_ms(), settings.finance_tz)
    ledger = find_ledger(settings)
    lefts: list[BudgetLeft] = []
    if ledger is not None:
        with closing(ledger), ledger.read() as connection:
            lefts = ledger_budgets.read_lefts(connection, period=month, time_zone=settings.finance_tz)
    if json:
        print_json({"period": month, "currency": "USD", "budgets": [_as_json(left) for left in lefts]})
    elif not lefts:
        say(f"no budget counts in {month}; set one with `tunemill costs budgets set`")
    else:
        print_table(_COLUMNS, [_row(left) for left in lefts])


def set_budget(
    scope: ScopeArgument,
    usd: Annotated[str, typer.Option(help="The budget in dollars: 120 or 99.50.")],
    name: NameArgument = "",
    period: PeriodOption = None,
    json: JsonFlag = False,
) -> None:
    """Set or raise a budget.

    `plan` and `run` refuse an estimate above the budget, and a run that reaches it stops until the budget is raised.
    """
    _write(scope, name, period, parse_usd(usd, name="--usd"), json=json)


def clear_budget(
    scope: ScopeArgument, name: NameArgument = "", period: PeriodOption = None, json: JsonFlag = False
) -> None:
    """End a budget; what was spent stays on the books."""
    _write(scope, name, period, None, json=json)


def _write(scope: BudgetScope, name: str, period: str | None, usd_micros: int | None, *, json: bool) -> None:
    settings = read_settings()
    month = parse_period(period) if period else ""
    if scope is BudgetScope.MONTH and name:
        # `budgets set month 2026-12` reads well, and means what it says.
        month, name = parse_period(name, name="the month"), ""
    if scope is BudgetScope.RUN and month:
        raise SettingsError(
            "a run's budget has no month", why="the budget counts for the whole run", fix="leave --period out"
        )
    if not name and scope is not BudgetScope.MONTH:
        raise SettingsError(f"which {scope} is the budget for?", fix=f"name it: `budgets set {scope} NAME --usd 100`")
    with closing(_open(settings, scope, name, usd_micros)) as ledger:
        name = _checked_name(ledger, scope, name)
        with ledger.write() as connection:
            known = {(each.scope, each.name, each.period) for each in ledger_budgets.read_budgets(connection)}
            if usd_micros is None and (scope, name, month) not in known:
                raise UnknownNameError(
                    f"there is no budget for {scope} {name}{month and f' in {month}'}".rstrip(),
                    fix="`tunemill costs budgets list` shows the budgets",
                )
            ledger_budgets.write_budget(connection, scope, name, month, usd_micros, now_ms())
    if json:
        print_json({"scope": scope, "name": name, "period": month or None, "usd_micros": usd_micros})
        return
    what = {BudgetScope.MONTH: "everything"}.get(scope, f"{scope} {name}")
    when = f" in {month}" if month else "" if scope is BudgetScope.RUN else " in any month"
    say(f"no budget any more for {what}{when}" if usd_micros is None else f"${dollars(usd_micros)} for {what}{when}")


def _open(settings: Settings, scope: BudgetScope, name: str, usd_micros: int | None) -> Ledger:
    """The ledger; a new one for a budget that may be there before the first run, and for nothing else."""
    found = find_ledger(settings)
    if found is None and usd_micros is None:
        raise UnknownNameError(
            "there is no ledger yet, so there is no budget", fix="set a budget first, with `tunemill costs budgets set`"
        )
    if found is None and scope is BudgetScope.RUN:
        raise UnknownNameError(f"there is no ledger yet, so there is no run {name!r:.80}", fix="run a catalog first")
    return found or open_ledger(settings.database)


def _checked_name(ledger: Ledger, scope: BudgetScope, name: str) -> str:
    if scope is BudgetScope.MONTH:
        return ""
    with ledger.read() as connection:
        if scope is BudgetScope.RUN:
            found = readings.find_run_ids(connection, name)
            if len(found) != 1:
                raise UnknownNameError(
                    f"no run, or more than one, begins with {name!r}", fix="`tunemill status` lists the runs"
                )
            return found[0]
        name = catalog_key(name) or name
        if not any(run.catalog == name for run in readings.latest_runs(connection, 1000)):
            warn(f"no catalog {name!r} has been run yet; the budget counts from its first run on")
    return name


def _as_json(left: BudgetLeft) -> dict[str, Any]:
    budget = left.budget
    return {
        **budget._asdict(),
        "period": budget.period or None,
        "spent_usd_micros": left.spent_usd_micros,
        "left_usd_micros": left.usd_micros,
    }


def _row(left: BudgetLeft) -> tuple[str, ...]:
    budget = left.budget
    used = f"{left.spent_usd_micros / budget.usd_micros:.0%}" if budget.usd_micros else "-"
    over = left.usd_micros < 0
    return (
        str(budget.scope),
        budget.name[:8] if budget.scope is BudgetScope.RUN else budget.name or "-",
        budget.period or "every",
        f"${dollars(budget.usd_micros)}",
        f"${dollars(left.spent_usd_micros)}",
        f"-${dollars(-left.usd_micros)}" if over else f"${dollars(left.usd_micros)}",
        used,
    )

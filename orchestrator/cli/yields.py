"""`tunemill catalog yield`: how many of the takes of a catalog are kept, and which groups of them waste money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any, Final, NamedTuple

import typer

from catalog.errors import UnknownNameError
from catalog.settings import read_settings
from orchestrator.cli import completion
from orchestrator.cli.console import JsonFlag, clock, print_json, say, warn
from orchestrator.cli.display import Column, number, print_table, working
from orchestrator.cli.ledger import get_ledger_of_names
from orchestrator.cli.names import Kind, Names, catalog_key, read_names, refuse_unmade
from orchestrator.finance.accounts import bring_up_to_date, read_accounts
from orchestrator.finance.books.readings import Scope, read_unpriced
from orchestrator.finance.prices.layers import open_price_book
from orchestrator.finance.report.figures import money, pivot, rounded_together, unit_of
from orchestrator.ledger import readings
from orchestrator.ledger.observations import Category
from orchestrator.ledger.yields import CUTS, Label, Yield, Yields, read_yields

_COLUMNS: Final = (
    *(number("made"), number("kept"), number("spare", spare=4), number("by checks", spare=1)),
    *(number("by listeners", spare=2), number("failed", spare=3), number("warned", spare=6)),
    *(number("yield"), number("engine", spare=5), number("cost"), number("wasted")),
)
_EXAMPLES: Final = """\b
Examples:
  tunemill catalog yield hotel_group
  tunemill catalog yield hotel_group --by reason --json"""


class Shown(NamedTuple):
    """All that the command shows."""

    catalog: str
    yields: Yields
    unpriced: Sequence[str]  # GPUs
    is_unknown: bool  # no time of the catalog has a price


def register(group: typer.Typer) -> None:
    """Add the command to the group `tunemill catalog`."""
    group.command("yield", epilog=_EXAMPLES)(show_yield)


def show_yield(
    catalog: Annotated[
        str,
        typer.Argument(
            help="A catalog's name.", autocompletion=completion.made_catalogs, callback=catalog_key, show_default=False
        ),
    ],
    by: Annotated[str, typer.Option(help=f"Group by one of these: {', '.join(CUTS)}.")] = "preset",
    json: JsonFlag = False,
) -> None:
    """Show which takes were kept, and what the others cost.

    Yield is the share of the takes made that the catalog lists. "preset" groups by zone, genre and further axes; "seed"
    by the seed that a preset pins, with the take's number; "reason" by the kind of fault for which the checks rejected
    a take, or by the listener's reason.

    The cost is that of `costs report` for the catalog. "wasted" is the money for rejected takes and failed attempts.
    The group that wastes most comes first.
    """
    if by not in CUTS:
        raise UnknownNameError(
            f"there is no yield by {by!r}", why="takes have no such group", fix=f"choose from {', '.join(CUTS)}"
        )
    settings = read_settings()
    with closing(get_ledger_of_names(settings)) as ledger:
        with ledger.read() as connection:
            refuse_unmade(catalog, readings.catalogs(connection))
        book = open_price_book(settings)
        with working("posting", "rentals") as progress:
            updated = bring_up_to_date(ledger, settings, book, progress=progress)
        with ledger.snapshot() as connection:
            rows = read_accounts(connection, settings, updated, Scope(catalog=catalog), ["zone", "genre"]).all_rows
            yields = read_yields(connection, catalog, by)
            unpriced = [each.gpu for each in read_unpriced(connection, rows)]
    booked: Counter[tuple[str, str, Category]] = Counter()
    for row in rows:
        booked[row.zone, row.genre, row.category] += row.usd_micros
    yields.share(booked)
    shown = Shown(catalog, yields, unpriced, pivot(rows).total.is_unknown())
    names = read_names(settings)
    if json:
        print_json(yield_as_json(shown, names))
    else:
        print_yield(shown, names)


def yield_as_json(shown: Shown, names: Names) -> dict[str, Any]:
    """The yield for scripts; money in micro-dollars, null where no price is known."""
    return {
        "catalog": names.catalog(shown.catalog),
        "by": shown.yields.by,
        "currency": "USD",
        "unpriced": list(shown.unpriced),
        "rows": [{"name": _name(label, shown, names), **_as_json(group, shown)} for label, group in shown.yields.lines],
        "total": _as_json(shown.yields.total, shown),
    }


def _as_json(group: Yield, shown: Shown) -> dict[str, Any]:
    unknown = {"usd_micros": None, "wasted_usd_micros": None} if shown.is_unknown else {}
    return {"made": group.made, **asdict(group), "kept_share": group.kept_share, **unknown}


def print_yield(shown: Shown, names: Names) -> None:
    """Print the yield for people; the printed amounts add up."""
    yields, total = shown.yields, shown.yields.total
    if not yields.groups:
        warn(f"nothing was made of {names.catalog(shown.catalog)} yet")
        return
    unit = unit_of([total.usd_micros, total.wasted_usd_micros])
    columns: list[dict[Any, int]] = []
    for field in ("usd_micros", "wasted_usd_micros"):
        parts = rounded_together({label: getattr(group, field) for label, group in yields.lines}, unit)
        columns.append({**parts, "total": sum(parts.values())})
    rows = [
        (_name(label, shown, names), *_cells(group), *_money(label, columns, unit, shown))
        for label, group in yields.lines
    ]
    print_table(
        (Column(yields.by, least=12), *_COLUMNS),
        rows,
        total=("total", *_cells(total), *_money("total", columns, unit, shown)),
    )
    if not total.kept:
        warn("no take is kept")
    if shown.unpriced:
        gpus = ", ".join(gpu or "workers that did not name their GPU" for gpu in shown.unpriced)
        warn(f"no price for {gpus}: that time is not in these dollars")
    if total.former:
        say(f"{total.former:,} takes that were accepted and are no longer planned are not counted", hang=2)


def _cells(group: Yield) -> list[str]:
    counts = (group.made, group.kept, group.spare, group.rejected_by_checks, group.rejected_by_listeners)
    share = "-" if group.kept_share is None else f"{group.kept_share:.0%}"
    return [*(f"{n:,}" for n in (*counts, group.failed_attempts, group.warned)), share, clock(group.engine_ms)]


def _money(label: Any, columns: Sequence[dict[Any, int]], unit: int, shown: Shown) -> list[str]:
    return ["unknown" if shown.is_unknown else money(column[label], unit) for column in columns]


def _name(label: Label, shown: Shown, names: Names) -> str:
    """A group's name, with the names of zone and genre that people know."""
    kinds: dict[str, tuple[Kind, ...]] = {"zone": ("zones",), "genre": ("genres",), "preset": ("zones", "genres")}
    named = zip(kinds.get(shown.yields.by, ()), label, strict=False)  # further axes keep their names
    known = [names.place(shown.catalog, kind, each) for kind, each in named]
    text = ("/" if shown.yields.by == "preset" else " ").join([*known, *label[len(known) :]])
    return text or ("(not rejected)" if shown.yields.by == "reason" else "(none)")

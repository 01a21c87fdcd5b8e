"""`tunemill plan`: what a catalog stands for, what of it is missing, and what rendering that would cost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy.engine import make_url

from catalog.messages import now_ms
from catalog.settings import Settings, read_settings
from orchestrator.cli.console import JsonFlag, clock, out, print_json, usd, warn
from orchestrator.costs.prices import Price, find_prices_folder, get_price, parse_usd, price_for_gpu, read_price_book
from orchestrator.estimate import NO_HISTORY, Estimate, default_gpu, estimate
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.cost_queries import read_history
from orchestrator.matrix import load_catalog
from orchestrator.plan import Counts, Plan, make_plan, resolve_model

_CELLS_SHOWN_MAX = 40  # a larger matrix is shown by zone and by genre
_MS_PER_DAY = 86_400_000


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("plan")(show_plan)


def show_plan(
    catalog: Annotated[str, typer.Argument(help="A catalog's name, or the path of its file.")],
    presets: Annotated[Path | None, typer.Option(help="Folder with zones/, genres/ and catalogs/.")] = None,
    model: Annotated[str | None, typer.Option(help="Render with this model instead of the catalog's.")] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU to reckon with, as the price book names it.")] = None,
    max_usd: Annotated[str | None, typer.Option(help="Fail (exit code 21) when the estimate is above this.")] = None,
    prices: Annotated[Path | None, typer.Option(help="Folder of dated price files.")] = None,
    json: JsonFlag = False,
) -> None:
    """Show new, changed and unchanged takes of CATALOG, and what the missing ones would cost.

    Nothing is written and nothing is sent.
    """
    settings = read_settings()
    cap = None if max_usd is None else parse_usd(max_usd)
    loaded = load_catalog(catalog, presets, settings)
    choice = resolve_model(loaded.model, model, settings)
    if choice.warning:
        warn(choice.warning)
    ledger = find_ledger(settings)
    plan = make_plan(loaded, ledger.known_takes(loaded.name) if ledger else {}, model=choice.model)
    book = read_price_book(find_prices_folder(prices, settings.prices))
    price = get_price(default_gpu(choice.model, gpu, settings), now_ms(), book)

    def same_gpu(name: str, sku: str | None) -> bool:
        found = price_for_gpu(name, now_ms(), book)
        return price.sku in (sku, found.sku if found else None)

    history = read_history(ledger.engine, model=choice.model, same_gpu=same_gpu) if ledger else NO_HISTORY
    result = estimate(plan, price=price, history=history)
    if json:
        print_json(plan_as_json(plan, result))
    else:
        _print_plan(plan)
        _print_estimate(result)
    result.within(cap)


def find_ledger(settings: Settings) -> Ledger | None:
    """The ledger, or None while there is none: reading must not make one."""
    url = make_url(settings.database) if settings.database.startswith("sqlite") else None
    if url is not None and not (url.database and Path(url.database).is_file()):
        return None
    return open_ledger(settings.database)


def plan_as_json(plan: Plan, result: Estimate) -> dict[str, Any]:
    """The plan and its estimate for scripts; money in micro-dollars, time in milliseconds."""
    return {
        "catalog": plan.catalog,
        "model": plan.model,
        "takes": _counts_as_json(plan.counts),
        "dropped": len(plan.dropped),
        "cells": [{**cell._asdict(), **_counts_as_json(counts)} for cell, counts in plan.cells.items()],
        "buckets": [
            {
                **line.bucket._asdict(),
                "takes": line.takes,
                "audio_s": line.audio_s,
                "engine_ms": line.engine_ms,
                "basis": str(line.basis),
                "note": line.note,
            }
            for line in result.lines
        ],
        "estimate": {
            "takes": result.takes,
            "audio_s": result.audio_s,
            "gpu": result.gpu,
            "gpu_ms": result.gpu_ms,
            "overhead_ms": result.overhead_ms,
            "usd_micros": result.usd_micros,
            "source": result.source,
            "reject_rate": result.reject_rate,
            "expected_accepted": result.expected_accepted,
            "price": {**result.price._asdict(), "valid_from": result.price.valid_from.isoformat()},
        },
    }


def _counts_as_json(counts: Counts) -> dict[str, int]:
    return {**counts._asdict(), "total": counts.total, "to_render": counts.to_render}


def _print_plan(plan: Plan) -> None:
    counts = plan.counts
    out.print(f"{escape(plan.title)} ({plan.catalog}): {counts.total:,} takes with {plan.model}", soft_wrap=True)
    if len(plan.cells) <= _CELLS_SHOWN_MAX:
        out.print(_counts_table(("zone", "genre"), plan.cells.items(), counts))
    else:
        out.print(_counts_table(("zone",), (((zone,), each) for zone, each in plan.by_zone().items()), counts))
        out.print()
        out.print(_counts_table(("genre",), (((genre,), each) for genre, each in plan.by_genre().items()), counts))
    if plan.dropped:
        out.print(f"{len(plan.dropped):,} takes of the ledger are no longer planned; they stay where they are")


def _counts_table(names: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], Counts]], total: Counts) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_footer=True)
    for index, name in enumerate(names):
        table.add_column(name, footer="" if index else "total", overflow="fold")
    for heading, number in {**total._asdict(), "total": total.total}.items():
        table.add_column(heading, footer=f"{number:,}", justify="right", no_wrap=True)
    for row, counts in rows:
        table.add_row(*row, *(f"{number:,}" if number else "-" for number in (*counts, counts.total)))
    return table


def _print_estimate(result: Estimate) -> None:
    if result.lines:
        out.print()
        out.print(_buckets_table(result))
    out.print()
    out.print(
        f"to render  {result.takes:,} takes, {clock(result.audio_s * 1000)} of audio\n"
        f"estimate   {usd(result.usd_micros)}: {result.gpu_hours:.2f} GPU-hours of {result.gpu}\n"
        f"speed      {escape(result.source)}",
        soft_wrap=True,
    )
    if result.overhead_ms:
        out.print(f"           of these {clock(result.overhead_ms)} to start, stop and wait, as measured")
    out.print(f"price      {price_line(result.price)}", soft_wrap=True)
    if result.reject_rate is not None:
        out.print(f"rejects    {result.reject_rate:.1%} so far: about {result.expected_accepted:,} will be accepted")


def price_line(price: Price) -> str:
    """A price with its age and source, for people."""
    days = (now_ms() - price.valid_from_ms) // _MS_PER_DAY
    market = price.market.replace("_", " ")
    return (
        f"{usd(price.usd_micros_per_h)}/h {price.sku} {market}, valid from {price.valid_from} ({days} days ago): "
        f"{escape(price.source)}"
    )


def _buckets_table(result: Estimate) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("planner", overflow="fold")
    for heading in ("steps", "shift", "duration", "takes", "audio", "engine"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("basis", overflow="fold")
    for line in result.lines:
        bucket = line.bucket
        table.add_row(
            bucket.planner.removeprefix("acestep-") or "off",
            f"{bucket.steps}",
            f"{bucket.shift:g}",
            f"{bucket.duration_s} s",
            f"{line.takes:,}",
            clock(line.audio_s * 1000),
            clock(line.engine_ms),
            str(line.basis).split()[0],
        )
    return table

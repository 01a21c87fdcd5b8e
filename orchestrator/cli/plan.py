"""`tunemill plan`: the takes of a catalog, the missing ones among them, and the cost of rendering those."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from catalog.messages import now_ms
from catalog.settings import read_settings
from orchestrator.cli.console import JsonFlag, clock, out, print_json, say, usd, warn
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.ledger import find_ledger
from orchestrator.cli.options import (
    CatalogArgument,
    GpuOption,
    ModelOption,
    PresetsOption,
    PricesOption,
    is_attended,
)
from orchestrator.finance.money import parse_usd
from orchestrator.finance.prices.book import Price, find_prices_folder, read_price_book
from orchestrator.matrix import load_catalog
from orchestrator.planning.estimate import Estimate, default_gpu
from orchestrator.planning.models import find_missing_weights, find_replaced_music, resolve_model
from orchestrator.planning.plan import CatalogPlan, StandingCounts
from orchestrator.runs.prepare import estimate_on, plan_against, read_lefts, within_budgets

_CELLS_SHOWN_MAX = 40  # a larger matrix is shown by zone and by genre
_MS_PER_DAY = 86_400_000
_LABEL_WIDTH = 11
_BUCKET_COLUMNS = (
    Column("planner", least=12),
    number("steps", spare=2),
    number("shift", spare=1),
    number("duration"),
    number("takes"),
    number("audio"),
    number("engine"),
    Column("basis", spare=3),
)
_EXAMPLES = """\b
Examples:
  tunemill plan hotel_group
  tunemill plan hotel_group --gpu h100 --max-usd 20
  tunemill plan ./spring.yaml --json"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("plan", epilog=_EXAMPLES)(show_plan)


def show_plan(
    catalog: CatalogArgument,
    presets: PresetsOption = None,
    model: ModelOption = None,
    gpu: GpuOption = None,
    max_usd: Annotated[str | None, typer.Option(help="Fail (exit code 21) when the estimate is above this.")] = None,
    prices: PricesOption = None,
    json: JsonFlag = False,
) -> None:
    """Show new, changed and unchanged takes of CATALOG, and what the missing ones would cost.

    Nothing is written and nothing is sent.
    """
    settings = read_settings()
    cap = None if max_usd is None else parse_usd(max_usd)
    loaded = load_catalog(catalog, presets, settings)
    ledger = find_ledger(settings)
    known = ledger.known_models(loaded.name) if ledger else ()
    choice = resolve_model(loaded.model, model, settings, known=known, attended=is_attended())
    plan = plan_against(loaded, ledger, model=choice.model)
    if plan.to_render and choice.warning:
        warn(choice.warning)
    lack = find_missing_weights(choice.model, settings) if plan.to_render else None
    if refusal := lack or find_replaced_music(plan.catalog, plan.model, plan.changes.leaving):
        warn(f"`tunemill run` on this machine would refuse: {refusal.what}; {refusal.fix}")
    book = read_price_book(find_prices_folder(prices, settings.prices))
    result = estimate_on(default_gpu(choice.model, gpu, settings), plan, ledger, book)
    if json:
        print_json(plan_as_json(plan, result))
    else:
        _print_plan(plan)
        _print_estimate(result)
    result.within(cap)
    within_budgets(result, read_lefts(plan.catalog, None, ledger, settings.finance_tz))


def plan_as_json(plan: CatalogPlan, result: Estimate) -> dict[str, Any]:
    """Return the plan and its estimate as plain values for scripts; micro-dollars and milliseconds."""
    return {
        "catalog": plan.catalog,
        "model": plan.model,
        "takes": _counts_as_json(plan.counts),
        "dropped": len(plan.dropped),
        "restored": plan.restored,
        "changes": plan.changes.as_plain_values(),
        "open_lengths": plan.open_lengths,
        "cells": [{**cell._asdict(), **_counts_as_json(counts)} for cell, counts in plan.cells.items()],
        "buckets": [
            {
                **line.bucket.as_plain_values(),
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


def _counts_as_json(counts: StandingCounts) -> dict[str, int]:
    return {**counts._asdict(), "total": counts.total, "to_render": counts.to_render}


def _print_plan(plan: CatalogPlan) -> None:
    counts = plan.counts
    say(f"{plan.title} ({plan.catalog}): {counts.total:,} takes with {plan.model}", hang=2)
    if len(plan.cells) <= _CELLS_SHOWN_MAX:
        _print_counts(("zone", "genre"), plan.cells.items(), counts)
    else:
        _print_counts(("zone",), (((zone,), each) for zone, each in plan.by_zone().items()), counts)
        out.print()
        _print_counts(("genre",), (((genre,), each) for genre, each in plan.by_genre().items()), counts)
    for sentence in plan.changes.in_words():
        say(sentence, hang=2)
    if plan.open_lengths:
        say(f"the planner chooses the length of {plan.open_lengths:,} takes; here they have their longest", hang=2)


def _print_counts(
    names: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], StandingCounts]], total: StandingCounts
) -> None:
    columns = (*(Column(name, least=10) for name in names), *map(number, (*total._fields, "total")))
    cells = [(*row, *(f"{figure:,}" if figure else "-" for figure in (*counts, counts.total))) for row, counts in rows]
    sums = (f"{figure:,}" for figure in (*total, total.total))
    print_table(columns, cells, total=("total", *[""] * (len(names) - 1), *sums))


def _print_estimate(result: Estimate) -> None:
    out.print()
    if not result.takes:
        say("nothing to do: every planned take is made")
        return
    _print_buckets(result)
    out.print()
    _say("to render", f"{result.takes:,} takes, {clock(result.audio_s * 1000)} of audio")
    _say("estimate", f"{usd(result.usd_micros)}: {result.gpu_hours:.2f} GPU-hours of {result.gpu}")
    _say("speed", result.source)
    if result.overhead_ms:
        _say("", f"of these {clock(result.overhead_ms)} to start, stop and wait, as measured")
    _say("price", price_line(result.price))
    if result.reject_rate:
        _say("rejects", f"{result.reject_rate:.1%} so far: about {result.expected_accepted:,} will be accepted")


def _say(name: str, words: str) -> None:
    say(words, label=f"{name:{_LABEL_WIDTH}}")


def price_line(price: Price) -> str:
    """Format a price with its age and source for people."""
    days = (now_ms() - price.valid_from_ms) // _MS_PER_DAY
    market = price.market.replace("_", " ")
    return (
        f"{usd(price.usd_micros_per_h)}/h {price.sku} {market}, valid from {price.valid_from} ({days} days ago): "
        f"{price.source}"
    )


def _print_buckets(result: Estimate) -> None:
    rows = []
    for line in result.lines:
        bucket = line.bucket
        planner = bucket.planner.removeprefix("acestep-") or "off"
        audio = (f"{bucket.duration_s} s", f"{line.takes:,}", clock(line.audio_s * 1000))
        basis = str(line.basis).split()[0]
        further = (f"{name}={value}" for name, value in bucket.diffusion.further.items())
        shift = " ".join([f"{bucket.diffusion.shift:g}", *further])
        rows.append((planner, f"{bucket.diffusion.steps}", shift, *audio, clock(line.engine_ms), basis))
    print_table(_BUCKET_COLUMNS, rows)

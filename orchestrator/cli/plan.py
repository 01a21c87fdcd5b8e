"""`tunemill plan`: the takes of a catalog, the missing ones among them, and the cost of rendering those."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from operator import attrgetter
from typing import Annotated, Any

import typer

from catalog.messages import now_ms
from catalog.settings import read_settings
from orchestrator.cli.changes import print_changes, read_changes
from orchestrator.cli.console import JsonFlag, clock, out, print_json, say, usd, warn
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.ledger import find_ledger
from orchestrator.cli.names import Names, names_of
from orchestrator.cli.options import (
    AxisOption,
    CatalogArgument,
    GenreOption,
    GpuOption,
    LimitOption,
    ModelOption,
    PresetsOption,
    PricesOption,
    SampleOption,
    ZoneOption,
    is_attended,
)
from orchestrator.cli.selecting import read_places, read_selection, selected_in_words
from orchestrator.finance.money import parse_usd
from orchestrator.finance.prices.book import Price
from orchestrator.finance.prices.layers import open_price_book
from orchestrator.ledger.observations import MS_PER_H
from orchestrator.matrix import load_catalog
from orchestrator.matrix.notes import notes_of
from orchestrator.planning.estimate import Estimate, default_gpu
from orchestrator.planning.models import advise_on_settings, find_missing_weights, find_replaced_music
from orchestrator.planning.moves import notes_on_moves
from orchestrator.planning.plan import CatalogPlan, StandingCounts
from orchestrator.runs.prepare import (
    choose_model,
    estimate_on,
    hints_at_renames,
    plan_against,
    read_lefts,
    within_budgets,
)

_CELLS_SHOWN_MAX = 40  # a larger matrix is shown by zone and by genre
_MS_PER_DAY = 86_400_000
_LABEL_WIDTH = 11
_STANDINGS = ("new", "changed", "unchanged", "unfinished")
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
  tunemill plan hotel_group --changes --zone spa_thermal
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
    zone: ZoneOption = None,
    genre: GenreOption = None,
    axis: AxisOption = None,
    limit: LimitOption = None,
    sample: SampleOption = None,
    changes: Annotated[
        bool,
        typer.Option("--changes", help="List the takes that are added, replaced or retired, with the differences."),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Show the missing takes of CATALOG, and their cost.

    The plan counts new, changed and unchanged takes.

    It writes and sends nothing. With --zone, --genre, --axis, --sample or --limit only the selected takes count.
    """
    settings = read_settings()
    selection = read_selection(read_places(zone, genre, axis), limit, sample)
    cap = None if max_usd is None else parse_usd(max_usd)
    loaded = load_catalog(catalog, presets, settings)
    ledger = find_ledger(settings)
    choice = choose_model(loaded, model, ledger, settings, attended=is_attended())
    plan = plan_against(loaded, ledger, model=choice.model, selection=selection)
    notes = [*notes_of(loaded), *advise_on_settings(plan.loads), *plan.advice]
    notes += hints_at_renames(loaded, plan, ledger)
    notes += notes_on_moves(plan, loaded.preset.content.tracks)
    for note in notes:
        warn(note)
    if plan.to_render and choice.warning:
        warn(choice.warning)
    lack = find_missing_weights(choice.model, settings) if plan.to_render else None
    if refusal := lack or find_replaced_music(plan.catalog, plan.model, plan.changes.leaving):
        warn(f"`tunemill run` on this machine would refuse: {refusal.what}; {refusal.fix}")
    if plan.selected is not None and plan.others_pending:
        warn(f"`tunemill run` would refuse: an unfinished run has {plan.others_pending:,} more takes than are selected")
    book = open_price_book(settings, prices)
    result = estimate_on(default_gpu(choice.model, gpu, settings), plan, ledger, book)
    for note in result.notes:
        warn(note)
    plan = _with_names_now(plan, names_of(loaded))
    if json:
        listed = {"tracks": [each.as_plain_values() for each in read_changes(plan, ledger)]} if changes else {}
        print_json({**plan_as_json(plan, result), "notes": [*notes, *result.notes], **listed})
    else:
        _print_plan(plan)
        for sentence in places_in_words(plan, result):
            say(sentence, hang=2)
        if changes:
            out.print()
            print_changes(read_changes(plan, ledger))
        _print_estimate(result, missing=plan.counts.missing)
    result.within(cap)
    within_budgets(result, read_lefts(plan.catalog, None, ledger, settings.finance_tz))


def _with_names_now(plan: CatalogPlan, names: Names) -> CatalogPlan:
    """`plan` with the names of zones and genres that people know."""
    cells = {
        cell._replace(
            zone=names.place(plan.catalog, "zones", cell.zone), genre=names.place(plan.catalog, "genres", cell.genre)
        ): counts
        for cell, counts in plan.cells.items()
    }
    return replace(plan, cells=cells)


def plan_as_json(plan: CatalogPlan, result: Estimate) -> dict[str, Any]:
    """Return the plan and its estimate as plain values for scripts; micro-dollars and milliseconds."""
    return {
        "catalog": plan.name_now,
        "model": plan.model,
        "planned": plan.planned,
        "selected": None if plan.selected is None else len(plan.selected),
        "takes": counts_as_json(plan.counts),
        "tries": plan.tries,
        "empty": plan.empty._asdict(),
        "keep": plan.keep,
        "choose_by": list(plan.choose_by),
        "unchosen": plan.unchosen._asdict(),
        "dropped": len(plan.dropped),
        "restored": plan.restored,
        "changes": plan.changes.as_plain_values(),
        "open_lengths": plan.open_lengths,
        "cells": [{**cell.as_plain_values(), **counts_as_json(counts)} for cell, counts in plan.cells.items()],
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
            "gpu_ms_range": result.time._asdict(),
            "overhead_ms": result.overhead_ms,
            "usd_micros": result.usd_micros,
            "again_usd_micros": result.again_usd_micros,
            "usd_micros_range": result.money._asdict() if result.money else None,
            "source": result.source,
            "reject_rate": result.reject_rate,
            "expected_accepted": result.expected_accepted,
            "price": {**result.price._asdict(), "valid_from": str(result.price.valid_from)} if result.price else None,
        },
    }


def counts_as_json(counts: StandingCounts) -> dict[str, int]:
    """Return the counts as plain values: by standing, and wanted, kept and missing."""
    places = {"wanted": counts.wanted, "kept": counts.kept, "missing": counts.missing}
    return {**counts._asdict(), "total": counts.total, "to_render": counts.to_render, **places}


def places_in_words(plan: CatalogPlan, result: Estimate) -> list[str]:
    """Say how many takes are wanted, kept and missing, and why some are missing."""
    counts = plan.counts
    said = [f"wanted {counts.wanted:,}, kept {counts.kept:,}, missing {counts.missing:,}"]
    if plan.keep:
        spare = f"; {counts.spare:,} made are spare" if counts.spare else ""
        best = "take" if plan.keep == 1 else f"{plan.keep} takes"
        said[0] += f": the best {best} of each track, of {counts.total:,} planned{spare}"
    said += plan.unchosen.in_words(plan.name_now)
    if counts.again:
        cost = "unknown" if result.again_usd_micros is None else usd(result.again_usd_micros)
        many = "1 place: its take was" if counts.again == 1 else f"{counts.again:,} places: their takes were"
        said.append(f"another take is made for {many} rejected; cost {cost}, within the estimate")
    return [*said, *plan.empty.in_words(plan.tries)]


def to_finish_in_words(plan: CatalogPlan) -> list[str]:
    """Say how many tracks only need a new file, and what makes it."""
    if not (count := plan.counts.to_finish):
        return []
    many = "1 track differs" if count == 1 else f"{count:,} tracks differ"
    how = f"`tunemill catalog finish {plan.name_now}` makes the files, without a GPU"
    return [f"{many} in format or level alone: {how}"]


def _print_plan(plan: CatalogPlan) -> None:
    counts = plan.counts
    how_many = selected_in_words(plan) or f"{counts.total:,} takes"
    say(f"{plan.title} ({plan.name_now}): {how_many}, with {plan.model}", hang=2)
    if len(plan.cells) <= _CELLS_SHOWN_MAX:
        rows = (
            ((*cell[:2], *(dict(cell.axes).get(axis, "") for axis in plan.axes)), each)
            for cell, each in plan.cells.items()
        )
        _print_counts(("zone", "genre", *plan.axes), rows, counts)
    else:
        sums = {"zone": plan.by_zone(), "genre": plan.by_genre(), **{axis: plan.by_axis(axis) for axis in plan.axes}}
        for place, (name, by_name) in enumerate(sums.items()):
            if place:
                out.print()
            _print_counts((name,), (((value,), each) for value, each in by_name.items()), counts)
    for sentence in [*plan.changes.in_words(), *to_finish_in_words(plan)]:
        say(sentence, hang=2)
    if plan.open_lengths:
        say(f"the planner chooses the length of {plan.open_lengths:,} takes; here they have their longest", hang=2)


def _print_counts(
    names: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], StandingCounts]], total: StandingCounts
) -> None:
    least = 10 if len(names) < 3 else 6
    shown = [*_STANDINGS, *(name for name in ("again", "to_finish") if getattr(total, name)), "total"]
    columns = (*(Column(name, least=least) for name in names), *(number(name.replace("_", " ")) for name in shown))
    figures = attrgetter(*shown)
    cells = [(*row, *(f"{figure:,}" if figure else "-" for figure in figures(counts))) for row, counts in rows]
    sums = (f"{figure:,}" for figure in figures(total))
    print_table(columns, cells, total=("total", *[""] * (len(names) - 1), *sums))


def _print_estimate(result: Estimate, *, missing: int) -> None:
    out.print()
    if not result.takes:
        say("nothing to do: no further take would be made" if missing else "nothing to do: every planned take is made")
        return
    _print_buckets(result)
    out.print()
    _say("to render", f"{result.takes:,} takes, {clock(result.audio_s * 1000)} of audio")
    _say("estimate", f"{cost_in_words(result)}: {_hours(result)} GPU-hours of {result.gpu}")
    _say("speed", result.source)
    if result.overhead_ms:
        _say("", f"of these {clock(result.overhead_ms)} to start, stop and wait, as measured")
    _say("price", price_line(result.price) if result.price else result.lack.what if result.lack else "unknown")
    if result.reject_rate:
        _say("rejects", f"{result.reject_rate:.1%} so far: about {result.expected_accepted:,} will be accepted")


def cost_in_words(result: Estimate) -> str:
    """The likely cost and the bounds of it; unknown without a price."""
    if result.money is None:
        return "unknown"
    low, likely, high = (usd(micros) for micros in result.money)
    return likely if low == high else f"{likely} (likely; {low} to {high})"


def _hours(result: Estimate) -> str:
    low, likely, high = (f"{ms / MS_PER_H:.2f}" for ms in result.time)
    return f"{likely} ({low} to {high})"


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

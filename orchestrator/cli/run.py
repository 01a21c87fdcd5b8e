"""`tunemill run`, `refresh` and `controller`: render what a catalog is missing, and see it come."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from catalog.errors import INTERRUPTED_EXIT_CODE, BrokerError
from catalog.settings import Settings, read_settings
from orchestrator.cli import status
from orchestrator.cli.console import JsonFlag, clock, err, out, print_json, usd, warn
from orchestrator.cli.summary import Summary, as_json, print_summary, raise_if_incomplete, summarise
from orchestrator.cli.watching import Display, display_for
from orchestrator.costs.prices import find_prices_folder, read_price_book
from orchestrator.detaching import start_detached
from orchestrator.launching import Prepared, Wish, begin, prepare
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.running import AttachedRun, Ending, price_lookup
from orchestrator.serving import serve_runs

CatalogArgument = Annotated[str, typer.Argument(help="A catalog's name, or the path of its file.")]
PresetsOption = Annotated[Path | None, typer.Option(help="Folder with zones/, genres/ and catalogs/.")]
ModelOption = Annotated[str | None, typer.Option(help="Render with this model instead of the catalog's.")]
GpuOption = Annotated[str | None, typer.Option(help="GPU to reckon with, as the price book names it.")]
MaxUsdOption = Annotated[str | None, typer.Option(help="Stop before this is passed (exit code 21).")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("run")(run)
    app.command("refresh")(refresh)
    app.command("status")(status.show_status)
    app.command("controller")(controller)


def run(
    catalog: CatalogArgument,
    presets: PresetsOption = None,
    model: ModelOption = None,
    gpu: GpuOption = None,
    max_usd: MaxUsdOption = None,
    worker: Annotated[bool, typer.Option("--worker", help="In a fleet: start a worker on this machine too.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background.")] = False,
    json: JsonFlag = False,
) -> None:
    """Render every take of CATALOG that is missing; a second run sends nothing.

    Ctrl-C stops in order; the same command goes on where it stopped.
    """
    settings = read_settings()
    ledger = open_ledger(settings.database)
    wish = Wish(catalog, presets, model, gpu, max_usd)
    prepared = prepare(wish, ledger, settings)
    _print_prepared(prepared)
    if _is_unchanged(prepared, ledger):
        _print_unchanged(prepared, json=json)
    elif detach:
        _detach(prepared, ledger, settings, wish, json=json)
    else:
        with display_for() as display:
            summary = _render(prepared, ledger, settings, display, worker=worker)
        if summary is None:
            _print_unchanged(prepared, json=json)
        else:
            _end(summary, settings, json=json)


def refresh(
    catalog: CatalogArgument,
    presets: PresetsOption = None,
    model: ModelOption = None,
    gpu: GpuOption = None,
    max_usd: MaxUsdOption = None,
    json: JsonFlag = False,
) -> None:
    """Bring CATALOG up to date, unattended: dated lines instead of a bar, for cron.

    Exit codes: 0 nothing to do or all accepted, 21 over the budget, 34 another run is active, 50 some takes
    were rejected or failed; every other mistake has its own.
    """
    settings = read_settings()
    ledger = open_ledger(settings.database)
    with display_for(dated=True) as display:
        prepared = prepare(Wish(catalog, presets, model, gpu, max_usd), ledger, settings)
        for note in prepared.notes:
            display.say(note)
        summary = None if _is_unchanged(prepared, ledger) else _render(prepared, ledger, settings, display)
        if summary is None:
            display.say(f"{prepared.plan.catalog}: nothing to do, {prepared.plan.counts.unchanged:,} takes unchanged")
            if json:
                print_json(_unchanged_as_json(prepared))
            return
        counts = summary.counts
        display.say(
            f"{prepared.plan.catalog}: {summary.ending}, {counts.accepted:,} accepted, {counts.rejected:,} rejected, "
            f"{counts.failed:,} failed, {counts.pending:,} waiting, {clock(summary.duration_ms)}, "
            f"{'unknown' if summary.spend.unpriced else usd(summary.spend.usd_micros)}"
        )
    if json:
        print_json(as_json(summary, settings))
    _exit_as(summary)


def controller(
    until_done: Annotated[bool, typer.Option("--until-done", help="End when no run is active.")] = False,
) -> None:
    """Feed and record all active runs of a fleet, until told to stop."""
    settings = read_settings()
    if settings.broker_url is None:
        raise BrokerError(
            "no broker is named",
            why="a controller serves a fleet, and a fleet meets at a broker",
            fix="set TUNEMILL_BROKER_URL; on one machine `tunemill run` does it all",
        )
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    book = read_price_book(find_prices_folder(None, settings.prices))
    ledger = open_ledger(settings.database)
    with display_for(dated=True) as display, ledger.writer_lock() as lock:
        serve_runs(ledger, lock, settings, price_of=price_lookup(book), watcher=display, until_done=until_done)


def _render(
    prepared: Prepared, ledger: Ledger, settings: Settings, display: Display, *, worker: bool = False
) -> Summary | None:
    """Begin and run; None when there turns out to be nothing to do."""
    began_s = time.monotonic()
    with ledger.writer_lock() as lock:
        begun = begin(prepared, ledger, settings)
        if begun.run_id is None:
            return None
        if begun.resumed:
            display.say(f"going on with run {begun.run_id[:8]}: {begun.pending:,} takes to make")
        attached = AttachedRun(
            ledger,
            lock,
            settings,
            run_id=begun.run_id,
            price_of=price_lookup(prepared.book),
            watcher=display,
            local_worker=settings.embedded or worker,
        )
        outcome = attached.run()
    duration_ms = round((time.monotonic() - began_s) * 1000)
    return summarise(ledger, settings, begun.run_id, outcome, duration_ms)


def _is_unchanged(prepared: Prepared, ledger: Ledger) -> bool:
    plan = prepared.plan
    return plan.to_render == 0 and not plan.dropped and ledger.unfinished_run(plan.catalog) is None


def _detach(prepared: Prepared, ledger: Ledger, settings: Settings, wish: Wish, *, json: bool) -> None:
    if settings.embedded:
        options = {"--presets": wish.presets, "--model": wish.model, "--gpu": wish.gpu, "--max-usd": wish.max_usd}
        named = [part for name, value in options.items() if value is not None for part in (name, str(value))]
        child = start_detached(settings.home, ["run", wish.catalog, *named])
        said: dict[str, Any] = {"pid": child.pid, "log": str(child.log)}
        words = f"running in the background: pid {child.pid}, log {child.log}; watch it with `tunemill status`"
    else:
        begun = begin(prepared, ledger, settings)
        said = {"run_id": begun.run_id, "pending": begun.pending}
        words = f"run {begun.run_id} has {begun.pending:,} takes to make; `tunemill controller` sends them"
    if json:
        print_json({"catalog": prepared.plan.catalog, "ending": "detached", **said})
    else:
        out.print(words, soft_wrap=True, markup=False)


def _print_prepared(prepared: Prepared) -> None:
    plan, counts = prepared.plan, prepared.plan.counts
    for note in prepared.notes:
        warn(note)
    if not plan.to_render:
        return
    err.print(
        f"{plan.catalog}: {plan.to_render:,} of {counts.total:,} takes to render with {plan.model} "
        f"({counts.new:,} new, {counts.changed:,} changed, {counts.unfinished:,} unfinished)",
        soft_wrap=True,
        markup=False,
    )
    if prepared.estimate is not None:
        guess = prepared.estimate
        err.print(
            f"estimate: {usd(guess.usd_micros)} for {clock(guess.gpu_ms)} of {guess.gpu} ({guess.source})",
            soft_wrap=True,
            markup=False,
        )


def _print_unchanged(prepared: Prepared, *, json: bool) -> None:
    if json:
        print_json(_unchanged_as_json(prepared))
    else:
        out.print(f"nothing to do: {prepared.plan.counts.unchanged:,} unchanged")


def _unchanged_as_json(prepared: Prepared) -> dict[str, Any]:
    counts = prepared.plan.counts
    return {"catalog": prepared.plan.catalog, "ending": "unchanged", "takes": {"unchanged": counts.unchanged}}


def _end(summary: Summary, settings: Settings, *, json: bool) -> None:
    if json:
        print_json(as_json(summary, settings))
    else:
        print_summary(summary, settings)
    if summary.ending is Ending.INTERRUPTED:
        warn(f"stopped; {summary.counts.pending:,} takes are left: the same command goes on with them")
    _exit_as(summary)


def _exit_as(summary: Summary) -> None:
    if summary.ending is Ending.INTERRUPTED:
        raise typer.Exit(INTERRUPTED_EXIT_CODE)
    if summary.refusal is not None:
        raise summary.refusal
    raise_if_incomplete(summary)

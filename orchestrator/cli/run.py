"""`tunemill run`, `refresh` and `controller`: render the missing takes of a catalog and show the progress."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from catalog.errors import INTERRUPTED_EXIT_CODE, BrokerError, BusyError
from catalog.retry import Backoff, Outage
from catalog.secrets import ScrubbingFormatter
from catalog.settings import Settings, read_settings
from orchestrator.cli.console import JsonErrorFlag, JsonFlag, clock, err, print_json, say, usd, warn
from orchestrator.cli.display import watching
from orchestrator.cli.ledger import find_ledger
from orchestrator.cli.options import (
    AxisOption,
    CatalogArgument,
    GenreOption,
    GpuOption,
    LimitOption,
    ModelOption,
    NoReplaceOption,
    PresetsOption,
    SampleOption,
    ZoneOption,
    is_attended,
)
from orchestrator.cli.plan import cost_in_words, counts_as_json, places_in_words, to_finish_in_words
from orchestrator.cli.selecting import as_options, read_places, read_selection, selected_in_words
from orchestrator.cli.summary import Summary, as_json, print_summary, raise_if_incomplete, summarise
from orchestrator.cli.worker import require_worker_extra
from orchestrator.finance.prices.layers import open_price_book
from orchestrator.finance.prices.lookup import price_lookup
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.lock import is_controller
from orchestrator.planning.plan import CatalogPlan
from orchestrator.runs.attached import AttachedRun, RunEnd
from orchestrator.runs.detach import start_detached
from orchestrator.runs.fleet import serve_runs
from orchestrator.runs.follow import follow_run
from orchestrator.runs.prepare import Prepared, RunOptions, begin, listed_would_leave, prepare
from orchestrator.runs.progress import Watcher

_T = TypeVar("_T")

MaxUsdOption = Annotated[str | None, typer.Option(help="Stop before the run costs more than this (exit code 21).")]

_RUN_EXAMPLES = """\b
Examples:
  tunemill run demo
  tunemill run hotel_group --max-usd 20
  tunemill run hotel_group --sample 1-per-cell    # one take of each cell, to listen to first
  tunemill run hotel_group --model tone    # a rehearsal, without any model"""
_REFRESH_EXAMPLES = """\b
Examples:
  tunemill refresh hotel_group --max-usd 15
  15 2 * * *  tunemill refresh hotel_group --max-usd 15 --wait 7200    # a line for cron"""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("run", epilog=_RUN_EXAMPLES)(run)
    app.command("refresh", epilog=_REFRESH_EXAMPLES)(refresh)
    app.command("controller")(controller)


def run(
    catalog: CatalogArgument,
    presets: PresetsOption = None,
    model: ModelOption = None,
    gpu: GpuOption = None,
    max_usd: MaxUsdOption = None,
    zone: ZoneOption = None,
    genre: GenreOption = None,
    axis: AxisOption = None,
    limit: LimitOption = None,
    sample: SampleOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Replace or retire accepted tracks without asking.")] = False,
    no_replace: NoReplaceOption = False,
    remake: Annotated[
        bool, typer.Option("--remake", help="Render tracks anew whose file alone is to change and that have no master.")
    ] = False,
    worker: Annotated[bool, typer.Option("--worker", help="In a fleet: start a worker on this machine, too.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the run to a background process and return.")] = False,
    json: JsonFlag = False,
) -> None:
    """Render every take of CATALOG that is missing.

    If no take is missing, the run sends nothing.

    The run first counts the listed tracks that it will replace or retire, and asks on a terminal. After a Ctrl-C it
    finishes the current batch; the same command continues where it stopped. With --zone, --genre, --axis, --sample or
    --limit it makes only the selected takes and changes no others.
    """
    settings = read_settings()
    selection = read_selection(read_places(zone, genre, axis), limit, sample)
    found = find_ledger(settings)
    options = RunOptions(
        catalog,
        presets,
        model,
        gpu,
        max_usd,
        attended=is_attended(),
        selection=selection,
        keep_listed=no_replace,
        remake=remake,
    )
    prepared = prepare(options, found, settings)
    _print_prepared(prepared)
    if options.attended and not yes:
        _ask_before_replacing(prepared.plan)
    if _is_unchanged(prepared, found):
        _print_unchanged(prepared, json=json)
        return
    if prepared.plan.to_render and (settings.embedded or worker):
        require_worker_extra(prepared.plan.model)
    ledger = found or open_ledger(settings.database)
    if detach:
        _detach(prepared, ledger, settings, options, json=json)
        return
    with watching() as watcher:
        summary = _render(prepared, ledger, settings, watcher, worker=worker)
    if summary is None:
        _print_unchanged(prepared, json=json)
    else:
        _end(summary, prepared, settings, json=json)


def refresh(
    catalog: CatalogArgument,
    presets: PresetsOption = None,
    model: ModelOption = None,
    gpu: GpuOption = None,
    max_usd: MaxUsdOption = None,
    no_replace: NoReplaceOption = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Wait this long for another run to end, instead of failing.")
    ] = 0.0,
    worker_patience: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=1, help="In a fleet: end with exit code 44 after this long without a worker."
        ),
    ] = 3600.0,
    json: JsonFlag = False,
) -> None:
    """Bring CATALOG up to date unattended, for cron.

    It prints dated lines instead of a progress bar.

    Exit codes: 0 nothing to do or all accepted, 21 over the budget, 34 another run is active, 41 no trained weights for
    a model that needs them, 44 no worker in a fleet, 50 some takes failed, or were rejected without a further try,
    53 --no-replace forbids it; every other mistake has its own.
    """
    settings = read_settings()
    options = RunOptions(catalog, presets, model, gpu, max_usd, check_machine=True, keep_listed=no_replace)
    with watching(dated=True) as watcher:
        prepared, summary = _once_free(lambda: _refresh(options, settings, watcher, worker_patience), wait, watcher)
    if json:
        print_json(
            _unchanged_as_json(prepared)
            if summary is None
            else {**as_json(summary, settings), **_plan_as_json(prepared)}
        )
    if summary is not None:
        _exit_as(summary)


def _once_free(call: Callable[[], _T], wait_s: float, watcher: Watcher) -> _T:
    """Call until nobody else is at work, for so long; then BusyError is raised."""
    outage = Outage(Backoff(first_s=1.0, longest_s=30.0, patience_s=wait_s))
    while True:
        try:
            return call()
        except BusyError as error:
            left_s = wait_s - outage.lasted_s
            if left_s <= 0:
                raise
            if outage.failed():
                watcher.say(f"{error.what}; waiting for up to {clock(round(wait_s * 1000))}")
            time.sleep(min(outage.next_wait_s() or 1.0, left_s))


def _refresh(
    options: RunOptions, settings: Settings, watcher: Watcher, worker_patience_s: float
) -> tuple[Prepared, Summary | None]:
    """Render what is missing; without a summary when there was nothing to render."""
    found = find_ledger(settings)
    prepared = prepare(options, found, settings)
    changes = prepared.plan.changes.in_words()
    for note in [
        *prepared.notes,
        *(f"{prepared.plan.catalog}: {sentence}" for sentence in (*_why_missing(prepared), *changes)),
    ]:
        watcher.say(note)
    summary = None
    if not _is_unchanged(prepared, found):
        if prepared.plan.to_render and settings.embedded:
            require_worker_extra(prepared.plan.model)
        ledger = found or open_ledger(settings.database)
        summary = _render(prepared, ledger, settings, watcher, worker_patience_s=worker_patience_s)
    if summary is None:
        what = "nothing to render" if prepared.plan.changes else "nothing to do"
        watcher.say(f"{prepared.plan.catalog}: {what}, {prepared.plan.counts.unchanged:,} takes unchanged")
        return prepared, None
    counts = summary.counts
    watcher.say(
        f"{prepared.plan.catalog}: {summary.end}, {counts.accepted:,} accepted, {summary.rejected_in_words}, "
        f"{counts.failed:,} failed, {counts.pending:,} waiting, {clock(summary.duration_ms)}, "
        f"{'unknown' if summary.spend.unpriced else usd(summary.spend.usd_micros)}"
        + "".join(f"; {sentence}" for sentence in changes)
    )
    return prepared, summary


def controller(
    until_done: Annotated[bool, typer.Option("--until-done", help="End as soon as no run is active.")] = False,
    json: JsonErrorFlag = False,
) -> None:
    """Feed and record all runs of a fleet until told to stop."""
    settings = read_settings()
    if settings.broker_url is None:
        raise BrokerError(
            "no broker is named",
            why="a controller and its workers exchange messages through a broker",
            fix="set TUNEMILL_BROKER_URL; on one machine use `tunemill run`, which needs no controller",
        )
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(ScrubbingFormatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[to_stderr])
    book = open_price_book(settings)
    ledger = open_ledger(settings.database)
    with watching(dated=True) as watcher, ledger.writer_lock() as lock:
        serve_runs(ledger, lock, settings, price_of=price_lookup(book), watcher=watcher, until_done=until_done)


def _render(
    prepared: Prepared,
    ledger: Ledger,
    settings: Settings,
    watcher: Watcher,
    *,
    worker: bool = False,
    worker_patience_s: float = math.inf,
) -> Summary | None:
    """Begin the run and render it, or follow it where a controller is at work; None when nothing is to be done."""
    began_s = time.monotonic()
    try:
        lock = ledger.writer_lock()
        lock.acquire()
    except BusyError as error:
        if settings.embedded or worker or not is_controller(error.holder):
            raise
        watcher.say(f"{error.holder} feeds and records this run; it continues the run after a Ctrl-C")
        begun = begin(prepared, ledger, settings)
        if begun.run_id is None:
            return None
        result = follow_run(ledger, begun.run_id, watcher, worker_patience_s=worker_patience_s)
        return summarise(ledger, settings, begun.run_id, result, round((time.monotonic() - began_s) * 1000))
    with lock:
        begun = begin(prepared, ledger, settings)
        if begun.run_id is None:
            return None
        if begun.resumed:
            watcher.say(f"going on with run {begun.run_id[:8]}: {begun.pending:,} takes to make")
        attached = AttachedRun(
            ledger,
            lock,
            settings,
            run_id=begun.run_id,
            price_of=price_lookup(prepared.book),
            watcher=watcher,
            local_worker=_worker_options(prepared) if settings.embedded or worker else None,
            worker_patience_s=worker_patience_s,
        )
        result = attached.run()
    duration_ms = round((time.monotonic() - began_s) * 1000)
    return summarise(ledger, settings, begun.run_id, result, duration_ms)


def _worker_options(prepared: Prepared) -> list[str]:
    """The options of the local worker: a planner that no take needs is not loaded."""
    return [] if any(load.bucket.planner for load in prepared.plan.loads) else ["--no-planner"]


def _is_unchanged(prepared: Prepared, ledger: Ledger | None) -> bool:
    plan = prepared.plan
    if plan.to_render or plan.dropped or plan.restored:
        return False
    return ledger is None or ledger.unfinished_run(plan.catalog) is None


def _detach(prepared: Prepared, ledger: Ledger, settings: Settings, options: RunOptions, *, json: bool) -> None:
    if settings.embedded:
        # The child has no terminal, so it gets the model that was chosen here, where a person reads the notes.
        named = {
            "--presets": options.presets,
            "--model": prepared.plan.model,
            "--gpu": options.gpu,
            "--max-usd": options.max_usd,
        }
        arguments = [part for name, value in named.items() if value is not None for part in (name, str(value))]
        arguments += [*as_options(options.selection), *(["--no-replace"] if options.keep_listed else [])]
        arguments += ["--remake"] if options.remake else []
        child = start_detached(settings.home, ["run", options.catalog, *arguments])
        said: dict[str, Any] = {"pid": child.pid, "log": str(child.log)}
        words = f"running in the background: pid {child.pid}, log {child.log}; watch it with `tunemill status`"
    else:
        begun = begin(prepared, ledger, settings)
        said = {"run_id": begun.run_id, "pending": begun.pending}
        words = f"run {begun.run_id} has {begun.pending:,} takes to make; `tunemill controller` sends them"
    if json:
        print_json({"catalog": prepared.plan.catalog, "ending": "detached", **said})
    else:
        say(words, hang=2)


def _ask_before_replacing(plan: CatalogPlan) -> None:
    """Ask whether accepted tracks may leave the list. Raises ReplacementError where the answer is no."""
    leaving = plan.changes.leaving.total()
    if leaving and not typer.confirm(f"replace or retire {leaving:,} accepted tracks?", default=False, err=True):
        raise listed_would_leave(plan, "the answer was no, and nothing was changed", "answer with `--yes`")


def _print_prepared(prepared: Prepared) -> None:
    plan, counts = prepared.plan, prepared.plan.counts
    for note in prepared.notes:
        warn(note)
    for sentence in [*plan.changes.in_words(), *to_finish_in_words(plan)]:
        warn(sentence)
    if selected := selected_in_words(plan):
        say(f"{plan.name_now}: {selected}", to=err, hang=2)
    if not plan.to_render:
        return
    kinds = {
        "new": counts.new,
        "changed": counts.changed,
        "unfinished": counts.unfinished,
        "rejected before": counts.again,
    }
    what = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    say(
        f"{plan.name_now}: {plan.to_render:,} of {counts.total:,} takes to render with {plan.model} ({what})",
        to=err,
        hang=2,
    )
    guess = prepared.estimate
    words = f"estimate: {cost_in_words(guess)} for {clock(guess.gpu_ms)} of {guess.gpu} ({guess.source})"
    say(words, to=err, hang=2)
    for sentence in _why_missing(prepared):
        say(sentence, to=err, hang=2)


def _why_missing(prepared: Prepared) -> list[str]:
    """The sentences on places whose takes were rejected; none where nothing was."""
    _, *sentences = places_in_words(prepared.plan, prepared.estimate)
    return sentences


def _print_unchanged(prepared: Prepared, *, json: bool) -> None:
    if json:
        print_json(_unchanged_as_json(prepared))
    else:
        say(_nothing_to_do(prepared))
        for sentence in _why_missing(prepared):
            say(sentence, hang=2)


def _nothing_to_do(prepared: Prepared) -> str:
    if prepared.plan.changes or prepared.plan.finishing:
        return f"nothing to render: {prepared.plan.counts.kept:,} takes are made already"
    if prepared.plan.selected is not None:
        return f"nothing to do: {selected_in_words(prepared.plan)}, and none of them is missing"
    return f"nothing to do: {prepared.plan.counts.unchanged:,} unchanged"


def _unchanged_as_json(prepared: Prepared) -> dict[str, Any]:
    counts = prepared.plan.counts
    said = {"catalog": prepared.plan.catalog, "ending": "unchanged", "takes": {"unchanged": counts.unchanged}}
    return {**said, **_plan_as_json(prepared)}


def _plan_as_json(prepared: Prepared) -> dict[str, Any]:
    plan = prepared.plan
    selected = None if plan.selected is None else len(plan.selected)
    return {
        "selected": selected,
        "planned": plan.planned,
        "changes": plan.changes.as_plain_values(),
        "plan": counts_as_json(plan.counts),
    }


def _end(summary: Summary, prepared: Prepared, settings: Settings, *, json: bool) -> None:
    if json:
        print_json({**as_json(summary, settings), **_plan_as_json(prepared)})
    else:
        print_summary(summary, settings)
        for sentence in prepared.plan.changes.in_words():
            say(sentence, hang=2)
    if summary.end is RunEnd.LEFT:
        warn(f"{summary.counts.pending:,} takes are left, and the controller goes on with them; see `tunemill status`")
    if summary.end is RunEnd.INTERRUPTED:
        warn(f"stopped; {summary.counts.pending:,} takes are left: the same command goes on with them")
    _exit_as(summary)


def _exit_as(summary: Summary) -> None:
    if summary.end in (RunEnd.INTERRUPTED, RunEnd.LEFT):
        raise typer.Exit(INTERRUPTED_EXIT_CODE)
    if summary.refusal is not None:
        raise summary.refusal
    raise_if_incomplete(summary)

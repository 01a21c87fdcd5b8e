"""`tunemill catalog finish`: gives tracks the format and level of their catalog from stored audio, without a GPU."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Annotated, Final

import typer

from catalog.errors import DisagreementError
from catalog.orders import read_signer
from catalog.settings import Settings, read_settings
from orchestrator.cli.console import JsonFlag, print_json, say, warn
from orchestrator.cli.display import counting
from orchestrator.cli.ledger import get_ledger_of_names
from orchestrator.cli.options import CatalogArgument, PresetsOption
from orchestrator.cli.worker import require_audio_packages
from orchestrator.ledger import Ledger
from orchestrator.matrix import load_catalog
from orchestrator.planning.plan import CatalogPlan
from orchestrator.runs.finishing import FinishedTakes, FinishingWork, finish_takes, measure_work
from orchestrator.runs.prepare import choose_model, plan_against

_FAULTS_SHOWN: Final = 5
_GIB: Final = 2**30
_EXAMPLES = """\b
Examples:
  tunemill catalog finish hotel_group --dry-run
  tunemill catalog finish hotel_group"""


def register(group: typer.Typer) -> None:
    """Add the command to the group `tunemill catalog`."""
    group.command("finish", epilog=_EXAMPLES)(finish)


def finish(
    catalog: CatalogArgument,
    presets: PresetsOption = None,
    model: Annotated[str | None, typer.Option(help="Finish the takes of this model instead of the catalog's.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Work on so many takes at once; by default one a core.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    json: JsonFlag = False,
) -> None:
    """Make the files of tracks anew, without a GPU.

    After a change of format, loudness, bit rate or another setting of mastering, each track gets a new file from its
    master or its lossless file. The old file stays in the store, and changing the catalog back brings it back.

    Tracks of which only a lossy file is kept stay as they are. After a stop, the same command goes on. Ends with 52
    when the store lacks audio that it should have.
    """
    settings = read_settings()
    with closing(get_ledger_of_names(settings)) as ledger:
        loaded = load_catalog(catalog, presets, settings)
        # Nothing is rendered, so the catalog keeps whatever model it was made with, of a rehearsal too.
        choice = choose_model(loaded, model, ledger, settings, attended=True)
        plan = plan_against(loaded, ledger, model=choice.model)
        work = measure_work(plan, ledger)
        if not json:
            _print_work(plan, work)
        done = FinishedTakes(0, {})
        if work.ready and not dry_run:
            require_audio_packages()
            done = _finish(plan, work, ledger, settings, jobs or os.cpu_count() or 1)
        if json:
            _print_json(work, done, dry_run=dry_run)
        elif work.ready and not dry_run:
            say(f"{done.made:,} tracks have new files; the old files stay in the store")
    faults = done.faults
    if faults:
        shown = list(faults.items())[:_FAULTS_SHOWN]
        raise DisagreementError(
            f"{len(faults):,} tracks could not be finished",
            why="; ".join(f"{take_id}: {fault}" for take_id, fault in shown)
            + ("; ..." if faults != dict(shown) else ""),
            fix="`tunemill catalog verify` names all that the store lacks, and `tunemill catalog repair` mends it",
        )


def _finish(
    plan: CatalogPlan, work: FinishingWork, ledger: Ledger, settings: Settings, processes: int
) -> FinishedTakes:
    signer = read_signer(settings.signing_key) if settings.signing_key.exists() else None
    with counting("finishing", work.ready) as on_take:
        return finish_takes(plan, ledger, settings, signer=signer, processes=processes, on_take=on_take)


def _print_work(plan: CatalogPlan, work: FinishingWork) -> None:
    """Say how many tracks are finished, from how much audio, and which cannot be."""
    if not plan.finishing:
        others = f"; {plan.to_render:,} takes are to be rendered by `tunemill run`" if plan.to_render else ""
        say(f"nothing to finish: {plan.counts.kept:,} tracks of {plan.name_now} are as the catalog asks for{others}")
        return
    changes = ", ".join(f"{count:,} {words}" for words, count in work.formats.most_common())
    say(f"{work.ready:,} of {plan.counts.total:,} tracks to finish{f' ({changes})' if changes else ''}")
    if work.ready:
        say(f"{work.bytes_to_read / _GIB:.2f} GiB of audio is read from the store, and the new files are added to it")
    if work.without:
        many = "1 track keeps its file" if len(work.without) == 1 else f"{len(work.without):,} tracks keep their files"
        warn(f"{many}: no master was kept, and the file is lossy or was limited; `tunemill run --remake` renders anew")


def _print_json(work: FinishingWork, done: FinishedTakes, *, dry_run: bool) -> None:
    print_json(
        {
            "dry_run": dry_run,
            "to_finish": work.ready,
            "bytes_to_read": work.bytes_to_read,
            "finished": done.made,
            "without_master": work.without,
            "faults": done.faults,
        }
    )

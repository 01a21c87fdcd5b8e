"""`tunemill catalog finish`: gives tracks the format and level of their catalog from stored audio, without a GPU."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from catalog.errors import DisagreementError
from catalog.finishing import FinishJob, find_source
from catalog.messages import new_id, now_ms
from catalog.orders import OrderSigner, read_signer
from catalog.settings import Settings, read_settings
from catalog.sidecar import Sidecar
from catalog.track import Take
from orchestrator.cli.console import JsonFlag, print_json, say, warn
from orchestrator.cli.display import counting
from orchestrator.cli.ledger import get_ledger_of_names
from orchestrator.cli.options import CatalogArgument, PresetsOption
from orchestrator.cli.worker import require_audio_packages
from orchestrator.ledger import Ledger
from orchestrator.ledger.finishing import record_finished, sidecars_of
from orchestrator.ledger.upkeep import stretch_runs
from orchestrator.matrix import load_catalog
from orchestrator.planning.plan import CatalogPlan
from orchestrator.runs.finishing import finish_takes
from orchestrator.runs.prepare import choose_model, plan_against

_FAULTS_SHOWN: Final = 5
_GIB: Final = 2**30
_EXAMPLES = """\b
Examples:
  tunemill catalog finish hotel_group --dry-run
  tunemill catalog finish hotel_group"""


class _Work(NamedTuple):
    """The takes to finish, each with the stored take whose audio serves; and those without such audio."""

    ready: list[tuple[Take, Sidecar]]
    without: list[str]  # ids of stored takes of which only a lossy or limited file is kept

    @property
    def bytes_to_read(self) -> int:
        """The size of the audio that is read from the store."""
        sources = (find_source(stored) for _, stored in self.ready)
        return sum(source.audio.bytes for source in sources if source)


def register(group: typer.Typer) -> None:
    """Add the command to the group `tunemill catalog`."""
    group.command("finish", epilog=_EXAMPLES)(finish)


def finish(
    catalog: CatalogArgument,
    presets: PresetsOption = None,
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
        choice = choose_model(loaded, None, ledger, settings, attended=False)
        plan = plan_against(loaded, ledger, model=choice.model)
        work = _read_work(plan, ledger)
        if not json:
            _print_work(plan, work)
        if dry_run or not work.ready:
            made, faults = 0, dict[str, str]()
        else:
            require_audio_packages()
            made, faults = _finish(work, ledger, settings, jobs or os.cpu_count() or 1)
        if json:
            _print_json(work, made, faults, dry_run=dry_run)
        elif not dry_run and work.ready:
            say(f"{made:,} tracks have new files; the old files stay in the store")
    if faults:
        shown = list(faults.items())[:_FAULTS_SHOWN]
        raise DisagreementError(
            f"{len(faults):,} tracks could not be finished",
            why="; ".join(f"{take_id}: {fault}" for take_id, fault in shown)
            + ("; ..." if faults != dict(shown) else ""),
            fix="`tunemill catalog verify` names all that the store lacks, and `tunemill catalog repair` mends it",
        )


def _read_work(plan: CatalogPlan, ledger: Ledger) -> _Work:
    """Find the stored audio for each take that is to be finished."""
    wanted = {stored_id: take_id for take_id, stored_id in plan.finishing.items()}
    takes = {take.id: take for take in plan.takes() if take.id in plan.finishing}
    ready: list[tuple[Take, Sidecar]] = []
    without: list[str] = []
    for stored in sidecars_of(ledger, list(wanted)):
        if find_source(stored) is None:
            without.append(stored.take_id)
        else:
            ready.append((takes[wanted[stored.take_id]], stored))
    return _Work(ready, without)


def _finish(work: _Work, ledger: Ledger, settings: Settings, processes: int) -> tuple[int, dict[str, str]]:
    """Have the takes made and record each; returns how many, and the faults of the others by take."""
    key: Path = settings.signing_key
    signer = read_signer(key) if key.exists() else None
    made, faults = 0, {}
    bounds: dict[str, tuple[int, int]] = {}
    with counting("finishing", len(work.ready)) as on_take:
        for result in finish_takes(_jobs(work, signer), processes=processes, home=settings.home):
            on_take()
            if result.sidecar is None:
                faults[result.take_id] = result.fault
                continue
            with ledger.write() as connection:
                made += record_finished(connection, [result.sidecar])
                stretch_runs(connection, [result.sidecar], bounds)
    return made, faults


def _jobs(work: _Work, signer: OrderSigner | None) -> Iterator[FinishJob]:
    run_id = new_id()
    for take, stored in work.ready:
        receipt = signer.receipt_of(take.id, now_ms()) if signer else ""
        yield FinishJob(take=take, stored=stored, run_id=run_id, receipt=receipt)


def _print_work(plan: CatalogPlan, work: _Work) -> None:
    """Say how many tracks are finished, from how much audio, and which cannot be."""
    if not plan.finishing:
        say(f"nothing to finish: every track of {plan.name_now} has the format and level that its catalog asks for")
        return
    formats = Counter(f"{stored.audio.format} to {take.spec.master.format}" for take, stored in work.ready)
    changes = ", ".join(f"{count:,} {words}" for words, count in formats.most_common())
    say(f"{len(work.ready):,} of {plan.counts.total:,} tracks to finish{f' ({changes})' if changes else ''}")
    if work.ready:
        say(f"{work.bytes_to_read / _GIB:.2f} GiB of audio is read from the store, and the new files are added to it")
    if work.without:
        many = "1 track keeps its file" if len(work.without) == 1 else f"{len(work.without):,} tracks keep their files"
        warn(f"{many}: no master was kept, and the file is lossy or was limited; `tunemill run --remake` renders anew")


def _print_json(work: _Work, made: int, faults: dict[str, str], *, dry_run: bool) -> None:
    print_json(
        {
            "dry_run": dry_run,
            "to_finish": len(work.ready),
            "bytes_to_read": work.bytes_to_read,
            "finished": made,
            "without_master": work.without,
            "faults": faults,
        }
    )

"""Finishing without a GPU: stored takes get the format and level that their catalog asks for now.

Processes of the data plane do the work on audio; this side chooses the takes, orders the work and records the results.
Each take is recorded as it comes, so an interrupted command goes on where it stopped, and a take that was made and not
recorded is found in the store. Takes and sidecars are read some at a time, so that a large catalog stays small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from catalog.finishing import FinishJob, FinishResult, find_source
from catalog.messages import new_id, now_ms
from catalog.orders import OrderSigner
from catalog.settings import Settings
from catalog.sidecar import Sidecar
from catalog.track import Take
from orchestrator.ledger import Ledger
from orchestrator.ledger.finishing import read_sidecars, record_finished
from orchestrator.ledger.upkeep import stretch_runs
from orchestrator.planning.plan import CatalogPlan
from orchestrator.runs.audio_processes import AudioProcesses
from orchestrator.upkeep.abreast import abreast

_AT_ONCE: Final = 200  # sidecars, of some tens of kilobytes each


class FinishedTakes(NamedTuple):
    """The end of the work: the number of takes that have their slots, and take id -> fault of the others."""

    made: int
    faults: dict[str, str]


@dataclass(slots=True)
class FinishingWork:
    """The takes that are to be finished, in numbers."""

    ready: int = 0
    bytes_to_read: int = 0
    formats: Counter[str] = field(default_factory=Counter)  # "mp3 to flac" -> takes
    without: list[str] = field(default_factory=list)  # stored takes of which only a lossy or limited file is kept


def measure_work(plan: CatalogPlan, ledger: Ledger) -> FinishingWork:
    """Look at the stored audio of each take that `plan` has to finish."""
    work = FinishingWork()
    for take, stored in _pairs(plan, ledger):
        source = find_source(stored)
        if source is None:
            work.without.append(stored.take_id)
            continue
        work.ready += 1
        work.bytes_to_read += source.audio.bytes
        work.formats[f"{stored.audio.format} to {take.spec.master.format}"] += 1
    return work


def finish_takes(
    plan: CatalogPlan,
    ledger: Ledger,
    settings: Settings,
    *,
    signer: OrderSigner | None,
    processes: int,
    on_take: Callable[[], None],
) -> FinishedTakes:
    """Have each take made whose audio is there, and record it. Raises the error that ended a process."""
    made, faults = 0, dict[str, str]()
    bounds: dict[str, tuple[int, int]] = {}
    with AudioProcesses("finish", FinishResult, settings.home) as audio:
        for result in abreast(audio.ask, _jobs(plan, ledger, signer), processes):
            on_take()
            if result.sidecar is None:
                faults[result.take_id] = result.fault
                continue
            with ledger.write() as connection:
                made += record_finished(connection, [result.sidecar])
                stretch_runs(connection, [result.sidecar], bounds)
    return FinishedTakes(made, faults)


def _jobs(plan: CatalogPlan, ledger: Ledger, signer: OrderSigner | None) -> Iterator[FinishJob]:
    run_id = new_id()
    for take, stored in _pairs(plan, ledger):
        if find_source(stored) is not None:
            receipt = signer.receipt_of(take.id, now_ms()) if signer else ""
            yield FinishJob(take=take, stored=stored, run_id=run_id, receipt=receipt)


def _pairs(plan: CatalogPlan, ledger: Ledger) -> Iterator[tuple[Take, Sidecar]]:
    """Each take to finish with the sidecar of the take that has its slot; a sidecar that cannot be read is left out."""
    wanted = (take for take in plan.takes() if take.id in plan.finishing)
    while takes := list(islice(wanted, _AT_ONCE)):
        stored = read_sidecars(ledger, [plan.finishing[take.id] for take in takes])
        yield from ((take, stored[there]) for take in takes if (there := plan.finishing[take.id]) in stored)

"""Scoring takes whose workers computed no scores: the scores are computed from stored audio on this machine.

Each is written to the ledger as it comes, so an interrupted command goes on where it stopped. Sidecars are read some at
a time, so that a large catalog stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from catalog.scoring import ScoreJob, ScoreResult
from catalog.sidecar import Sidecar
from orchestrator.ledger import Ledger
from orchestrator.ledger.choice import Unscored, note_scores, sidecars_of
from orchestrator.runs.audio_processes import AudioProcesses
from orchestrator.upkeep.abreast import abreast

_AT_ONCE: Final = 200  # sidecars, of some tens of kilobytes each


def compute_scores(
    ledger: Ledger, renditions: Sequence[Unscored], *, processes: int, home: Path, on_take: Callable[[], None]
) -> dict[str, str]:
    """Write the scores of `renditions`; returns take id -> fault of the others. Raises what ended a process."""
    faults: dict[str, str] = {}
    record_ids = {each.take_id: each.record_id for each in renditions}
    with AudioProcesses("score", ScoreResult, home) as audio:
        for result in abreast(audio.ask, _jobs(ledger, renditions, faults), processes):
            on_take()
            if result.fault:
                faults[result.take_id] = result.fault
                continue
            with ledger.write() as connection:
                note_scores(connection, record_ids[result.take_id], result.scores)
    return faults


def _jobs(ledger: Ledger, renditions: Sequence[Unscored], faults: dict[str, str]) -> Iterator[ScoreJob]:
    """A job for each take whose sidecar can be read; the others are noted in `faults`."""
    for at in range(0, len(renditions), _AT_ONCE):
        some = renditions[at : at + _AT_ONCE]
        with ledger.read() as connection:
            stored = sidecars_of(connection, [each.record_id for each in some])
        for each in some:
            try:
                yield ScoreJob(stored=Sidecar.model_validate(stored[each.record_id]))
            except ValidationError:
                faults[each.take_id] = "a newer version of this program wrote its sidecar"

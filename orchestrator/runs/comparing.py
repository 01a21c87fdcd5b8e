"""Comparing takes whose workers computed no codes: the codes are computed from stored audio on this machine.

Each is written to the ledger as it comes, so an interrupted command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from catalog.chroma import ChromaJob, ChromaResult
from orchestrator.ledger import Ledger
from orchestrator.ledger.chroma import note_codes
from orchestrator.ledger.duplicates import Uncompared
from orchestrator.runs.audio_processes import AudioProcesses
from orchestrator.upkeep.abreast import abreast


def compute_codes(
    ledger: Ledger, renditions: Sequence[Uncompared], *, processes: int, home: Path, on_take: Callable[[], None]
) -> dict[str, str]:
    """Write the codes of `renditions`; returns take id -> fault of the others. Raises what ended a process."""
    faults: dict[str, str] = {}
    with AudioProcesses("compare", ChromaResult, home) as audio:
        results = abreast(audio.ask, _jobs(renditions), processes)
        for rendition, result in zip(renditions, results, strict=True):
            on_take()
            if result.fault:
                faults[rendition.take_id] = result.fault
                continue
            with ledger.write() as connection:
                note_codes(connection, [(rendition.record_id, result.chroma)])
    return faults


def _jobs(renditions: Iterable[Uncompared]) -> Iterator[ChromaJob]:
    return (ChromaJob(key=each.audio_key, sha256=each.sha256) for each in renditions)

"""Finishing without a GPU: stored takes get the format, level and tags that their catalog asks for now.

This side chooses the takes, hands out the jobs and records the results. Each take is recorded as it comes, so an
interrupted command goes on where it stopped, and a take that was made and not recorded is found in the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from catalog.finishing import FinishJob, FinishResult
from orchestrator.runs.audio_room import AudioRoom
from orchestrator.upkeep.abreast import abreast


def finish_takes(jobs: Iterable[FinishJob], *, processes: int, home: Path) -> Iterator[FinishResult]:
    """The result of each job, in their order; `processes` work at once. Raises what ended a process."""
    with AudioRoom("finish", FinishResult, home) as room:
        yield from abreast(room.ask, jobs, processes)

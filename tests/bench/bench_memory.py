"""500 tracks through the engine's own process: how much its memory, and this one's, grows once it has settled.

The tiny random model, two lengths, planner on for a third of the takes, batches of eight: every cache that an
engine keeps is filled in the first hundred tracks, which do not count. The slope is that of all later readings.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple, Protocol

from catalog.buckets import Bucket
from catalog.messages import MemoryUse
from catalog.models import TINY
from catalog.settings import Settings
from catalog.spec import PlannerSpec
from catalog.track import Take
from tests.bench.measuring import Figure, hand_back, slope, timed
from tests.bench.tracks import different_takes
from workers.engine.memory import resident_mib
from workers.engine.process import EngineProcess
from workers.engine.protocol import BatchResult, Job, Rendition
from workers.wiring import engine_recipe

TRACKS = 500
SETTLING = 100  # tracks that do not count
BATCH = 8
# Lengths and whether they are planned; every batch is of one of these buckets.
KINDS = ((10, False), (10, True), (12, False))
GROWTH_MIB = 4.0  # per 100 tracks: one take of ten seconds that is never let go


class Watched(Protocol):
    """What the bench needs of an engine."""

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        """Render one batch."""

    def memory(self) -> MemoryUse | None:
        """What it holds."""


class Reading(NamedTuple):
    """Memory after so many tracks."""

    tracks: int
    engine_mib: float
    here_mib: float


def batches(tracks: int) -> Iterator[list[Take]]:
    """So many takes in batches that share a bucket, one kind after the other."""
    first = 0
    for duration_s, planned in cycle(KINDS):
        size = min(BATCH, tracks - first)
        if not size:
            return
        planner = PlannerSpec() if planned else None
        yield different_takes(first, size, model=TINY.name, duration_s=duration_s, planner=planner)
        first += size


def watch(engine: Watched, tracks: int) -> list[Reading]:
    """Render so many tracks; one reading after each batch. Raises SystemExit when one is refused."""
    readings: list[Reading] = []
    done = 0
    for batch in batches(tracks):
        result = engine.render([Job(take) for take in batch])
        if not all(isinstance(outcome, Rendition) for outcome in result.outcomes):
            raise SystemExit(f"a track was not rendered: {result.outcomes}")
        done += len(batch)
        use = engine.memory()
        assert use is not None, "an engine that has replied has said what it holds"
        readings.append(Reading(done, use.rss_mib + use.device_mib, resident_mib()))
    return readings


def growth(readings: Sequence[Reading], *, settling: int = SETTLING) -> tuple[float, float]:
    """MiB per 100 tracks of the engine's process and of this one, once `settling` tracks are over."""
    settled = [reading for reading in readings if reading.tracks > settling]
    engine = slope((reading.tracks, reading.engine_mib) for reading in settled)
    here = slope((reading.tracks, reading.here_mib) for reading in settled)
    return 100 * engine, 100 * here


def main() -> None:
    """Measure and hand back."""
    with tempfile.TemporaryDirectory() as home:
        recipe = engine_recipe(Settings(home=Path(home), device="cpu"), TINY.name)
        engine = EngineProcess(recipe)
        try:
            assert engine.batch_limit(Bucket.of(next(batches(1))[0].spec)).takes >= BATCH
            with timed() as clock:
                readings = watch(engine, TRACKS)
        finally:
            engine.close()
    engine_growth, here_growth = growth(readings)
    hand_back(
        [
            Figure(f"{TRACKS} tracks of 10 to 12 s through the engine's process", clock.seconds, "s"),
            Figure("the engine's memory at the end", readings[-1].engine_mib, "MiB"),
            Figure("growth of the engine", engine_growth, "MiB per 100 tracks", at_most=GROWTH_MIB),
            Figure("growth of the process that asks it", here_growth, "MiB per 100 tracks", at_most=GROWTH_MIB),
        ]
    )


if __name__ == "__main__":
    main()

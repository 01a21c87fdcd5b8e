"""Calibrating: find the number of takes of each length that this GPU renders in one batch, by rendering them.

For each duration, batches of 1, 2 and 4 takes are rendered and their memory is measured. From the growth follows the
number of takes that should fit. A batch of that number is rendered too, because only a size that was rendered is
promised. As in a worker, the memory of decoding is added to that of diffusion where the two run side by side.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol, cast

import numpy as np

from catalog.buckets import Bucket
from catalog.errors import OutOfVram, WorkerError
from catalog.limits import CODEBOOK_SIZE
from catalog.messages import now_ms
from catalog.models import TURBO, find_model
from catalog.settings import Settings
from catalog.sidecar import Plan
from catalog.spec import PlannerSpec, TrackSpec
from catalog.tiers import BatchLimit, tier_of
from catalog.track import Track
from workers.engine.calibration import (
    CalibrationKey,
    Measured,
    calibration_path,
    read_calibration,
    size,
    write_calibration,
)
from workers.engine.protocol import EngineCard, Finish, Job, Refusal
from workers.wiring import engine_recipe

log = logging.getLogger(__name__)

DURATIONS_S: Final = (30, 60, 120, 180, 240, 360, 480, 600)
CEILING: Final = 64
_FIRST_BATCHES: Final = (1, 2, 4)
# Graphs are recorded in the second run and compilers may wait for it; the third is the first like all others.
_RUNS: Final = 3
_CAPTION: Final = "calm piano with warm strings over a slow and steady beat, for an evening in a hotel lobby " * 3


class MemoryProbe(Protocol):
    """Measures the peak of memory between two moments."""

    def start(self) -> None:
        """Free cached memory, and measure from here."""

    def peak_bytes(self) -> int:
        """The peak since `start`."""


class BatchMemory(Protocol):
    """The memory budget that an engine's measurements are held against."""

    @property
    def key(self) -> CalibrationKey:
        """Everything that the measurements depend on."""

    def batches_bytes(self) -> int:
        """The memory that a batch may need, beside the memory that the engine uses already."""

    def published_limit(self, bucket: Bucket) -> BatchLimit:
        """The batch limit of an engine that was never calibrated."""

    def open_memory_probe(self) -> MemoryProbe:
        """A probe for the engine's device. Raises WorkerError where there is none."""


class CalibratableEngine(Protocol):
    """An engine that can be calibrated."""

    @property
    def card(self) -> EngineCard:
        """The engine's card."""

    @property
    def budget(self) -> BatchMemory:
        """The budget of the device's memory."""

    def begin(self, jobs: Sequence[Job]) -> Finish:
        """Render one batch as far as its latents."""

    def forget_shapes(self) -> None:
        """Free everything that is kept for batches of earlier shapes."""


class BatchMeasurement(NamedTuple):
    """The measurement of one batch that was rendered."""

    takes: int
    need_bytes: int
    ms: int
    beside_bytes: int = 0  # the part that another batch needs for its decoding meanwhile


class MeasuredLimit(NamedTuple):
    """The largest batch that was found to fit, and how memory grows up to it."""

    largest: BatchMeasurement
    take_bytes: int
    batch_bytes: int


def find_limit(
    render: Callable[[int], BatchMeasurement | None], *, room_bytes: int, ceiling: int
) -> MeasuredLimit | None:
    """The largest batch, up to `ceiling`, that needs at most `room_bytes`; None when one take alone needs more.

    `render` renders a batch of so many takes and measures it; None: it ran out of memory.
    """

    def fitting(takes: int) -> BatchMeasurement | None:
        measurement = render(takes)
        return measurement if measurement is not None and measurement.need_bytes <= room_bytes else None

    fits: list[BatchMeasurement] = []
    for takes in (takes for takes in _FIRST_BATCHES if takes <= ceiling):
        measurement = fitting(takes)
        if measurement is None:
            ceiling = takes - 1
            break
        fits.append(measurement)
    if not fits:
        return None
    known = _limit(fits)
    predicted = (room_bytes - known.batch_bytes) // known.take_bytes if known.take_bytes else ceiling
    takes = min(ceiling, predicted)
    while takes > fits[-1].takes:
        if measurement := fitting(takes):
            fits.append(measurement)
            break
        takes = (takes + fits[-1].takes) // 2
    return _limit(fits)


def _limit(fits: Sequence[BatchMeasurement]) -> MeasuredLimit:
    """The limit from the two largest batches; after one alone all memory counts as growth, so it may be too low."""
    largest = fits[-1]
    if len(fits) == 1:
        return MeasuredLimit(largest, take_bytes=largest.need_bytes // largest.takes, batch_bytes=0)
    smaller = fits[-2]
    take_bytes = max(0, -(-(largest.need_bytes - smaller.need_bytes) // (largest.takes - smaller.takes)))
    return MeasuredLimit(largest, take_bytes, max(0, largest.need_bytes - take_bytes * largest.takes))


class CalibrationRun:
    """One calibration of one engine; the file is written as soon as a duration is measured."""

    def __init__(self, engine: CalibratableEngine, home: Path) -> None:
        self._engine, self._home = engine, home
        self._kept = read_calibration(home, engine.budget.key).calibration
        self._measured: list[Measured] = []

    def measure(self, durations_s: Sequence[int] = (), *, ceiling: int = CEILING) -> None:
        """Measure one duration after the other; one that does not fit at all is logged and left out.

        None named: the usual ones that a device of this size is asked for. Raises WorkerError where memory cannot
        be measured.
        """
        for measured in calibrate(self._engine, durations_s or self._usual_durations_s(), ceiling=ceiling):
            self._measured.append(measured)
            self._kept = self._kept.with_measured(measured)
            write_calibration(self._home, self._kept)

    def report(self) -> str:
        """The measurements of this calibration and the path of the file, as JSON."""
        return json.dumps(
            {
                "file": str(calibration_path(self._home, self._kept.key)),
                "key": self._kept.key.model_dump(),
                "measured": [measured.model_dump() for measured in self._measured],
            },
            indent=2,
        )

    def _usual_durations_s(self) -> list[int]:
        tier = tier_of(self._engine.card.vram_gib)
        longest_s = tier.max_s_planned if self._engine.card.fingerprints.planner else tier.max_s
        return [duration_s for duration_s in DURATIONS_S if duration_s <= longest_s]


def open_calibratable_engine(settings: Settings, model: str, *, planner_wanted: bool) -> CalibratableEngine:
    """Load the engine of `model` here and now, to be calibrated. Raises ModelError or WorkerError."""
    if not find_model(model).needs_device:
        raise WorkerError(
            f"{model!r} cannot be calibrated",
            why="it has no model and uses no GPU",
            fix=f"name a model with --model, such as {TURBO.name}",
        )
    recipe = engine_recipe(settings, model, planner_wanted=planner_wanted, trial=True)
    return cast(CalibratableEngine, recipe.build())


def calibrate(engine: CalibratableEngine, durations_s: Sequence[int], *, ceiling: int) -> Iterator[Measured]:
    """Measure batches of each duration, up to `ceiling` takes."""
    memory, room_bytes = engine.budget.open_memory_probe(), engine.budget.batches_bytes()
    log.info("a batch may need %s; durations: %s", size(room_bytes), ", ".join(f"{each} s" for each in durations_s))
    for duration_s in durations_s:
        spec = _spec(engine.card, duration_s)
        limit = find_limit(_BatchMeter(engine, memory, spec).render, room_bytes=room_bytes, ceiling=ceiling)
        if limit is None:
            log.warning("%d s: not even one take fits into %s", duration_s, size(room_bytes))
            continue
        yield Measured(
            duration_s=duration_s,
            takes=limit.largest.takes,
            take_bytes=limit.take_bytes,
            batch_bytes=limit.batch_bytes,
            beside_bytes=limit.largest.beside_bytes,
            peak_bytes=limit.largest.need_bytes,
            published=engine.budget.published_limit(Bucket.of(spec)).takes,
            ms_per_take=round(limit.largest.ms / limit.largest.takes),
            at_ms=now_ms(),
        )


class _BatchMeter:
    """Renders batches of one spec and measures their memory."""

    def __init__(self, engine: CalibratableEngine, memory: MemoryProbe, spec: TrackSpec) -> None:
        self._engine, self._memory, self._spec = engine, memory, spec
        engine.forget_shapes()
        memory.start()
        self._resting = memory.peak_bytes()

    def render(self, takes: int) -> BatchMeasurement | None:
        """Measure a batch of `takes` in the state of all later ones; None: it ran out of memory."""
        self._engine.forget_shapes()
        jobs = [_job(self._spec, number) for number in range(1, takes + 1)]
        try:
            runs = [self._run(jobs) for _ in range(_RUNS)]
        except OutOfVram as error:
            log.info("%d s: %d takes do not fit (%s)", self._spec.duration_s, takes, error)
            return None
        largest = max(runs, key=lambda run: run.need_bytes)
        measurement = largest._replace(ms=runs[-1].ms)
        words = "%d s: %d takes need %s, %.2f s each"
        log.info(words, self._spec.duration_s, takes, size(measurement.need_bytes), measurement.ms / 1000 / takes)
        return measurement

    def _run(self, jobs: Sequence[Job]) -> BatchMeasurement:
        self._memory.start()
        begun_s = time.perf_counter()
        finish = self._engine.begin(jobs)
        spent_s = time.perf_counter() - begun_s
        diffusing = self._memory.peak_bytes() - self._resting
        self._memory.start()
        holding = self._memory.peak_bytes() - self._resting
        begun_s = time.perf_counter()
        result = finish()
        spent_s += time.perf_counter() - begun_s
        decoding = self._memory.peak_bytes() - self._resting
        if refused := [outcome.reason for outcome in result.outcomes if isinstance(outcome, Refusal)]:
            raise WorkerError("the engine refuses to be measured", why=refused[0])
        beside = decoding - holding if self._engine.card.overlaps else 0
        return BatchMeasurement(len(jobs), max(diffusing + beside, decoding, 0), round(spent_s * 1000), beside)


def _spec(card: EngineCard, duration_s: int) -> TrackSpec:
    planner = PlannerSpec() if card.fingerprints.planner else None
    return TrackSpec(
        caption=_CAPTION, bpm=90, keyscale="C major", duration_s=duration_s, model=card.model, planner=planner
    )


def _job(spec: TrackSpec, number: int) -> Job:
    take = Track(catalog="calibration", zone="none", genre="none", slot="0001", title="none", spec=spec).take(number)
    if spec.planner is None:
        return Job(take)
    # The content of the codes makes no difference to memory, so they need not be planned.
    codes = np.random.default_rng(number).integers(0, CODEBOOK_SIZE, spec.n_codes).tolist()
    return Job(take, Plan(codes=codes, metadata={}, prompt_sha256="", batch_key=""))

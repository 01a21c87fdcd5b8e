"""The estimate: GPU-hours and dollars of a plan, before anything is rented, and what the figures rest on.

The ledger's own measurements come first, bucket by bucket; published speeds stand in until there are some.
Each line says which it is. The result is rounded up to the micro-dollar and never zero for lack of a price.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from catalog.buckets import Bucket
from catalog.errors import BudgetError
from catalog.models import find_model
from catalog.settings import Settings
from catalog.spec import DiffusionSpec
from orchestrator.finance.money import dollars
from orchestrator.finance.prices.book import Price, names_gpu
from orchestrator.ledger.observations import MS_PER_H
from orchestrator.planning.plan import BucketLoad, CatalogPlan

DEFAULT_GPU: Final = "a100-80gb"
CPU: Final = "cpu"

# ACE-Step 1.5's authors publish "< 2 s a song" on an A100 at 8 steps: 1,800 three-minute tracks an hour.
_SONG_MS_PER_AUDIO_S: Final = 2_000 / 180
_SONG_STEPS: Final = 8
# They publish about 200 planner tokens a second for one sequence, and five codes make a second of audio.
_PLANNER_MS_PER_AUDIO_S: Final = 5 * 1_000 / 200
# Decoding one sequence reads all weights per token, so other planners scale with their size in GB (bf16).
_PLANNER_SIZE: Final = {"acestep-5Hz-lm-0.6B": 1.2 / 3.4, "acestep-5Hz-lm-1.7B": 1.0, "acestep-5Hz-lm-4B": 8.0 / 3.4}

# Time relative to an A100. The RTX 3090 is published ("< 10 s" against "< 2 s" a song); the others are
# the ratio of memory bandwidths on the data sheets (A100 80 GB: 2,039 GB/s), since planner and decoder wait for memory.
_GPU_FACTORS: Final = {
    "a100": 1.0,
    "a100 40gb": 2039 / 1555,
    "b200": 2039 / 8000,
    "h200": 2039 / 4800,
    "h100 pcie": 2039 / 2000,
    "h100": 2039 / 3350,
    "l40s": 2039 / 864,
    "l4": 2039 / 300,
    "a10g": 2039 / 600,
    "a10": 2039 / 600,
    "a40": 2039 / 696,
    "t4": 2039 / 320,
    "rtx a6000": 2039 / 768,
    "rtx 6000 ada": 2039 / 960,
    "rtx 5090": 2039 / 1792,
    "rtx 4090": 2039 / 1008,
    "rtx 3090": 5.0,
    "rtx 3060": 2039 / 360,
}
# Where nothing is published: real time, which every GPU beats. On a CPU a trained model takes about four times
# as long as its audio: 83 TFLOP and 900 readings of 3.7 GB for 180 s, at 0.2 TFLOP/s and 20 GB/s.
_REAL_TIME: Final = 1_000.0
_CPU_TRAINED: Final = 4_000.0


class SpeedKey(NamedTuple):
    """The settings that the speed of a GPU and model depends on, beside the length of the audio."""

    planner: str  # "" when off
    diffusion: DiffusionSpec

    @classmethod
    def of(cls, planner: str, diffusion: DiffusionSpec) -> SpeedKey:
        """The key of takes with that planner and these settings."""
        return cls(planner, diffusion.as_fast)


class Speed(NamedTuple):
    """A worker's engine time for a second of audio, over so many takes; what overlapped is counted once."""

    ms_per_audio_s: float
    takes: int


class History(NamedTuple):
    """The ledger's measurements of one model on one GPU."""

    speeds: Mapping[SpeedKey, Speed]
    tries_per_take: float  # 1.0: nothing had to be tried again
    reject_rate: float | None  # of the takes that were tried to their end; None before there are any
    startup_ms: int  # median of a worker's start and end; 0 before any is known
    idle_share: float  # time without work, as a share of the engine's time


NO_HISTORY: Final = History({}, tries_per_take=1.0, reject_rate=None, startup_ms=0, idle_share=0.0)


class Basis(StrEnum):
    """The kind of evidence that a figure rests on."""

    MEASURED = "measured"
    PUBLISHED = "published speeds"
    ASSUMED = "assumed"


class EstimateLine(NamedTuple):
    """One bucket of a plan."""

    bucket: Bucket
    takes: int
    audio_s: int
    engine_ms: int
    basis: Basis
    note: str


class Estimate(NamedTuple):
    """Time and money that a plan will take on one GPU. `source` says in words what they rest on."""

    takes: int
    audio_s: int
    gpu: str
    gpu_ms: int  # engine, retries, one worker's start and end, idle time
    overhead_ms: int  # of these: not the engine's
    usd_micros: int
    source: str
    price: Price
    lines: tuple[EstimateLine, ...]
    reject_rate: float | None

    @property
    def gpu_hours(self) -> float:
        """GPU time in hours, for people."""
        return self.gpu_ms / MS_PER_H

    @property
    def expected_accepted(self) -> int | None:
        """Takes that will pass the checks, at the reject rate so far; None before there is one."""
        return None if self.reject_rate is None else round(self.takes * (1 - self.reject_rate))

    def within(
        self,
        max_usd_micros: int | None,
        *,
        spent_usd_micros: int = 0,
        cap: str = "the cap",
        fix: str = "raise --max-usd",
    ) -> Estimate:
        """Return this estimate; BudgetError when it plus the earlier spend exceeds the cap. None means no cap."""
        if max_usd_micros is None or spent_usd_micros + self.usd_micros <= max_usd_micros:
            return self
        spent = f"${dollars(spent_usd_micros)} already spent and " if spent_usd_micros else ""
        raise BudgetError(
            f"{spent}the estimate of ${dollars(self.usd_micros)} is above {cap} of ${dollars(max_usd_micros)}",
            why=f"{self.takes:,} takes, {self.audio_s / 60:,.1f} min of audio, {self.gpu_hours:.2f} h of "
            f"{self.price.sku} ({self.source}; {self.price.provenance})",
            fix=f"{fix}, choose a cheaper --gpu, or plan fewer or shorter tracks",
        )


def default_gpu(model: str, option: str | None, settings: Settings) -> str:
    """The GPU to reckon with: the option, the setting, a CPU for rehearsals, else the A100 with 80 GB."""
    return option or settings.gpu or (DEFAULT_GPU if find_model(model).needs_weights else CPU)


def estimate(plan: CatalogPlan, *, price: Price, history: History = NO_HISTORY) -> Estimate:
    """GPU time and money to render what `plan` has not got yet, on the GPU of `price`."""
    lines = tuple(_line(load, plan.model, price, history) for load in plan.loads)
    engine_ms = round(sum(line.engine_ms for line in lines) * history.tries_per_take)
    overhead_ms = round(engine_ms * history.idle_share) + history.startup_ms if lines else 0
    gpu_ms = engine_ms + overhead_ms
    return Estimate(
        takes=plan.to_render,
        audio_s=plan.audio_s,
        gpu=price.sku,
        gpu_ms=gpu_ms,
        overhead_ms=overhead_ms,
        usd_micros=-(-gpu_ms * price.usd_micros_per_h // MS_PER_H),
        source=_source(lines, history),
        price=price,
        lines=lines,
        reject_rate=history.reject_rate,
    )


def published_speed(bucket: Bucket, gpu: str) -> tuple[float, Basis, str]:
    """Milliseconds for a second of audio as published or assumed, with what that rests on."""
    model = find_model(bucket.model)
    if not model.needs_weights:
        return _REAL_TIME, Basis.ASSUMED, f"at most real time; nothing is published for {bucket.model}"
    if names_gpu(CPU, gpu):
        return _CPU_TRAINED, Basis.ASSUMED, "four times real time; nothing is published for a CPU"
    named = [part for part in _GPU_FACTORS if names_gpu(part, gpu)]
    if not named:
        return _REAL_TIME, Basis.ASSUMED, f"at most real time; nothing is published for {gpu}"
    part = max(named, key=len)
    song = _SONG_MS_PER_AUDIO_S * bucket.diffusion.steps / _SONG_STEPS * model.dit_cost
    planner = _PLANNER_MS_PER_AUDIO_S * _PLANNER_SIZE.get(bucket.planner, 1.0) if bucket.planner else 0.0
    factor = _GPU_FACTORS[part]
    return (song + planner) * factor, Basis.PUBLISHED, f"A100 speeds times {factor:.2f} for {part}"


def _line(load: BucketLoad, model: str, price: Price, history: History) -> EstimateLine:
    bucket = load.bucket
    measured = history.speeds.get(SpeedKey.of(bucket.planner, bucket.diffusion))
    if measured:
        speed, basis, note = measured.ms_per_audio_s, Basis.MEASURED, _takes(measured.takes)
    else:
        speed, basis, note = published_speed(bucket, price.sku)
    return EstimateLine(bucket, load.takes, load.audio_s, round(load.audio_s * speed), basis, note)


def _source(lines: Sequence[EstimateLine], history: History) -> str:
    if not lines:
        return "nothing to render"
    parts = []
    measured = [line.bucket for line in lines if line.basis is Basis.MEASURED]
    used = {SpeedKey.of(bucket.planner, bucket.diffusion) for bucket in measured}
    if used:
        parts.append(f"measured on {_takes(sum(history.speeds[key].takes for key in used))}")
    for basis, takes in _takes_by(line for line in lines if line.basis is not Basis.MEASURED).items():
        note = next(line.note for line in lines if line.basis is basis)
        words = str(basis) if basis is Basis.PUBLISHED else f"{basis}: {note}"
        parts.append(f"{words} for {_takes(takes)}" if used or parts else words)
    if not history.startup_ms and not history.idle_share:
        parts.append("start-up and idle time not included")
    return "; ".join(parts)


def _takes(number: int) -> str:
    return "1 take" if number == 1 else f"{number:,} takes"


def _takes_by(lines: Iterable[EstimateLine]) -> Counter[Basis]:
    takes: Counter[Basis] = Counter()
    for line in lines:
        takes[line.basis] += line.takes
    return takes

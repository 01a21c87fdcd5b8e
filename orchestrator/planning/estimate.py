"""The estimate: GPU-hours and dollars of a plan, computed before any GPU is rented, with the source of each figure.

Speeds that the ledger has measured are used first, bucket by bucket; arithmetic is used where nothing was measured.
Each line names its source, and each figure is a range: low, likely and high. Caps and budgets are compared with the
likely cost; a run that becomes dearer is stopped when it reaches its cap. Money is rounded up to the micro-dollar.
Without a price, the cost is unknown, and never zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from catalog.buckets import Bucket
from catalog.errors import BudgetError, PriceError
from catalog.models import find_model
from catalog.settings import Settings
from catalog.spec import DiffusionSpec
from orchestrator.finance.money import dollars
from orchestrator.finance.prices.book import Price, cards_named
from orchestrator.ledger.observations import MS_PER_H
from orchestrator.planning.plan import BucketLoad, CatalogPlan
from orchestrator.planning.speeds import Basis, Range, reckon_speed

DEFAULT_GPU: Final = "a100-80gb"
CPU: Final = "cpu"
# A measured speed is at least this uncertain: the next takes are other takes. Less is known from a few.
_LEAST_SPREAD: Final = 0.1
_SPREAD_OF_FEW: Final = 0.25
FEW_TAKES: Final = 8


class SpeedKey(NamedTuple):
    """The settings that the speed of a GPU and model depends on, beside the length of the audio."""

    planner: str  # "" when off
    diffusion: DiffusionSpec

    @classmethod
    def of(cls, planner: str, diffusion: DiffusionSpec) -> SpeedKey:
        """The key of takes with these planner and diffusion settings."""
        return cls(planner, diffusion.as_fast)


class Speed(NamedTuple):
    """Engine time per second of audio, over a number of takes; time in which two stages overlapped is counted once."""

    ms_per_audio_s: float  # the median
    takes: int
    quartiles: tuple[float, float] | None = None  # None: not known

    @property
    def range(self) -> Range:
        """The median as the likely value, with the quartiles as bounds where there are enough takes."""
        spread = _LEAST_SPREAD if self.takes >= FEW_TAKES else _SPREAD_OF_FEW
        likely = self.ms_per_audio_s
        low, high = self.quartiles or (likely, likely)
        return Range(min(low, likely * (1 - spread)), likely, max(high, likely * (1 + spread)))


class History(NamedTuple):
    """The ledger's measurements of one model on one GPU."""

    speeds: Mapping[SpeedKey, Speed]
    tries_per_take: float  # 1.0: nothing had to be tried again
    reject_rate: float | None  # of the takes that were tried to their end; None before there are any
    startup_ms: int  # median of a worker's start and end; 0 before any is known
    idle_share: float  # time without work, as a share of the engine's time


NO_HISTORY: Final = History({}, tries_per_take=1.0, reject_rate=None, startup_ms=0, idle_share=0.0)


class EstimateLine(NamedTuple):
    """The estimate for one bucket of a plan."""

    bucket: Bucket
    takes: int
    audio_s: int
    engine: Range  # ms
    basis: Basis
    note: str
    again: int = 0  # of the takes: in the place of one that was rejected

    @property
    def engine_ms(self) -> int:
        """The likely engine time."""
        return round(self.engine.likely)


class EstimateRange(NamedTuple):
    """A likely integer with its lower and upper bound."""

    low: int
    likely: int
    high: int


class Estimate(NamedTuple):
    """The time and money that a plan needs on one GPU. `source` names the basis of the figures in words."""

    takes: int
    audio_s: int
    gpu: str
    time: EstimateRange  # ms: engine, retries, one worker's start and end, idle time
    overhead_ms: int  # of the likely time: not the engine's
    money: EstimateRange | None  # micro-dollars; None: unknown
    source: str
    price: Price | None
    lines: tuple[EstimateLine, ...]
    reject_rate: float | None
    lack: PriceError | None = None  # why there is no price
    notes: tuple[str, ...] = ()  # remarks for a person

    @property
    def gpu_ms(self) -> int:
        """The likely GPU time."""
        return self.time.likely

    @property
    def usd_micros(self) -> int | None:
        """The likely cost; None while it is unknown."""
        return self.money.likely if self.money else None

    @property
    def gpu_hours(self) -> float:
        """The likely GPU time in hours, for print."""
        return self.gpu_ms / MS_PER_H

    @property
    def again_usd_micros(self) -> int | None:
        """The likely cost of the takes in the place of rejected ones, by their share of the engine's time."""
        engine_ms = sum(line.engine.likely for line in self.lines)
        if self.usd_micros is None or not engine_ms:
            return self.usd_micros
        again_ms = sum(line.engine.likely * line.again / line.takes for line in self.lines)
        return round(self.usd_micros * again_ms / engine_ms)

    @property
    def expected_accepted(self) -> int | None:
        """The number of takes that will pass the checks, at the reject rate so far; None before there is a rate."""
        return None if self.reject_rate is None else round(self.takes * (1 - self.reject_rate))

    def within(
        self,
        max_usd_micros: int | None,
        *,
        spent_usd_micros: int = 0,
        cap: str = "the cap",
        fix: str = "raise --max-usd",
    ) -> Estimate:
        """Return this estimate if it keeps the cap; None means no cap.

        Raises BudgetError when the likely cost and the earlier spend exceed the cap, PriceError when there is no price.
        """
        if max_usd_micros is None:
            return self
        if self.usd_micros is None:
            raise PriceError(
                f"{cap} of ${dollars(max_usd_micros)} cannot be kept: the cost is unknown",
                why=f"{self.lack.what}; {self.lack.why}" if self.lack else f"there is no price for {self.gpu}",
                fix=self.lack.fix if self.lack else "add its price with `tunemill costs prices add`",
            )
        if spent_usd_micros + self.usd_micros <= max_usd_micros:
            return self
        spent = f"${dollars(spent_usd_micros)} already spent and " if spent_usd_micros else ""
        provenance = f"; {self.price.provenance}" if self.price else ""
        raise BudgetError(
            f"{spent}the estimate of ${dollars(self.usd_micros)} is above {cap} of ${dollars(max_usd_micros)}",
            why=f"{self.takes:,} takes, {self.audio_s / 60:,.1f} min of audio, {self.gpu_hours:.2f} h of "
            f"{self.gpu} ({self.source}{provenance})",
            fix=f"{fix}, choose a cheaper --gpu, or plan fewer or shorter tracks",
        )


def default_gpu(model: str, option: str | None, settings: Settings) -> str:
    """The GPU for the estimate: the option, else the setting, else a CPU (rehearsals) or the A100 with 80 GB."""
    return option or settings.gpu or (DEFAULT_GPU if find_model(model).needs_weights else CPU)


def estimate(
    plan: CatalogPlan,
    *,
    price: Price | None,
    gpu: str = "",
    lack: PriceError | None = None,
    history: History = NO_HISTORY,
) -> Estimate:
    """GPU time and money for the missing takes of `plan`, on the GPU of `price`, or on `gpu` when there is no price."""
    names = (price.sku, *cards_named(price)) if price else (gpu,)
    takes_of = Counter[str]()
    for load in plan.loads:
        takes_of[load.bucket.planner] += load.takes
    lines = tuple(_line(load, names, takes_of[load.bucket.planner], history) for load in plan.loads)
    engine = [sum(line.engine[place] for line in lines) * history.tries_per_take for place in range(len(Range._fields))]
    overheads = [round(ms * history.idle_share) + history.startup_ms if lines else 0 for ms in engine]
    time = EstimateRange(*(round(ms) + overhead for ms, overhead in zip(engine, overheads, strict=True)))
    rate = price.usd_micros_per_h if price else 0
    unknown = f"the cost is unknown: {lack.what}; {lack.why}; {lack.fix}" if lack and lines else ""
    return Estimate(
        takes=plan.to_render,
        audio_s=plan.audio_s,
        gpu=price.sku if price else gpu,
        time=time,
        overhead_ms=overheads[1],
        money=EstimateRange(*(-(-ms * rate // MS_PER_H) for ms in time)) if price or not lines else None,
        source=_source(lines, history),
        price=price,
        lines=lines,
        reject_rate=history.reject_rate,
        lack=lack,
        notes=(unknown,) if unknown else (),
    )


def _line(load: BucketLoad, gpus: tuple[str, ...], takes: int, history: History) -> EstimateLine:
    bucket = load.bucket
    measured = history.speeds.get(SpeedKey.of(bucket.planner, bucket.diffusion))
    if measured:
        speed, basis, note = measured.range, Basis.MEASURED, _takes(measured.takes)
    else:
        speed, basis, note = reckon_speed(bucket, gpus, takes)
    return EstimateLine(bucket, load.takes, load.audio_s, speed.times(load.audio_s), basis, note, load.again)


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
        words = f"{basis} ({note}), which no GPU has confirmed" if basis is Basis.RECKONED else f"{basis}: {note}"
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

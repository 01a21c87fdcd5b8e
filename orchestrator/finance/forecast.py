"""The forecast: the cost of a catalog's next refresh, from its finished runs, and the errors of past forecasts.

cost = tracks x tries per kept track x engine cost per try x (1 + ratio of shared cost) + start-up and disks. Each ratio
is the median of the last runs. For each past run, a forecast is made from the runs before it; the errors of these
forecasts say how reliable the next one is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from orchestrator.finance.allocation.charges import WASTED
from orchestrator.finance.records import Forecast
from orchestrator.ledger.observations import Category

RUNS_MAX: Final = 10  # old runs had other code and other prices, so they predict little
RANGE_RUNS: Final = 5  # with fewer the range is all that was seen
LOW_CONFIDENCE_RUNS: Final = 3

_BUSY: Final = frozenset({Category.ACCEPTED, *WASTED})
_FIXED: Final = frozenset({Category.STARTUP, Category.TEARDOWN, Category.STORAGE, Category.EGRESS})


@dataclass(slots=True)
class RunCost:
    """The cost of a finished run."""

    run_id: str
    catalog: str
    finished_ms: int
    tracks: int = 0  # kept
    attempts: int = 0
    unpriced_ms: int = 0
    usd_micros: Counter[Category] = field(default_factory=Counter)

    def add(self, category: str, usd_micros: int, unpriced_ms: int, ms: int, tracks: int, attempts: int) -> None:
        """Add the sum of a category."""
        self.usd_micros[Category(category)] += usd_micros
        self.unpriced_ms += unpriced_ms
        self.tracks += tracks
        self.attempts += attempts

    @property
    def total(self) -> int:
        """Fully loaded."""
        return sum(self.usd_micros.values())

    def _of(self, categories: Iterable[Category]) -> int:
        return sum(self.usd_micros[category] for category in categories)

    @property
    def busy(self) -> int:
        """Engine time on takes, kept or not."""
        return self._of(_BUSY)

    @property
    def fixed(self) -> int:
        """The cost that does not grow with the number of takes."""
        return self._of(_FIXED)


def forecast(catalog: str, runs: Sequence[RunCost], *, tracks: int | None = None) -> Forecast | None:
    """The cost of the next run of `catalog`, for `tracks` kept tracks or as many as its runs had; None without a run.

    `runs` are finished ones, oldest first.
    """
    ours = [run for run in runs if run.catalog == catalog and run.tracks and run.attempts]
    if not ours:
        return None
    latest = ours[-RUNS_MAX:]
    count = tracks if tracks is not None else round(median(run.tracks for run in latest))
    if any(run.unpriced_ms for run in latest):
        return Forecast(catalog, count, None, None, None, len(latest), _confidence(len(latest)), None)
    unit = sorted(run.total / run.tracks for run in latest)
    edge = 0 if len(unit) < RANGE_RUNS else len(unit) // 10
    return Forecast(
        catalog=catalog,
        tracks=count,
        usd_micros=_predict(latest, count),
        low_usd_micros=round(unit[edge] * count),
        high_usd_micros=round(unit[-1 - edge] * count),
        runs=len(latest),
        confidence=_confidence(len(latest)),
        past_error=_past_error(latest),
    )


def _predict(runs: Sequence[RunCost], tracks: int) -> int:
    tries_per_track = median(run.attempts / run.tracks for run in runs)
    busy_per_try = median(run.busy / run.attempts for run in runs)
    shared = median((run.total - run.busy - run.fixed) / run.busy if run.busy else 0.0 for run in runs)
    fixed = median(run.fixed for run in runs)
    return round(tracks * tries_per_track * busy_per_try * (1 + shared) + fixed)


def _past_error(runs: Sequence[RunCost]) -> float | None:
    """Median of |forecast - actual| / actual, each run forecast from those before it; None before there are two."""
    errors = [
        abs(_predict(runs[:place], run.tracks) - run.total) / run.total
        for place, run in enumerate(runs)
        if place and run.total > 0
    ]
    return median(errors) if errors else None


def _confidence(runs: int) -> str:
    if runs < LOW_CONFIDENCE_RUNS:
        return "low confidence"
    return "few runs" if runs < RANGE_RUNS else "ok"

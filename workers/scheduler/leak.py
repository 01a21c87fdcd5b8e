"""Leaks: detects an engine whose memory keeps growing, from its readings after each batch.

A leak is a slope over takes. The slope is fitted (least squares) and not computed from two readings, because caches
make single readings jump. Growth is measured from the level at which the engine settles; a batch larger than any before
raises that level, because it really needs more memory.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

READINGS: Final = 64  # batches that the slope looks back over
READINGS_MIN: Final = 8
SETTLING_BATCHES: Final = 8  # after these caches are full and buffers made
STEADY_BATCHES: Final = 4  # the lowest of so many readings counts: one taken while a batch is decoded is higher
BOUND_MIB: Final = 1024.0
BOUND_SHARE: Final = 0.25


class _Reading(NamedTuple):
    takes: int  # rendered so far
    mib: float


@dataclass(frozen=True, slots=True)
class LeakBound:
    """The growth above the settled level at which an engine is replaced; each of the two measures must be exceeded."""

    mib: float = BOUND_MIB
    share: float = BOUND_SHARE


class LeakWatch:
    """The memory readings of one engine."""

    def __init__(self, bound: LeakBound | None = None) -> None:
        self._bound = bound or LeakBound()
        self.reset()

    def reset(self) -> None:
        """Forget all readings, because a new engine has started."""
        self._readings: deque[_Reading] = deque(maxlen=READINGS)
        self._takes = 0
        self._largest_s = 0
        self._settling = SETTLING_BATCHES
        self._settled_mib = 0.0

    def add(self, mib: float, *, takes: int, audio_s: int) -> None:
        """Add a reading: the engine held `mib` after a batch of `takes` that made `audio_s` seconds of audio in all."""
        self._takes += takes
        self._readings.append(_Reading(self._takes, mib))
        if audio_s > self._largest_s:
            self._largest_s, self._settling = audio_s, SETTLING_BATCHES
        if self._settling:
            self._settling -= 1
            self._settled_mib = max(self._settled_mib, mib)

    @property
    def mib_per_100_takes(self) -> float | None:
        """The growth over the last readings; None while there are too few."""
        if len(self._readings) < READINGS_MIN:
            return None
        mean_takes = sum(reading.takes for reading in self._readings) / len(self._readings)
        mean_mib = sum(reading.mib for reading in self._readings) / len(self._readings)
        spread = sum((reading.takes - mean_takes) ** 2 for reading in self._readings)
        together = sum((reading.takes - mean_takes) * (reading.mib - mean_mib) for reading in self._readings)
        return 100 * together / spread

    @property
    def outgrown(self) -> str:
        """The reason to replace the engine, or ""."""
        if self._settling or not self._readings:
            return ""
        before_mib = self._settled_mib
        now_mib = min(reading.mib for reading in list(self._readings)[-STEADY_BATCHES:])
        if now_mib - before_mib <= max(self._bound.mib, self._bound.share * before_mib):
            return ""
        return (
            f"it holds {now_mib:,.0f} MiB and settled at {before_mib:,.0f} MiB; "
            f"allowed are {self._bound.mib:,.0f} MiB and {self._bound.share:.0%} more"
        )

"""What every bench hands back: named figures, some with a limit that must hold."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured number. `at_most` is the promise, None where there is none."""

    name: str
    value: float
    unit: str
    at_most: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the promise holds."""
        return self.at_most is None or self.value <= self.at_most


class Stopwatch:
    """Seconds between entering and leaving `timed()`."""

    seconds = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Measure wall-clock time of a block."""
    watch, start = Stopwatch(), time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - start


def peak_rss_mib() -> float:
    """The most memory this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def hand_back(figures: Iterable[Figure]) -> None:
    """Print the figures as one JSON line, which is what the runner reads."""
    sys.stdout.write(json.dumps([figure._asdict() for figure in figures]) + "\n")

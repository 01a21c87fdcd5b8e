"""What every bench hands back: named figures, some with a limit that must hold, and where they were measured.

Two ways of doing the same thing are timed in turns, round by round, so that a slow minute of the machine hits both;
what is promised are the ratios of such pairs, never seconds.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
LIBRARIES = ("tunemill", "torch", "diffusers", "transformers", "numpy", "celery")


class Figure(NamedTuple):
    """One measured number. `at_most` and `at_least` are promises, None where there is none."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the promises hold; a value that is no number keeps none."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def promise(self) -> str:
        """The promise in words, "" where there is none."""
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return ", ".join(f"{words} {bound:,g}" for words, bound in bounds if bound is not None)

    @property
    def shown(self) -> str:
        """Value and unit to three digits."""
        size = abs(self.value)
        if 0 < size < 0.001:
            return f"{self.value:.1e} {self.unit}"
        digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
        return f"{self.value:,.{digits}f} {self.unit}"


class Stopwatch:
    """Seconds between entering and leaving `timed()`."""

    seconds = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Measure wall-clock time of a block."""
    watch, start = Stopwatch(), time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - start


class Rounds(NamedTuple):
    """Seconds of each rival by round, and what each handed back."""

    seconds: dict[str, list[float]]
    outcomes: dict[str, list[Any]]

    def median_s(self, name: str) -> float:
        """The middle one of a rival's rounds."""
        return statistics.median(self.seconds[name])

    def ratio(self, one: str, other: str) -> float:
        """How long `one` takes as a share of `other`: the middle one of the rounds' own ratios."""
        pairs = zip(self.seconds[one], self.seconds[other], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def side_by_side(rivals: Mapping[str, Callable[[int], Any]], *, rounds: int, warm: bool = False) -> Rounds:
    """Time every rival once a round, in turns, and hand it the round's number, from 1 on.

    A round 0 that does not count comes first, unless the rivals are said to be `warm`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    outcomes: dict[str, list[Any]] = {name: [] for name in rivals}
    for number in range(1 if warm else 0, rounds + 1):
        for name, work in rivals.items():
            with timed() as watch:
                outcome = work(number)
            if number:
                seconds[name].append(watch.seconds)
                outcomes[name].append(outcome)
    return Rounds(seconds, outcomes)


def median_s(work: Callable[[], object], *, rounds: int = 5) -> float:
    """Median wall-clock seconds of `work` after one round that does not count."""
    return side_by_side({"": lambda _: work()}, rounds=rounds).median_s("")


def peak_rss_mib() -> float:
    """The most memory this process has held so far, in MiB."""
    if sys.platform == "linux":
        # Not getrusage: there a child's peak begins with what its parent held when it was started.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def slope(points: Iterable[tuple[float, float]]) -> float:
    """The slope of (x, y) points: the middle one of the slopes between any two of them (Theil and Sen).

    What jumps up and comes back down, as memory does with each batch, leaves it alone; a steady rise does not.
    """
    pairs = combinations(points, 2)
    return statistics.median((late[1] - early[1]) / (late[0] - early[0]) for early, late in pairs)


def provenance(command: str) -> dict[str, Any]:
    """Where and on what a figure was measured, for the JSON beside it."""
    return {
        "command": command,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {cpu_name()}",
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        "commit": git_commit(),
    }


def cpu_name() -> str:
    """What the processor calls itself, "" where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def git_commit() -> str:
    """The commit this runs from, with "+" when files differ from it; "" outside a repository."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    return f"{commit}+" if commit and git("status", "--porcelain") else commit


def hand_back(figures: Iterable[Figure]) -> None:
    """Print the figures as one JSON line, which is what the runner reads."""
    sys.stdout.write(json.dumps([figure._asdict() for figure in figures]) + "\n")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""

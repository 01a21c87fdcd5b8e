"""The staged engine against a plain loop of stock pipeline calls: tracks an hour and peak memory, planner on and off.

Same weights, same takes, one thread each, in turns; codes must be equal and audio within rounding, or there is no
result. Two random models: the tiny one, whose time is mostly Python, and a reduced one, whose time is arithmetic.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from catalog.models import TINY
from catalog.spec import PlannerSpec
from catalog.track import Take
from tests.bench.checkpoints import PLANNER_STEM, REDUCED, write_checkpoint
from tests.bench.forms import Checkpoint, FormProcess, Rendering, open_form
from tests.bench.measuring import Figure, hand_back
from tests.bench.tracks import different_takes
from workers.ace_step.tiny.checkpoint import PLANNER_FOLDER, tiny_checkpoint

ROUNDS = {False: 3, True: 1}  # that count, by planner: planning one take at a time is slow
TAKES = 8
WARM_TAKES = 2
# Most time of the staged engine as a share of the plain loop's, by planner. Without it both do much the same arithmetic
# on one core, where a batch gains little.
TIME_AT_MOST = {False: 1.3, True: 0.9}
TOLERANCE = 1e-5  # of full scale: batches and tiles round otherwise, and 2e-6 is what was seen


class Comparison(NamedTuple):
    """Counted rounds of both forms."""

    plain: list[Rendering]
    staged: list[Rendering]

    @property
    def time_ratio(self) -> float:
        """CPU time of the staged form as a share of the plain one's, the middle round."""
        return statistics.median(mine.cpu_s / theirs.cpu_s for mine, theirs in self._pairs())

    @property
    def gap(self) -> float:
        """Largest difference of two samples, in full scales."""
        return max(
            float(np.abs(one - other).max())
            for mine, theirs in self._pairs()
            for one, other in zip(mine.waves, theirs.waves, strict=True)
        )

    @property
    def same_codes(self) -> bool:
        """Whether both planners wrote the same."""
        return all(mine.codes == theirs.codes for mine, theirs in self._pairs())

    def _pairs(self) -> Iterator[tuple[Rendering, Rendering]]:
        return zip(self.staged, self.plain, strict=True)


def compare_rounds(plain: FormProcess, staged: FormProcess, rounds: list[list[Take]]) -> Comparison:
    """Both forms render the takes of each round, in turns; the first round does not count."""
    rendered = [(plain.render(some), staged.render(some)) for some in rounds][1:]
    return Comparison([each for each, _ in rendered], [each for _, each in rendered])


def some_rounds(model: str, *, planned: bool, rounds: int, count: int, duration_s: int) -> list[list[Take]]:
    """Takes for a short first round and all that count; they all differ, so that nothing is remembered."""
    planner = PlannerSpec() if planned else None
    fields = {"model": model, "planner": planner, "duration_s": duration_s}
    counted = [different_takes(count * turn, count, **fields) for turn in range(1, rounds + 1)]
    return [different_takes(0, WARM_TAKES, **fields), *counted]


def compare(
    words: str, checkpoint: Checkpoint, *, planned: bool, rounds: int = 1, count: int = TAKES, duration_s: int = 10
) -> list[Figure]:
    """Figures of one model. Raises SystemExit when the two forms do not make the same music."""
    words = f"{words}, planner {'on' if planned else 'off'}"
    todo = some_rounds(checkpoint.model, planned=planned, rounds=rounds, count=count, duration_s=duration_s)
    with (
        open_form("plain", checkpoint, planned=planned) as plain,
        open_form("staged", checkpoint, planned=planned) as staged,
    ):
        comparison = compare_rounds(plain, staged, todo)
    if not comparison.same_codes or not comparison.gap <= TOLERANCE:
        raise SystemExit(
            f"{words}: the forms differ, codes equal: {comparison.same_codes}, largest gap {comparison.gap:.2g}"
        )
    return [
        Figure(f"{words}: plain loop", _tracks_per_h(comparison.plain), "tracks/h"),
        Figure(f"{words}: staged engine", _tracks_per_h(comparison.staged), "tracks/h"),
        Figure(f"{words}: staged against plain, CPU time", comparison.time_ratio, "x", TIME_AT_MOST[planned]),
        Figure(f"{words}: largest difference of the audio", comparison.gap, "of full scale", at_most=TOLERANCE),
        Figure(f"{words}: plain loop, peak memory", comparison.plain[-1].peak_mib, "MiB"),
        Figure(f"{words}: staged engine, peak memory", comparison.staged[-1].peak_mib, "MiB"),
    ]


def _tracks_per_h(renderings: list[Rendering]) -> float:
    return 3600 / statistics.median(each.seconds / len(each.waves) for each in renderings)


def main() -> None:
    """Measure and hand back."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        home, folder = Path(scratch) / "home", Path(scratch) / "reduced"
        tiny = tiny_checkpoint(home)
        models = {
            "tiny model": Checkpoint(TINY.name, tiny, tiny / PLANNER_FOLDER, home),
            "reduced model": Checkpoint(
                REDUCED.model, write_checkpoint(REDUCED, folder, home), folder / PLANNER_STEM, home
            ),
        }
        for words, checkpoint in models.items():
            for planned in (False, True):
                figures += compare(words, checkpoint, planned=planned, rounds=ROUNDS[planned])
    hand_back(figures)


if __name__ == "__main__":
    main()

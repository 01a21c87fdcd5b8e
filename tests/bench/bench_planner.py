"""The planner's own loop against `generate()`, and a batch against one take at a time: codes a second.

Same weights, same takes, one thread, in turns; both must write the same codes, or there is no result. Two random
models: the tiny one, whose time is mostly Python, and a reduced one (hidden 512, 8 layers), whose time is mostly
arithmetic.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import tempfile
from pathlib import Path

import torch

from catalog.models import TINY
from catalog.sidecar import Plan
from catalog.spec import PlannerSpec
from catalog.track import Take
from tests.bench.checkpoints import PLANNER_STEM, REDUCED, write_checkpoint
from tests.bench.measuring import Figure, hand_back, side_by_side
from tests.bench.tracks import different_takes
from tests.support.plain_planner import plan_plainly
from workers.ace_step.planner.planner import Planner
from workers.ace_step.tiny.checkpoint import PLANNER_FOLDER, tiny_checkpoint

# takes in a batch -> rounds that count; a round of 32 takes lasts as long as many of one
SIZES = {1: 3, 8: 1, 32: 1}
# Most time of the own loop as a share of generate()'s: alone a take has little to gain but the full vocabulary.
TIME_AT_MOST = {1: 1.2, 8: 0.95, 32: 0.95}
ALONE = 8  # takes that are planned one at a time, against the same in one call
OWN, PLAIN, BATCHED, SINGLE = "own loop", "generate()", "one call", "one at a time"


def takes_of(count: int, turn: int) -> list[Take]:
    """So many takes of 10 s (50 codes each), different in every turn: a planner remembers what it wrote."""
    return different_takes(count * turn, count, model=TINY.name, planner=PlannerSpec())


def codes_of(plans: list[Plan]) -> list[list[int]]:
    """The codes of each plan."""
    return [plan.codes for plan in plans]


def against_generate(words: str, planner: Planner, sizes: dict[int, int]) -> list[Figure]:
    """Both loops at each batch size. Raises SystemExit when they do not write the same codes."""
    figures = []
    for size, rounds in sizes.items():
        timed = side_by_side(
            {
                OWN: lambda turn, size=size: codes_of(planner.plan(takes_of(size, turn))),
                PLAIN: lambda turn, size=size: plan_plainly(planner, takes_of(size, turn)),
            },
            rounds=rounds,
            warm=size > 1,
        )
        if timed.outcomes[OWN] != timed.outcomes[PLAIN]:
            raise SystemExit(f"{words}, batch {size}: {OWN} and {PLAIN} do not write the same codes")
        n_codes = sum(len(codes) for codes in timed.outcomes[OWN][0])
        figures += [
            Figure(f"{words}, batch {size}: {name}", n_codes / timed.median_s(name), "codes/s") for name in (OWN, PLAIN)
        ]
        ratio = timed.ratio(OWN, PLAIN)
        figures.append(
            Figure(f"{words}, batch {size}: own loop against generate(), time", ratio, "x", TIME_AT_MOST[size])
        )
    return figures


def against_single(words: str, planner: Planner, *, count: int = ALONE, rounds: int = 1) -> Figure:
    """One call for all takes against one call a take; in turns of their own, since what is planned is remembered."""
    timed = side_by_side(
        {
            BATCHED: lambda turn: planner.plan(takes_of(count, 1000 + 2 * turn)),
            SINGLE: lambda turn: [planner.plan([take]) for take in takes_of(count, 1001 + 2 * turn)],
        },
        rounds=rounds,
        warm=True,
    )
    ratio = timed.ratio(BATCHED, SINGLE)
    return Figure(f"{words}: {count} takes in one call against one at a time, time", ratio, "x", at_most=1.0)


def measure(words: str, folder: Path, sizes: dict[int, int]) -> list[Figure]:
    """All figures of the planner in `folder`."""
    planner = Planner.load(folder, device=torch.device("cpu"), dtype=torch.float32)
    return [*against_generate(words, planner, sizes), against_single(words, planner)]


def main() -> None:
    """Measure and hand back."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        reduced = write_checkpoint(REDUCED, Path(scratch) / "reduced", home)
        figures = measure("tiny planner", tiny_checkpoint(home) / PLANNER_FOLDER, SIZES)
        figures += measure("reduced planner", reduced / PLANNER_STEM, SIZES)
    hand_back(figures)


if __name__ == "__main__":
    main()

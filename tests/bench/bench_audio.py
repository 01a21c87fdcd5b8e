"""How long audio takes on this machine: the tiny random model alone and batched, then checks and mastering.

The tiny model tells nothing about the speed of the real one; the ratio of a batch to single takes, measured side
by side, shows what the program itself adds. Medians of several rounds, one thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import tempfile
from pathlib import Path

from catalog.models import TINY
from catalog.spec import PlannerSpec
from tests.bench.measuring import Figure, hand_back, median_s, side_by_side
from tests.bench.tracks import different_takes
from tests.support.makers import a_take
from tests.support.sounds import chords
from workers.ace_step.assembly import load_engine
from workers.ace_step.engine import AceStepEngine
from workers.audio.checks import check_audio
from workers.audio.master import master
from workers.engine.protocol import Job

BATCH = 8
ROUNDS = 5


def engine_figures(engine: AceStepEngine) -> list[Figure]:
    """Seconds of one 10 s take and of a batch, with and without the planner."""
    figures = []
    for words, planner in (("planner off", None), ("planner on", PlannerSpec())):
        timed = side_by_side(
            {
                "one": lambda turn, planner=planner: engine.render(fresh_jobs(turn, planner)[:1]),
                "batch": lambda turn, planner=planner: engine.render(fresh_jobs(turn, planner)[1:]),
            },
            rounds=ROUNDS,
        )
        figures.append(Figure(f"tiny model, 10 s, {words}", timed.median_s("one"), "s"))
        ratio = timed.ratio("batch", "one") / BATCH
        figures.append(Figure(f"a batch of {BATCH} against {BATCH} single takes, {words}", ratio, "x"))
    return figures


def fresh_jobs(turn: int, planner: PlannerSpec | None) -> list[Job]:
    """One job and a batch, different in every turn: a planner remembers what it wrote."""
    return [Job(take) for take in different_takes(turn * (1 + BATCH), 1 + BATCH, model=TINY.name, planner=planner)]


def post_figures() -> list[Figure]:
    """Seconds that three minutes of audio cost beside the engine."""
    take, audio = a_take(duration_s=180), chords(180)
    measures = check_audio(audio, take.spec, noise=False)
    check = median_s(lambda: check_audio(audio, take.spec, noise=False))
    flac = median_s(lambda: master(audio, take, measures=measures, noise=False, model=TINY.name))
    return [Figure("check 180 s", check, "s"), Figure("master 180 s to 24-bit FLAC", flac, "s")]


def main() -> None:
    """Measure and hand back."""
    with tempfile.TemporaryDirectory() as home:
        engine = load_engine(
            TINY.name, weights=None, planner_weights=None, device="cpu", vram_gib=None, home=Path(home)
        )
        figures = engine_figures(engine)
    hand_back([*figures, *post_figures()])


if __name__ == "__main__":
    main()

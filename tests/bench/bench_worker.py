"""What surrounds an engine, and what it costs: a whole worker (Valkey, Celery, checks, mastering, store) beside it.

First the same takes through the bare engine and through a worker around the same engine, a reduced random model. Then a
worker around a paced engine, which sleeps as if a GPU worked, and whose takes cost 0.7 of its time in checks and
mastering: how long does it wait, and for what?
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import tempfile
from pathlib import Path

from catalog.spec import PlannerSpec
from catalog.track import Take
from tests.bench.checkpoints import PLANNER_STEM, REDUCED, write_checkpoint
from tests.bench.forms import Checkpoint, open_form
from tests.bench.measuring import Figure, hand_back, median_s
from tests.bench.serving import Course, Worker, a_worker
from tests.bench.tracks import different_takes
from tests.support.makers import a_take
from tests.support.sounds import chords
from workers.audio.checks import check_audio
from workers.audio.master import master

TRACKS = 16  # one planner call and two batches
WARM = 8
PACED_TRACKS = 120
POST_SHARE = 0.7  # of the engine's time, on one core


def some_takes(first: int, count: int) -> list[Take]:
    """Planned takes of 10 s for the reduced model."""
    return different_takes(first, count, model=REDUCED.model, planner=PlannerSpec())


def beside_the_bare_engine(checkpoint: Checkpoint, folder: Path) -> list[Figure]:
    """The worker against the bare engine, on the same takes."""
    environment = {
        "TUNEMILL_WEIGHTS": str(checkpoint.folder),
        "TUNEMILL_PLANNER_WEIGHTS": str(checkpoint.planner_folder),
        "TUNEMILL_DEVICE": "cpu",
        "TUNEMILL_GPU": "cpu",
    }
    command = ["-m", "workers", "serve", "--model", checkpoint.model]
    warm, counted = some_takes(0, WARM), some_takes(WARM, TRACKS)
    bare_s = _bare_s(checkpoint, warm, counted)
    with a_worker(command, folder, environment) as worker:
        worker.carry(warm)
        course = worker.carry(counted)
    return [
        Figure(f"bare engine, {TRACKS} planned takes of 10 s", bare_s, "s"),
        Figure("worker, from its first call of the engine to the end of its last", course.lane_s, "s"),
        Figure("worker against bare engine, time of the lane", course.lane_s / bare_s, "x", at_most=1.5),
        # Both from the same minute, so what else this machine does hardly matters.
        Figure("worker: lane against the engine's own stages", course.lane_s / course.engine_s, "x", at_most=1.1),
        Figure("worker, from sending to the last record", course.whole_s, "s"),
        Figure("worker: idle share of the engine", course.idle_s() / course.lane_s, "of the lane", at_most=0.15),
        Figure("worker: check, master and store beside the engine", course.post_s / TRACKS, "s a take"),
    ]


def _bare_s(checkpoint: Checkpoint, warm: list[Take], counted: list[Take]) -> float:
    with open_form("staged", checkpoint, planned=True) as engine:
        engine.render(warm)
        return engine.render(counted).seconds


def measure_post_s() -> float:
    """Seconds of one core that checks and mastering of one paced take cost."""
    take, audio = a_take(), chords(10)

    def post() -> None:
        measures = check_audio(audio, take.spec, noise=False)
        master(audio, take, measures=measures, noise=False, model=take.spec.model)

    return median_s(post)


def around_a_paced_engine(folder: Path, *, tracks: int = PACED_TRACKS) -> list[Figure]:
    """How long an engine waits whose takes cost `POST_SHARE` of its time afterwards."""
    take_s = measure_post_s() / POST_SHARE
    with a_worker(["-m", "tests.bench.paced", str(take_s)], folder, {}) as worker:
        course = carry_planned(worker, tracks)
    causes = [
        Figure(f"paced engine: idle, {cause}", course.idle_s(cause) / course.lane_s, "of the lane")
        for cause in course.idle_causes
    ]
    return [
        Figure("paced engine, time it holds for a take", take_s, "s"),
        Figure("paced engine: post time against engine time", course.post_s / (tracks * take_s), "x"),
        Figure("paced engine: lane against what it holds the engine", course.lane_s / (tracks * take_s), "x", 1.25),
        Figure("paced engine: idle share", course.idle_s() / course.lane_s, "of the lane", at_most=0.15),
        *causes,
    ]


def carry_planned(worker: Worker, tracks: int) -> Course:
    """Send so many planned takes to `worker`, after some that get it going."""
    every = different_takes(0, WARM + tracks, planner=PlannerSpec())
    worker.carry(every[:WARM])
    return worker.carry(every[WARM:])


def main() -> None:
    """Measure and hand back."""
    with tempfile.TemporaryDirectory(prefix="tm") as scratch:  # short: a socket's path has little room
        root = Path(scratch)
        folder = write_checkpoint(REDUCED, root / "reduced", root / "home")
        checkpoint = Checkpoint(REDUCED.model, folder, folder / PLANNER_STEM, root / "home")
        for name in ("a", "b"):
            (root / name).mkdir()
        figures = beside_the_bare_engine(checkpoint, root / "a")
        figures += around_a_paced_engine(root / "b")
    hand_back(figures)


if __name__ == "__main__":
    main()

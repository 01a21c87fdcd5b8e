"""A paced engine: it takes its time as a GPU does, asleep, and hands out real music that somebody made before.

So the cores of this machine belong to what surrounds an engine, and what an engine waits for shows. Planning and
the front hold the engine; decoding runs beside the next call, as on its own stream. `python -m tests.bench.paced`
serves a queue with it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import cache

from catalog.buckets import Bucket
from catalog.limits import CODES_PER_S
from catalog.messages import MemoryUse, now_ms
from catalog.models import TONE
from catalog.settings import read_settings
from catalog.sidecar import Fingerprints, Plan, StageTimes
from catalog.tiers import BatchLimit
from catalog.track import Take
from tests.support.makers import SHA, an_effective
from tests.support.sounds import chords
from workers.engine.memory import resident_mib
from workers.engine.process import EngineRecipe
from workers.engine.protocol import Audio, BatchResult, EngineCard, Finish, Job, PlanResult, Refusal, Rendition
from workers.service import ServeOptions, serve

BATCH, PLANNED = 8, 16
# How an engine's time on a take divides into what holds it; decoding takes half as long as the front, beside it.
PLAN_SHARE, FRONT_SHARE = 0.3, 0.7


class PacedEngine:
    """Holds its lane for `take_s` seconds a take, planning included."""

    def __init__(self, *, take_s: float) -> None:
        self._take_s = take_s
        self._card = EngineCard(
            model=TONE.name,
            gpu="paced",
            device="cpu",
            dtype="float32",
            vram_gib=24.0,
            fingerprints=Fingerprints(model=SHA, code="paced", noise=False),
            guarantees=TONE.guarantees,
            overlaps=True,
        )

    @property
    def card(self) -> EngineCard:
        return self._card

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        return BatchLimit(BATCH, "paced")

    def plan_limit(self, bucket: Bucket) -> BatchLimit:
        return BatchLimit(PLANNED, "paced")

    def plan(self, takes: Sequence[Take]) -> PlanResult:
        spent_s = PLAN_SHARE * self._take_s * len(takes)
        time.sleep(spent_s)
        outcomes: list[Plan | Refusal] = [a_plan(take) for take in takes]
        return PlanResult(outcomes, round(1000 * spent_s))

    def begin(self, jobs: Sequence[Job]) -> Finish:
        front_s = FRONT_SHARE * self._take_s * len(jobs)
        time.sleep(front_s)

        def finish() -> BatchResult:
            time.sleep(front_s / 2)
            outcomes: list[Rendition | Refusal] = [
                Rendition(music(job.take.spec.duration_s), job.plan, an_effective(job.take)) for job in jobs
            ]
            times = StageTimes(diffuse_ms=round(1000 * front_s), decode_ms=round(500 * front_s))
            return BatchResult(outcomes, times)

        return finish

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        return self.begin(jobs)()

    def memory(self) -> MemoryUse:
        return MemoryUse(rss_mib=resident_mib())


@cache
def music(duration_s: int) -> Audio:
    """The one piece of this length."""
    return chords(duration_s)


def a_plan(take: Take) -> Plan:
    """A plan of the right length."""
    codes = [0] * (take.spec.duration_s * CODES_PER_S)
    return Plan(codes=codes, metadata={}, prompt_sha256=SHA, batch_key="paced")


def main(take_s: float) -> int:
    """Serve the queue that the environment names."""
    recipe = EngineRecipe("tests.bench.paced:PacedEngine", {"take_s": take_s})
    return serve(read_settings(), ServeOptions(TONE.name), started_at_ms=now_ms(), recipe=recipe)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))

"""A worker for measuring everything but the audio: real Celery, real messages, records, uploads; one canned sound.

Synthesis, checks and mastering of a 10 s tone take about a tenth of a core's second, so on two cores they would be all
that a bench of 100,000 takes measures. Here the engine makes one second of tone once, and one mastered file of 24 KiB
stands for all: what is left is what the fleet itself costs.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from typing import Any

from catalog.messages import now_ms
from catalog.settings import read_settings
from catalog.sidecar import StageTimes
from catalog.track import Take
from tests.support.makers import a_take
from workers import render
from workers.audio.checks import check_audio
from workers.audio.master import Mastered, master
from workers.engine.process import EngineRecipe
from workers.engine.protocol import BatchResult, Job, Rendition
from workers.logs import start_log
from workers.service import ServeOptions, serve
from workers.tone import ToneEngine, synthesise

BODY_BYTES = 24 * 1024


class CannedEngine(ToneEngine):
    """The tone engine with one sound for all takes."""

    def __init__(self) -> None:
        super().__init__()
        self._first = super().render([Job(a_take())]).outcomes[0]

    def render(self, jobs: Any) -> BatchResult:
        """One second of the one sound each."""
        first = self._first
        assert isinstance(first, Rendition)
        outcomes = [Rendition(audio=first.audio[:, :48_000], plan=None, effective=first.effective) for _ in jobs]
        return BatchResult(outcomes=list(outcomes), times=StageTimes(diffuse_ms=len(jobs)))


def canned_engine() -> CannedEngine:
    """Factory for the engine's process."""
    return CannedEngine()


def canned_mastering() -> Any:
    """A stand-in for check and mastering that has done both once."""
    take = a_take()
    audio = synthesise(take)
    measures = check_audio(audio, take.spec, noise=False)
    done = master(audio, take, measures=measures, noise=False, model="tone")
    body = done.body[:BODY_BYTES]
    canned = done._replace(body=body, sha256=sha256(body).hexdigest())

    def check_and_master(rendition: Rendition, take: Take, context: Any) -> Mastered:
        return canned._replace(n_samples=take.spec.n_samples)

    return check_and_master


def main() -> int:
    """Serve until told to stop."""
    started_at_ms = now_ms()
    start_log()
    render._check_and_master = canned_mastering()
    recipe = EngineRecipe("tests.bench.scale_worker:canned_engine")
    return serve(read_settings(), ServeOptions("tone"), started_at_ms=started_at_ms, recipe=recipe)


if __name__ == "__main__":
    sys.exit(main())

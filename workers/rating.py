"""Rating: computes the scores of stored takes, for `tunemill catalog choose --from-audio`.

It reads one job a line from standard input and answers each with one line; nothing is written. A take's master is read
where there is one: the finished file has another level and other ends.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import soundfile

from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from catalog.scoring import ScoreJob, ScoreResult
from catalog.settings import Settings
from workers.audio.checks.analysis import FRAME_SAMPLES, Analysis
from workers.audio.scoring import Scorer, load_scorers, with_scores
from workers.audio_jobs import UnusableAudioError, answer_all, read_stored
from workers.engine.protocol import Audio
from workers.storage import ObjectRefused, TakeStorage
from workers.wiring import open_worker_store


def score_all(lines: Iterable[str], settings: Settings) -> Iterator[str]:
    """One line of JSON for each job of `lines`. Raises StoreError when the store stays away."""
    scorers = load_scorers(settings.scorers)
    storage = TakeStorage(open_worker_store(settings))
    return answer_all(lines, ScoreJob, partial(_score, storage=storage, scorers=scorers))


def _score(job: ScoreJob, storage: TakeStorage, scorers: Sequence[Scorer]) -> ScoreResult:
    stored = job.stored
    file = stored.master.audio if stored.master else stored.audio
    try:
        audio = _decode(read_stored(storage, file.key, file.sha256))
    except (ObjectRefused, UnusableAudioError, soundfile.LibsndfileError) as error:
        return ScoreResult(take_id=stored.take_id, fault=str(error))
    measures = with_scores(stored.measures, audio, stored.rendered_spec, Analysis(audio), scorers)
    return ScoreResult(take_id=stored.take_id, scores=measures.scores)


def _decode(body: bytes) -> Audio:
    samples, rate_hz = soundfile.read(io.BytesIO(body), dtype="float32", always_2d=True)
    if rate_hz != SAMPLE_RATE_HZ or samples.shape[1] != CHANNELS:
        raise UnusableAudioError(f"it has {samples.shape[1]} channels at {rate_hz} Hz")
    if len(samples) < FRAME_SAMPLES or not samples.any() or not np.isfinite(samples).all():
        raise UnusableAudioError("there is nothing to hear in it")
    return np.ascontiguousarray(samples.T)

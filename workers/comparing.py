"""Comparing: computes the chroma codes of stored audio, for `tunemill catalog duplicates --from-audio`.

It reads one job a line from standard input and answers each with one line; nothing is written.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import soundfile

from catalog.chroma import ChromaJob, ChromaResult
from catalog.errors import WorkerError
from catalog.limits import SAMPLE_RATE_HZ
from catalog.settings import Settings
from workers.audio.chroma import HEARD_S, chroma_of, has_chromaprint
from workers.audio_jobs import UnusableAudioError, answer_all, read_stored
from workers.storage import ObjectRefused, TakeStorage
from workers.wiring import open_worker_store


def compute_all(lines: Iterable[str], settings: Settings) -> Iterator[str]:
    """One line of JSON for each job of `lines`. Raises StoreError when the store stays away."""
    if not has_chromaprint():
        raise WorkerError(
            "the sound of stored audio cannot be computed",
            why="the extra `duplicates` or the C library Chromaprint is not installed",
            fix="install both: `pip install 'tunemill[duplicates]'`, and libchromaprint1 (Debian, Ubuntu) or "
            "chromaprint (Homebrew)",
        )
    storage = TakeStorage(open_worker_store(settings))
    return answer_all(lines, ChromaJob, lambda job: _compute(job, storage))


def _compute(job: ChromaJob, storage: TakeStorage) -> ChromaResult:
    try:
        body = read_stored(storage, job.key, job.sha256)
        samples, rate_hz = soundfile.read(
            io.BytesIO(body), dtype="float32", always_2d=True, frames=HEARD_S * SAMPLE_RATE_HZ
        )
    except (ObjectRefused, UnusableAudioError, soundfile.LibsndfileError) as error:
        return ChromaResult(key=job.key, fault=str(error))
    if rate_hz != SAMPLE_RATE_HZ:
        return ChromaResult(key=job.key, fault=f"it has {rate_hz} Hz")
    return ChromaResult(key=job.key, chroma=chroma_of(samples.T))

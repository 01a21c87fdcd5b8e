"""Comparing: computes the chroma codes of stored audio, for `tunemill catalog duplicates --from-audio`.

It reads one job a line from standard input and answers each with one line; nothing is written.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from hashlib import sha256

import soundfile
from pydantic import ValidationError

from catalog.chroma import ChromaJob, ChromaResult
from catalog.errors import MessageError, WorkerError
from catalog.limits import SAMPLE_RATE_HZ
from catalog.settings import Settings
from workers.audio.chroma import HEARD_S, chroma_of, has_chromaprint
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
    for line in lines:
        try:
            job = ChromaJob.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise MessageError(f"a job cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        yield _compute(job, storage).model_dump_json()


def _compute(job: ChromaJob, storage: TakeStorage) -> ChromaResult:
    try:
        body = storage.find_object(job.key)
        if body is None:
            return ChromaResult(key=job.key, fault="it is not in the store")
        if sha256(body).hexdigest() != job.sha256:
            return ChromaResult(key=job.key, fault="it was changed or damaged in the store")
        samples, rate_hz = soundfile.read(
            io.BytesIO(body), dtype="float32", always_2d=True, frames=HEARD_S * SAMPLE_RATE_HZ
        )
    except (ObjectRefused, soundfile.LibsndfileError) as error:
        return ChromaResult(key=job.key, fault=str(error))
    if rate_hz != SAMPLE_RATE_HZ:
        return ChromaResult(key=job.key, fault=f"it has {rate_hz} Hz")
    return ChromaResult(key=job.key, chroma=chroma_of(samples.T))

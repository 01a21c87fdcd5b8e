"""Finishing: makes takes from stored audio of other takes, on the CPU, for `tunemill catalog finish`.

It reads one job a line from standard input and answers each with one line. A take that has a sidecar already is done,
so the same job may come again; whatever is killed, nothing is half there: the sidecar is written last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256

from pydantic import ValidationError

from catalog.errors import MessageError, StoreError
from catalog.finishing import FinishJob, FinishResult, Source, find_source
from catalog.messages import new_id, now_ms
from catalog.settings import Settings
from catalog.sidecar import AudioFile, BatchNote, Measures, Origin, Sidecar, StageTimes
from workers.audio.master import Mastered, master
from workers.audio.masters import read_audio
from workers.audio.tags import file_name_of
from workers.render import audio_file
from workers.storage import ObjectRefused, TakeStorage
from workers.wiring import open_worker_store

# Of warnings that mastering gives and gives again.
_OF_MASTERING = ("still playing at its end", "too sparse for the loudness meter", "below the target of", "limiter")


def finish_all(lines: Iterable[str], settings: Settings) -> Iterator[str]:
    """One line of JSON for each job of `lines`. Raises StoreError when the store stays away."""
    storage = TakeStorage(open_worker_store(settings))
    for line in lines:
        try:
            job = FinishJob.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise MessageError(f"a job cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        yield json.dumps(finish(job, storage).model_dump(mode="json"))


def finish(job: FinishJob, storage: TakeStorage) -> FinishResult:
    """Make the take of `job`, or say why it cannot be made."""
    take = job.take
    try:
        if (there := storage.find_finished(take)) is not None:
            return FinishResult(take_id=take.id, sidecar=there)
        source = find_source(job.stored)
        if source is None:
            return FinishResult(take_id=take.id, fault="no master was kept, and its file is lossy or was limited")
        mastered = _master(job, source, _read(source, storage))
    except (ObjectRefused, MessageError, _UnusableError) as error:
        return FinishResult(take_id=take.id, fault=str(error))
    file = audio_file(take, mastered)
    storage.put_audio(file, mastered.body, file_name=file_name_of(take, mastered.extension))
    return FinishResult(take_id=take.id, sidecar=storage.put_sidecar(_sidecar(job, file, mastered)))


class _UnusableError(Exception):
    """The stored audio is gone or is not what its sidecar says."""


def _read(source: Source, storage: TakeStorage) -> bytes:
    body = storage.find_object(source.audio.key)
    if body is None:
        raise _UnusableError(
            f"{source.audio.key} is not in the store; `tunemill catalog verify` tells what else is gone"
        )
    if sha256(body).hexdigest() != source.audio.sha256:
        raise _UnusableError(f"{source.audio.key} was changed or damaged in the store")
    return body


def _master(job: FinishJob, source: Source, body: bytes) -> Mastered:
    try:
        audio = read_audio(body, source.gain_db)
    except StoreError as error:
        raise _UnusableError(f"{source.audio.key}: {error.what}: {error.why}") from None
    stored = job.stored
    return master(
        audio,
        job.take,
        measures=_of_checks(stored.measures),
        noise=stored.fingerprints.noise,
        model=stored.take.spec.model,
        rendered_spec=stored.rendered_spec,
    )


def _of_checks(measures: Measures) -> Measures:
    """The measures of a take without what its mastering added: the new file gets its own."""
    said = [text for text in measures.warnings if not any(words in text for words in _OF_MASTERING)]
    return measures.model_copy(update={"warnings": said})


def _sidecar(job: FinishJob, file: AudioFile, mastered: Mastered) -> Sidecar:
    """The sidecar of the new take: the facts of the old one's rendering, and a file of its own."""
    stored, take = job.stored, job.take
    origin = stored.origin or Origin(take_id=stored.take_id, audio_sha256=stored.audio.sha256)
    changed = {
        "take_id": take.id,
        "record_id": new_id(),
        "run_id": job.run_id,
        "take": take,
        "measures": mastered.measures,
        "audio": file,
        "times": StageTimes(),
        "batch": BatchNote(id="", size=0, position=0, takes=[]),
        "created_at_ms": now_ms(),
        "receipt": job.receipt,
        "origin": origin,
    }
    return stored.model_copy(update=changed)

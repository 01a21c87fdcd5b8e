"""Finishing: makes takes from stored audio of other takes, on the CPU, for `tunemill catalog finish`.

It reads one job a line from standard input and answers each with one line. A take that has a sidecar already is done,
so the same job may come again; whatever is killed, nothing is half there: the sidecar is written last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from catalog.errors import MessageError, StoreError
from catalog.finishing import FinishJob, FinishResult, Source, find_source
from catalog.flaws import kind_of_reason
from catalog.messages import new_id, now_ms
from catalog.settings import Settings
from catalog.sidecar import AudioFile, BatchNote, Measures, Origin, Sidecar, StageTimes
from workers.audio.master import Mastered, master
from workers.audio.masters import read_audio
from workers.audio.tags import file_name_of
from workers.audio_jobs import UnusableAudioError, answer_all, read_stored
from workers.render import audio_file
from workers.storage import ObjectRefused, TakeStorage
from workers.wiring import open_worker_store


def finish_all(lines: Iterable[str], settings: Settings) -> Iterator[str]:
    """One line of JSON for each job of `lines`. Raises StoreError when the store stays away."""
    storage = TakeStorage(open_worker_store(settings))
    return answer_all(lines, FinishJob, lambda job: finish(job, storage))


def finish(job: FinishJob, storage: TakeStorage) -> FinishResult:
    """Make the take of `job`, or say why it cannot be made."""
    take = job.take
    try:
        if (there := storage.find_finished(take)) is not None:
            return FinishResult(take_id=take.id, sidecar=there)
        source = find_source(job.stored)
        if source is None:
            return FinishResult(take_id=take.id, fault="no master was kept, and its file is lossy or was limited")
        body = read_stored(storage, source.audio.key, source.audio.sha256)
        mastered = _master(job, source, body)
    except (ObjectRefused, MessageError, UnusableAudioError) as error:
        return FinishResult(take_id=take.id, fault=str(error))
    file = audio_file(take, mastered)
    storage.put_audio(file, mastered.body, file_name=file_name_of(take, mastered.extension))
    return FinishResult(take_id=take.id, sidecar=storage.put_sidecar(_sidecar(job, file, mastered)))


def _master(job: FinishJob, source: Source, body: bytes) -> Mastered:
    try:
        audio = read_audio(body, source.gain_db)
    except StoreError as error:
        raise UnusableAudioError(f"{source.audio.key}: {error.what}: {error.why}") from None
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
    """The measures of a take with the warnings of its checks alone: the mastering of the new file gives its own."""
    return measures.model_copy(update={"warnings": [text for text in measures.warnings if kind_of_reason(text)]})


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

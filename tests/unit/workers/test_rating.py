"""Scores of stored takes: those that a worker would have given, from whatever file was kept."""

from __future__ import annotations

import io
from hashlib import sha256

import numpy as np
import pytest
import soundfile

from catalog.keys import sidecar_key
from catalog.scoring import ScoreJob, ScoreResult
from catalog.settings import Settings
from catalog.sidecar import Sidecar, parse_sidecar
from catalog.spec import AudioFormat, MasterSpec
from tests.support.fakes import MemoryStore, a_context
from tests.support.makers import a_message, a_take
from workers import rating
from workers.rating import score_all
from workers.render import render_take


def rendered(store: MemoryStore, *, keeps_master: bool, format: AudioFormat = AudioFormat.FLAC) -> Sidecar:
    """A take that a worker has made and scored."""
    take = a_take(duration_s=16, master=MasterSpec(format=format))
    take = take.model_copy(update={"track": take.track.model_copy(update={"keeps_master": keeps_master})})
    render_take(a_message(take).model_dump(mode="json"), a_context(store=store), shown_id=take.id)
    return parse_sidecar(store.objects[sidecar_key(take)], take.id)


def unscored(stored: Sidecar) -> Sidecar:
    """The same as a worker of an earlier release wrote it."""
    later = {"scores": [], "tempo_bpm": None, "tempo_fit": None, "key": "", "key_fit": None}
    return stored.model_copy(update={"measures": stored.measures.model_copy(update=later)})


@pytest.fixture
def score(monkeypatch):
    def scored(store: MemoryStore, stored: Sidecar) -> ScoreResult:
        monkeypatch.setattr(rating, "open_worker_store", lambda settings: store)
        (line,) = score_all([ScoreJob(stored=stored).model_dump_json()], Settings())
        return ScoreResult.model_validate_json(line)

    return scored


@pytest.mark.parametrize("keeps_master", [True, False])
@pytest.mark.parametrize("format", [AudioFormat.FLAC, AudioFormat.MP3, AudioFormat.OPUS])
def test_a_stored_take_gets_the_scores_that_its_worker_would_have_given(score, keeps_master, format):
    store = MemoryStore()
    stored = rendered(store, keeps_master=keeps_master, format=format)
    result = score(store, unscored(stored))
    assert (result.take_id, result.fault) == (stored.take_id, "")
    assert [each.name for each in result.scores] == ["technical", "variation"]
    for now, then in zip(result.scores, stored.measures.scores, strict=True):
        assert now.value == pytest.approx(then.value, abs=0.001 if keeps_master else 0.02)


def test_a_damaged_file_is_the_answer_to_its_job(score):
    store = MemoryStore()
    stored = rendered(store, keeps_master=False)
    store.objects[stored.audio.key] = b"fLaC"
    result = score(store, stored)
    assert (result.scores, "was changed or damaged" in result.fault) == ([], True)


@pytest.mark.parametrize("level", [0.0, np.nan])
def test_audio_without_sound_is_the_answer_to_its_job(score, level):
    store, body = MemoryStore(), io.BytesIO()
    stored = rendered(store, keeps_master=False, format=AudioFormat.WAV)
    soundfile.write(body, np.full((48_000, 2), level), 48_000, format="WAV", subtype="FLOAT")
    store.objects[stored.audio.key] = body.getvalue()
    audio = stored.audio.model_copy(update={"sha256": sha256(body.getvalue()).hexdigest()})
    assert score(store, stored.model_copy(update={"audio": audio})).fault == "there is nothing to hear in it"

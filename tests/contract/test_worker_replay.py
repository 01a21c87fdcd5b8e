"""A stored take can be rendered again from its sidecar, and the verdict is honest."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from catalog.errors import StoreError
from catalog.keys import sidecar_key
from catalog.settings import Settings
from catalog.sidecar import Sidecar
from catalog.spec import MasterSpec
from catalog.store import Store, open_store
from tests.support.fakes import FakeRenderer, a_context
from tests.support.makers import a_message, a_take
from workers.render import render_take
from workers.replay import replay_sidecar
from workers.tone import load_engine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, store_url=str(tmp_path / "store"))


@pytest.fixture
def store(settings: Settings) -> Store:
    return open_store(settings.store)


def a_stored_take(store: Store, **fields: Any) -> Sidecar:
    take = a_take(**fields)
    context = a_context(FakeRenderer(load_engine(), batch_size=2), store=store)
    render_take(a_message(take).model_dump(mode="json"), context)
    return Sidecar.model_validate_json(store.find(sidecar_key(take)) or b"")


@pytest.mark.parametrize("audio_format", ["flac", "wav", "mp3"])
def test_the_same_engine_gives_the_same_samples(settings, store, audio_format):
    sidecar = a_stored_take(store, master=MasterSpec(format=audio_format))
    verdict = replay_sidecar(sidecar.model_dump_json().encode(), settings)
    assert verdict.verdict == "bit-equal"
    assert verdict.pcm_sha256_now == verdict.pcm_sha256_then == sidecar.audio.pcm_sha256
    assert verdict.max_abs_diff == 0
    assert verdict.notes == ["was rendered in a batch of 2, now alone: the last bits may differ"]


@pytest.mark.parametrize(
    ("noise", "expected"), [(1e-6, "within tolerance"), (3e-2, "different")], ids=["inaudible", "audible"]
)
def test_the_distance_decides_between_tolerance_and_difference(settings, store, noise, expected):
    sidecar = _with_stored_audio(a_stored_take(store), store, lambda samples: samples + _noise(samples, noise))
    verdict = replay_sidecar(sidecar.model_dump_json().encode(), settings)
    assert verdict.verdict == expected
    assert verdict.rms_diff_db is not None
    assert (verdict.rms_diff_db <= -60) == (expected == "within tolerance")
    assert len(verdict.notes) == 1


def test_audio_of_another_length_is_different(settings, store):
    sidecar = _with_stored_audio(a_stored_take(store), store, lambda samples: samples[:-100])
    verdict = replay_sidecar(sidecar.model_dump_json().encode(), settings)
    assert (verdict.verdict, verdict.rms_diff_db) == ("different", None)
    assert "lengths differ" in verdict.notes[-1]


def test_a_file_damaged_in_the_store_is_told_apart(settings, store):
    sidecar = a_stored_take(store)
    kept = sidecar.model_copy(update={"audio": sidecar.audio.model_copy(update={"sha256": "00" * 32})})
    verdict = replay_sidecar(kept.model_dump_json().encode(), settings)
    assert any("checksum" in note for note in verdict.notes)


def test_audio_that_is_gone_is_an_error_in_words(settings, store):
    sidecar = a_stored_take(store)
    store.delete(sidecar.audio.key)
    with pytest.raises(StoreError, match="is not in the store"):
        replay_sidecar(sidecar.model_dump_json().encode(), settings)


def test_the_program_reads_a_sidecar_and_prints_a_verdict(settings, store, tmp_path):
    sidecar = a_stored_take(store)
    environment = {**os.environ, "TUNEMILL_HOME": str(tmp_path), "TUNEMILL_STORE_URL": str(tmp_path / "store")}
    command = [sys.executable, "-m", "workers", "replay"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=sidecar.model_dump_json(), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["verdict"] == "bit-equal"
    broken = subprocess.run(command, cwd=ROOT, env=environment, input="{}", capture_output=True, text=True, check=False)
    assert broken.returncode == 42
    assert "the sidecar cannot be read" in broken.stderr
    assert "Traceback" not in broken.stderr


def _noise(samples: np.ndarray, level: float) -> np.ndarray:
    return np.random.default_rng(1).normal(0, level, samples.shape)


def _with_stored_audio(sidecar: Sidecar, store: Store, change: Any) -> Sidecar:
    """`sidecar` as it would be had the stored audio been `change`d when it was made."""
    samples, rate = soundfile.read(io.BytesIO(store.find(sidecar.audio.key) or b""))
    file = io.BytesIO()
    soundfile.write(file, change(samples), rate, format="FLAC", subtype="PCM_24")
    body = file.getvalue()
    digest = sha256(body).hexdigest()
    store.put(sidecar.audio.key, body, content_type="audio/flac", sha256=digest)
    return sidecar.model_copy(update={"audio": sidecar.audio.model_copy(update={"sha256": digest})})


@pytest.mark.parametrize("body", [b"no audio at all", b""])
def test_stored_audio_that_nobody_can_decode_is_answered_in_words(settings, store, body):
    sidecar = a_stored_take(store)
    store.put(sidecar.audio.key, body, content_type="audio/flac", sha256=sha256(body).hexdigest())
    with pytest.raises(StoreError, match="cannot be decoded"):
        replay_sidecar(sidecar.model_dump_json().encode(), settings)

"""The tone engine keeps an engine's promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.limits import KEYSCALES
from tests.support.makers import a_take, takes
from workers.audio.checks import check_audio
from workers.engine.protocol import Job
from workers.tone import load_engine, synthesise


@settings(max_examples=25)
@given(
    bpm=st.integers(30, 300),
    keyscale=st.sampled_from(sorted(KEYSCALES)),
    timesignature=st.sampled_from(["2", "3", "4", "6"]),
    duration_s=st.integers(10, 40),
    slot=st.integers(1, 99),
)
def test_every_allowed_spec_gives_stereo_of_the_right_length_that_passes_the_checks(slot, **fields):
    take = a_take(f"{slot:04d}", **fields)
    audio = synthesise(take)
    assert audio.shape == (2, take.spec.n_samples)
    assert audio.dtype == np.float32
    assert np.abs(audio).max() == pytest.approx(0.5, abs=1e-3)
    assert not np.array_equal(audio[0], audio[1])
    assert check_audio(audio, take.spec, noise=False).warnings == []


def test_a_take_sounds_the_same_alone_and_in_any_place_of_a_batch():
    engine = load_engine()
    some = takes(5)
    alone = [engine.render([Job(take)]).outcomes[0] for take in some]
    together = engine.render([Job(take) for take in reversed(some)]).outcomes[::-1]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.audio, other.audio)


@pytest.mark.parametrize(
    "change", [{"keyscale": "D major"}, {"keyscale": "C minor"}, {"bpm": 91}, {"timesignature": "3"}, {"slot": "0002"}]
)
def test_key_tempo_metre_and_seed_are_heard(change):
    assert not np.allclose(synthesise(a_take()), synthesise(a_take(**change)))


def test_the_strongest_note_belongs_to_the_key():
    audio = synthesise(a_take(keyscale="A major", duration_s=20))
    spectrum = np.abs(np.fft.rfft(audio.mean(axis=0)))
    hz = np.argmax(spectrum) / 20
    semitone = round(12 * np.log2(hz / 440)) % 12  # above A
    assert semitone in {0, 2, 4, 5, 7, 9, 11}


@pytest.mark.parametrize("bpm", [60, 97, 140])
def test_the_level_rises_on_every_beat_of_the_tempo_and_on_no_other_grid(bpm):
    audio = synthesise(a_take(bpm=bpm, duration_s=30))
    assert _rises(audio, bpm) > 0.95
    assert _rises(audio, bpm * 1.13) < 0.8


def _rises(audio: np.ndarray, bpm: float) -> float:
    """The share of beats at `bpm` after which it is louder than before them (40 ms either side)."""
    n = 48_000 * 40 // 1000
    beats = [round(beat * 60 / bpm * 48_000) for beat in range(1, int(28 * bpm / 60))]
    louder = [np.square(audio[:, at : at + n]).sum() > np.square(audio[:, at - n : at]).sum() for at in beats]
    return float(np.mean(louder))

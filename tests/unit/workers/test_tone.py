"""The tone engine keeps an engine's promises."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import WorkerError
from catalog.limits import KEYSCALES, SAMPLE_RATE_HZ
from tests.support.makers import a_take, takes
from workers.audio.checks import check_audio
from workers.engine.protocol import Job, Refusal
from workers.tone import fault_of, load_engine, spoilt, synthesise


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
    assert 0.25 < np.abs(audio).max() <= 0.5 + 1e-3  # four bars reach it, which a slow short take does not have
    assert not np.array_equal(audio[0], audio[1])
    found = check_audio(audio, take.spec, noise=False).flaws
    # A bass on A# is at 60 Hz like the mains, four bars do come again, some timbre is like a voice: warnings at most.
    assert [flaw.text for flaw in found if flaw.stops] == []


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


def test_each_fault_hits_its_share_of_the_seeds_and_the_same_ones_each_time():
    some, shares = takes(2_000), {"silence": 0.1, "noise": 0.05}
    found = Counter(fault_of(take, shares) for take in some)
    assert found["silence"] == pytest.approx(200, abs=60)
    assert found["noise"] == pytest.approx(100, abs=45)
    assert found[""] == 2_000 - found["silence"] - found["noise"]
    assert [fault_of(take, shares) for take in some[:50]] == [fault_of(take, shares) for take in some[:50]]
    assert {fault_of(take, {}) for take in some[:50]} == {""}
    assert {fault_of(take, {"cut": 1.0}) for take in some[:50]} == {"cut"}


def test_a_spoilt_take_has_the_length_of_a_sound_one_and_its_fault():
    audio = synthesise(a_take())
    silence, noise, loop, cut = (spoilt(audio.copy(), fault, 7) for fault in ("silence", "noise", "loop", "cut"))
    assert all(each.shape == audio.shape and each.dtype == np.float32 for each in (silence, noise, loop, cut))
    assert not silence.any()
    assert abs(np.corrcoef(noise[0, :-1], noise[0, 1:])[0, 1]) < 0.01
    assert np.array_equal(noise, spoilt(audio.copy(), "noise", 7))
    period = 2 * SAMPLE_RATE_HZ
    assert np.array_equal(loop[:, :-period], loop[:, period:])
    assert np.array_equal(cut[:, : 6 * SAMPLE_RATE_HZ], audio[:, : 6 * SAMPLE_RATE_HZ])
    assert not cut[:, 6 * SAMPLE_RATE_HZ :].any()
    assert np.array_equal(spoilt(audio.copy(), "", 7), audio)


def test_an_engine_that_is_told_to_refuses_or_fails():
    job = Job(a_take())
    assert isinstance(load_engine({"refusal": 1.0}).render([job]).outcomes[0], Refusal)
    with pytest.raises(WorkerError, match="on purpose"):
        load_engine({"failure": 1.0}).render([job])
    silent = load_engine({"silence": 1.0}).render([job]).outcomes[0]
    assert not silent.audio.any()

"""The checks accept music and reject broken audio."""

import pickle

import numpy as np
import pytest

from tests.support.makers import a_spec
from tests.support.sounds import chords, pink_noise, sine, white_noise
from workers.audio.checks import Rejected, check_audio
from workers.audio.offset import without_offset


def reasons(audio, spec=None, *, noise=False):
    with pytest.raises(Rejected) as caught:
        check_audio(audio, spec or a_spec(), noise=noise)
    return caught.value.reasons


def test_music_passes_without_a_warning():
    measures = check_audio(chords(10), a_spec(), noise=False)
    assert measures.warnings == []
    assert measures.spectral_flatness < 0.005


def test_levels_are_measured_before_any_gain():
    measures = check_audio(sine((-20, 10)), a_spec(), noise=False)
    assert measures.peak_dbfs == pytest.approx(-20, abs=0.01)
    assert measures.rms_dbfs == pytest.approx(-23.01, abs=0.01)


def test_the_audio_is_only_read():
    audio = chords(10)
    audio.flags.writeable = False
    check_audio(audio, a_spec(), noise=False)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("noise", [False, True])
def test_a_sample_that_is_no_number_stops_every_take(bad, noise):
    audio = chords(10)
    audio[1, 77:80] = bad
    assert reasons(audio, noise=noise) == ["3 samples are not finite (limit 0)"]


@pytest.mark.parametrize("noise", [False, True])
def test_digital_silence_stops_every_take(noise):
    assert reasons(np.zeros((2, 480_000), np.float32), noise=noise) == ["digital silence: every sample is 0"]


@pytest.mark.parametrize("shape", [(2, 479_999), (2, 480_001), (1, 480_000), (480_000, 2), (480_000,), (2, 0)])
def test_any_shape_but_the_exact_one_is_refused(shape):
    audio = np.resize(chords(10), shape)
    assert any(f"shape {shape}, expected (2, 480000)" in reason for reason in reasons(audio))


def test_a_collapsed_take_is_refused_with_value_and_limit():
    (reason,) = reasons(chords(10) / 1000)
    assert reason.startswith("near silence: RMS -8")
    assert reason.endswith("(limit -50)")


@pytest.mark.parametrize("make", [white_noise, pink_noise])
def test_noise_from_trained_weights_is_refused_by_both_measures(make):
    first, second = reasons(make(10))
    assert first.startswith("like noise: spectral flatness")
    assert first.endswith("(limit 0.25)")
    assert "of the energy (at least 0.6)" in second


@pytest.mark.parametrize("make", [white_noise, pink_noise])
def test_noise_from_random_weights_passes_and_says_so(make):
    measures = check_audio(make(10), a_spec(), noise=True)
    assert len([text for text in measures.warnings if text.startswith("like noise")]) == 2


def test_the_level_of_noise_does_not_matter():
    measures = check_audio(white_noise(10) * np.float32(1e-6), a_spec(), noise=True)
    assert measures.spectral_flatness == pytest.approx(0.56, abs=0.02)
    assert measures.warnings[0].startswith("near silence")


def test_a_dead_channel_is_refused_and_named():
    audio = chords(10)
    audio[1] *= 0.01
    (reason,) = reasons(audio)
    assert reason.startswith("dead channel: right is 4")
    assert reason.endswith("(limit 20 dB)")


def test_a_channel_of_zeros_is_refused():
    audio = chords(10)
    audio[0] = 0
    assert reasons(audio) == ["dead channel: left is silent (limit 20 dB)"]


def test_antiphase_is_refused_because_mono_would_be_silent():
    left = chords(10)[0]
    assert reasons(np.stack([left, -left])) == ["channels in antiphase: correlation -1.00 (limit -0.9), silent in mono"]


def test_clipping_is_refused():
    audio = np.clip(sine((0, 10), hz=97), -0.5, 0.5)
    assert any(reason.startswith("clipped:") for reason in reasons(audio))


def test_peaks_above_full_scale_are_no_clipping():
    assert check_audio(chords(10) * 8, a_spec(), noise=False).peak_dbfs > 0


def test_a_steady_bass_tone_is_no_clipping():
    assert check_audio(sine((-6, 10), hz=41.2), a_spec(), noise=False).warnings == []


def test_an_offset_is_taken_out_and_written_down():
    shifted = chords(10) + np.float32(0.05)
    measures = check_audio(shifted, a_spec(), noise=False)
    assert (measures.high_pass_hz, measures.warnings) == (20.0, [])
    assert np.abs(without_offset(shifted).mean(axis=1)).max() < 1e-4
    assert np.square(without_offset(shifted)).mean() == pytest.approx(np.square(chords(10)).mean(), rel=0.01)


def test_audio_without_an_offset_stays_as_it_is_to_the_bit():
    audio = chords(10)
    assert without_offset(audio) is audio
    assert check_audio(audio, a_spec(), noise=False).high_pass_hz == 0


def test_all_reasons_come_together():
    audio = white_noise(11) / 1000
    audio[1] /= 1000
    found = reasons(audio)
    assert [reason.split()[0] for reason in found] == ["shape", "near", "dead", "like", "like"]


def test_huge_finite_values_are_measured_without_overflow():
    measures = check_audio(chords(10) * np.float32(1e30), a_spec(), noise=False)
    assert measures.peak_dbfs == pytest.approx(590, abs=15)


def test_rejections_cross_process_borders():
    again = pickle.loads(pickle.dumps(Rejected(["too quiet", "too short"])))  # noqa: S301 - our own bytes
    assert again.reasons == ["too quiet", "too short"]
    assert str(again) == "too quiet; too short"


def test_a_catalog_may_judge_a_kind_of_flaw_otherwise():
    noisy, clean = white_noise(10), chords(10)
    assert check_audio(noisy, a_spec(), noise=False, policies={"noise": "warn"}).flaws[0].stops is False
    silent = check_audio(noisy, a_spec(), noise=False, policies={"noise": "off"})
    assert [flaw.kind for flaw in silent.flaws if flaw.kind == "noise"] == []
    hum = sum(np.sin(2 * np.pi * hz * np.arange(480_000) / 48_000) for hz in (50, 100, 150))
    humming = (clean + 0.02 * hum).astype(np.float32)
    assert [flaw.kind for flaw in check_audio(humming, a_spec(), noise=False).flaws] == ["hum"]
    with pytest.raises(Rejected, match="hum"):
        check_audio(humming, a_spec(), noise=False, policies={"hum": "reject"})


def test_no_policy_lets_broken_audio_pass():
    with pytest.raises(Rejected):
        check_audio(np.zeros((2, 480_000), np.float32), a_spec(), noise=False, policies={"digital-silence": "off"})

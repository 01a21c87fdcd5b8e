"""The limiter: peaks give way, within its bound, and what it takes is told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.spec import MasterSpec
from tests.support.sounds import RATE, chords, stereo, white_noise
from workers.audio import limiter
from workers.audio.limiter import limit, smoothed
from workers.audio.loudness import integrated_lufs, measure_level, true_peak_dbtp

BLOCKS_PER_MS = 2


def with_hits(duration_s=20, *, over_db=2.0):
    """Chords with a short hit every second, which rises that far above them."""
    sound = chords(duration_s)
    top = np.abs(sound).max() * 10 ** (over_db / 20)
    hit = np.sin(2 * np.pi * 330 * np.arange(480) / RATE) * np.hanning(480)
    for at in range(RATE, (duration_s - 3) * RATE, RATE):
        sound[:, at : at + 480] += (top * hit).astype(np.float32)
    return sound


def limited(sound, target=-16.0, bound=5.0):
    found = limit(sound, measure_level(sound), target_lufs=target, ceiling_dbtp=-1.0, bound_db=bound)
    return found, found.audio * np.float32(10 ** (found.gain_db / 20))


def test_a_track_that_its_peaks_keep_quiet_reaches_the_target_below_the_ceiling():
    sound = with_hits()
    level = measure_level(sound)
    assert level.true_peak_dbtp - level.loudness_lufs > 15, "a gain alone does not suffice"
    _, out = limited(sound)
    assert integrated_lufs(out) == pytest.approx(-16, abs=0.1)
    assert true_peak_dbtp(out) <= -1


def test_the_bound_is_kept_where_it_does_not_suffice():
    found, out = limited(with_hits(over_db=20), bound=3.0)
    assert found.reduction_db == pytest.approx(3, abs=1e-6)
    assert true_peak_dbtp(out) == pytest.approx(-1 - limiter.MARGIN_DB, abs=0.02)
    assert integrated_lufs(out) < -16.1


def test_without_a_target_peaks_above_the_ceiling_give_way_before_the_level_does():
    sound = with_hits() * np.float32(2)
    over_db = true_peak_dbtp(sound) + 1 + limiter.MARGIN_DB
    found, out = limited(sound, target=None)
    assert 0 < over_db < 5
    assert (found.gain_db, found.reduction_db) == (0, pytest.approx(over_db, abs=1e-3))
    assert true_peak_dbtp(out) <= -1


def test_audio_away_from_peaks_is_not_touched():
    sound = with_hits()
    found, _ = limited(sound)
    factor = found.audio[0] / np.where(sound[0] == 0, 1, sound[0])
    quiet = slice(round(1.9 * RATE), round(1.98 * RATE))  # 0.9 s after a hit
    assert np.allclose(factor[quiet][np.abs(sound[0, quiet]) > 1e-4], 1, atol=1e-3)
    assert 0 < found.share < 0.5


def test_both_channels_get_the_same_gain():
    sound = with_hits()
    sound[1] *= 0.5
    found, _ = limited(sound)
    assert np.allclose(
        found.audio[1], found.audio[0] * np.float32(0.5) * (sound[1] / (0.5 * sound[0] + 1e-30)), atol=1e-6
    )
    assert found.reduction_db > 1


def test_the_same_audio_gives_the_same_bits():
    assert np.array_equal(limited(with_hits())[0].audio, limited(with_hits())[0].audio)


def test_noise_at_every_peak_stays_below_the_ceiling():
    _, out = limited(white_noise(10) * np.float32(3), target=-10.0)
    assert true_peak_dbtp(out) <= -1


@settings(max_examples=50)
@given(st.lists(st.floats(-20, 6), min_size=1, max_size=200))
def test_the_reduction_at_both_borders_of_a_block_is_at_least_its_excess(excess):
    reduction = smoothed(np.array(excess))
    wanted = np.maximum(excess, 0) - 1e-9
    assert reduction.size == len(excess) + 1
    assert (reduction[:-1] >= wanted).all()
    assert (reduction[1:] >= wanted).all()
    assert reduction.max() <= max(0, *excess) + 1e-9


def test_the_gain_bends_five_milliseconds_ahead_and_returns_within_its_release():
    peak_at = 1000
    excess = np.full(4000, -20.0)
    excess[peak_at] = 4.0
    reduction = smoothed(excess)
    ahead = round(limiter.LOOK_AHEAD_MS * BLOCKS_PER_MS)
    assert reduction[: peak_at - ahead].max() == 0
    assert reduction[peak_at - ahead // 2] > 0
    assert reduction[peak_at : peak_at + 2] == pytest.approx([4, 4], abs=1e-9)
    released = peak_at + 1 + round(limiter.RELEASE_MS * BLOCKS_PER_MS)
    assert reduction[released] == pytest.approx(4 / math.e, rel=0.05)
    assert (np.diff(reduction[peak_at + 1 :]) <= 1e-12).all()


def test_a_peak_between_the_samples_is_limited_too():
    burst = np.zeros(10 * RATE)
    n = np.arange(4 * RATE)
    burst[3 * RATE : 7 * RATE] = 0.5 * np.sin(2 * np.pi * n / 4 + math.pi / 4) * np.hanning(n.size)  # samples at .707
    found, out = limited(stereo(burst), target=1.0)
    assert found.reduction_db > 1
    assert true_peak_dbtp(out) <= -1


def test_an_order_asks_for_the_limiter_by_its_bound():
    assert MasterSpec().limiter_db == 0
    assert MasterSpec(limiter_db=5).further == {"limiter_db": 5.0}
    with pytest.raises(ValueError, match="less than or equal to 5"):
        MasterSpec(limiter_db=5.5)

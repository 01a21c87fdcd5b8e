"""The meter against the readings that EBU Tech 3341 (2016) asks of any meter, and the gain that follows."""

import math

import numpy as np
import pytest
from scipy.signal import resample

from tests.support.sounds import RATE, chords, sine, stereo
from workers.audio.loudness import Level, gain_db, integrated_lufs, measure_level, true_peak_dbtp


@pytest.mark.parametrize(
    ("steps", "reading"),
    [
        pytest.param([(-23, 20)], -23.0, id="3341-1"),
        pytest.param([(-33, 20)], -33.0, id="3341-2"),
        pytest.param([(-36, 10), (-23, 60), (-36, 10)], -23.0, id="3341-3"),
        pytest.param([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0, id="3341-4"),
        pytest.param([(-26, 20), (-20, 20.1), (-26, 20)], -23.0, id="3341-5"),
    ],
)
def test_integrated_loudness_reads_as_the_standard_asks(steps, reading):
    # The standard allows 0.1; the library's default filter would be off by 0.04 and still pass.
    assert integrated_lufs(sine(*steps)) == pytest.approx(reading, abs=0.03)


@pytest.mark.parametrize(
    ("divisor", "degrees", "amplitude", "reading"),
    [
        pytest.param(4, 0, 0.5, -6.0, id="3341-15"),
        pytest.param(4, 45, 0.5, -6.0, id="3341-16"),
        pytest.param(6, 60, 0.5, -6.0, id="3341-17"),
        pytest.param(8, 67.5, 0.5, -6.0, id="3341-18"),
        pytest.param(4, 45, 1.41, 3.0, id="3341-19"),
    ],
)
def test_true_peak_reads_as_the_standard_asks(divisor, degrees, amplitude, reading):
    n = 3 * RATE
    ramp = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.01 * RATE))
    tone = amplitude * ramp * np.sin(2 * np.pi * np.arange(n) / divisor + math.radians(degrees))
    assert reading - 0.4 <= true_peak_dbtp(stereo(tone)) <= reading + 0.2


@pytest.mark.parametrize("shift", [0, 1234, 4799, 4801])
def test_measuring_only_the_loud_blocks_finds_the_peak_of_the_whole(shift):
    sound = np.roll(chords(10), shift, axis=1)
    whole = np.abs(resample(sound, 4 * sound.shape[1], axis=1)).max()  # by FFT, at once
    assert true_peak_dbtp(sound) == pytest.approx(20 * math.log10(whole), abs=0.02)


@pytest.mark.parametrize("at", [0, 4790, 4800, 47_990])
def test_a_peak_at_a_border_is_found(at):
    burst = np.zeros(48_000)
    burst[at : at + 10] = np.sin(2 * np.pi * np.arange(10) / 4 + math.pi / 4)  # its samples reach .707 of the wave
    alone = np.zeros(48_000)
    alone[10_000:10_010] = burst[at : at + 10]
    assert true_peak_dbtp(stereo(burst)) == pytest.approx(true_peak_dbtp(stereo(alone)), abs=1e-4)
    assert true_peak_dbtp(stereo(burst)) > 20 * math.log10(0.707) + 2


def test_a_level_moves_with_the_gain_exactly():
    sound = chords(10)
    before, after = measure_level(sound), measure_level(sound * np.float32(10 ** (-30 / 20)))
    assert after.loudness_lufs == pytest.approx(before.loudness_lufs - 30, abs=1e-4)
    assert after.true_peak_dbtp == pytest.approx(before.true_peak_dbtp - 30, abs=1e-4)


def test_what_the_gate_discards_has_no_loudness():
    click = np.zeros(RATE)
    click[100] = 1e-3
    level = measure_level(stereo(click))
    assert level.loudness_lufs is None or math.isfinite(level.loudness_lufs)
    assert integrated_lufs(stereo(np.zeros(RATE))) is None
    assert true_peak_dbtp(stereo(np.zeros(RATE))) == -math.inf


@pytest.mark.parametrize(
    ("level", "target", "gain"),
    [
        pytest.param(Level(-20, -9), -16, 4, id="room enough: to the target"),
        pytest.param(Level(-20, -3), -16, 2, id="peaks in the way: to the ceiling"),
        pytest.param(Level(-10, -0.5), -16, -6, id="too loud: down"),
        pytest.param(Level(-20, -9), None, 0, id="no target: left alone"),
        pytest.param(Level(-8, 2), None, -3, id="no target: still below the ceiling"),
        pytest.param(Level(None, -40), -16, 39, id="no reading: to the ceiling"),
    ],
)
def test_the_gain_reaches_the_target_unless_peaks_are_in_the_way(level, target, gain):
    assert gain_db(level, target_lufs=target, ceiling_dbtp=-1) == pytest.approx(gain)

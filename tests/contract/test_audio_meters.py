"""The meters against the signals that EBU Tech 3341 (2016) and 3342 (2016) describe, synthesised.

Of 3341, number 6 has five channels and our audio two; 7 and 8, like 3342-5 and -6, are recordings that EBU hands out.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.sounds import RATE, chords, sine, stereo
from workers.audio.loudness import integrated_lufs
from workers.audio.meters import energies_of, momentary_lufs, read_meters, short_term_lufs

SILENCE = -300
TOLERANCE = 0.1  # of the standard


def readings(*steps):
    return read_meters(energies_of(sine(*steps)))


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([(-23, 20)], id="3341-1"),
        pytest.param([(-36, 10), (-23, 60), (-36, 10)], id="3341-3"),
        pytest.param([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], id="3341-4"),
        pytest.param([(-26, 20), (-20, 20.1), (-26, 20)], id="3341-5"),
    ],
)
def test_integrated_loudness_is_minus_23(steps):
    assert readings(*steps).integrated_lufs == pytest.approx(-23, abs=0.03)


@pytest.mark.parametrize(("level", "id_"), [(-23, "3341-1"), (-33, "3341-2")])
def test_all_three_meters_read_a_steady_tone_alike(level, id_):
    read = readings((level, 20))
    assert (read.integrated_lufs, read.max_momentary_lufs, read.max_short_term_lufs) == pytest.approx(
        (level,) * 3, abs=TOLERANCE
    ), id_


def test_short_term_loudness_stays_constant_over_a_period_of_three_seconds():  # 3341-9
    read = short_term_lufs(energies_of(sine(*[(-20, 1.34), (-30, 1.66)] * 5)))
    assert read.min() == pytest.approx(-23, abs=TOLERANCE)
    assert read.max() == pytest.approx(-23, abs=TOLERANCE)


def test_momentary_loudness_stays_constant_over_a_period_of_400_ms():  # 3341-12
    read = momentary_lufs(energies_of(sine(*[(-20, 0.18), (-30, 0.22)] * 25)))
    assert read.min() == pytest.approx(-23, abs=TOLERANCE)
    assert read.max() == pytest.approx(-23, abs=TOLERANCE)


@pytest.mark.parametrize("i", range(20))
def test_a_burst_is_read_whole_wherever_it_begins(i):
    short_term = readings((SILENCE, i * 0.15), (-23, 3), (SILENCE, 1))  # 3341-10
    momentary = readings((SILENCE, i * 0.02), (-23, 0.4), (SILENCE, 1))  # 3341-13
    assert short_term.max_short_term_lufs == pytest.approx(-23, abs=TOLERANCE)
    assert momentary.max_momentary_lufs == pytest.approx(-23, abs=TOLERANCE)


def test_bursts_that_grow_by_one_decibel_are_told_apart():
    levels = range(-38, -18)
    long = [[(SILENCE, i * 0.15), (level, 3), (SILENCE, 3 - i * 0.15)] for i, level in enumerate(levels)]  # 3341-11
    short = [[(SILENCE, i * 0.02), (level, 0.4), (SILENCE, 0.4 - i * 0.02)] for i, level in enumerate(levels)]  # -14
    for segments, meter, window_s in ((long, short_term_lufs, 3), (short, momentary_lufs, 0.4)):
        read = meter(energies_of(sine(*(step for segment in segments for step in segment))))
        ends_s = np.arange(read.size) * 0.01 + window_s
        segment_s = 2 * window_s
        highest = [read[(ends_s > n * segment_s) & (ends_s <= (n + 1) * segment_s)].max() for n in range(20)]
        assert highest == pytest.approx(list(levels), abs=TOLERANCE)


@pytest.mark.parametrize(
    ("levels", "range_lu"),
    [
        pytest.param((-20, -30), 10, id="3342-1"),
        pytest.param((-20, -15), 5, id="3342-2"),
        pytest.param((-40, -20), 20, id="3342-3"),
        pytest.param((-50, -35, -20, -35, -50), 15, id="3342-4"),
    ],
)
def test_the_loudness_range_reads_as_the_standard_asks(levels, range_lu):
    # The standard allows 1 LU.
    assert readings(*((level, 20) for level in levels)).range_lu == pytest.approx(range_lu, abs=0.1)


def test_integrated_loudness_agrees_with_another_meter_on_music():
    assert read_meters(energies_of(chords(10))).integrated_lufs == pytest.approx(integrated_lufs(chords(10)), abs=0.01)


def test_silence_has_no_reading_and_short_audio_no_short_term_loudness():
    assert read_meters(energies_of(stereo(np.zeros(4 * RATE)))) == (None, None, None, None)
    assert readings((-23, 1)).max_short_term_lufs is None
    assert readings((-23, 1)).max_momentary_lufs == pytest.approx(-23, abs=TOLERANCE)

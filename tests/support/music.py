"""Made music: chords, a melody, a bass and drums with a room around them, different for each seed.

It has what the checks listen for: peaks and noise, beats and rests, a stereo field, treble, and no second twice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve

from tests.support.sounds import RATE, Sound

_MINOR = (0, 2, 3, 5, 7, 8, 10)
_TABLE = 4096


def made_music(duration_s: int, *, seed: int) -> Sound:
    """Stereo music, peak 0.7, that fades out over its last second."""
    rng = np.random.default_rng(seed)
    dry = np.zeros((2, duration_s * RATE))
    beat_s = 60 / rng.uniform(70, 140)
    root_hz = 55 * 2 ** (rng.integers(12) / 12)
    degree = 0
    for beat in range(int(duration_s / beat_s)):
        if beat % 4 == 0:
            degree = int(rng.integers(7))
            for step in (0, 2, 4):
                hz = root_hz * 4 * _pitch(degree + step)
                _add(dry, beat * beat_s, _note(rng, hz, 4 * beat_s, attack_s=0.08) * 0.18, rng.uniform(-0.7, 0.7))
        _add(dry, beat * beat_s, _note(rng, root_hz * _pitch(degree), beat_s, attack_s=0.01) * 0.5, 0.0)
        for part in range(2):
            if rng.uniform() < 0.7:
                hz = root_hz * 8 * _pitch(int(rng.integers(10)))
                length_s = rng.uniform(0.2, 0.8)
                start_s = (beat + part / 2) * beat_s + rng.normal(0, 0.006)
                _add(dry, start_s, _note(rng, hz, length_s, attack_s=0.005) * 0.2, rng.uniform(-0.5, 0.5))
            _add(dry, (beat + part / 2) * beat_s, _drum(rng, decay_s=rng.uniform(0.01, 0.09)) * 0.06, 0.3)
    wet = dry + _room(rng, dry)
    wet[:, -RATE:] *= np.linspace(1, 0, RATE)
    return np.asarray(wet * 0.7 / np.abs(wet).max(), np.float32)


def _pitch(degree: int) -> float:
    return float(2 ** ((_MINOR[degree % 7] + 12 * (degree // 7)) / 12))


def _note(rng: np.random.Generator, hz: float, seconds: float, *, attack_s: float) -> npt.NDArray[np.float64]:
    """A plucked note that grows dull, with a little vibrato."""
    t = np.arange(round(seconds * RATE)) / RATE
    turns = hz * t + rng.uniform(0.01, 0.05) / (2 * np.pi) * np.sin(2 * np.pi * rng.uniform(4, 6) * t)
    place = (turns % 1 * _TABLE).astype(np.int64)
    bright, dull = (_cycle(rng, hz, slope)[place] for slope in (1.0, 2.0))
    wave = dull + (bright - dull) * np.exp(-4 * t)
    return np.asarray(wave * np.minimum(1, t / attack_s) * np.minimum(1, (seconds - t) / 0.02) * np.exp(-t / seconds))


def _cycle(rng: np.random.Generator, hz: float, slope: float) -> npt.NDArray[np.float64]:
    """One period of a wave whose partials fall with that power of their number."""
    numbers = np.arange(1, int(18_000 / hz) + 1)
    bins = np.zeros(_TABLE // 2 + 1, complex)
    bins[numbers] = numbers**-slope * np.exp(1j * rng.uniform(0, 6, numbers.size))
    return np.asarray(np.fft.irfft(bins) * _TABLE / 2)


def _drum(rng: np.random.Generator, *, decay_s: float) -> npt.NDArray[np.float64]:
    t = np.arange(round(8 * decay_s * RATE)) / RATE
    return np.asarray(rng.standard_normal(t.size) * np.exp(-t / decay_s) * np.minimum(1, t / 0.001))


def _room(rng: np.random.Generator, dry: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Reverberation of .6 s, different on either side."""
    t = np.arange(RATE * 6 // 10) / RATE
    tails = rng.standard_normal((2, t.size)) * np.exp(-t / 0.15) * 0.02
    return np.asarray(fftconvolve(dry, tails, axes=1)[:, : dry.shape[1]])


def _add(sound: npt.NDArray[np.float64], at_s: float, part: npt.NDArray[np.float64], pan: float) -> None:
    first = max(0, round(at_s * RATE))
    part = part[: max(0, sound.shape[1] - first)]
    sound[0, first : first + part.size] += part * np.sqrt((1 - pan) / 2)
    sound[1, first : first + part.size] += part * np.sqrt((1 + pan) / 2)

"""Synthesised sounds with known properties, on which checks, loudness and mastering are tested."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

RATE = 48_000
Sound = npt.NDArray[np.float32]  # (2, n)


def sine(*steps: tuple[float, float], hz: float = 1000.0) -> Sound:
    """A stereo sine through (peak dBFS, seconds) steps, without a break in phase."""
    level = np.concatenate([np.full(round(seconds * RATE), 10 ** (db / 20)) for db, seconds in steps])
    return stereo(level * np.sin(2 * np.pi * hz * np.arange(level.size) / RATE))


def stereo(mono: npt.NDArray[np.floating]) -> Sound:
    return np.stack([mono, mono]).astype(np.float32)


def chords(duration_s: int, *, seed: int = 1) -> Sound:
    """Plucked chords that have died away before the end: the nearest thing to music that a few lines make."""
    return _chords(duration_s, seed).copy()


@cache
def _chords(duration_s: int, seed: int) -> Sound:
    rng = np.random.default_rng(seed)
    sound = np.zeros((2, duration_s * RATE))
    t = np.arange(RATE * 3 // 2) / RATE
    pluck = np.exp(-4 * t) * np.minimum(1, t / 0.005)
    for start in range(0, (duration_s - 2) * RATE, RATE // 2):
        for semitone in rng.choice([0, 3, 7, 10, 12, 15, 19, 24], 3):
            for harmonic in range(1, 5):
                phase = 2 * np.pi * 110 * 2 ** (semitone / 12) * harmonic * t
                note = np.stack([np.sin(phase), np.sin(phase + 0.6)]) * rng.uniform(0.5, 1, (2, 1))
                sound[:, start : start + t.size] += 0.06 / harmonic * pluck * note
    return sound.astype(np.float32)


def white_noise(duration_s: int, *, seed: int = 1) -> Sound:
    return (0.1 * np.random.default_rng(seed).standard_normal((2, duration_s * RATE))).astype(np.float32)


def pink_noise(duration_s: int, *, seed: int = 1) -> Sound:
    spectrum = np.fft.rfft(white_noise(duration_s, seed=seed), axis=1)
    spectrum[:, 1:] /= np.sqrt(np.arange(1, spectrum.shape[1]))
    sound = np.fft.irfft(spectrum, axis=1)
    return (0.1 * sound / sound.std()).astype(np.float32)

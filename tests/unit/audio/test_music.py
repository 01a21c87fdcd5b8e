"""Tempo and key of made music: the right request fits best, near ones fit nearly, others do not."""

from __future__ import annotations

import numpy as np
import pytest

from workers.audio.checks.analysis import Analysis
from workers.audio.music import NOTES, fit_key, fit_tempo

RATE_HZ = 48_000
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
CHORDS = {"major": (0, 3, 4, 0), "minor": (0, 5, 3, 4)}  # degrees, a bar each


def piece(seed: int, bpm: int, tonic: int, mode: str, *, seconds: int = 30) -> Analysis:
    """Chords a bar long, a drum and a melody note on each beat, all from the notes of the key."""
    random, beat_s, n = np.random.default_rng(seed), 60 / bpm, seconds * RATE_HZ
    audio = random.normal(0, 1e-3, n)

    def add(begin_s: float, hz: float, lasts_s: float, level: float, decay: float) -> None:
        at = int(begin_s * RATE_HZ)
        t = np.arange(min(int(lasts_s * RATE_HZ), n - at)) / RATE_HZ
        for overtone in range(1, 4):
            audio[at : at + len(t)] += level / overtone * np.sin(2 * np.pi * hz * overtone * t) * np.exp(-t * decay)

    def note(degree: int, c_hz: float) -> float:
        return c_hz * 2 ** ((tonic + SCALES[mode][degree % 7] + 12 * (degree // 7)) / 12)

    for beat in range(int(seconds / beat_s)):
        if beat % 4 == 0:
            for step in (0, 2, 4):
                add(beat * beat_s, note(CHORDS[mode][beat // 4 % 4] + step, 261.63), 4 * beat_s, 0.05, 0.7)
        add(beat * beat_s, 70, 0.1, 0.2, 40)
        add(beat * beat_s, note(int(random.choice([0, 2, 4, 4, 1, 3, 5])), 523.25), beat_s, 0.08, 3)
    return Analysis(np.stack([audio, 0.9 * audio]).astype(np.float32))


PIECES = [
    (seed, bpm, tonic, mode)
    for seed, (bpm, tonic, mode) in enumerate(
        [(62, 0, "major"), (75, 3, "minor"), (90, 7, "major"), (104, 10, "minor"), (121, 5, "major"), (150, 8, "minor")]
    )
]


@pytest.mark.parametrize(("seed", "bpm", "tonic", "mode"), PIECES)
def test_what_was_asked_for_fits_and_something_else_does_not(seed, bpm, tonic, mode):
    heard = piece(seed, bpm, tonic, mode)
    tempo = fit_tempo(heard, bpm)
    assert tempo.fit is not None
    assert tempo.fit > 0.8
    assert abs(float(tempo.heard) / bpm - 1) < 0.03
    assert fit_tempo(heard, round(bpm * 1.21)).fit < 0.4
    assert fit_tempo(heard, 2 * bpm if bpm < 150 else bpm // 2).fit > 0.8, "half and double tempo are as good"
    key = fit_key(heard, f"{NOTES[tonic]} {mode}")
    assert key.fit is not None
    assert key.fit > 0.85
    assert fit_key(heard, f"{NOTES[(tonic + 6) % 12]} {mode}").fit < 0.3


def test_the_relative_key_comes_close_and_a_note_has_two_names():
    heard = piece(1, 90, 0, "major")
    assert fit_key(heard, "A minor").fit > 0.7
    assert fit_key(heard, "C# major") == fit_key(heard, "Db major")
    assert fit_key(heard, "H major").fit is None


def test_where_nothing_can_be_heard_nothing_is_said():
    silent = np.zeros((2, 12 * RATE_HZ), np.float32)
    silent[:, 0] = 1.0
    click = Analysis(silent)
    assert fit_tempo(Analysis(piece(1, 90, 0, "major").scaled[:, : 5 * RATE_HZ]), 90).fit is None, "too short"
    assert fit_tempo(click, 90).fit is None
    steady = np.random.default_rng(1).normal(0, 0.1, (2, 20 * RATE_HZ)).astype(np.float32)
    assert fit_tempo(Analysis(steady), 90) == ("", None)

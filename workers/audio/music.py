"""Music: how well tempo and key of a take fit what was asked for, to rank the takes of one prompt.

Both are measures and never a reason to reject: a ballad in half time fits its prompt, and chords from a neighbouring
key are no fault. So a tempo counts as met at half, double, two thirds or one and a half times the request, and the
relative key and the keys a fifth away come close behind the right one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft

from catalog.limits import SAMPLE_RATE_HZ
from workers.audio.checks.analysis import COARSE_HZ, FRAME_SAMPLES, Analysis

_WINDOW: Final = 256  # samples at 3 kHz: 85 ms
_HOP: Final = 64  # 21 ms
_HOP_HZ: Final = COARSE_HZ / _HOP
_SMOOTHED: Final = round(1.5 * _HOP_HZ)  # 1.5 s
_BPM: Final = np.geomspace(30, 300, 600)  # .4 % apart
_BEATS: Final = 4  # a tempo is heard when its onsets come back after one to four beats
_SAME_TEMPO: Final = (1 / 2, 2 / 3, 1, 3 / 2, 2)  # of the request
_TEMPO_TOLERANCE: Final = 0.03
_BEAT_LEAST: Final = 0.1  # of the onsets' energy; noise .04 to .05, pads that swell .17 and more, beats .77 and more
_TEMPO_LEAST_S: Final = 10.0  # of audio

_KEY_HZ: Final = (250, 2_500)  # below, a bin is wider than a semitone; above lie mostly overtones
NOTES: Final = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
_OTHER_NAMES: Final = dict(zip("C# D# F# G# A# Cb Fb E# B#".split(), "Db Eb Gb Ab Bb B E F C".split(), strict=True))
# How well each of the twelve notes fits a key, as listeners said (Krumhansl and Kessler, 1982).
_PROFILES: Final = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}

Floats = npt.NDArray[np.floating]


class MusicFit(NamedTuple):
    """A quality of the music as it was heard, and how well the request fits it."""

    heard: str  # such as "117" or "E minor"; "": nothing can be heard
    fit: float | None  # 0 to 1; None: nothing can be heard


_NOTHING: Final = MusicFit("", None)


def fit_tempo(analysis: Analysis, bpm: int) -> MusicFit:
    """How strongly onsets come back at `bpm`, against the tempo at which they do most strongly."""
    onsets = _onsets(analysis.coarse)
    if analysis.seconds < _TEMPO_LEAST_S or not onsets.any():
        return _NOTHING
    correlation = _autocorrelation(onsets)
    strengths = _strengths(correlation)
    best = float(strengths.max())
    if best < _BEAT_LEAST * float(correlation[0]):
        return _NOTHING
    same = np.min([np.abs(_BPM / (bpm * ratio) - 1) for ratio in _SAME_TEMPO], axis=0) <= _TEMPO_TOLERANCE
    octave = np.abs(np.log2(_BPM / bpm)) <= 1 / 2  # bars and half beats come back as well
    heard = float(_BPM[octave][strengths[octave].argmax()])
    return MusicFit(f"{heard:.0f}", round(max(0.0, float(strengths[same].max(initial=0)) / best), 3))


def _onsets(coarse: npt.NDArray[np.float32]) -> Floats:
    """How much louder the sound becomes in each 21 ms, over all bands below 1.5 kHz."""
    if coarse.size < 2 * _WINDOW:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(coarse, _WINDOW)[::_HOP]
    magnitude = np.abs(fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32), axis=1))
    rising = np.diff(np.log1p(1000 * magnitude / max(float(magnitude.max()), 1e-12)), axis=0).clip(min=0).sum(axis=1)
    # What changes over seconds is form, not beat.
    smooth = np.convolve(rising, np.ones(_SMOOTHED) / _SMOOTHED, mode="same")
    return np.asarray((rising - smooth).clip(min=0))


def _autocorrelation(onsets: Floats) -> Floats:
    centred = onsets - onsets.mean()
    spectrum = fft.rfft(centred, n=2 * len(centred))
    products = fft.irfft(np.abs(spectrum) ** 2)[: len(centred)]
    return np.asarray(products / np.arange(len(centred), 0, -1))  # of so many pairs


def _strengths(correlation: Floats) -> Floats:
    """Of each tempo of `_BPM`: the mean correlation after one to four of its beats, as far as the audio has those."""
    lags = 60 * _HOP_HZ / _BPM
    at = np.arange(len(correlation))
    found = [np.interp(lags * beats, at, correlation, right=np.nan) for beats in range(1, _BEATS + 1)]
    return np.asarray(np.nan_to_num(np.nanmean(found, axis=0)))


def fit_key(analysis: Analysis, keyscale: str) -> MusicFit:
    """How well `keyscale`, such as "F# minor", fits the notes that are heard, between the worst and the best key."""
    chroma = _chroma(analysis)
    if chroma is None:
        return _NOTHING
    fits = {
        f"{note} {mode}": float(np.corrcoef(chroma, np.roll(profile, at))[0, 1])
        for mode, profile in _PROFILES.items()
        for at, note in enumerate(NOTES)
    }
    best, worst = max(fits.values()), min(fits.values())
    note, _, mode = keyscale.partition(" ")
    asked = fits.get(f"{_OTHER_NAMES.get(note, note)} {mode}")
    heard = max(fits, key=fits.__getitem__)
    return MusicFit(heard, None if asked is None else round((asked - worst) / (best - worst), 3))


def _chroma(analysis: Analysis) -> Floats | None:
    """How strong each of the twelve notes is, each half second counting alike; None where nothing stands out."""
    power = analysis.spectra.by_half.sum(axis=0)
    hz = np.arange(power.shape[1]) * SAMPLE_RATE_HZ / FRAME_SAMPLES
    band = (hz >= _KEY_HZ[0]) & (hz <= _KEY_HZ[1])
    notes = np.round(12 * np.log2(hz[band] / 261.6256)).astype(int) % 12
    level = np.sqrt(power[:, band])
    total = level.sum(axis=1, keepdims=True)
    heard = total[:, 0] > 1e-6 * max(float(total.max(initial=0)), 1e-12)
    if not heard.any():
        return None
    # The strongest bins carry the notes; the rest of the band is noise and reverberation.
    level = np.where(level >= np.quantile(level, 0.9, axis=1, keepdims=True), level, 0)[heard]
    shares = (level / level.sum(axis=1, keepdims=True)).mean(axis=0)
    chroma = np.bincount(notes, weights=shares, minlength=12) / np.bincount(notes, minlength=12)
    return chroma if chroma.std() > 0 else None

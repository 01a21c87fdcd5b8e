"""Analysis: the measures that several checks share, each computed once from a take's raw audio.

Levels are relative to the take's own peak or mean, so that no check depends on the gain of a model. The spectrum is
read in frames of 85 ms (4096 samples at 48 kHz) without overlap, some hundred at a time, so that a track of ten minutes
needs little memory.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.signal import get_window

from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from workers.engine.protocol import Audio

FRAME_SAMPLES: Final = 4096
FRAME_S: Final = FRAME_SAMPLES / SAMPLE_RATE_HZ
FRAMES_IN_HALF: Final = 6  # .51 s
COARSE: Final = 16  # samples that one of `coarse` stands for
COARSE_HZ: Final = SAMPLE_RATE_HZ // COARSE
SHORT_S: Final = 0.02  # frames of level
BAND_HZ: Final = (100, 12_000)  # leaves out rumble and what codecs discard
STRONGEST_PART: Final = 0.05  # of the band's bins
BROAD: Final = 0.02  # flatness of the mean spectrum in that octave: plucked sines .007, real music .06 to .9
BROAD_DB: Final = -50.0  # its energy of all
BROAD_HZ: Final = (1_000, 2_000)
TREBLE_HZ: Final = 8000
BASS_HZ: Final = (20, 200)
_MEL_BANDS: Final = 40
_MEL_HZ: Final = (60, 16_000)
_FRAMES_AT_ONCE: Final = 240  # whole halves
_HIGHEST_HZ: Final = 16_000
_FLOOR: Final = np.float32(1e-30)

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


class Spectra(NamedTuple):
    """Short-time spectra, reduced to what the checks ask of each frame. Channels: left, right, their mean."""

    power: Floats  # (3, frames)
    flatness: Floats  # (3, frames), within BAND_HZ: 0 a tone, .56 white noise
    strongest_share: Floats  # (3, frames): energy of the strongest 5 % of the bins of BAND_HZ, of the band's
    mel_db: Floats  # (frames, 40): log-mel spectrum of both channels together
    treble: Floats  # (frames,): power above TREBLE_HZ, both channels together
    bass: Floats  # (3, frames): power of left, power of right and product of both below 200 Hz
    by_half: Floats  # (2, half seconds, bins up to 16 kHz): mean power spectra of half a second


class Analysis:
    """Raw audio, float32 (2, n), finite and not all zero, and its measures."""

    def __init__(self, audio: Audio) -> None:
        self.peak = float(np.abs(audio).max())
        self.scaled: Audio = audio / np.float32(self.peak)  # so that no square overflows or vanishes
        squares = [float(np.dot(channel, channel)) for channel in map(np.float64, self.scaled)]
        self.channel_rms: Floats = np.sqrt(np.divide(squares, audio.shape[1]))

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return float(self.scaled.shape[1] / SAMPLE_RATE_HZ)

    @property
    def mean_power(self) -> float:
        """Mean square of a channel of the scaled audio."""
        left, right = self.channel_rms
        return float(left * left + right * right) / 2

    @property
    def rms_dbfs(self) -> float:
        """Level of the raw audio."""
        return decibels(math.sqrt(self.mean_power)) + decibels(self.peak)

    @cached_property
    def mono(self) -> npt.NDArray[np.float32]:
        """The mean of the channels."""
        mixed: npt.NDArray[np.float32] = (self.scaled[0] + self.scaled[1]) * np.float32(0.5)
        return mixed

    @cached_property
    def coarse(self) -> npt.NDArray[np.float32]:
        """The mean of the channels at 3 kHz, for what lies below 1.5 kHz or needs no detail."""
        n = self.mono.size // COARSE * COARSE
        averaged: npt.NDArray[np.float32] = self.mono[:n].reshape(-1, COARSE).mean(axis=1)
        return averaged

    @cached_property
    def short_db(self) -> Floats:
        """Level of each 20 ms, both channels together, against the mean of the take."""
        n = round(SHORT_S * SAMPLE_RATE_HZ)
        n_frames = self.scaled.shape[1] // n
        frames = self.scaled[:, : n_frames * n].reshape(CHANNELS, n_frames, n)
        power = np.einsum("cfn,cfn->f", frames, frames) / (CHANNELS * n * self.mean_power)
        level: Floats = 10 * np.log10(np.maximum(power, 1e-30))
        return level

    @cached_property
    def spectra(self) -> Spectra:
        """Short-time spectra of the whole take."""
        n_frames = self.scaled.shape[1] // FRAME_SAMPLES
        frames = self.scaled[:, : n_frames * FRAME_SAMPLES].reshape(CHANNELS, n_frames, FRAME_SAMPLES)
        parts = [_spectra(frames[:, at : at + _FRAMES_AT_ONCE]) for at in range(0, n_frames, _FRAMES_AT_ONCE)]
        joined = {name: [getattr(part, name) for part in parts] for name in Spectra._fields}
        frames_first = ("mel_db", "treble")
        axes = {name: 0 if name in frames_first else 1 for name in joined}
        return Spectra(**{name: np.concatenate(each, axis=axes[name]) for name, each in joined.items()})

    @cached_property
    def heard(self) -> Mask:
        """(3, frames): the frames at most 60 dB below the mean; the others say nothing of the spectrum."""
        power = self.spectra.power
        return np.asarray(power > power.mean(axis=1, keepdims=True) * 1e-6)

    @cached_property
    def is_broad(self) -> bool:
        """True where the octave above 1 kHz is heard and has more than a few lines: music, but no test tone."""
        power = self.spectra.by_half.sum(axis=0).mean(axis=0, dtype=np.float64)
        octave = power[bin_of(BROAD_HZ[0]) : bin_of(BROAD_HZ[1])]
        if not octave.sum() > power.sum() * 10 ** (BROAD_DB / 10):
            return False
        return float(np.exp(np.log(octave + 1e-12 * power.max()).mean()) / octave.mean()) > BROAD


def _spectra(frames: Audio) -> Spectra:
    window = get_window("hann", FRAME_SAMPLES).astype(np.float32)
    left, right = fft.rfft(frames * window, axis=2)
    powers = [np.square(bins.real) + np.square(bins.imag) for bins in (left, right, (left + right) / 2)]
    both = powers[0] + powers[1]
    bass = slice(bin_of(BASS_HZ[0]), bin_of(BASS_HZ[1]))
    product = (left[:, bass] * right[:, bass].conj()).real.sum(axis=1)
    shapes = [_shape(power[:, bin_of(BAND_HZ[0]) : bin_of(BAND_HZ[1])]) for power in powers]
    return Spectra(
        power=np.stack([power.sum(axis=1, dtype=np.float64) for power in powers]),
        flatness=np.stack([flatness for flatness, _ in shapes]),
        strongest_share=np.stack([share for _, share in shapes]),
        mel_db=10 * np.log10(both @ _MEL_BANK + np.float32(1e-10)),
        treble=both[:, bin_of(TREBLE_HZ) :].sum(axis=1, dtype=np.float64),
        bass=np.stack([powers[0][:, bass].sum(axis=1), powers[1][:, bass].sum(axis=1), product]),
        by_half=np.stack([_mean_of_halves(power[:, : bin_of(_HIGHEST_HZ)]) for power in powers[:2]]),
    )


def _shape(power: Floats) -> tuple[Floats, Floats]:
    """Flatness and strongest share of each frame of (frames, bins)."""
    power = power + _FLOOR
    mean = power.mean(axis=1, dtype=np.float64)
    flatness = np.exp(np.log(power).mean(axis=1, dtype=np.float64)) / mean
    n_strongest = round(STRONGEST_PART * power.shape[1])
    strongest = np.partition(power, -n_strongest, axis=1)[:, -n_strongest:]
    return flatness, strongest.mean(axis=1, dtype=np.float64) * n_strongest / (mean * power.shape[1])


def _mean_of_halves(power: Floats) -> Floats:
    n_halves = power.shape[0] // FRAMES_IN_HALF
    whole = power[: n_halves * FRAMES_IN_HALF]
    return np.asarray(whole.reshape(n_halves, FRAMES_IN_HALF, -1).mean(axis=1))


def bin_of(hz: float) -> int:
    """The bin of a frame's spectrum that has this frequency."""
    return round(hz * FRAME_SAMPLES / SAMPLE_RATE_HZ)


def _mel_bank() -> npt.NDArray[np.float32]:
    """(bins, bands): triangles a mel step apart, each of area 1."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in _MEL_HZ)
    edges = 700 * (10 ** (np.linspace(low, high, _MEL_BANDS + 2) / 2595) - 1)
    hz = np.fft.rfftfreq(FRAME_SAMPLES, 1 / SAMPLE_RATE_HZ)[:, np.newaxis]
    rising, falling = (hz - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - hz) / np.diff(edges)[1:]
    bank = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(bank / bank.sum(axis=0), np.float32)


_MEL_BANK: Final = _mel_bank()


def runs(mask: Mask) -> list[tuple[int, int]]:
    """The stretches where `mask` is true, as (first, one after the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


def spans_of(mask: Mask, step_s: float) -> list[tuple[float, float]]:
    """The stretches where `mask` is true, in seconds, for values that are `step_s` apart."""
    return [(round(begin * step_s, 2), round(end * step_s, 2)) for begin, end in runs(mask)]


def decibels(amplitude: float) -> float:
    """Decibels relative to full scale, never below the -300 dB that stand for nothing."""
    return 20 * math.log10(max(amplitude, 1e-15))

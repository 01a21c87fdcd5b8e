"""Timbre: muffled sound, a steady tone that is no music, hum and comb filters.

All of it is a matter of taste or of genre somewhere, so all of it warns. Dullness has a wide limit here; the list of a
catalog compares each track with the others of its genre. A sound of a few clean lines, as simple synthesis makes it,
has no treble to miss and no spectrum to ripple.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.signal import get_window

from catalog.flaws import Flaw
from catalog.limits import SAMPLE_RATE_HZ
from workers.audio.checks.analysis import COARSE_HZ, FRAME_SAMPLES, Analysis, Floats, bin_of

TREBLE_DB: Final = -84.0  # energy above 8 kHz of all; real: median -30, 5 % at -56, low-pass at 4 kHz -90
LINE_DB: Final = 29.0  # over its neighbours, in nine of ten half seconds; real: median 5, extreme 27
LINE_HZ: Final = (1_000, 16_000)
_NEIGHBOURS: Final = 32
HUM_DB: Final = 9.0  # of three harmonics over their neighbours, in nine of ten windows
_MAINS_HZ: Final = (50, 60)
_HUM_SAMPLES: Final = 4096  # at 3 kHz: lines .7 Hz apart
_HUM_REACH_HZ: Final = 15
COMB: Final = 35.0  # peak of the cepstrum over its median; real: median 4, extreme 34
_COMB_S: Final = (0.0008, 0.010)


def find_timbre_flaws(analysis: Analysis) -> Iterator[Flaw]:
    """Dullness that no genre has, and sounds that do not belong to music."""
    treble_db = treble_of(analysis)
    if analysis.is_broad and treble_db < TREBLE_DB:
        text = f"dull: {treble_db:.0f} dB of its energy lies above 8 kHz (at least {TREBLE_DB:.0f} dB)"
        yield _warning("dull", text, treble_db, TREBLE_DB, "dB")
    line_db, line_hz = steady_line_of(analysis)
    if line_db > LINE_DB:
        text = (
            f"steady tone: {line_hz:.0f} Hz, {line_db:.0f} dB above its neighbours throughout (limit {LINE_DB:.0f} dB)"
        )
        yield _warning("steady-tone", text, line_db, LINE_DB, "dB")
    hum_db, mains_hz = max((hum_of(analysis, mains_hz), mains_hz) for mains_hz in _MAINS_HZ)
    if hum_db > HUM_DB:
        text = f"hum: {mains_hz} Hz and two harmonics, {hum_db:.0f} dB above their neighbours (limit {HUM_DB:.0f} dB)"
        yield _warning("hum", text, hum_db, HUM_DB, "dB")
    if analysis.is_broad and (ripple := comb_of(analysis)) > COMB:
        text = f"comb filter: its spectrum ripples {ripple:.0f} times as much as music does (limit {COMB:.0f})"
        yield _warning("comb", text, ripple, COMB, "")


def _warning(kind: str, text: str, value: float, limit: float, unit: str) -> Flaw:
    return Flaw(kind=kind, text=text, stops=False, value=round(value, 2), limit=limit, unit=unit)


def treble_of(analysis: Analysis) -> float:
    """Energy above 8 kHz of all energy, in dB."""
    spectra = analysis.spectra
    everything = float(spectra.power[:2].sum())
    return 10 * math.log10(max(float(spectra.treble.sum()), 1e-30) / max(everything, 1e-30))


def steady_line_of(analysis: Analysis) -> tuple[float, float]:
    """The line above 1 kHz that stands out most, in nine of ten half seconds: dB over its neighbours, and Hz."""
    first, last = map(bin_of, LINE_HZ)
    last -= (last - first) % _NEIGHBOURS
    power = analysis.spectra.by_half[:, :, first:last].sum(axis=0)
    if not power.size:
        return 0.0, 0.0
    groups = power.reshape(len(power), -1, _NEIGHBOURS)
    over = groups / np.maximum(np.median(groups, axis=2, keepdims=True), 1e-9 * power.mean())
    steady = np.percentile(over, 10, axis=0).ravel()
    place = int(np.argmax(steady))
    hz = (first + place) * SAMPLE_RATE_HZ / FRAME_SAMPLES
    return 10 * math.log10(max(float(steady[place]), 1e-30)), hz


def hum_of(analysis: Analysis, mains_hz: int) -> float:
    """Mean level of the mains and two harmonics over their neighbours, in nine of ten windows, in dB."""
    n_windows = analysis.coarse.size // _HUM_SAMPLES
    if not n_windows:
        return 0.0
    windows = analysis.coarse[: n_windows * _HUM_SAMPLES].reshape(n_windows, _HUM_SAMPLES)
    power = np.square(np.abs(fft.rfft(windows * get_window("hann", _HUM_SAMPLES), axis=1)))
    if not power.any():  # channels in antiphase: the mix is silent
        return 0.0
    reach, floor = round(_HUM_REACH_HZ * _HUM_SAMPLES / COARSE_HZ), 1e-9 * float(power.mean())
    over = []
    for harmonic in (1, 2, 3):
        at = round(harmonic * mains_hz * _HUM_SAMPLES / COARSE_HZ)
        around = np.median(power[:, at - reach : at + reach + 1], axis=1)
        over.append(power[:, at - 1 : at + 2].max(axis=1) / np.maximum(around, floor))
    return float(np.percentile(np.mean(10 * np.log10(np.maximum(over, 1e-9)), axis=0), 10))


def comb_of(analysis: Analysis) -> float:
    """The largest ripple of the mean log spectrum between 100 Hz and 16 kHz, over the median ripple."""
    halves = analysis.spectra.by_half
    if not halves.size:
        return 0.0
    log_power = np.log(halves.sum(axis=0).mean(axis=0)[bin_of(100) :] + 1e-12 * float(halves.mean()) + 1e-30)
    ripple: Floats = _without_trend(log_power) * get_window("hann", log_power.size)
    cepstrum = np.abs(fft.rfft(ripple))
    hz_of_band = log_power.size * SAMPLE_RATE_HZ / FRAME_SAMPLES
    first, last = (round(seconds * hz_of_band) for seconds in _COMB_S)
    return float(cepstrum[first:last].max() / np.median(cepstrum[first:last]))


def _without_trend(values: Floats) -> npt.NDArray[np.float64]:
    x = np.linspace(-1, 1, values.size)
    return np.asarray(values - np.polyval(np.polyfit(x, values, 5), x), np.float64)

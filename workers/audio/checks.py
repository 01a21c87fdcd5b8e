"""Checks: flaws of a take's raw audio are found before any gain could hide them.

Every reason is given at once, each with its value and its limit. Broken audio (not a number, wrong length, digital
silence) always stops a take. Flaws that trained weights should never make (noise, a dead side, clipping) stop it too,
but are only a warning where the weights are random and make noise by design.
The limits are start values, measured in 2026 on 35 synthesised tracks of 180 s at -16 LUFS ("good") against
deliberately broken ones ("broken"); a pilot of real renditions should move them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.signal import get_window

from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from catalog.sidecar import Measures
from catalog.spec import TrackSpec
from workers.engine.protocol import Audio


class Threshold(NamedTuple):
    """The values that lead to a warning and to a rejected take."""

    warn: float
    fail: float


SILENCE_RMS_DBFS: Final = -50.0  # collapses seen in the field lie 32 to 60 dB below music
FLATNESS: Final = Threshold(warn=0.1, fail=0.25)  # good < .005; pink noise .31, white .56
STRONGEST_SHARE: Final = Threshold(warn=0.85, fail=0.6)  # good .96 to 1; pink noise .48, white .20
CLIPPED_RUNS_PER_MIN: Final = Threshold(warn=17, fail=333)  # good 0 to 7; saturated: a thousand and more
BALANCE_DB: Final = 20.0  # a dead side: 140 dB
CORRELATION: Final = -0.9  # good -.69 to .85; at -1 a mono loudspeaker plays nothing
DC_OFFSET: Final = 0.005  # of the peak; synthesiser pads may have more

FRAME_SAMPLES: Final = 4096
BAND_HZ: Final = (100, 12_000)  # leaves out rumble and what codecs discard
STRONGEST_PART: Final = 0.05  # of the band's bins
CLIPPED_RUN_SAMPLES: Final = 3
_FRAMES_AT_ONCE: Final = 512  # bounds the memory of a ten-minute track


class Rejected(Exception):
    """The audio is not fit to be stored; `reasons` are for a person."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return "; ".join(self.reasons)


class _Flaw(NamedTuple):
    text: str
    stops: bool  # False: a warning whatever the weights


class _Spectrum(NamedTuple):
    flatness: float
    strongest_share: float


def check_audio(audio: Audio, spec: TrackSpec, *, noise: bool) -> Measures:
    """Measure raw audio, float32 (2, n) at 48 kHz, and raise Rejected when it is not what `spec` asks for.

    `noise` says that the weights are random: a flaw of trained weights becomes a warning.
    The audio is only read.
    """
    broken = list(_broken(audio, spec))
    if not _measurable(audio):
        raise Rejected(broken)
    peak = float(np.abs(audio).max())
    scaled = audio / np.float32(peak)  # so that no square overflows or vanishes
    channel_rms = np.sqrt([np.square(channel).mean(dtype=np.float64) for channel in scaled])
    rms_dbfs = _db(float(np.sqrt(np.mean(channel_rms**2))) * peak)
    spectrum = _spectrum(scaled)
    flaws = [
        *_level_flaws(rms_dbfs, scaled),
        *_stereo_flaws(scaled, channel_rms),
        *_noise_flaws(spectrum),
        *_clipping_flaws(scaled),
    ]
    stopping = [] if noise else [flaw.text for flaw in flaws if flaw.stops]
    if broken or stopping:
        raise Rejected([*broken, *stopping])
    return Measures(
        rms_dbfs=round(rms_dbfs, 2),
        peak_dbfs=round(_db(peak), 2),
        spectral_flatness=round(spectrum.flatness, 5),
        warnings=[flaw.text for flaw in flaws],
    )


def _broken(audio: Audio, spec: TrackSpec) -> Iterator[str]:
    """Reasons that stop a take of any weights."""
    expected = (CHANNELS, spec.n_samples)
    if audio.shape != expected:
        yield f"shape {audio.shape}, expected {expected}: {spec.duration_s} s of stereo at {SAMPLE_RATE_HZ} Hz"
    bad = audio.size - int(np.count_nonzero(np.isfinite(audio)))
    if bad:
        yield f"{bad} samples are not finite (limit 0)"
    elif not audio.any():
        yield "digital silence: every sample is 0"


def _measurable(audio: Audio) -> bool:
    stereo = audio.ndim == 2 and audio.shape[0] == CHANNELS and audio.shape[1] >= FRAME_SAMPLES
    return stereo and bool(np.isfinite(audio).all()) and bool(audio.any())


def _level_flaws(rms_dbfs: float, scaled: Audio) -> Iterator[_Flaw]:
    if rms_dbfs < SILENCE_RMS_DBFS:
        yield _Flaw(f"near silence: RMS {rms_dbfs:.1f} dBFS before any gain (limit {SILENCE_RMS_DBFS:.0f})", stops=True)
    offset = max(abs(float(channel.mean(dtype=np.float64))) for channel in scaled)
    if offset > DC_OFFSET:
        yield _Flaw(f"DC offset of {offset:.3f} of the peak (limit {DC_OFFSET})", stops=False)


def _stereo_flaws(scaled: Audio, channel_rms: npt.NDArray[np.float64]) -> Iterator[_Flaw]:
    balance_db = _db(float(channel_rms.max())) - _db(float(channel_rms.min()))
    if balance_db > BALANCE_DB:
        side = "left" if channel_rms[0] < channel_rms[1] else "right"
        depth = f"{balance_db:.0f} dB below the other" if channel_rms.all() else "silent"
        text = f"dead channel: {side} is {depth} (limit {BALANCE_DB:.0f} dB)"
        yield _Flaw(text, stops=True)
        return
    products = np.multiply(scaled[0], scaled[1]).mean(dtype=np.float64)
    correlation = float(products / (channel_rms[0] * channel_rms[1]))
    if correlation < CORRELATION:
        text = f"channels in antiphase: correlation {correlation:.2f} (limit {CORRELATION}), silent in mono"
        yield _Flaw(text, stops=True)


def _noise_flaws(spectrum: _Spectrum) -> Iterator[_Flaw]:
    flatness, share = spectrum
    if flatness > FLATNESS.warn:
        stops = flatness > FLATNESS.fail
        limit = FLATNESS.fail if stops else FLATNESS.warn
        yield _Flaw(f"like noise: spectral flatness {flatness:.3f} (limit {limit})", stops)
    if share < STRONGEST_SHARE.warn:
        stops = share < STRONGEST_SHARE.fail
        limit = STRONGEST_SHARE.fail if stops else STRONGEST_SHARE.warn
        text = f"like noise: the strongest 5 % of frequencies hold {share:.2f} of the energy (at least {limit})"
        yield _Flaw(text, stops)


def _clipping_flaws(scaled: Audio) -> Iterator[_Flaw]:
    minutes = scaled.shape[1] / SAMPLE_RATE_HZ / 60
    runs_per_min = sum(_runs_at_maximum(channel) for channel in scaled) / minutes
    if runs_per_min > CLIPPED_RUNS_PER_MIN.warn:
        stops = runs_per_min > CLIPPED_RUNS_PER_MIN.fail
        limit = CLIPPED_RUNS_PER_MIN.fail if stops else CLIPPED_RUNS_PER_MIN.warn
        yield _Flaw(f"clipped: {runs_per_min:.0f} flat tops a minute (limit {limit:.0f})", stops)


def _runs_at_maximum(channel: npt.NDArray[np.float32]) -> int:
    """Count the runs of three samples or more at the channel's own maximum."""
    level = np.abs(channel)
    maximum = level.max()
    if maximum == 0:
        return 0
    at_maximum = np.flatnonzero(level >= maximum * np.float32(1 - 1e-6))
    runs = np.split(at_maximum, np.flatnonzero(np.diff(at_maximum) != 1) + 1)
    return sum(len(run) >= CLIPPED_RUN_SAMPLES for run in runs)


def _spectrum(scaled: Audio) -> _Spectrum:
    """Medians over frames of the mono mix; frames 60 dB below the mean say nothing and are left out."""
    mono = scaled.mean(axis=0)
    frames = mono[: mono.size // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    energy = np.square(frames).mean(axis=1)
    frames = frames[energy > energy.mean() * 1e-6]
    if not len(frames):  # antiphase: the mix is silent
        return _Spectrum(flatness=0.0, strongest_share=1.0)
    parts = [_frame_spectra(frames[at : at + _FRAMES_AT_ONCE]) for at in range(0, len(frames), _FRAMES_AT_ONCE)]
    flatness, share = np.median(np.concatenate(parts, axis=1), axis=1)
    return _Spectrum(float(flatness), float(share))


def _frame_spectra(frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Flatness and strongest share of every frame, (2, frames), within BAND_HZ."""
    window = get_window("hann", FRAME_SAMPLES).astype(np.float32)
    low, high = (round(hz * FRAME_SAMPLES / SAMPLE_RATE_HZ) for hz in BAND_HZ)
    power = np.square(np.abs(fft.rfft(frames * window, axis=1)[:, low:high])) + np.float32(1e-30)
    mean = power.mean(axis=1, dtype=np.float64)
    flatness = np.exp(np.log(power).mean(axis=1, dtype=np.float64)) / mean
    n_strongest = round(STRONGEST_PART * power.shape[1])
    strongest = np.partition(power, -n_strongest, axis=1)[:, -n_strongest:]
    return np.stack([flatness, strongest.mean(axis=1, dtype=np.float64) * n_strongest / (mean * power.shape[1])])


def _db(amplitude: float) -> float:
    """Decibels relative to full scale, never below the -300 dB that stand for nothing."""
    return 20 * math.log10(max(amplitude, 1e-15))

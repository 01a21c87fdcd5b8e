"""Meters: momentary and short-term loudness and the loudness range, read from the energies of 10 ms of audio.

The windows are those of EBU Tech 3341 (2016): 400 ms for momentary, 3 s for short-term loudness. Steps of 10 ms read
the maxima of its test signals exactly; the 100 ms that are usual for integrated loudness would miss up to 0.45 LU.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import sosfilt

from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from workers.engine.protocol import Audio

STEP_SAMPLES: Final = SAMPLE_RATE_HZ // 100  # 10 ms
MOMENTARY_STEPS: Final = 40
SHORT_TERM_STEPS: Final = 300
GATE_STEPS: Final = 10  # integrated loudness and the range look every 100 ms
GATE_LUFS: Final = -70.0
RANGE_GATE_LU: Final = -20.0  # below the mean of what passes the gate; EBU Tech 3342
INTEGRATED_GATE_LU: Final = -10.0  # ITU-R BS.1770-4
RANGE_PERCENTILES: Final = (10, 95)
# The K-weighting of ITU-R BS.1770-4 at 48 kHz: a high shelf, then a high pass.
_K_WEIGHTING: Final = np.array(
    [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
)
_STEPS_AT_ONCE: Final = 1000  # ten seconds: the memory stays small, and the filter keeps its state between them

Energies = npt.NDArray[np.float64]  # mean square of both channels together, one for each 10 ms


class Readings(NamedTuple):
    """The readings of the meters; None where nothing passes the gate."""

    integrated_lufs: float | None
    max_momentary_lufs: float | None
    max_short_term_lufs: float | None
    range_lu: float | None


def energies_of(audio: Audio) -> Energies:
    """Energy of the K-weighted audio, (2, n) at 48 kHz, in each complete step of 10 ms."""
    steps = audio.shape[1] // STEP_SAMPLES
    found, state = np.empty(steps), np.zeros((len(_K_WEIGHTING), CHANNELS, 2))
    for at in range(0, steps, _STEPS_AT_ONCE):
        n = min(_STEPS_AT_ONCE, steps - at)
        part = audio[:, at * STEP_SAMPLES : (at + n) * STEP_SAMPLES]
        weighted, state = sosfilt(_K_WEIGHTING, part, axis=1, zi=state)
        found[at : at + n] = np.square(weighted).reshape(CHANNELS, n, STEP_SAMPLES).mean(axis=2).sum(axis=0)
    return found


def read_meters(energies: Energies) -> Readings:
    """All readings of audio with these `energies`. Integrated loudness agrees with pyloudnorm within 0.01 LU."""
    momentary, short_term = _windows(energies, MOMENTARY_STEPS), _windows(energies, SHORT_TERM_STEPS)
    return Readings(
        integrated_lufs(energies),
        _highest(momentary),
        _highest(short_term),
        _range_lu(short_term[::GATE_STEPS]),
    )


def integrated_lufs(energies: Energies) -> float | None:
    """Integrated loudness by ITU-R BS.1770-4: the mean of the windows of 400 ms that pass both gates."""
    passed = _gated(_windows(energies, MOMENTARY_STEPS)[::GATE_STEPS], INTEGRATED_GATE_LU)
    return float(_lufs(passed.mean())) if passed.size else None


def momentary_lufs(energies: Energies) -> npt.NDArray[np.float64]:
    """Loudness of every complete window of 400 ms, in steps of 10 ms."""
    return _lufs(_windows(energies, MOMENTARY_STEPS))


def short_term_lufs(energies: Energies) -> npt.NDArray[np.float64]:
    """Loudness of every complete window of 3 s, in steps of 10 ms."""
    return _lufs(_windows(energies, SHORT_TERM_STEPS))


def _windows(energies: Energies, steps: int) -> Energies:
    """The mean energy of every complete window of `steps` steps."""
    sums = np.concatenate(([0.0], np.cumsum(energies)))
    means: Energies = np.maximum(sums[steps:] - sums[:-steps], 0) / steps  # in silence, rounding may go below zero
    return means


def _lufs(energy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    loudness: npt.NDArray[np.float64] = -0.691 + 10 * np.log10(np.maximum(energy, 1e-30))
    return loudness


def _gated(windows: Energies, relative_lu: float) -> Energies:
    """The windows above the absolute gate and `relative_lu` of the mean of those."""
    audible = windows[_lufs(windows) >= GATE_LUFS]
    gate = audible.mean() * 10 ** (relative_lu / 10) if audible.size else 0.0
    passed: Energies = audible[audible >= gate]
    return passed


def _highest(windows: Energies) -> float | None:
    highest = float(_lufs(windows.max())) if windows.size else GATE_LUFS
    return highest if highest > GATE_LUFS else None


def _range_lu(short_term: Energies) -> float | None:
    """Loudness range by EBU Tech 3342: between the 10th and the 95th percentile of short-term loudness."""
    passed = _gated(short_term, RANGE_GATE_LU)
    if not passed.size:
        return None
    low, high = np.percentile(_lufs(passed), RANGE_PERCENTILES)
    return float(high - low)

"""Limiter: peaks that keep a quiet track below its target are turned down, by no more than a stated bound.

The gain falls before a peak (look-ahead) and rises after it (release), the same for both channels, so the stereo image
stays. No peak passes the ceiling: each reduction is held over the look-ahead and then averaged over the same time, so
the average at the peak is the whole reduction. Source: P. Hämäläinen, "Smoothing of the control signal without clipped
output in digital peak limiters", DAFx-02, Hamburg 2002. Peaks are those between the samples, upsampled four times. The
same audio and the same limits give the same result, to the bit.

Limiting makes audio quieter, so the gain before it is raised until the loudness is on the target again. The loudness is
predicted from the energies of the meters, which needs no further pass over the audio.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d

from catalog.limits import SAMPLE_RATE_HZ
from workers.audio import meters
from workers.audio.loudness import Level, block_peaks
from workers.engine.protocol import Audio

BLOCK_SAMPLES: Final = 24  # 0.5 ms: the gain is known at the borders of such blocks, and a straight line between them
LOOK_AHEAD_MS: Final = 5.0  # time from full gain to the reduction that a peak needs; the reduction is held as long
RELEASE_MS: Final = 100.0  # time in which a reduction falls to 37 % of its decibels
# Other meters interpolate otherwise than ours and read up to this much more: ffmpeg, libebur128.
MARGIN_DB: Final = 0.1
HEARD_DB: Final = 0.1  # reductions from here on count as time in which the limiter worked
_TOLERANCE_LU: Final = 0.005
_TRIES: Final = 20  # each at least halves what is missing

_BLOCKS_PER_S: Final = SAMPLE_RATE_HZ / BLOCK_SAMPLES
_LOOK_AHEAD: Final = round(LOOK_AHEAD_MS / 1000 * _BLOCKS_PER_S)
_DECAY: Final = 1000 / RELEASE_MS / _BLOCKS_PER_S  # natural logarithm of what a block of release takes
_BLOCKS_PER_STEP: Final = meters.STEP_SAMPLES // BLOCK_SAMPLES

Decibels = npt.NDArray[np.float64]


class Limited(NamedTuple):
    """Audio with its peaks turned down, and the gain that is still due to it."""

    audio: Audio
    gain_db: float
    reduction_db: float  # at the highest peak
    share: float  # part of the time in which HEARD_DB or more were taken off


def limit(audio: Audio, level: Level, *, target_lufs: float | None, ceiling_dbtp: float, bound_db: float) -> Limited:
    """Turn down the peaks of (2, n) audio by up to `bound_db`, so that a gain can bring it from `level` to the target.

    Where the bound does not suffice, the gain is what the ceiling allows. Without a target the gain is at most 0.
    """
    ceiling_dbtp -= MARGIN_DB
    peaks_db = _block_peaks_db(audio, floor_db=level.true_peak_dbtp - bound_db)
    highest_db = ceiling_dbtp + bound_db - float(peaks_db.max())  # a gain above it would take more than the bound
    gain_db = min(0.0, highest_db)
    if target_lufs is not None and level.loudness_lufs is not None:
        start_db = min(target_lufs - level.loudness_lufs, highest_db)
        gain_db = _gain_to_target(meters.energies_of(audio), peaks_db - ceiling_dbtp, target_lufs, start_db, highest_db)
    reduction_db = smoothed(peaks_db + gain_db - ceiling_dbtp)
    return Limited(
        audio=audio * _sample_gains(reduction_db, audio.shape[1]),
        gain_db=gain_db,
        reduction_db=float(reduction_db.max()),
        share=float((reduction_db >= HEARD_DB).mean()),
    )


def smoothed(excess_db: Decibels) -> Decibels:
    """The reduction at the borders of the blocks, one more than blocks, from each block's excess over the ceiling.

    Attack, hold and release work on decibels. The reduction at both borders of a block is at least its excess.
    """
    wanted = np.maximum(excess_db, 0)
    borders = np.maximum(np.concatenate(([0.0], wanted)), np.concatenate((wanted, [0.0])))
    # Each peak's reduction decays exponentially; at each border the largest counts. In logarithms that is a running
    # maximum along a falling line.
    fall = _DECAY * np.arange(borders.size)
    with np.errstate(divide="ignore"):
        released = np.exp(np.maximum.accumulate(np.log(borders) + fall) - fall)
    size = _LOOK_AHEAD + 1
    padded = np.concatenate((np.full(_LOOK_AHEAD, released[0]), released))
    held = maximum_filter1d(padded, size, origin=-(size // 2), mode="nearest")  # looks ahead only
    window = np.hanning(size + 2)[1:-1]
    return np.convolve(held, window / window.sum(), mode="valid")


def _gain_to_target(
    energies: meters.Energies, excess_db: Decibels, target_lufs: float, gain_db: float, highest_db: float
) -> float:
    """The gain, from `gain_db` on, at which the limited audio has the target loudness, or the highest that is allowed.

    `excess_db` is that of the blocks' peaks over the ceiling before any gain.
    """
    for _ in range(_TRIES):
        power = 10 ** ((gain_db - smoothed(excess_db + gain_db)) / 10)
        steps = power[: energies.size * _BLOCKS_PER_STEP].reshape(-1, _BLOCKS_PER_STEP).mean(axis=1)
        loudness = meters.integrated_lufs(energies * steps)
        missing = 0.0 if loudness is None else target_lufs - loudness
        if abs(missing) < _TOLERANCE_LU or (missing > 0 and gain_db >= highest_db):
            break
        gain_db = min(gain_db + missing, highest_db)
    return gain_db


def _block_peaks_db(audio: Audio, *, floor_db: float) -> Decibels:
    """The true peak of each block, of the louder channel; -inf for blocks that stay below `floor_db`."""
    with np.errstate(divide="ignore"):
        peaks: Decibels = 20 * np.log10(block_peaks(audio, BLOCK_SAMPLES, 10 ** (floor_db / 20)))
    return peaks


def _sample_gains(reduction_db: Decibels, samples: int) -> npt.NDArray[np.float32]:
    """The factor of each sample: straight lines between the borders of the blocks."""
    gains = 10 ** (-reduction_db / 20)
    rise = np.arange(BLOCK_SAMPLES) / BLOCK_SAMPLES
    lines = gains[:-1, None] + np.diff(gains)[:, None] * rise
    return lines.reshape(-1)[:samples].astype(np.float32)

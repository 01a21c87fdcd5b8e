"""Loudness: the integrated loudness of audio, its true peak, and the one gain that follows from them.

Integrated loudness is ITU-R BS.1770-4 by pyloudnorm; the true peak is its Annex 2, upsampled four times.
There is no limiter: a quiet, dynamic track ends below the target rather than squeezed.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyloudnorm
from scipy.signal import firwin, upfirdn

from catalog.limits import SAMPLE_RATE_HZ
from workers.engine.protocol import Audio

OVERSAMPLING: Final = 4
TAPS: Final = 97
_REACH: Final = TAPS // OVERSAMPLING + 1  # input samples on either side that one output sample may hear
_BLOCK: Final = 4800
_FINE_BLOCK: Final = 960  # where the peak of each block is asked for, most blocks are quiet
_BLOCKS_AT_ONCE: Final = 64
# A block whose samples stay below this part of the maximum held no true peak in any test track.
_CANDIDATE: Final = 0.7
_FIRST: Final = OVERSAMPLING * _REACH + TAPS // 2  # where a block's first sample lies in its upsampled window
_SINC: Final = (OVERSAMPLING * firwin(TAPS, 1 / OVERSAMPLING, window=("kaiser", 8.0))).astype(np.float32)


class Level(NamedTuple):
    """The measured level of a piece of audio."""

    loudness_lufs: float | None  # None: below the meter's gate throughout, such as a single click
    true_peak_dbtp: float


def measure_level(audio: Audio) -> Level:
    """Level of (2, n) audio that is finite, not all zero and at least 0.4 s long.

    The meter ignores what lies below -70 LUFS, so the audio is measured with its peak at full scale, near where
    it will be delivered, and the readings are moved back.
    """
    peak = float(np.abs(audio).max())
    scaled = audio / np.float32(peak)
    peak_db = 20 * math.log10(peak)
    loudness = integrated_lufs(scaled)
    return Level(None if loudness is None else loudness + peak_db, true_peak_dbtp(scaled) + peak_db)


def integrated_lufs(audio: Audio) -> float | None:
    """Integrated loudness of (2, n) audio; None when nothing passes the gate. Off by less than 1e-6 LU."""
    # The default filter reads 0.04 LU low at 48 kHz. A meter keeps state: one for each reading.
    meter = pyloudnorm.Meter(SAMPLE_RATE_HZ, filter_class="DeMan")
    loudness = float(meter.integrated_loudness(audio.T.astype(np.float64)))
    return loudness if math.isfinite(loudness) else None


def true_peak_dbtp(audio: Audio) -> float:
    """Highest level between the samples of (2, n) audio, in dBTP; -inf for digital silence."""
    sample_peak = float(np.abs(audio).max())
    if sample_peak == 0:
        return -math.inf
    peaks = [_channel_peak(channel, _CANDIDATE * sample_peak) for channel in audio]
    return 20 * math.log10(max(sample_peak, *peaks))


def block_peaks(audio: Audio, block_samples: int, floor: float) -> npt.NDArray[np.float64]:
    """Highest absolute value between the samples of each block of (2, n) audio, of the louder channel.

    The last block may be shorter. `block_samples` divides 960. A block that stays below `floor` may read 0.
    """
    blocks = -(-audio.shape[1] // block_samples)
    peaks = np.zeros(blocks)
    for channel in audio:
        tops, windows = _windows_of(channel, _FINE_BLOCK)
        fine = np.zeros((len(tops), _FINE_BLOCK // block_samples))
        candidates = np.flatnonzero(tops >= _CANDIDATE * floor)
        for at in range(0, len(candidates), _BLOCKS_AT_ONCE):
            some = candidates[at : at + _BLOCKS_AT_ONCE]
            upsampled = upfirdn(_SINC, windows[some], up=OVERSAMPLING, axis=1)
            own = upsampled[:, _FIRST : _FIRST + OVERSAMPLING * _FINE_BLOCK]
            fine[some] = np.abs(own).reshape(len(some), -1, OVERSAMPLING * block_samples).max(axis=2)
        peaks = np.maximum(peaks, fine.reshape(-1)[:blocks])
    return peaks


def _channel_peak(channel: npt.NDArray[np.float32], threshold: float) -> float:
    tops, windows = _windows_of(channel, _BLOCK)
    candidates = np.flatnonzero(tops >= threshold)
    peak = 0.0
    for at in range(0, len(candidates), _BLOCKS_AT_ONCE):
        upsampled = upfirdn(_SINC, windows[candidates[at : at + _BLOCKS_AT_ONCE]], up=OVERSAMPLING, axis=1)
        peak = max(peak, float(np.abs(upsampled[:, TAPS:-TAPS]).max()))
    return peak


def _windows_of(
    channel: npt.NDArray[np.float32], block: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The sample peak of each block, and the block with the samples on either side that its interpolation hears."""
    n_blocks = -(-channel.size // block)
    padded = np.zeros(n_blocks * block + 2 * _REACH, np.float32)
    padded[_REACH : _REACH + channel.size] = channel
    tops = np.abs(padded[_REACH:-_REACH].reshape(n_blocks, block)).max(axis=1)
    return tops, np.lib.stride_tricks.sliding_window_view(padded, block + 2 * _REACH)[::block]


def gain_db(level: Level, *, target_lufs: float | None, ceiling_dbtp: float) -> float:
    """The gain that brings `level` to the target without its true peak crossing the ceiling.

    Without a target the level is left alone, except that nothing may cross the ceiling. Audio that the meter
    cannot read is brought to the ceiling.
    """
    headroom = ceiling_dbtp - level.true_peak_dbtp
    if target_lufs is None:
        return min(0.0, headroom)
    if level.loudness_lufs is None:
        return headroom
    return min(target_lufs - level.loudness_lufs, headroom)

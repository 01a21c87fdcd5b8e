"""Resampling: an engine renders at its own rate, and everything after it works at 48 kHz."""

from __future__ import annotations

from math import gcd

import numpy as np
from scipy.signal import resample_poly

from catalog.limits import SAMPLE_RATE_HZ
from workers.engine.protocol import Audio


def at_our_rate(audio: Audio, rate_hz: int) -> Audio:
    """(channels, samples) at 48 kHz of audio at `rate_hz`; the same object where that is the rate already.

    Polyphase filtering by scipy, with its Kaiser window of 5.0; whole seconds come out even.
    """
    if rate_hz == SAMPLE_RATE_HZ:
        return audio
    common = gcd(rate_hz, SAMPLE_RATE_HZ)
    changed = resample_poly(audio, SAMPLE_RATE_HZ // common, rate_hz // common, axis=1)
    return np.ascontiguousarray(changed, dtype=np.float32)

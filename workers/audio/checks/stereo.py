"""Stereo: a dead or weak side, a side that is inverted, and two sides that are one.

Mono loudspeakers, which many venues have, play the sum: what one side has inverted they do not play.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from catalog.flaws import Flaw
from workers.audio.checks.analysis import Analysis, decibels

DEAD_DB: Final = 20.0  # one side below the other; a dead side: 140 dB
UNBALANCED_DB: Final = 10.0  # real: median .6, extreme 14.5
ANTIPHASE: Final = -0.9  # correlation of the sides; at -1 a mono loudspeaker plays nothing
BASS_INVERTED: Final = -0.5  # correlation below 200 Hz, where recordings are nearly mono; real: median .76, least -.32
BASS_APART: Final = -0.15  # where all frequencies together correlate below 0, too; orchestras reach -.17
MONO_DB: Final = -30.0  # side against mid; real: median -5.6, least -17.6


def find_stereo_flaws(analysis: Analysis) -> Iterator[Flaw]:
    """Flaws of the balance first, because the rest means little without two sides."""
    left, right = analysis.channel_rms
    balance_db = abs(decibels(float(left)) - decibels(float(right)))
    weak = "left" if left < right else "right"
    if balance_db > DEAD_DB:
        depth = f"{balance_db:.0f} dB below the other" if analysis.channel_rms.all() else "silent"
        text = f"dead channel: {weak} is {depth} (limit {DEAD_DB:.0f} dB)"
        yield Flaw(
            kind="dead-channel", text=text, stops=True, value=min(300.0, round(balance_db, 1)), limit=DEAD_DB, unit="dB"
        )
        return
    if balance_db > UNBALANCED_DB:
        text = f"unbalanced channels: {weak} is {balance_db:.1f} dB below the other (limit {UNBALANCED_DB:.0f} dB)"
        yield Flaw(
            kind="unbalanced", text=text, stops=False, value=round(balance_db, 1), limit=UNBALANCED_DB, unit="dB"
        )
    product = float(np.dot(*(channel.astype(np.float64) for channel in analysis.scaled))) / analysis.scaled.shape[1]
    yield from _phase_flaws(analysis, product / float(left * right))
    side_db = _side_db(analysis, product)
    if analysis.is_broad and side_db < MONO_DB:
        text = f"mono: the sides differ by {side_db:.0f} dB against what they share (limit {MONO_DB:.0f} dB)"
        yield Flaw(kind="mono", text=text, stops=False, value=max(-300.0, round(side_db, 1)), limit=MONO_DB, unit="dB")


def _phase_flaws(analysis: Analysis, correlation: float) -> Iterator[Flaw]:
    if correlation < ANTIPHASE:
        text = f"channels in antiphase: correlation {correlation:.2f} (limit {ANTIPHASE}), silent in mono"
        yield Flaw(kind="antiphase", text=text, stops=True, value=round(correlation, 3), limit=ANTIPHASE)
        return
    bass = bass_correlation(analysis)
    if bass < BASS_APART and correlation < 0:
        stops = bass < BASS_INVERTED
        limit = BASS_INVERTED if stops else BASS_APART
        text = f"one channel inverted: correlation {bass:.2f} below 200 Hz (limit {limit}), thin in mono"
        yield Flaw(kind="polarity", text=text, stops=stops, value=round(bass, 3), limit=limit)


def bass_correlation(analysis: Analysis) -> float:
    """Correlation of the sides between 20 and 200 Hz; 1 where there is no bass."""
    left, right, product = analysis.spectra.bass.sum(axis=1)
    total = analysis.spectra.power[:2].sum()
    return float(product / math.sqrt(left * right)) if min(left, right) > 1e-4 * total else 1.0


def _side_db(analysis: Analysis, product: float) -> float:
    mean = float(np.sum(analysis.channel_rms**2))
    side, mid = mean - 2 * product, mean + 2 * product
    return 10 * math.log10(max(side, 1e-30) / max(mid, 1e-30))

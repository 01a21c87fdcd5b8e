"""Distortion: flat tops of clipping, also after the level was turned down, and clicks.

A clipped wave stays at one level, so that level is far more frequent than those below it, wherever it lies. A click is
a few samples that a smooth wave does not lead to: the fourth difference makes it stand out from the music around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from catalog.flaws import Flaw, in_words
from catalog.limits import SAMPLE_RATE_HZ
from workers.audio.checks.analysis import Analysis, Floats
from workers.engine.protocol import Audio

PILE: Final = 6.0  # samples in the top bin over those a little lower; real: median .5, extreme 5.2
FLAT_TOPS_WARN: Final = 5.0  # a minute; a wave that is not clipped has none
FLAT_TOPS_STOP: Final = 17.0
LONG_TOP_SAMPLES: Final = 6
FLAT_TOP_SAMPLES: Final = 3
_LEVELS: Final = 8191
_TOP_PART: Final = 1e-4  # of the samples lie above the level that counts as the top
_BINS: Final = 40  # between half of the top and the top
_PILE_MIN: Final = 8.0  # samples a bin, so that a handful makes no ratio

CLICK: Final = 30.0  # fourth difference against its surroundings; real, and not masked: one of 77 pieces above 25
CLICK_HEIGHT: Final = 0.004  # of the peak: below it no click is heard, and clean synthesis has edges
CLICK_SAMPLES: Final = 12
CLICKS_STOP: Final = 3
_WINDOW_SAMPLES: Final = 480
_STRIDE: Final = 6  # of the samples that stand for a window
_TO_DEVIATION: Final = 1.48  # from a median of absolute values
_FOURTH_OF_CLICK: Final = 6  # height of the fourth difference of a click of height 1


def find_clipping(audio: Audio) -> Iterator[Flaw]:
    """Flat tops at the maximum, and a pile of samples at the top level wherever that lies.

    `audio` is what the model made: a filter makes flat tops slope.
    """
    scaled = audio / np.float32(np.abs(audio).max())
    tops = [top for channel in scaled for top in _flat_tops(channel)]
    tops_per_min = len(tops) * 60 * SAMPLE_RATE_HZ / audio.shape[1]
    pile = max(_pile(channel) for channel in scaled)
    is_hard = pile > PILE or max(tops, default=0) >= LONG_TOP_SAMPLES
    stops = tops_per_min > FLAT_TOPS_STOP and is_hard
    if tops_per_min > FLAT_TOPS_WARN:
        limit = FLAT_TOPS_STOP if stops else FLAT_TOPS_WARN
        text = f"clipped: {tops_per_min:.0f} flat tops a minute (limit {limit:.0f})"
        yield Flaw(kind="clipping", text=text, stops=stops, value=round(tops_per_min, 1), limit=limit, unit="a minute")
    if pile > PILE:
        text = f"clipped: the top level is {pile:.1f} times as frequent as those below it (limit {PILE:.0f})"
        yield Flaw(kind="clipping", text=text, stops=stops, value=round(pile, 2), limit=PILE)


def _flat_tops(channel: Floats) -> list[int]:
    """Lengths of the runs of three samples or more that are exactly at the channel's own maximum."""
    level = np.abs(channel)
    maximum = level.max()
    if maximum == 0:
        return []
    at_maximum = np.flatnonzero(level == maximum)
    runs = np.split(at_maximum, np.flatnonzero(np.diff(at_maximum) != 1) + 1)
    return [len(run) for run in runs if len(run) >= FLAT_TOP_SAMPLES]


def _pile(channel: Floats) -> float:
    """Samples in the top bin over the mean of the bins 7 to 3 below it, of either polarity."""
    counts = np.bincount((np.abs(channel) * np.float32(_LEVELS)).astype(np.int32), minlength=_LEVELS + 1)
    above = np.cumsum(counts[::-1])[::-1]
    top = int(np.flatnonzero(above >= max(1.0, channel.size * _TOP_PART))[-1])
    if top < 2 * _BINS:
        return 0.0
    edges = np.round(np.linspace(top / 2, top + 1, _BINS + 1)).astype(int)
    density = np.add.reduceat(counts[: top + 1], edges[:-1]) / np.diff(edges)
    width = (top + 1) / 2 / _BINS
    return float(density[-1] * width / max(float(density[-8:-3].mean()) * width, _PILE_MIN))


class _Click(NamedTuple):
    prominence: float
    at_s: float


def find_clicks(analysis: Analysis) -> Iterator[Flaw]:
    """Single samples, or a few, that stand out from the music around them."""
    clicks = [click for channel in analysis.scaled for click in _clicks(channel)]
    if clicks:
        places = sorted({round(click.at_s, 1) for click in clicks})
        spans_s = [(at_s, round(at_s + 0.1, 1)) for at_s in places]
        text = f"clicks: {len(places)}, at {in_words(spans_s)} (limit 0)"
        yield Flaw(
            kind="click",
            text=text,
            stops=len(places) >= CLICKS_STOP,
            value=len(places),
            limit=0,
            unit="count",
            spans_s=spans_s,
        )


def _clicks(channel: Floats) -> list[_Click]:
    fourth = np.abs(np.diff(channel, 4))
    n_windows = fourth.size // _WINDOW_SAMPLES
    windows = fourth[: n_windows * _WINDOW_SAMPLES].reshape(n_windows, _WINDOW_SAMPLES)
    if n_windows < 3:
        return []
    some = windows[:, ::_STRIDE]
    around = np.median(np.concatenate([some[:-2], some[1:-1], some[2:]], axis=1), axis=1) * _TO_DEVIATION
    highest = windows[1:-1].max(axis=1)
    least = np.maximum(CLICK * around, CLICK_HEIGHT * _FOURTH_OF_CLICK)
    found = []
    for place in np.flatnonzero(highest > least):
        high = np.flatnonzero(windows[place + 1] > highest[place] / 5)
        music = channel[place * _WINDOW_SAMPLES : (place + 3) * _WINDOW_SAMPLES]
        # A click that is no higher than the music around it is not heard.
        masked = highest[place] / _FOURTH_OF_CLICK < math.sqrt(float(np.dot(music, music)) / music.size)
        # The fourth difference is four samples wider than its click.
        if not masked and high[-1] - high[0] < CLICK_SAMPLES + 4:
            prominence = float(highest[place] / max(float(around[place]), 1e-9))
            found.append(_Click(prominence, float((place + 1) * _WINDOW_SAMPLES + high[0]) / SAMPLE_RATE_HZ))
    return found

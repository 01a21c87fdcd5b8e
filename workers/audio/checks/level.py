"""Level: too quiet as a whole, silent where music is due, and holes in the music.

Silence is told by the take's own mean, so that a quiet take is not taken for a silent one. All limits but the first two
come from 54 real recordings of game music (2026-11-29), whose extreme stands beside each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from catalog.flaws import Flaw, in_words
from catalog.limits import SAMPLE_RATE_HZ
from workers.audio.checks.analysis import SHORT_S, Analysis, runs

NEAR_SILENCE_DBFS: Final = -50.0  # collapses seen in the field lie 32 to 60 dB below music
SILENT_DB: Final = -50.0  # of 20 ms against the mean
HEAD_DB: Final = -60.0  # lower, because music may fade in
HEAD_WARN_S: Final = 1.5  # real: 2.3, with one piece in 60 above 1.5
HEAD_STOP_S: Final = 3.0
TAIL_WARN_S: Final = 5.0
TAIL_STOP_S: Final = 20.0  # real: 10.5; distributors refuse more than 10
TAIL_STOP_SHARE: Final = 0.33  # of the take
GAP_WARN_S: Final = 0.2  # cut into the music; real: .10
GAP_STOP_S: Final = 0.5
REST_WARN_S: Final = 1.5  # after music has died away; real: 1.1
REST_STOP_S: Final = 4.0
CUT_DB: Final = 30.0  # fall within some 100 ms; music that dies away in half a second falls by 12
_CUT_FRAMES: Final = 4
_EDGES_S: Final = 0.05  # that the frames and the slopes at the ends of a silence may take
HOLE_S: Final = 0.010  # real: none
HOLE_PART: Final = 1e-5  # of the peak
_HOLE_EDGE_S: Final = 0.03


def find_level_flaws(analysis: Analysis) -> Iterator[Flaw]:
    """Flaws of the level, of single stretches and of the whole."""
    if analysis.rms_dbfs < NEAR_SILENCE_DBFS:
        yield Flaw(
            kind="near-silence",
            text=f"near silence: RMS {analysis.rms_dbfs:.1f} dBFS before any gain (limit {NEAR_SILENCE_DBFS:.0f})",
            stops=True,
            value=round(analysis.rms_dbfs, 2),
            limit=NEAR_SILENCE_DBFS,
            unit="dBFS",
        )
    yield from _silences(analysis)
    yield from _holes(analysis)


def _silences(analysis: Analysis) -> Iterator[Flaw]:
    silent = analysis.short_db < SILENT_DB
    stretches, end = runs(silent), silent.size
    head = next(((first, last) for first, last in stretches if first == 0), (0, 0))
    tail = next(((first, last) for first, last in stretches if last == end and first > 0), (end, end))
    head_s = int(np.argmax(analysis.short_db > HEAD_DB)) * SHORT_S
    if head_s > HEAD_WARN_S:
        stops = head_s > HEAD_STOP_S
        limit_s = HEAD_STOP_S if stops else HEAD_WARN_S
        text = f"silent head: the first {head_s:.1f} s (limit {limit_s} s)"
        yield _silence("silent-head", text, [(0, round(head_s / SHORT_S))], limit_s, stops=stops)
    tail_s = round((tail[1] - tail[0]) * SHORT_S, 2)
    if tail_s > TAIL_WARN_S:
        stop_s = min(TAIL_STOP_S, TAIL_STOP_SHARE * analysis.seconds)
        stops = tail_s > stop_s
        limit_s = round(stop_s, 1) if stops else TAIL_WARN_S
        text = f"silent tail: the last {tail_s:.1f} s (limit {limit_s:g} s)"
        yield _silence("silent-tail", text, [tail], limit_s, stops=stops)
    inside = [stretch for stretch in stretches if stretch not in (head, tail)]
    yield from _gaps(analysis, inside)


def _gaps(analysis: Analysis, inside: list[tuple[int, int]]) -> Iterator[Flaw]:
    """Cuts into the music, and rests that are longer than music has them."""
    limits_s = [(GAP_WARN_S, GAP_STOP_S) if _is_cut(analysis, each) else (REST_WARN_S, REST_STOP_S) for each in inside]
    lengths_s = [(last - first) * SHORT_S for first, last in inside]
    measured = list(zip(inside, lengths_s, limits_s, strict=True))
    stopping = [(each, stop_s) for each, seconds, (_, stop_s) in measured if seconds >= stop_s - _EDGES_S]
    long = stopping or [(each, warn_s) for each, seconds, (warn_s, _) in measured if seconds > warn_s]
    if long:
        found, limit_s = [each for each, _ in long], min(limit_s for _, limit_s in long)
        spans_s = [(first * SHORT_S, last * SHORT_S) for first, last in found]
        text = f"silence inside: {in_words(spans_s)} (limit {limit_s} s)"
        yield _silence("silence-inside", text, found, limit_s, stops=bool(stopping))


def _is_cut(analysis: Analysis, stretch: tuple[int, int]) -> bool:
    """True where the level falls at once: music that pauses dies away, however suddenly it goes on."""
    first, last = stretch
    before_db = float(analysis.short_db[max(0, first - _CUT_FRAMES) : first].max())
    after_db = float(analysis.short_db[first : min(last, first + _CUT_FRAMES)].min())
    return before_db - after_db > CUT_DB


def _silence(kind: str, text: str, stretches: list[tuple[int, int]], limit_s: float, *, stops: bool) -> Flaw:
    longest = max(last - first for first, last in stretches)
    return Flaw(
        kind=kind,
        text=text,
        stops=stops,
        value=round(longest * SHORT_S, 2),
        limit=limit_s,
        unit="s",
        spans_s=[(round(first * SHORT_S, 2), round(last * SHORT_S, 2)) for first, last in stretches],
    )


def _holes(analysis: Analysis) -> Iterator[Flaw]:
    """Stretches of nothing, however short, with music right before and after."""
    left, right = np.abs(analysis.scaled)
    nothing = np.maximum(left, right) < HOLE_PART
    n_edge, least = round(_HOLE_EDGE_S * SAMPLE_RATE_HZ), analysis.mean_power / 100
    spans_s = []
    for first, last in runs(nothing):
        if last - first < HOLE_S * SAMPLE_RATE_HZ:
            continue
        edges = analysis.scaled[:, max(0, first - n_edge) : first], analysis.scaled[:, last : last + n_edge]
        if all(edge.size and float(np.square(edge).mean()) > least for edge in edges):
            spans_s.append((round(first / SAMPLE_RATE_HZ, 3), round(last / SAMPLE_RATE_HZ, 3)))
    if spans_s:
        yield Flaw(
            kind="dropout",
            text=f"dropouts: {len(spans_s)} in the midst of music, at {in_words(spans_s)} (limit 0)",
            stops=True,
            value=len(spans_s),
            limit=0,
            unit="count",
            spans_s=spans_s,
        )

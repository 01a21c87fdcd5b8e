"""Repetition: a loop that repeats to the sample, a sound that never changes, and frames in disorder.

Players and sequencers repeat, a diffusion model does not: two seconds of its music that agree to the sample were
copied. A tone agrees with itself a period later, so a second that repeats within 33 ms is a tone and tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from scipy import fft

from catalog.flaws import Flaw, in_words
from catalog.limits import SAMPLE_RATE_HZ
from workers.audio.checks.analysis import COARSE, COARSE_HZ, FRAME_S, FRAMES_IN_HALF, Analysis, Floats

EXACT: Final = 0.9999  # correlation of a second with a copy of it; sequenced music from a lossy file: .999
ALIKE: Final = 0.995  # at 3 kHz; real: median .58, 95 % .99
LOOPED_SHARE: Final = 0.5  # of the seconds, for either
FEW_SECONDS: Final = 4
BACK_S: Final = 12
TONE_S: Final = (0.002, 0.033)
SHORTEST_S: Final = 0.036
_QUIET: Final = 1e-3  # of the mean power
_PROVEN_MAX: Final = 40
_PHRASE_REACH: Final = 30  # 10 ms of lags

STILL_S: Final = 11.0
STILL_DB: Final = 1.0  # between seconds so far apart; noise and drones .5, music 4 to 28
DISORDER: Final = 0.1  # cosine of neighbouring mel frames; real: median .77, least .12; shuffled -.1 to .06
DISORDER_RISE: Final = 0.12  # over that of frames half a second apart: what music has and disorder has not
_APART_FRAMES: Final = 6
_FEW_FRAMES: Final = 24


class _Repetition(NamedTuple):
    """One second of the take and the place before it that is most like it."""

    at_s: float
    lag_s: float
    correlation: float  # at 3 kHz


def find_loops(analysis: Analysis, *, phrase_s: float | None = None, foreign: bool = False) -> Iterator[Flaw]:
    """Seconds that are copies of earlier ones; a take is stopped for copies to the sample, unless the audio is foreign.

    Repeats after `phrase_s` or a multiple of it are meant (None: no repeat is).
    """
    matches = list(_matches(analysis, phrase_s))
    alike = [match for match in matches if match.correlation > ALIKE]
    throughout = len(matches) >= FEW_SECONDS and len(alike) > LOOPED_SHARE * len(matches)
    found = alike if throughout else _stuttering(alike)
    if not found:
        return
    tried = found[:: max(1, len(found) // _PROVEN_MAX)]
    exact_share = sum(_exactness(analysis, match) > EXACT for match in tried) / len(tried)
    is_copy = exact_share * len(found) > LOOPED_SHARE * (len(matches) if throughout else len(found))
    if not throughout and not is_copy:
        return  # a steady note
    spans_s = _joined([(match.at_s, match.at_s + 1) for match in found])
    share, lag_s = len(found) / len(matches), float(np.median([match.lag_s for match in found]))
    how = "to the sample" if is_copy else "nearly"
    text = (
        f"loop: repeats {how} after {lag_s:.2f} s at {in_words(spans_s)}, {share:.0%} of it (limit {LOOPED_SHARE:.0%})"
    )
    stops = is_copy and not foreign
    yield Flaw(kind="loop", text=text, stops=stops, value=round(share, 3), limit=LOOPED_SHARE, spans_s=spans_s)


def _stuttering(alike: list[_Repetition]) -> list[_Repetition]:
    """The seconds that repeat one shorter than a second and follow each other."""
    short = [match for match in alike if match.lag_s < 1]
    times = {match.at_s for match in short}
    return [match for match in short if times & {match.at_s - 1, match.at_s + 1}]


def _matches(analysis: Analysis, phrase_s: float | None) -> Iterator[_Repetition]:
    coarse = analysis.coarse
    energy = np.concatenate([[0.0], np.cumsum(np.square(coarse, dtype=np.float64))])
    n_back, n_fft = BACK_S * COARSE_HZ, fft.next_fast_len((BACK_S + 2) * COARSE_HZ, real=True)
    quiet = energy[-1] / coarse.size * COARSE_HZ * _QUIET
    for at in range(COARSE_HZ, coarse.size - COARSE_HZ, COARSE_HZ):
        begin, second = max(0, at - n_back), coarse[at : at + COARSE_HZ]
        own = energy[at + COARSE_HZ] - energy[at]
        if own <= quiet:
            continue
        products = _sliding_products(coarse[begin : at + COARSE_HZ], second, n_fft)[: at - begin]
        energies = energy[begin + COARSE_HZ : at + COARSE_HZ] - energy[begin:at]
        like = (products / np.sqrt(np.maximum(energies, own * 1e-3) * own))[::-1]  # by lag, from one sample on
        if like[_lag(TONE_S[0]) : _lag(TONE_S[1])].max(initial=-1) > ALIKE:
            continue
        like[: _lag(SHORTEST_S)] = -1
        for lag in range(_lag(phrase_s), like.size, _lag(phrase_s) + 1) if phrase_s else ():
            like[lag - _PHRASE_REACH : lag + _PHRASE_REACH] = -1
        best = float(like.max(initial=-1))
        if best <= 0:
            continue
        lag = int(np.flatnonzero(like >= best - 0.001)[0])  # the shortest of equals
        yield _Repetition(at / COARSE_HZ, (lag + 1) / COARSE_HZ, best)


def _lag(seconds: float) -> int:
    """Index of a lag among lags that begin at one sample."""
    return round(seconds * COARSE_HZ) - 1


def _sliding_products(before: Floats, second: Floats, n_fft: int) -> Floats:
    spectrum = fft.rfft(before, n_fft) * np.conj(fft.rfft(second, n_fft))
    return np.asarray(fft.irfft(spectrum, n_fft))


def _exactness(analysis: Analysis, match: _Repetition) -> float:
    """Correlation at the full rate, at the best lag near the match's."""
    at, lag, reach = round(match.at_s * SAMPLE_RATE_HZ), round(match.lag_s * SAMPLE_RATE_HZ), 2 * COARSE
    second = analysis.mono[at : at + SAMPLE_RATE_HZ]
    first = max(0, at - lag - reach)
    before = analysis.mono[first : at - lag + reach + SAMPLE_RATE_HZ]
    n_fft = fft.next_fast_len(before.size, real=True)
    products = _sliding_products(before, second, n_fft)[: before.size - second.size + 1]
    place = int(np.argmax(products))
    copy = before[place : place + SAMPLE_RATE_HZ]
    return float(np.dot(copy, second) / np.sqrt(float(np.dot(copy, copy)) * float(np.dot(second, second)) + 1e-20))


def _joined(spans_s: list[tuple[float, float]]) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for begin_s, end_s in spans_s:
        if joined and begin_s <= joined[-1][1]:
            joined[-1] = (joined[-1][0], end_s)
        else:
            joined.append((begin_s, end_s))
    return joined


def find_stillness(analysis: Analysis) -> Iterator[Flaw]:
    """A sound whose seconds are the same 11 s later, throughout."""
    change_db = change_of(analysis)
    if change_db is not None and change_db < STILL_DB:
        text = f"frozen: the sound changes by {change_db:.1f} dB within {STILL_S:.0f} s (at least {STILL_DB:.0f} dB)"
        yield Flaw(kind="frozen", text=text, stops=False, value=round(change_db, 2), limit=STILL_DB, unit="dB")


def change_of(analysis: Analysis) -> float | None:
    """Median difference between the log-mel spectra of seconds 11 s apart, in dB; None for a shorter take."""
    mel = analysis.spectra.mel_db
    n_halves = mel.shape[0] // FRAMES_IN_HALF
    halves = mel[: n_halves * FRAMES_IN_HALF].reshape(n_halves, FRAMES_IN_HALF, -1).mean(axis=1)
    seconds = (halves[1:] + halves[:-1]) / 2
    lag = round(STILL_S / (FRAMES_IN_HALF * FRAME_S))
    if len(seconds) < 2 * lag:
        return None
    return float(np.median(np.sqrt(np.square(seconds[lag:] - seconds[:-lag]).mean(axis=1))))


def find_disorder(analysis: Analysis) -> Iterator[Flaw]:
    """Frames that follow each other as they come: no sound goes on from one to the next."""
    bands = _levels(analysis)
    changes = bands - bands[analysis.heard[0] | analysis.heard[1]].mean(axis=0) if bands.size else bands
    near, apart = (_likeness(changes, analysis, lag) for lag in (1, _APART_FRAMES))
    moves_db = float(np.abs(changes[analysis.heard[0] | analysis.heard[1]]).mean()) if changes.size else 0.0
    if near is None or apart is None or moves_db < STILL_DB:
        return
    if near < DISORDER and near - apart < DISORDER_RISE:
        text = f"shuffled: neighbouring frames are {near:.2f} alike (at least {DISORDER}), others {apart:.2f}"
        yield Flaw(kind="shuffled", text=text, stops=True, value=round(near, 4), limit=DISORDER)


def _levels(analysis: Analysis) -> Floats:
    """Log-mel spectrum, in dB above the quietest that counts."""
    mel = analysis.spectra.mel_db
    return np.asarray(np.maximum(mel - (mel.max(initial=0) - 80), 0))


def _likeness(bands: Floats, analysis: Analysis, lag: int) -> float | None:
    """Median cosine of frames that are `lag` apart; None where too few are heard."""
    heard = analysis.heard[0] | analysis.heard[1]
    both = heard[lag:] & heard[:-lag]
    if both.sum() < _FEW_FRAMES:
        return None
    former, latter = bands[:-lag][both], bands[lag:][both]
    length = np.sqrt(np.square(former).sum(axis=1) * np.square(latter).sum(axis=1))
    return float(np.median((former * latter).sum(axis=1) / np.maximum(length, 1e-9)))

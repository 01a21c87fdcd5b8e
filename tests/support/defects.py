"""Made defects: each takes sound music, float32 (2, n) at 48 kHz, and spoils it in one known way.

A gross defect is one that nobody would let into a catalog; the others are heard by an attentive listener. Defects that
need a length of their own say so by the seconds they take out of the music.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import signal

from tests.support.sounds import RATE, Sound

Rng = np.random.Generator


class Defect(NamedTuple):
    """One way to spoil music; `kinds` are the flaws that may be named for it."""

    make: Callable[[Sound, Rng], Sound]
    kinds: tuple[str, ...]
    gross: bool = True


def not_a_number(sound: Sound, rng: Rng) -> Sound:
    spoiled = sound.copy()
    spoiled[rng.integers(2), rng.integers(sound.shape[1])] = np.nan
    return spoiled


def gap(sound: Sound, rng: Rng, *, seconds: float) -> Sound:
    """Digital silence in loud music, with edges of 5 ms."""
    spoiled, n = sound.copy(), round(seconds * RATE)
    at = _loud_place(sound, rng, n)
    spoiled[:, at : at + n] *= _dip(n)
    return spoiled


def dropouts(sound: Sound, rng: Rng, *, count: int = 5) -> Sound:
    """Holes of 50 ms with hard edges."""
    spoiled, n = sound.copy(), RATE // 20
    for _ in range(count):
        at = _loud_place(sound, rng, n)
        spoiled[:, at : at + n] = 0
    return spoiled


def silent_head(sound: Sound, rng: Rng, *, seconds: float) -> Sound:
    n = round(seconds * RATE)
    return np.concatenate([np.zeros((2, n), np.float32), sound[:, :-n]], axis=1)


def silent_tail(sound: Sound, rng: Rng, *, share: float) -> Sound:
    spoiled = sound.copy()
    n = round(sound.shape[1] * share)
    spoiled[:, -n:] *= _fall(n)
    return spoiled


def noise(
    sound: Sound, rng: Rng, *, seconds: float, db: float = 0.0, exponent: float = 0.0, side: bool = False
) -> Sound:
    """Coloured noise over the music, `db` against its level there; exponent 1 is pink, 2 is brown."""
    spoiled, n = sound.copy(), min(round(seconds * RATE), sound.shape[1])
    at = _loud_place(sound, rng, n)
    part = spoiled[:, at : at + n]
    grains = coloured(rng, n, exponent) * np.sqrt(np.square(part).mean()) * 10 ** (db / 20)
    grains *= np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / 240)  # no click at its ends
    part += np.array([[0], [1]], np.float32) * grains if side else grains
    return spoiled


def noise_instead(sound: Sound, rng: Rng, *, exponent: float, share: float = 1.0) -> Sound:
    """Noise in place of the last part of the music."""
    spoiled, n = sound.copy(), round(sound.shape[1] * share)
    spoiled[:, -n:] = coloured(rng, n, exponent) * np.sqrt(np.square(sound).mean())
    return spoiled


def loop(sound: Sound, rng: Rng, *, seconds: float) -> Sound:
    """One loud part over and over."""
    n = round(seconds * RATE)
    at = _loud_place(sound, rng, n)
    return np.resize(sound[:, at : at + n].T, sound.T.shape).T.copy()


def frozen(sound: Sound, rng: Rng, *, seconds: float, frame_s: float = 0.04) -> Sound:
    """One frame over and over for a while."""
    spoiled, n, n_frame = sound.copy(), round(seconds * RATE), round(frame_s * RATE)
    at = _loud_place(sound, rng, n)
    spoiled[:, at : at + n] = np.resize(sound[:, at : at + n_frame].T, (n, 2)).T
    return spoiled


def shuffled(sound: Sound, rng: Rng, *, frame_s: float) -> Sound:
    n_frame = round(frame_s * RATE)
    n = sound.shape[1] // n_frame * n_frame
    frames = sound[:, :n].reshape(2, -1, n_frame)
    spoiled = sound.copy()
    spoiled[:, :n] = frames[:, rng.permutation(frames.shape[1])].reshape(2, n)
    return spoiled


def clicks(sound: Sound, rng: Rng, *, count: int) -> Sound:
    """Single samples that jump by half of the peak."""
    spoiled = sound.copy()
    places = rng.choice(np.arange(RATE, sound.shape[1] - RATE), count, replace=False)
    spoiled[:, places] += np.float32(0.5 * np.abs(sound).max()) * rng.choice([-1, 1], count).astype(np.float32)
    return spoiled


def clipped(sound: Sound, rng: Rng, *, db: float, gain: float = 1.0) -> Sound:
    """Flat tops `db` below the loudest sample, which lie below full scale with a gain below 1."""
    top = np.float32(np.abs(sound).max() * 10 ** (-db / 20))
    return np.clip(sound, -top, top) * np.float32(gain)


def clipped_and_resampled(sound: Sound, rng: Rng, *, db: float) -> Sound:
    once = signal.resample_poly(clipped(sound, rng, db=db), 147, 160, axis=1)
    return signal.resample_poly(once, 160, 147, axis=1)[:, : sound.shape[1]].astype(np.float32)


def low_pass(sound: Sound, rng: Rng, *, hz: float, order: int = 8) -> Sound:
    sections = signal.butter(order, hz, fs=RATE, output="sos")
    return signal.sosfilt(sections, sound, axis=1).astype(np.float32)


def channel(sound: Sound, rng: Rng, *, gain: float) -> Sound:
    """One side at a gain: 0 is dead, -1 inverted."""
    spoiled = sound.copy()
    spoiled[rng.integers(2)] *= np.float32(gain)
    return spoiled


def mono(sound: Sound, rng: Rng) -> Sound:
    return np.repeat(sound.mean(axis=0, keepdims=True), 2, axis=0)


def tone(sound: Sound, rng: Rng, *, hz: float, db: float) -> Sound:
    level = np.sqrt(np.square(sound).mean()) * 10 ** (db / 20) * np.sqrt(2)
    return sound + (level * np.sin(2 * np.pi * hz * np.arange(sound.shape[1]) / RATE)).astype(np.float32)


def hum(sound: Sound, rng: Rng, *, db: float) -> Sound:
    """Mains at 50 Hz with two harmonics."""
    spoiled = tone(sound, rng, hz=50, db=db)
    for hz, further_db in ((100, -3), (150, -6)):
        spoiled = spoiled + tone(sound, rng, hz=hz, db=db + further_db) - sound
    return spoiled


def comb(sound: Sound, rng: Rng, *, delay_s: float = 0.003) -> Sound:
    late = round(delay_s * RATE)
    return sound + np.pad(sound[:, :-late], ((0, 0), (late, 0)))


def offset(sound: Sound, rng: Rng, *, share: float) -> Sound:
    return sound + np.float32(share * np.abs(sound).max())


def coloured(rng: Rng, n: int, exponent: float) -> npt.NDArray[np.float32]:
    """Noise of RMS 1 whose power falls with that power of the frequency, from 20 Hz up."""
    bins = np.fft.rfft(rng.standard_normal(n))
    hz = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20)
    grains = np.fft.irfft(bins * hz ** (-exponent / 2), n)
    return (grains / grains.std()).astype(np.float32)


def _loud_place(sound: Sound, rng: Rng, n: int) -> int:
    """Where `n` samples begin that are at least half as loud as the whole, away from the ends."""
    margin = RATE
    whole = np.square(sound).mean()
    last = sound.shape[1] - n - margin
    if last <= margin:
        return max(0, last)
    places = rng.integers(margin, last, 50)
    return int(next((at for at in places if np.square(sound[:, at : at + n]).mean() > whole / 4), places[0]))


def _dip(n: int) -> npt.NDArray[np.float32]:
    edge = np.linspace(1, 0, 240, dtype=np.float32)
    return np.concatenate([edge, np.zeros(max(0, n - 480), np.float32), edge[::-1]])[:n]


def _fall(n: int) -> npt.NDArray[np.float32]:
    return np.concatenate([np.linspace(1, 0, 240, dtype=np.float32), np.zeros(max(0, n - 240), np.float32)])[:n]


_NOISE = ("noise", "noise-in-part")
DEFECTS: dict[str, Defect] = {
    "a sample that is no number": Defect(not_a_number, ("not-finite",)),
    **{f"a gap of {s:g} s": Defect(partial(gap, seconds=s), ("silence-inside", "dropout")) for s in (0.5, 1, 2, 5)},
    "dropouts of 50 ms": Defect(dropouts, ("dropout", "click"), gross=False),
    "2 s of silence at the head": Defect(partial(silent_head, seconds=2), ("silent-head",)),
    "4 s of silence at the head": Defect(partial(silent_head, seconds=4), ("silent-head",)),
    "a silent second half": Defect(partial(silent_tail, share=0.5), ("silent-tail",)),
    **{
        f"{s} s of {colour} noise at {db} dB": Defect(
            partial(noise, seconds=s, db=db, exponent=exponent), _NOISE, gross=exponent < 2
        )
        for colour, exponent in (("white", 0), ("pink", 1), ("brown", 2))
        for s, db in ((1, 0), (3, 0), (1000, 0))
    },
    "3 s of white noise in one channel": Defect(partial(noise, seconds=3, side=True), _NOISE),
    "white noise 20 dB below": Defect(partial(noise, seconds=1000, db=-20), _NOISE, gross=False),
    "the last third is white noise": Defect(partial(noise_instead, exponent=0, share=1 / 3), _NOISE),
    "only white noise": Defect(partial(noise_instead, exponent=0), _NOISE),
    "only pink noise": Defect(partial(noise_instead, exponent=1), _NOISE),
    "only brown noise": Defect(partial(noise_instead, exponent=2), ("shuffled", "frozen", "noise"), gross=False),
    **{f"a loop of {s:g} s": Defect(partial(loop, seconds=s), ("loop",)) for s in (0.2, 0.5, 1, 2, 4, 8)},
    "3 s of one frame": Defect(partial(frozen, seconds=3), ("loop",), gross=False),
    "frames of 40 ms in another order": Defect(partial(shuffled, frame_s=0.04), ("shuffled",)),
    "frames of 200 ms in another order": Defect(partial(shuffled, frame_s=0.2), ("shuffled",), gross=False),
    "one click": Defect(partial(clicks, count=1), ("click",), gross=False),
    "20 clicks": Defect(partial(clicks, count=20), ("click",)),
    "clipped by 3 dB": Defect(partial(clipped, db=3), ("clipping",), gross=False),
    "clipped by 6 dB": Defect(partial(clipped, db=6), ("clipping",)),
    "clipped by 12 dB": Defect(partial(clipped, db=12), ("clipping",)),
    "clipped by 6 dB, then turned down": Defect(partial(clipped, db=6, gain=0.7), ("clipping",)),
    "clipped by 6 dB, then resampled": Defect(partial(clipped_and_resampled, db=6), ("clipping",), gross=False),
    "low-pass at 2 kHz": Defect(partial(low_pass, hz=2000), ("dull",)),
    "low-pass at 4 kHz": Defect(partial(low_pass, hz=4000), ("dull",)),
    "a dead channel": Defect(partial(channel, gain=0), ("dead-channel",)),
    "an inverted channel": Defect(partial(channel, gain=-1), ("polarity",)),
    "a channel at -15 dB": Defect(partial(channel, gain=10 ** (-15 / 20)), ("unbalanced", "dead-channel")),
    "mono": Defect(mono, ("mono",), gross=False),
    "a tone of 3 kHz at -20 dB": Defect(partial(tone, hz=3000, db=-20), ("steady-tone",), gross=False),
    "hum at -15 dB": Defect(partial(hum, db=-15), ("hum",), gross=False),
    "a comb of 3 ms": Defect(comb, ("comb",), gross=False),
}

"""Noise: a spectrum without peaks, over the whole take or for half a second of it, in both channels or in one.

Flatness alone is no proof, since cymbals and synthesised wind have it for moments, and neither is a wide spread of the
energy, which dense synthesiser music has. Noise of any colour is flat, it is so in most bands, and it is steady: music
has beats or notes. A breath or a bell may have all three for half a second, so noise is proven by a second of it, or by
a flatness that no music has. Limits: 77 real recordings of 45 s and noise of 1 s, as loud as the music, in 16 of them
(2026-11-30): white was found in all, pink in 15.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from catalog.flaws import Flaw, in_words
from workers.audio.checks.analysis import (
    FRAME_S,
    FRAMES_IN_HALF,
    Analysis,
    Floats,
    Mask,
    bin_of,
    spans_of,
)

FLATNESS_WARN: Final = 0.12  # of the whole; music < .005, real rock .11; pink noise .31, white .56
FLATNESS_STOP: Final = 0.25
SHARE_WARN: Final = 0.58  # real music .58 to 1; pink noise .48, white .20
SHARE_STOP: Final = 0.6  # where the spectrum is flat, too


class Signs(NamedTuple):
    """The three signs of noise, (2 channels, half seconds) each."""

    flatness: Floats
    noisy_bands: Floats  # part of the bands whose spectrum is flat, too
    unsteady_db: Floats  # deviation of the level within the half second, in the middle one of the bands


class Limits(NamedTuple):
    """The least flatness and the least part of noisy bands of noise, and its greatest deviation."""

    flatness: float
    noisy_bands: float
    unsteady_db: float


PROOF: Final = Limits(0.08, 0.65, 1.3)  # for a second
STRONG_PROOF: Final = Limits(0.25, 0.0, 2.0)  # at once
SUSPICION: Final = Limits(0.06, 0.6, 1.5)
_BANDS_HZ: Final = np.geomspace(200, 12_000, 25)
_FLAT_BAND: Final = 0.75  # of 1; noise over half a second .9
_MONO: Final = 2


def flatness_of(analysis: Analysis) -> float:
    """Median flatness of the mono mix."""
    return _median(analysis.spectra.flatness[_MONO], analysis, nothing=0.0)


def find_noise(analysis: Analysis) -> Iterator[Flaw]:
    """Noise throughout, or else in part."""
    whole = list(_throughout(analysis))
    yield from whole
    if not any(flaw.stops for flaw in whole):
        yield from _in_part(analysis)


def _throughout(analysis: Analysis) -> Iterator[Flaw]:
    flatness = flatness_of(analysis)
    share = _median(analysis.spectra.strongest_share[_MONO], analysis, nothing=1.0)
    stops = flatness > FLATNESS_STOP and share < SHARE_STOP
    if flatness > FLATNESS_WARN:
        limit = FLATNESS_STOP if stops else FLATNESS_WARN
        text = f"like noise: spectral flatness {flatness:.3f} (limit {limit})"
        yield Flaw(kind="noise", text=text, stops=stops, value=round(flatness, 4), limit=limit)
    limit = SHARE_STOP if stops else SHARE_WARN
    if share < limit:
        text = f"like noise: the strongest 5 % of frequencies hold {share:.2f} of the energy (at least {limit})"
        yield Flaw(kind="noise", text=text, stops=stops, value=round(share, 4), limit=limit)


def _in_part(analysis: Analysis) -> Iterator[Flaw]:
    signs = signs_of(analysis)
    lasting = _has(signs, PROOF)
    proven = (lasting & _has_neighbour(lasting)) | _has(signs, STRONG_PROOF)
    stops = bool(proven.any())
    noisy = proven if stops else _has(signs, SUSPICION)
    if not noisy.any():
        return
    spans_s = spans_of(noisy[0] | noisy[1], FRAMES_IN_HALF * FRAME_S)
    flatness = float(np.max(np.where(noisy, signs.flatness, 0)))
    limit = PROOF.flatness if stops else SUSPICION.flatness
    text = f"noise in part: {in_words(spans_s)}, steady, spectral flatness {flatness:.2f} (limit {limit})"
    yield Flaw(kind="noise-in-part", text=text, stops=stops, value=round(flatness, 4), limit=limit, spans_s=spans_s)


def _has_neighbour(found: Mask) -> Mask:
    """True where the half second before or after has been found, too."""
    before, after = np.zeros_like(found), np.zeros_like(found)
    before[:, 1:], after[:, :-1] = found[:, :-1], found[:, 1:]
    return before | after


def _has(signs: Signs, limits: Limits) -> Mask:
    """(2, half seconds): those in which all three signs are beyond their limits."""
    flat, noisy = signs.flatness > limits.flatness, signs.noisy_bands > limits.noisy_bands
    return np.asarray(flat & noisy & (signs.unsteady_db < limits.unsteady_db))


def signs_of(analysis: Analysis) -> Signs:
    """The signs of noise in each half second; a quiet one has none."""
    spectra = analysis.spectra
    power = spectra.by_half + np.float32(1e-25)
    n_halves = power.shape[1]
    frames = slice(0, n_halves * FRAMES_IN_HALF)
    heard = np.where(analysis.heard[:_MONO, frames], spectra.flatness[:_MONO, frames], 0)
    flatness = np.median(heard.reshape(_MONO, n_halves, FRAMES_IN_HALF), axis=2)
    edges = [bin_of(hz) for hz in _BANDS_HZ]
    means = np.add.reduceat(power[:, :, : edges[-1]], edges[:-1], axis=2) / np.diff(edges)
    logs = np.add.reduceat(np.log(power[:, :, : edges[-1]]), edges[:-1], axis=2) / np.diff(edges)
    total = power.sum(axis=2)
    loud = total > total.mean(axis=1, keepdims=True) * 1e-3
    noisy_bands = (np.exp(logs) / means > _FLAT_BAND).mean(axis=2) * loud
    mel_db = spectra.mel_db[frames].reshape(n_halves, FRAMES_IN_HALF, -1)
    return Signs(flatness, noisy_bands, np.median(mel_db.std(axis=1), axis=1))


def _median(values: Floats, analysis: Analysis, *, nothing: float) -> float:
    heard = values[analysis.heard[_MONO]]
    return float(np.median(heard)) if heard.size else nothing  # the mix of channels in antiphase is silent

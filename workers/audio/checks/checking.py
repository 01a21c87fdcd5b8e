"""Checking: one take's raw audio against what was asked for, with every reason at once.

Broken audio (not a number, wrong length, digital silence) always stops a take. Flaws that trained weights should never
make (noise, a dead side, clipping) stop it too, but are only a warning where the weights are random and make noise by
design. Where a value is a statistic of the sound, two of different nature must agree before a take is stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from catalog.flaws import Flaw, FlawPolicy
from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from catalog.models import find_model
from catalog.sidecar import Measures
from catalog.spec import INSTRUMENTAL, TrackSpec
from workers.audio.checks.analysis import FRAME_SAMPLES, Analysis, decibels
from workers.audio.checks.distortion import find_clicks, find_clipping
from workers.audio.checks.level import find_level_flaws
from workers.audio.checks.noise import find_noise, flatness_of
from workers.audio.checks.repetition import find_disorder, find_loops, find_stillness
from workers.audio.checks.stereo import find_stereo_flaws
from workers.audio.checks.timbre import find_timbre_flaws, treble_of
from workers.audio.checks.voice import find_voice
from workers.audio.offset import DC_OFFSET, HIGH_PASS_HZ, offset_of, without_offset
from workers.engine.protocol import Audio

NO_POLICIES: Final[Mapping[str, FlawPolicy]] = MappingProxyType({})
PHRASE_BARS: Final = 4  # after which simple synthesis repeats by design


class Rejected(Exception):
    """The audio is not fit to be stored; `reasons` are for a person, `flaws` for programs."""

    def __init__(self, reasons: list[str], flaws: Sequence[Flaw] = ()) -> None:
        super().__init__(reasons, flaws)
        self.reasons = reasons
        self.flaws = list(flaws)

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def check_audio(audio: Audio, spec: TrackSpec, *, noise: bool, **more: Any) -> Measures:
    """The measures of `check_and_analyse` alone."""
    return check_and_analyse(audio, spec, noise=noise, **more)[0]


def check_and_analyse(
    audio: Audio,
    spec: TrackSpec,
    *,
    noise: bool,
    policies: Mapping[str, FlawPolicy] = NO_POLICIES,
) -> tuple[Measures, Analysis]:
    """Measure raw audio, float32 (2, n) at 48 kHz, and raise Rejected when it is not what `spec` asks for.

    `noise` says that the weights are random: a flaw of trained weights becomes a warning. `policies` say by kind what
    the catalog makes of a flaw. The audio is only read; the measures are of what `without_offset` makes of it.
    """
    broken = list(_broken(audio, spec))
    if not _measurable(audio):
        raise _rejected(broken)
    offset = offset_of(audio)
    analysis = Analysis(without_offset(audio))
    flaws = list(_judged(_find_flaws(audio, analysis, spec), policies))
    stopping = [] if noise else [flaw for flaw in flaws if flaw.stops]
    if broken or stopping:
        raise _rejected([*broken, *stopping])
    flaws = [flaw.model_copy(update={"stops": False}) for flaw in flaws]
    measures = Measures(
        rms_dbfs=round(analysis.rms_dbfs, 2),
        peak_dbfs=round(decibels(analysis.peak), 2),
        spectral_flatness=round(flatness_of(analysis), 5),
        treble_db=round(treble_of(analysis), 1),
        high_pass_hz=HIGH_PASS_HZ if offset > DC_OFFSET else 0.0,
        flaws=flaws,
        warnings=[flaw.text for flaw in flaws],
    )
    return measures, analysis


def _find_flaws(audio: Audio, analysis: Analysis, spec: TrackSpec) -> Iterator[Flaw]:
    if spec.lyrics == INSTRUMENTAL:
        yield from find_voice(analysis)  # first, because a listener should follow it first
    yield from find_level_flaws(analysis)
    yield from find_stereo_flaws(analysis)
    noise = list(find_noise(analysis))
    yield from noise
    yield from find_clipping(audio)
    yield from find_clicks(analysis)
    yield from find_loops(analysis, phrase_s=_phrase_s(spec))
    if not any(flaw.kind == "noise" for flaw in noise):  # which is still and in disorder by nature
        yield from find_stillness(analysis)
        yield from find_disorder(analysis)
    yield from find_timbre_flaws(analysis)


def _judged(flaws: Iterable[Flaw], policies: Mapping[str, FlawPolicy]) -> Iterator[Flaw]:
    """The flaws as their catalog judges them: a lo-fi genre is meant to crackle."""
    for flaw in flaws:
        policy = policies.get(flaw.kind, "reject" if flaw.stops else "warn")
        if policy != "off":
            yield flaw.model_copy(update={"stops": policy == "reject"})


def _phrase_s(spec: TrackSpec) -> float | None:
    """Seconds after which the music may repeat to the sample; None for a model that never should."""
    if find_model(spec.model).source_type != "algorithmicMedia" or spec.is_open:
        return None
    quarters = 3 if spec.music.timesignature == "6" else int(spec.music.timesignature)
    return PHRASE_BARS * quarters * 60 / spec.music.bpm


def _rejected(flaws: Iterable[Flaw]) -> Rejected:
    flaws = list(flaws)
    return Rejected([flaw.text for flaw in flaws], flaws)


def _broken(audio: Audio, spec: TrackSpec) -> Iterator[Flaw]:
    """Flaws that stop a take of any weights."""
    expected = (CHANNELS, spec.n_samples)
    if audio.shape != expected:
        text = f"shape {audio.shape}, expected {expected}: {spec.duration_s} s of stereo at {SAMPLE_RATE_HZ} Hz"
        yield _break("wrong-length", text, audio.shape[-1] if audio.shape else 0, spec.n_samples)
    bad = audio.size - int(np.count_nonzero(np.isfinite(audio)))
    if bad:
        yield _break("not-finite", f"{bad} samples are not finite (limit 0)", bad)
    elif not audio.any():
        yield _break("digital-silence", "digital silence: every sample is 0", 0)


def _break(kind: str, text: str, value: float, limit: float = 0) -> Flaw:
    return Flaw(kind=kind, text=text, stops=True, value=value, limit=limit, unit="samples")


def _measurable(audio: Audio) -> bool:
    stereo = audio.ndim == 2 and audio.shape[0] == CHANNELS and audio.shape[1] >= FRAME_SAMPLES
    return stereo and bool(np.isfinite(audio).all()) and bool(audio.any())

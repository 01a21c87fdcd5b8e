"""Master: a checked take becomes the finished file: ends faded, level set, rounded once, encoded, tagged.

Nothing here can change how a take sounds beyond one gain, its two ends, and a limiter where the order asks for one; the
length stays exact to the sample. The same audio and take give the same PCM and the same file always.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Final, NamedTuple

import numpy as np

from catalog.limits import SAMPLE_RATE_HZ
from catalog.sidecar import Measures
from catalog.spec import AudioFormat, MasterSpec, TrackSpec
from catalog.track import Take
from workers.audio import encode, meters, tags
from workers.audio.limiter import Limited, limit
from workers.audio.loudness import Level, gain_db, measure_level, true_peak_dbtp
from workers.audio.ogg import with_serial
from workers.engine.protocol import Audio

FADE_IN_S: Final = 0.010  # only so that no file begins with a click
FADE_OUT_S: Final = 0.050
CUT_OFF_FADE_S: Final = 2.0  # for music that still plays at its end
CUT_OFF_DB: Final = -12.0  # level of the last 50 ms against the mean: sound endings measured -72 to -17
BELOW_TARGET_LU: Final = 0.1  # worth telling


class Mastered(NamedTuple):
    """One finished file and its measurements."""

    body: bytes
    sha256: str  # of `body`
    pcm_sha256: str  # of the integer samples it was encoded from
    content_type: str
    extension: str
    n_samples: int  # a channel
    measures: Measures


def master(
    audio: Audio, take: Take, *, measures: Measures, noise: bool, model: str, rendered_spec: TrackSpec | None = None
) -> Mastered:
    """Finish raw audio, float32 (2, n) at 48 kHz, that `check_audio` accepted with `measures`.

    `model` is the name of what made it, `noise` says that its weights are random; both go into the tags.
    `rendered_spec` is the take's spec with what its planner chose, where it left something open. The audio itself is
    not written to.
    """
    spec = take.spec.master
    container = encode.CONTAINERS[spec.format]
    faded, warnings = fade_ends(audio)
    level = measure_level(faded)
    levelled = _levelled(faded, level, spec, min(spec.peak_dbtp, container.ceiling_dbtp))
    pcm = encode.pcm_of(levelled.audio, spec, gain=10 ** (levelled.gain_db / 20), dither_seed=take.dit_seed)
    found = _measures(measures, level, levelled, spec, warnings)
    labels = tags.labels_of(take, model=model, noise=noise, spec=rendered_spec, measures=found)
    body = _file(pcm, take, labels, found)
    return Mastered(
        body=body,
        sha256=sha256(body).hexdigest(),
        pcm_sha256=pcm.sha256(),
        content_type=container.content_type,
        extension=container.extension,
        n_samples=len(pcm.samples),
        measures=found,
    )


class _Levelled(NamedTuple):
    """Audio and the gain that it still gets; `limited` says what the limiter did, if it was needed."""

    audio: Audio
    gain_db: float
    true_peak_dbtp: float  # of the audio, before the gain
    limited: Limited | None = None


def _levelled(audio: Audio, level: Level, spec: MasterSpec, ceiling_dbtp: float) -> _Levelled:
    """The gain towards the target; where peaks are in its way and the order allows it, the peaks are limited first."""
    target = spec.loudness_lufs
    plain = _Levelled(audio, gain_db(level, target_lufs=target, ceiling_dbtp=ceiling_dbtp), level.true_peak_dbtp)
    wanted_db = 0.0 if target is None else target - (level.loudness_lufs or target)
    if not spec.limiter_db or level.loudness_lufs is None or plain.gain_db >= wanted_db:
        return plain
    limited = limit(audio, level, target_lufs=target, ceiling_dbtp=ceiling_dbtp, bound_db=spec.limiter_db)
    if limited.gain_db <= plain.gain_db:  # the bound is smaller than the limiter's own margin
        return plain
    peak_dbtp = true_peak_dbtp(limited.audio)
    return _Levelled(limited.audio, min(limited.gain_db, ceiling_dbtp - peak_dbtp), peak_dbtp, limited)


def fade_ends(audio: Audio) -> tuple[Audio, list[str]]:
    """A copy of (2, n) audio that starts and ends at zero, and warnings about its end."""
    faded = np.array(audio, np.float32)
    n_in, n_out = round(FADE_IN_S * SAMPLE_RATE_HZ), round(FADE_OUT_S * SAMPLE_RATE_HZ)
    mean, end = (float(np.square(part, dtype=np.float64).mean()) for part in (faded, faded[:, -n_out:]))
    warnings = []
    end_db = 10 * math.log10(end / mean) if end else -math.inf
    if end_db > CUT_OFF_DB:
        n_out = round(CUT_OFF_FADE_S * SAMPLE_RATE_HZ)
        warnings.append(
            f"still playing at its end ({end_db:+.1f} dB against its mean, limit {CUT_OFF_DB:+.0f}): "
            f"faded out over {CUT_OFF_FADE_S:.0f} s"
        )
    faded[:, :n_in] *= _rise(n_in)
    faded[:, -n_out:] *= _rise(n_out)[::-1]
    return faded, warnings


def _rise(n: int) -> Audio:
    """Half a cosine from 0 to 1."""
    return (0.5 - 0.5 * np.cos(np.linspace(0, np.pi, n))).astype(np.float32)


def _file(pcm: encode.Pcm, take: Take, labels: tags.Fields, measures: Measures) -> bytes:
    spec = take.spec.master
    form, has_all = spec.format, tags.has_mutagen()
    body = encode.encode(
        pcm,
        form,
        {} if has_all else tags.sndfile_strings(labels, form),
        chunks=tags.wav_chunks(labels, measures) if form is AudioFormat.WAV else {},
        options=encode.options_of(spec),
    )
    body = tags.write_tags(body, form, labels) if has_all else body
    # The encoders draw the stream's number at random.
    return with_serial(body, int(take.id[:8], 16)) if form in (AudioFormat.OGG, AudioFormat.OPUS) else body


def _measures(measures: Measures, level: Level, levelled: _Levelled, spec: MasterSpec, warnings: list[str]) -> Measures:
    """The measures of the checks, completed with those of the finished audio, before it is rounded."""
    before, limited = level.loudness_lufs, levelled.limited
    readings = meters.read_meters(meters.energies_of(levelled.audio) * 10 ** (levelled.gain_db / 10))
    # Without the limiter the gain is linear, so the loudness after it needs no second measurement.
    after = readings.integrated_lufs if limited else None if before is None else before + levelled.gain_db
    return measures.model_copy(
        update={
            "loudness_in_lufs": _rounded(before),
            "loudness_out_lufs": _rounded(after),
            "true_peak_dbtp": round(levelled.true_peak_dbtp + levelled.gain_db, 2),
            "gain_db": round(levelled.gain_db, 3),
            "warnings": [*measures.warnings, *warnings, *_level_warnings(after, spec)],
            "max_momentary_lufs": _rounded(readings.max_momentary_lufs),
            "max_short_term_lufs": _rounded(readings.max_short_term_lufs),
            "loudness_range_lu": _rounded(readings.range_lu),
            "limited_db": round(limited.reduction_db, 2) if limited else None,
            "limited_share": round(limited.share, 4) if limited else None,
        }
    )


def _level_warnings(after: float | None, spec: MasterSpec) -> list[str]:
    target = spec.loudness_lufs
    if target is None:
        return []
    if after is None:
        return ["too sparse for the loudness meter: brought to the peak ceiling instead"]
    if after >= target - BELOW_TARGET_LU:
        return []
    bound = f", of which the limiter takes {spec.limiter_db:g} dB at most" if spec.limiter_db else ""
    return [f"{target - after:.1f} LU below the target of {target:g} LUFS: its peaks leave no room{bound}"]


def _rounded(level: float | None) -> float | None:
    return None if level is None else round(level, 2)

"""Master: a checked take becomes the finished file: ends faded, level set, rounded once, encoded, tagged.

Nothing here can change how a take sounds beyond one gain and its two ends, and the length stays exact to the
sample. The same audio and take give the same PCM always, and the same file in every format but Ogg, whose
encoders draw a random stream number.
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
from workers.audio import encode, tags
from workers.audio.loudness import Level, gain_db, measure_level
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
    ceiling_dbtp = min(spec.peak_dbtp, container.ceiling_dbtp)
    change_db = gain_db(level, target_lufs=spec.loudness_lufs, ceiling_dbtp=ceiling_dbtp)
    pcm = encode.quantise(
        faded,
        gain=10 ** (change_db / 20),
        bit_depth=encode.bit_depth(spec),
        dither_seed=take.dit_seed,
    )
    labels = tags.labels_of(take, model=model, noise=noise, spec=rendered_spec)
    body = _file(pcm, spec.format, labels)
    return Mastered(
        body=body,
        sha256=sha256(body).hexdigest(),
        pcm_sha256=pcm.sha256(),
        content_type=container.content_type,
        extension=container.extension,
        n_samples=len(pcm.samples),
        measures=_measures(measures, level, change_db, spec, warnings),
    )


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


def _file(pcm: encode.Pcm, audio_format: AudioFormat, labels: tags.Labels) -> bytes:
    if tags.has_mutagen():
        return tags.write_tags(encode.encode(pcm, audio_format, {}), audio_format, labels)
    return encode.encode(pcm, audio_format, tags.sndfile_strings(labels, audio_format))


def _measures(measures: Measures, level: Level, change_db: float, spec: MasterSpec, warnings: list[str]) -> Measures:
    """The measures of the checks, completed. The gain is linear, so the levels after it need no second measurement."""
    before = level.loudness_lufs
    after = None if before is None else before + change_db
    target = spec.loudness_lufs
    if target is not None and after is None:
        warnings = [*warnings, "too sparse for the loudness meter: brought to the peak ceiling instead"]
    elif target is not None and after is not None and after < target - BELOW_TARGET_LU:
        warnings = [*warnings, f"{target - after:.1f} LU below the target of {target:g} LUFS: its peaks leave no room"]
    return measures.model_copy(
        update={
            "loudness_in_lufs": None if before is None else round(before, 2),
            "loudness_out_lufs": None if after is None else round(after, 2),
            "true_peak_dbtp": round(level.true_peak_dbtp + change_db, 2),
            "gain_db": round(change_db, 3),
            "warnings": [*measures.warnings, *warnings],
        }
    )

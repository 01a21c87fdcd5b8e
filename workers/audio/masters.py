"""Masters: checked audio is kept lossless, before its ends and its loudness are set, so that it can be finished again.

A master is FLAC of 24 bits at a gain that is written down, so that the highest sample lies just below full scale. What
is finished from it differs from what is finished from the engine's own audio by less than a step of 24 bits.
"""

from __future__ import annotations

import io
from hashlib import sha256
from typing import Final

import numpy as np
import soundfile

from catalog.errors import StoreError
from catalog.keys import master_key
from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from catalog.sidecar import AudioFile, MasterFile
from catalog.spec import AudioFormat
from catalog.track import Take
from workers.audio import encode
from workers.engine.protocol import Audio

PEAK_DBFS: Final = -1.0
BIT_DEPTH: Final = 24


def make_master(audio: Audio, take: Take) -> tuple[MasterFile, bytes]:
    """The master of (2, n) float audio at 48 kHz that passed its checks: its description and the file's bytes."""
    container = encode.CONTAINERS[AudioFormat.FLAC]
    gain_db = round(PEAK_DBFS - 20 * np.log10(float(np.abs(audio).max())), 3)
    pcm = encode.quantise(audio, gain=10 ** (gain_db / 20), bit_depth=BIT_DEPTH, dither_seed=take.dit_seed)
    body = encode.encode(pcm, AudioFormat.FLAC, {})
    digest = sha256(body).hexdigest()
    file = AudioFile(
        key=master_key(take, digest, container.extension),
        sha256=digest,
        pcm_sha256=pcm.sha256(),
        bytes=len(body),
        content_type=container.content_type,
        format=AudioFormat.FLAC,
        sample_rate_hz=SAMPLE_RATE_HZ,
        channels=CHANNELS,
        n_samples=len(pcm.samples),
    )
    return MasterFile(audio=file, gain_db=gain_db), body


def read_audio(body: bytes, gain_db: float) -> Audio:
    """The engine's audio, float32 (2, n), out of a lossless file that holds it with that gain. Raises StoreError."""
    try:
        samples, rate_hz = soundfile.read(io.BytesIO(body), dtype="int32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _unusable(str(error)) from None
    if rate_hz != SAMPLE_RATE_HZ or samples.shape[1] != CHANNELS:
        raise _unusable(f"it has {samples.shape[1]} channels at {rate_hz} Hz")
    scale = 1 / (2.0**31 * 10 ** (gain_db / 20))
    return np.ascontiguousarray((samples.T * scale).astype(np.float32))


def _unusable(why: str) -> StoreError:
    return StoreError(
        "stored audio cannot be decoded", why=why, fix="`tunemill catalog verify` finds what else is damaged"
    )

"""Encode: float audio is rounded to integers once, and every format is made from those integers.

So WAV and FLAC of one take hold the same samples, and `pcm_sha256` names the audio whatever its container. WAV in
floating point, for those who go on working with the audio, is the one format that is not rounded. The libraries' own
conversion is avoided: for WAV libsndfile cuts instead of rounding, which would shift 16-bit audio by half a step.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from catalog.spec import AudioFormat, MasterSpec
from workers.audio.wav import wav_file
from workers.engine.protocol import Audio


class Container(NamedTuple):
    """One file format: its names, and the arguments that libsndfile wants for it."""

    extension: str
    content_type: str
    sndfile_format: str
    subtype: str  # empty: PCM of the chosen bit depth
    # Decoded peaks overshoot the master's: Opus by up to 2 dB, Vorbis by 1.6, MP3 at 320 kbit/s by .5 (measured on
    # transients and clipped mixes). Two dB are usual; more would cost every track loudness.
    ceiling_dbtp: float = 0.0
    options: dict[str, str | float] = {}


CONTAINERS: Final = {
    AudioFormat.FLAC: Container("flac", "audio/flac", "FLAC", ""),
    AudioFormat.WAV: Container("wav", "audio/wav", "WAV", ""),
    # A bit rate mode without a compression level is ignored; 0.0 means 320 kbit/s.
    AudioFormat.MP3: Container(
        "mp3", "audio/mpeg", "MP3", "MPEG_LAYER_III", options={"bitrate_mode": "CONSTANT", "compression_level": 0.0}
    ),
    AudioFormat.OGG: Container("ogg", "audio/ogg", "OGG", "VORBIS", ceiling_dbtp=-2.0),
    AudioFormat.OPUS: Container("opus", "audio/ogg", "OGG", "OPUS", ceiling_dbtp=-2.0),
}
LOSSY_BIT_DEPTH: Final = 24  # lossy formats have none of their own; they are made from a 24-bit master
FLOAT_BITS: Final = 32
_LAME_WORST: Final = 0.999  # a level of 1 is refused
# libvorbis overflows its stack on a minute of samples in one call.
_CHUNK_SAMPLES: Final = SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Pcm:
    """Finished samples, (n, 2): int32, each within `bit_depth` bits, or float32 of full scale 1."""

    samples: npt.NDArray[Any]
    bit_depth: int

    @property
    def is_float(self) -> bool:
        """True for samples that were not rounded."""
        return self.samples.dtype.kind == "f"

    def packed(self) -> bytes:
        """The interleaved samples, little-endian, each in the bytes it needs: the data chunk of the WAV file."""
        plain = self.samples.astype("<f4" if self.is_float else "<i4", copy=False)
        return np.ascontiguousarray(plain.view(np.uint8).reshape(-1, 4)[:, : self.bit_depth // 8]).tobytes()

    def sha256(self) -> str:
        """Hex digest of the packed samples."""
        return sha256(self.packed()).hexdigest()


def pcm_of(audio: Audio, spec: MasterSpec, *, gain: float, dither_seed: int) -> Pcm:
    """The finished samples of (2, n) float audio times `gain`, as the deliverable asks for them."""
    if spec.sample_type == "float" and spec.format is AudioFormat.WAV:
        return Pcm(np.ascontiguousarray((audio.T * np.float64(gain)).astype(np.float32)), FLOAT_BITS)
    bits = LOSSY_BIT_DEPTH if CONTAINERS[spec.format].subtype else spec.bit_depth
    return quantise(audio, gain=gain, bit_depth=bits, dither_seed=dither_seed)


def quantise(audio: Audio, *, gain: float, bit_depth: int, dither_seed: int) -> Pcm:
    """Round (2, n) float audio times `gain` to integers, full scale being 2**(bit_depth - 1) - 1.

    16 bits get triangular dither of one step from `dither_seed`, so that the same take always has the same bits;
    24 bits lie below any noise floor and need none.
    """
    full_scale = 2 ** (bit_depth - 1) - 1
    scaled = audio.T * np.float64(gain * full_scale)
    if bit_depth == 16:
        rng = np.random.default_rng(dither_seed)
        scaled += rng.random(scaled.shape, np.float32)
        scaled -= rng.random(scaled.shape, np.float32)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -full_scale - 1, full_scale, out=scaled)
    return Pcm(np.ascontiguousarray(scaled, dtype=np.int32), bit_depth)


def encode(
    pcm: Pcm,
    audio_format: AudioFormat,
    strings: Mapping[str, str],
    *,
    chunks: Mapping[str, bytes] | None = None,
    options: Mapping[str, str | float] | None = None,
) -> bytes:
    """The whole file.

    `strings` are libsndfile's own text fields, such as title and genre, and `chunks` those of WAV (both by
    `workers.audio.tags`). `options` are laid over those of the container; see `options_of`.
    """
    if audio_format is AudioFormat.WAV:
        return wav_file(pcm.packed(), pcm.bit_depth, is_float=pcm.is_float, chunks=chunks or {})
    container = CONTAINERS[audio_format]
    subtype = container.subtype or f"PCM_{pcm.bit_depth}"
    chosen = {**container.options, **(options or {})}
    out = io.BytesIO()
    with soundfile.SoundFile(
        out, "w", SAMPLE_RATE_HZ, CHANNELS, subtype, format=container.sndfile_format, **chosen
    ) as file:
        for name, text in strings.items():
            setattr(file, name, text)
        for at in range(0, len(pcm.samples), _CHUNK_SAMPLES):
            chunk = pcm.samples[at : at + _CHUNK_SAMPLES]
            if container.subtype:
                file.write(chunk / np.float32(2 ** (pcm.bit_depth - 1)))
            else:  # libsndfile takes the highest bits of an int32, untouched
                file.write(chunk << (32 - pcm.bit_depth))
    return out.getvalue()


def options_of(spec: MasterSpec) -> dict[str, str | float]:
    """The bit rate or quality in libsndfile's terms: a compression level from 0, the best, to 1."""
    if spec.bitrate_kbps is not None and spec.format is AudioFormat.MP3:
        return {"compression_level": (320 - spec.bitrate_kbps) / 288}
    if spec.bitrate_kbps is not None and spec.format is AudioFormat.OPUS:
        return {"compression_level": (512 - spec.bitrate_kbps) / 500}
    if spec.vbr_quality is not None and spec.format is AudioFormat.MP3:
        return {"bitrate_mode": "VARIABLE", "compression_level": min(1 - spec.vbr_quality, _LAME_WORST)}
    if spec.vbr_quality is not None and spec.format is AudioFormat.OGG:
        return {"compression_level": 1 - spec.vbr_quality}
    return {}

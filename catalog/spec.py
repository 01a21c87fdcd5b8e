"""TrackSpec: everything the model is told about one track, and nothing about where it is filed.

A spec is frozen, complete and inside the model's published limits; its fingerprint is the hash of its
canonical JSON with the recipe version, so two specs sound the same exactly when their fingerprints agree.
"""

from __future__ import annotations

import json
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from catalog import limits

# Raise it when the same spec would from now on sound different; every track is then rendered anew.
RECIPE_VERSION: Final = 1

INSTRUMENTAL: Final = "[Instrumental]"  # the lyric the model was trained to read as "no voice"
TINY_MODEL: Final = "tiny-random"  # random weights of the real classes: its audio is noise
TONE_MODEL: Final = "tone"  # simple synthesis, no neural network
TURBO_MODEL: Final = "acestep-v15-turbo"
DEFAULT_PLANNER: Final = "acestep-5Hz-lm-1.7B"


class Frozen(BaseModel):
    """Base of values that are complete when made and refuse what they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_key(value: str) -> str:
    if value not in limits.KEYSCALES:
        raise ValueError(f"{value!r} is no key; write a note A-G, optionally # or b, then major or minor: 'F# minor'")
    return value


def _known_language(value: str) -> str:
    if value not in limits.LANGUAGES:
        raise ValueError(f"{value!r} is not one of the model's languages: {' '.join(sorted(limits.LANGUAGES))}")
    return value


KeyScale = Annotated[str, AfterValidator(_known_key)]
Language = Annotated[str, AfterValidator(_known_language)]
Bpm = Annotated[int, Field(ge=limits.BPM_MIN, le=limits.BPM_MAX)]
DurationS = Annotated[int, Field(ge=limits.DURATION_MIN_S, le=limits.DURATION_MAX_S)]
TimeSignature = Literal["2", "3", "4", "6"]
ThinkField = Literal["bpm", "caption", "duration", "keyscale", "language", "timesignature"]


class AudioFormat(StrEnum):
    """How the finished track is encoded."""

    FLAC = "flac"
    WAV = "wav"
    MP3 = "mp3"
    OGG = "ogg"
    OPUS = "opus"


class PlannerSpec(Frozen):
    """How the language model writes the audio codes that guide the diffusion model."""

    model: str = DEFAULT_PLANNER
    cfg_scale: float = Field(default=2.0, ge=1, le=10)  # 1.0 means no guidance and half the work
    temperature: float = Field(default=0.85, gt=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, le=limits.CODEBOOK_SIZE)  # 0: off
    negative_prompt: str = "NO USER INPUT"
    # The reference writes these four when all are given; caption and language can be added.
    think_fields: tuple[ThinkField, ...] = ("bpm", "duration", "keyscale", "timesignature")
    # Upstream judged the closed turn a train/inference mismatch (2026-04); kept for comparison.
    assistant_turn: Literal["open", "closed"] = "open"


class DiffusionSpec(Frozen):
    """How the diffusion transformer walks from noise to latents."""

    steps: int = Field(default=8, ge=1, le=limits.STEPS_MAX)
    shift: float = Field(default=3.0, ge=1, le=5)


class MasterSpec(Frozen):
    """How the audio is finished and encoded."""

    format: AudioFormat = AudioFormat.FLAC
    bit_depth: Literal[16, 24] = 24  # FLAC and WAV only
    loudness_lufs: float | None = Field(default=-16.0, ge=-40, le=-8)  # None: leave the level alone
    peak_dbtp: float = Field(default=-1.0, ge=-9, le=0)


class TrackSpec(Frozen):
    """What one track should sound like. Durations are whole seconds, so codes, latents and samples come out even."""

    caption: str = Field(min_length=1)
    lyrics: str = INSTRUMENTAL
    language: Language = "unknown"
    bpm: Bpm
    keyscale: KeyScale
    timesignature: TimeSignature = "4"
    duration_s: DurationS
    model: str = Field(default=TURBO_MODEL, pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    diffusion: DiffusionSpec = DiffusionSpec()
    planner: PlannerSpec | None = PlannerSpec()  # None: the diffusion model works from text alone
    master: MasterSpec = MasterSpec()

    @model_validator(mode="after")
    def _caption_has_words(self) -> TrackSpec:
        if not self.caption.strip():
            raise ValueError("the caption is blank")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits; equal exactly when the specs (and the recipe) are."""
        text = json.dumps(
            {"recipe": RECIPE_VERSION, **self.model_dump(mode="json")},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    @property
    def n_codes(self) -> int:
        """How many planner codes cover the track: five a second."""
        return self.duration_s * limits.CODES_PER_S

    @property
    def n_latents(self) -> int:
        """Latent frames of the track: 25 a second."""
        return self.duration_s * limits.LATENTS_PER_S

    @property
    def n_samples(self) -> int:
        """Samples a channel at 48 kHz."""
        return self.duration_s * limits.SAMPLE_RATE_HZ

    @property
    def is_noise(self) -> bool:
        """Whether the model named here has random weights, so that its audio is noise by design."""
        return self.model == TINY_MODEL

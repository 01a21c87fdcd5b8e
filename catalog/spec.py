"""TrackSpec: everything that the model is told about one track, and nothing about the track's place in a catalog.

A spec is frozen, complete and inside the model's published limits. Its fingerprint is the hash of its canonical JSON
with the recipe version, so two specs sound the same exactly when their fingerprints are equal. A field that is added
later declares a neutral value (`catalog.forms`), at which the fingerprint stays the same as before.

A spec may leave tempo, key, metre or length to the planner, within bounds; such a spec is called open. Until the
planner has chosen, an open spec counts as its longest possible length. `with_metadata` puts the planner's choice into
an open spec; the result is an ordinary spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from catalog import limits
from catalog.bounded import INT32_MAX, Text
from catalog.errors import OutOfRangeError
from catalog.forms import Frozen, canonical_json, neutral
from catalog.models import DEFAULT_PLANNER, TURBO
from catalog.tasks import TEXT2MUSIC, TaskName

# Raise it when the same spec would from now on sound different; every track is then rendered anew.
RECIPE_VERSION: Final = 1
MP3_RATES_KBPS: Final = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # of MPEG-1, as far as music needs them
LIMITER_MAX_DB: Final = 5.0  # beyond, limiting is heard on music

INSTRUMENTAL: Final = "[Instrumental]"  # the lyric the model was trained to read as "no voice"


def _known_key(value: str) -> str:
    if value not in limits.KEYSCALES:
        raise ValueError(f"{value!r} is not a key; write a note A-G, perhaps # or b, then major or minor: 'F# minor'")
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
OpenField = Literal["bpm", "duration", "keyscale", "timesignature"]
OPEN_FIELDS: Final[tuple[OpenField, ...]] = get_args(OpenField)


def _in_block_order(fields: tuple[OpenField, ...]) -> tuple[OpenField, ...]:
    if not fields:
        raise ValueError(f"it names no field; name some of {', '.join(OPEN_FIELDS)}")
    return tuple(name for name in OPEN_FIELDS if name in fields)


def _rising(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] > value[1]:
        raise ValueError(f"the range {list(value)} ends before it begins; write [{value[1]}, {value[0]}]")
    return value


def _sorted(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


class AudioFormat(StrEnum):
    """The encoding of the finished track."""

    FLAC = "flac"
    WAV = "wav"
    MP3 = "mp3"
    OGG = "ogg"
    OPUS = "opus"


class PlannerSpec(Frozen):
    """The settings with which the language model writes the audio codes that guide the diffusion model."""

    model: Text = DEFAULT_PLANNER
    cfg_scale: float = Field(default=2.0, ge=1, le=10)  # 1.0 means no guidance and half the work
    temperature: float = Field(default=0.85, gt=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, le=limits.CODEBOOK_SIZE)  # 0: off
    negative_prompt: Text = "NO USER INPUT"
    # The reference writes these four when all are given; caption and language can be added.
    think_fields: tuple[ThinkField, ...] = ("bpm", "duration", "keyscale", "timesignature")
    # Upstream judged the closed turn a train/inference mismatch (2026-04); kept for comparison.
    assistant_turn: Literal["open", "closed"] = "open"
    metadata: Literal["given", "fill"] = "given"  # fill: the planner first chooses the open fields, in words
    open: Annotated[tuple[OpenField, ...], AfterValidator(_in_block_order)] = ("bpm", "keyscale", "timesignature")
    reuse: bool = False  # the further takes of a track follow the plan of its first


class DiffusionSpec(Frozen):
    """The settings with which the diffusion transformer turns noise into latents."""

    steps: int = Field(default=8, ge=1, le=limits.STEPS_MAX)
    shift: float = Field(default=3.0, ge=1, le=5)

    @property
    def further(self) -> dict[str, Any]:
        """The settings added after the first recipe that are not neutral, as plain values."""
        return self.model_dump(mode="json", exclude={"steps", "shift"})

    @property
    def as_fast(self) -> Self:
        """The same settings at a fixed `shift`, which does not change the time of a render."""
        return self.model_copy(update={"shift": 3.0})


class MasterSpec(Frozen):
    """The settings of mastering and encoding."""

    format: AudioFormat = AudioFormat.FLAC
    bit_depth: Literal[16, 24] = 24  # FLAC and WAV only
    loudness_lufs: float | None = Field(default=-16.0, ge=-40, le=-8, description="null leaves the level alone.")
    peak_dbtp: float = Field(default=-1.0, ge=-9, le=0)
    limiter_db: float = neutral(
        0.0, ge=0, le=LIMITER_MAX_DB, description="The most that peaks may be turned down to reach the loudness."
    )
    sample_type: Literal["integer", "float"] = neutral("integer", description="float: 32 bits, WAV only.")
    bitrate_kbps: int | None = neutral(None, ge=32, le=512, description="MP3 (64 to 320) and Opus.")
    vbr_quality: float | None = neutral(None, ge=0, le=1, description="MP3 and Ogg Vorbis; 1 is the best.")

    @property
    def further(self) -> dict[str, Any]:
        """The settings added after the first recipe that are not neutral, as plain values."""
        return self.model_dump(mode="json", exclude={"format", "bit_depth", "loudness_lufs", "peak_dbtp"})


class Bounds(Frozen):
    """The values from which the planner may choose; it chooses only fields with bounds. List order has no meaning."""

    bpm: Annotated[tuple[Bpm, Bpm], AfterValidator(_rising)] | None = None  # both ends included
    keyscales: Annotated[tuple[KeyScale, ...], AfterValidator(_sorted)] = ()
    timesignatures: Annotated[tuple[TimeSignature, ...], AfterValidator(_sorted)] = ()
    duration_s: Annotated[tuple[DurationS, DurationS], AfterValidator(_rising)] | None = None
    duration_step_s: int = Field(
        default=1, ge=1, le=INT32_MAX
    )  # lengths are this far apart, so that takes can share batches

    @property
    def open(self) -> tuple[OpenField, ...]:
        """The fields left to the planner, in the think block's order."""
        choices = {
            "bpm": self.bpm,
            "duration": self.duration_s,
            "keyscale": self.keyscales,
            "timesignature": self.timesignatures,
        }
        return tuple(name for name in OPEN_FIELDS if choices[name])

    def choices(self, field: OpenField) -> tuple[int, ...] | tuple[str, ...]:
        """Every value that the planner may choose for `field`; none when the field is not open."""
        if field == "keyscale":
            return self.keyscales
        if field == "timesignature":
            return self.timesignatures
        ends, step = (self.bpm, 1) if field == "bpm" else (self.duration_s, self.duration_step_s)
        return tuple(range(ends[0], ends[1] + 1, step)) if ends else ()


class Music(NamedTuple):
    """The tempo, key and metre of a track, all of them given."""

    bpm: int
    keyscale: str
    timesignature: str


class TrackSpec(Frozen):
    """The description of a track's sound. Durations are whole seconds, so codes, latents and samples are integers."""

    caption: Text = Field(min_length=1)
    lyrics: Text = INSTRUMENTAL
    language: Language = "unknown"
    bpm: Bpm | None  # None here and below: the planner chooses within `bounds`
    keyscale: KeyScale | None
    timesignature: TimeSignature | None = "4"
    duration_s: DurationS  # while it is open, the longest it may become
    bounds: Bounds | None = None
    model: str = Field(default=TURBO.name, pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    diffusion: DiffusionSpec = DiffusionSpec()
    planner: PlannerSpec | None = PlannerSpec()  # None: the diffusion model works from text alone
    master: MasterSpec = MasterSpec()

    @model_validator(mode="after")
    def _caption_has_words(self) -> TrackSpec:
        if not self.caption.strip():
            raise ValueError("the caption is blank")
        return self

    @model_validator(mode="after")
    def _open_exactly_where_the_planner_fills(self) -> TrackSpec:
        open_fields = self.bounds.open if self.bounds else ()
        filled = self.planner.open if self.planner and self.planner.metadata == "fill" else ()
        if filled != open_fields or (self.bounds and not open_fields):
            asked, given = (", ".join(fields) or "nothing" for fields in (filled, open_fields))
            raise ValueError(f"the planner is to fill {asked}, and there are bounds for {given}")
        for field in ("bpm", "keyscale", "timesignature"):
            if (getattr(self, field) is None) is not (field in open_fields):
                raise ValueError(f"{field} must be None exactly where the planner fills it")
        if self.bounds and self.bounds.duration_s and self.duration_s != self.bounds.choices("duration")[-1]:
            raise ValueError("an open duration counts as the longest it may become")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits; equal exactly when two specs agree in all that can be heard, under one recipe version."""
        return _hash(self._heard)

    @cached_property
    def sound(self) -> str:
        """32 hex digits; equal exactly when two specs differ at most in their finishing (`master`).

        Two takes of one slot and one number with the same sound are the same music: the file of one can be made from
        the master of the other, without a GPU.
        """
        return _hash({name: value for name, value in self._heard.items() if name != "master"})

    @cached_property
    def _heard(self) -> dict[str, Any]:
        """Everything that can be heard, as plain values."""
        # `bounds` states the filled fields, and the seeds of further takes show that a plan is reused.
        unheard: dict[str, Any] = {"planner": {"metadata", "open", "reuse"}}
        if self.bounds is None:
            unheard["bounds"] = True
        return self.model_dump(mode="json", exclude=unheard)

    @property
    def task(self) -> TaskName:
        """The name of the task, one of `catalog.tasks`."""
        return TEXT2MUSIC.name

    @property
    def is_open(self) -> bool:
        """True when the planner still has to choose a field."""
        return self.bounds is not None

    @property
    def music(self) -> Music:
        """Tempo, key and metre. Raises ValueError while one of them is open."""
        if self.bpm is None or self.keyscale is None or self.timesignature is None:
            raise ValueError("tempo, key or metre is still open; complete the spec with the metadata of its plan first")
        return Music(self.bpm, self.keyscale, self.timesignature)

    @property
    def n_codes(self) -> int:
        """The number of planner codes for the whole track: five per second."""
        return self.duration_s * limits.CODES_PER_S

    @property
    def n_latents(self) -> int:
        """The number of latent frames of the track: 25 per second."""
        return self.duration_s * limits.LATENTS_PER_S

    @property
    def n_samples(self) -> int:
        """The number of samples per channel at 48 kHz."""
        return self.duration_s * limits.SAMPLE_RATE_HZ


def _hash(heard: dict[str, Any]) -> str:
    return blake2b(canonical_json({"recipe": RECIPE_VERSION, **heard}), digest_size=16).hexdigest()


def with_metadata(spec: TrackSpec, metadata: Mapping[str, str | int]) -> TrackSpec:
    """`spec` with the planner's choices: complete, and equal to a spec in which these values were given from the start.

    `metadata` is that of a plan; a spec that is not open is returned unchanged. A field that the planner chose stays in
    the think block. Raises OutOfRangeError for a choice that is missing or outside the bounds.
    """
    if spec.bounds is None or spec.planner is None:
        return spec
    chosen: dict[str, Any] = {}
    for field in spec.bounds.open:
        value = metadata.get(field)
        value = str(value) if field == "timesignature" and value is not None else value
        if value not in (choices := spec.bounds.choices(field)):
            raise OutOfRangeError(
                f"the plan says {value!r} for {field}; the spec leaves open {_in_words(choices)}",
                why="the plan was written for another spec, or somebody has changed it",
                fix="plan the take anew",
            )
        chosen["duration_s" if field == "duration" else field] = value
    think_fields = (*spec.planner.think_fields, *sorted(set(spec.bounds.open) - set(spec.planner.think_fields)))
    planner = PlannerSpec(
        **spec.planner.model_dump(exclude={"metadata", "open", "think_fields"}), think_fields=think_fields
    )
    # Not model_copy, which would take the open spec's fingerprint along.
    given = {name: getattr(spec, name) for name in TrackSpec.model_fields}
    return TrackSpec(**{**given, **chosen, "bounds": None, "planner": planner})


def _in_words(choices: tuple[int, ...] | tuple[str, ...]) -> str:
    if len(choices) > 2 and isinstance(choices[0], int):
        return f"{choices[0]}, {choices[1]} ... {choices[-1]}"
    return ", ".join(map(str, choices))

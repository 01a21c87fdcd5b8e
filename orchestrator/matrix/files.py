"""The preset language: the keys and values of zone, genre and catalog files.

These Pydantic models define the whole language: the JSON Schemas for editors are made from them, and an unknown key is
an error. Values are checked against the model's published limits here, before any track is made.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from catalog import limits
from catalog.flaws import BROKEN, FlawPolicy
from catalog.flaws import KINDS as KINDS_OF_FLAWS
from catalog.forms import Frozen
from catalog.models import model_meant
from catalog.scores import DEFAULT_SCORERS, SCORES_MAX
from catalog.seeds import SEED_LIMIT
from catalog.spec import (
    Bpm,
    DiffusionSpec,
    DurationS,
    KeyScale,
    Language,
    MasterSpec,
    PlannerSpec,
    TimeSignature,
)
from catalog.tags import Tags
from catalog.tiers import TIERS
from orchestrator.matrix.captions import Template
from orchestrator.matrix.knobs import with_choices_of, with_values_of
from orchestrator.matrix.located import TEXT_MAX
from orchestrator.matrix.names import FILE_NAME, MODEL_NAME, NAME, is_model_name, quoted
from orchestrator.matrix.problems import closest

AUTO_MODEL: Final = "auto"
FLAW_KINDS: Final = tuple(kind for kind in KINDS_OF_FLAWS if kind not in BROKEN)
TAKES_MAX: Final = 1000
TRIES_MAX: Final = 20
TRACKS_MAX: Final = 1_000_000
PLANNERS: Final = frozenset().union(*(tier.planners for tier in TIERS))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else [value]


def _durations(value: Any) -> Any:
    """`{from: 120, to: 180, step: 10}` written out; anything else unchanged."""
    if not isinstance(value, dict):
        return _listed(value)
    span = DurationRange.model_validate(value)
    return list(range(span.from_, span.to + 1, span.step))


def _metre(value: Any) -> Any:
    text = str(value).strip()
    return {"2/4": "2", "3/4": "3", "4/4": "4", "6/8": "6"}.get(text, text)


def _metres(value: Any) -> Any:
    return [_metre(each) for each in _listed(value)]


def _known_flaw(value: str) -> str:
    if value not in FLAW_KINDS:
        guess = closest(value, FLAW_KINDS)
        meant = f"; did you mean {guess}?" if guess else ""
        listed = ", ".join(FLAW_KINDS)
        raise ValueError(f"{quoted(value)} is no kind of flaw that a catalog can judge{meant}; there are {listed}")
    return value


def _off_as_text(value: Any) -> Any:
    """`value`; `off` where YAML has read that word as false."""
    return "off" if value is False else value


def _texts(value: Any) -> Any:
    """Numbers as text: a word list may hold a year, an axis value may be 1."""
    return [str(each) if isinstance(each, int | float) else each for each in _listed(value)]


def _planner(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value.lower() in ("no", "off")):
        return None
    if isinstance(value, str) and value.lower() in ("yes", "on"):
        return {}
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


def _known_planner(value: PlannerSpec | None) -> PlannerSpec | None:
    if value is not None and value.model not in PLANNERS:
        # The error names the key itself, whose line a person looks for, and not the mapping around it.
        words = f"{quoted(value.model)} is not a planner; choose one of {', '.join(sorted(PLANNERS))}"
        problem = InitErrorDetails(type=PydanticCustomError("value_error", words), loc=("model",), input=value.model)
        raise ValidationError.from_exception_data("planner", [problem])
    if value is not None:
        _plain_caption(value.negative_prompt)
    return value


def _plain_caption(value: str) -> str:
    if found := limits.control_text_in(value):
        raise ValueError(f"{found!r} is a control token of the model and cannot be part of a text; write other words")
    return value


def _model_as_written_here(value: Any) -> Any:
    """`value`, unless it is a model's name as others write it, such as `ACE-Step/acestep-v15-turbo`."""
    if isinstance(value, str) and not is_model_name(value) and (meant := model_meant(value)):
        raise ValueError(f"{quoted(value)} is called {meant!r} here; write that")
    return value


def _rising(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] > value[1]:
        raise ValueError(f"the range {list(value)} ends before it begins; write [{value[1]}, {value[0]}]")
    return value


def _distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    for each in value:
        if each.casefold() in seen:
            raise ValueError(f"{each!r} is listed twice; drop one of the two")
        seen.add(each.casefold())
    return value


def _fit_together(value: tuple[str, ...]) -> tuple[str, ...]:
    size = len(", ".join(value))
    if size > TEXT_MAX:
        raise ValueError(f"the phrases have {size:,} characters together; {TEXT_MAX:,} fit; drop some")
    return value


Phrase = Annotated[str, Field(min_length=1, pattern=r"\S"), AfterValidator(_plain_caption)]
Phrases = Annotated[
    tuple[Phrase, ...], BeforeValidator(_texts, json_schema_input_type=list[str]), AfterValidator(_distinct)
]
Tempo = Annotated[tuple[Bpm, Bpm], AfterValidator(_rising)]
SlugText = Annotated[str, Field(pattern=NAME)]
RenamedFrom = Annotated[
    SlugText | None,
    Field(description="The name it had when its tracks were made: they keep it in their keys and are not made anew."),
]
Names = Annotated[tuple[str, ...], BeforeValidator(_texts, json_schema_input_type=str | list[str])]


class DurationRange(Frozen):
    """Durations from `from` to `to`, both included, in steps."""

    from_: DurationS = Field(alias="from")
    to: DurationS
    step: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _goes_up(self) -> DurationRange:
        if self.to < self.from_:
            raise ValueError(f"'to' is less than 'from'; write '{{from: {self.to}, to: {self.from_}}}'")
        return self


FlawKind = Annotated[str, AfterValidator(_known_flaw), WithJsonSchema({"enum": list(FLAW_KINDS)})]
CheckPolicy = Annotated[FlawPolicy, BeforeValidator(_off_as_text, json_schema_input_type=FlawPolicy)]


@with_choices_of(DiffusionSpec)
@with_values_of(MasterSpec)
class Choices(Frozen):
    """Settings of tracks. Every key is optional; a list is rotated through, so that tracks differ."""

    duration_s: Annotated[
        tuple[DurationS, ...],
        Field(min_length=1),
        BeforeValidator(_durations, json_schema_input_type=DurationS | list[DurationS] | DurationRange),
    ] = ()
    takes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=TAKES_MAX)], ...],
        Field(min_length=1),
        BeforeValidator(_listed, json_schema_input_type=int | list[int]),
    ] = ()
    planner: Annotated[
        PlannerSpec | None,
        BeforeValidator(_planner, json_schema_input_type=bool | PlannerSpec | None),
        AfterValidator(_known_planner),
    ] = Field(default=None, description="true, false, or the planner's settings.")
    tempo: Tempo = Field(default=(limits.BPM_MIN, limits.BPM_MAX), description="Narrows the range further.")
    keys: Annotated[
        tuple[KeyScale, ...],
        Field(min_length=1),
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
        AfterValidator(_distinct),
    ] = ()
    timesignatures: Annotated[
        tuple[TimeSignature, ...],
        Field(min_length=1),
        BeforeValidator(_metres, json_schema_input_type=str | int | list[str | int]),
    ] = ()
    lyrics: Annotated[
        tuple[Phrase, ...], Field(min_length=1), BeforeValidator(_texts, json_schema_input_type=str | list[str])
    ] = ()
    language: Annotated[
        tuple[Language, ...], Field(min_length=1), BeforeValidator(_texts, json_schema_input_type=str | list[str])
    ] = ()
    checks: Annotated[
        dict[FlawKind, CheckPolicy],
        Field(
            description="What follows from a flaw, by its kind: the take is rejected, accepted with a warning, or "
            "accepted without one. By default as the checks have it."
        ),
    ] = {}
    tags: Tags | None = Field(default=None, description="Facts for players: artist, date, licence; null states none.")
    seed: int | None = Field(default=None, ge=0, lt=SEED_LIMIT, description="Pins the seed of each track.")
    caption_suffix: Annotated[str, AfterValidator(_plain_caption)] = ""


class AxisValue(Choices):
    """Settings of one value of a further axis; `moods` replaces the zone's."""

    moods: Annotated[Phrases, Field(min_length=1)] = ()


class ZoneFile(Frozen):
    """A zone: a kind of place that the music plays in."""

    name: Annotated[str, Field(min_length=1)]
    description: Annotated[str, Field(min_length=1)]
    energy: int = Field(ge=1, le=5, description="1 still, 5 driving.")
    tempo: Tempo = Field(description="Beats per minute, both ends included.")
    moods: Annotated[Phrases, Field(min_length=3)] = Field(description="Words that fit 'a {mood} mood'.")
    scenes: Annotated[Phrases, Field(min_length=2)] = Field(description="Phrases that fit 'music for {scene}'.")
    loudness_lufs: float | None = Field(default=None, ge=-40, le=-8)
    avoid: Annotated[Phrases, AfterValidator(_fit_together)] = Field(
        default=(), description="Words that the planner should stay away from."
    )
    title_words: Annotated[Phrases, Field(min_length=6)]
    defaults: Choices = Choices()
    extends: SlugText | None = Field(default=None, description="Another zone whose keys hold unless given here.")
    renamed_from: RenamedFrom = None


class GenreFile(Frozen):
    """A genre: the sound of the music."""

    name: Annotated[str, Field(min_length=1)]
    description: Annotated[str, Field(min_length=1)]
    captions: Annotated[Phrases, Field(min_length=2)] = Field(
        description="Templates with {mood} {mood2} {instruments} {texture} {scene} {genre} {tempo_word}."
    )
    instruments: Annotated[Phrases, Field(min_length=4)]
    textures: Annotated[Phrases, Field(min_length=3)]
    moods: Annotated[Phrases, Field(min_length=4)]
    tempo: Tempo
    keys: Annotated[
        tuple[KeyScale, ...],
        Field(min_length=4),
        BeforeValidator(_listed, json_schema_input_type=list[str]),
        AfterValidator(_distinct),
    ]
    timesignatures: Annotated[
        tuple[TimeSignature, ...],
        Field(min_length=1),
        BeforeValidator(_metres, json_schema_input_type=str | int | list[str | int]),
    ] = ("4",)
    title_words: Annotated[Phrases, Field(min_length=6)]
    defaults: Choices = Choices()
    extends: SlugText | None = Field(default=None, description="Another genre whose keys hold unless given here.")
    renamed_from: RenamedFrom = None

    @field_validator("captions")
    @classmethod
    def _templates_are_sound(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Template.parse(text)
        return value


class Selector(BaseModel):
    """The cells that an entry means: zone, genre and any axis by name; a list means any of them, absence all."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Names] = Field(init=False)

    zone: Names = ()
    genre: Names = ()

    @property
    def where(self) -> dict[str, tuple[str, ...]]:
        """The values that a cell may have, by the name of the coordinate."""
        own = {"zone": self.zone, "genre": self.genre}
        return {name: values for name, values in {**own, **self.__pydantic_extra__}.items() if values}


class IncludeEntry(Selector):
    """Cells to add, or settings for cells that are there."""

    tracks: int | None = Field(default=None, ge=0, le=TRACKS_MAX, description="Exactly so many.")
    set: Choices = Choices()

    @model_validator(mode="after")
    def _names_cells(self) -> IncludeEntry:
        if not (self.zone and self.genre):
            raise ValueError(f"an include names its zone and its genre; add {'genre' if self.zone else 'zone'!r}")
        return self


class WeightEntry(Selector):
    """The relative share of the matching cells."""

    weight: float = Field(ge=0, le=1_000_000, allow_inf_nan=False)


class QuotaEntry(Selector):
    """A number of tracks that the matching cells share."""

    tracks: int = Field(ge=0, le=TRACKS_MAX)


class RuleEntry(Selector):
    """Settings for the matching cells."""

    set: Choices


def _axis_value(value: Any) -> Any:
    return {} if value is None else value


AxisValues = Annotated[
    dict[SlugText, Annotated[AxisValue, BeforeValidator(_axis_value, json_schema_input_type=AxisValue | None)]],
    Field(min_length=1),
]


class MatrixSection(Frozen):
    """Zones times genres times further axes, with exceptions."""

    zones: Names = Field(default=(), description="Names, or 'all'.")
    genres: Names = Field(default=(), description="Names, or 'all'.")
    axes: dict[SlugText, AxisValues] = {}
    exclude: tuple[Selector, ...] = Field(default=(), description="A cell that matches any entry is left out.")
    include: tuple[IncludeEntry, ...] = ()
    tempo_clashes: Literal["error", "exclude"] = Field(
        default="error", description="What to do with cells whose tempo ranges do not meet."
    )


class CatalogFile(Frozen):
    """A catalog to make: a matrix or a file of prompts, the number of tracks, and their settings."""

    title: Annotated[str, Field(min_length=1)]
    description: str = ""
    model: Annotated[str, BeforeValidator(_model_as_written_here, json_schema_input_type=str)] = Field(
        default=AUTO_MODEL, pattern=MODEL_NAME
    )
    defaults: Choices = Choices()
    matrix: MatrixSection | None = None
    tracks: int | None = Field(default=None, ge=1, le=TRACKS_MAX, description="In all.")
    tracks_per_cell: int | None = Field(default=None, ge=1, le=TRACKS_MAX)
    weights: tuple[WeightEntry, ...] = Field(default=(), description="Relative share of a cell; later entries win.")
    quotas: tuple[QuotaEntry, ...] = ()
    rules: tuple[RuleEntry, ...] = Field(default=(), description="Settings for matching cells; later entries win.")
    masters: bool = Field(
        default=True,
        description="Keep a lossless master of each take in the store, so that format and level can change later "
        "without a GPU.",
    )
    prompts: str | None = Field(
        default=None, pattern=FILE_NAME, description="A CSV file of prompts beside this file, instead of a matrix."
    )
    tries: int = Field(
        default=2,
        ge=0,
        le=TRIES_MAX,
        description="Number of further takes that may be made for each take that is rejected; 0: none.",
    )
    keep: int | None = Field(
        default=None,
        ge=1,
        le=TAKES_MAX,
        description="Of the takes of a track the best so many are listed, and the others are spare; by default all "
        "are listed.",
    )
    choose_by: Annotated[
        tuple[SlugText, ...],
        BeforeValidator(_listed, json_schema_input_type=SlugText | list[SlugText]),
        AfterValidator(_distinct),
    ] = Field(
        default=DEFAULT_SCORERS,
        min_length=1,
        max_length=SCORES_MAX,
        description="The scores by which the best takes of a track are found; their ranks are averaged.",
    )
    duplicates: Annotated[
        Literal["warn", "reroll", "off"],
        BeforeValidator(_off_as_text, json_schema_input_type=Literal["warn", "reroll", "off"]),
    ] = Field(
        default="warn",
        description="What happens to a take that sounds like another of the catalog: it is reported, or rejected and "
        "made again within 'tries', or nothing is compared.",
    )
    extends: SlugText | None = Field(default=None, description="Another catalog whose keys hold unless given here.")
    renamed_from: RenamedFrom = None

    @model_validator(mode="after")
    def _one_source(self) -> CatalogFile:
        if (self.matrix is None) == (self.prompts is None):
            fix = "drop one of the two" if self.matrix else "add 'matrix: {zones: [hotel_lobby], genres: [bossa_nova]}'"
            raise ValueError(f"a catalog has either 'matrix' or 'prompts'; {fix}")
        if self.tracks is not None and self.tracks_per_cell is not None:
            raise ValueError("'tracks' (in all) and 'tracks_per_cell' cannot both hold; drop one of the two")
        if self.prompts and (self.tracks or self.tracks_per_cell or self.weights or self.quotas):
            raise ValueError("with 'prompts' every row is a track; drop tracks, tracks_per_cell, weights and quotas")
        return self


KINDS: Final[dict[str, type[ZoneFile] | type[GenreFile] | type[CatalogFile]]] = {
    "zones": ZoneFile,
    "genres": GenreFile,
    "catalogs": CatalogFile,
}

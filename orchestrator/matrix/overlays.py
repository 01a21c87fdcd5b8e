"""Overlays: combine the settings that several places give for one cell.

The more specific place wins, in this order: program, genre, zone, catalog, axis value, include, rule. Some settings are
combined instead: tempo ranges are intersected, and the mappings `planner`, `checks` and `tags` are merged key by key. A
field may be left to the planner only if the planner can choose it: the planner must fill fields, and an open length
needs more than one choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from catalog import limits
from catalog.errors import OutOfRangeError, PresetError
from catalog.flaws import FlawPolicy
from catalog.spec import INSTRUMENTAL, MP3_RATES_KBPS, AudioFormat, MasterSpec, OpenField, PlannerSpec
from catalog.tags import Tags
from orchestrator.matrix.files import Choices
from orchestrator.matrix.knobs import DiffusionChoices
from orchestrator.matrix.located import Place

DEFAULT_DURATION_S = 120
# The formats that a setting of the finished file has an effect on.
_ONLY_OF: Final[dict[str, tuple[AudioFormat, ...]]] = {
    "bit_depth": (AudioFormat.FLAC, AudioFormat.WAV),
    "sample_type": (AudioFormat.WAV,),
    "bitrate_kbps": (AudioFormat.MP3, AudioFormat.OPUS),
    "vbr_quality": (AudioFormat.MP3, AudioFormat.OGG),
}


class Layer(NamedTuple):
    """The settings that one place gives, with the place's name for messages; `at` finds the line of a key in it."""

    source: str
    choices: Choices
    at: Callable[..., Place]

    @property
    def given(self) -> dict[str, Any]:
        """The keys that stand there, with their values."""
        return {name: getattr(self.choices, name) for name in self.choices.model_fields_set}

    @property
    def given_to_planner(self) -> dict[str, Any]:
        """The keys that stand in its planner mapping, with their values."""
        planner = self.choices.planner
        return {name: getattr(planner, name) for name in planner.model_fields_set} if planner else {}

    @property
    def given_tags(self) -> dict[str, str]:
        """The keys of its tags mapping, with their values."""
        tags = self.choices.tags
        return {name: getattr(tags, name) for name in tags.model_fields_set} if tags else {}


class TempoRange(NamedTuple):
    """A range of beats per minute and the sources that narrowed it; empty when `low` is above `high`."""

    low: int
    high: int
    sources: tuple[str, ...]

    def narrowed(self, low: int, high: int, source: str) -> TempoRange:
        """The part of this range that `source` allows too."""
        return TempoRange(max(self.low, low), min(self.high, high), (*self.sources, f"{source} {low}-{high}"))

    @property
    def is_empty(self) -> bool:
        """True when no tempo satisfies all sources."""
        return self.low > self.high


@dataclass(frozen=True)
class TrackSettings:
    """The settings of the tracks of a cell. Tuples are rotated through."""

    tempo: TempoRange
    keys: tuple[str, ...] = ()
    timesignatures: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()  # in place of the zone's
    duration_s: tuple[int, ...] = (DEFAULT_DURATION_S,)
    takes: tuple[int, ...] = (1,)
    lyrics: tuple[str, ...] = (INSTRUMENTAL,)
    language: tuple[str, ...] = ("unknown",)
    diffusion: DiffusionChoices = field(default_factory=DiffusionChoices.defaults)
    planner: PlannerSpec | None = field(default_factory=PlannerSpec)
    master: MasterSpec = field(default_factory=MasterSpec)
    seed: int | None = None
    caption_suffix: str = ""
    tags: Tags | None = None  # None: none are stated
    checks: dict[str, FlawPolicy] = field(default_factory=dict)  # by kind of flaw
    filled_at: str = ""  # file and line that leave something to the planner

    @property
    def open(self) -> tuple[OpenField, ...]:
        """The fields that the planner is to choose."""
        return self.planner.open if self.planner and self.planner.metadata == "fill" else ()

    @property
    def options(self) -> dict[str, tuple[Any, ...]]:
        """Lists that turn as wheels after those of caption, tempo, key and metre, by name.

        Their order decides the meaning of a track number: a new list goes last, so that it changes no other.
        """
        return {
            "duration_s": self.duration_s,
            "takes": self.takes,
            **self.diffusion.first,
            "lyrics": self.lyrics,
            "language": self.language,
            **self.diffusion.later,
        }


ANY_TEMPO = TempoRange(limits.BPM_MIN, limits.BPM_MAX, ())


def overlay(
    tempo: TempoRange, layers: Iterable[Layer], *, diffusion: DiffusionChoices | None = None, **program: Any
) -> TrackSettings:
    """Overlay `layers`, farthest first, over the program's own defaults; `tempo` is where narrowing begins.

    Raises PresetError, with the line, for diffusion settings that cannot go together, and for something left to a
    planner that is not told to fill it, or to choose among one.
    """
    diffusion = diffusion or DiffusionChoices.defaults()
    values: dict[str, Any] = dict(program)
    planner_keys: dict[str, Any] = dict(values.pop("planner_keys", {}))
    master_keys: dict[str, Any] = {}
    tags: dict[str, str] = {}
    on_planner: list[Layer] = []
    knob_layers: dict[str, Layer] = {}
    master_layers: dict[str, Layer] = {}
    for layer in layers:
        given = layer.given
        for name, value in given.items():
            if name == "tempo":
                tempo = tempo.narrowed(value[0], value[1], layer.source)
            elif name in diffusion.values:
                diffusion = diffusion.overlaid(name, value)
                knob_layers.pop(name, None)  # the nearest last
                knob_layers[name] = layer
            elif name == "checks":
                values["checks"] = {**values.get("checks", {}), **value}
            elif name == "tags":
                tags = {**tags, **layer.given_tags} if value else {}
            elif name in MasterSpec.model_fields:
                master_keys[name] = value
                master_layers.pop(name, None)  # the nearest last
                master_layers[name] = layer
            else:
                values[name] = value
        if "planner" in given:
            planner_keys |= layer.given_to_planner
            on_planner.append(layer)
    _refuse_clash(diffusion, knob_layers)
    if values.get("planner", True) is not None:
        values["planner"] = PlannerSpec(**planner_keys)
    values["tags"] = Tags(**tags) if tags else None
    settings = TrackSettings(tempo=tempo, diffusion=diffusion, master=MasterSpec(**master_keys), **values)
    _refuse_idle(settings.master, master_layers)
    _refuse_rate(settings.master, master_layers)
    return _with_fill_checked(settings, on_planner) if on_planner else settings


def _refuse_clash(diffusion: DiffusionChoices, given: Mapping[str, Layer]) -> None:
    """Raise PresetError when some diffusion settings cannot go together; `given` are the layers that have each."""
    if given and (clash := diffusion.clash()):
        lines = ", ".join(f"{name} in {layer.at(name)}" for name, layer in given.items())
        *_, (name, nearest) = given.items()
        raise PresetError(
            f"{nearest.at(name)}: the diffusion settings contradict each other: {clash}",
            why=f"they are set by {lines}",
            fix="change one of them",
        )


def _refuse_idle(master: MasterSpec, given: Mapping[str, Layer]) -> None:
    """Raise PresetError for a setting of other formats than the one that holds.

    A nearer layer, or a file that extends the one with the setting, may still choose such a format.
    """
    order = list(given)
    for name, formats in _ONLY_OF.items():
        is_set = name in given and (name == "bit_depth" or name in master.further)
        if not is_set or master.format in formats:
            continue
        place, form = given[name].at(name), given["format"].at("format") if "format" in given else None
        if form and given[name] is given["format"]:
            is_chosen_over = place.file != form.file
        else:
            is_chosen_over = form is not None and order.index("format") > order.index(name)
        if not is_chosen_over:
            raise PresetError(
                f"{place}: {name}: {getattr(master, name)} has no effect on {master.format} files",
                why=f"{form or 'no line'} asks for {master.format if form else 'another format than flac'}; "
                f"only {' and '.join(formats)} files have {name!r}",
                fix=f"remove {name!r}, or write 'format: {formats[0]}'",
            )


def _refuse_rate(master: MasterSpec, given: Mapping[str, Layer]) -> None:
    """Raise PresetError for a bit rate that MP3 does not have, or one beside a quality that decides the rate."""
    if master.format is not AudioFormat.MP3 or master.bitrate_kbps is None:
        return
    if master.vbr_quality is not None:
        raise PresetError(
            f"{given['vbr_quality'].at('vbr_quality')}: an MP3 file has a bit rate or a quality, not both",
            why=f"{given['bitrate_kbps'].at('bitrate_kbps')} sets bitrate_kbps: {master.bitrate_kbps}",
            fix="remove 'bitrate_kbps' or 'vbr_quality'",
        )
    if master.bitrate_kbps not in MP3_RATES_KBPS:
        nearest = min(MP3_RATES_KBPS, key=lambda rate: abs(rate - (master.bitrate_kbps or 0)))
        raise OutOfRangeError(
            f"{given['bitrate_kbps'].at('bitrate_kbps')}: MP3 has no bit rate of {master.bitrate_kbps} kbit/s",
            why=f"its rates are {', '.join(map(str, MP3_RATES_KBPS))}",
            fix=f"write 'bitrate_kbps: {nearest}'",
        )


def _with_fill_checked(settings: TrackSettings, on_planner: list[Layer]) -> TrackSettings:
    """`settings` with the line that leaves something to the planner; `on_planner` are the layers that speak of it."""
    lines = {key: layer.at("planner", key) for layer in on_planner for key in layer.given_to_planner}
    if not settings.open:
        fills = any(layer.choices.planner and layer.choices.planner.metadata == "fill" for layer in on_planner)
        if settings.planner and "open" in lines and not fills:
            fields = ", ".join(settings.planner.open)
            raise PresetError(
                f"{lines['open']}: the planner shall choose {fields}, but 'metadata: fill' is missing",
                why="'open' lists the values that the planner chooses with 'metadata: fill'",
                fix="write 'metadata: fill' beside 'open', or remove 'open'",
            )
        return settings
    where = lines.get("open", lines["metadata"])
    if "duration" in settings.open and len(set(settings.duration_s)) == 1:
        raise PresetError(
            f"{where}: the planner shall choose the duration, but there is only one: {settings.duration_s[0]} s",
            why="the planner chooses between the shortest and the longest of 'duration_s'",
            fix="write a range, such as 'duration_s: {from: 120, to: 240, step: 30}', or remove 'duration' from 'open'",
        )
    return replace(settings, filled_at=str(where))

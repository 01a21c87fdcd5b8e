"""Overlays: the settings that hold for a cell when several places give some.

The nearer to the job wins: program, genre, zone, catalog, axis value, include, rule. Two settings combine
instead: tempo ranges narrow each other, and planner mappings overlay each other key by key. What is left to the
planner must be something it can be left: a planner that fills, and more than one length where the length is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from catalog import limits
from catalog.errors import PresetError
from catalog.spec import INSTRUMENTAL, AudioFormat, MasterSpec, OpenField, PlannerSpec
from orchestrator.matrix.files import Choices
from orchestrator.matrix.knobs import DiffusionChoices
from orchestrator.matrix.located import Place

DEFAULT_DURATION_S = 120


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
    filled_at: str = ""  # file and line that leave something to the planner

    @property
    def open(self) -> tuple[OpenField, ...]:
        """The fields that the planner is to choose."""
        return self.planner.open if self.planner and self.planner.metadata == "fill" else ()

    @property
    def options(self) -> dict[str, tuple[Any, ...]]:
        """Lists that turn as wheels behind those of caption, tempo, key and metre, by name.

        Their order is part of what a track number stands for: a new one goes last, so that it moves no other.
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
    settings = TrackSettings(tempo=tempo, diffusion=diffusion, master=MasterSpec(**master_keys), **values)
    _refuse_idle_bit_depth(settings.master, master_layers)
    return _with_fill_checked(settings, on_planner) if on_planner else settings


def _refuse_clash(diffusion: DiffusionChoices, given: Mapping[str, Layer]) -> None:
    """Raise PresetError when some diffusion settings cannot go together; `given` are the layers that have each."""
    if given and (clash := diffusion.clash()):
        lines = ", ".join(f"{name} in {layer.at(name)}" for name, layer in given.items())
        *_, (name, nearest) = given.items()
        raise PresetError(
            f"{nearest.at(name)}: the diffusion settings cannot go together: {clash}",
            why=f"they are given by {lines}",
            fix="change one of them",
        )


def _refuse_idle_bit_depth(master: MasterSpec, given: Mapping[str, Layer]) -> None:
    """Raise PresetError for a bit depth of a format that has none.

    A nearer layer, or a file that extends the one with the bit depth, may still choose such a format.
    """
    if "bit_depth" not in given or master.format in (AudioFormat.FLAC, AudioFormat.WAV):
        return
    order = list(given)
    depth, form = (given[name].at(name) for name in ("bit_depth", "format"))
    if given["bit_depth"] is given["format"]:
        is_chosen_over = depth.file != form.file
    else:
        is_chosen_over = order.index("format") > order.index("bit_depth")
    if is_chosen_over:
        return
    raise PresetError(
        f"{depth}: bit_depth: {master.bit_depth} has no effect on {master.format} files",
        why=f"{form} asks for {master.format}; only FLAC and WAV have a bit depth",
        fix="drop 'bit_depth', or write 'format: flac'",
    )


def _with_fill_checked(settings: TrackSettings, on_planner: list[Layer]) -> TrackSettings:
    """`settings` with the line that leaves something to the planner; `on_planner` are the layers that speak of it."""
    lines = {key: layer.at("planner", key) for layer in on_planner for key in layer.given_to_planner}
    if not settings.open:
        fills = any(layer.choices.planner and layer.choices.planner.metadata == "fill" for layer in on_planner)
        if settings.planner and "open" in lines and not fills:
            fields = ", ".join(settings.planner.open)
            raise PresetError(
                f"{lines['open']}: the planner is to choose {fields}, and is not told to fill",
                why="'open' names what 'metadata: fill' leaves to the planner",
                fix="write 'metadata: fill' beside it, or drop 'open'",
            )
        return settings
    where = lines.get("open", lines["metadata"])
    if "duration" in settings.open and len(set(settings.duration_s)) == 1:
        raise PresetError(
            f"{where}: the planner is to choose the duration, and there is only one: {settings.duration_s[0]} s",
            why="it chooses from the shortest to the longest of 'duration_s'",
            fix="write a range, such as 'duration_s: {from: 120, to: 240, step: 30}', or drop 'duration' from 'open'",
        )
    return replace(settings, filled_at=str(where))

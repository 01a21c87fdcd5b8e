"""Settling: which settings hold for a cell when several places have an opinion.

The nearer to the job wins: program, genre, zone, catalog, axis value, include, rule. Two settings combine
instead: tempo ranges narrow each other, and planner mappings overlay each other key by key. What is left to the
planner must be something it can be left: a planner that fills, and more than one length where the length is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from catalog import limits
from catalog.errors import PresetError
from catalog.spec import INSTRUMENTAL, AudioFormat, OpenField, PlannerSpec
from orchestrator.matrix.files import Choices
from orchestrator.matrix.located import Place

DEFAULT_DURATION_S = 120


class Layer(NamedTuple):
    """Settings from one place, with the place's name for messages; `at` finds the line of a key in it."""

    source: str
    choices: Choices
    at: Callable[..., Place]


class TempoRange(NamedTuple):
    """A range of beats per minute and who asked for it; empty when `low` is above `high`."""

    low: int
    high: int
    sources: tuple[str, ...]

    def narrowed(self, low: int, high: int, source: str) -> TempoRange:
        """The part of this range that `source` allows too."""
        return TempoRange(max(self.low, low), min(self.high, high), (*self.sources, f"{source} {low}-{high}"))

    @property
    def is_empty(self) -> bool:
        """Whether no tempo satisfies everyone."""
        return self.low > self.high


@dataclass(frozen=True)
class Settings:
    """What holds for the tracks of a cell. Tuples are rotated through."""

    tempo: TempoRange
    keys: tuple[str, ...] = ()
    timesignatures: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()  # in place of the zone's
    duration_s: tuple[int, ...] = (DEFAULT_DURATION_S,)
    takes: tuple[int, ...] = (1,)
    steps: tuple[int, ...] = (8,)
    shift: tuple[float, ...] = (3.0,)
    lyrics: tuple[str, ...] = (INSTRUMENTAL,)
    language: tuple[str, ...] = ("unknown",)
    planner: PlannerSpec | None = field(default_factory=PlannerSpec)
    format: AudioFormat = AudioFormat.FLAC
    bit_depth: int = 24
    loudness_lufs: float | None = -16.0
    peak_dbtp: float = -1.0
    seed: int | None = None
    caption_suffix: str = ""
    filled_at: str = ""  # file and line that leave something to the planner

    @property
    def open(self) -> tuple[OpenField, ...]:
        """What the planner is to choose."""
        return self.planner.open if self.planner and self.planner.metadata == "fill" else ()


ANY_TEMPO = TempoRange(limits.BPM_MIN, limits.BPM_MAX, ())


def settle(tempo: TempoRange, layers: Iterable[Layer], **program: Any) -> Settings:
    """Overlay `layers`, farthest first, over the program's own defaults; `tempo` is where narrowing begins.

    Raises PresetError, with the line, for something left to a planner that is not told to fill it, or to choose
    among one.
    """
    values: dict[str, Any] = dict(program)
    planner_keys: dict[str, Any] = dict(values.pop("planner_keys", {}))
    told: list[Layer] = []
    for layer in layers:
        for name in layer.choices.model_fields_set:
            value = getattr(layer.choices, name)
            if name == "tempo":
                tempo = tempo.narrowed(value[0], value[1], layer.source)
            elif name == "planner":
                planner_keys |= _given(value)
                values[name] = value
                told.append(layer)
            else:
                values[name] = value
    if values.get("planner", True) is not None:
        values["planner"] = PlannerSpec(**planner_keys)
    settings = Settings(tempo=tempo, **values)
    return _checked_fill(settings, told) if told else settings


def _given(planner: PlannerSpec | None) -> dict[str, Any]:
    return {name: getattr(planner, name) for name in planner.model_fields_set} if planner else {}


def _checked_fill(settings: Settings, told: list[Layer]) -> Settings:
    """`settings` with the line that leaves something to the planner; `told` are the layers with a word on it."""
    lines = {key: layer.at("planner", key) for layer in told for key in _given(layer.choices.planner)}
    if not settings.open:
        fills = any(layer.choices.planner and layer.choices.planner.metadata == "fill" for layer in told)
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

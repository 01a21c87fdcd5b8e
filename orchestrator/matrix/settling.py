"""Settling: which settings hold for a cell when several places have an opinion.

The nearer to the job wins: program, genre, zone, catalog, axis value, include, rule. Two settings combine
instead: tempo ranges narrow each other, and planner mappings overlay each other key by key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from catalog import limits
from catalog.spec import INSTRUMENTAL, AudioFormat, PlannerSpec
from orchestrator.matrix.files import Choices

DEFAULT_DURATION_S = 120


class Layer(NamedTuple):
    """Settings from one place, with the place's name for messages."""

    source: str
    choices: Choices


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


ANY_TEMPO = TempoRange(limits.BPM_MIN, limits.BPM_MAX, ())


def settle(tempo: TempoRange, layers: Iterable[Layer], **program: Any) -> Settings:
    """Overlay `layers`, farthest first, over the program's own defaults; `tempo` is where narrowing begins."""
    values: dict[str, Any] = dict(program)
    planner_keys: dict[str, Any] = dict(values.pop("planner_keys", {}))
    for source, choices in layers:
        for name in choices.model_fields_set:
            value = getattr(choices, name)
            if name == "tempo":
                tempo = tempo.narrowed(value[0], value[1], source)
            elif name == "planner":
                planner_keys |= _given(value)
                values[name] = value
            else:
                values[name] = value
    if values.get("planner", True) is not None:
        values["planner"] = PlannerSpec(**planner_keys)
    return Settings(tempo=tempo, **values)


def _given(planner: PlannerSpec | None) -> dict[str, Any]:
    return {name: getattr(planner, name) for name in planner.model_fields_set} if planner else {}

"""Summaries: an overview of a catalog, computed without making all of its tracks."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from catalog.spec import OPEN_FIELDS, TrackSpec
from catalog.track import Track
from orchestrator.matrix.cells import Cell, lay_out
from orchestrator.matrix.expand import expand, expand_cell
from orchestrator.matrix.planned import PlannedTrack
from orchestrator.matrix.reading import LoadedCatalog

EXAMPLES = 5


@dataclass(frozen=True)
class Group:
    """The cells of one zone and genre together. `open` names the fields that the planner chooses in some of them."""

    zone: str
    genre: str
    cells: int
    tracks: int
    bpm_low: int
    bpm_high: int
    open: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellSummary:
    """One cell: its number of tracks, its tempo range, and the fields that the planner chooses in it."""

    zone: str
    genre: str
    axes: dict[str, str]
    tracks: int
    bpm_low: int
    bpm_high: int
    open: tuple[str, ...] = ()


@dataclass(frozen=True)
class CatalogSummary:
    """The tracks of a catalog in numbers and examples."""

    name: str
    title: str
    model: str
    tracks: int
    takes: int
    groups: list[Group]
    cells: list[CellSummary]  # those without a track too; none for a catalog of prompts
    left_out: list[str]  # cells whose tempo ranges do not meet
    examples: list[Track]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(replace(self, examples=[])),
            "examples": [track.model_dump(mode="json") for track in self.examples],
        }


def summarise(catalog: LoadedCatalog) -> CatalogSummary:
    """Counts by zone and genre, and a few tracks from all over the catalog. Raises the errors of `expand`."""
    layout = lay_out(catalog)
    cells = layout.cells
    tracks, takes = 0, 0
    groups: dict[tuple[str, str], Group] = {}
    for planned in expand(catalog):
        tracks, takes = tracks + 1, takes + planned.takes
        if not cells:
            _count_prompt(groups, planned)
    for (zone, genre), members in itertools.groupby(cells, key=lambda cell: (cell.zone, cell.genre)):
        _count_cells(groups, zone, genre, list(members))
    examples = itertools.islice(_examples(catalog, [cell for cell in cells if cell.tracks]), EXAMPLES)
    return CatalogSummary(
        name=catalog.name,
        title=catalog.title,
        model=catalog.model,
        tracks=tracks,
        takes=takes,
        groups=list(groups.values()),
        cells=[_cell_summary(cell) for cell in cells],
        left_out=layout.left_out,
        examples=list(examples),
    )


def _cell_summary(cell: Cell) -> CellSummary:
    tempo, fields = cell.settings.tempo, _in_order(cell.settings.open)
    return CellSummary(cell.zone, cell.genre, cell.axes, cell.tracks, tempo.low, tempo.high, fields)


def _count_cells(groups: dict[tuple[str, str], Group], zone: str, genre: str, members: Sequence[Cell]) -> None:
    old = groups.get((zone, genre), Group(zone, genre, 0, 0, 999, 0))
    groups[zone, genre] = Group(
        zone,
        genre,
        old.cells + len(members),
        old.tracks + sum(cell.tracks for cell in members),
        min(old.bpm_low, *(cell.settings.tempo.low for cell in members)),
        max(old.bpm_high, *(cell.settings.tempo.high for cell in members)),
        _in_order({*old.open, *(field for cell in members for field in cell.settings.open)}),
    )


def _count_prompt(groups: dict[tuple[str, str], Group], planned: PlannedTrack) -> None:
    track = planned.track
    low, high = tempo_of(track.spec)
    old = groups.get((track.zone, track.genre), Group(track.zone, track.genre, 1, 0, low, high))
    groups[track.zone, track.genre] = replace(
        old,
        tracks=old.tracks + 1,
        bpm_low=min(old.bpm_low, low),
        bpm_high=max(old.bpm_high, high),
        open=_in_order({*old.open, *(track.spec.bounds.open if track.spec.bounds else ())}),
    )


def tempo_of(spec: TrackSpec) -> tuple[int, int]:
    """Lowest and highest tempo: the same twice, unless the planner chooses."""
    if spec.bpm is not None:
        return spec.bpm, spec.bpm
    bounds = spec.bounds.bpm if spec.bounds else None
    assert bounds, "an open tempo has bounds"  # noqa: S101
    return bounds


def _in_order(fields: Collection[str]) -> tuple[str, ...]:
    return tuple(field for field in OPEN_FIELDS if field in fields)


def _examples(catalog: LoadedCatalog, cells: Sequence[Cell]) -> Iterator[Track]:
    if not cells:
        yield from (planned.track for planned in expand(catalog))
    for cell in cells[:: max(1, len(cells) // EXAMPLES)]:
        yield from (planned.track for planned in expand_cell(catalog, replace(cell, tracks=1)))

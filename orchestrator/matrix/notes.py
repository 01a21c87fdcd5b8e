"""Notes: remarks about a valid catalog that a person should read before rendering; never an error.

A cell without tracks is missing from every list, so a note names it and says which cells took its tracks. A cell that
is given 0 tracks or the weight 0 by name is meant to be empty and gets no note.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.matrix.cells import CatalogCells, Cell, MatrixPoint, lay_out
from orchestrator.matrix.files import CatalogFile, MatrixSection, Selector
from orchestrator.matrix.reading import LoadedCatalog

_NAMES_SHOWN_MAX = 6


class _Fixed(NamedTuple):
    """An entry that fixes the number of tracks of the cells it matches."""

    entry: Selector
    tracks: int


def notes_of(catalog: LoadedCatalog) -> list[str]:
    """The notes of `catalog`, each a sentence. Raises the errors of `lay_out`."""
    return _on_empty_cells(catalog.preset.content, lay_out(catalog))


def _on_empty_cells(content: CatalogFile, layout: CatalogCells) -> list[str]:
    """A note for each cause that leaves cells without a track."""
    fixed = _fixed_numbers(content)
    within: list[str] = []
    beside: list[str] = []
    for cell in layout.cells:
        if cell.tracks == 0 and not _is_meant_empty(content, fixed, cell):
            name = "/".join((cell.zone, cell.genre, *(f"{axis}={value}" for axis, value in cell.axes.items())))
            (within if _matching(fixed, cell) else beside).append(name)
    notes = []
    if beside:
        total = content.tracks or 0
        left = sum(cell.tracks for cell in layout.cells if not _matching(fixed, cell))
        cause = f"{total:,} {'track is' if total == 1 else 'tracks are'} too few for {len(layout.cells):,} cells"
        if fixed:
            cause = f"the quotas leave {left:,} of the {total:,} tracks"
            cause = cause if left else f"the quotas take all {total:,} tracks"
        notes.append(f"{cause}: {_named(beside)}; raise 'tracks'" + (", or lower a quota" if fixed else ""))
    if within:
        cause = "some quotas have fewer tracks than cells"
        notes.append(f"{cause}: {_named(within)}; raise the quotas, or exclude the cells")
    return notes


def _fixed_numbers(content: CatalogFile) -> list[_Fixed]:
    include = (content.matrix or MatrixSection()).include
    return [
        *(_Fixed(entry, entry.tracks) for entry in content.quotas),
        *(_Fixed(entry, entry.tracks) for entry in include if entry.tracks is not None),
    ]


def _matching(fixed: Sequence[_Fixed], cell: Cell) -> list[_Fixed]:
    point = MatrixPoint(cell.zone, cell.genre, tuple(cell.axes.items()))
    return [each for each in fixed if point.matches(each.entry)]


def _is_meant_empty(content: CatalogFile, fixed: Sequence[_Fixed], cell: Cell) -> bool:
    point = MatrixPoint(cell.zone, cell.genre, tuple(cell.axes.items()))
    weights = [entry.weight for entry in content.weights if point.matches(entry)]
    return weights[-1:] == [0] or any(each.tracks == 0 for each in _matching(fixed, cell))


def _named(cells: Sequence[str]) -> str:
    more = f" and {len(cells) - _NAMES_SHOWN_MAX:,} more" if len(cells) > _NAMES_SHOWN_MAX else ""
    count = "1 cell gets none" if len(cells) == 1 else f"{len(cells):,} cells get none"
    return f"{count}: {', '.join(cells[:_NAMES_SHOWN_MAX])}{more}"

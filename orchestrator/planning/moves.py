"""Moves: takes that appear or vanish in unedited cells, because `tracks` is one number for all cells together.

When a zone or genre is removed, its tracks are distributed over the others, as new takes; an added one takes tracks
from the others.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.planning.plan import CatalogPlan, CellName

_NAMES_SHOWN_MAX = 4


def notes_on_moves(plan: CatalogPlan, tracks: int | None) -> list[str]:
    """The notes on a plan of a catalog with `tracks` in all; None when each cell has a number of its own."""
    if tracks is None or plan.selected is not None:
        return []
    known = {cell for cell, counts in plan.cells.items() if counts.new < counts.total or cell in plan.gone}
    vanished = {cell: count for cell, count in plan.gone.items() if cell not in plan.cells}
    grown = sum(counts.new for cell, counts in plan.cells.items() if cell in known)
    shrunk = sum(count for cell, count in plan.gone.items() if cell in plan.cells)
    added = plan.cells.keys() - known
    notes = []
    if vanished and grown:
        lost = f"the {sum(vanished.values()):,} of {_names(vanished, plan.cells)}"
        notes.append(
            f"'tracks: {tracks}' gives {grown:,} new takes to cells that were there before, in place of {lost}; "
            "lower 'tracks' to leave the others as they are"
        )
    if added and shrunk:
        notes.append(
            f"'tracks: {tracks}' takes {shrunk:,} takes from cells that were there before, for {_names(added, known)}; "
            "raise 'tracks' to leave the others as they are"
        )
    return notes


def _names(cells: Iterable[CellName], others: Iterable[CellName]) -> str:
    """The zones and genres that only `cells` have, else the cells themselves."""
    cells, others = sorted(cells), list(others)
    zones = dict.fromkeys(cell.zone for cell in cells if cell.zone not in {other.zone for other in others})
    genres = dict.fromkeys(cell.genre for cell in cells if cell.genre not in {other.genre for other in others})
    whole = ("/".join((cell.zone, cell.genre, *(value for _, value in cell.axes))) for cell in cells)
    names = [*zones, *genres] or list(whole)
    more = f" and {len(names) - _NAMES_SHOWN_MAX:,} more" if len(names) > _NAMES_SHOWN_MAX else ""
    return ", ".join(names[:_NAMES_SHOWN_MAX]) + more

"""Renames: warn that a catalog, a zone or a genre was probably renamed, before all of its takes are made anew.

The words of a track depend on the name of its place, so captions cannot be compared. The shape can: the same numbers of
takes in the same cells, where all takes under one name have vanished and all takes under the other are new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final, Literal, TypeVar

from orchestrator.planning.plan import CatalogPlan, CellName

_K = TypeVar("_K")
_KINDS: Final[tuple[Literal["zone", "genre"], ...]] = ("zone", "genre")


def hint_at_renamed_places(plan: CatalogPlan) -> list[str]:
    """A hint for each zone and genre that has vanished from `plan`, where a new one has its shape."""
    planned = {cell: counts.total for cell, counts in plan.cells.items()}
    kept = {cell for cell, counts in plan.cells.items() if counts.new < counts.total}
    hints = []
    for kind in _KINDS:
        old, new = _shapes(plan.gone, kind), _shapes(planned, kind)
        seen = {getattr(cell, kind) for cell in kept}
        for name in old.keys() - new.keys():
            twins = [each for each in new.keys() - old.keys() - seen if _is_alike(new[each], old[name])]
            if len(twins) == 1:
                hints.append(_hint(kind, name, twins[0]))
    return sorted(hints)


def hint_at_renamed_catalog(
    plan: CatalogPlan, others: Mapping[str, Mapping[tuple[str, str], int]], presets: Collection[str]
) -> list[str]:
    """A hint when `plan` is all new and has the shape of a catalog of the ledger that has no preset any more.

    `others` are the takes of the ledger's catalogs by zone and genre.
    """
    if plan.counts.new < plan.counts.total or plan.selected is not None:
        return []
    shape: Counter[tuple[str, str]] = Counter()
    for cell, counts in plan.cells.items():
        shape[cell.zone, cell.genre] += counts.total
    twins = [name for name, cells in others.items() if name not in presets and _is_alike(cells, shape)]
    return [_hint("catalog", twins[0], plan.name_now)] if len(twins) == 1 else []


def _shapes(takes: Mapping[CellName, int], kind: Literal["zone", "genre"]) -> dict[str, Counter[CellName]]:
    """For each zone or genre the takes by the rest of the cell's name."""
    shapes: dict[str, Counter[CellName]] = {}
    for cell, count in takes.items():
        rest = cell._replace(zone="") if kind == "zone" else cell._replace(genre="")
        shapes.setdefault(getattr(cell, kind), Counter())[rest] += count
    return shapes


def _is_alike(one: Mapping[_K, int], other: Mapping[_K, int]) -> bool:
    """True for the same cells; a name's place in the alphabet may move the odd track from one cell to another."""
    moved = [one[cell] - other.get(cell, 0) for cell in one]
    return one.keys() == other.keys() and all(abs(n) <= 1 for n in moved) and abs(sum(moved)) < len(moved)


def _hint(kind: str, old: str, new: str) -> str:
    return (
        f"the {kind} {new!r} is new and has the cells and numbers of {old!r}, which is gone; if it was only renamed, "
        f"write `renamed_from: {old}` in {kind}s/{new}.yaml, and its tracks are kept"
    )

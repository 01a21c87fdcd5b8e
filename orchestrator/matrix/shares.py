"""Shares: the number of tracks of each cell, such that every quota is met and the sum is exact.

A quota covers a set of cells. Two quotas either are nested or do not overlap, so every cell has one innermost quota. An
outer quota is reduced by its inner ones; the rest is split by weight with largest remainders.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from catalog.errors import PresetError


class Quota(NamedTuple):
    """`tracks` for the cells with these indexes; `where` is the file and line that asks for it."""

    cells: frozenset[int]
    tracks: int
    where: str


def split_by_weight(total: int, weights: Sequence[Fraction], order: Sequence[int]) -> list[int]:
    """Split `total` into whole parts in proportion to `weights`; they sum to it exactly.

    Largest remainders; among equal ones the part that comes first in `order` takes the odd one.
    Raises ValueError when the weights are all zero and there is something to split.
    """
    whole = sum(weights, Fraction(0))
    if not whole:
        if total:
            raise ValueError("all weights are zero")
        return [0] * len(weights)
    exact = [total * weight / whole for weight in weights]
    parts = [int(share) for share in exact]
    left = total - sum(parts)
    rank = {index: position for position, index in enumerate(order)}
    for index in sorted(range(len(parts)), key=lambda i: (parts[i] - exact[i], rank[i]))[:left]:
        parts[index] += 1
    return parts


def share_out(
    weights: Sequence[Fraction],
    order: Sequence[int],
    quotas: Sequence[Quota],
    *,
    total: int | None,
    per_cell: int | None,
    where: str,
) -> list[int]:
    """The number of tracks of each cell. `total` is shared by all cells; `per_cell` goes to each cell without a quota.

    Raises PresetError when quotas overlap, exceed their total, or leave tracks that no cell may take.
    """
    all_cells = frozenset(range(len(weights)))
    family = [*quotas] if total is None else [Quota(all_cells, total, where), *quotas]
    family = _nested(family)
    counts = [per_cell or 0] * len(weights)
    for position, quota in enumerate(family):
        inner = _inner_quotas(family, position)
        own = sorted(quota.cells.difference(*(each.cells for each in inner)))
        left = quota.tracks - sum(each.tracks for each in inner)
        if left < 0:
            raise _over(quota, inner)
        for index, count in zip(own, _split(left, own, weights, order, quota), strict=True):
            counts[index] = count
    return counts


def _split(left: int, own: Sequence[int], weights: Sequence[Fraction], order: Sequence[int], quota: Quota) -> list[int]:
    mine = set(own)
    position_of = {index: position for position, index in enumerate(own)}
    try:
        return split_by_weight(left, [weights[i] for i in own], [position_of[i] for i in order if i in mine])
    except ValueError:
        why = "every cell that could take them has weight 0" if own else "other quotas hold every cell it covers"
        raise PresetError(
            f"{quota.where}: {left:,} of the {quota.tracks:,} tracks cannot be given to any cell",
            why=why,
            fix="give a cell a weight above 0, or make the numbers add up",
        ) from None


def _nested(quotas: Sequence[Quota]) -> list[Quota]:
    """Largest first, one for each set of cells. Raises PresetError for those that cross."""
    distinct: dict[frozenset[int], Quota] = {}
    for quota in quotas:
        twin = distinct.get(quota.cells)
        if twin and twin.tracks != quota.tracks:
            raise PresetError(
                f"{quota.where}: {quota.tracks:,} tracks for cells that have a quota of {twin.tracks:,} already",
                why=f"{twin.where} covers the same cells",
                fix="remove one of the two quotas",
            )
        distinct.setdefault(quota.cells, quota)
    family = sorted(distinct.values(), key=lambda quota: -len(quota.cells))
    owner: dict[int, Quota] = {}
    for quota in family:
        # All quotas so far are at least as large: one that touches this one must hold it whole.
        touching = {id(owner[index]): owner[index] for index in quota.cells if index in owner}.values()
        crossing = next((each for each in touching if not quota.cells <= each.cells), None)
        if crossing:
            raise PresetError(
                f"{quota.where}: this quota and another share some cells but not all",
                why=f"{crossing.where} is the other quota; their numbers could contradict each other",
                fix="change one quota so that it covers all cells of the other, or none of them",
            )
        for index in quota.cells:
            owner[index] = quota
    return family


def _inner_quotas(family: Sequence[Quota], position: int) -> list[Quota]:
    """The quotas directly inside the one at `position`; `family` is sorted largest first."""
    if len(family[position].cells) == 1:
        return []
    inner: list[Quota] = []
    covered: set[int] = set()
    for quota in family[position + 1 :]:
        if quota.cells <= family[position].cells and covered.isdisjoint(quota.cells):
            inner.append(quota)
            covered |= quota.cells
    return inner


def _over(quota: Quota, inner: Sequence[Quota]) -> PresetError:
    asked = sum(each.tracks for each in inner)
    return PresetError(
        f"{quota.where}: {quota.tracks:,} tracks are fewer than the {asked:,} tracks of the quotas inside",
        why="these are set at " + ", ".join(f"{each.where} ({each.tracks:,})" for each in inner[:10]),
        fix=f"raise the number to at least {asked:,}, or lower the others",
    )

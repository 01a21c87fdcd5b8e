"""Splitting an amount: the shares always add up to the amount exactly.

The method is largest remainder on integers: each share is the ideal share rounded down, and the units that are left go,
one each, to the shares with the largest remainders. Ties are decided by key, so the order of the input never matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from catalog.errors import TunemillError

Key = TypeVar("Key", bound=str | tuple[Any, ...])  # anything that sorts


def split(total: int, weights: Mapping[Key, int]) -> dict[Key, int]:
    """Split `total` over `weights`; each share is within one of the ideal one, a zero weight gets nothing.

    A negative total is split like its opposite and negated, so a reversal undoes what it reverses. Raises
    TunemillError for a negative weight, and for an amount with nothing to carry it.
    """
    whole = sum(weights.values())
    if weights and min(weights.values()) < 0:
        raise TunemillError("a share cannot have a negative weight", why=f"{min(weights.values())} was given")
    if not whole:
        if total:
            raise TunemillError(f"nothing can carry an amount of {total}", why="all weights are zero")
        return dict.fromkeys(weights, 0)
    shares, remainders = {}, []
    amount = left_over = abs(total)
    for key, weight in weights.items():
        shares[key], remainder = divmod(amount * weight, whole)
        remainders.append((-remainder, key))
        left_over -= shares[key]
    if left_over:
        for _, key in sorted(remainders)[:left_over]:
            shares[key] += 1
    return shares if total >= 0 else {key: -share for key, share in shares.items()}

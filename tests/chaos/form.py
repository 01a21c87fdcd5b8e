"""The two forms of these tests: the short one of `make test`, and the long one of `make chaos`.

TUNEMILL_CHAOS_ROUNDS says how many seeds of each kind there are, from TUNEMILL_CHAOS_SEED on; more than one round is
the long form, in which everything is larger and every variant is run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

ROUNDS = int(os.environ.get("TUNEMILL_CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("TUNEMILL_CHAOS_SEED", "1"))
IS_LONG = ROUNDS > 1
SEEDS = range(SEED, SEED + ROUNDS)


def one_of(*variants: T) -> Sequence[T]:
    """All variants in the long form; in the short one the first stands for them."""
    return variants if IS_LONG else variants[:1]

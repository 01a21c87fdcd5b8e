"""The two forms of these tests: the short one of `make test`, and the long one of `make chaos`.

TUNEMILL_CHAOS_ROUNDS says how many seeds of each kind there are, from TUNEMILL_CHAOS_SEED on; more than one round is
the long form, in which everything is larger and every variant is run. The short form has each kind of blow (a process
killed, frozen or told to end; broker, database, disk, store and clock at fault) once, and two mixtures of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")

ROUNDS = int(os.environ.get("TUNEMILL_CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("TUNEMILL_CHAOS_SEED", "1"))
IS_LONG = ROUNDS > 1
SEEDS = range(SEED, SEED + ROUNDS)

only_long = pytest.mark.skipif(not IS_LONG, reason="in the long form only: make chaos")


def one_of(*variants: T) -> Sequence[T]:
    """All variants in the long form; in the short one the first stands for them."""
    return variants if IS_LONG else variants[:1]

"""Rotation: the words, key and tempo of the n-th track of a cell, chosen without chance and without repeats.

A wheel holds one list of choices. An odometer moves all of its wheels for every track, so that neighbouring tracks
differ in nearly everything. A combination repeats only after all combinations have been used. Track n depends only on
n, the lists and the key, so further tracks never change earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from catalog.seeds import stable_hash

_MASK = (1 << 64) - 1


class Wheel(NamedTuple):
    """One list of `size` entries; `key` decides where its turns begin, `stride` (coprime to size) how far they go."""

    size: int
    key: int
    stride: int

    @classmethod
    def named(cls, name: str, size: int, key: int, *, spread: bool = False) -> Wheel:
        """The wheel `name` of the cell `key`. `spread` turns by the golden section, so numbers cover their range."""
        own = stable_hash("wheel", key, name)
        start = round(size * 0.618034) if spread else own % max(size, 1)
        return cls(size, own, _coprime(start, size))


def _coprime(start: int, size: int) -> int:
    stride = max(1, start)
    while math.gcd(stride, size) != 1:
        stride += 1
    return stride


class Odometer(NamedTuple):
    """Wheels that turn together. `sequences` odometers with common wheels interleave: sequence 0, 1, ... then again 0.

    For each sequence, `count -> positions` is one to one over `count` in [0, combinations).
    """

    wheels: tuple[Wheel, ...]
    sequences: int = 1

    @property
    def combinations(self) -> int:
        """The number of combinations before the first comes again."""
        return math.prod(wheel.size for wheel in self.wheels)

    def positions(self, count: int, sequence: int = 0) -> list[int]:
        """One position in each wheel for the `count`-th turn of `sequence`.

        Wheel i is at (q + f(m)) mod size, with q the turns completed by the wheels before it and m the turn within
        those. As m is known from the wheels before, q can be read off wheel i, so no combination repeats. f goes
        through the wheel once in strides and then begins at a new, keyed position, so every entry occurs equally often
        and no two wheels stay in step.
        """
        out: list[int] = []
        before = 1
        for size, key, stride in self.wheels:
            turn = (count % before) * self.sequences + sequence
            # The first wheel has nothing before it: its sequences begin evenly apart instead.
            shift = sequence * size // self.sequences if before == 1 else stride * turn
            out.append((count // before + shift + _mixed(key, turn // size if before > 1 else 0)) % size)
            before *= size
        return out


def _mixed(key: int, block: int) -> int:
    """A 64-bit hash of both (the splitmix64 finaliser): the same everywhere, and cheap."""
    x = (key + block * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def sequence_order(key: int, sequences: int, block: int) -> int:
    """The number of steps by which `block` turns the order of sequences, so that no sequence always comes first."""
    return _mixed(key, block) % sequences


def odometer(key: int, sizes: Sequence[tuple[str, int]], sequences: int = 1) -> Odometer:
    """An odometer over named list sizes; wheels of one name and key turn alike in every odometer."""
    return Odometer(tuple(Wheel.named(name, size, key, spread=name == "tempo") for name, size in sizes), sequences)

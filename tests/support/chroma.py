"""Made chroma codes: like those of music, each track's own, and copies of them as codecs and shifts leave them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from catalog.chroma import pack_codes

SILENCE = 627964279  # the code of a pause, which many real pieces have
TWO_MINUTES = 948  # codes


def codes_of_music(seed: int, n: int = TWO_MINUTES) -> list[int]:
    """Codes that change by some bits from one to the next, with a pause in the middle."""
    rng = random.Random(seed)
    code, codes = rng.getrandbits(32), []
    for _ in range(n):
        for _ in range(rng.choice((0, 1, 2, 4, 6))):
            code ^= 1 << rng.randrange(32)
        codes.append(code)
    codes[n // 2 : n // 2 + 3] = [SILENCE] * 3
    return codes


def worn(codes: Sequence[int], *, share: float, seed: int = 1, shift: int = 0) -> list[int]:
    """The same recording `shift` codes later, with one bit of each code changed but for `share` of them."""
    rng = random.Random(seed)
    changed = [code if rng.random() < share else code ^ (1 << rng.randrange(32)) for code in codes]
    lead = [rng.getrandbits(32) for _ in range(shift)]
    return [*lead, *changed][: len(codes)]


def chroma_of_music(seed: int, n: int = TWO_MINUTES) -> str:
    """The same as a sidecar has them."""
    return pack_codes(codes_of_music(seed, n))

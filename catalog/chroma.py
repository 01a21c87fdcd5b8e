"""Chroma codes: the sound of a take's first two minutes, by which two takes of one recording are recognised.

Chromaprint writes a 32-bit code every eighth of a second. A recording keeps most of its codes through a change of
level, a lossy codec or a shift in time, and different music has almost none in common. A sidecar has the codes as text:
each XORed with the one before, in little-endian order, deflated, in base64.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from base64 import b64decode, b64encode
from binascii import Error as NotBase64Error
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from operator import xor
from typing import Annotated, Final, NamedTuple

from pydantic import Field

from catalog.bounded import Key, Label, Words
from catalog.forms import Frozen

CODES_MAX: Final = 1_000  # two minutes have 948
_BITS: Final = 32
_TEXT_MAX: Final = 6_000  # of base64: what deflating makes of random codes

# Fewer different codes than this say nothing: of silence, a drone, or a few seconds.
DISTINCT_LEAST: Final = 32
# Of 57,000 pairs of real pieces, those of one recording had 16 % and more of their codes in common at a bit error rate
# of 0.08 and less, two mixes of one piece 2-6 % at 0.18, and all others an error of 0.33 and more (2026-11-30).
SHARE_LEAST: Final = 0.05
BIT_ERROR_RATE_MAX: Final = 0.2
_OFFSETS_TRIED: Final = 8

ChromaText = Annotated[str, Field(max_length=_TEXT_MAX)]


class ChromaJob(Frozen):
    """Stored audio to compute the codes of."""

    key: Key
    sha256: Label


class ChromaResult(Frozen):
    """The end of one job: the codes, or the fault that prevents them; no codes and no fault of mere silence."""

    key: Key
    chroma: ChromaText = ""
    fault: Words = ""


class Likeness(NamedTuple):
    """How alike two takes sound."""

    share: float  # of the different codes that both have, of the take with fewer
    bit_error_rate: float  # at the best shift in time; 0: the same, 0.5: unrelated

    @property
    def is_same(self) -> bool:
        """True when the two are taken for one recording."""
        return self.share >= SHARE_LEAST and self.bit_error_rate <= BIT_ERROR_RATE_MAX


class ChromaCodes:
    """The codes of one take, in time."""

    def __init__(self, codes: Sequence[int]) -> None:
        self._codes = codes

    @cached_property
    def distinct(self) -> frozenset[int]:
        """The codes without order."""
        return frozenset(self._codes)

    @cached_property
    def places(self) -> dict[int, list[int]]:
        """Code -> where it stands."""
        found: dict[int, list[int]] = {}
        for at, code in enumerate(self._codes):
            found.setdefault(code, []).append(at)
        return found

    @cached_property
    def bits(self) -> int:
        """All codes as one number, the first in its lowest bits."""
        return int.from_bytes(_little_endian(self._codes), "little")

    def __len__(self) -> int:
        return len(self._codes)

    def likeness(self, other: ChromaCodes) -> Likeness:
        """Compare with `other`; the shifts that are tried are those at which most codes agree."""
        fewer = min(len(self.distinct), len(other.distinct))
        both = self.distinct & other.distinct
        if not both:
            return Likeness(0.0, 0.5)
        # A code that comes many times says little of the shift.
        shifts = Counter(a - b for code in both for a in self.places[code][:4] for b in other.places[code][:4])
        least_overlap = min(len(self), len(other)) // 2
        rates = [
            self._bit_error_rate(other, shift)
            for shift, _ in shifts.most_common(_OFFSETS_TRIED)
            if self._overlap(other, shift) >= least_overlap
        ]
        return Likeness(len(both) / fewer, min(rates, default=0.5))

    def _overlap(self, other: ChromaCodes, shift: int) -> int:
        return min(len(self) - max(shift, 0), len(other) - max(-shift, 0))

    def _bit_error_rate(self, other: ChromaCodes, shift: int) -> float:
        """The share of differing bits where the codes of `other` begin `shift` codes later."""
        n_bits = self._overlap(other, shift) * _BITS
        ours, theirs = self.bits >> max(shift, 0) * _BITS, other.bits >> max(-shift, 0) * _BITS
        return ((ours ^ theirs) & ((1 << n_bits) - 1)).bit_count() / n_bits


def pack_codes(codes: Sequence[int]) -> str:
    """Codes as text, some 2.8 KB for two minutes."""
    changes = [code ^ before for code, before in zip(codes, [0, *codes], strict=False)]
    return b64encode(zlib.compress(_little_endian(changes), 9)).decode()


def unpack_codes(text: str) -> ChromaCodes | None:
    """The codes that `text` holds; None for text that holds none, or too few or too many to compare."""
    try:
        unpacking = zlib.decompressobj()
        body = unpacking.decompress(b64decode(text, validate=True), CODES_MAX * 4)
    except (NotBase64Error, ValueError, zlib.error):
        return None
    if not unpacking.eof or len(body) % 4:
        return None
    codes = array("I", body)
    if sys.byteorder == "big":
        codes.byteswap()
    found = ChromaCodes(array("I", accumulate(codes, xor)))
    return found if len(found.distinct) >= DISTINCT_LEAST else None


def _little_endian(codes: Sequence[int]) -> bytes:
    packed = array("I", codes)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()

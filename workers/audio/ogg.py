"""Ogg pages: sets the stream's serial number, which encoders draw at random, so that the same take has the same bytes.

Ogg is RFC 3533: a file is a row of pages, each with the serial number of its stream and a checksum of itself.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

_SERIAL_AT: Final = 14
_CHECKSUM_AT: Final = 22
_SEGMENTS_AT: Final = 26
_HEADER_BYTES: Final = 27
_MIRRORED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def with_serial(body: bytes, serial: int) -> bytes:
    """`body`, a file of one stream, with another serial number, in [0, 2**32)."""
    changed = bytearray(body)
    for start, end in _pages(body):
        struct.pack_into("<I", changed, start + _SERIAL_AT, serial)
        struct.pack_into("<I", changed, start + _CHECKSUM_AT, 0)
        struct.pack_into("<I", changed, start + _CHECKSUM_AT, _checksum(bytes(changed[start:end])))
    return bytes(changed)


def _pages(body: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each page. Raises ValueError for what is no Ogg file."""
    start = 0
    while start < len(body):
        if body[start : start + 4] != b"OggS":
            raise ValueError(f"no Ogg page begins at byte {start}")
        data = start + _HEADER_BYTES + body[start + _SEGMENTS_AT]
        end = data + sum(body[start + _HEADER_BYTES : data])
        yield start, end
        start = end


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32: zlib's polynomial with the bits of each byte in the other order, from zero and not inverted."""
    mirrored = ~zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)

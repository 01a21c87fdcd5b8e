"""WAV: the samples as they are, with what is known of them in chunks before the samples.

libsndfile is not used here: it writes the clock into floating-point files, and neither bext of our choice nor iXML. The
form is RIFF; `bext` is that of EBU Tech 3285, version 2, with the levels; iXML (version 2.10) holds every field; LIST
INFO is what most players read. Nothing follows the samples, because some delivery rules forbid it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple
from xml.etree import ElementTree

from catalog.limits import CHANNELS, SAMPLE_RATE_HZ

_PCM: Final = 1
_FLOAT: Final = 3
_NO_LEVEL: Final = 0x7FFF  # of bext: the level is not known


class BroadcastNote(NamedTuple):
    """The fields of `bext`. Texts are cut to what they may have; levels are in LUFS, LU and dBTP."""

    description: str  # 256 characters
    originator: str  # 32
    reference: str  # 32, unique
    date: str  # YYYY-MM-DD, or empty
    levels: tuple[float | None, ...]  # integrated, range, true peak, highest momentary, highest short-term


def wav_file(samples: bytes, bits: int, *, is_float: bool, chunks: Mapping[str, bytes]) -> bytes:
    """The whole file. `samples` are interleaved and packed; `chunks` are by name, in the order of the file."""
    frame_bytes = CHANNELS * bits // 8
    kind = _FLOAT if is_float else _PCM
    form = struct.pack("<HHIIHH", kind, CHANNELS, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * frame_bytes, frame_bytes, bits)
    parts = [_chunk("fmt ", form + (b"\0\0" if is_float else b""))]
    if is_float:  # every form but PCM says how many samples there are
        parts.append(_chunk("fact", struct.pack("<I", len(samples) // frame_bytes)))
    parts += [_chunk(name, content) for name, content in chunks.items()]
    parts.append(_chunk("data", samples))
    content = b"WAVE" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def bext(note: BroadcastNote) -> bytes:
    """The chunk of EBU Tech 3285. It is ASCII: of other signs a question mark is left; iXML has them."""
    levels = [_NO_LEVEL if level is None else round(100 * level) for level in note.levels]
    return (
        _fixed(note.description, 256)
        + _fixed(note.originator, 32)
        + _fixed(note.reference, 32)
        + _fixed(note.date, 10)
        + _fixed("00:00:00" if note.date else "", 8)
        + struct.pack("<QH", 0, 2)  # the first sample's place on a timeline, and the version
        + bytes(64)  # no UMID
        + struct.pack("<5h", *levels)
        + bytes(180)  # reserved; the coding history after it stays empty
    )


def ixml(fields: Mapping[str, str], *, project: str, note: str) -> bytes:
    """The iXML chunk: every field under USER, which the form leaves to whoever writes."""
    root = ElementTree.Element("BWFXML")
    ElementTree.SubElement(root, "IXML_VERSION").text = "2.10"
    ElementTree.SubElement(root, "PROJECT").text = project
    ElementTree.SubElement(root, "NOTE").text = note
    user = ElementTree.SubElement(root, "USER")
    for name, text in fields.items():
        ElementTree.SubElement(user, name).text = text
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def info(fields: Mapping[str, str]) -> bytes:
    """The LIST INFO chunk, in UTF-8; `fields` by their four-letter names, such as INAM for the title."""
    return b"INFO" + b"".join(_chunk(name, text.encode() + b"\0") for name, text in fields.items() if text)


def _chunk(name: str, content: bytes) -> bytes:
    """A chunk; one of odd length is padded, and its length is that without the padding."""
    return name.encode("ascii") + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _fixed(text: str, size: int) -> bytes:
    return text.encode("ascii", "replace")[:size].ljust(size, b"\0")

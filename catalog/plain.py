"""Plain text: the form in which text from outside may be shown on a terminal, in a log, in a file or on a page.

Hosts, titles, reasons and file names come from workers, presets and invoices, and an old ledger may hold them
unchecked. A terminal obeys control characters, bidirectional overrides change the visible order of letters, and UTF-8
has no lone surrogates. Every output of the program passes text through these functions, so no caller needs to know
where a text comes from. In JSON, such characters are escaped and not replaced, so JSON loses nothing.
"""

from __future__ import annotations

import io
import re
from typing import Final, TextIO

# C0 and DEL and C1, bidirectional embeddings, overrides and isolates, surrogates, and what XML does not allow.
_UNFIT: Final = "\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff"
_LINE_ENDS: Final = "\u2028\u2029"
_IN_JSON: Final = re.compile(f"(?!\n)[{_UNFIT}{_LINE_ENDS}]")
_IN_LINES: Final = re.compile(f"(?!\n)[{_UNFIT}]")
_SPACES: Final = re.compile(f"\r\n|[\t\n\r{_LINE_ENDS}]")  # layout characters; in one line, a space replaces them
_RETURNS: Final = re.compile(f"\r\n|[\r{_LINE_ENDS}]")


def plain(text: str) -> str:
    """`text` as one line: line ends and tabs become spaces, and characters unfit for a terminal become U+FFFD."""
    if text.isascii() and text.isprintable():
        return text
    return _IN_LINES.sub("\ufffd", _SPACES.sub(" ", text))


def replace_unencodable(*streams: TextIO | None) -> None:
    """Let `streams` print a question mark for each character that their encoding lacks, instead of an error."""
    for stream in streams:
        # Another rule than `strict` loses nothing: it escapes, or gives bytes of file names back as they were.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def has_all_characters(stream: TextIO) -> bool:
    """True when the encoding of `stream` lacks no character."""
    return (stream.encoding or "utf-8").lower().startswith(("utf", "u8"))


def plain_lines(text: str) -> str:
    """The same for a text of several lines: each ends with a line feed, and nothing else ends one."""
    return _IN_LINES.sub("\ufffd", _RETURNS.sub("\n", text).replace("\t", " "))


def plain_json(document: str) -> str:
    """A JSON document with unfit characters escaped; outside its strings it may have no white space but LF and space.

    Its values stay the same, even a lone surrogate, and the result can be encoded in UTF-8.
    """
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)

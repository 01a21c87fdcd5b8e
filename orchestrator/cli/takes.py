"""Takes as people name them: by the id or its first digits, by a file's name, or by the path or URL of a file."""

from __future__ import annotations

from catalog.errors import UnknownNameError
from catalog.keys import take_named
from orchestrator.ledger import Ledger, RenditionRow

TAKE_HELP = "A take's id or its first digits, or the name, path or URL of its file."


def get_rendition(ledger: Ledger, text: str) -> RenditionRow:
    """The finished take that `text` names. Raises UnknownNameError, which says how the text was understood."""
    digits = take_named(text)
    if digits is None:
        raise UnknownNameError(
            f"{text!r} is not the id or the file of a take",
            why="an id is made of the digits 0-9 and a-f, and a file is called <id>-<checksum>.flac or <id>.json",
            fix="`tunemill catalog list` shows the takes, and with `--files` their files",
        )
    found = ledger.find_rendition(digits)
    if found is None:
        understood = "" if digits == text else f" (understood from {text!r})"
        raise UnknownNameError(
            f"no finished take begins with {digits!r}{understood}",
            why="only accepted takes are finished; a take that failed or that the checks rejected has no file",
            fix="`tunemill catalog list` lists the finished takes",
        )
    return found

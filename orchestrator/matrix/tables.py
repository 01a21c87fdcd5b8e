"""Tables: read text and CSV files of any program into records that know their lines.

Text is UTF-8 or UTF-16, with or without a byte order mark. For other files, an import may assume Windows-1252, which
Western spreadsheets write; a file that makes no sense as Windows-1252 is refused.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from catalog.errors import UnreadableFileError
from orchestrator.matrix.located import shown
from orchestrator.matrix.names import quoted
from orchestrator.matrix.problems import Problem

WINDOWS: Final = "cp1252"
_FOREIGN_SHARE_MAX: Final = 0.15  # of the letters; words of the west have fewer accents
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_EXPORT: Final = "open it in its program and export the sheet as CSV (UTF-8)"
_MAGIC: Final = (
    (b"PK\x03\x04", "a workbook or another ZIP archive", _EXPORT),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", _EXPORT),
    (b"PAR1", "a Parquet file", "convert it to CSV or JSON lines"),
    (b"\x1f\x8b", "a gzip archive", "unpack it with `gunzip`"),
    (b"SQLite format 3", "a database", "export the table as CSV (UTF-8)"),
    (b"%PDF", "a PDF", "copy its table into a CSV file"),
)
csv.field_size_limit(1024 * 1024)  # lyrics are longer than the 128 KiB that csv allows only when something is wrong


class ForeignText(NamedTuple):
    """The text of a file, and the encoding that was only assumed; "" where there is no doubt."""

    text: str
    assumed: str = ""


def read_foreign_text(file: Path, encoding: str = "", *, guess: bool = False) -> ForeignText:
    """The text of `file`. Raises UnreadableFileError in words for a file that is no text.

    `encoding` is a name that a person gave; without one, `guess` lets text that is not Unicode count as Windows-1252.
    """
    try:
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        fix = "grant the right to read it" if isinstance(error, PermissionError) else "correct the path"
        raise UnreadableFileError(f"{shown(file)}: cannot be read: {reason}", fix=fix) from None
    for magic, kind, fix in _MAGIC:
        if content.startswith(magic):
            raise UnreadableFileError(f"{shown(file)}: this is {kind}, not text", fix=fix)
    if encoding:
        return ForeignText(_decoded(file, content, encoding))
    if unicode := _unicode_of(content):
        return ForeignText(_decoded(file, content, unicode))
    if b"\x00" in content:
        raise UnreadableFileError(f"{shown(file)}: this is a binary file, not text", fix="save it as UTF-8 text")
    try:
        return ForeignText(content.decode())
    except UnicodeDecodeError as error:
        if guess and (text := _western(content)) is not None:
            return ForeignText(text, WINDOWS)
        line = content[: error.start].count(b"\n") + 1
        raise UnreadableFileError(
            f"{shown(file)}:{line}: the file is not UTF-8 text",
            why=f"byte 0x{content[error.start]:02x} has no meaning there",
            fix="save it as UTF-8" + (", or name its encoding, such as --encoding cp1251" if guess else ""),
        ) from None


def _unicode_of(content: bytes) -> str:
    """The encoding that a byte order mark names, or that every second byte being 0 gives away; "" for neither."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    sample = content[:400]
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(sample) >= 4 and len(content) % 2 == 0 and sample[start::2].count(0) > 0.4 * len(sample) / 2:
            return encoding if not sample[1 - start :: 2].count(0) else ""
    return ""


def _decoded(file: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except LookupError:
        raise UnreadableFileError(
            f"there is no encoding {quoted(encoding)}", fix="write a name such as --encoding cp1252"
        ) from None
    except ValueError as error:
        raise UnreadableFileError(
            f"{shown(file)}: the file is not {encoding} text: {error}", fix="save it as UTF-8"
        ) from None


def _western(content: bytes) -> str | None:
    """`content` as Windows-1252, or None where that is no text, or hardly one: few of its letters have accents."""
    try:
        text = content.decode(WINDOWS)
    except UnicodeDecodeError:
        return None
    foreign = len(re.findall("[^\x00-\x7f]", text))
    if re.search(r"[\x00-\x08\x0e-\x1f]", text) or foreign > _FOREIGN_SHARE_MAX * len(re.findall(r"\w", text)):
        return None
    return text


def read_records(
    text: str, path: Path, is_known: Callable[[str], bool], on_bad_row: Callable[[Problem], None] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The records of CSV with the line each begins on, the heading first; blank ones are passed over.

    The delimiter is the one under which the heading has most names of which `is_known` is true. Raises
    UnreadableFileError for an empty file, and for a row that is no CSV unless `on_bad_row` takes its problem.
    """
    if not text.strip():
        raise UnreadableFileError(f"{shown(path)}: the file is empty", fix="add prompts to the file, or delete it")
    first_line = 1
    if said := re.match(r"\s*\"?sep=(.)\"?\r?\n", text):  # Excel's own way to name the delimiter
        text, first_line = text[said.end() :], 2
    delimiter = said[1] if said else _delimiter(text, is_known)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = first_line
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = _no_csv(path, line, reader.line_num + first_line - 1, error)
            if on_bad_row is None:
                raise UnreadableFileError(f"{problem.where}: {problem.what}", fix=problem.fix) from None
            on_bad_row(problem)
        else:
            if any(cell.strip() for cell in record):
                yield line, record
        line = reader.line_num + first_line


def _no_csv(path: Path, line: int, last: int, error: csv.Error) -> Problem:
    reaches = f"; its open quote takes in the lines down to {last:,}" if last > line else ""
    fix = "begin and end a quoted cell with one '\"', and write a '\"' inside it twice"
    return Problem(f"{shown(path)}:{line}", f"this row is not CSV: {error}{reaches}", UnreadableFileError, fix)


def _delimiter(text: str, is_known: Callable[[str], bool]) -> str:
    heading = text.lstrip("\r\n").split("\n", 1)[0].rstrip("\r")

    def known(delimiter: str) -> tuple[int, int]:
        names = heading.split(delimiter)
        return sum(is_known(name.strip().strip('"')) for name in names), len(names) if len(names) > 1 else 0

    return max(",;\t|", key=known)

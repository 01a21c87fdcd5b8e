"""Provider files: decode bytes into text, and parse text into records that know their line.

Text is UTF-8, with or without a byte order mark. No other encoding is guessed: read in the wrong one, a name or a sign
would change unnoticed. Numbers stay decimal text from the file to the books and never become a float.
"""

from __future__ import annotations

import csv
import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from io import StringIO
from json import decoder, scanner
from pathlib import Path
from typing import Any, Final, NamedTuple

from catalog.errors import InvoiceError, UnreadableFileError

BYTES_MAX: Final = 32 * 2**20  # the text is kept in the ledger whole
_CELL_CHARS_MAX: Final = 100_000


class SourceFile(NamedTuple):
    """A file as it was handed in."""

    path: Path
    sha256: str
    text: str


class FileRow(NamedTuple):
    """One record: its cells by plain name of the column, and the line it begins on."""

    line: int
    cells: Mapping[str, str]


class FileTable(NamedTuple):
    """Records under a header."""

    header: tuple[str, ...]  # as written
    rows: tuple[FileRow, ...]


class Record(dict[str, Any]):
    """A JSON object that knows the line it begins on."""

    line = 1


@lru_cache(maxsize=1024)  # a file asks for few columns, once for each of its rows
def plain(name: str) -> str:
    """A column's name without regard to capitals, spaces and signs: "Unit Price ($)" is unitprice."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def read_source(path: Path) -> SourceFile:
    """The file's text and hash. Raises UnreadableFileError for one that is absent, empty, binary or not UTF-8."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise UnreadableFileError(
                f"{path}: the file is larger than {BYTES_MAX >> 20} MiB",
                why="the ledger keeps the whole file, and no invoice of a month is that large",
                fix="export a shorter period",
            )
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnreadableFileError(f"{path}: cannot be read: {reason}", fix="correct the path") from None
    if b"\x00" in content or content.startswith((b"%PDF", b"PK\x03\x04", b"\x1f\x8b")):
        raise UnreadableFileError(
            f"{path}: this is a binary file, not text",
            why="providers' files are read as CSV or JSON, never as a PDF or a workbook",
            fix="export the invoice as CSV or JSON",
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UnreadableFileError(
            f"{path}:{line}: the file is not UTF-8 text",
            why=f"byte 0x{content[error.start]:02x} is not valid there, and the program does not guess encodings",
            fix="save the file as UTF-8, for example with: iconv -f WINDOWS-1252 -t UTF-8",
        ) from None
    if not text.strip():
        raise UnreadableFileError(f"{path}: the file is empty", fix="export it again")
    return SourceFile(path, hashlib.sha256(content).hexdigest(), text)


def looks_like_json(text: str) -> bool:
    """True when the text can only be JSON."""
    return text.lstrip()[:1] in ("{", "[")


def read_header(source: SourceFile) -> tuple[str, ...]:
    """The column names of a CSV file; the rows below are not read."""
    cells = next((cells for _, cells in _lines_of(_csv_reader(source, ","), source.path) if any(cells)), [])
    return tuple(cell.strip() for cell in cells)


def read_table(source: SourceFile, delimiter: str = ",") -> FileTable:
    """The file as CSV with a header. Raises UnreadableFileError for a row that does not fit under it."""
    header: tuple[str, ...] = ()
    rows: list[FileRow] = []
    for line, cells in _lines_of(_csv_reader(source, delimiter), source.path):
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = tuple(cell.strip() for cell in cells)
            _check_header(header, source.path, line)
            continue
        if len(cells) != len(header):
            raise UnreadableFileError(
                f"{source.path}:{line}: {len(cells)} cells under a header of {len(header)} columns",
                why="a cell that contains the delimiter needs quotes",
                fix="export the file again, or name its delimiter in a mapping",
            )
        named = zip(header, cells, strict=True)
        rows.append(FileRow(line, {plain(name): cell.strip() for name, cell in named}))
    return FileTable(header, tuple(rows))


def _csv_reader(source: SourceFile, delimiter: str) -> Any:
    csv.field_size_limit(_CELL_CHARS_MAX)
    return csv.reader(StringIO(source.text, newline=""), delimiter=delimiter, strict=True)


def _lines_of(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1  # a quoted cell may hold line breaks
    except csv.Error as error:
        raise UnreadableFileError(
            f"{path}:{line}: the line is not valid CSV: {error}", fix="export the file again as CSV"
        ) from None


def _check_header(header: tuple[str, ...], path: Path, line: int) -> None:
    seen: dict[str, str] = {}
    for name in header:
        if (key := plain(name)) in seen and key:
            raise UnreadableFileError(
                f"{path}:{line}: the columns {seen[key]!r} and {name!r} have the same name",
                why="nobody can say which of them is meant",
                fix="rename one of the two columns",
            )
        seen[key] = name


def read_json(source: SourceFile) -> Any:
    """The file as JSON: numbers as Decimal, objects as Records. Raises UnreadableFileError for other text."""
    reader = _LocatingDecoder(source)
    try:
        return reader.decode(source.text)
    except json.JSONDecodeError as error:
        raise UnreadableFileError(
            f"{source.path}:{error.lineno}: the file is not valid JSON: {error.msg}", fix="export it again"
        ) from None
    except RecursionError:
        raise UnreadableFileError(f"{source.path}: the file is nested too deeply", fix="export it again") from None


class _LocatingDecoder(json.JSONDecoder):
    """Python's own reader of JSON, asked at the start of every object where it is."""

    def __init__(self, source: SourceFile) -> None:
        super().__init__(
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=self._refuse_constant,
            object_pairs_hook=self._without_doubles,
        )
        self._path = source.path
        self._line_starts = [0, *(at + 1 for at, letter in enumerate(source.text) if letter == "\n")]
        self.parse_object = self._located_object
        # The scanner in C never asks where it is.
        self.scan_once = getattr(scanner, "py_make_scanner")(self)  # noqa: B009 - unknown to the type stubs

    def _located_object(self, where: tuple[str, int], *rest: Any) -> tuple[Any, int]:
        value, end = decoder.JSONObject(where, *rest)  # type: ignore[attr-defined]
        value.line = bisect_right(self._line_starts, where[1])
        return value, end

    def _without_doubles(self, pairs: list[tuple[str, Any]]) -> Record:
        record = Record(pairs)
        if len(record) != len(pairs):
            names = [name for name, _ in pairs]
            double = next(name for name in names if names.count(name) > 1)
            raise UnreadableFileError(
                f"{self._path}: an entry has two values for {double!r}",
                why="nobody can say which of them is meant",
                fix="export the file again",
            )
        return record

    def _refuse_constant(self, word: str) -> None:
        raise InvoiceError(
            f"{self._path}: {word} is not an amount", why="every number is finite", fix="export the file again"
        )

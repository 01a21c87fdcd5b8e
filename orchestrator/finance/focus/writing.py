"""Writing: the two FOCUS files of a month as CSV, on request also as Parquet, with a metadata file that describes them.

Rows are written one by one in the order of the charges. So a month with millions of rows needs little memory, and the
same charges give the same bytes. CSV follows RFC 4180 in UTF-8; null is an empty cell.

Invoice numbers and names come from outside. FOCUS asks for text as its owner wrote it, and loaders join tables on it.
Therefore this module changes little, and the same in each file. Control characters and other characters that are not
plain (catalog/plain.py) are replaced in text columns and escaped in JSON columns. In the CSV files, a text cell that
begins with = + - or @, also after spaces, gets an apostrophe in front, because a spreadsheet would run such a cell as a
formula. Numbers keep their sign. No spreadsheet runs the Parquet files, so they need no apostrophe.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from catalog.errors import SettingsError
from catalog.plain import plain, plain_json
from orchestrator.finance.focus.columns import (
    COLUMNS,
    DIGITS,
    FOCUS_VERSION,
    MONEY_DECIMALS,
    NAMES,
    SCHEMA_ID,
    DataType,
    FocusColumn,
)
from orchestrator.finance.focus.measures import decimal_text
from orchestrator.finance.focus.rows import FocusCharge, LeftOut, Row, find_left_out, rows_of

RENTAL_CSV: Final = "focus-rental.csv"
ALLOCATION_CSV: Final = "focus-allocation.csv"
METADATA_JSON: Final = "focus-metadata.json"

_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_ROW_GROUP: Final = (
    20_480  # rows of a Parquet file that are in memory together; DuckDB holds six times as many by itself
)
_SUMMED: Final = ("BilledCost", "EffectiveCost")
_TEXT_COLUMNS: Final = tuple(column.name for column in COLUMNS if column.type is DataType.STRING)
_JSON_COLUMNS: Final = tuple(column.name for column in COLUMNS if column.type is DataType.JSON)


def write_focus(
    charges: Iterable[FocusCharge], folder: Path, *, period: str, time_zone: str, parquet: bool, by_day: bool = True
) -> list[Path]:
    """Write the files of `period` into `folder` and return their paths, the metadata last.

    Charges that are left out for lack of a price are listed in the metadata. Raises SettingsError when Parquet is
    requested and cannot be written.
    """
    if parquet:
        _duckdb()  # before a minute of writing, not after it
    folder.mkdir(parents=True, exist_ok=True)
    left_out: list[LeftOut] = []
    with ExitStack() as open_files:
        files = [
            _File(folder / name, open_files, open_files.enter_context(_scratch(folder)) if parquet else None)
            for name in (RENTAL_CSV, ALLOCATION_CSV)
        ]
        for charge in charges:
            left_out += find_left_out([charge])
            rows = rows_of(charge, by_day=by_day)
            files[0].write(rows.rental)
            files[1].write(rows.allocation)
        written = [file.path for file in files]
        if parquet:
            written += [file.write_parquet() for file in files]
    metadata = _metadata(files, written, left_out, {"Period": period, "TimeZone": time_zone})
    path = folder / METADATA_JSON
    text = plain_json(json.dumps(metadata, indent=2, ensure_ascii=False)) + "\n"
    _unfinished(path).write_text(text, encoding="utf-8", newline="\n")
    written.append(path)
    for finished in written:
        _unfinished(finished).replace(finished)
    return written


def _unfinished(path: Path) -> Path:
    """The temporary name of a file until all files are complete, so that no tool loads half a month."""
    return path.with_name(f"{path.name}.part")


def guarded(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_SIGNS) else text


def _plain_row(row: Row) -> Row:
    """The row with every text as it may be shown."""
    texts = {name: plain(text) for name in _TEXT_COLUMNS if (text := row[name]) is not None}
    return {**row, **texts, **{name: plain_json(text) for name in _JSON_COLUMNS if (text := row[name]) is not None}}


class _File:
    """One of the two, while it is written."""

    def __init__(self, path: Path, open_files: ExitStack, raw: TextIO | None) -> None:
        self.path, self._raw = path, raw
        self.rows = 0
        self.usd_micros = dict.fromkeys(_SUMMED, 0)
        self._text = open_files.enter_context(_unfinished(path).open("w", encoding="utf-8", newline=""))
        self._csv = csv.writer(self._text)
        self._csv.writerow(NAMES)
        self._raw_csv = csv.writer(raw) if raw else None

    def write(self, rows: Iterable[Row]) -> None:
        """Add rows."""
        for row in map(_plain_row, rows):
            self.rows += 1
            for name in _SUMMED:
                # Six decimals always, so the digits without the point are micro-dollars.
                self.usd_micros[name] += int((row[name] or "").replace(".", ""))
            if self._raw_csv:
                self._raw_csv.writerow([row[name] for name in NAMES])
            guards = {name: guarded(text) for name in _TEXT_COLUMNS if (text := row[name]) is not None}
            self._csv.writerow([guards.get(name, row[name]) for name in NAMES])

    def write_parquet(self) -> Path:
        """The same rows with types, text unguarded."""
        path = self.path.with_suffix(".parquet")
        if self._raw is not None:
            self._raw.flush()
            _copy_to_parquet(Path(self._raw.name), _unfinished(path))
        return path


@contextmanager
def _scratch(folder: Path) -> Iterator[TextIO]:
    """A file beside the finished ones, where there is room for it, that is gone in the end."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", suffix=".csv", dir=folder) as file:
        yield file  # type: ignore[misc]  # the wrapper has all of TextIO


def _duckdb() -> Any:
    try:
        import duckdb  # an extra
    except ImportError:
        raise SettingsError(
            "Parquet files cannot be written here",
            why="the package duckdb, which writes them, is not installed",
            fix="pip install 'tunemill[parquet]', or leave Parquet out: the CSV files hold the same",
        ) from None
    return duckdb


def _copy_to_parquet(source: Path, target: Path) -> None:
    """One thread and the order of the rows kept: the same rows give the same bytes with the same DuckDB."""
    texts = ", ".join(f"'{column.name}': 'VARCHAR'" for column in COLUMNS)
    cells = ", ".join(f'CAST("{column.name}" AS {_sql_type(column)}) AS "{column.name}"' for column in COLUMNS)
    read = (
        f"read_csv(?, header=false, columns={{{texts}}}, delim=',', quote='\"', escape='\"', "
        "nullstr='', allow_quoted_nulls=false, parallel=false, auto_detect=false, new_line='\\r\\n')"
    )
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP}"
    with _duckdb().connect(config={"threads": 1, "preserve_insertion_order": True}) as connection:
        connection.execute("SET TimeZone='UTC'")
        connection.execute(
            f"COPY (SELECT {cells} FROM {read}) TO '{_quoted(target)}' ({options})",  # noqa: S608 - names of ours
            [str(source)],
        )


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _sql_type(column: FocusColumn) -> str:
    if column.type is DataType.DECIMAL:
        return f"DECIMAL({DIGITS},{column.scale})"
    return "TIMESTAMP" if column.type is DataType.DATETIME else "VARCHAR"


def _metadata(
    files: list[_File], written: list[Path], left_out: list[LeftOut], extra: dict[str, str]
) -> dict[str, Any]:
    """The description of the files, under FOCUS's own terms where it has them; other keys begin with x_."""
    return {
        "SchemaId": SCHEMA_ID,
        "FocusVersion": FOCUS_VERSION,
        "DataGenerator": "Tunemill",
        "ColumnDefinition": [_definition(column) for column in COLUMNS],
        **{f"x_{name}": value for name, value in extra.items()},
        "x_FileNames": [path.name for path in written],
        "x_Files": [
            {
                "FileName": file.path.name,
                "Rows": file.rows,
                **{name: decimal_text(micros, MONEY_DECIMALS) for name, micros in file.usd_micros.items()},
            }
            for file in files
        ],
        "x_Note": "The files describe the same money: load one of them, never both.",
        "x_LeftOut": [each._asdict() for each in left_out],
    }


def _definition(column: FocusColumn) -> dict[str, Any]:
    definition: dict[str, Any] = {"ColumnName": column.name, "DataType": column.type.value}
    if column.type is DataType.DECIMAL:
        definition |= {"NumericPrecision": DIGITS, "NumberScale": column.scale}
    if column.type is DataType.STRING:
        definition["StringEncoding"] = "UTF-8"
    return definition | ({"x_Since": column.since} if column.since else {})

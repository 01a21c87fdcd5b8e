"""Entries: one record of a provider's file (a row of CSV or an object of JSON), whose values are read by column name.

A value that cannot be read is refused with file, line and column. An absent column counts as an empty cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from catalog.errors import InvoiceError, UnreadableFileError
from orchestrator.finance.invoices.files import FileRow, Record, SourceFile, plain
from orchestrator.finance.invoices.values import instant_of, provider_amount_of

Value = TypeVar("Value")


class FileContext(NamedTuple):
    """The settings for reading a file's values."""

    path: Path
    zone: ZoneInfo  # of times without an offset


class InvoiceEntry(NamedTuple):
    """A record, with its values by plain column name."""

    reader: FileContext
    line: int
    values: Mapping[str, Any]

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.reader.path}:{self.line}"

    def get(self, *columns: str) -> Any:
        """The first of these columns that has a value; None without any."""
        for column in columns:
            value = self.values.get(plain(column))
            if value is not None and (not isinstance(value, str) or value.strip()):
                return value
        return None

    def text(self, *columns: str) -> str:
        """The value as text, exactly as written; empty when absent."""
        value = self.get(*columns)
        if value is None:
            return ""
        return f"{value:f}" if isinstance(value, Decimal) else str(value).strip()

    def find_amount(self, *columns: str) -> Decimal | None:
        """As a decimal number; None when absent."""
        value = self.get(*columns)
        return None if value is None else self.read(columns, value, provider_amount_of)

    def get_amount(self, *columns: str) -> Decimal:
        """As a decimal number that must be there."""
        found = self.find_amount(*columns)
        if found is None:
            raise InvoiceError(f"{self.where}: no {columns[0]}", why="an amount is never guessed", fix="fill it in")
        return found

    def quantity(self, *columns: str) -> str:
        """A quantity or price as the text it was written as, checked to be a number."""
        self.find_amount(*columns)
        return self.text(*columns)

    def find_instant(self, *columns: str) -> int | None:
        """In epoch milliseconds; None when absent."""
        value = self.get(*columns)
        return None if value is None else self.read(columns, value, lambda each: instant_of(each, self.reader.zone))

    def get_instant(self, *columns: str) -> int:
        """In epoch milliseconds, of a column that must be there."""
        found = self.find_instant(*columns)
        if found is None:
            raise InvoiceError(f"{self.where}: no {columns[0]}", why="a time is never guessed", fix="fill it in")
        return found

    def read(self, columns: tuple[str, ...], value: Any, read: Callable[[Any], Value]) -> Value:
        """The result of `read` on `value`; a ValueError becomes an InvoiceError that names file, line and column."""
        try:
            return read(value)
        except ValueError as error:
            raise InvoiceError(
                f"{self.where}: {columns[0]}: {error}",
                why="an inexact number or date is not accepted",
                fix="correct the cell, or describe the file in a mapping",
            ) from None


def entry_of(record: FileRow | Any, reader: FileContext) -> InvoiceEntry:
    """A row or a JSON object as an entry. Raises UnreadableFileError for JSON that is no object."""
    if isinstance(record, FileRow):
        return InvoiceEntry(reader, record.line, record.cells)
    if isinstance(record, Record):
        return InvoiceEntry(reader, record.line, {plain(name): value for name, value in record.items()})
    raise UnreadableFileError(
        f"{reader.path}: {str(record)[:40]!r} stands where an entry is expected", fix="export the file again"
    )


def unknown_layout(source: SourceFile, found: object, wanted: str) -> UnreadableFileError:
    """The error for a file that has none of the layouts that are known."""
    return UnreadableFileError(
        f"{source.path}:1: the file has no known layout",
        why=f"found: {found}; wanted: {wanted}",
        fix="describe its columns in a mapping file, and name the mapping file with --mapping",
    )

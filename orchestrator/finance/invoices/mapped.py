"""Mapped CSV: any CSV file, read by a mapping file that says which column is which and how values are written.

A mapping is YAML. `columns` names the columns; only `amount` is required. `meters` says which meter each value of the
meter column means (gpu, disk, egress, credit, tax, topup, or total for the row that states the sum), and `meter` is the
meter of all other values. `dates` is a strptime format; without it, times are ISO 8601. `decimal` and `thousands` are
the separators in numbers. `provider`, `number` and `currency` give values that the file does not contain.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from catalog.errors import InvoiceError, SettingsError, UnreadableFileError
from catalog.forms import Frozen
from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.invoices.drafts import InvoiceDraft, LineDraft
from orchestrator.finance.invoices.entries import FileContext, InvoiceEntry, entry_of
from orchestrator.finance.invoices.files import SourceFile, plain, read_source, read_table
from orchestrator.finance.invoices.lambda_labs import the_one
from orchestrator.finance.invoices.values import after_day, amount_of, instant_of, is_day, zone_of

_TOTAL: Final = "total"


class Columns(Frozen):
    """Names of columns, as the file's header has them."""

    amount: str = Field(min_length=1)
    external_id: str = ""
    meter: str = ""
    sku: str = ""
    description: str = ""
    start: str = ""
    end: str = ""
    quantity: str = ""
    unit: str = ""
    unit_price: str = ""
    number: str = ""
    currency: str = ""


class Mapping(Frozen):
    """The description of a CSV file's columns and values."""

    provider: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9_-]{0,31})?$")
    number: str = ""
    currency: str = Field(default="", pattern=r"^([A-Z]{3})?$")
    columns: Columns
    meters: dict[str, Literal["gpu", "disk", "egress", "credit", "tax", "topup", "total"]] = {}
    meter: Meter | None = None  # of a line whose meter column has no value that `meters` names
    dates: str | None = None  # strptime form; None: ISO 8601
    time_zone: str = "UTC"  # of times without an offset
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'", "\u2019"] = ""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zone_of(name)
        except SettingsError as error:
            raise ValueError(error.what) from None
        return name

    @field_validator("thousands")
    @classmethod
    def _another_sign(cls, sign: str, info: object) -> str:
        if sign and sign == getattr(info, "data", {}).get("decimal"):
            raise ValueError("the decimal sign cannot part thousands as well")
        return sign


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file. Raises UnreadableFileError when it is no YAML, InvoiceError for a wrong key or value."""
    text = read_source(path).text
    try:
        # BaseLoader leaves every scalar as the text it was written as: a number of an invoice stays one.
        content = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - builds only text, lists and mappings
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error).replace("\n", " ")
        raise UnreadableFileError(f"{path} cannot be read as a mapping", why=reason, fix="write YAML") from None
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvoiceError(
            f"{path}:{_line_of(text, first['loc'])}: {name}: {first['msg'].removeprefix('Value error, ')}",
            why="a mapping gives the meaning of each column",
            fix=f"known are {', '.join(Mapping.model_fields)}; below columns: {', '.join(Columns.model_fields)}",
        ) from None


def _line_of(text: str, loc: tuple[int | str, ...]) -> int:
    line = 1
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for part in loc:
        if not isinstance(node, yaml.MappingNode):
            break
        node = next((value for key, value in node.value if key.value == str(part)), None)
        line = node.start_mark.line + 1 if node is not None else line
    return line


def read_mapped(source: SourceFile, reader: FileContext, mapping: Mapping) -> InvoiceDraft:
    """Read a CSV as the mapping says. Raises UnreadableFileError when it lacks a column."""
    table = read_table(source, mapping.delimiter)
    wanted = {field: name for field, name in mapping.columns.model_dump().items() if name}
    missing = [name for name in wanted.values() if plain(name) not in {plain(each) for each in table.header}]
    if missing:
        raise UnreadableFileError(
            f"{source.path}:1: the column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))} cannot be found",
            why=f"found: {', '.join(table.header)}; wanted: {', '.join(wanted.values())}",
            fix="correct the mapping, or its delimiter",
        )
    drafts: list[LineDraft] = []
    total: Decimal | None = None
    said: dict[str, dict[str, int]] = {"number": {}, "currency": {}}
    for row in table.rows:
        line = _MappedLine(entry_of(row, reader), mapping)
        for column, values in said.items():
            if value := line.text(column):
                values.setdefault(value, row.line)
        meter = line.meter()
        if meter == _TOTAL:
            total = line.amount()
        else:
            drafts.append(line.draft(Meter(meter)))
    number, currency = (the_one(values, column, source) for column, values in said.items())
    return InvoiceDraft(drafts, mapping.provider, number or mapping.number, currency or mapping.currency, total)


class _MappedLine:
    """One row, read through the columns of the mapping."""

    def __init__(self, entry: InvoiceEntry, mapping: Mapping) -> None:
        self._entry, self._mapping = entry, mapping

    def text(self, field: str) -> str:
        column = getattr(self._mapping.columns, field)
        return self._entry.text(column) if column else ""

    def meter(self) -> str:
        value = self.text("meter")
        meters = {plain(name): meter for name, meter in self._mapping.meters.items()}
        if found := meters.get(plain(value)) if value else None:
            return found
        if self._mapping.meter is not None:
            return self._mapping.meter
        raise InvoiceError(
            f"{self._entry.where}: the mapping does not say what {value!r} means",
            why=f"the mapping knows: {', '.join(self._mapping.meters) or 'no value of a meter column'}",
            fix=f"add this value below meters, or write meter: gpu for all other values ({', '.join(Meter)})",
        )

    def amount(self) -> Decimal:
        column = self._mapping.columns.amount
        return self._entry.read((column,), self._entry.text(column), self._number)

    def _number(self, value: str) -> Decimal:
        return amount_of(value, decimal=self._mapping.decimal, thousands=self._mapping.thousands)

    def number(self, field: str) -> str:
        """The text of a number, checked to be one."""
        if text := self.text(field):
            self._entry.read((getattr(self._mapping.columns, field),), text, self._number)
        return text

    def instant(self, field: str, *, is_end: bool = False) -> int | None:
        text, form = self.text(field), self._mapping.dates
        if not text:
            return None
        zone = self._entry.reader.zone
        column = getattr(self._mapping.columns, field)
        at_ms = self._entry.read((column,), text, lambda value: instant_of(value, zone, form))
        return after_day(at_ms, zone) if is_end and is_day(text, form) else at_ms

    def draft(self, meter: Meter) -> LineDraft:
        return LineDraft(
            self._entry.line,
            meter,
            self.amount(),
            self.text("external_id"),
            self.text("sku") or str(meter),
            self.text("description"),
            self.instant("start"),
            self.instant("end", is_end=True),
            self.number("quantity"),
            self.text("unit"),
            self.number("unit_price"),
        )

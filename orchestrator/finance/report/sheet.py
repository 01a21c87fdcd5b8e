"""A sheet of the workbook: its title, table head, cells by kind of value, and print layout.

Text is always written as text, so no name can become a formula or a link. A formula is written with its value, so a
viewer that does not calculate shows the same figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import xlsxwriter  # type: ignore[import-untyped]
from xlsxwriter.utility import xl_col_to_name, xl_rowcol_to_cell  # type: ignore[import-untyped]

from catalog.plain import plain
from orchestrator.finance.money import MICROS_PER_USD
from orchestrator.finance.report.figures import MICRO

UNKNOWN: Final = "unknown"  # time without a known price
NONE: Final = "none"  # nothing to divide by
TEXT_MAX: Final = 32_000  # a cell holds 32,767 characters
INK: Final = "#1F2933"
RULE: Final = "#9AA5B1"
FILL: Final = "#EEF1F4"
MUTED: Final = "#616E7C"

_MONEY: Final = {True: "$#,##0.000000;[Red]-$#,##0.000000", False: "$#,##0.00;[Red]-$#,##0.00"}
_NUMBER_FORMATS: Final = {
    "text": "@",
    "words": "General",  # a formula in a text cell would become text when a person edits it
    "count": "#,##0",
    "minutes": "#,##0.0",
    "hours": "#,##0.00",
    "percent": "0.0%",
    "usd_micro": _MONEY[True],
    "number": "0",
}
_FORMULA_LOOKS: Final = frozenset({"usd", "usd_micro", "count", "minutes", "hours", "percent", "number"})


class SheetColumn(NamedTuple):
    """A column of a table: its head, its width in characters and the kind of its cells."""

    title: str
    width: float
    look: str = "text"


class Formula(NamedTuple):
    """A formula and the value it has."""

    text: str
    value: float | str


Cell = str | int | float | Formula | None


def dollars(micros: int) -> float:
    """Micro-dollars as the number that a cell holds; exact to the micro up to nine billion dollars."""
    return micros / MICROS_PER_USD


def dollars_or(micros: int | None, word: str) -> float | str:
    """The same, or a word where there is no amount."""
    return word if micros is None else dollars(micros)


@dataclass(slots=True)
class Book:
    """The workbook under construction, with its formats and the unit in which it shows money."""

    file: Any
    unit: int
    subtitle: str
    _formats: dict[tuple[str, str], Any] = field(default_factory=dict)

    def format(self, look: str, place: str = "") -> Any:
        """The format of a look; `place` is head, total, title, note or nothing."""
        key = (look, place)
        if key not in self._formats:
            self._formats[key] = self.file.add_format(self._properties(look, place))
        return self._formats[key]

    def _properties(self, look: str, place: str) -> dict[str, Any]:
        money = _MONEY[self.unit == MICRO]
        properties: dict[str, Any] = {"font_color": INK, "valign": "top"}
        if look == "wrapped":
            properties |= {"text_wrap": True}
        else:
            properties |= {"num_format": money if look == "usd" else _NUMBER_FORMATS[look]}
        if look in _FORMULA_LOOKS:
            properties["align"] = "right"  # words such as `unknown` too
        elif look == "text" and place in ("", "head", "total"):
            properties |= {"align": "left", "indent": 1}
        of_place: dict[str, dict[str, Any]] = {
            "": {},
            "head": {"bold": True, "bottom": 1, "bottom_color": RULE, "bg_color": FILL, "text_wrap": True,
                     "valign": "bottom"},
            "total": {"bold": True, "top": 1, "top_color": RULE},
            "title": {"bold": True, "font_size": 16, "valign": "vcenter"},
            "section": {"bold": True, "font_size": 12},
            "note": {"font_color": MUTED, "italic": True},
            "key": {"font_color": RULE, "font_size": 8},
        }  # fmt: skip
        return properties | of_place[place]


class Sheet:
    """One sheet: a title on top, then rows that are appended one by one."""

    def __init__(self, book: Book, name: str, title: str) -> None:
        self.book, self.name = book, name
        self.paper = book.file.add_worksheet(name)
        self.paper.hide_gridlines(2)
        set_up_print(self.paper)
        self.paper.set_row(0, 24)
        self.put(0, 0, title, place="title")
        self.put(1, 0, book.subtitle, place="note")

    def widths(self, columns: Sequence[SheetColumn]) -> None:
        """Give the columns their widths."""
        for index, column in enumerate(columns):
            self.paper.set_column(index, index, column.width)

    def head(self, row: int, columns: Sequence[SheetColumn], *, frozen_columns: int | None = None) -> None:
        """A table's head, high enough for three lines.

        With `frozen_columns` it stays in sight, and is repeated on every printed page.
        """
        self.paper.set_row(row, 48 if any(len(column.title) > column.width > 0 for column in columns) else 18)
        for index, column in enumerate(columns):
            self.put(row, index, column.title, look=column.look, place="head")
        if frozen_columns is not None:
            self.paper.freeze_panes(row + 1, frozen_columns)
            self.paper.repeat_rows(row)

    def line(self, row: int, columns: Sequence[SheetColumn], cells: Sequence[Cell], place: str = "") -> None:
        """A table's line."""
        for index, (column, cell) in enumerate(zip(columns, cells, strict=True)):
            self.put(row, index, cell, look=column.look, place=place)

    def put(self, row: int, column: int, cell: Cell, *, look: str = "text", place: str = "") -> None:
        """Write one cell by its kind."""
        form = self.book.format(look, place)
        if isinstance(cell, Formula):
            self.paper.write_formula(row, column, cell.text, form, cell.value)
        elif isinstance(cell, str):
            self.paper.write_string(row, column, cell_text(cell), form)
        elif cell is None:
            self.paper.write_blank(row, column, None, form)
        else:
            self.paper.write_number(row, column, cell, form)

    def section(self, row: int, text: str) -> None:
        """A heading between two tables."""
        self.put(row, 0, text, place="section")

    def note(self, row: int, text: str, column: int = 0) -> None:
        """A sentence in a quiet voice."""
        self.put(row, column, text, place="note")


def cell_text(text: str) -> str:
    """`text` in the form of a cell: one line, valid in XML, and not too long."""
    return plain(text)[:TEXT_MAX]


def set_up_print(paper: Any) -> None:
    """Landscape pages as wide as the sheet; and no green corners where a name looks like a number."""
    paper.set_landscape()
    paper.set_paper(9)  # A4
    paper.set_margins(left=0.5, right=0.5, top=0.6, bottom=0.6)
    paper.fit_to_pages(1, 0)
    paper.set_footer("&L&A&RPage &P of &N")
    paper.ignore_errors({"number_stored_as_text": "A1:XFD1048576"})


def cell_at(row: int, column: int) -> str:
    """A1 for (0, 0)."""
    return str(xl_rowcol_to_cell(row, column))


def down(column: int, first: int, last: int) -> str:
    """The range of a column between two rows, both included."""
    name = xl_col_to_name(column)
    return f"{name}{first + 1}:{name}{last + 1}"


def along(row: int, first: int, last: int) -> str:
    """The range of a row between two columns, both included."""
    return f"{xl_col_to_name(first)}{row + 1}:{xl_col_to_name(last)}{row + 1}"


def sum_formula(area: str, value: float | str) -> Formula:
    """The sum of money in a range, rounded to the micro-dollar, because binary fractions have rounding errors."""
    return Formula(f"=ROUND(SUM({area}),6)", value)


def money_sum(area: str, micros: int, *, has_unknown: bool, can_be_unknown: bool) -> Formula:
    """The money in a range; `unknown` where some cell says so and the others come to nothing."""
    plain = f"ROUND(SUM({area}),6)"
    if not can_be_unknown:
        return Formula(f"={plain}", dollars(micros))
    text = f'=IF(AND(COUNTIF({area},"{UNKNOWN}")>0,{plain}=0),"{UNKNOWN}",{plain})'
    return Formula(text, UNKNOWN if has_unknown and not micros else dollars(micros))


def open_workbook(path: str, scratch: str, at_ms: int, **options: Any) -> Any:
    """A workbook that knows no time but `at_ms` and takes no text for a formula, a number or a link."""
    file = xlsxwriter.Workbook(
        path,
        {
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
            "nan_inf_to_errors": False,
            "tmpdir": scratch,
            **options,
        },
    )
    file.set_properties({"title": "Cost report", "created": datetime.fromtimestamp(at_ms // 1000, UTC)})
    file.set_calc_mode("auto")
    return file

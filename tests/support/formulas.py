"""An evaluator of spreadsheet formulas, independent of the code that writes them, so that it can prove them right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from openpyxl import Workbook
from openpyxl.utils import range_boundaries

TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<text>"[^"]*")|(?P<area>\$?[A-Z]{1,3}\$?\d+(?::\$?[A-Z]{1,3}\$?\d+)?)
    |(?P<name>[A-Za-z_][A-Za-z_0-9]*)|(?P<sign><>|>=|<=|[-+*/=<>(),]))""",
    re.VERBOSE,
)

ERROR = "#"  # only a branch that is not chosen may hold it


class Spreadsheet:
    """Evaluates the formulas of a workbook that openpyxl has read."""

    def __init__(self, book: Workbook) -> None:
        self.book = book
        self._known: dict[tuple[str, int, int], Any] = {}
        self._ranges = {name: defined.attr_text for name, defined in book.defined_names.items()}
        self._columns: dict[str, list[Any]] = {}

    def formulas(self) -> Iterator[tuple[str, str, Any]]:
        for sheet in self.book:
            for row in sheet.iter_rows():
                for cell in row:
                    if cell.data_type == "f":
                        yield sheet.title, cell.coordinate, self.value(sheet.title, cell.row, cell.column)

    def value(self, sheet: str, row: int, column: int) -> Any:
        key = (sheet, row, column)
        if key not in self._known:
            cell = self.book[sheet].cell(row, column)
            self._known[key] = Reader(self, sheet, cell.value[1:]).all() if cell.data_type == "f" else cell.value
        return self._known[key]

    def area(self, sheet: str, text: str) -> list[Any]:
        left, top, right, bottom = range_boundaries(text.replace("$", ""))
        return [self.value(sheet, row, column) for row in range(top, bottom + 1) for column in range(left, right + 1)]

    def named(self, name: str) -> list[Any]:
        if name not in self._columns:
            sheet, _, text = self._ranges[name].partition("!")
            self._columns[name] = self.area(sheet.strip("'"), text)
        return self._columns[name]


class Reader:
    """Reads one formula from left to right."""

    def __init__(self, sheets: Spreadsheet, sheet: str, text: str) -> None:
        self.sheets, self.sheet, self.rest = sheets, sheet, []
        at = 0
        while at < len(text):
            found = TOKEN.match(text, at)
            assert found, f"{text!r} is not understood at {at}"
            self.rest.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()

    def all(self) -> Any:
        value = self.comparison()
        assert not self.rest, self.rest
        return value

    def take(self, sign: str) -> bool:
        if self.rest and self.rest[0] == ("sign", sign):
            self.rest.pop(0)
            return True
        return False

    def comparison(self) -> Any:
        left = self.terms()
        for sign in ("<>", "=", ">"):
            if self.take(sign):
                right = self.terms()
                # Text is more than any number.
                if sign == ">":
                    return (isinstance(left, str), left) > (isinstance(right, str), right)
                return (left == right) == (sign == "=")
        return left

    def terms(self) -> Any:
        value = self.factors()
        while self.rest and self.rest[0] in (("sign", "+"), ("sign", "-")):
            _, sign = self.rest.pop(0)
            other = self.factors()
            if isinstance(value, str) or isinstance(other, str):
                value = ERROR
            else:
                value = value + other if sign == "+" else value - other
        return value

    def factors(self) -> Any:
        value = self.atom()
        while self.rest and self.rest[0] in (("sign", "*"), ("sign", "/")):
            _, sign = self.rest.pop(0)
            other = self.atom()
            if isinstance(value, str) or isinstance(other, str) or (sign == "/" and not other):
                value = ERROR
            else:
                value = value * other if sign == "*" else value / other
        return value

    def atom(self) -> Any:
        kind, text = self.rest.pop(0)
        if kind == "number":
            return float(text)
        if kind == "text":
            return text[1:-1]
        if kind == "area":
            values = self.sheets.area(self.sheet, text)
            return values if ":" in text else values[0] if values[0] is not None else 0
        if kind == "name" and self.take("("):
            arguments = []
            while not self.take(")"):
                arguments.append(self.comparison())
                self.take(",")
            return call(text, arguments)
        if kind == "name":
            return self.sheets.named(text)
        assert text == "(", text
        value = self.comparison()
        assert self.take(")")
        return value


def call(name: str, arguments: list[Any]) -> Any:
    if name == "SUM":
        return sum(numbers(arguments[0]))
    if name == "SUMIFS":
        summed, *criteria = arguments
        pairs = list(zip(criteria[::2], criteria[1::2], strict=True))
        return sum(
            value
            for index, value in enumerate(summed)
            if is_number(value) and all(area[index] == wanted for area, wanted in pairs)
        )
    if name == "COUNTIF":
        return sum(value == arguments[1] for value in arguments[0])
    if name == "ROUND":
        return ERROR if arguments[0] == ERROR else round(arguments[0], int(arguments[1]))
    if name in ("MAX", "MIN"):
        return (max if name == "MAX" else min)(numbers(arguments[0]))
    return {
        "IF": lambda condition, yes, no: yes if condition else no,
        "AND": lambda *conditions: all(conditions),
        "N": lambda value: value if is_number(value) else 0,
        "ISNUMBER": is_number,
    }[name](*arguments)


def numbers(values: Any) -> list[float]:
    return [value for value in (values if isinstance(values, list) else [values]) if is_number(value)]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

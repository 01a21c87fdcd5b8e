"""Tables: one quiet style for every command. They fit the terminal, and in a pipe they are complete.

On a terminal no row is ever folded: columns that can be spared go first, then long texts end in an ellipsis.
Widths are counted in terminal cells, so titles in any script stand in line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from orchestrator.cli.console import out

_GAP = "  "


class Column(NamedTuple):
    """A heading, and what may happen to its column on a terminal that is too narrow."""

    heading: str
    right: bool = False  # aligned to the right, as numbers are
    least: int = 0  # cells that the texts may be cut to; 0: never cut
    spare: int = 0  # left out before they are cut, the highest first; 0: never left out


def number(heading: str, *, spare: int = 0) -> Column:
    """A column of figures: aligned to the right and never cut."""
    return Column(heading, right=True, spare=spare)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, total: Sequence[str] = ()) -> None:
    """Print `rows` under bold headings; `total` is a last row, bold as well."""
    table = [tuple(column.heading for column in columns), *rows, *([total] if total else [])]
    widths = [max(map(cell_len, cells)) for cells in zip(*table, strict=True)]
    shown = list(range(len(columns)))
    if out.is_terminal:
        shown = _shown(columns, widths, out.width)
        _narrow(columns, widths, shown, out.width)
    last = len(table) - 1
    for place, row in enumerate(table):
        cells = [_fitted(row[index], widths[index], right=columns[index].right) for index in shown]
        _print_line(_GAP.join(cells).rstrip(), bold=place == 0 or (place == last and bool(total)))


def cut(text: str, width: int) -> str:
    """`text` in at most `width` cells, with an ellipsis where something is left out."""
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"


def _shown(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    shown = list(range(len(columns)))
    for index in sorted((index for index in shown if columns[index].spare), key=lambda index: -columns[index].spare):
        if _width(min(widths[each], columns[each].least or widths[each]) for each in shown) <= room:
            break
        shown.remove(index)
    return shown


def _narrow(columns: Sequence[Column], widths: list[int], shown: Sequence[int], room: int) -> None:
    """Take cells from the widest text that has some to give, until the row fits or none has."""
    while _width(widths[index] for index in shown) > room:
        cuttable = [index for index in shown if 0 < columns[index].least < widths[index]]
        if not cuttable:
            return
        widths[max(cuttable, key=lambda index: widths[index])] -= 1


def _width(widths: Iterable[int]) -> int:
    listed = list(widths)
    return sum(listed) + len(_GAP) * (len(listed) - 1)


def _fitted(text: str, width: int, *, right: bool) -> str:
    text = cut(text, width)
    padding = " " * (width - cell_len(text))
    return padding + text if right else text + padding


def _print_line(line: str, *, bold: bool) -> None:
    if out.is_terminal:
        out.print(Text(line, style="bold" if bold else ""), no_wrap=True, overflow="ellipsis", crop=True)
    else:
        out.file.write(line + "\n")

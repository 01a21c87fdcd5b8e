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
_COMFORT = 24  # cells that a text is left before another column is let in


class Column(NamedTuple):
    """A heading, and what may happen to its column on a terminal that is too narrow."""

    heading: str
    right: bool = False  # aligned to the right, as numbers are
    least: int = 0  # cells that the texts may be cut to; 0: never cut
    spare: int = 0  # left out when there is no room, the highest first; 0: never left out


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
    """The columns that must be there, and of the others those that find room, the least spared first."""
    shown = [index for index, column in enumerate(columns) if not column.spare]
    for index in sorted(set(range(len(columns))) - set(shown), key=lambda index: columns[index].spare):
        if _width(_comfort(columns[each], widths[each]) for each in [*shown, index]) <= room:
            shown.append(index)
    return sorted(shown)


def _comfort(column: Column, width: int) -> int:
    return min(width, max(column.least, _COMFORT)) if column.least else width


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

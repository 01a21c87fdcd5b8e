"""The Data sheet: the month's roll-up, and the formulas by which every other sheet sums it.

Every name that has a line in a sheet is numbered in the order of the lines, and the rows of the Data sheet carry these
numbers beside the names. Formulas select rows by number, because a spreadsheet compares text without regard to case,
treats `*` as a wildcard and `>0` as a comparison, and takes `001` for 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from orchestrator.finance.allocation.charges import CostGroup, CostRow, group_of
from orchestrator.finance.report.figures import FIELD_OF_CUT, Pivot, Sums, shown
from orchestrator.finance.report.sheet import (
    UNKNOWN,
    Book,
    Cell,
    Formula,
    SheetColumn,
    cell_text,
    dollars,
    set_up_print,
)

ROWS_MAX: Final = 80_000  # a sheet takes 1,048,575, and nobody waits a minute for one; `costs.csv` has every row
# Above that a table of Excel would keep a gigabyte of cells in memory; the rows are streamed as a filtered range.
TABLE_ROWS_MAX: Final = 50_000
FORMULA_WORK_MAX: Final = 20_000_000  # cells to look at, so that a spreadsheet opens in seconds
NAME: Final = "Data"
KEYED: Final = {
    "zone_no": ("zone",),
    "genre_no": ("genre",),
    "catalog_no": ("catalog",),
    "machine_no": ("provider", "gpu", "market"),
    "run_no": ("run",),
}
_DROPPED_FIRST: Final = ("run_id", "genre", "gpu", "zone", "catalog", "provider", "market")
_COLUMNS: Final = (
    SheetColumn("period", 10),
    SheetColumn("applies to", 10),
    SheetColumn("kind", 11),
    SheetColumn("group", 12),
    SheetColumn("category", 12),
    SheetColumn("catalog", 20),
    SheetColumn("zone", 22),
    SheetColumn("genre", 18),
    SheetColumn("run", 22),
    SheetColumn("provider", 14),
    SheetColumn("gpu", 24),
    SheetColumn("market", 11),
    SheetColumn("usd", 16, "usd_micro"),
    SheetColumn("micros", 16, "count"),
    SheetColumn("unpriced ms", 13, "count"),
    SheetColumn("ms", 15, "count"),
    SheetColumn("tracks", 10, "count"),
    SheetColumn("attempts", 10, "count"),
    SheetColumn("audio ms", 15, "count"),
    *(SheetColumn(key.replace("_", " "), 11, "number") for key in KEYED),
)
_NAMED: Final = {
    "kind": 2, "group": 3, "category": 4, "micros": 13, "unpriced_ms": 14, "ms": 15, "tracks": 16, "attempts": 17,
    "audio_ms": 18, **{key: 19 + index for index, key in enumerate(KEYED)},
}  # fmt: skip


class RollUp(NamedTuple):
    """The rows of the Data sheet, the numbers of names in them, and the fields that were dropped to make them fit."""

    rows: Sequence[CostRow]
    numbers: Mapping[str, Mapping[tuple[str, ...], int]]  # key column -> names -> number
    dropped: tuple[str, ...]  # fields that all rows were added up over
    has_unknown: bool

    def can_sum(self, key: str, lines: int) -> bool:
        """True when formulas over the Data sheet can compute the lines of a pivot in acceptable time."""
        fields = {FIELD_OF_CUT[cut] for cut in KEYED[key]}
        return not fields & set(self.dropped) and lines * len(self.rows) <= FORMULA_WORK_MAX


def make_roll_up(rows: Sequence[CostRow], pivots: Mapping[str, Pivot], rows_max: int | None = None) -> RollUp:
    """Make `rows` fit the sheet: where they are too many, add them up over their runs, then over more."""
    dropped: list[str] = []
    has_unknown = any(row.unpriced_ms for row in rows)
    while len(rows) > (rows_max or ROWS_MAX) and len(dropped) < len(_DROPPED_FIRST):
        dropped.append(_DROPPED_FIRST[len(dropped)])
        rows = _added_up(rows, dropped[-1])
    numbers = {
        key: {line.name: number for number, line in enumerate(pivots[key].lines, start=1)}
        for key, cuts in KEYED.items()
    }
    return RollUp(rows, numbers, tuple(dropped), has_unknown)


def _added_up(rows: Sequence[CostRow], field: str) -> list[CostRow]:
    sums: dict[CostRow, list[int]] = {}
    nothing: dict[str, Any] = {**dict.fromkeys(CostRow._fields[11:], 0), field: "(all)"}
    for row in rows:
        key = row._replace(**nothing)
        counted = sums.setdefault(key, [0] * len(row[11:]))
        for index, number in enumerate(row[11:]):
            counted[index] += number
    return [CostRow(*key[:11], *counted) for key, counted in sums.items()]


def write_roll_up(book: Book, roll_up: RollUp) -> None:
    """Write the sheet, and give its columns the names that formulas use. It has no title: it is for machines, too."""
    paper = book.file.add_worksheet(NAME)
    last = max(1, len(roll_up.rows))
    head = book.format("text", "head")
    for index, column in enumerate(_COLUMNS):
        paper.set_column(index, index, column.width, book.format(column.look))
    is_table = len(roll_up.rows) <= TABLE_ROWS_MAX
    if is_table:
        columns = [{"header": column.title, "header_format": head} for column in _COLUMNS]
        style = "Table Style Light 1"
        table = {"name": "RollUp", "columns": columns, "style": style}
        paper.add_table(0, 0, last, len(_COLUMNS) - 1, table)
    else:
        for index, column in enumerate(_COLUMNS):
            paper.write_string(0, index, column.title, head)
        paper.autofilter(0, 0, last, len(_COLUMNS) - 1)
    for index, row in enumerate(roll_up.rows, start=1):
        _write_row(paper, index, row, roll_up)
    for name, index in _NAMED.items():
        letter = chr(ord("A") + index)
        book.file.define_name(f"data_{name}", f"={NAME}!${letter}$2:${letter}${last + 1}")
    paper.freeze_panes(1, 0)
    paper.repeat_rows(0)
    set_up_print(paper)


def _write_row(paper: Any, index: int, row: CostRow, roll_up: RollUp) -> None:
    put_text, put_number = paper.write_string, paper.write_number
    texts = (*row[:3], group_of(row.category), row.category, *(shown(name) for name in row[4:11]))
    for column, text in enumerate(texts):
        put_text(index, column, cell_text(text))
    if row.unpriced_ms and not row.usd_micros:
        put_text(index, 12, UNKNOWN)
        put_text(index, 13, UNKNOWN)
    else:
        put_number(index, 12, dollars(row.usd_micros))
        put_number(index, 13, row.usd_micros)
    for column, number in enumerate(row[12:], start=14):
        put_number(index, column, number)
    for column, (key, cuts) in enumerate(KEYED.items(), start=19):
        own_number = roll_up.numbers[key].get(tuple(getattr(row, FIELD_OF_CUT[cut]) for cut in cuts))
        if own_number is not None:  # none for a name that rows were added up over
            put_number(index, column, own_number)


def sum_of(column: str, *criteria: tuple[str, str]) -> str:
    """The sum of a column over the rows that meet every criterion, as a part of a formula."""
    if not criteria:
        return f"SUM(data_{column})"
    return f"SUMIFS(data_{column},{','.join(f'data_{name},{wanted}' for name, wanted in criteria)})"


def group_formula(roll_up: RollUp, sums: Sums, group: CostGroup, *criteria: tuple[str, str]) -> Formula:
    """The money of one column of a report, or the word for it."""
    where = (*criteria, ("group", f'"{group}"'))
    return money_formula(roll_up, sums.usd([group]), sums.is_unknown([group]), *where)


def money_formula(roll_up: RollUp, micros: int, is_unknown: bool, *where: tuple[str, str]) -> Formula:
    """The money of some rows; `unknown` where they have time and none of it a known price."""
    plain = f"{sum_of('micros', *where)}/1000000"
    if not roll_up.has_unknown:
        return Formula(f"={plain}", dollars(micros))
    no_price = f"AND({sum_of('micros', *where)}=0,{sum_of('unpriced_ms', *where)}<>0)"
    return Formula(f'=IF({no_price},"{UNKNOWN}",{plain})', UNKNOWN if is_unknown else dollars(micros))


def value_or(formula: Formula, *, is_live: bool) -> Cell:
    """The formula, or only its value where formulas over the Data sheet would take too long."""
    return formula if is_live else formula.value

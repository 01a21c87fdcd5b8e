"""The workbook: a month's costs as a spreadsheet whose formulas a reader can extend.

Totals and pivots are formulas over the Data sheet, stored with their values, so a viewer shows the same figures as a
spreadsheet that recalculates. A cell on the Summary sheet says whether the rows add up to the control total of the
books. The same month gives the same bytes, because no clock is read.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from xlsxwriter.exceptions import FileCreateError  # type: ignore[import-untyped]

from orchestrator.finance.allocation.charges import CostGroup
from orchestrator.finance.report.contents import Contents
from orchestrator.finance.report.figures import CENT, FULLY_LOADED, WASTE_REASONS, Pivot, Sums, paper_of, pivot
from orchestrator.finance.report.list_sheets import write_assumptions, write_budgets, write_invoices, write_outlook
from orchestrator.finance.report.pivot_sheets import (
    CUT_SHEETS,
    FIRST,
    HEAD,
    write_cut,
    write_matrix,
    write_months,
    write_waste,
)
from orchestrator.finance.report.roll_up import (
    KEYED,
    TABLE_ROWS_MAX,
    RollUp,
    group_formula,
    make_roll_up,
    sum_of,
    write_roll_up,
)
from orchestrator.finance.report.sheet import (
    NONE,
    UNKNOWN,
    Book,
    Cell,
    Formula,
    Sheet,
    SheetColumn,
    cell_at,
    dollars,
    down,
    money_sum,
    open_workbook,
)
from orchestrator.finance.report.words import MONEY_KINDS, coverage_sentence, instant, month_name, state_sentence

COLOURS: Final = {
    CostGroup.DIRECT: "#1F6F8B",
    CostGroup.WASTED: "#C8553D",
    CostGroup.IDLE: "#D9A441",
    CostGroup.OVERHEAD: "#7D8AA0",
    CostGroup.ADJUSTMENT: "#8C6BB1",
}
_CHART_ZONES_MAX: Final = 15
_CHART_BUDGETS_MAX: Final = 12
_SUMMARY: Final = (
    SheetColumn("", 30),
    SheetColumn("", 18, "usd"),
    SheetColumn("", 18),
    SheetColumn("", 16),
    SheetColumn("", 3),
)


def write_workbook(contents: Contents, path: Path) -> None:
    """Write the workbook of a month. Raises OSError when the disk refuses, as any other writer."""
    pivots = {key: pivot(contents.rows, *cuts) for key, cuts in KEYED.items()}
    roll_up = make_roll_up(contents.rows, pivots)
    is_streamed = len(roll_up.rows) > TABLE_ROWS_MAX
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".workbook.") as scratch:
        file = open_workbook(str(path), scratch, contents.end_ms, constant_memory=is_streamed)
        _write_sheets(file, contents, roll_up, pivots)
        try:
            file.close()
        except FileCreateError as error:
            raise error.args[0] if error.args and isinstance(error.args[0], OSError) else OSError(str(error)) from None


def _write_sheets(file: Any, contents: Contents, roll_up: RollUp, pivots: dict[str, Pivot]) -> None:
    zones = pivots["zone_no"]
    subtitle = f"{month_name(contents.period)}, {contents.time_zone}, USD; {state_sentence(contents)}"
    book = Book(file, paper_of(zones.total).unit, subtitle)
    summary = Sheet(book, "Summary", f"Cost report, {month_name(contents.period)}")
    _write_summary(summary, contents, roll_up, zones.total)
    for cut in CUT_SHEETS:
        write_cut(book, roll_up, cut, pivots[cut.key])
        if cut.key == "zone_no":
            write_matrix(book, roll_up, contents.rows, zones, pivots["genre_no"])
    months = write_months(book, contents.trend)
    write_waste(book, roll_up, zones)
    write_budgets(book, contents.budgets)
    write_invoices(book, contents)
    write_outlook(book, contents)
    write_roll_up(book, roll_up)
    write_assumptions(book, contents, roll_up)
    _draw(summary, len(zones.lines), months, len(contents.budgets))


def _write_summary(sheet: Sheet, contents: Contents, roll_up: RollUp, total: Sums) -> None:
    sheet.widths(_SUMMARY)
    groups = 4
    last = _write_groups(sheet, roll_up, total, groups)
    row = _write_units(sheet, total, last, last + 3)
    row = _write_check(sheet, contents, roll_up, row + 2)
    sheet.section(row + 2, "What it rests on")
    facts = [
        ("coverage", coverage_sentence(contents)),
        ("complete through", instant(contents.coverage.complete_through_ms, contents.time_zone)),
        ("method of allocation", contents.method),
        *(("note", note) for note in contents.notes),
    ]
    for at, (label, text) in enumerate(facts, start=row + 3):
        sheet.put(at, 0, label)
        sheet.put(at, 1, text)


def _write_groups(sheet: Sheet, roll_up: RollUp, total: Sums, head: int) -> int:
    """The money by column of the report; the row of its total."""
    columns = [SheetColumn("where the money went", 0), SheetColumn("usd", 0, "usd"), SheetColumn("share", 0, "percent")]
    sheet.section(head - 1, "Money")
    sheet.head(head, columns)
    last = head + 1 + len(CostGroup)
    for row, group in enumerate(CostGroup, start=head + 1):
        share = total.usd([group]) / total.usd() if total.usd() > 0 else NONE
        text = f'=IF(N({cell_at(last, 1)})>0,N({cell_at(row, 1)})/{cell_at(last, 1)},"{NONE}")'
        sheet.line(row, columns, [group, group_formula(roll_up, total, group), Formula(text, share)])
    whole = money_sum(
        down(1, head + 1, last - 1),
        total.usd(),
        has_unknown=any(total.is_unknown([group]) for group in CostGroup),
        can_be_unknown=roll_up.has_unknown,
    )
    share_of_all = Formula(f'=IF(N({cell_at(last, 1)})>0,1,"{NONE}")', 1 if total.usd() > 0 else NONE)
    sheet.line(last, columns, ["fully loaded", whole, share_of_all], "total")
    return last


def _write_units(sheet: Sheet, total: Sums, whole: int, row: int) -> int:
    """Counts and unit costs; the row after them."""
    sheet.section(row - 1, "Tracks and unit costs")
    amount, tracks, minutes, unpriced = cell_at(whole, 1), *(cell_at(row + at, 1) for at in (0, 2, 3))
    is_unknown = bool(total.unpriced(FULLY_LOADED))
    lines: list[tuple[str, Cell, str]] = [
        ("accepted tracks", Formula(f"={sum_of('tracks')}", total.tracks), "count"),
        ("attempts", Formula(f"={sum_of('attempts')}", total.attempts), "count"),
        ("accepted audio, min", Formula(f"={sum_of('audio_ms')}/60000", total.audio_ms / 60_000), "minutes"),
        (
            "time without a price, h",
            Formula(f"={sum_of('unpriced_ms')}/3600000", total.unpriced() / 3_600_000),
            "hours",
        ),
    ]
    for label, count, divisor in (("track", tracks, total.tracks), ("audio minute", minutes, total.audio_ms / 60_000)):
        each: float | str = dollars(total.usd()) / divisor if divisor > 0 else NONE
        text = f'=IF({unpriced}<>0,"{UNKNOWN}",IF({count}>0,{amount}/{count},"{NONE}"))'
        lines.append((f"fully loaded per {label}", Formula(text, UNKNOWN if is_unknown else each), "usd_micro"))
    for at, (label, value, look) in enumerate(lines, start=row):
        sheet.put(at, 0, label)
        sheet.put(at, 1, value, look=look)
    return row + len(lines)


def _write_check(sheet: Sheet, contents: Contents, roll_up: RollUp, row: int) -> int:
    """The rows against the books, in micro-dollars, which are exact; the row after it."""
    columns = [
        SheetColumn("control, micro-dollars", 0),
        SheetColumn("books", 0, "count"),
        SheetColumn("Data sheet", 0, "count"),
    ]
    columns.append(SheetColumn("difference", 0, "count"))
    sheet.section(row, "Control")
    sheet.head(row + 1, columns)
    first = row + 2
    in_rows = {kind: sum(each.usd_micros for each in roll_up.rows if each.kind is kind) for kind in MONEY_KINDS}
    for at, kind in enumerate(MONEY_KINDS, start=first):
        books = contents.coverage.usd_micros.get(kind, 0)
        cells: list[Cell] = [
            kind,
            books,
            Formula(f"={sum_of('micros', ('kind', f'{chr(34)}{kind}{chr(34)}'))}", in_rows[kind]),
        ]
        cells.append(Formula(f"={cell_at(at, 1)}-{cell_at(at, 2)}", books - in_rows[kind]))
        sheet.line(at, columns, cells)
    last = first + len(MONEY_KINDS)
    books, found = sum(contents.coverage.usd_micros.values()), sum(in_rows.values())
    totals: list[Cell] = [
        "total",
        Formula(f"=SUM({down(1, first, last - 1)})", books),
        Formula(f"={sum_of('micros')}", found),
        Formula(f"={cell_at(last, 1)}-{cell_at(last, 2)}", books - found),
    ]
    sheet.line(last, columns, totals, "total")
    agrees = all(contents.coverage.usd_micros.get(kind, 0) == in_rows[kind] for kind in MONEY_KINDS)
    differences = down(3, first, last)
    text = f'=IF(AND(MAX({differences})=0,MIN({differences})=0),"agrees with the books","DIFFERS FROM THE BOOKS")'
    sheet.put(last + 1, 0, "check")
    check = Formula(text, "agrees with the books" if agrees else "DIFFERS FROM THE BOOKS")
    sheet.put(last + 1, 1, check, look="words", place="section")
    return last + 2


def _draw(sheet: Sheet, zones: int, months: int, budgets: int) -> None:
    """The charts, right of the figures, two by two."""
    charts = []
    if zones:
        title = "By zone" if zones <= _CHART_ZONES_MAX else f"The {_CHART_ZONES_MAX} dearest zones"
        charts.append(_stacked(sheet, title, "By zone", min(zones, _CHART_ZONES_MAX), 1, 2))
        charts.append(_waste_bars(sheet))
    if months:
        charts.append(_stacked(sheet, "By month", "By month", months, 0, 1))
    if budgets:
        charts.append(_budget_bars(sheet, min(budgets, _CHART_BUDGETS_MAX)))
    for index, chart in enumerate(charts):
        sheet.paper.insert_chart(3 + 17 * (index // 2), 5 + 8 * (index % 2), chart, {"object_position": 2})


def _chart(sheet: Sheet, title: str, kind: dict[str, str]) -> Any:
    chart = sheet.book.file.add_chart(kind)
    chart.set_title({"name": title, "name_font": {"size": 12, "bold": True}, "overlay": False})
    chart.set_size({"width": 480, "height": 320})
    chart.set_chartarea({"border": {"none": True}})
    return chart


def _axes(chart: Any, unit: int, *, is_lying: bool = False) -> None:
    quiet = {"line": {"color": "#9AA5B1"}, "num_font": {"size": 9}}
    money = {
        **quiet,
        "num_format": "$#,##0" if unit == CENT else "$#,##0.00",
        "major_gridlines": {"visible": True, "line": {"color": "#E3E5E8"}},
    }
    # Months and zones stay in the table's order: a lying chart would begin at the bottom.
    chart.set_x_axis({**money, "label_position": "low"} if is_lying else {**quiet, "label_position": "low"})
    chart.set_y_axis({**quiet, "reverse": True} if is_lying else money)


def _stacked(sheet: Sheet, title: str, source: str, lines: int, names: int, first: int) -> Any:
    """Stacked columns of a sheet's groups, `lines` of them from its top."""
    chart = _chart(sheet, title, {"type": "column", "subtype": "stacked"})
    for offset, group in enumerate(CostGroup):
        chart.add_series({
            "name": [source, HEAD, first + offset],
            "categories": [source, FIRST, names, FIRST + lines - 1, names],
            "values": [source, FIRST, first + offset, FIRST + lines - 1, first + offset],
            "fill": {"color": COLOURS[group]},
            "gap": 60,
        })  # fmt: skip
    chart.set_legend({"position": "bottom"})
    _axes(chart, sheet.book.unit)
    return chart


def _waste_bars(sheet: Sheet) -> Any:
    chart = _chart(sheet, "Waste by reason", {"type": "bar"})
    last = FIRST + len(WASTE_REASONS) - 1
    chart.add_series({
        "name": "wasted",
        "categories": ["Waste", FIRST, 1, last, 1],
        "values": ["Waste", FIRST, 2, last, 2],
        "fill": {"color": COLOURS[CostGroup.WASTED]},
        "gap": 60,
        "data_labels": {"value": True, "num_format": "$#,##0.00"},
    })  # fmt: skip
    chart.set_legend({"none": True})
    _axes(chart, sheet.book.unit, is_lying=True)
    return chart


def _budget_bars(sheet: Sheet, lines: int) -> Any:
    chart = _chart(sheet, "Budget against actual", {"type": "bar"})
    for column, colour in ((2, "#B8C1CC"), (3, COLOURS[CostGroup.DIRECT])):
        chart.add_series({
            "name": ["Budgets", HEAD, column],
            "categories": ["Budgets", FIRST, 1, FIRST + lines - 1, 1],
            "values": ["Budgets", FIRST, column, FIRST + lines - 1, column],
            "fill": {"color": colour},
            "gap": 60,
        })  # fmt: skip
    chart.set_legend({"position": "bottom"})
    _axes(chart, sheet.book.unit, is_lying=True)
    return chart

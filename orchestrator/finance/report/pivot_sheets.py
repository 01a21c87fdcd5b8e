"""Pivot sheets: the month's money by zone, genre, catalog, machine, run and month, and the cost of waste.

Every figure is a formula over the Data sheet, stored together with its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from orchestrator.finance.allocation.charges import CostGroup, CostRow
from orchestrator.finance.report.figures import DIRECT, FULLY_LOADED, LOADED, WASTE_REASONS, Pivot, Sums, pivot, shown
from orchestrator.finance.report.roll_up import KEYED, RollUp, group_formula, money_formula, sum_of, value_or
from orchestrator.finance.report.sheet import (
    NONE,
    UNKNOWN,
    Book,
    Cell,
    Formula,
    Sheet,
    SheetColumn,
    along,
    cell_at,
    dollars,
    down,
    money_sum,
)
from orchestrator.ledger.observations import Category

HEAD: Final = 3  # row of every pivot's head
FIRST: Final = HEAD + 1
VALUES_ONLY: Final = "Formulas over so many rows would take minutes to open: this sheet holds their values."
_FIGURES: Final = (
    *(SheetColumn(str(group), 13, "usd") for group in CostGroup),
    SheetColumn("fully loaded", 14, "usd"),
    SheetColumn("direct + wasted", 14, "usd"),
    SheetColumn("accepted tracks", 10, "count"),
    SheetColumn("attempts", 10, "count"),
    SheetColumn("accepted audio, min", 12, "minutes"),
    SheetColumn("direct per track", 12, "usd_micro"),
    SheetColumn("direct + wasted per track", 12, "usd_micro"),
    SheetColumn("fully loaded per track", 12, "usd_micro"),
    SheetColumn("fully loaded per audio minute", 12, "usd_micro"),
    SheetColumn("time without a price, h", 11, "hours"),
)
_MS_PER_MIN: Final = 60_000
_MS_PER_H: Final = 3_600_000


class Cut(NamedTuple):
    """A sheet that shows one pivot."""

    sheet: str
    title: str
    key: str  # the key column of the Data sheet
    widths: tuple[float, ...]  # of the columns with names


CUT_SHEETS: Final = (
    Cut("By zone", "Costs by zone", "zone_no", (28,)),
    Cut("By catalog", "Costs by catalog", "catalog_no", (28,)),
    Cut("By provider and GPU", "Costs by provider, GPU and market", "machine_no", (16, 28, 12)),
    Cut("By run", "Costs by run", "run_no", (30,)),
)


def write_cut(book: Book, roll_up: RollUp, cut: Cut, table: Pivot) -> None:
    """A sheet with one line for each name and every figure of it."""
    sheet = Sheet(book, cut.sheet, cut.title)
    names = [SheetColumn(name, width) for name, width in zip(KEYED[cut.key], cut.widths, strict=True)]
    columns = [SheetColumn("no.", 5, "number"), *names, *_FIGURES]
    sheet.widths(columns)
    sheet.head(HEAD, columns, frozen_columns=1 + len(names))
    is_live = roll_up.can_sum(cut.key, len(table.lines))
    for index, line in enumerate(table.lines):
        row = FIRST + index
        key = (cut.key, f"$A{row + 1}")
        cells = _figures(roll_up, line.sums, row, 1 + len(names), key)
        sheet.line(
            row, columns, [index + 1, *map(shown, line.name), *(value_or(each, is_live=is_live) for each in cells)]
        )
    last = FIRST + len(table.lines)
    cells = _totals(roll_up, table, 1 + len(names))
    sheet.line(last, columns, [None, "total", *[""] * (len(names) - 1), *cells], "total")
    if not is_live and table.lines:
        sheet.note(last + 2, VALUES_ONLY)


def _figures(roll_up: RollUp, sums: Sums, row: int, first: int, key: tuple[str, str]) -> list[Formula]:
    """The cells of `_FIGURES`, in order; `first` is the column of the first."""
    groups = along(row, first, first + len(CostGroup) - 1)
    unpriced = cell_at(row, first + len(_FIGURES) - 1)
    tracks, minutes, full = (cell_at(row, first + offset) for offset in (7, 9, 5))
    unpriced_of = {
        groups_: "+".join(sum_of("unpriced_ms", key, ("group", f'"{group}"')) for group in groups_)
        for groups_ in (DIRECT, LOADED)
    }
    if not roll_up.has_unknown:
        unpriced_of = dict.fromkeys(unpriced_of, "0")
    direct, loaded = cell_at(row, first), cell_at(row, first + 6)
    return [
        *(group_formula(roll_up, sums, group, key) for group in CostGroup),
        _sum_of_groups(groups, sums, FULLY_LOADED, can_be_unknown=roll_up.has_unknown),
        _sum_of_groups(along(row, first, first + 1), sums, LOADED, can_be_unknown=roll_up.has_unknown),
        Formula(f"={sum_of('tracks', key)}", sums.tracks),
        Formula(f"={sum_of('attempts', key)}", sums.attempts),
        Formula(f"={sum_of('audio_ms', key)}/{_MS_PER_MIN}", sums.audio_ms / _MS_PER_MIN),
        _per(direct, tracks, unpriced_of[DIRECT], sums, DIRECT),
        _per(loaded, tracks, unpriced_of[LOADED], sums, LOADED),
        _per(full, tracks, unpriced, sums, FULLY_LOADED),
        _per(full, minutes, unpriced, sums, FULLY_LOADED, is_by_audio=True),
        Formula(f"={sum_of('unpriced_ms', key)}/{_MS_PER_H}", sums.unpriced() / _MS_PER_H),
    ]


def _sum_of_groups(area: str, sums: Sums, groups: Sequence[CostGroup], *, can_be_unknown: bool) -> Formula:
    has_unknown = any(sums.is_unknown([group]) for group in groups)
    return money_sum(area, sums.usd(groups), has_unknown=has_unknown, can_be_unknown=can_be_unknown)


def _per(
    amount: str, count: str, unpriced: str, sums: Sums, of: Sequence[CostGroup], *, is_by_audio: bool = False
) -> Formula:
    """An amount by a count: `unknown` over time without a price, `none` without anything to divide by."""
    divisor = sums.audio_ms / _MS_PER_MIN if is_by_audio else sums.tracks
    if sums.unpriced(of):
        value: float | str = UNKNOWN
    else:
        value = dollars(sums.usd(of)) / divisor if divisor > 0 else NONE
    return Formula(f'=IF({unpriced}<>0,"{UNKNOWN}",IF({count}>0,{amount}/{count},"{NONE}"))', value)


def _totals(roll_up: RollUp, table: Pivot, first: int) -> list[Formula]:
    """The cells under `_FIGURES`: added up, or divided anew."""
    total, row = table.total, FIRST + len(table.lines)
    full, loaded, tracks, minutes = (cell_at(row, first + offset) for offset in (5, 6, 7, 9))
    unpriced = cell_at(row, first + len(_FIGURES) - 1)
    areas = [down(first + index, FIRST, max(FIRST, row - 1)) for index in range(len(_FIGURES))]
    if not table.lines:
        return [Formula("=0", 0.0)] * len(_FIGURES)
    columns_of_money = [*((group,) for group in CostGroup), FULLY_LOADED, LOADED]
    money = [
        money_sum(
            area,
            total.usd(groups),
            has_unknown=any(_is_shown_unknown(line.sums, groups) for line in table.lines),
            can_be_unknown=roll_up.has_unknown,
        )
        for area, groups in zip(areas, columns_of_money, strict=False)
    ]
    return [
        *money,
        Formula(f"=SUM({areas[7]})", total.tracks),
        Formula(f"=SUM({areas[8]})", total.attempts),
        Formula(f"=SUM({areas[9]})", total.audio_ms / _MS_PER_MIN),
        _per_total(total, DIRECT, cell_at(row, first), tracks),
        _per_total(total, LOADED, loaded, tracks),
        _per(full, tracks, unpriced, total, FULLY_LOADED),
        _per(full, minutes, unpriced, total, FULLY_LOADED, is_by_audio=True),
        Formula(f"=SUM({areas[14]})", total.unpriced() / _MS_PER_H),
    ]


def _is_shown_unknown(sums: Sums, groups: Sequence[CostGroup]) -> bool:
    """True when a line's cell over these columns reads `unknown`: one column is unknown, and the others are zero."""
    return not sums.usd(groups) and any(sums.is_unknown([group]) for group in groups)


def _per_total(total: Sums, of: Sequence[CostGroup], amount: str, count: str) -> Formula:
    unpriced = "+".join(sum_of("unpriced_ms", ("group", f'"{group}"')) for group in of)
    return _per(amount, count, unpriced, total, of)


def write_matrix(book: Book, roll_up: RollUp, rows: Sequence[CostRow], zones: Pivot, genres: Pivot) -> None:
    """Fully loaded dollars of every zone in every genre."""
    sheet = Sheet(book, "By zone x genre", "Fully loaded costs by zone and genre")
    cells = {line.name: line.sums for line in pivot(rows, "zone", "genre").lines}
    width = len(genres.lines)
    columns = [SheetColumn("no.", 5, "number"), SheetColumn("zone", 28)]
    columns += [SheetColumn(shown(line.name[0]), 14, "usd") for line in genres.lines]
    columns.append(SheetColumn("fully loaded", 14, "usd"))
    sheet.widths(columns)
    for number in range(width):
        sheet.put(HEAD - 1, 2 + number, number + 1, look="number", place="key")
    sheet.head(HEAD, columns, frozen_columns=2)
    is_live = roll_up.can_sum("zone_no", len(zones.lines) * width) and roll_up.can_sum("genre_no", 0)
    can_be = roll_up.has_unknown
    shown_lines: list[list[Cell]] = []
    for index, zone in enumerate(zones.lines):
        row = FIRST + index
        line: list[Cell] = [index + 1, shown(zone.name[0])]
        for number, genre in enumerate(genres.lines):
            sums = cells.get((zone.name[0], genre.name[0]), Sums())
            where = (("zone_no", f"$A{row + 1}"), ("genre_no", cell_at(HEAD - 1, 2 + number)))
            line.append(value_or(money_formula(roll_up, sums.usd(), sums.is_unknown(), *where), is_live=is_live))
        area = along(row, 2, 1 + width)
        line.append(
            money_sum(area, zone.sums.usd(), has_unknown=UNKNOWN in map(_value, line[2:]), can_be_unknown=can_be)
        )
        sheet.line(row, columns, line)
        shown_lines.append([_value(cell) for cell in line])
    last = FIRST + len(zones.lines)
    totals = [
        money_sum(
            down(2 + number, FIRST, last - 1),
            sums.usd(),
            has_unknown=any(line[2 + number] == UNKNOWN for line in shown_lines),
            can_be_unknown=can_be,
        )
        for number, sums in enumerate([*(genre.sums for genre in genres.lines), zones.total])
    ]
    sheet.line(last, columns, [None, "total", *(totals if zones.lines else [0.0])], "total")
    if not is_live and zones.lines:
        sheet.note(last + 2, VALUES_ONLY)


def write_months(book: Book, trend: Sequence[CostRow]) -> int:
    """The months up to this one; the number of them. They are numbers: the Data sheet holds this month alone."""
    sheet = Sheet(book, "By month", "The last twelve months")
    columns = [SheetColumn("month", 12), *(SheetColumn(str(group), 13, "usd") for group in CostGroup)]
    columns += [SheetColumn("fully loaded", 14, "usd"), SheetColumn("accepted tracks", 11, "count")]
    columns += [
        SheetColumn("fully loaded per track", 13, "usd_micro"),
        SheetColumn("time without a price, h", 12, "hours"),
    ]
    sheet.widths(columns)
    sheet.head(HEAD, columns, frozen_columns=1)
    months = pivot(trend, "month").lines
    for index, month in enumerate(months):
        row, sums = FIRST + index, month.sums
        amounts = [UNKNOWN if sums.is_unknown([group]) else dollars(sums.usd([group])) for group in CostGroup]
        full, tracks, unpriced = (cell_at(row, column) for column in (6, 7, 9))
        whole = _sum_of_groups(along(row, 1, 5), sums, FULLY_LOADED, can_be_unknown=bool(sums.unpriced()))
        line: list[Cell] = [month.name[0], *amounts, whole]
        line += [sums.tracks, _per(full, tracks, unpriced, sums, FULLY_LOADED), sums.unpriced() / _MS_PER_H]
        sheet.line(row, columns, line)
    return len(months)


def write_waste(book: Book, roll_up: RollUp, zones: Pivot) -> None:
    """Write the cost of takes that were rendered and not kept: by reason, then by zone and reason."""
    sheet = Sheet(book, "Waste", "Waste: rendered and not kept")
    columns = [
        SheetColumn("", 5, "number"),
        SheetColumn("reason", 28),
        SheetColumn("usd", 14, "usd"),
        SheetColumn("share of all", 14, "percent"),
    ]
    columns += [SheetColumn("attempts", 14, "count"), SheetColumn("time, h", 12, "hours")]
    sheet.widths(columns)
    sheet.head(HEAD, columns)
    total = zones.total
    whole, last = total.usd(), FIRST + len(WASTE_REASONS)
    for index, reason in enumerate(WASTE_REASONS):
        row, where = FIRST + index, ("category", f'"{reason}"')
        is_unknown = _is_unknown(total, reason)
        share = _share(cell_at(row, 2), 0 if is_unknown else total.usd_micros[reason], whole)
        tried = Formula(f"={sum_of('attempts', where)}", total.attempts_at[reason])
        time = Formula(f"={sum_of('ms', where)}/{_MS_PER_H}", total.ms[reason] / _MS_PER_H)
        amount = money_formula(roll_up, total.usd_micros[reason], is_unknown, where)
        sheet.line(row, columns, [None, reason, amount, share, tried, time])
    wasted = total.usd([CostGroup.WASTED])
    sums = [
        money_sum(
            down(2, FIRST, last - 1),
            wasted,
            has_unknown=any(_is_unknown(total, reason) for reason in WASTE_REASONS),
            can_be_unknown=roll_up.has_unknown,
        ),
        _share(cell_at(last, 2), wasted, whole),
        Formula(f"=SUM({down(4, FIRST, last - 1)})", sum(total.attempts_at[reason] for reason in WASTE_REASONS)),
        Formula(f"=SUM({down(5, FIRST, last - 1)})", sum(total.ms[reason] for reason in WASTE_REASONS) / _MS_PER_H),
    ]
    sheet.line(last, columns, [None, "total", *sums], "total")
    _write_waste_by_zone(sheet, roll_up, zones, last + 3)


def _share(cell: str, part: int, whole: int) -> Formula:
    value = part / whole if whole > 0 else NONE
    text = f'=IF(SUM(data_micros)>0,N({cell})*1000000/SUM(data_micros),"{NONE}")'
    return Formula(text, value)


def _write_waste_by_zone(sheet: Sheet, roll_up: RollUp, zones: Pivot, head: int) -> None:
    columns = [SheetColumn("no.", 5, "number"), SheetColumn("zone", 28)]
    columns += [SheetColumn(str(reason), 14, "usd") for reason in (*WASTE_REASONS, "wasted")]
    sheet.head(head, columns)
    is_live = roll_up.can_sum("zone_no", len(zones.lines))
    shown_lines: list[list[Cell]] = []
    for index, zone in enumerate(zones.lines):
        row = head + 1 + index
        line: list[Cell] = [index + 1, shown(zone.name[0])]
        for reason in WASTE_REASONS:
            where = (("zone_no", f"$A{row + 1}"), ("category", f'"{reason}"'))
            formula = money_formula(roll_up, zone.sums.usd_micros[reason], _is_unknown(zone.sums, reason), *where)
            line.append(value_or(formula, is_live=is_live))
        has_unknown = UNKNOWN in map(_value, line[2:])
        wasted = zone.sums.usd([CostGroup.WASTED])
        line.append(money_sum(along(row, 2, 4), wasted, has_unknown=has_unknown, can_be_unknown=roll_up.has_unknown))
        sheet.line(row, columns, line)
        shown_lines.append([_value(cell) for cell in line])
    last = head + 1 + len(zones.lines)
    micros = [*(zones.total.usd_micros[reason] for reason in WASTE_REASONS), zones.total.usd([CostGroup.WASTED])]
    totals = [
        money_sum(
            down(2 + at, head + 1, last - 1),
            each,
            has_unknown=any(line[2 + at] == UNKNOWN for line in shown_lines),
            can_be_unknown=roll_up.has_unknown,
        )
        for at, each in enumerate(micros)
    ]
    sheet.line(last, columns, [None, "total", *(totals if zones.lines else [0.0] * 4)], "total")


def _value(cell: Cell) -> Cell:
    return cell.value if isinstance(cell, Formula) else cell


def _is_unknown(sums: Sums, category: Category) -> bool:
    return bool(sums.unpriced_ms[category]) and not sums.usd_micros[category]

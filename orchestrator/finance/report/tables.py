"""Tables of the page: heads, lines and a bottom line; every cell holds the text that is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from orchestrator.finance.allocation.charges import CostGroup
from orchestrator.finance.report.figures import (
    Line,
    Pivot,
    RoundedTable,
    Sums,
    money,
    rounded_together,
    shares_of,
    shown,
)
from orchestrator.finance.report.words import month_name

UNKNOWN: Final = "unknown"
NONE: Final = "none"
LINES_MAX: Final = 1_000  # of a table on the page; further rows are summed in one line, and are listed in the workbook


class Head(NamedTuple):
    """The head of a column."""

    text: str
    is_number: bool = True


class TableCell(NamedTuple):
    """A cell: its text, its tone (quiet, unknown or over), and a tint from 0 to 100."""

    text: str
    tone: str = ""
    tint: int = 0


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table; the first cell of a line names it."""

    caption: str
    heads: Sequence[Head]
    lines: Sequence[Sequence[TableCell]]
    total: Sequence[TableCell] = ()
    note: str = ""

    @property
    def is_short(self) -> bool:
        """True when the table is kept on one page in print."""
        return len(self.lines) <= 12  # a third of a page

    @property
    def is_long(self) -> bool:
        """True when the table gets a scroll box of its own."""
        return len(self.lines) > 24  # as many as a screen shows


class TimeUnit(NamedTuple):
    """The unit in which a table prints time: hours, or seconds when all times are below an hour."""

    name: str
    ms: int

    def text(self, units: int) -> str:
        """`units` of the smallest printed part, as a decimal number."""
        places = 2 if self.name == "h" else 1
        base: int = 10**places
        return f"{'−' if units < 0 else ''}{abs(units) // base:,}.{abs(units) % base:0{places}d}"


def time_unit(total_ms: int) -> TimeUnit:
    """The unit for a table that adds up to this."""
    return TimeUnit("h", 36_000) if abs(total_ms) >= 3_600_000 else TimeUnit("s", 100)


def count(number: int) -> str:
    """A whole number with commas."""
    return f"{number:,}".replace("-", "−")


def unit_cost(micros: int | None, *, is_unknown: bool) -> TableCell:
    """Dollars of one track or minute, always to the micro."""
    if is_unknown:
        return TableCell(UNKNOWN, "unknown")
    return TableCell(NONE, "quiet") if micros is None else TableCell(money(micros))


def share_cells(weights: Mapping[str, int]) -> dict[str, TableCell]:
    """Shares in percent that add up to 100.0."""
    shares = shares_of(weights)
    if shares is None:
        return {key: TableCell(NONE, "quiet") for key in weights}
    return {key: percent(share) for key, share in shares.items()}


def percent(per_mille: int) -> TableCell:
    """Tenths of a percent."""
    return TableCell(f"{'−' if per_mille < 0 else ''}{abs(per_mille) // 10}.{abs(per_mille) % 10} %")


def folded(table: Pivot, lines_max: int = LINES_MAX) -> Pivot:
    """The pivot with its cheapest lines added up into one, when a page cannot hold them all."""
    if len(table.lines) <= lines_max:
        return table
    kept, rest = table.lines[: lines_max - 1], table.lines[lines_max - 1 :]
    others = Sums()
    for line in rest:
        others.merge(line.sums)
    name = (f"{len(rest):,} others", *[""] * (len(table.cuts) - 1))
    return table._replace(lines=[*kept, Line(name, others)])


def named_as(cut: str, name: str) -> str:
    """A name as the page shows it."""
    if cut == "market":
        return name.replace("_", " ")
    if cut == "belongs to":
        return month_name(name)
    return shown(name) if name or cut != "gpu" else ""


def money_table(caption: str, table: Pivot, paper: RoundedTable) -> ReportTable:
    """A pivot over all rows of the month, with every figure of a line."""
    table = folded(table)
    groups = shown_groups(table.total)
    has_unknown = bool(table.total.unpriced())
    cells = paper.lines(table)
    keys = [f"{index:09d}" for index in range(len(table.lines))]
    shares = share_cells({key: line.sums.usd() for key, line in zip(keys, table.lines, strict=True)})
    unpriced = _unpriced_column(table) if has_unknown else []
    heads = [*(Head(cut, is_number=False) for cut in table.cuts), *(Head(str(group)) for group in groups)]
    heads += [Head("fully loaded"), Head("share"), Head("tracks"), Head("per track"), Head("per audio min")]
    if has_unknown:
        heads.append(Head(f"without a price, {time_unit(table.total.unpriced()).name}"))
    lines = []
    for index, (key, line, units) in enumerate(zip(keys, table.lines, cells, strict=True)):
        names = [TableCell(named_as(cut, name)) for cut, name in zip(table.cuts, line.name, strict=True)]
        lines.append(
            [*names, *_figures(line.sums, units, paper.unit, groups, shares[key]), *unpriced[index : index + 1]]
        )
    whole = percent(1000) if table.total.usd() > 0 else TableCell(NONE, "quiet")
    bottom = _figures(table.total, paper.groups, paper.unit, groups, whole)
    total = [TableCell("total"), *[TableCell("")] * (len(table.cuts) - 1), *bottom, *unpriced[len(table.lines) :]]
    note = "Dollars are of what is known: time without a price is in the last column." if has_unknown else ""
    return ReportTable(caption, heads, lines, total, note)


def _figures(
    sums: Sums, units: Mapping[CostGroup, int], unit: int, groups: Sequence[CostGroup], share: TableCell
) -> list[TableCell]:
    unpriced = bool(sums.unpriced())
    cells = [money_cell(units[group], unit, is_unknown=sums.is_unknown([group])) for group in groups]
    cells.append(money_cell(sum(units.values()), unit, is_unknown=sums.is_unknown()))
    cells += [share, TableCell(count(sums.tracks))]
    return [
        *cells,
        unit_cost(sums.per_track(), is_unknown=unpriced),
        unit_cost(sums.per_audio_min(), is_unknown=unpriced),
    ]


def money_cell(units: int, unit: int, *, is_unknown: bool = False, tint: int = 0) -> TableCell:
    """An amount in units of the table; zero in a quiet tone."""
    if is_unknown:
        return TableCell(UNKNOWN, "unknown")
    return TableCell(money(units, unit), "" if units else "quiet", tint)


def _unpriced_column(table: Pivot) -> list[TableCell]:
    """Time without a price of each line and of all."""
    unit = time_unit(table.total.unpriced())
    times = {f"{index:09d}": line.sums.unpriced() for index, line in enumerate(table.lines)}
    units = rounded_together(times, unit.ms)
    each = [TableCell(unit.text(units[key]), "" if units[key] else "quiet") for key in sorted(units)]
    return [*each, TableCell(unit.text(sum(units.values())))]


def shown_groups(total: Sums) -> list[CostGroup]:
    """The columns of the report; without that of adjustments in a month that has none."""
    has_adjustments = any(total.usd_micros[each] for each in total.usd_micros if str(each) in ("credit", "tax"))
    return [group for group in CostGroup if group is not CostGroup.ADJUSTMENT or has_adjustments]

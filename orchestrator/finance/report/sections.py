"""Page sections about the month's money: where it was spent, for whom, how much was wasted, and how it changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from markupsafe import Markup

from orchestrator.finance.allocation.charges import CostGroup, CostRow, group_of
from orchestrator.finance.money import MICROS_PER_USD
from orchestrator.finance.report import charts
from orchestrator.finance.report.charts import ChartBar, Part
from orchestrator.finance.report.contents import Contents
from orchestrator.finance.report.figures import (
    CENT,
    DIRECT,
    LOADED,
    WASTE_REASONS,
    Line,
    Pivot,
    RoundedTable,
    Sums,
    brief_money,
    money,
    pivot,
    rounded_together,
    shares_of,
    shown,
    unit_of,
)
from orchestrator.finance.report.tables import (
    NONE,
    UNKNOWN,
    Head,
    ReportTable,
    TableCell,
    count,
    folded,
    money_cell,
    money_table,
    named_as,
    percent,
    share_cells,
    shown_groups,
    time_unit,
    unit_cost,
)
from orchestrator.finance.report.words import month_name
from orchestrator.ledger.observations import Category

CHART_LINES_MAX: Final = 12
MATRIX_COLUMNS_MAX: Final = 60
_TINT_MAX: Final = 30  # percent of colour behind a figure that stays easy to read


class Legend(NamedTuple):
    """A look in a chart and its meaning."""

    style: str
    name: str
    text: str = ""


class Figure(NamedTuple):
    """A chart with its heading and legend."""

    heading: str
    chart: Markup
    legend: Sequence[Legend] = ()


class Fact(NamedTuple):
    """A short statement with a label."""

    label: str
    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page."""

    ident: str
    title: str
    lead: str = ""
    figures: Sequence[Figure] = ()
    facts: Sequence[Fact] = ()
    tables: Sequence[ReportTable] = ()


class Month(NamedTuple):
    """The data from which every section is made."""

    contents: Contents
    total: Sums
    paper: RoundedTable

    def text(self, units: int) -> str:
        """Units of the month's money, as short as the unit allows."""
        return money(units, CENT) if self.paper.unit == CENT else brief_money(units)


class Headline(NamedTuple):
    """A prominent figure, with the text below it."""

    label: str
    text: str
    under: str
    tone: str = ""


def headline(month: Month) -> list[Headline]:
    """The figures on top."""
    total, paper = month.total, month.paper
    shares = shares_of({group: total.usd([group]) for group in CostGroup})
    unpriced = total.unpriced()
    unit = time_unit(unpriced)
    under = f"direct + wasted {month.text(paper.groups[CostGroup.DIRECT] + paper.groups[CostGroup.WASTED])}"
    if unpriced:
        under = f"{unit.text(unpriced // unit.ms)} {unit.name} more have no known price"
    amount = UNKNOWN if total.is_unknown() else month.text(paper.total)
    direct, loaded = (_unit_text(total.per_track(groups), total.unpriced(groups)) for groups in (DIRECT, LOADED))
    of_track = f"direct {direct}, with waste {loaded}"
    of_minute = f"{count(total.audio_ms // 60_000)} minutes of audio"
    kept = "no attempt in the month"
    if total.attempts > 0:
        kept = f"{percent(rounded_share(total.tracks, total.attempts)).text} of {count(total.attempts)} attempts"
    wasted = UNKNOWN if total.is_unknown([CostGroup.WASTED]) else month.text(paper.groups[CostGroup.WASTED])
    return [
        Headline("Fully loaded", amount, under, _tone(amount)),
        _unit_headline("Per accepted track", total.per_track(), total, of_track),
        _unit_headline("Per accepted audio minute", total.per_audio_min(), total, of_minute),
        Headline("Accepted tracks", count(total.tracks), kept),
        Headline(
            "Wasted", wasted, f"{percent(shares[CostGroup.WASTED]).text} of all" if shares else "rendered, not kept"
        ),
    ]


def _unit_headline(label: str, micros: int | None, total: Sums, under: str) -> Headline:
    text = _unit_text(micros, total.unpriced())
    if text == UNKNOWN:
        under = "some of its time has no known price"
    elif text == NONE:
        under = "nothing was accepted"
    return Headline(label, text, under, _tone(text))


def _unit_text(micros: int | None, unpriced_ms: int) -> str:
    return UNKNOWN if unpriced_ms else NONE if micros is None else money(micros)


def _tone(text: str) -> str:
    return text if text in (UNKNOWN, NONE) else ""


def money_sections(month: Month) -> Iterator[Section]:
    """Everything that is cut from the month's rows."""
    yield where_it_went(month)
    yield months(month)
    rows = month.contents.rows
    zones = pivot(rows, "zone")
    yield _cut(month, "zones", "By zone", zones, has_chart=True)
    if zones.lines:
        yield matrix(month, zones)
    yield waste(month, zones)
    yield _cut(month, "catalogs", "By catalog", pivot(rows, "catalog"))
    yield _cut(month, "machines", "By provider and GPU", pivot(rows, "provider", "gpu", "market"))
    yield _cut(month, "runs", "By run", pivot(rows, "run"))


def where_it_went(month: Month) -> Section:
    """The use of the money: one bar, and every category."""
    total, paper = month.total, month.paper
    groups = shown_groups(total)
    shares = shares_of({group: total.usd([group]) for group in CostGroup})
    parts = [Part(group, f"f-{group}", paper.groups[group], month.text(paper.groups[group])) for group in groups]
    legend = [
        Legend(part.style, part.name, f"{part.text}, {percent(shares[group]).text}" if shares else part.text)
        for group, part in zip(groups, parts, strict=True)
    ]
    figure = Figure("", charts.one_bar("use", "Use of the money", parts), legend)
    has_money = any(part.amount for part in parts)
    lead = "" if total.usd() or total.unpriced() else "Nothing has cost anything in this month."
    return Section("money", "Where the money went", lead, [figure] if has_money else [], tables=[_categories(month)])


def _categories(month: Month) -> ReportTable:
    total, unit = month.total, time_unit(month.total.total_ms)
    printed = month.paper.categories(total)
    used = [each for each in Category if total.usd_micros[each] or total.ms[each] or total.attempts_at[each]]
    used.sort(key=lambda each: list(CostGroup).index(group_of(each)))
    times = rounded_together({each: total.ms[each] for each in used}, unit.ms)
    shares = _shares_of_categories(total)
    lines = [
        [
            TableCell(each),
            TableCell(group_of(each), "quiet"),
            TableCell(count(total.attempts_at[each]), "" if total.attempts_at[each] else "quiet"),
            TableCell(unit.text(times[each]), "" if times[each] else "quiet"),
            money_cell(printed[each], month.paper.unit, is_unknown=_is_unknown(total, each)),
            shares[each],
        ]
        for each in used
    ]
    heads = [Head("category", is_number=False), Head("group", is_number=False), Head("attempts")]
    heads += [Head(f"time, {unit.name}"), Head("amount"), Head("share")]
    bottom = [
        TableCell("total"),
        TableCell(""),
        TableCell(count(total.attempts)),
        TableCell(unit.text(sum(times.values()))),
    ]
    whole = percent(1000) if total.usd() > 0 else TableCell(NONE, "quiet")
    bottom += [money_cell(month.paper.total, month.paper.unit, is_unknown=total.is_unknown()), whole]
    return ReportTable("Money by category", heads, lines, bottom)


def _shares_of_categories(total: Sums) -> dict[Category, TableCell]:
    """Shares of the whole; those of a group's categories add up to the share of its column."""
    groups = shares_of({group: total.usd([group]) for group in CostGroup})
    if groups is None:
        return dict.fromkeys(Category, TableCell(NONE, "quiet"))
    shares: dict[Category, TableCell] = {}
    for group, share in groups.items():
        parts = {each: 1000 * total.usd_micros[each] for each in Category if group_of(each) is group}
        shares.update({each: percent(part) for each, part in rounded_together(parts, total.usd(), share).items()})
    return shares


def _is_unknown(sums: Sums, category: Category) -> bool:
    return bool(sums.unpriced_ms[category]) and not sums.usd_micros[category]


def _cut(month: Month, ident: str, title: str, table: Pivot, *, has_chart: bool = False) -> Section:
    """A table of one cut, with a chart of its dearest lines where asked for."""
    lead = _lead(table)
    table = folded(table)
    figures = []
    if has_chart and any(line.sums.usd() for line in table.lines):
        figures = [_dearest(month, f"{ident}-chart", f"Costs {title.lower()}", table)]
    return Section(ident, title, lead, figures, tables=[money_table(f"Costs {title.lower()}", table, month.paper)])


def _dearest(month: Month, ident: str, title: str, table: Pivot) -> Figure:
    """The dearest lines of a table as bars, with the amounts that the table prints."""
    rows = [_bar(month, line, units) for line, units in zip(table.lines, month.paper.lines(table), strict=True)]
    legend = legend_of(month.total)
    if len(rows) <= CHART_LINES_MAX:
        return Figure("", charts.bars(ident, title, rows), legend)
    rows, rest = rows[: CHART_LINES_MAX - 1], rows[CHART_LINES_MAX - 1 :]
    together = [sum(bar.parts[at].amount for bar in rest) for at in range(len(CostGroup))]
    parts = [
        Part(group, f"f-{group}", units, month.text(units)) for group, units in zip(CostGroup, together, strict=True)
    ]
    others = ChartBar(f"{count(len(rest))} others together", month.text(sum(together)), parts)
    heading = f"The {len(rows)} dearest of {count(len(table.lines))}"
    return Figure(heading, charts.bars(ident, title, rows, others), legend)


def _bar(month: Month, line: Line, units: Mapping[CostGroup, int]) -> ChartBar:
    text = UNKNOWN if line.sums.is_unknown() else month.text(sum(units.values()))
    parts = [Part(group, f"f-{group}", units[group], month.text(units[group])) for group in CostGroup]
    return ChartBar(shown(line.name[0]), text, parts)


def _lead(table: Pivot) -> str:
    """One sentence about who takes most."""
    what = table.cuts[0] if table.cuts[0] != "provider" else "machine"
    if len(table.lines) < 2 or table.lines[0].sums.usd() <= 0:
        return ""
    shares = share_cells({f"{index:09d}": line.sums.usd() for index, line in enumerate(table.lines)})
    share = shares[min(shares)].text
    name = ", ".join(named_as(cut, each) for cut, each in zip(table.cuts, table.lines[0].name, strict=True))
    took = "" if share == NONE else f" took {share}"
    return f"The dearest {what} of {count(len(table.lines))}: {charts.clipped(name, 60)}{took and ','}{took}."


def legend_of(total: Sums) -> list[Legend]:
    """The legend that names the parts of a bar."""
    return [Legend(f"f-{group}", group) for group in shown_groups(total)]


def matrix(month: Month, zones: Pivot) -> Section:
    """Fully loaded dollars of every zone in every genre."""
    rows = month.contents.rows
    genres = pivot(rows, "genre")
    if len(genres.lines) > MATRIX_COLUMNS_MAX:
        lead = f"{count(len(genres.lines))} genres are too many for a page; the workbook has every zone in each."
        return Section("matrix", "By zone and genre", lead, tables=[money_table("Costs by genre", genres, month.paper)])
    zones = folded(zones)
    named = {line.name[0] for line in zones.lines}
    cells = {line.name: line.sums for line in pivot(rows, "zone", "genre").lines if line.name[0] in named}
    names = [line.name[0] for line in genres.lines]
    units = month.paper.lines(zones)
    dearest = max((sums.usd() for sums in cells.values()), default=0)
    having = {zone for zone, _ in cells}
    lines, sums_down = [], [0] * len(names)
    for zone, of_zone in zip(zones.lines, units, strict=True):
        sums = [cells.get((zone.name[0], name), Sums()) for name in names]
        if zone.name[0] not in having:  # those that were added up into one line
            sums = _others(rows, named, names)
        line, printed = _matrix_line(month, zone, sums, sum(of_zone.values()), dearest)
        sums_down = [before + more for before, more in zip(sums_down, printed, strict=True)]
        lines.append(line)
    unit = month.paper.unit
    bottom = [TableCell("total"), *(money_cell(each, unit) for each in (*sums_down, month.paper.total))]
    heads = [Head("zone", is_number=False), *(Head(shown(name)) for name in names), Head("fully loaded")]
    table = ReportTable("Fully loaded costs by zone and genre", heads, lines, bottom)
    return Section(
        "matrix", "By zone and genre", "Fully loaded dollars. The darker a cell, the dearer.", tables=[table]
    )


def _others(rows: Sequence[CostRow], named: set[str], names: Sequence[str]) -> list[Sums]:
    others = {name: Sums() for name in names}
    for row in rows:
        if row.zone not in named:
            others[row.genre].add(row)
    return [others[name] for name in names]


def _matrix_line(
    month: Month, zone: Line, sums: Sequence[Sums], whole: int, dearest: int
) -> tuple[list[TableCell], list[int]]:
    keys = [f"{index:09d}" for index in range(len(sums))]
    amounts = {key: each.usd() for key, each in zip(keys, sums, strict=True)}
    units = rounded_together(amounts, month.paper.unit, whole)
    cells = [
        money_cell(
            units[key],
            month.paper.unit,
            is_unknown=each.is_unknown() and not units[key],
            tint=max(0, each.usd()) * _TINT_MAX // dearest if dearest > 0 else 0,
        )
        for key, each in zip(keys, sums, strict=True)
    ]
    end = money_cell(whole, month.paper.unit, is_unknown=zone.sums.is_unknown() and not whole)
    return [TableCell(shown(zone.name[0])), *cells, end], [units[key] for key in keys]


def waste(month: Month, zones: Pivot) -> Section:
    """The section on takes that were rendered and not kept, by reason and by zone."""
    total, paper = month.total, month.paper
    printed = paper.categories(total)
    shares = shares_of({group: total.usd([group]) for group in CostGroup})
    rows = []
    for reason in WASTE_REASONS:
        text = UNKNOWN if _is_unknown(total, reason) else month.text(printed[reason])
        tries = total.attempts_at[reason]
        part = Part(reason, "f-wasted", printed[reason], text)
        rows.append(ChartBar(f"{reason} ({count(tries)} {'attempt' if tries == 1 else 'attempts'})", text, [part]))
    has_waste = any(printed[reason] for reason in WASTE_REASONS)
    figures = [Figure("", charts.bars("waste-chart", "Waste by reason", rows))] if has_waste else []
    lead = "Rejected takes failed their checks, failed ones met an error, lost ones went down with their machine."
    if shares and total.usd([CostGroup.WASTED]) > 0:
        lead = f"{percent(shares[CostGroup.WASTED]).text} of the money went into takes that were not kept. {lead}"
    return Section("waste", "Waste", lead, figures, tables=[_waste_by_zone(month, zones)])


def _waste_by_zone(month: Month, zones: Pivot) -> ReportTable:
    unit = month.paper.unit
    zones = folded(zones._replace(lines=sorted(zones.lines, key=lambda line: -line.sums.usd([CostGroup.WASTED]))))
    whole = month.paper.categories(month.total)
    keys = [f"{index:09d}" for index in range(len(zones.lines))]
    columns = {
        reason: rounded_together(
            {key: line.sums.usd_micros[reason] for key, line in zip(keys, zones.lines, strict=True)},
            unit,
            whole[reason],
        )
        for reason in WASTE_REASONS
        if zones.lines
    }
    lines = []
    for key, line in zip(keys, zones.lines, strict=True):
        units = [columns[reason][key] for reason in WASTE_REASONS]
        unknown = [_is_unknown(line.sums, reason) and not units[at] for at, reason in enumerate(WASTE_REASONS)]
        cells = [money_cell(each, unit, is_unknown=flag) for each, flag in zip(units, unknown, strict=True)]
        own, of = line.sums.usd([CostGroup.WASTED]), line.sums.usd()
        part = percent(rounded_share(own, of)) if of > 0 else TableCell(NONE, "quiet")
        wasted = money_cell(sum(units), unit, is_unknown=any(unknown) and not sum(units))
        lines.append([TableCell(shown(line.name[0])), *cells, wasted, part])
    own, of = month.total.usd([CostGroup.WASTED]), month.total.usd()
    bottom = [TableCell("total"), *(money_cell(whole[reason], unit) for reason in WASTE_REASONS)]
    bottom += [money_cell(month.paper.groups[CostGroup.WASTED], unit)]
    bottom += [percent(rounded_share(own, of)) if of > 0 else TableCell(NONE, "quiet")]
    heads = [Head("zone", is_number=False), *(Head(reason) for reason in WASTE_REASONS)]
    heads += [Head("wasted"), Head("of the zone's costs")]
    return ReportTable("Waste by zone and reason", heads, lines, bottom)


def rounded_share(part: int, whole: int) -> int:
    """Tenths of a percent of one amount in another, rounded; each stands on its own."""
    return (2000 * part + whole) // (2 * whole)


def months(month: Month) -> Section:
    """The months up to this one."""
    table = pivot(month.contents.trend, "month")
    title = "Month by month"
    if len(table.lines) < 2:
        return Section("months", title, "There is no earlier month to compare with.")
    unit = unit_of([amount for line in table.lines for amount in (*_amounts(line.sums), line.sums.usd())])
    groups = shown_groups(table.total)
    lines, rows, down = [], [], [0] * (len(groups) + 1)
    for line in table.lines:
        units = rounded_together(dict(zip(CostGroup, _amounts(line.sums), strict=True)), unit)
        whole = sum(units.values())
        parts = [Part(group, f"f-{group}", units[group] * unit, money(units[group], unit)) for group in groups]
        rows.append(ChartBar(month_name(line.name[0]), _known(whole, unit, line.sums), parts))
        cells = [money_cell(units[group], unit, is_unknown=line.sums.is_unknown([group])) for group in groups]
        per_track = unit_cost(line.sums.per_track(), is_unknown=bool(line.sums.unpriced()))
        own = [TableCell(_known(whole, unit, line.sums)), TableCell(count(line.sums.tracks)), per_track]
        lines.append([TableCell(month_name(line.name[0])), *cells, *own])
        down = [before + more for before, more in zip(down, (*(units[each] for each in groups), whole), strict=True)]
    heads = [Head("month", is_number=False), *(Head(group) for group in groups)]
    heads += [Head("fully loaded"), Head("tracks"), Head("per track")]
    per_track = unit_cost(table.total.per_track(), is_unknown=bool(table.total.unpriced()))
    bottom = [
        TableCell("total"),
        *(money_cell(each, unit) for each in down),
        TableCell(count(table.total.tracks)),
        per_track,
    ]
    chart = charts.columns("months-chart", "Costs by month", rows, _ticks(rows))
    figure = Figure("", chart, legend_of(table.total))
    return Section("months", title, figures=[figure], tables=[ReportTable("Costs by month", heads, lines, bottom)])


def _amounts(sums: Sums) -> list[int]:
    return [sums.usd([group]) for group in CostGroup]


def _known(units: int, unit: int, sums: Sums) -> str:
    return UNKNOWN if sums.is_unknown() else money(units, unit)


def _ticks(rows: Sequence[ChartBar]) -> list[tuple[int, str]]:
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    return [(amount, _round_money(amount)) for amount in charts.tick_amounts(low, high)]


def _round_money(micros: int) -> str:
    """A round amount, short enough to stand beside a plot."""
    usd, part = divmod(abs(micros), MICROS_PER_USD)
    if part:
        return brief_money(micros)
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if usd >= 10 * size or (usd and usd % size == 0 and usd >= size):
            short = f"{usd / size:g}{letter}"
            break
    else:
        short = f"{usd:,}"
    return f"{'−' if micros < 0 else ''}${short}"

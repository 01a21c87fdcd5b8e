"""Page sections that compare the month's cost: with budgets, with the next refresh, with buying, and with invoices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from orchestrator.finance.records import Baseline, BudgetLine, Forecast, Match
from orchestrator.finance.report import charts
from orchestrator.finance.report.charts import Fill, ForecastRange, Part
from orchestrator.finance.report.figures import brief_money, money, pivot, rounded, rounded_together, shares_of, unit_of
from orchestrator.finance.report.sections import Fact, Figure, Legend, Month, Section, rounded_share
from orchestrator.finance.report.tables import (
    NONE,
    UNKNOWN,
    Head,
    ReportTable,
    TableCell,
    count,
    money_cell,
    money_table,
    percent,
)
from orchestrator.finance.report.words import MONEY_KINDS, instant

_LISTED_MAX: Final = 200  # findings on the page; the workbook has every one
_FIND_ORDER: Final = (
    "line without rental", "price variance", "quantity variance", "rental without line", "matched",
)  # fmt: skip


def outlook_sections(month: Month) -> Iterator[Section]:
    """The sections on budgets, forecast, savings, invoices, and the sources of all figures."""
    yield _budgets(month.contents.budgets)
    yield _forecasts(month.contents.forecasts)
    yield _savings(month.contents.baseline)
    yield _invoices(month)
    yield _basis(month)


def _budgets(budgets: Sequence[BudgetLine]) -> Section:
    if not budgets:
        return Section("budgets", "Budgets", "No budget is set for this month.")
    unit = unit_of([amount for line in budgets for amount in (line.budget_usd_micros, line.actual_usd_micros)])
    fills, lines = [], []
    for line in budgets:
        budget, actual = rounded(line.budget_usd_micros, unit), rounded(line.actual_usd_micros, unit)
        used = rounded_share(line.actual_usd_micros, line.budget_usd_micros) if line.budget_usd_micros > 0 else None
        left = budget - actual
        state = f"{money(left, unit)} left" if left >= 0 else f"{money(-left, unit)} over"
        share = TableCell(NONE, "quiet") if used is None else percent(used)
        fills.append(Fill(f"{line.name}, {line.scope}", f"{share.text}, {state}", 2_000 if used is None else used))
        tone = "over" if left < 0 else ""
        cells = [money_cell(budget, unit), money_cell(actual, unit), TableCell(money(left, unit), tone), share]
        lines.append([TableCell(line.name), TableCell(line.scope, "quiet"), *cells])
    heads = [Head("name", is_number=False), Head("scope", is_number=False)]
    heads += [Head("budget"), Head("actual"), Head("left"), Head("used")]
    legend = [Legend("f-direct", "within the budget"), Legend("f-wasted", "over it")]
    figure = Figure("", charts.fills("budget-chart", "Budget against actual", fills), legend)
    over = sum(line.actual_usd_micros > line.budget_usd_micros for line in budgets)
    lead = f"{count(over)} of {count(len(budgets))} exceeded." if over else "Every budget was kept."
    lead += " Actual holds what was spent and what takes on their way have reserved."
    return Section("budgets", "Budgets", lead, [figure], tables=[ReportTable("Budget against actual", heads, lines)])


def _forecasts(forecasts: Sequence[Forecast]) -> Section:
    if not forecasts:
        return Section("forecast", "Forecast", "No finished run yet to forecast from.")
    known = [micros for each in forecasts for micros in each[2:5] if isinstance(micros, int)]
    unit = unit_of(known)
    rows, lines = [], []
    for each in forecasts:
        low, middle, high = each.low_usd_micros, each.usd_micros, each.high_usd_micros
        amounts = [_amount(micros, unit) for micros in (middle, low, high)]
        if middle is not None:
            low, high = middle if low is None else low, middle if high is None else high
            spread = f"{money(rounded(low, unit), unit)} to {money(rounded(high, unit), unit)}"
            rows.append(ForecastRange(each.catalog, amounts[0].text, spread, max(0, low), max(0, middle), max(0, high)))
        error = TableCell(UNKNOWN, "unknown") if each.past_error is None else percent(round(each.past_error * 1000))
        runs = [
            TableCell(count(each.runs)),
            TableCell(each.confidence, "" if each.confidence == "ok" else "over"),
            error,
        ]
        lines.append([TableCell(each.catalog), TableCell(count(each.tracks)), *amounts, *runs])
    heads = [Head("next refresh of", is_number=False), Head("tracks"), Head("forecast"), Head("low"), Head("high")]
    heads += [Head("finished runs"), Head("confidence", is_number=False), Head("past error")]
    legend = [Legend("f-dot", "forecast"), Legend("spread", "from low to high")]
    figures = (
        [Figure("", charts.ranges("forecast-chart", "Forecast of the next refresh", rows), legend)] if rows else []
    )
    lead = "What the next refresh of each catalog will cost, from the medians of its last runs."
    return Section("forecast", "Forecast", lead, figures, tables=[ReportTable("Forecast", heads, lines)])


def _amount(micros: int | None, unit: int) -> TableCell:
    return TableCell(UNKNOWN, "unknown") if micros is None else money_cell(rounded(micros, unit), unit)


def _savings(baseline: Baseline | None) -> Section:
    if baseline is None:
        return Section(
            "savings", "Savings", "No price of a bought song is in the price book: there is nothing to compare."
        )
    saved = baseline.saved_usd_micros
    own = baseline.own_usd_micros_per_track
    facts = [
        Fact("bought", brief_money(baseline.bought_usd_micros)),
        Fact("rendered, fully loaded", brief_money(baseline.own_usd_micros)),
        Fact("saved" if saved >= 0 else "paid more", brief_money(abs(saved)), "" if saved >= 0 else "over"),
        Fact("per track, rendered", UNKNOWN if own is None else money(own), "unknown" if own is None else ""),
    ]
    lead = (
        f"Buying the {count(baseline.tracks)} kept tracks against rendering them: {baseline.name} at "
        f"{money(baseline.usd_micros_per_song)} a song, {count(baseline.songs_per_request)} to a request "
        f"({baseline.source}, valid from {baseline.valid_from})."
    )
    lines = [
        [TableCell(name), TableCell(UNKNOWN, "unknown") if each is None else TableCell(count(each))]
        for name, each in baseline.break_even.items()
    ]
    heads = [Head("GPU and rate", is_number=False), Head("tracks an hour to break even")]
    tables = (
        [ReportTable("Break-even: accepted tracks an hour from which rendering is cheaper", heads, lines)]
        if lines
        else []
    )
    return Section("savings", "Savings", lead, facts=facts, tables=tables)


def _invoices(month: Month) -> Section:
    contents = month.contents
    tables = []
    if contents.matches:
        tables += [_findings(contents.matches), *_differences(contents.matches)]
    if contents.invoices:
        tables.append(_invoice_list(month))
    if contents.statements:
        tables.append(_statements(month))
    lead = "Each line of an invoice against the rental it is for." if tables else "No invoice was read for this month."
    return Section("invoices", "Invoices and reconciliation", lead, tables=tables)


def _findings(matches: Sequence[Match]) -> ReportTable:
    found: defaultdict[str, list[Match]] = defaultdict(list)
    for match in matches:
        found[match.finding].append(match)
    names = sorted(found, key=lambda name: (_FIND_ORDER.index(name) if name in _FIND_ORDER else 0, name))
    billed = {name: sum(each.billed_usd_micros or 0 for each in found[name]) for name in names}
    unit = unit_of(billed.values())
    printed = rounded_together(billed, unit)
    lines = [
        [TableCell(name, "over" if name == "line without rental" else ""), TableCell(count(len(found[name]))),
         TableCell("not billed", "quiet") if name == "rental without line" else money_cell(printed[name], unit)]
        for name in names
    ]  # fmt: skip
    heads = [Head("finding", is_number=False), Head("lines"), Head("billed")]
    bottom = [TableCell("total"), TableCell(count(len(matches))), money_cell(sum(printed.values()), unit)]
    return ReportTable("Reconciliation", heads, lines, bottom)


def _differences(matches: Sequence[Match]) -> list[ReportTable]:
    differing = [match for match in matches if match.finding != "matched"]
    if not differing:
        return []
    differing.sort(key=lambda match: -abs(match.difference_usd_micros or match.billed_usd_micros or 0))
    unit = unit_of([each or 0 for match in differing for each in (match.expected_usd_micros, match.billed_usd_micros)])
    lines = []
    for match in differing[:_LISTED_MAX]:
        expected, billed = _amount(match.expected_usd_micros, unit), _amount(match.billed_usd_micros, unit)
        difference = TableCell(UNKNOWN, "unknown")
        if match.finding == "line without rental":
            expected, difference = TableCell("no rental", "quiet"), billed
        elif match.billed_usd_micros is None:
            billed, difference = TableCell("not billed", "quiet"), TableCell("open", "quiet")
        elif match.expected_usd_micros is not None:
            printed = rounded(match.billed_usd_micros, unit) - rounded(match.expected_usd_micros, unit)
            difference = money_cell(printed, unit)
        amounts = [expected, billed, difference]
        names = [
            TableCell(match.external_id),
            TableCell(match.provider),
            TableCell(match.meter),
            TableCell(match.finding),
        ]
        lines.append([*names, *amounts, TableCell(match.note)])
    heads = [*(Head(name, is_number=False) for name in ("machine", "provider", "meter", "finding"))]
    heads += [Head("expected"), Head("billed"), Head("difference"), Head("note", is_number=False)]
    left_out = len(differing) - len(lines)
    note = f"{count(left_out)} smaller differences are in the workbook." if left_out else ""
    return [ReportTable("What differs", heads, lines, note=note)]


def _invoice_list(month: Month) -> ReportTable:
    invoices = month.contents.invoices
    amounts = [each[4:7] for each in invoices]
    unit = unit_of([int(amount) for row in amounts for amount in row])
    columns = [
        rounded_together({f"{at:09d}": int(row[column]) for at, row in enumerate(amounts)}, unit) for column in range(3)
    ]
    lines = [
        [TableCell(each.number), TableCell(each.provider), TableCell(each.currency),
         *(money_cell(column[f"{at:09d}"], unit) for column in columns)]
        for at, each in enumerate(invoices)
    ]  # fmt: skip
    heads = [*(Head(name, is_number=False) for name in ("invoice", "provider", "currency"))]
    heads += [Head("charges"), Head("paid in advance"), Head("in this month")]
    bottom = [
        TableCell("total"),
        TableCell(""),
        TableCell(""),
        *(money_cell(sum(column.values()), unit) for column in columns),
    ]
    return ReportTable("Invoices with lines in the month", heads, lines, bottom)


def _statements(month: Month) -> ReportTable:
    statements = month.contents.statements
    unit = unit_of([abs(int(amount)) for each in statements for amount in each[1:4]])
    lines, down = [], [0, 0, 0, 0]
    for each in statements:
        opening, topups, drawn = (rounded(int(amount), unit) for amount in each[1:4])
        units = [opening, topups, drawn, opening + topups - drawn]
        down = [before + more for before, more in zip(down, units, strict=True)]
        lines.append([TableCell(each.provider), *(money_cell(amount, unit) for amount in units)])
    heads = [
        Head("provider", is_number=False),
        *(Head(name) for name in ("opening", "top-ups", "draw-down", "closing")),
    ]
    bottom = [TableCell("total"), *(money_cell(amount, unit) for amount in down)]
    return ReportTable("Prepaid accounts: opening + top-ups − draw-down = closing", heads, lines, bottom)


def _basis(month: Month) -> Section:
    """The section on the sources of the figures."""
    contents, paper = month.contents, month.paper
    amounts = {kind: contents.coverage.usd_micros.get(kind, 0) for kind in MONEY_KINDS}
    printed = rounded_together(amounts, paper.unit)
    shares = shares_of(amounts)
    parts = [Part(kind, f"k-{kind}", printed[kind], month.text(printed[kind])) for kind in MONEY_KINDS]
    legend = [
        Legend(f"k-{kind}", kind, f"{month.text(printed[kind])}, {percent(shares[kind]).text}" if shares else "")
        for kind in MONEY_KINDS
    ]
    has_money = any(amounts.values())
    figures = (
        [Figure("Coverage", charts.one_bar("coverage", "Coverage by invoices", parts), legend)] if has_money else []
    )
    facts = [
        Fact("complete through", instant(contents.coverage.complete_through_ms, contents.time_zone)),
        Fact("method", contents.method),
        Fact("time zone", contents.time_zone),
        Fact("program", contents.code),
        Fact("last entry", count(contents.high_water_id)),
    ]
    tables = []
    if contents.prices:
        heads = [*(Head(name, is_number=False) for name in ("sku", "market")), Head("an hour")]
        heads.append(Head("source", is_number=False))
        lines = [
            [
                TableCell(each.sku),
                TableCell(each.market.replace("_", " ")),
                _price(each.usd_micros_per_h),
                TableCell(each.source),
            ]
            for each in contents.prices
        ]
        tables.append(ReportTable("Prices used", heads, lines))
    belonging = pivot(contents.rows, "belongs to")
    if len(belonging.lines) > 1:
        tables.append(money_table("By the month that the costs belong to", belonging, paper))
    return Section("basis", "What the figures rest on", "", figures, facts, tables)


def _price(micros: int | None) -> TableCell:
    return TableCell(UNKNOWN, "unknown") if micros is None else TableCell(brief_money(micros))

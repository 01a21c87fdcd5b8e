"""List sheets: budgets, invoices and prepaid accounts, forecast and savings, and the assumptions behind the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from orchestrator.finance.records import BudgetLine, Match
from orchestrator.finance.report.contents import Contents
from orchestrator.finance.report.roll_up import RollUp
from orchestrator.finance.report.sheet import (
    UNKNOWN,
    Book,
    Cell,
    Formula,
    Sheet,
    SheetColumn,
    cell_at,
    dollars,
    dollars_or,
    down,
    sum_formula,
)
from orchestrator.finance.report.words import DEFINITIONS, coverage_sentence, instant

_HEAD: Final = 3
_FIRST: Final = _HEAD + 1
_MS_PER_H: Final = 3_600_000


def write_budgets(book: Book, budgets: Sequence[BudgetLine]) -> None:
    """Write budgets beside the money spent and reserved. Scopes overlap, so there is no total."""
    sheet = Sheet(book, "Budgets", "Budgets against actual")
    columns = [
        SheetColumn("scope", 12),
        SheetColumn("name", 32),
        SheetColumn("budget", 15, "usd"),
        SheetColumn("actual", 15, "usd"),
    ]
    columns += [SheetColumn("left", 15, "usd"), SheetColumn("used", 10, "percent")]
    sheet.widths(columns)
    sheet.head(_HEAD, columns, frozen_columns=2)
    for row, line in enumerate(budgets, start=_FIRST):
        budget, actual = cell_at(row, 2), cell_at(row, 3)
        left = line.budget_usd_micros - line.actual_usd_micros
        used = line.actual_usd_micros / line.budget_usd_micros if line.budget_usd_micros else "none"
        cells: list[Cell] = [line.scope, line.name, dollars(line.budget_usd_micros), dollars(line.actual_usd_micros)]
        cells.append(Formula(f"=ROUND({budget}-{actual},6)", dollars(left)))
        cells.append(Formula(f'=IF({budget}<>0,{actual}/{budget},"none")', used))
        sheet.line(row, columns, cells)
    if not budgets:
        sheet.note(_FIRST, "No budget is set for this month.")


def write_invoices(book: Book, contents: Contents) -> None:
    """Invoices of the month, their reconciliation with rentals, and the prepaid accounts."""
    sheet = Sheet(book, "Invoices", "Invoices, reconciliation and prepaid accounts")
    sheet.widths([SheetColumn("", width) for width in (22, 16, 30, 14, 12, 16, 16, 16, 14, 14, 48)])
    row = _write_invoice_list(sheet, contents, 3)
    row = _write_findings(sheet, contents.matches, row + 2)
    row = _write_statements(sheet, contents, row + 2)
    _write_matches(sheet, contents.matches, row + 2)


def _write_invoice_list(sheet: Sheet, contents: Contents, row: int) -> int:
    sheet.section(row, "Invoices with lines in the month")
    columns = [
        SheetColumn("provider", 0),
        SheetColumn("number", 0),
        SheetColumn("invoice", 0),
        SheetColumn("currency", 0),
    ]
    columns += [
        SheetColumn("", 0),
        *(SheetColumn(title, 0, "usd") for title in ("charges", "paid in advance", "in this month")),
    ]
    sheet.head(row + 1, columns)
    first = row + 2
    for at, each in enumerate(contents.invoices, start=first):
        amounts = map(dollars, (each.total_usd_micros, each.topup_usd_micros, each.in_period_usd_micros))
        sheet.line(at, columns, [each.provider, each.number, each.invoice_id, each.currency, None, *amounts])
    last = first + len(contents.invoices)
    if not contents.invoices:
        sheet.note(first, "No invoice has a line in this month.")
        return last + 1
    sums = (
        sum(each.total_usd_micros for each in contents.invoices),
        sum(each.topup_usd_micros for each in contents.invoices),
        sum(each.in_period_usd_micros for each in contents.invoices),
    )
    totals = [sum_formula(down(5 + at, first, last - 1), dollars(each)) for at, each in enumerate(sums)]
    sheet.line(last, columns, ["total", "", "", "", None, *totals], "total")
    return last + 1


def _write_findings(sheet: Sheet, matches: Sequence[Match], row: int) -> int:
    sheet.section(row, "Reconciliation in one look")
    columns = [SheetColumn("finding", 0), SheetColumn("lines", 0, "count")]
    sheet.head(row + 1, columns)
    found = sorted(Counter(match.finding for match in matches).items())
    for at, (finding, count) in enumerate(found, start=row + 2):
        sheet.line(at, columns, [finding, count])
    if not found:
        sheet.note(row + 2, "Nothing was there to reconcile.")
    return row + 2 + max(1, len(found))


def _write_statements(sheet: Sheet, contents: Contents, row: int) -> int:
    sheet.section(row, "Prepaid accounts: opening + top-ups - draw-down = closing")
    titles = ("opening", "top-ups", "draw-down", "closing")
    columns = [
        SheetColumn("provider", 0),
        *(SheetColumn("", 0) for _ in range(4)),
        *(SheetColumn(each, 0, "usd") for each in titles),
    ]
    sheet.head(row + 1, columns)
    for at, each in enumerate(contents.statements, start=row + 2):
        opening, topups, drawn = (cell_at(at, column) for column in (5, 6, 7))
        closing = Formula(f"=ROUND({opening}+{topups}-{drawn},6)", dollars(each.closing_usd_micros))
        amounts = map(dollars, (each.opening_usd_micros, each.topups_usd_micros, each.drawn_usd_micros))
        sheet.line(at, columns, [each.provider, *[None] * 4, *amounts, closing])
    if not contents.statements:
        sheet.note(row + 2, "No account is paid in advance.")
    return row + 2 + max(1, len(contents.statements))


def _write_matches(sheet: Sheet, matches: Sequence[Match], row: int) -> None:
    sheet.section(row, "Reconciliation line by line: what differs comes first")
    columns = [SheetColumn(title, 0) for title in ("finding", "provider", "machine", "meter", "period")]
    columns += [SheetColumn(title, 0, "usd") for title in ("expected", "billed", "billed - expected")]
    columns += [SheetColumn("expected, h", 0, "hours"), SheetColumn("billed, h", 0, "hours"), SheetColumn("note", 0)]
    sheet.head(row + 1, columns)
    for at, each in enumerate(sorted(matches, key=lambda match: match.finding == "matched"), start=row + 2):
        expected, billed = cell_at(at, 5), cell_at(at, 6)
        text = f'=IF(AND(ISNUMBER({expected}),ISNUMBER({billed})),ROUND({billed}-{expected},6),"{UNKNOWN}")'
        sheet.line(at, columns, [
            *each[:5], dollars_or(each.expected_usd_micros, UNKNOWN), dollars_or(each.billed_usd_micros, "not billed"),
            Formula(text, dollars_or(each.difference_usd_micros, UNKNOWN)), _hours(each.expected_ms),
            _hours(each.billed_ms), each.note,
        ])  # fmt: skip


def _hours(ms: int | None) -> float | str:
    return "" if ms is None else ms / _MS_PER_H


def write_outlook(book: Book, contents: Contents) -> None:
    """Write the forecast of the next refresh, and the savings of rendering against buying."""
    sheet = Sheet(book, "Forecast and savings", "Forecast and savings")
    sheet.widths([SheetColumn("", width) for width in (44, 16, 16, 16, 16, 16, 18, 18)])
    columns = [SheetColumn("next refresh of", 0), SheetColumn("tracks", 0, "count")]
    columns += [SheetColumn(title, 0, "usd") for title in ("forecast", "low", "high")]
    columns += [
        SheetColumn("finished runs", 0, "count"),
        SheetColumn("confidence", 0),
        SheetColumn("past error, median", 0, "percent"),
    ]
    sheet.section(3, "Forecast")
    sheet.head(4, columns)
    for at, each in enumerate(contents.forecasts, start=5):
        amounts = [
            dollars_or(micros, UNKNOWN) for micros in (each.usd_micros, each.low_usd_micros, each.high_usd_micros)
        ]
        error = UNKNOWN if each.past_error is None else each.past_error
        sheet.line(at, columns, [each.catalog, each.tracks, *amounts, each.runs, each.confidence, error])
    if not contents.forecasts:
        sheet.note(5, "No finished run yet to forecast from.")
    _write_savings(sheet, contents, 5 + max(1, len(contents.forecasts)) + 2)


def _write_savings(sheet: Sheet, contents: Contents, row: int) -> None:
    sheet.section(row, "Savings against buying the kept tracks")
    baseline = contents.baseline
    if baseline is None:
        sheet.note(row + 1, "No price of a bought song is in the price book.")
        return
    bought, own = cell_at(row + 5, 1), cell_at(row + 6, 1)
    lines: list[tuple[str, Cell, str]] = [
        ("price row", f"{baseline.name}, {baseline.source}, valid from {baseline.valid_from}", "text"),
        ("price of a song", dollars(baseline.usd_micros_per_song), "usd_micro"),
        ("songs that a request returns", baseline.songs_per_request, "count"),
        ("accepted tracks", baseline.tracks, "count"),
        ("bought", dollars(baseline.bought_usd_micros), "usd"),
        ("rendered, fully loaded", dollars(baseline.own_usd_micros), "usd"),
        ("saved", Formula(f"=ROUND({bought}-{own},6)", dollars(baseline.saved_usd_micros)), "usd"),
        ("fully loaded per track", dollars_or(baseline.own_usd_micros_per_track, UNKNOWN), "usd_micro"),
    ]
    for at, (label, value, look) in enumerate(lines, start=row + 1):
        sheet.put(at, 0, label)
        sheet.put(at, 1, value, look=look)
    row += len(lines) + 3
    sheet.section(row, "Break-even: accepted tracks an hour from which rendering is cheaper")
    for at, (name, count) in enumerate(baseline.break_even.items(), start=row + 1):
        sheet.put(at, 0, name)
        sheet.put(at, 1, UNKNOWN if count is None else count, look="count")


def write_assumptions(book: Book, contents: Contents, roll_up: RollUp) -> None:
    """Write the sources of the figures, and the meaning of the words."""
    sheet = Sheet(book, "Assumptions", "What the figures rest on")
    sheet.widths([SheetColumn("", width) for width in (28, 20, 18, 70)])
    facts = [
        ("period", contents.period),
        ("from", instant(contents.start_ms, contents.time_zone)),
        ("until", instant(contents.end_ms, contents.time_zone)),
        ("time zone", contents.time_zone),
        ("state", contents.state),
        ("currency", "USD"),
        ("method of allocation", contents.method),
        ("coverage", coverage_sentence(contents)),
        ("complete through", instant(contents.coverage.complete_through_ms, contents.time_zone)),
        ("version of the program", contents.code),
        ("last entry counted", str(contents.high_water_id)),
        *(("note", note) for note in contents.notes),
    ]
    if roll_up.dropped:
        fields = ", ".join(each.removesuffix("_id") for each in roll_up.dropped)
        facts.append(("note", f"The roll-up has more rows than a sheet: the Data sheet is added up over {fields}."))
    row = 3
    for label, text in facts:
        sheet.put(row, 0, label)
        sheet.put(row, 1, text)
        row += 1
    row = _write_prices(sheet, contents, row + 1)
    sheet.section(row + 1, "Words")
    for at, (word, meaning) in enumerate(DEFINITIONS, start=row + 2):
        sheet.put(at, 0, word)
        sheet.put(at, 1, meaning)


def _write_prices(sheet: Sheet, contents: Contents, row: int) -> int:
    sheet.section(row, "Prices used")
    columns = [
        SheetColumn("sku", 0),
        SheetColumn("market", 0),
        SheetColumn("usd an hour", 0, "usd_micro"),
        SheetColumn("source", 0),
    ]
    sheet.head(row + 1, columns)
    for at, price in enumerate(contents.prices, start=row + 2):
        sheet.line(at, columns, [price.sku, price.market, dollars_or(price.usd_micros_per_h, UNKNOWN), price.source])
    if not contents.prices:
        sheet.note(row + 2, "No figure of this month rests on a price.")
    return row + 2 + max(1, len(contents.prices))

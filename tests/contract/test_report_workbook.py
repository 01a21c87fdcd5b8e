"""The workbook calculates what it shows, agrees with the books, and takes no name for a formula."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings

from orchestrator.finance.allocation.charges import ChargeKind
from orchestrator.finance.records import Coverage
from orchestrator.finance.report import roll_up, workbook
from orchestrator.finance.report.contents import Contents
from orchestrator.finance.report.workbook import write_workbook
from orchestrator.ledger.observations import Category
from tests.support.cost_contents import a_big_month, a_full_month, a_row, contents_of, example_rows, months
from tests.support.formulas import Spreadsheet

SHEETS = [
    "Summary", "By zone", "By zone x genre", "By catalog", "By provider and GPU", "By run", "By month", "Waste",
    "Budgets", "Invoices", "Forecast and savings", "Data", "Assumptions",
]  # fmt: skip


def written(contents: Contents, folder: Path, name: str = "report.xlsx") -> Path:
    path = folder / name
    path.unlink(missing_ok=True)
    write_workbook(contents, path)
    return path


def check_formulas(path: Path) -> int:
    """Calculate every formula anew and compare; how many there were."""
    shown, count = openpyxl.load_workbook(path, data_only=True), 0
    for count, (sheet, place, value) in enumerate(Spreadsheet(openpyxl.load_workbook(path)).formulas(), start=1):  # noqa: B007
        cached = shown[sheet][place].value
        if isinstance(value, str):
            assert cached == value, f"{sheet}!{place}"
        else:
            assert cached == pytest.approx(value, rel=1e-9, abs=1e-9), f"{sheet}!{place}"
    return count


def cells_of(path: Path, sheet: str) -> list[list[object]]:
    return [list(row) for row in openpyxl.load_workbook(path, data_only=True)[sheet].iter_rows(values_only=True)]


def test_every_formula_has_the_value_that_it_calculates_to(tmp_path):
    path = written(a_full_month(a_big_month(zones=9, genres=4)), tmp_path)
    assert openpyxl.load_workbook(path).sheetnames == SHEETS
    assert check_formulas(path) > 300


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=months(max_rows=12))
def test_whatever_the_rows_are_formulas_agree_and_the_data_add_up_to_the_books(tmp_path, rows):
    path = written(a_full_month(rows), tmp_path)
    check_formulas(path)
    data = cells_of(path, "Data")[1:]
    assert sum(row[13] for row in data if isinstance(row[13], int)) == sum(row.usd_micros for row in rows)
    assert "agrees with the books" in [row[1] for row in cells_of(path, "Summary")]


def test_the_worked_example_stands_in_the_sheets(tmp_path):
    path = written(contents_of(example_rows()), tmp_path)
    zones = [row[:8] for row in cells_of(path, "By zone")[4:7]]
    assert zones[0] == [1, "A", 1.0944, 0.2508, 0.109493, 0.123214, 0, 1.577907]
    assert zones[2][1:3] == ["total", 1.7666]
    assert zones[2][7] == 2.55
    assert cells_of(path, "By zone x genre")[6][2:4] == [2.55, 2.55]


def test_the_check_says_when_rows_and_books_differ(tmp_path):
    books = Coverage({ChargeKind.BILLED: 2_550_001}, 0, 0)
    path = written(contents_of(example_rows(), coverage=books), tmp_path)
    assert "DIFFERS FROM THE BOOKS" in [row[1] for row in cells_of(path, "Summary")]
    check_formulas(path)


def test_the_same_month_gives_the_same_bytes(tmp_path):
    rows = a_big_month(zones=3)
    first = written(a_full_month(rows), tmp_path, "first.xlsx").read_bytes()
    assert written(a_full_month(list(rows)), tmp_path, "second.xlsx").read_bytes() == first


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A1", "+1", "-1+2", "@SUM(A1)", "http://example.com", "1", "{=A1}"])
def test_a_name_stays_text(tmp_path, name):
    rows = [a_row(zone=name, catalog=name, genre=name, run_id=name, provider=name)]
    contents = a_full_month(rows, notes=[name], closed_by=name)
    book = openpyxl.load_workbook(written(contents, tmp_path))
    found = [cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.value == name]
    assert len(found) > 8
    assert {cell.data_type for cell in found} == {"s"}
    assert not [cell for cell in found if cell.hyperlink]


def test_zones_that_a_spreadsheet_would_mix_up_stay_apart(tmp_path):
    names = ["lobby", "Lobby", "*", "?obby", ">0", "1", "001", "1.0", ""]
    rows = [a_row(zone=name, usd_micros=10**index) for index, name in enumerate(names)]
    path = written(contents_of(rows), tmp_path)
    check_formulas(path)
    shown = {row[1]: round(row[7] * 1_000_000) for row in cells_of(path, "By zone")[4 : 4 + len(names)]}
    assert shown == {name or "(none)": 10**index for index, name in enumerate(names)}


def test_an_unknown_price_is_a_word_and_never_zero(tmp_path):
    rows = [a_row(zone="spa", usd_micros=0, unpriced_ms=3_600_000), a_row(zone="bar")]
    path = written(contents_of(rows), tmp_path)
    check_formulas(path)
    spa = next(row for row in cells_of(path, "By zone") if row[1] == "spa")
    assert [spa[2], spa[7], spa[14]] == ["unknown"] * 3
    assert spa[-1] == 1
    data = next(row for row in cells_of(path, "Data") if row[6] == "spa")
    assert data[12:14] == ["unknown", "unknown"]


def test_too_many_rows_are_added_up_over_runs_and_the_reader_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(roll_up, "ROWS_MAX", 5)
    rows = [a_row(run_id=f"run {number}", zone=f"zone {number % 2}") for number in range(9)]
    path = written(contents_of(rows), tmp_path)
    check_formulas(path)
    data = cells_of(path, "Data")[1:]
    assert {row[8] for row in data} == {"(all)"}
    assert sum(row[13] for row in data) == 9_000_000
    assert any("added up over run" in str(cell) for row in cells_of(path, "Assumptions") for cell in row)
    assert cells_of(path, "By run")[13][7] == 9  # the total of values


def test_a_long_roll_up_is_streamed_with_a_filter(tmp_path, monkeypatch):
    monkeypatch.setattr(roll_up, "TABLE_ROWS_MAX", 3)
    monkeypatch.setattr(workbook, "TABLE_ROWS_MAX", 3)
    path = written(a_full_month(a_big_month(zones=2, genres=2, runs=1)), tmp_path)
    check_formulas(path)
    book = openpyxl.load_workbook(path)
    assert book["Data"].auto_filter.ref
    assert not book["Data"].tables


def test_the_data_sheet_is_a_table_and_every_sheet_prints_on_landscape_pages(tmp_path):
    book = openpyxl.load_workbook(written(a_full_month(example_rows()), tmp_path))
    assert book["Data"].tables["RollUp"].ref == f"A1:X{len(example_rows()) + 1}"
    assert book["Data"].freeze_panes == "A2"
    assert book["By zone"].print_title_rows == "$4:$4"
    for sheet in book:
        assert sheet.page_setup.orientation == "landscape"
        assert sheet.sheet_properties.pageSetUpPr.fitToPage
    assert len(book["Summary"]._charts) == 4
    assert book["Data"]["M2"].number_format.startswith("$#,##0.000000")


def test_a_month_without_anything_has_a_workbook_too(tmp_path):
    path = written(contents_of([], trend=[]), tmp_path)
    check_formulas(path)
    assert Category.TAX not in str(cells_of(path, "Data"))

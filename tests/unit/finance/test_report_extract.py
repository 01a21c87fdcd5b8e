"""Extracts come back as they went out, and no cell of theirs runs in a spreadsheet."""

from __future__ import annotations

import csv

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.plain import plain
from orchestrator.finance.report.control import totals_of
from orchestrator.finance.report.extract import (
    COSTS_COLUMNS,
    LEDGER_COLUMNS,
    guarded,
    read_cells,
    unguarded,
    usd,
    write_costs,
    write_ledger,
)
from tests.support.cost_contents import NAMES, a_row, example_rows, extracted_of, months


@given(text=st.text(max_size=8) | NAMES)
def test_a_guarded_text_is_no_formula_and_comes_back_as_it_was(text):
    assert unguarded(guarded(text)) == text
    assert guarded(text)[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert guarded(text).strip()[:1] not in ("=", "+", "-", "@")
    assert guarded("'90s lounge") == "'90s lounge"


@settings(max_examples=40)
@given(rows=months(max_rows=8))
def test_the_ledger_round_trips_and_adds_up(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("extract") / "ledger.csv"
    totals = write_ledger(extracted_of(rows), path)
    entries, lines = list(extracted_of(rows)), list(read_cells(path))
    assert [line["zone"] for line in lines] == [plain(entry.zone) for entry in entries]
    assert [line["run_id"] for line in lines] == [plain(entry.run_id) for entry in entries]
    for entry, line in zip(entries, lines, strict=True):
        known = entry.usd_micros is not None
        assert line["usd_micros"] == (str(entry.usd_micros) if known else "unknown")
        assert line["usd"] == (usd(entry.usd_micros) if known else "unknown")
    posted = totals_of(rows)
    assert (totals.usd_micros, totals.tracks) == (posted.usd_micros, posted.tracks)
    assert totals.unpriced_ms == posted.unpriced_ms


def test_the_roll_up_has_its_columns_and_rfc_4180_lines(tmp_path):
    path = tmp_path / "costs.csv"
    write_costs([*example_rows(), a_row(zone='a "quoted", name', usd_micros=0, unpriced_ms=5)], path)
    body = path.read_bytes()
    assert body.count(b"\r\n") == body.count(b"\n") == 18
    with path.open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file)
    assert tuple(head) == COSTS_COLUMNS
    assert sum(int(line[12]) for line in lines[:-1]) == 2_550_000
    assert lines[0][12:14] == ["1094400", "1.094400"]
    assert lines[-1][6] == 'a "quoted", name'
    assert lines[-1][12:14] == ["unknown", "unknown"]


def test_numbers_are_never_guarded_and_instants_are_utc(tmp_path):
    path = tmp_path / "ledger.csv"
    write_ledger(extracted_of([a_row(usd_micros=-1_500_000, zone="-1")]), path)
    with path.open(encoding="utf-8", newline="") as file:
        (line,) = csv.DictReader(file)
    assert tuple(line) == LEDGER_COLUMNS
    assert (line["usd_micros"], line["usd"], line["zone"]) == ("-1500000", "-1.500000", "'-1")
    assert line["posted_at"] == "2026-03-01T00:00:00.001Z"
    assert line["reverses_id"] == ""

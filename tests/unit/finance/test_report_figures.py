"""Figures add up exactly, on paper too, and never invent what is not known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UnknownNameError
from catalog.split import split
from orchestrator.finance.allocation.charges import CostGroup
from orchestrator.finance.report.figures import (
    CENT,
    DIRECT,
    FIELD_OF_CUT,
    LOADED,
    MICRO,
    Sums,
    brief_money,
    money,
    paper_of,
    pivot,
    rounded,
    rounded_together,
    shares_of,
)
from orchestrator.ledger.observations import UNALLOCATED, Category
from tests.support.cost_contents import a_big_month, a_row, example_rows, months


def test_the_worked_example_comes_out_as_finance_knows_it():
    table = pivot(example_rows(), "zone")
    assert [(line.name, line.sums.usd(), line.sums.tracks) for line in table.lines] == [
        (("A",), 1_577_907, 1_200),
        (("B",), 972_093, 850),
    ]
    assert [line.sums.per_track() for line in table.lines] == [1_315, 1_144]
    assert [line.sums.per_track(DIRECT) for line in table.lines] == [912, 791]
    assert table.total.usd() == 2_550_000
    assert table.total.per_track() == 1_244
    assert table.total.usd(LOADED) == 1_766_600 + 364_200
    assert shares_of({group: table.total.usd([group]) for group in CostGroup}) == {
        "direct": 693, "wasted": 143, "idle": 62, "overhead": 102, "adjustment": 0,
    }  # fmt: skip


@given(rows=months(), cuts=st.lists(st.sampled_from(list(FIELD_OF_CUT)), max_size=2, unique=True))
def test_every_pivot_holds_every_micro_exactly_once(rows, cuts):
    table = pivot(rows, *cuts)
    assert sum(line.sums.usd() for line in table.lines) == table.total.usd() == sum(row.usd_micros for row in rows)
    assert sum(line.sums.usd([group]) for line in table.lines for group in CostGroup) == table.total.usd()
    assert sum(line.sums.tracks for line in table.lines) == sum(row.tracks for row in rows)
    assert sum(line.sums.unpriced() for line in table.lines) == sum(row.unpriced_ms for row in rows)


@given(rows=months())
def test_printed_cells_are_within_a_unit_of_the_truth_and_add_up_to_the_same_bottom_line_everywhere(rows):
    paper = paper_of(pivot(rows).total)
    for cut in ("zone", "gpu"):
        table = pivot(rows, cut)
        cells = paper.lines(table)
        for group in CostGroup:
            assert sum(line[group] for line in cells) == paper.groups[group]
        for line, printed in zip(table.lines, cells, strict=True):
            assert all(abs(printed[group] * paper.unit - line.sums.usd([group])) < paper.unit for group in CostGroup)
    assert abs(paper.total * paper.unit - table.total.usd()) <= paper.unit // 2
    assert sum(paper.categories(table.total).values()) == paper.total


def test_a_printed_line_is_its_own_sum_rounded_wherever_the_columns_allow_it():
    table = pivot(a_big_month(), "zone")
    paper = paper_of(table.total)
    for line, units in zip(table.lines, paper.lines(table), strict=True):
        assert abs(sum(units.values()) * paper.unit - line.sums.usd()) < paper.unit


@given(weights=st.dictionaries(st.text(max_size=3), st.integers(-(10**12), 10**12), max_size=9))
def test_shares_add_up_to_the_whole(weights):
    shares = shares_of(weights)
    assert (shares is None) == (sum(weights.values()) <= 0)
    if shares is not None:
        assert sum(shares.values()) == 1000
        if min(weights.values()) >= 0:
            assert shares == split(1000, weights)


@given(cells=st.dictionaries(st.text(max_size=3), st.integers(-(10**12), 10**12), max_size=9))
def test_rounding_together_agrees_with_rounding_the_sum_and_leaves_zero_alone(cells):
    units = rounded_together(cells, CENT)
    assert sum(units.values()) == rounded(sum(cells.values()), CENT)
    assert all(units[key] * CENT == amount for key, amount in cells.items() if amount % CENT == 0)
    assert rounded_together(cells, MICRO) == cells


def test_a_unit_cost_needs_something_to_divide_by_and_a_known_price():
    nothing = pivot([a_row(tracks=0, audio_ms=0)]).total
    assert (nothing.per_track(), nothing.per_audio_min()) == (None, None)
    unknown = pivot([a_row(), a_row(category=Category.IDLE, usd_micros=0, unpriced_ms=9)]).total
    assert (unknown.per_track(), unknown.per_audio_min()) == (None, None)
    assert unknown.per_track(DIRECT) == 100_000
    assert unknown.is_unknown([CostGroup.IDLE])
    assert not unknown.is_unknown()
    assert Sums().per_track() is None


def test_what_nobody_pays_comes_last_and_months_in_their_order():
    rows = [a_row(**UNALLOCATED._asdict(), usd_micros=9), a_row(usd_micros=1), a_row(zone="bar", usd_micros=2)]
    assert [line.name[0] for line in pivot(rows, "zone").lines] == ["bar", "lobby", "unallocated"]
    dated = [a_row(period="2026-02", usd_micros=1), a_row(period="2025-12", usd_micros=0)]
    assert [line.name[0] for line in pivot(dated, "month").lines] == ["2025-12", "2026-02"]


def test_a_cut_that_does_not_exist_is_named():
    with pytest.raises(UnknownNameError, match="mood"):
        pivot([], "mood")


def test_money_is_printed_in_its_unit_with_a_true_minus():
    assert money(123_456, CENT) == "$1,234.56"
    assert money(-5, CENT) == "−$0.05"
    assert money(1_315) == "$0.001315"
    assert [brief_money(each) for each in (2_550_000, 1_244, 1_234_567, -1_500_000, 0)] == [
        "$2.55", "$0.001244", "$1.23", "−$1.50", "$0.00",
    ]  # fmt: skip

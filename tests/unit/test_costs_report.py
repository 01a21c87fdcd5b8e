"""The cost report adds up to the workers' time at its price, along, down, and on paper."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UnknownNameError
from orchestrator.costs.allocation import AttemptFact, CostObject, SpanTime, WorkerLife
from orchestrator.costs.prices import Price, PriceBook
from orchestrator.costs.report import CUTS, Scope, TimeFacts, make_report, printed_money, with_prices

A = CostObject("hotels", "lobby", "jazz", "run1")
B = CostObject("spas", "thermal", "ambient", "run2")
H = 3_600_000


def an_attempt(take: str, payer: CostObject, outcome: str = "accepted", worker: str = "w1", batch: str = "b"):
    return AttemptFact(take, worker, batch, outcome, 1_000, 60_000, payer)


def a_life(worker: str = "w1", *, rate: int | None = 1_640_000, hours: int = 1, gpu: str = "A100") -> WorkerLife:
    return WorkerLife(worker, gpu, 0, hours * H, rate, "price book 2026-11-20" if rate is not None else "")


def render(worker: str = "w1", batch: str = "b", ms: int = H) -> SpanTime:
    return SpanTime(worker, 0, ms, "render", batch)


@st.composite
def fleets(draw):
    lives, spans, attempts = [], [], []
    for number in range(draw(st.integers(0, 4))):
        worker = f"w{number}"
        start = draw(st.integers(0, 10**6))
        rate = draw(st.none() | st.integers(0, 10**8))
        lives.append(WorkerLife(worker, f"gpu{number % 2}", start, start + draw(st.integers(0, 10**7)), rate, "book"))
        at = start
        for batch in draw(st.lists(st.sampled_from(["b1", "b2", ""]), max_size=4)):
            end = at + draw(st.integers(0, 10**6))
            state = draw(st.sampled_from(["plan", "render"])) if batch else "idle"
            spans.append(SpanTime(worker, at, end, state, batch, "" if batch else "no work"))
            at = end
        for take in draw(st.lists(st.integers(0, 9), max_size=6)):
            payer = CostObject(*(draw(st.sampled_from("ab")) for _ in range(4)))
            outcome = draw(st.sampled_from(["accepted", "rejected", "failed"]))
            batch = draw(st.sampled_from(["b1", "b2", ""]))
            measured = (outcome, draw(st.integers(0, 9_999)), 60_000)
            attempts.append(AttemptFact(f"{payer}{take}", worker, batch, *measured, payer, batch))
    return TimeFacts(lives, spans, attempts)


@given(facts=fleets(), by=st.lists(st.sampled_from(CUTS), min_size=1, max_size=4, unique=True))
def test_the_report_is_exactly_the_workers_time_at_its_rate(facts, by):
    report = make_report(facts, by=by)
    at_rate = [life.usd_micros for life in facts.lives]
    assert report.total.total == sum(micros or 0 for micros in at_rate) == report.whole_usd_micros
    assert sum(row.total for row in report.rows) == report.total.total
    assert report.total.unpriced_ms == sum(
        life.ms for life, micros in zip(facts.lives, at_rate, strict=True) if micros is None
    )
    for row in report.rows:
        assert row.direct + row.wasted + row.shared == row.total


@given(facts=fleets())
def test_counts_add_up_and_a_take_is_accepted_once(facts):
    report = make_report(facts, by=CUTS)
    assert sum(row.attempts for row in report.rows) == len(facts.attempts)
    accepted = {attempt.take_id for attempt in facts.attempts if attempt.outcome == "accepted"}
    assert sum(row.accepted for row in report.rows) == report.total.accepted == len(accepted)


@given(facts=fleets())
def test_the_printed_table_adds_up_too(facts):
    report = make_report(facts, by=("zone", "run"))
    unit, cells = printed_money(report)
    printed = sum(cell.total for cell in cells)
    assert printed == (report.total.total + unit // 2) // unit * unit
    for row, cell in zip(report.rows, cells, strict=True):
        for column in cell._fields:
            assert abs(getattr(cell, column) - getattr(row, column)) <= unit


def test_direct_waste_and_shared_are_told_apart():
    spans = [SpanTime("w1", 0, 600_000, "startup", ""), render(ms=0), SpanTime("w1", 600_000, H, "render", "b")]
    attempts = [an_attempt("t1", A), an_attempt("t2", A), an_attempt("t3", A, "rejected")]
    [row] = make_report(TimeFacts([a_life(rate=3_600_000)], spans, attempts)).rows
    assert (row.direct, row.wasted, row.shared, row.total) == (2_000_000, 1_000_000, 600_000, 3_600_000)
    assert (row.accepted, row.attempts, row.audio_ms, row.per_accepted) == (2, 3, 120_000, 1_800_000)


def test_nothing_accepted_has_no_unit_cost():
    [row] = make_report(TimeFacts([a_life()], [render()], [an_attempt("t1", A, "failed")])).rows
    assert row.per_accepted is None
    assert row.total == 1_640_000


def test_an_unknown_price_is_shown_as_time_and_never_as_zero():
    facts = TimeFacts(
        [a_life(), a_life("w2", rate=None, gpu="Mystery 9000")],
        [render(), render("w2")],
        [an_attempt("t1", A), an_attempt("t2", A, worker="w2"), an_attempt("t3", B, worker="w2")],
    )
    report = make_report(facts, by=("catalog",))
    hotels, spas = report.rows
    assert (hotels.total, hotels.unpriced_ms, hotels.per_accepted) == (1_640_000, H // 2, None)
    assert (spas.total, spas.unpriced_ms, spas.per_accepted) == (0, H // 2, None)
    assert [each.gpu for each in report.unpriced] == ["Mystery 9000"]


def test_a_price_written_down_later_mends_the_report():
    book = PriceBook(Path(), (Price("m9000", ("Mystery 9000",), "on_demand", 2_000_000, None, "x", date(1970, 1, 1)),))
    facts = TimeFacts([a_life(), a_life("w2", rate=None, gpu="NVIDIA Mystery 9000")], [], [])
    mended = make_report(with_prices(facts, book))
    assert mended.total.total == 3_640_000
    assert mended.unpriced == ()
    assert mended.sources == ("price book 1970-01-01", "price book 2026-11-20")


def test_a_scoped_report_says_what_share_of_the_whole_it_shows():
    facts = TimeFacts([a_life(rate=4_000_000)], [render()], [an_attempt("t1", A), an_attempt("t2", B)])
    report = make_report(facts, by=("run",), scope=Scope(run_id="run2"))
    assert [row.name for row in report.rows] == [("run2",)]
    assert (report.total.total, report.whole_usd_micros, report.share) == (2_000_000, 4_000_000, 0.5)
    assert make_report(facts, scope=Scope(catalog="hotels")).total.total == 2_000_000


def test_unused_workers_are_a_last_row():
    facts = TimeFacts([a_life(), a_life("w2")], [render()], [an_attempt("t1", CostObject("z", "z", "z", "z"))])
    assert [row.name for row in make_report(facts).rows] == [("z",), ("unallocated",)]


def test_a_report_tells_what_the_time_of_the_workers_it_is_about_was_used_for():
    facts = TimeFacts(
        [a_life(), a_life("w2")],
        [render(ms=H // 2), SpanTime("w2", 0, H // 4, "idle", "", "no work")],
        [an_attempt("t1", A), an_attempt("t2", B, worker="w2")],
    )
    assert make_report(facts).use.by_state_ms == {"render": H // 2, "idle": H // 4, "unobserved": 5 * H // 4}
    assert make_report(facts, scope=Scope(run_id="run1")).use.by_state_ms == {"render": H // 2, "unobserved": H // 2}


def test_an_unknown_cut_is_an_error():
    with pytest.raises(UnknownNameError, match="no report by 'mood'"):
        make_report(TimeFacts([], [], []), by=("mood",))


def test_nothing_at_all_is_an_empty_report():
    report = make_report(TimeFacts([], [], []))
    assert (report.rows, report.total.total, report.share) == ([], 0, None)
    assert printed_money(report) == (1, [])


def test_a_take_accepted_again_in_another_run_is_counted_once_and_paid_twice():
    again = A._replace(run_id="run2")
    facts = TimeFacts([a_life()], [render()], [an_attempt("t1", A), an_attempt("t1", again)])
    first, second = make_report(facts, by=("run",)).rows
    assert (first.accepted, first.audio_ms, second.accepted, second.audio_ms) == (1, 60_000, 0, 0)
    assert (first.total, second.total) == (820_000, 820_000)

"""Reconciliation: every billed micro-dollar and every expected rental is in exactly one finding."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.reconcile import FINDINGS, BilledAmount, Expected, Tolerance, reconcile

HOUR = 3_600_000
DAY = 24 * HOUR
NOVEMBER = 1_793_491_200_000
EXACT = Tolerance(0, 0, 0)


def expected(external_id="r1", ms=HOUR, usd_micros=1_640_000, meter="gpu", provider="runpod", **fields) -> Expected:
    values = {"period": "2026-11", "start_ms": NOVEMBER, "end_ms": NOVEMBER + ms, "is_over": True, **fields}
    return Expected(provider, external_id, meter, ms=ms, usd_micros=usd_micros, **values)


def billed(external_id="r1", ms=HOUR, usd_micros=1_640_000, meter="gpu", line_id="l1", **fields) -> BilledAmount:
    values = {"provider": "runpod", "period": "2026-11", "invoice": "INV-1", **fields}
    return BilledAmount(external_id=external_id, meter=meter, ms=ms, usd_micros=usd_micros, line_id=line_id, **values)


def the_match(rentals, lines, *, as_of_ms=NOVEMBER + 2 * DAY, **options):
    [match] = reconcile(rentals, lines, as_of_ms=as_of_ms, **options)
    return match


@pytest.mark.parametrize(
    ("line", "finding", "difference", "note"),
    [
        (billed(), "matched", 0, "invoice INV-1"),
        (billed(usd_micros=1_640_001), "matched", 1, "within tolerance; invoice INV-1"),
        (billed(usd_micros=1_800_000), "price variance", 160_000, "invoice INV-1"),
        (billed(ms=2 * HOUR, usd_micros=3_280_000), "quantity variance", 1_640_000, "invoice INV-1"),
        (billed(ms=2 * HOUR), "quantity variance", 0, "invoice INV-1"),
        (billed(ms=HOUR + 60_000), "matched", 0, "invoice INV-1"),
        (billed(ms=None), "matched", 0, "the bill names no time; invoice INV-1"),
        (billed(ms=None, usd_micros=0), "price variance", -1_640_000, "the bill names no time; invoice INV-1"),
    ],
)
def test_a_difference_has_a_name_and_stays_visible(line, finding, difference, note):
    match = the_match([expected()], [line])
    assert (match.finding, match.difference_usd_micros, match.note) == (finding, difference, note)


def test_without_tolerance_a_micro_is_a_variance():
    assert the_match([expected()], [billed(usd_micros=1_640_001)], tolerance=EXACT).finding == "price variance"
    assert the_match([expected()], [billed(ms=HOUR + 1)], tolerance=EXACT).finding == "quantity variance"


def test_lines_and_spans_of_one_rental_are_summed_before_they_are_compared():
    lines = [billed(ms=HOUR // 2, usd_micros=820_000, line_id=name, invoice=f"INV-{name}") for name in "abcde"[:2]]
    match = the_match([expected(ms=HOUR // 4, usd_micros=410_000) for _ in range(4)], lines)
    assert (match.finding, match.expected_ms, match.billed_usd_micros) == ("matched", HOUR, 1_640_000)
    assert match.note == "invoice INV-a, INV-b"


def test_a_bill_for_a_rental_that_nobody_knows_is_a_leak():
    first, *_ = reconcile([expected()], [billed(), billed("ghost")], as_of_ms=NOVEMBER)
    assert (first.finding, first.external_id, first.expected_usd_micros) == ("line without rental", "ghost", None)
    assert first.note.startswith("nobody knows this rental")
    assert the_match([], [billed("")]).note.startswith("the line names no rental")


def test_disk_and_traffic_of_a_known_rental_are_no_leak():
    for meter in ("disk", "egress"):
        matches = reconcile([expected()], [billed(), billed(meter=meter)], as_of_ms=NOVEMBER)
        assert [match.finding for match in matches] == ["matched", "matched"]
        assert reconcile([], [billed(meter=meter)], as_of_ms=NOVEMBER)[0].finding == "line without rental"


def test_time_in_a_month_without_any_is_a_quantity_variance():
    first, *_ = reconcile([expected()], [billed(), billed(period="2026-12")], as_of_ms=NOVEMBER)
    assert (first.finding, first.period, first.expected_ms, first.difference_usd_micros) == (
        *("quantity variance", "2026-12"),
        *(0, 1_640_000),
    )


@pytest.mark.parametrize("meter", ["credit", "tax", "topup"])
def test_lines_without_usage_need_no_rental(meter):
    match = the_match([], [billed("", None, -1, meter)])
    assert (match.finding, match.billed_usd_micros) == ("matched", -1)


@pytest.mark.parametrize(
    ("fields", "days", "note"),
    [
        ({}, 2, "pending: no invoice yet"),
        ({}, 36, "overdue: its invoice should have come"),
        ({"is_over": False}, 36, "pending: it still runs"),
        ({"provider": "local"}, 36, "nobody has said whose machine it is"),
        ({"usd_micros": None}, 2, "pending: no invoice yet; the price is unknown"),
    ],
)
def test_a_rental_that_nobody_bills_is_pending_or_overdue(fields, days, note):
    match = the_match([expected(**fields)], [], as_of_ms=NOVEMBER + HOUR + days * DAY)
    assert (match.finding, match.note, match.billed_usd_micros) == ("rental without line", note, None)


def test_an_unknown_price_is_never_compared_as_zero():
    match = the_match([expected(usd_micros=None), expected()], [billed(ms=2 * HOUR)])
    assert (match.finding, match.expected_usd_micros, match.difference_usd_micros) == ("matched", None, None)
    assert "money was not compared" in match.note


ids = st.sampled_from(["", "r1", "r2", "r3"])
periods = st.sampled_from(["2026-10", "2026-11"])
providers = st.sampled_from(["runpod", "vast", "local"])
lengths = st.integers(0, 10 * HOUR)
rentals = st.builds(
    Expected,
    provider=providers,
    external_id=ids,
    meter=st.sampled_from(["gpu", "disk"]),
    period=periods,
    ms=lengths,
    usd_micros=st.none() | st.integers(0, 10**9),
    start_ms=st.just(NOVEMBER),
    end_ms=st.integers(NOVEMBER, NOVEMBER + 40 * DAY),
    is_over=st.booleans(),
)
bills = st.builds(
    BilledAmount,
    provider=providers,
    external_id=ids,
    meter=st.sampled_from([str(meter) for meter in Meter]),
    period=periods,
    ms=st.none() | lengths,
    usd_micros=st.integers(-(10**9), 10**9),
    invoice=st.sampled_from(["INV-1", "INV-2"]),
    line_id=st.text(max_size=3),
)


@given(st.lists(rentals, max_size=20), st.lists(bills, max_size=20), st.randoms())
def test_nothing_is_counted_twice_or_left_out(expectations, lines, random):
    matches = reconcile(expectations, lines, as_of_ms=NOVEMBER + 30 * DAY)
    keys = [match[1:5] for match in matches]
    assert len(keys) == len(set(keys))
    assert sum(match.billed_usd_micros or 0 for match in matches) == sum(line.usd_micros for line in lines)
    assert sum(match.expected_ms or 0 for match in matches) == sum(rental.ms for rental in expectations)
    assert {rental[:4] for rental in expectations} | {line[:4] for line in lines} == set(keys)
    by_key: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        by_key[line[:4]] += line.usd_micros
    assert all((match.billed_usd_micros or 0) == by_key[match[1:5]] for match in matches)
    assert {match.finding for match in matches} <= set(FINDINGS)
    shuffled = (random.sample(expectations, len(expectations)), random.sample(lines, len(lines)))
    assert [match[:9] for match in reconcile(*shuffled, as_of_ms=NOVEMBER + 30 * DAY)] == [m[:9] for m in matches]

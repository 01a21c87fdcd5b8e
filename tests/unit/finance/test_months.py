"""Finance's months: no millisecond in two of them or in none, whatever its time zone does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import SettingsError
from orchestrator.finance.months import bounds_of, cut_by_month, month_of, next_month, parse_period

ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"])
INSTANTS = st.integers(1_000_000_000_000, 2_000_000_000_000)


@given(INSTANTS, st.integers(0, 200 * 86_400_000), ZONES)
def test_the_parts_of_a_stretch_touch_and_each_lies_in_its_month(start_ms, ms, zone):
    parts = list(cut_by_month(start_ms, start_ms + ms, zone))
    assert (parts[0].start_ms, parts[-1].end_ms) == (start_ms, start_ms + ms)
    for one, other in pairwise(parts):
        assert one.end_ms == other.start_ms
        assert next_month(one.period) == other.period
    for part in parts:
        begin_ms, end_ms = bounds_of(part.period, zone)
        assert begin_ms <= part.start_ms <= part.end_ms <= end_ms


@given(INSTANTS, ZONES)
def test_an_instant_is_in_the_month_that_holds_it(at_ms, zone):
    begin_ms, end_ms = bounds_of(month_of(at_ms, zone), zone)
    assert begin_ms <= at_ms < end_ms


def test_midnight_is_finances_and_a_change_of_clocks_is_reckoned_with():
    start_ms, end_ms = bounds_of("2026-10", "Europe/Berlin")
    assert (end_ms - start_ms) // 3_600_000 == 31 * 24 + 1
    assert month_of(bounds_of("2026-11", "Europe/Berlin")[0], "UTC") == "2026-10"


@pytest.mark.parametrize("at_ms", [-(10**18), -1, 0, 10**18])
def test_an_instant_of_a_broken_clock_has_a_month_too(at_ms):
    (part,) = cut_by_month(at_ms, at_ms, "Pacific/Apia")
    assert (part.start_ms, part.end_ms) == (at_ms, at_ms)
    assert part.period == parse_period(part.period)


@pytest.mark.parametrize("text", ["2026", "2026-13", "2026-1", "26-11", "", "2026-11-01", "november"])
def test_anything_but_a_month_is_refused(text):
    with pytest.raises(SettingsError, match="--period is wrong"):
        parse_period(text)

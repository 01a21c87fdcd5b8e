"""Forecast and baseline: what the next refresh costs, how far earlier forecasts were off, and when rendering wins."""

from __future__ import annotations

import pytest

from orchestrator.finance.baseline import SongPrice, baseline_of
from orchestrator.finance.forecast import RunCost, forecast
from orchestrator.finance.records import PriceUsed


def a_run(number: int, tracks: int = 100, *, each: int = 1_000, fixed: int = 5_000, unpriced_ms: int = 0) -> RunCost:
    """A run whose kept tracks cost `each`, with a quarter as much idle, and tries of which one in five was rejected."""
    run = RunCost(f"run{number}", "hotels", number)
    run.add("accepted", tracks * each, unpriced_ms, 0, tracks, tracks)
    run.add("rejected", tracks * each // 4, 0, 0, 0, tracks // 4)
    run.add("idle", tracks * each // 4, 0, 0, 0, 0)
    run.add("startup", fixed, 0, 0, 0, 0)
    return run


def test_runs_that_were_alike_forecast_the_next_exactly():
    found = forecast("hotels", [a_run(n) for n in range(6)])
    assert found is not None
    assert (found.tracks, found.usd_micros) == (100, 155_000)
    assert (found.past_error, found.confidence, found.runs) == (0.0, "ok", 6)


def test_fixed_costs_do_not_grow_with_the_number_of_tracks():
    found = forecast("hotels", [a_run(n) for n in range(6)], tracks=1_000)
    assert found is not None
    assert found.usd_micros == 1_000 * 1_500 + 5_000


@pytest.mark.parametrize(
    ("runs", "confidence"), [(1, "low confidence"), (2, "low confidence"), (3, "few runs"), (5, "ok")]
)
def test_few_runs_are_said_to_be_few(runs, confidence):
    found = forecast("hotels", [a_run(n, each=1_000 + n) for n in range(runs)])
    assert found is not None
    assert found.confidence == confidence
    assert (found.past_error is None) == (runs == 1)
    assert found.low_usd_micros <= found.usd_micros <= found.high_usd_micros


def test_the_past_error_is_that_of_forecasts_made_from_the_runs_before():
    found = forecast("hotels", [a_run(1, fixed=0), a_run(2, each=2_000, fixed=0)])
    assert found is not None
    assert found.past_error == 0.5  # half of what it cost was foreseen


def test_a_run_with_an_unknown_price_makes_the_forecast_unknown_and_not_cheap():
    found = forecast("hotels", [a_run(1), a_run(2, unpriced_ms=5)])
    assert found is not None
    assert (found.usd_micros, found.low_usd_micros, found.past_error) == (None, None, None)


def test_other_catalogs_and_runs_without_tracks_forecast_nothing():
    assert forecast("spas", [a_run(1)]) is None
    assert forecast("hotels", [a_run(1, tracks=0)]) is None
    assert forecast("hotels", []) is None


def a_baseline(usd_micros: int, songs: int = 1, tracks: int = 15_000, own: int = 16_000_000, is_known: bool = True):
    price = SongPrice("mureka", "a page", "2026-11-28", usd_micros, songs)
    rates = [PriceUsed("a100", "on_demand", 2_000_000, "book"), PriceUsed("mystery", "spot", None, "unknown")]
    return baseline_of(price, tracks=tracks, own_usd_micros=own, is_known=is_known, rates=rates)


def test_buying_is_compared_at_the_price_of_a_kept_song():
    low, high = a_baseline(57_000), a_baseline(67_000)
    assert (low.bought_usd_micros, high.bought_usd_micros) == (855_000_000, 1_005_000_000)
    assert low.saved_usd_micros == 839_000_000
    assert low.own_usd_micros_per_track == 1_067
    assert (low.break_even["a100 on demand"], high.break_even["a100 on demand"]) == (36, 30)
    assert low.break_even["mystery spot"] is None
    assert a_baseline(57_000, songs=2).bought_usd_micros == 2 * 855_000_000


def test_a_unit_cost_over_nothing_or_over_an_unknown_price_is_unknown():
    assert a_baseline(57_000, tracks=0).own_usd_micros_per_track is None
    assert a_baseline(57_000, is_known=False).own_usd_micros_per_track is None

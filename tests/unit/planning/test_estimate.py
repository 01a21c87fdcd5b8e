"""The estimate: measured where the ledger has measured, published elsewhere, and it says which."""

from __future__ import annotations

from datetime import date

import pytest

from catalog.buckets import Bucket
from catalog.errors import BudgetError
from catalog.settings import Settings
from catalog.spec import DiffusionSpec
from orchestrator.finance.prices.book import Price
from orchestrator.planning.estimate import (
    NO_HISTORY,
    Basis,
    History,
    Speed,
    SpeedKey,
    default_gpu,
    estimate,
    published_speed,
)
from orchestrator.planning.plan import BucketLoad, CatalogPlan, StandingCounts, ZoneGenre

PLANNER = "acestep-5Hz-lm-1.7B"


def a_price(sku="a100-80gb", usd_micros_per_h=1_800_000) -> Price:
    return Price(sku, (), "on_demand", usd_micros_per_h, 80, "list", date(2026, 11, 20))


def a_plan(*loads: tuple[str, int, int], model="acestep-v15-turbo") -> CatalogPlan:
    """Loads are (planner, duration_s, takes)."""
    buckets = tuple(
        BucketLoad(Bucket(model, planner, DiffusionSpec(), seconds), takes) for planner, seconds, takes in loads
    )
    counts = StandingCounts(new=sum(load.takes for load in buckets))
    return CatalogPlan("hotels", "Hotels", model, {ZoneGenre("spa", "ambient"): counts}, buckets, (), 0, lambda: [])


def test_the_published_speed_of_1800_songs_an_hour_costs_one_hour():
    result = estimate(a_plan(("", 180, 1_800)), price=a_price())
    assert result.gpu_hours == pytest.approx(1.0, abs=1e-5)
    assert result.usd_micros == pytest.approx(1_800_000, abs=2)
    assert result.source.startswith("published speeds")
    assert "start-up and idle time not included" in result.source


def test_the_planner_adds_five_tokens_a_second_at_200_tokens_a_second():
    planned = estimate(a_plan((PLANNER, 180, 1)), price=a_price())
    assert planned.gpu_ms == pytest.approx(2_000 + 4_500, abs=1)


def test_what_was_measured_comes_before_what_is_published_and_each_line_says_which():
    history = NO_HISTORY._replace(speeds={SpeedKey(PLANNER, DiffusionSpec()): Speed(10.0, 412)})
    result = estimate(a_plan((PLANNER, 100, 10), ("", 180, 90)), price=a_price(), history=history)
    measured, published = result.lines
    assert (measured.basis, measured.engine_ms, measured.note) == (Basis.MEASURED, 10_000, "412 takes")
    assert (published.basis, published.engine_ms) == (Basis.PUBLISHED, 180_000)
    assert result.source.startswith("measured on 412 takes; published speeds for 90 takes")


def test_start_idle_and_retries_are_included_once_they_were_measured():
    speeds = {SpeedKey("", DiffusionSpec()): Speed(10.0, 5)}
    history = History(speeds, tries_per_take=1.5, reject_rate=0.25, startup_ms=60_000, idle_share=0.5)
    result = estimate(a_plan(("", 100, 100)), price=a_price(usd_micros_per_h=3_600_000), history=history)
    assert result.overhead_ms == 75_000 + 60_000
    assert result.gpu_ms == 150_000 + 135_000
    assert result.usd_micros == 285_000
    assert result.expected_accepted == 75
    assert "not included" not in result.source


def test_money_is_rounded_up():
    history = NO_HISTORY._replace(speeds={SpeedKey("", DiffusionSpec()): Speed(0.01, 1)})
    result = estimate(a_plan(("", 100, 1)), price=a_price(usd_micros_per_h=1), history=history)
    assert (result.gpu_ms, result.usd_micros) == (1, 1)


def test_a_plan_without_anything_missing_costs_nothing():
    history = History({}, tries_per_take=1.0, reject_rate=0.0, startup_ms=60_000, idle_share=0.5)
    result = estimate(a_plan(), price=a_price(), history=history)
    assert (result.gpu_ms, result.usd_micros, result.source) == (0, 0, "nothing to render")


def test_an_estimate_above_the_cap_is_an_error_that_shows_the_reckoning():
    result = estimate(a_plan(("", 180, 1_800)), price=a_price())
    assert result.within(None) is result.within(2_000_000) is result
    with pytest.raises(BudgetError, match="above the cap") as caught:
        result.within(1_000_000)
    assert "a100-80gb" in caught.value.why
    assert "published speeds" in caught.value.why
    assert caught.value.exit_code == 21


def test_slower_gpus_take_longer_and_unknown_ones_are_assumed_and_named():
    bucket = Bucket("acestep-v15-turbo", PLANNER, DiffusionSpec(), 180)
    speed = {gpu: published_speed(bucket, gpu)[0] for gpu in ("h200-141gb", "a100-80gb", "l4-24gb", "cpu")}
    assert speed["h200-141gb"] < speed["a100-80gb"] < speed["l4-24gb"] < speed["cpu"]
    assert published_speed(bucket, "l40s-48gb")[2].endswith("for l40s")
    ms, basis, note = published_speed(bucket, "mystery-9000")
    assert (ms, basis) == (1_000.0, Basis.ASSUMED)
    assert "mystery-9000" in note


def test_rehearsals_have_no_published_speed():
    result = estimate(a_plan(("", 10, 6), model="tiny-random"), price=a_price("cpu"))
    assert result.gpu_ms == 60_000
    assert "assumed: at most real time; nothing is published for tiny-random" in result.source


def test_the_gpu_is_the_option_the_setting_a_cpu_for_rehearsals_or_an_a100():
    assert default_gpu("acestep-v15-turbo", "l4", Settings(gpu="h100")) == "l4"
    assert default_gpu("tone", None, Settings(gpu="h100")) == "h100"
    assert default_gpu("tone", None, Settings()) == default_gpu("tiny-random", None, Settings()) == "cpu"
    assert default_gpu("acestep-v15-turbo", None, Settings()) == "a100-80gb"

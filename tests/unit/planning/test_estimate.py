"""The estimate: measured where the ledger has measured, arithmetic elsewhere, and it says which, with its bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.buckets import Bucket
from catalog.errors import BudgetError, PriceError
from catalog.settings import Settings
from catalog.spec import DiffusionSpec
from orchestrator.finance.prices.book import Price, choose_price, midnight_ms, read_price_book
from orchestrator.planning.estimate import NO_HISTORY, History, Speed, SpeedKey, default_gpu, estimate
from orchestrator.planning.plan import BucketLoad, CatalogPlan, CellName, StandingCounts
from orchestrator.planning.speeds import GPUS, Basis, Range, reckon_speed
from tests.unit.finance.test_prices import SHIPPED

PLANNER = "acestep-5Hz-lm-1.7B"


def a_price(sku="a100-80gb", usd_micros_per_h=1_800_000) -> Price:
    return Price(sku, (), "on_demand", usd_micros_per_h, 80, "list", date(2026, 11, 20))


def a_plan(*loads: tuple[str, int, int], model="acestep-v15-turbo") -> CatalogPlan:
    """Loads are (planner, duration_s, takes)."""
    buckets = tuple(
        BucketLoad(Bucket(model, planner, DiffusionSpec(), seconds), takes) for planner, seconds, takes in loads
    )
    counts = StandingCounts(new=sum(load.takes for load in buckets))
    return CatalogPlan("hotels", "Hotels", model, {CellName("spa", "ambient"): counts}, buckets, (), 0, lambda: [])


def test_an_a100_makes_4150_takes_of_three_minutes_an_hour_by_the_arithmetic():
    result = estimate(a_plan((PLANNER, 180, 64_000)), price=a_price())
    per_h = {name: 64_000 / (ms / 3_600_000) for name, ms in result.time._asdict().items()}
    assert per_h["likely"] == pytest.approx(4_150, rel=0.02)
    assert per_h["high"] < 3_000  # the range that the count of the work gave
    assert per_h["low"] > 4_900
    assert result.usd_micros == pytest.approx(1_800_000 * 64_000 / 4_150, rel=0.02)
    assert result.source == (
        "arithmetic (data sheet of a100-80gb), which no GPU has confirmed; start-up and idle time not included"
    )


def test_an_h200_makes_9200_takes_of_three_minutes_an_hour_by_the_arithmetic():
    result = estimate(a_plan((PLANNER, 180, 64_000)), price=a_price("h200-141gb"))
    assert 64_000 / (result.gpu_ms / 3_600_000) == pytest.approx(9_200, rel=0.03)


def test_nothing_is_promised_below_what_the_data_sheet_allows():
    floor_ms = (56.2 + 21.9) / 312 * 1000  # products alone, at full speed
    result = estimate(a_plan(("", 180, 1)), price=a_price())
    assert floor_ms < result.time.low < result.time.likely < result.time.high


def test_a_planner_call_costs_the_same_however_few_takes_it_holds():
    plain, few, full = (
        estimate(a_plan(load), price=a_price()) for load in (("", 180, 6), (PLANNER, 180, 6), (PLANNER, 180, 64))
    )
    call_ms = few.gpu_ms - plain.gpu_ms
    assert call_ms == pytest.approx(900 * 16.7, rel=0.02)
    assert full.gpu_ms == pytest.approx(plain.gpu_ms / 6 * 64 + call_ms, rel=0.001)


@pytest.mark.parametrize(
    ("gpu", "seconds", "calls"),
    [("a100-80gb", 180, 1), ("a100-80gb", 600, 2), ("rtx-4090-24gb", 180, 2), ("rtx-3060-12gb", 180, 4)],
)
def test_a_gpu_with_less_memory_plans_fewer_takes_at_a_time(gpu, seconds, calls):
    def planning_ms(takes: int) -> float:
        bucket = Bucket("acestep-v15-turbo", PLANNER, DiffusionSpec(), seconds)
        planned, plain = (reckon_speed(each, (gpu,), takes) for each in (bucket, bucket._replace(planner="")))
        return (planned.ms_per_audio_s.likely - plain.ms_per_audio_s.likely) * takes

    assert planning_ms(64) == pytest.approx(calls * planning_ms(1))


@given(
    st.sampled_from(sorted(GPUS)),
    st.integers(10, 600),
    st.integers(1, 50),
    st.integers(1, 5_000),
    st.sampled_from(["", PLANNER, "acestep-5Hz-lm-0.6B", "acestep-5Hz-lm-4B"]),
)
def test_more_of_anything_never_takes_less_and_likely_lies_between(gpu, seconds, steps, takes, planner):
    def total(seconds: int, steps: int, takes: int) -> Range:
        bucket = Bucket("acestep-v15-turbo", planner, DiffusionSpec(steps=steps), seconds)
        return reckon_speed(bucket, (gpu,), takes).ms_per_audio_s.times(seconds * takes)

    base = total(seconds, steps, takes)
    assert 0 < base.low < base.likely < base.high
    assert total(seconds, steps + 1, takes) >= base
    assert total(seconds, steps, takes + 1).likely >= base.likely
    assert total(seconds, steps, takes + 1).low >= base.low


def test_longer_takes_take_longer():
    times = [estimate(a_plan((PLANNER, seconds, 640)), price=a_price()).time for seconds in range(10, 601, 10)]
    for name in ("low", "likely", "high"):
        figures = [getattr(time, name) for time in times]
        assert figures == sorted(figures)


def test_every_gpu_with_a_speed_has_a_price():
    book = read_price_book(SHIPPED)
    for gpu in GPUS:
        assert choose_price(gpu, midnight_ms(date(2026, 11, 30)), book).price.usd_micros_per_h > 0


def test_what_was_measured_comes_before_arithmetic_and_each_line_says_which():
    history = NO_HISTORY._replace(speeds={SpeedKey(PLANNER, DiffusionSpec()): Speed(10.0, 412)})
    result = estimate(a_plan((PLANNER, 100, 10), ("", 180, 90)), price=a_price(), history=history)
    measured, reckoned = result.lines
    assert (measured.basis, measured.engine_ms, measured.note) == (Basis.MEASURED, 10_000, "412 takes")
    assert (reckoned.basis, reckoned.note) == (Basis.RECKONED, "data sheet of a100-80gb")
    assert result.source.startswith("measured on 412 takes; arithmetic (data sheet of a100-80gb), which no GPU has")
    assert "for 90 takes" in result.source


def test_measurements_narrow_the_range_to_what_varied_and_never_to_nothing():
    assert Speed(10.0, 100).range == pytest.approx((9.0, 10.0, 11.0))
    assert Speed(10.0, 100, (9.5, 14.0)).range == pytest.approx((9.0, 10.0, 14.0))
    assert Speed(10.0, 3).range == pytest.approx((7.5, 10.0, 12.5))


def test_without_a_price_the_cost_is_unknown_and_no_cap_can_be_kept():
    lack = PriceError("no price for GPU 'b300'", why="there are prices for: l4", fix="add one")
    result = estimate(a_plan((PLANNER, 180, 6)), price=None, gpu="b300", lack=lack)
    assert (result.money, result.usd_micros, result.gpu) == (None, None, "b300")
    assert result.gpu_ms > 0
    assert result.notes == ("the cost is unknown: no price for GPU 'b300'; there are prices for: l4; add one",)
    assert result.within(None) is result
    with pytest.raises(PriceError, match="the cost is unknown") as caught:
        result.within(10_000_000)
    assert caught.value.fix == "add one"


def test_a_plan_with_nothing_to_render_keeps_any_cap_without_a_price():
    result = estimate(a_plan(), price=None, gpu="b300", lack=PriceError("no price"))
    assert (result.usd_micros, result.notes) == (0, ())
    assert result.within(1) is result


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


def test_takes_in_the_place_of_rejected_ones_cost_their_share():
    plan = a_plan((PLANNER, 180, 100), (PLANNER, 60, 100))
    plan = replace(plan, loads=(plan.loads[0]._replace(again=50), plan.loads[1]))
    result = estimate(plan, price=a_price())
    assert result.again_usd_micros == pytest.approx(result.usd_micros * 0.5 * 180 / 240, rel=0.05)
    assert estimate(a_plan((PLANNER, 180, 100)), price=a_price()).again_usd_micros == 0
    assert estimate(plan, price=None).again_usd_micros is None


def test_a_plan_without_anything_missing_costs_nothing():
    history = History({}, tries_per_take=1.0, reject_rate=0.0, startup_ms=60_000, idle_share=0.5)
    result = estimate(a_plan(), price=a_price(), history=history)
    assert (result.gpu_ms, result.usd_micros, result.source) == (0, 0, "nothing to render")


def test_an_estimate_above_the_cap_is_an_error_that_shows_the_reckoning():
    result = estimate(a_plan(("", 180, 1_800)), price=a_price())
    assert result.within(None) is result.within(result.money.likely) is result  # its high bound is above that cap
    with pytest.raises(BudgetError, match="above the cap") as caught:
        result.within(result.money.likely - 1)
    assert "a100-80gb" in caught.value.why
    assert "arithmetic" in caught.value.why
    assert caught.value.exit_code == 21


def test_slower_gpus_take_longer_and_unknown_ones_are_assumed_and_named():
    bucket = Bucket("acestep-v15-turbo", PLANNER, DiffusionSpec(), 180)
    speed = [reckon_speed(bucket, (gpu,), 640).ms_per_audio_s for gpu in ("h200-141gb", "a100-80gb", "l4-24gb", "cpu")]
    for name in ("low", "likely", "high"):
        assert [getattr(each, name) for each in speed] == sorted(getattr(each, name) for each in speed)
    assert reckon_speed(bucket, ("l40s-48gb",), 640).note == "data sheet of l40s"
    guess = reckon_speed(bucket, ("mystery-9000",), 640)
    assert (guess.basis, guess.ms_per_audio_s.high) == (Basis.ASSUMED, 1_000.0)
    assert "mystery-9000" in guess.note


@pytest.mark.parametrize("other", ["RTX 4090 Laptop GPU", "A100 80GB PCIe MIG 3g.40gb", "GH200 480GB"])
def test_no_card_takes_the_speed_of_another(other):
    bucket = Bucket("acestep-v15-turbo", PLANNER, DiffusionSpec(), 180)
    assert reckon_speed(bucket, (other,), 640).basis is Basis.ASSUMED


def test_a_sku_of_somebodys_own_has_the_speed_of_the_card_that_it_matches():
    price = a_price("our-cheap-box")._replace(match=("A100-SXM4-80GB",))
    own, plain = (estimate(a_plan((PLANNER, 180, 64)), price=each) for each in (price, a_price()))
    assert own.time == plain.time


def test_rehearsals_have_no_speed_but_the_bound_that_all_keep():
    result = estimate(a_plan(("", 10, 6), model="tiny-random"), price=a_price("cpu"))
    assert result.gpu_ms == 60_000
    assert result.time.low < result.time.high == 60_000
    assert "assumed: at most real time; nothing is known of tiny-random" in result.source


def test_the_gpu_is_the_option_the_setting_a_cpu_for_rehearsals_or_an_a100():
    assert default_gpu("acestep-v15-turbo", "l4", Settings(gpu="h100")) == "l4"
    assert default_gpu("tone", None, Settings(gpu="h100")) == "h100"
    assert default_gpu("tone", None, Settings()) == default_gpu("tiny-random", None, Settings()) == "cpu"
    assert default_gpu("acestep-v15-turbo", None, Settings()) == "a100-80gb"

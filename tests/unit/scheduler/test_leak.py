"""When memory creeps, and when an engine has grown too large to keep."""

from __future__ import annotations

import pytest

from workers.scheduler.leak import READINGS, READINGS_MIN, SETTLING_BATCHES, STEADY_BATCHES, LeakBound, LeakWatch

BOUND = LeakBound(mib=100, share=0.25)


def read(growth: LeakWatch, *mib: float, takes: int = 4, audio_s: int = 40) -> None:
    for each in mib:
        growth.add(each, takes=takes, audio_s=audio_s)


def test_a_steady_leak_is_told_in_mib_per_hundred_takes():
    growth = LeakWatch()
    read(growth, *(1000 + 2 * n for n in range(READINGS_MIN)))
    assert growth.mib_per_100_takes == pytest.approx(50)  # 2 MiB in 4 takes


def test_memory_that_only_jitters_has_next_to_no_slope():
    growth = LeakWatch()
    read(growth, *(1000 + 30 * (n % 2) for n in range(READINGS)))
    assert abs(growth.mib_per_100_takes) < 1


def test_a_few_readings_tell_no_slope():
    growth = LeakWatch()
    read(growth, *[1000.0] * (READINGS_MIN - 1))
    assert growth.mib_per_100_takes is None
    read(growth, 1000.0)
    assert growth.mib_per_100_takes == 0


def test_what_was_long_ago_is_forgotten():
    growth = LeakWatch()
    read(growth, *(1000 + 10 * n for n in range(30)))
    read(growth, *[1300.0] * READINGS)
    assert growth.mib_per_100_takes == pytest.approx(0)


@pytest.mark.parametrize(("settled_mib", "allowed_mib"), [(200, 100), (1000, 250)])
def test_an_engine_may_grow_by_the_larger_of_both_bounds(settled_mib, allowed_mib):
    growth = LeakWatch(BOUND)
    read(growth, *[settled_mib] * SETTLING_BATCHES)
    read(growth, settled_mib + allowed_mib)
    assert growth.outgrown == ""
    read(growth, *[settled_mib + allowed_mib + 1] * STEADY_BATCHES)
    assert f"settled at {settled_mib:,} MiB" in growth.outgrown


def test_filling_its_caches_is_no_growth():
    growth = LeakWatch(BOUND)
    read(growth, *(1000 * n for n in range(SETTLING_BATCHES)))
    assert growth.outgrown == ""
    read(growth, 1000 * SETTLING_BATCHES)
    assert growth.outgrown == ""


def test_a_batch_larger_than_any_before_is_entitled_to_more():
    growth = LeakWatch(BOUND)
    read(growth, *[1000.0] * SETTLING_BATCHES)
    read(growth, *[3000.0] * SETTLING_BATCHES, audio_s=400)
    assert growth.outgrown == ""
    read(growth, 3000, audio_s=40)
    assert growth.outgrown == ""
    read(growth, *[4000.0] * STEADY_BATCHES, audio_s=400)
    assert growth.outgrown != ""


def test_a_few_high_readings_are_no_growth_while_others_are_low():
    growth = LeakWatch(BOUND)
    read(growth, *[1000.0] * SETTLING_BATCHES)
    read(growth, *([5000.0] * (STEADY_BATCHES - 1) + [1000.0]) * 5)
    assert growth.outgrown == ""


def test_a_new_engine_starts_from_nothing():
    growth = LeakWatch(BOUND)
    read(growth, *[1000.0] * SETTLING_BATCHES, *[2000.0] * STEADY_BATCHES)
    assert growth.outgrown != ""
    growth.reset()
    assert growth.outgrown == ""
    assert growth.mib_per_100_takes is None

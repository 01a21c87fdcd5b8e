"""The arithmetic of memory: shares that add up, the published allowance, and batches that are not begun in vain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import OutOfVram
from workers.ace_step.device.fitting import GIB, MemoryBudget, Requirement, published_requirement, require_memory

TURBO, XL = 1_575_000_000, 4_000_000_000
GIBS = st.integers(0, 200)


@given(total=GIBS, resident=GIBS, onload=GIBS, planned=st.booleans())
def test_weights_reserve_planner_and_batches_never_take_more_than_there_is(
    total: int, resident: int, onload: int, planned: bool
):
    memory = MemoryBudget(total * GIB, resident * GIB, onload * GIB, planned)
    assert memory.for_planner + memory.for_batches == memory.spare + memory.onload
    assert memory.spare == 0 or memory.resident + memory.onload + memory.spare < memory.total
    assert memory.for_planner <= memory.spare


def test_the_planner_gets_two_thirds_of_what_80_gib_leave_and_the_rest_is_for_batches():
    memory = MemoryBudget(80 * GIB, resident=10 * GIB, onload=0, planned=True)
    assert memory.spare / GIB == pytest.approx(80 * 0.95 - 0.5 - 10)
    assert memory.for_planner / GIB == pytest.approx(65.5 * 2 / 3)
    assert memory._replace(planned=False).for_planner == 0
    assert memory._replace(planned=False).for_batches == memory.spare


def test_weights_that_are_loaded_for_a_batch_are_part_of_what_it_may_need():
    stays, offloaded = (
        MemoryBudget(16 * GIB, 4 * GIB, 0, planned=True),
        MemoryBudget(16 * GIB, 0, 4 * GIB, planned=True),
    )
    assert offloaded.for_planner == stays.for_planner
    assert offloaded.for_batches == stays.for_batches + 4 * GIB


@pytest.mark.parametrize(
    ("duration_s", "weights", "itemsize", "gib"),
    [
        *((30, TURBO, 2, 0.5), (60, TURBO, 2, 0.5), (180, TURBO, 2, 0.8), (600, TURBO, 2, 1.85)),
        *((180, XL, 2, 1.36), (180, TURBO, 4, 1.6)),
    ],
)
def test_the_allowance_is_the_published_one_by_length_model_and_precision(
    duration_s: int, weights: int, itemsize: int, gib: float
):
    requirement = published_requirement(duration_s, weights=weights, itemsize=itemsize, onload=7)
    assert requirement.take / GIB == pytest.approx(gib)
    assert requirement.of(3) == 3 * requirement.take + 7


def test_a_model_for_tests_needs_nothing_and_so_is_never_held_back():
    requirement = published_requirement(600, weights=150_000, itemsize=4, onload=8_000_000)
    assert requirement.of(64) == 0
    require_memory(64, 600, requirement, free=0)


def test_a_batch_that_will_not_fit_is_refused_with_both_numbers():
    requirement = Requirement(take=2 * GIB, batch=GIB, source="measured")
    require_memory(4, 180, requirement, free=9 * GIB)
    with pytest.raises(OutOfVram, match=r"5 takes of 180 s need 11.0 GiB \(measured\), and 9.0 GiB are free"):
        require_memory(5, 180, requirement, free=9 * GIB)


def test_a_single_take_is_always_tried():
    requirement = Requirement(take=2 * GIB)
    require_memory(1, 180, requirement, free=0)
    with pytest.raises(OutOfVram):
        require_memory(2, 180, requirement, free=0)

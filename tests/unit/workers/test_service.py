"""A worker takes in hand as many takes as its engine and its cores keep busy with."""

from __future__ import annotations

import pytest

from catalog.tiers import BatchLimit
from workers.service import EngineLimits, threads_for


@pytest.mark.parametrize(
    ("batch", "plan", "n_cores", "threads"),
    [
        (8, 64, 16, 64 + 16 + 2 + 16),
        (8, 0, 2, 16 + 2 + 2),
        (1, 4, 128, 4 + 2 + 2 + 2),  # many cores are no help where so few takes come at once
    ],
)
def test_a_worker_holds_a_planner_call_two_batches_and_what_its_cores_finish(batch, plan, n_cores, threads):
    limits = EngineLimits(BatchLimit(batch, "test"), BatchLimit(plan, "test"))
    assert threads_for(limits, n_cores) == threads

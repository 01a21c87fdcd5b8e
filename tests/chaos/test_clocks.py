"""Clocks differ, and are set while processes run: nobody is taken for dead for it, and time costs what it lasted."""

from __future__ import annotations

import pytest

from tests.chaos.fleet import begin
from tests.chaos.form import one_of, only_long
from tests.chaos.truth import assert_truth

HOUR_S = 3600
SET_AFTER_S = 4  # while it works; on a busy machine while it starts, which is no different


@only_long
@pytest.mark.parametrize("ahead_s", one_of(-HOUR_S, HOUR_S))
def test_a_worker_whose_clock_is_wrong_by_an_hour_is_a_worker_like_any_other(fleet, ahead_s):
    begin(fleet, clock_ahead_s=ahead_s)
    fleet.start_worker()
    fleet.finish()
    books = assert_truth(fleet)
    assert_nobody_was_taken_for_dead(books)
    assert len({each["worker_id"] for each in books.attempts}) == 2
    ahead = sorted(abs(worker["clock_ahead_ms"]) for worker in books.workers.values())
    assert ahead[0] == 0
    assert abs(ahead[1] - HOUR_S * 1000) < 30_000


@pytest.mark.parametrize("ahead_s", one_of(HOUR_S, -HOUR_S))
def test_a_worker_whose_clock_is_set_while_it_works_costs_what_it_has_lived(fleet, ahead_s):
    begin(fleet, batch_s=0.8, clock_ahead_s=ahead_s, clock_set_after_s=SET_AFTER_S)
    fleet.finish()
    assert_nobody_was_taken_for_dead(assert_truth(fleet))


@only_long
@pytest.mark.parametrize("ahead_s", one_of(HOUR_S, -HOUR_S))
def test_a_controller_whose_clock_is_set_takes_no_worker_for_dead(fleet_of, ahead_s):
    fleet = fleet_of(tracks=8, heartbeat_s=4, silent_after_s=20)
    worker = fleet.start_worker(batch_s=6, threads=4)
    fleet.dispatch()
    fleet.wait(lambda: worker.life.worker_id, "the worker is ready")
    # While the first batch is on the engine nobody has anything to say but a heartbeat now and then.
    fleet.start_controller(clock_ahead_s=ahead_s, clock_set_after_s=SET_AFTER_S)
    fleet.finish()
    books = assert_truth(fleet)
    assert_nobody_was_taken_for_dead(books)
    assert set(books.rendered.values()) == {1}


def assert_nobody_was_taken_for_dead(books):
    assert {worker["end_reason"] for worker in books.workers.values()} == {"told to stop"}
    assert max(take["losses"] for take in books.takes) == 0

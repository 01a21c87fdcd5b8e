"""Workers are killed, stopped, frozen and doubled, at every stage of a take: the catalog comes out whole."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.chaos.fleet import ACCEPTED, HELD, begin
from tests.chaos.form import one_of, only_long
from tests.chaos.truth import UNSAID_MS, assert_truth, lost_ms, unsaid_ms


def test_a_fleet_that_nobody_hurts_makes_its_catalog(fleet):
    begin(fleet)
    fleet.finish()
    books = assert_truth(fleet)
    assert set(books.rendered.values()) == {1}


@pytest.mark.parametrize("blow", one_of("kill", "kill_engine", "kill_group"))
def test_a_worker_is_killed_in_the_middle(fleet, blow):
    worker = begin(fleet, batch_s=0.3)
    fleet.wait_until(ACCEPTED, 3)
    getattr(worker, blow)()
    fleet.finish()
    books = assert_truth(fleet)
    assert len(worker.lives) == (1 if blow == "kill_engine" else 2)
    assert all(unsaid_ms(books, life) < UNSAID_MS for life in worker.lives)  # the time of the killed one is paid for


@pytest.mark.parametrize("number", one_of(signal.SIGTERM, signal.SIGQUIT, signal.SIGINT))
def test_a_worker_is_told_to_end_in_the_middle(fleet, number):
    worker = begin(fleet, batch_s=0.3)
    fleet.wait_until(ACCEPTED, 3)
    worker.signal(number)
    fleet.finish()
    books = assert_truth(fleet)
    assert worker.lives[0].code == 0, worker.lives[0].said
    assert max(take["losses"] for take in books.takes) == 0  # it has given back what it held


def test_a_worker_is_frozen_until_it_is_taken_for_dead_and_wakes_up_again(fleet):
    frozen = begin(fleet, batch_s=0.3)
    fleet.wait_until(ACCEPTED, 2)
    fleet.wait_until(HELD)
    frozen.signal(signal.SIGSTOP)
    fleet.start_worker()
    fleet.wait_until("select count(*) from worker where end_reason like 'silent%'")
    frozen.signal(signal.SIGCONT)
    fleet.finish()
    books = assert_truth(fleet)
    assert Counter(worker["end_reason"] for worker in books.workers.values()) == {"told to stop": 2}
    assert max(take["tries"] for take in books.takes) == 0


@only_long
def test_a_worker_is_killed_with_takes_it_has_received_and_takes_on_its_engine(fleet):
    worker = begin(fleet, batch_s=1, threads=10)
    fleet.wait(fleet.batches_begun, "a batch is on the engine")
    fleet.wait_until(HELD, 4)
    worker.kill_group()
    fleet.finish()
    assert_truth(fleet)


@pytest.mark.parametrize(
    ("key", "done"),
    one_of(("/takes/", True), ("/audio/", False), ("/audio/", True), ("/takes/", False)),
)
def test_a_worker_is_killed_while_it_uploads(s3_fleet_of, proxy, key, done):
    """Before or after (`done`) its audio or its sidecar lies there; the last is: before its record is sent."""
    fleet = s3_fleet_of()
    worker = begin(fleet)
    fleet.wait_until(ACCEPTED, 1)
    with proxy.holding("PUT", key, done=done) as gate:
        fleet.wait(gate.arrived.is_set, "an upload is under way")
        worker.kill()
    fleet.finish()
    assert_truth(fleet)


def test_a_worker_is_killed_between_its_sidecars_and_their_records(fleet):
    worker = begin(fleet, batch_s=0.5)
    fleet.wait_until(HELD, 3)
    fleet.broker.pause()
    before = len(fleet.sidecars())
    fleet.wait(lambda: len(fleet.sidecars()) > before, "a take is stored")
    worker.kill_group()
    fleet.broker.go_on()
    fleet.finish()
    books = assert_truth(fleet)
    assert sum(ms for _, ms in lost_ms(books)) > 0  # what the killed one could not report is lost, and shown as such


@only_long
def test_two_workers_render_one_take_and_both_times_are_on_the_books(s3_fleet_of, proxy):
    fleet = s3_fleet_of(tracks=4)
    with proxy.holding("PUT", "/audio/") as gate:
        begin(fleet, threads=4)
        fleet.wait(lambda: len(gate.waiting) == 4, "the first worker has rendered them all")
        fleet.send_again()
        fleet.start_worker(threads=4)
        fleet.wait(lambda: len(gate.waiting) == 8, "and the second one, too")
    fleet.finish()
    books = assert_truth(fleet)
    assert set(books.rendered.values()) == {2}
    for take in books.takes:
        tries = books.attempts_at(take["take_id"])
        assert {each["worker_id"] for each in tries} == books.workers.keys()
        assert sorted(each["adopted"] for each in tries) == [False, True]

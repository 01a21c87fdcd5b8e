"""A monkey in the server room: whatever it does and whenever, the catalog comes out whole and the books are right.

A failure names its seed and tells what was done when.
"""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from catalog.errors import LedgerError
from tests.chaos.faulty_s3 import HONEST
from tests.chaos.fleet import PENDING
from tests.chaos.form import IS_LONG, SEEDS, only_long
from tests.chaos.monkey import Monkey, MonkeyOnOneMachine
from tests.chaos.truth import assert_truth, assert_work_can_end, read_rows

TRACKS, BLOWS = (120, 16) if IS_LONG else (32, 5)


def let_loose(fleet, monkey):
    """Blow after blow until it has had enough, or nothing is left to disturb; then all goes home."""
    strike_on(fleet, monkey)
    fleet.finish()


def strike_on(fleet, monkey):
    fleet.tell(f"seed {monkey.seed}")
    for _ in range(BLOWS):
        until_s = time.monotonic() + monkey.pause_s()
        fleet.wait(lambda until_s=until_s: time.monotonic() > until_s, "the next blow is due")
        if fleet.count(PENDING) == 0:
            break
        monkey.strike()
        with suppress(LedgerError):  # its server is what was struck
            assert_work_can_end(read_rows(fleet.database_url))
    print(*fleet.story, sep="\n")  # noqa: T201 - the long form is watched


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_monkey_in_a_fleet_with_a_controller(fleet_of, seed):
    fleet = fleet_of(tracks=TRACKS)
    fleet.dispatch()
    fleet.start_controller()
    fleet.start_worker(batch_s=0.6)
    fleet.start_worker()
    let_loose(fleet, Monkey(fleet, seed))
    assert_truth(fleet)


@only_long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_monkey_with_a_forgetful_broker_and_an_attached_run(fleet_of, seed):
    fleet = fleet_of(tracks=TRACKS)
    fleet.start_run()
    fleet.start_worker(batch_s=0.6)
    fleet.start_worker()
    let_loose(fleet, Monkey(fleet, seed, forgets=True))
    assert_truth(fleet)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_monkey_with_postgres_and_a_store_that_is_poor(s3_fleet_of, proxy, postgres, postgres_url, seed):
    fleet = s3_fleet_of(tracks=TRACKS, database_url=postgres_url)
    proxy.at_random(HONEST, 0.05)
    fleet.dispatch()
    fleet.start_controller()
    fleet.start_worker(batch_s=0.6)
    fleet.start_worker()
    let_loose(fleet, Monkey(fleet, seed, postgres=postgres))
    assert_truth(fleet)


@only_long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_monkey_on_one_machine(fleet_of, seed):
    fleet = fleet_of(on_one_machine=True, tracks=TRACKS)
    run = fleet.start_run()
    strike_on(fleet, MonkeyOnOneMachine(fleet, seed))
    fleet.wait(lambda: not run.is_wanted, "the run is done")
    assert_truth(fleet)

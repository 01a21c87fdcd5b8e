"""The database falls over, and is away for a while: GPUs go on, and everything is written down afterwards."""

from __future__ import annotations

import os
import time

import pytest

from tests.chaos.fleet import ACCEPTED, begin
from tests.chaos.form import only_long
from tests.chaos.truth import assert_truth

DOWN_S = float(os.environ.get("TUNEMILL_CHAOS_DOWN_S", "6"))  # the long form: 600


def test_the_database_server_crashes_in_the_middle(fleet_of, postgres, postgres_url):
    fleet = fleet_of(database_url=postgres_url)
    begin(fleet, batch_s=0.3)
    crash_twice(fleet, postgres)


@only_long
def test_the_database_server_crashes_under_an_attached_run(fleet_of, postgres, postgres_url):
    fleet = fleet_of(database_url=postgres_url)
    fleet.start_worker(batch_s=0.3)
    fleet.start_run()
    crash_twice(fleet, postgres)


@only_long
@pytest.mark.timeout(DOWN_S + 300)
def test_while_the_database_is_down_workers_go_on(fleet_of, postgres, postgres_url):
    fleet = fleet_of(database_url=postgres_url, window=100)
    begin(fleet, batch_s=0.5)
    fleet.wait_until(ACCEPTED, 2)
    postgres.crash()
    before = len(fleet.sidecars())
    began_s = time.monotonic()
    fleet.wait(lambda: len(fleet.sidecars()) > before + 3, "takes are made without a database")
    fleet.wait(lambda: time.monotonic() - began_s > DOWN_S, "it is down for a while", timeout_s=DOWN_S + 60)
    postgres.start()
    fleet.finish()
    books = assert_truth(fleet)
    assert set(books.rendered.values()) == {1}
    assert_nobody_gave_up(fleet)


def crash_twice(fleet, postgres):
    for accepted in (2, 7):
        fleet.wait_until(ACCEPTED, accepted)
        postgres.restart()
    fleet.finish()
    books = assert_truth(fleet)
    assert set(books.rendered.values()) == {1}
    assert_nobody_gave_up(fleet)


def assert_nobody_gave_up(fleet):
    ended = [life for unit in fleet.units for life in unit.lives[:-1]]
    assert not ended, [(life.code, life.said[-2000:]) for life in ended]

"""The store refuses, dawdles, breaks off and lies: what the ledger calls accepted lies there whole."""

from __future__ import annotations

import pytest

from tests.chaos.faulty_s3 import HONEST, Fault, Rule
from tests.chaos.fleet import ACCEPTED, begin
from tests.chaos.form import SEEDS, one_of, only_long
from tests.chaos.truth import assert_truth
from tests.support import servers


def assert_nothing_outside_was_touched(fleet, proxy):
    prefix = fleet.store_url.removeprefix("s3://")
    assert prefix.startswith(servers.BUCKET)
    outside = [asked for asked in proxy.asked if not asked.key.startswith(f"{prefix}/")]
    assert not outside


@pytest.mark.parametrize("seed", SEEDS)
def test_every_fifth_request_meets_with_something(s3_fleet_of, proxy, seed):
    proxy._dice.seed(seed)
    fleet = s3_fleet_of()
    proxy.at_random(HONEST, 0.2)
    begin(fleet)
    fleet.start_worker()
    fleet.finish()
    assert_truth(fleet)
    assert_nothing_outside_was_touched(fleet, proxy)
    assert {asked.fault for asked in proxy.asked} & set(HONEST)


@only_long
def test_each_fault_falls_on_audio_and_on_sidecars_and_nothing_is_rendered_twice(s3_fleet_of, proxy):
    fleet = s3_fleet_of(tracks=12)
    for fault in HONEST:
        proxy.plan(Rule(fault, method="PUT", key="/audio/"), Rule(fault, method="PUT", key="/takes/"))
    begin(fleet)
    fleet.finish()
    books = assert_truth(fleet)
    assert {asked.fault for asked in proxy.asked} - {None} == set(HONEST)
    assert max(take["tries"] for take in books.takes) == 0
    assert set(books.rendered.values()) == {1}


@only_long
def test_a_sidecar_whose_writing_was_not_answered_is_its_workers_own(s3_fleet_of, proxy):
    fleet = s3_fleet_of(tracks=8)
    proxy.plan(Rule(Fault.CUT_ANSWER, method="PUT", key="/takes/", times=8))
    begin(fleet)
    fleet.finish()
    books = assert_truth(fleet)
    assert [each["adopted"] for each in books.attempts] == [False] * 8


@only_long
def test_the_store_is_away_for_a_while(s3_fleet_of, proxy):
    fleet = s3_fleet_of()
    begin(fleet)
    fleet.wait_until(ACCEPTED, 3)
    proxy.down()
    fleet.later(5, proxy.up)
    fleet.finish()
    assert_truth(fleet)
    assert_nothing_outside_was_touched(fleet, proxy)


@only_long
@pytest.mark.parametrize("fault", [Fault.BLIND, Fault.TAKEN])
def test_the_store_is_not_consistent_for_a_while(s3_fleet_of, proxy, fault):
    fleet = s3_fleet_of(tracks=8)
    proxy.plan(Rule(fault, key="/takes/", times=6, after=4))
    begin(fleet)
    fleet.finish()
    assert_truth(fleet)


@pytest.mark.parametrize("fault", one_of(Fault.DROP, Fault.TRUNCATE))
def test_the_store_says_that_it_has_written_and_has_not(s3_fleet_of, proxy, fault):
    fleet = s3_fleet_of(tracks=8)
    for key in ("/audio/", "/takes/"):
        proxy.plan(Rule(fault, method="PUT", key=key, times=2, after=1))
    begin(fleet)
    fleet.finish()
    assert_truth(fleet)

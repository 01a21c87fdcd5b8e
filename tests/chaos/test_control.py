"""Who feeds and records is killed, frozen and doubled: one at a time acts, and nothing is written twice."""

from __future__ import annotations

import random
import signal

import pytest
from sqlalchemy import create_engine, text

from tests.chaos.fleet import ACCEPTED, begin
from tests.chaos.form import SEEDS, one_of, only_long
from tests.chaos.truth import assert_truth

BUSY = 34


def test_the_controller_is_killed_again_and_again(fleet):
    begin(fleet)
    controller = fleet.units[0]
    for accepted in (1, 6, 11):
        fleet.wait_until(ACCEPTED, accepted)
        controller.kill()
    fleet.finish()
    assert_truth(fleet)
    assert len(controller.lives) >= 3


def test_an_attached_run_is_killed_and_the_same_command_goes_on(fleet):
    fleet.start_worker()
    run = fleet.start_run()
    fleet.wait_until(ACCEPTED, 3)
    run.kill()
    fleet.wait(lambda: run.is_up, "the run is back")
    fleet.finish()
    assert_truth(fleet)
    assert fleet.count("select count(*) from run") == 1
    assert "going on with run" in run.life.said


@only_long
@pytest.mark.parametrize("database", one_of("postgres", "sqlite"))
def test_of_two_controllers_that_start_at_once_one_is_refused(fleet_of, database, request):
    url = request.getfixturevalue("postgres_url") if database == "postgres" else None
    fleet = fleet_of(database_url=url)
    fleet.dispatch()
    both = [fleet.start_controller(), fleet.start_controller()]
    for controller in both:
        controller.done_with = lambda code: code == BUSY
    fleet.start_worker()
    fleet.wait(lambda: not all(each.is_up for each in both), "one has given up")
    (loser,) = [each for each in both if not each.is_up]
    assert loser.life.code == BUSY
    assert "the ledger has a writer already" in loser.life.said
    fleet.finish()
    books = assert_truth(fleet)
    assert set(books.rendered.values()) == {1}  # never did both send
    assert fleet.count("select epoch from writer") == 1


@only_long
def test_while_a_frozen_controller_has_the_lock_another_is_refused(fleet):
    begin(fleet, batch_s=0.3)
    frozen = fleet.units[0]
    fleet.wait_until(ACCEPTED, 3)
    frozen.signal(signal.SIGSTOP)
    second = fleet.tunemill("controller", "--until-done")
    assert second.returncode == BUSY, second.stderr
    assert f"pid {frozen.pid}" in second.stderr
    frozen.signal(signal.SIGCONT)
    fleet.finish()
    assert_truth(fleet)


def test_a_controller_that_was_frozen_while_another_took_its_place_writes_nothing(fleet_of, postgres, postgres_url):
    fleet = fleet_of(database_url=postgres_url)
    begin(fleet, batch_s=0.3)
    frozen = fleet.units[0]
    fleet.wait_until(ACCEPTED, 3)
    frozen.signal(signal.SIGSTOP)
    frozen.done_with = lambda code: code == BUSY
    end_sessions(postgres_url)  # as a server does with a client that no longer answers
    fleet.start_controller()
    fleet.wait_until("select epoch from writer", 2)
    fleet.wait_until(ACCEPTED, 6)
    frozen.signal(signal.SIGCONT)
    fleet.wait(lambda: not frozen.is_up, "the frozen one has noticed")
    assert frozen.life.code == BUSY, frozen.life.said
    fleet.finish()
    assert_truth(fleet)
    assert fleet.count("select epoch from writer") == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_records_come_twice_and_in_any_order(fleet_of, seed):
    fleet = fleet_of(window=100)
    fleet.dispatch()
    controller = fleet.start_controller()
    fleet.wait(lambda: fleet.renders_waiting() == fleet.tracks, "all is sent")
    controller.signal(signal.SIGSTOP)
    worker = fleet.start_worker()
    fleet.wait(lambda: len(fleet.sidecars()) == fleet.tracks, "all is rendered")
    assert worker.stop() == 0
    shuffle_records(fleet, random.Random(seed))
    controller.signal(signal.SIGCONT)
    fleet.finish()
    books = assert_truth(fleet)
    assert set(books.rendered.values()) == {1}
    assert len(books.attempts) == fleet.tracks


def shuffle_records(fleet, dice):
    """Everything that waits for the controller twice, in another order."""
    with fleet.broker.client() as client:
        records = client.lrange("tunemill:records.chaos", 0, -1)
        assert len(records) > fleet.tracks
        twice = [*records, *records]
        dice.shuffle(twice)
        with client.pipeline() as together:
            together.delete("tunemill:records.chaos")
            together.rpush("tunemill:records.chaos", *twice)
            together.execute()


def end_sessions(url):
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    others = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
    with engine.connect() as connection:
        connection.execute(text(f"{others} and datname = current_database()"))
    engine.dispose()


@only_long
def test_a_run_is_cancelled_while_everybody_dies_and_is_made_whole_by_the_next(fleet):
    worker = begin(fleet, batch_s=0.5)
    fleet.wait_until(ACCEPTED, 4)
    fleet.ask("cancel", "chaos")
    worker.kill_group()
    fleet.units[0].kill()
    fleet.wait_until("select count(*) from run where state = 'cancelled'")
    states = dict(fleet.query("select state, count(*) from take group by state"))
    assert states.keys() == {"accepted", "cancelled"}
    assert sum(states.values()) == fleet.tracks
    fleet.dispatch()
    fleet.finish()
    assert_truth(fleet)


@only_long
def test_a_paused_run_keeps_still_whoever_dies_and_goes_on_when_told(fleet):
    worker = begin(fleet, batch_s=0.5)
    fleet.wait_until(ACCEPTED, 4)
    fleet.ask("pause", "chaos")
    worker.kill_group()
    fleet.units[0].kill()
    fleet.wait_until_none("select count(*) from take where state = 'sent'")
    made = fleet.count(ACCEPTED)
    assert made < fleet.tracks
    assert fleet.count("select count(*) from take where state = 'waiting'") == fleet.tracks - made
    fleet.ask("resume", "chaos")
    fleet.finish()
    assert_truth(fleet)

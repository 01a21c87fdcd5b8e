"""The broker is killed, frozen, away for a while, and comes back with or without what it held."""

from __future__ import annotations

import signal
import time

import pytest

from tests.chaos.fleet import ACCEPTED, HELD, begin
from tests.chaos.form import one_of, only_long
from tests.chaos.truth import assert_truth
from tests.support.broker_faults import FAULTS
from tests.support.broker_scene import a_scene

OUTAGE_S = 65  # longer than the timeouts of the client, and than the silence after which a worker counts as gone
KINDS = ("valkey", "redis", "redis-tls")


def test_the_broker_is_killed_and_comes_back_with_its_messages(fleet):
    begin(fleet, batch_s=0.3)
    fleet.wait_until(ACCEPTED, 3)
    fleet.broker.kill()
    fleet.broker.start()
    fleet.finish()
    books = assert_truth(fleet)
    assert max(take["tries"] for take in books.takes) == 0


@pytest.mark.parametrize("keeps", one_of(False, True))  # without an append-only file, and with one that is lost
def test_the_broker_comes_back_without_its_messages_and_they_are_sent_again(fleet_of, keeps):
    fleet = fleet_of(keeps_messages=keeps)
    begin(fleet, batch_s=0.3)
    fleet.wait_until(ACCEPTED, 3)
    fleet.broker.kill()
    fleet.broker.forget()
    fleet.broker.start()
    fleet.finish()
    assert_truth(fleet)


@only_long
def test_a_worker_whose_first_words_were_lost_with_the_broker_is_on_the_books_all_the_same(fleet_of):
    fleet = fleet_of(keeps_messages=False)
    fleet.dispatch()
    controller = fleet.start_controller()
    fleet.wait(lambda: fleet.renders_waiting() == 4, "the first are sent")
    controller.signal(signal.SIGSTOP)
    worker = fleet.start_worker()
    fleet.wait(lambda: worker.life.worker_id, "it has announced itself")
    fleet.broker.kill()
    fleet.broker.start()
    controller.signal(signal.SIGCONT)
    fleet.finish()
    assert_truth(fleet)


@only_long
def test_the_broker_is_away_for_a_while(fleet):
    worker = begin(fleet, batch_s=0.3)
    fleet.wait_until(ACCEPTED, 3)
    fleet.wait_until(HELD)
    fleet.broker.kill()
    fleet.later(6, fleet.broker.start)
    began_s = time.monotonic()
    fleet.wait(lambda: time.monotonic() - began_s > 6 and fleet.broker.answers(), "it is back")
    fleet.finish()
    books = assert_truth(fleet)
    assert len(worker.lives) == len(fleet.units[0].lives) == 1  # everybody has waited
    assert max(take["tries"] for take in books.takes) == 0


@only_long
def test_the_broker_hangs_for_a_while(fleet):
    begin(fleet, batch_s=0.3)
    fleet.wait_until(ACCEPTED, 3)
    fleet.broker.pause()
    fleet.later(5, fleet.broker.go_on)
    fleet.finish()
    assert_truth(fleet)


@only_long
@pytest.mark.parametrize(("kind", "fault"), [(KINDS[n % len(KINDS)], fault) for n, fault in enumerate(FAULTS)])
def test_everybody_waits_for_a_minute_and_more_while_the_broker_is_in_trouble(kind, fault, tmp_path):
    with a_scene(kind, tmp_path, batch_s=20) as scene:
        with FAULTS[fault](scene.server):
            scene.endure(OUTAGE_S)
        scene.finish()

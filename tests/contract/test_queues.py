"""Ingress and the queues, against a real Valkey and a real Celery worker's reading of it."""

from __future__ import annotations

import json

import pytest

from catalog import queues as shared
from catalog.errors import BrokerError
from catalog.logins import RECORD_QUEUE
from catalog.messages import RECORD_BYTES_MAX, Heartbeat, RenderMessage, parse_render
from catalog.queues import RENDER_TASK, queue_of
from orchestrator.control.broker import Queues
from orchestrator.ledger.work import Outgoing
from tests.support.farm import takes


@pytest.fixture
def queues(broker_url):
    opened = Queues(broker_url)
    yield opened
    opened.close()


def outgoing(count: int) -> list[Outgoing]:
    return [Outgoing(queue_of(take.spec), RenderMessage(run_id="r", take=take)) for take in takes(count)]


def publish_records(broker_url: str, bodies: list[object]) -> None:
    from kombu import Connection, Queue

    options = dict(shared.TRANSPORT_OPTIONS)
    with Connection(broker_url, transport_options=options) as connection, connection.Producer() as producer:
        for body in bodies:
            producer.publish(body, exchange="", routing_key=RECORD_QUEUE, declare=[Queue(RECORD_QUEUE)])


def test_a_celery_worker_receives_the_takes_in_their_order(queues, broker_url):
    from celery import Celery

    queues.send(outgoing(3))
    app = Celery(broker=broker_url, set_as_current=False)
    app.conf.broker_transport_options = dict(shared.TRANSPORT_OPTIONS)
    with app.connection_for_read() as connection:
        inbox = connection.SimpleQueue(queue_of(takes(1)[0].spec))
        received = [inbox.get(timeout=2) for _ in range(3)]
        inbox.close()
    assert {message.headers["task"] for message in received} == {RENDER_TASK}
    sent = [parse_render(message.payload[1]["message"]).take for message in received]
    assert sent == takes(3)


def test_a_message_carries_its_take_once(queues, broker_url):
    import redis

    take = takes(1, caption="unmistakable words")[0]
    queues.send([Outgoing("render.x", RenderMessage(run_id="r", take=take))])
    client = redis.Redis(unix_socket_path=broker_url.removeprefix("redis+socket://").partition("?")[0])
    raw = client.lindex("tunemill:render.x", 0)
    assert b"unmistakable" not in json.dumps({**json.loads(raw), "body": ""}).encode()


def test_lengths_count_what_waits(queues):
    assert queues.lengths(["render.tone.4g"]) == {"render.tone.4g": 0}
    queues.send(outgoing(3))
    assert queues.lengths([queue_of(takes(1)[0].spec)]) == {queue_of(takes(1)[0].spec): 3}


def test_records_stay_until_they_are_dropped_and_leave_in_their_order(queues, broker_url):
    beats = [Heartbeat(worker_id=f"w{n}", held=[]).model_dump(mode="json") for n in range(5)]
    publish_records(broker_url, beats)
    assert [each.payload for each in queues.peek_records(3).raw_records] == beats[:3]
    assert [each.payload for each in queues.peek_records(3).raw_records] == beats[:3]
    read = queues.peek_records(3).raw_records
    publish_records(broker_url, [{"late": True}])
    queues.drop_records(read)
    assert [each.payload for each in queues.peek_records(9).raw_records] == [*beats[3:], {"late": True}]


def test_records_that_somebody_else_has_dropped_take_no_others_along(queues, broker_url):
    publish_records(broker_url, [{"n": n} for n in range(5)])
    read = queues.peek_records(3).raw_records
    Queues(broker_url).drop_records(read)
    queues.drop_records(read)  # it was cut off between writing them down and this
    assert [each.payload for each in queues.peek_records(9).raw_records] == [{"n": 3}, {"n": 4}]


def test_a_runs_messages_are_withdrawn_and_those_of_others_stay(queues):
    ours, others = takes(4)[:2], takes(4)[2:]
    queue = queue_of(ours[0].spec)
    queues.send([Outgoing(queue, RenderMessage(run_id="run-1", take=take)) for take in ours])
    queues.send([Outgoing(queue, RenderMessage(run_id="run-2", take=take)) for take in others])
    assert sorted(queues.withdraw([queue], "run-2")) == sorted(take.id for take in others)
    assert queues.lengths([queue]) == {queue: 2}
    assert queues.withdraw([queue], "run-2") == []


def test_what_is_no_record_comes_as_such(queues, broker_url):
    publish_records(broker_url, ["a string", ["a list"]])
    envelopes = queues.peek_records(9).raw_records
    assert [each.payload for each in envelopes] == [None, None]


def test_what_an_earlier_version_has_set_aside_is_handed_over_oldest_first_and_removed(queues):
    with queues._client() as (_, client):
        for raw in (b"first", b"second"):
            client.lpush("records.unreadable", raw)  # as that version did
    assert [each.raw for each in queues.peek_unreadable()] == [b"first", b"second"]
    queues.drop_unreadable()
    assert queues.peek_unreadable() == []


def test_a_record_larger_than_any_is_not_even_decoded(queues, broker_url):
    publish_records(broker_url, [{"v": 1, "padding": "x" * RECORD_BYTES_MAX}, {"v": 1}])
    large, small = queues.peek_records(9).raw_records
    assert (large.payload, small.payload) == (None, {"v": 1})


def test_forgetting_the_renders_leaves_the_records(queues, broker_url):
    queues.send(outgoing(3))
    publish_records(broker_url, [{"a": 1}])
    queues.forget_renders()
    assert queues.lengths([queue_of(takes(1)[0].spec)]) == {queue_of(takes(1)[0].spec): 0}
    assert len(queues.peek_records(9).raw_records) == 1


@pytest.mark.parametrize("url", ["redis://:geheim@127.0.0.1:1/0", "carrier-pigeon://x:geheim@y", "redis://h:port/0"])
def test_a_broker_that_does_not_answer_is_refused_in_words_without_its_password(url):
    with pytest.raises(BrokerError) as caught:
        Queues(url).check()
    assert "geheim" not in str(caught.value)
    assert "TUNEMILL_BROKER_URL" in caught.value.fix


def test_both_sides_speak_to_the_broker_in_the_same_way():
    from workers.records import TRANSPORT_OPTIONS

    assert dict(shared.TRANSPORT_OPTIONS) == TRANSPORT_OPTIONS

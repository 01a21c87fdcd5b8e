"""Records survive a broker that goes away, and heartbeats say what is held."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from catalog.errors import BrokerError
from catalog.messages import AttemptMade, Heartbeat, Span, SpansClosed, WorkerStopped, now_ms, parse_record
from orchestrator.control.broker import Queues
from tests.support import servers
from tests.support.fakes import FakeRecorder
from workers.heartbeats import Heartbeats, TakesInHand
from workers.records import QueueRecorder, WorkerIdentity, check_broker
from workers.spans import SpanLog


def stopped(reason: str) -> WorkerStopped:
    return WorkerStopped(worker_id="worker-1", reason=reason)


def read(broker_url: str) -> list[str]:
    queues = Queues(broker_url)
    records = [parse_record(envelope.payload or {}) for envelope in queues.peek_records(100).raw_records]
    queues.close()
    return [record.reason for record in records if isinstance(record, WorkerStopped)]


def test_records_reach_the_control_side_whole_and_in_order(broker_url):
    recorder = QueueRecorder(broker_url, WorkerIdentity("worker-1"))
    for reason in ("first", "second"):
        recorder.record(stopped(reason))
    recorder.close()
    assert read(broker_url) == ["first", "second"]


def test_threads_share_a_recorder(broker_url):
    recorder = QueueRecorder(broker_url, WorkerIdentity("worker-1"))
    threads = [threading.Thread(target=recorder.record, args=(stopped(str(n)),)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    recorder.close()
    assert sorted(read(broker_url), key=int) == [str(n) for n in range(20)]


def test_a_record_waits_for_a_broker_that_is_away_and_a_heartbeat_does_not(short_tmp):
    with servers.valkey(short_tmp) as url:
        recorder = QueueRecorder(url, WorkerIdentity("worker-1"))
        recorder.record(stopped("before"))
    assert not recorder.try_record(stopped("lost"))
    waiting = threading.Thread(target=recorder.record, args=(stopped("kept"),), daemon=True)
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive()
    (short_tmp / "s").unlink(missing_ok=True)
    with servers.valkey(short_tmp) as url:
        waiting.join(15)
        assert not waiting.is_alive()
        assert read(url) == ["kept"]  # this server keeps nothing over a restart
        recorder.close()


@pytest.mark.parametrize(
    "url", ["redis://u:secret@127.0.0.1:1/0", "redis+socket:///nowhere/s?virtual_host=0", "nonsense", "ftp://x/"]
)
def test_a_broker_that_does_not_answer_is_named_in_words_and_without_its_password(url):
    began_s = time.monotonic()
    with pytest.raises(BrokerError) as raised:
        check_broker(url)
    assert "secret" not in str(raised.value)
    assert time.monotonic() - began_s < 8


def test_a_broker_that_answers_passes(broker_url):
    check_broker(broker_url)


def test_a_take_is_named_at_once_in_the_next_heartbeat_and_dropped_when_it_is_done():
    recorder, in_hand = FakeRecorder(), TakesInHand()
    sender = Heartbeats(recorder, in_hand, SpanLog(now_ms()), worker_id="worker-1", every_s=60)
    sender.start()
    for take_id in ("b", "a"):
        assert in_hand.add(take_id)
    assert not in_hand.add("a")
    _wait(lambda: last_held(recorder) == ["a", "b"])
    in_hand.remove("a")
    sender.wake()
    _wait(lambda: last_held(recorder) == ["b"])
    sender.end()
    assert len(heartbeats(recorder)) <= 6


def test_closed_spans_are_published_once_and_in_order():
    recorder, spans = FakeRecorder(), SpanLog(0, clock=iter([10, 10, 30, 25, 40]).__next__)
    sender = Heartbeats(recorder, TakesInHand(), spans, worker_id="worker-1", every_s=60)
    spans.close("startup")
    spans.close("idle", cause="no work")  # no time has passed: no span
    spans.close("render", batch_id="b")
    spans.close("idle")  # a clock that went back makes no span either
    sender.beat()
    spans.close("teardown")
    sender.beat()
    published = [record.spans for record in recorder.records if isinstance(record, SpansClosed)]
    assert published == [
        [
            Span(state="startup", start_ms=0, end_ms=10),
            Span(state="render", start_ms=10, end_ms=30, batch_id="b"),
        ],
        [Span(state="teardown", start_ms=30, end_ms=40)],
    ]
    assert not [record for record in recorder.records if isinstance(record, AttemptMade)]


def heartbeats(recorder: FakeRecorder) -> list[Heartbeat]:
    return [record for record in recorder.records if isinstance(record, Heartbeat)]


def last_held(recorder: FakeRecorder) -> list[str]:
    beats = heartbeats(recorder)
    return beats[-1].held if beats else []


def _wait(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen")

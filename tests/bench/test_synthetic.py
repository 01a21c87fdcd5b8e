"""Synthetic workers write what real ones do, so that the controller has the same work with it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from catalog.messages import AttemptMade, Heartbeat, SpansClosed, WorkerStarted, now_ms, parse_record
from catalog.orders import write_new_signer
from orchestrator.control.admission import OrderProof
from orchestrator.control.broker import RawRecord
from orchestrator.control.controller import Controller
from orchestrator.ledger import open_ledger
from tests.bench.synthetic import LOGIN, AnswerForm, Crowd, Order, SyntheticWorker, prefilled, some_takes
from tests.support.farm import DOLLAR_AN_HOUR, FakeBroker
from tests.support.makers import a_sidecar, exactly


@pytest.fixture
def signer(tmp_path: Path):
    return write_new_signer(tmp_path / "signing.key")


def read(raw):
    return parse_record(json.loads(raw))


def a_worker(orders=(), *, codes=0):
    worker = SyntheticWorker(7, AnswerForm(codes), now_ms() - 1_000)
    worker.take_in(orders)
    return worker


def test_an_answer_is_the_attempt_with_the_whole_sidecar_of_the_take_that_was_ordered(signer):
    (take,) = some_takes("spring", 3, 1)
    worker = a_worker(prefilled(signer, "run-9", [take], 5_000))
    receipt, at_ms = worker.in_hand[take.id].receipt, now_ms()
    (raw,) = worker.answers(5, at_ms)
    made = read(raw)
    assert isinstance(made, AttemptMade)
    assert (made.run_id, made.worker_id, made.receipt, made.at_ms) == ("run-9", worker.worker_id, receipt, at_ms)
    assert made.sidecar.take == take
    whole = a_sidecar(take, run_id="run-9", worker_id=worker.worker_id).model_dump()
    filled = made.sidecar.model_dump()
    assert {name for name in whole if whole[name] != filled[name]} <= {
        *("record_id", "receipt", "batch", "created_at_ms", "effective", "audio")  # the form's own seeds and key
    }
    assert worker.in_hand == {}


def test_an_answer_holds_as_many_codes_as_were_asked_for(signer):
    worker = a_worker(prefilled(signer, "run-9", some_takes("spring", 0, 1), 5_000), codes=600)
    (raw,) = worker.answers(1, now_ms())
    assert len(read(raw).sidecar.plan.codes) == 600


def test_a_heartbeat_names_what_is_in_hand_with_its_receipts_and_follows_the_last_record(signer):
    takes = list(some_takes("spring", 0, 3))
    worker = a_worker(prefilled(signer, "run-9", takes, 5_000))
    records = [read(worker.card(now_ms(), holds_max=3)), *map(read, worker.answers(1, now_ms()))]
    records.append(read(worker.spans(now_ms())))
    assert [type(each) for each in records] == [WorkerStarted, AttemptMade, SpansClosed]
    assert [each.sequence for each in records] == [1, 2, 3]
    beat = read(worker.beat(now_ms()))
    assert isinstance(beat, Heartbeat)
    assert (beat.after, beat.number) == (3, 1)
    assert beat.held == sorted(take.id for take in takes[1:])
    assert beat.receipts == [signer.receipt_of(take_id, 5_000) for take_id in beat.held]


def test_the_controller_believes_cards_answers_and_heartbeats_where_orders_are_signed(signer):
    ledger, broker, at_ms = open_ledger("sqlite://"), FakeBroker(), now_ms()
    ledger.begin_or_resume_run("spring", "tone", exactly(some_takes("spring", 0, 3)))
    price = {"price_of": lambda machine, at_ms: DOLLAR_AN_HOUR, "window": 9, "silent_after_s": 60.0}
    controller = Controller(ledger, broker, clock=lambda: at_ms, proof=OrderProof(signer, 0), **price)
    assert controller.step().sent == 3
    worker = a_worker()
    for sent in broker.receive_all():
        receipt = signer.receipt_of(sent.take.id, at_ms)
        worker.take_in([Order(sent.take.id, sent.run_id, sent.take.model_dump_json(), receipt)])
    records = [worker.card(at_ms, holds_max=3), *worker.answers(2, at_ms), worker.spans(at_ms), worker.beat(at_ms)]
    broker.records += [RawRecord(raw, LOGIN) for raw in records]
    step = controller.step()
    assert step.outcomes == {"accepted": 2}
    with ledger.read() as connection:
        held = connection.exec_driver_sql("select count(*) from take where held_by = ?", (worker.worker_id,)).scalar()
        assert held == 1
        assert not connection.exec_driver_sql("select count(*) from set_aside").scalar()


def test_a_crowd_beats_every_ten_seconds_and_makes_as_many_takes_as_it_should(signer):
    workers = [SyntheticWorker(n, AnswerForm(), now_ms()) for n in range(5)]
    orders = list(prefilled(signer, "run-9", some_takes("spring", 0, 100), 5_000))
    for place, worker in enumerate(workers):
        worker.take_in(orders[place * 10 : place * 10 + 10])
    seen = SimpleNamespace(records=[], beats=[], left=orders[50:])

    def receive(queue, count):
        taken, seen.left = seen.left[:count], seen.left[count:]
        return taken

    door = SimpleNamespace(record=seen.records.extend, beat=seen.beats.extend, receive=receive)
    crowd = Crowd(door, workers, queue="q", holds=10, takes_per_s=0.2)
    for _ in range(199):
        crowd.go_on(0.1)
    made = [raw for raw in seen.records if isinstance(read(raw), AttemptMade)]
    assert len(made) in (19, 20)  # 5 workers, 19.9 s
    assert len(seen.beats) == 2 * 5
    assert all(len(worker.in_hand) == 10 for worker in workers)

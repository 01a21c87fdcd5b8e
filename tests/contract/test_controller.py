"""The controller loses nothing, sends nothing twice without need, and keeps within window and budget."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from catalog.errors import BrokerError, BudgetError, BusyError, PriceError
from catalog.messages import Span, SpansClosed, TakesReturned, WorkerStopped
from catalog.queues import queue_of
from catalog.sidecar import BatchNote, StageTimes
from catalog.spec import PlannerSpec
from orchestrator.control.controller import Controller
from orchestrator.control.feed import WINDOW_MAX, window_of
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.books.books import update_books
from orchestrator.finance.books.budgets import Spending
from orchestrator.ledger import Ledger, open_ledger, readings, work
from orchestrator.ledger.run_control import CANCEL, GO_ON, PAUSE, write_control
from tests.support.farm import DOLLAR_AN_HOUR, FakeBroker, as_of, attempt, heartbeat, started, takes
from tests.support.makers import exactly

START_MS = 10_000_000_000_000  # far ahead of the real clock, which only stamps the run's beginning


class Farm:
    """A ledger, a broker in memory, a controller and a clock that only moves when told to."""

    def __init__(self, plan, *, window=256, silent_after_s=60.0, max_usd_micros=None, take_usd_micros=None, price=True):
        self.now_ms = START_MS
        self.plan = plan
        self.ledger: Ledger = open_ledger("sqlite://")
        self.broker = FakeBroker()
        self.run_id = self.ledger.begin_or_resume_run(
            "spring", "tone", exactly(plan), max_usd_micros, take_usd_micros
        ).run_id
        self.controller = Controller(
            self.ledger,
            self.broker,
            price_of=lambda machine, at_ms: DOLLAR_AN_HOUR if price else None,
            window=window,
            silent_after_s=silent_after_s,
            clock=lambda: self.now_ms,
        )
        # However busy this machine is, no sum takes long.
        self.controller._spending = Spending("UTC", self.controller._price_of, clock=lambda: 0.0)

    def step(self, *records, after_s=0.0):
        self.now_ms += round(after_s * 1000)
        self.broker.deliver(*(as_of(record, START_MS, self.run_id) for record in records))
        return self.controller.step()

    def received(self):
        """Takes a worker takes from the queues."""
        return [message.take for message in self.broker.receive_all()]

    def wish(self, wish):
        with self.ledger.write() as connection:
            write_control(connection, readings.get_run(connection, self.run_id), wish)

    def worker(self):
        with self.ledger.read() as connection:
            (worker,) = readings.latest_workers(connection, 9)
        return worker

    def sent_by_queue(self):
        with self.ledger.read() as connection:
            return work.count_sent_by_queue(connection, self.run_id)

    @property
    def counts(self):
        with self.ledger.read() as connection:
            return readings.count_takes(connection, self.run_id)

    def column(self, take, name):
        with self.ledger.read() as connection:
            row = connection.execute(text("select * from take where take_id = :id"), {"id": take.id})
            return row.mappings().one()[name]


def test_every_take_is_sent_once_and_a_second_step_sends_nothing():
    farm = Farm(takes(5))
    assert farm.step().sent == 5
    assert farm.step().sent == 0
    assert {take.id for take in farm.received()} == {take.id for take in farm.plan}


def test_the_window_bounds_what_is_on_its_way():
    farm = Farm(takes(10), window=4)
    assert farm.step().sent == 4
    assert farm.step(attempt(farm.received()[0])).sent == 1
    assert farm.counts.sent == 4


def test_the_window_grows_with_what_the_live_workers_of_the_runs_model_can_hold():
    farm = Farm(takes(60), window=4)
    farm.step(started(holds_max=10), started("w2", holds_max=5, model="another"))
    assert farm.counts.sent == 20
    farm.step(started("w3", holds_max=7))
    assert farm.counts.sent == 34
    farm.step(WorkerStopped(worker_id="w3", reason="done"), *map(attempt, farm.received()[:20]))
    assert farm.counts.sent == 20
    sent = [take for take in farm.plan if farm.column(take, "state") == "sent"]
    farm.step(*(attempt(take, worker_id="w2") for take in sent[:18]), after_s=61)  # nothing was heard of w1 since
    assert farm.counts.sent == 4


@given(least=st.integers(1, 10_000), holds_max=st.lists(st.integers(0, 4_000)))
def test_a_window_holds_twice_what_the_workers_do_and_stays_within_its_bounds(least, holds_max):
    window = window_of(least, holds_max)
    assert least <= window <= WINDOW_MAX
    assert window >= min(WINDOW_MAX, 2 * sum(holds_max))
    assert window in (least, WINDOW_MAX, 2 * sum(holds_max))


def test_a_run_ends_when_every_take_has_ended():
    farm = Farm(takes(2))
    farm.step()
    first, second = farm.received()
    assert farm.step(attempt(first)).finished == ()
    assert farm.step(attempt(second, "rejected", reasons=["silence"])).finished == (farm.run_id,)
    assert farm.ledger.unfinished_run("spring") is None


def test_a_record_delivered_twice_counts_once():
    farm = Farm(takes(1))
    farm.step()
    made = attempt(farm.plan[0], "failed", retry=True)
    farm.step(made, made)
    farm.step(made)
    assert farm.column(farm.plan[0], "tries") == 1


def test_a_failure_worth_another_try_is_sent_again_alone_and_given_up_after_three():
    farm = Farm(takes(1))
    for expected_alone in (False, True, True):
        farm.step()
        (message,) = farm.broker.receive_all()
        assert message.alone is expected_alone
        farm.step(attempt(message.take, "failed", retry=True, reasons=["the engine died"]))
        farm.broker.deliver()
    assert farm.step().sent == 0
    assert farm.counts.failed == 1
    with farm.ledger.read() as connection:
        assert readings.reasons_of_run(connection, farm.run_id, "failed") == {"the engine died": 1}
        (named,) = readings.takes_by_reason(connection, farm.run_id, "failed")["the engine died"]
    assert (named.take_id, named.track_key, named.number) == (message.take.id, message.take.track.key, 1)


def test_a_failure_that_another_try_cannot_mend_is_final():
    farm = Farm(takes(1))
    farm.step()
    farm.step(attempt(farm.plan[0], "failed", reasons=["caption too long"]))
    assert farm.counts.failed == 1


def test_takes_of_a_silent_worker_are_sent_again_once_and_never_counted_as_failures():
    farm = Farm(takes(2))
    farm.step()
    held = [take.id for take in farm.received()]
    farm.step(started(), heartbeat(held))
    assert farm.step(after_s=59).sent_again == 0
    step = farm.step(after_s=2)
    assert (step.sent_again, step.sent) == (2, 2)
    assert farm.step(after_s=1).sent_again == 0
    assert [farm.column(take, "losses") for take in farm.plan] == [1, 1]
    assert [farm.column(take, "tries") for take in farm.plan] == [0, 0]


def test_the_last_work_of_a_lost_worker_is_paid_for_by_the_takes_it_held():
    kept, held = takes(2)
    held = held.model_copy(update={"track": held.track.model_copy(update={"zone": "bar"})})
    farm = Farm([kept, held])
    farm.step()
    render = Span(state="render", start_ms=0, end_ms=600_000, batch_id="b")
    company = BatchNote(id="b", size=1, position=0, takes=[kept.id])
    farm.step(
        started(started_at_ms=0),
        SpansClosed(worker_id="w1", at_ms=600_000, spans=[render]),
        attempt(kept, "rejected", run_id=farm.run_id, at_ms=600_000, batch=company),
        heartbeat([held.id], at_ms=900_000),
    )
    assert farm.step(after_s=61).sent_again == 1
    update_books(farm.ledger, time_zone="UTC", price_of=lambda machine, at_ms: None, at_ms=farm.now_ms)
    with farm.ledger.read() as connection:
        ms = {(row.zone, str(row.category)): row.ms for row in cost_readings.read_rows(connection) if row.ms}
    assert ms == {("spa", "rejected"): 600_000, ("bar", "lost"): 300_000}


def test_a_take_that_loses_one_worker_after_the_other_ends_as_failed_with_the_reason():
    farm = Farm(takes(2))
    poison, innocent = farm.plan
    for round_ in range(work.LOSSES_MAX):
        farm.step()
        farm.received()
        farm.step(heartbeat([poison.id], f"w{round_}"), attempt(innocent))
        assert farm.counts.failed == 0
        assert farm.step(after_s=61).sent_again == 1
    assert farm.counts.failed == 1
    assert farm.step().sent == 0
    with farm.ledger.read() as connection:
        reasons = readings.reasons_of_run(connection, farm.run_id, "failed")
    assert reasons == {"20 workers fell silent or died while they held this take": 1}
    assert farm.ledger.unfinished_run("spring") is None
    farm.ledger.begin_or_resume_run("spring", "tone", exactly(farm.plan))
    assert farm.column(poison, "losses") == 0  # the next run gives it another chance


def test_a_worker_that_speaks_keeps_its_takes_whatever_its_clock_says():
    farm = Farm(takes(1))
    farm.step()
    held = [take.id for take in farm.received()]
    for _ in range(10):
        assert farm.step(heartbeat(held, at_ms=5), after_s=30).sent_again == 0


def test_a_worker_that_comes_back_gets_its_takes_back():
    farm = Farm(takes(2), window=1)
    farm.step()
    (take,) = farm.received()
    farm.step(started(), heartbeat([take.id]))
    farm.controller.feeding = False
    farm.step(after_s=61)
    assert farm.counts.waiting == 2
    farm.step(heartbeat([take.id]))
    assert farm.column(take, "state") == "sent"
    farm.step(attempt(take))
    assert farm.column(take, "state") == "accepted"


def test_a_take_that_nobody_has_is_sent_again():
    farm = Farm(takes(1))
    farm.step()
    farm.received()  # a worker took it and died before it could say so
    farm.step(after_s=30)
    assert farm.step(after_s=29).sent_again == 0
    assert farm.step(after_s=2).sent == 1


def test_a_take_that_still_queues_is_not_sent_again():
    farm = Farm(takes(1))
    farm.step()
    for _ in range(10):
        assert farm.step(after_s=60).sent_again == 0


def test_a_take_that_nobody_has_is_sent_again_although_another_queue_is_never_served():
    farm = Farm(takes(1))
    unserved = farm.ledger.begin_or_resume_run("autumn", "turbo", exactly(takes(1, catalog="autumn", model="another")))
    assert farm.step().sent == 2
    farm.broker.waiting.pop(farm.column(farm.plan[0], "queue"))  # a worker took it and died
    farm.step(after_s=59)
    step = farm.step(after_s=6)
    assert (step.sent_again, step.sent) == (1, 1)
    with farm.ledger.read() as connection:
        assert readings.count_takes(connection, unserved.run_id).sent == 1


def test_takes_that_a_stopping_worker_returns_are_sent_at_once():
    farm = Farm(takes(3))
    farm.step()
    first, second, third = farm.received()
    farm.step(started(), heartbeat([first.id, second.id, third.id]))
    step = farm.step(TakesReturned(worker_id="w1", take_ids=[first.id]))
    assert step.sent == 1
    step = farm.step(WorkerStopped(worker_id="w1", reason="asked to"))
    assert step.sent == 2
    assert farm.column(first, "losses") == 0


def test_takes_returned_by_one_worker_are_left_with_the_worker_that_holds_them_now():
    farm = Farm(takes(1))
    farm.step()
    (take,) = farm.received()
    farm.step(heartbeat([take.id], worker_id="w2"))
    assert farm.step(TakesReturned(worker_id="w1", take_ids=[take.id])).sent == 0


def test_a_late_acceptance_of_a_cancelled_take_is_kept():
    farm = Farm(takes(1))
    farm.step()
    farm.ledger.begin_or_resume_run("spring", "tone", exactly(takes(1, caption="another")))
    farm.step(attempt(farm.plan[0]))
    assert farm.column(farm.plan[0], "state") == "accepted"
    assert farm.counts.total == 2


def test_nothing_is_lost_when_the_broker_fails_while_sending():
    farm = Farm(takes(3))
    farm.broker.refuse = True
    with pytest.raises(BrokerError):
        farm.step()
    farm.broker.refuse = False
    assert farm.step().sent == 3


def test_an_outage_of_the_broker_is_not_a_workers_silence():
    farm = Farm(takes(1))
    farm.step()
    held = [take.id for take in farm.received()]
    farm.step(started(), heartbeat(held))
    farm.broker.down = True
    with pytest.raises(BrokerError):
        farm.step(after_s=600)
    farm.broker.down = False
    assert farm.step(after_s=1).sent_again == 0


def test_a_cap_stops_the_feed_before_it_is_passed_and_says_so():
    farm = Farm(takes(10), max_usd_micros=1_000_000, take_usd_micros=400_000)
    step = farm.step()
    assert step.sent == 2  # a third would pass the cap
    assert step.refused == {}  # two are on their way
    made = [attempt(take, run_id=farm.run_id) for take in farm.received()]
    step = farm.step(started(at_ms=START_MS, started_at_ms=START_MS), *made)
    assert step.sent == 8  # what was measured is far below the estimate

    farm = Farm(takes(10), max_usd_micros=1_000_000, take_usd_micros=2_000_000)
    refused = farm.step().refused[farm.run_id]
    assert isinstance(refused, BudgetError)
    assert farm.counts.sent == 0


def test_a_cap_counts_the_time_that_workers_wait_as_well_as_the_engine() -> None:
    farm = Farm(takes(10), max_usd_micros=1_000_000, take_usd_micros=500_000)
    farm.step()
    made = [attempt(take, run_id=farm.run_id) for take in farm.received()]  # 100 ms of engine time each
    worked = Span(state="render", start_ms=START_MS, end_ms=START_MS + 200)
    waited = Span(state="idle", start_ms=START_MS + 200, end_ms=START_MS + 1_440_000)  # 0.4 dollars
    spans = SpansClosed(worker_id="w1", spans=[worked, waited], at_ms=START_MS + 1_440_000)
    step = farm.step(started(at_ms=START_MS, started_at_ms=START_MS), *made, spans)
    assert step.sent == 3  # at 0.2 dollars each, not all eight


def test_a_cap_does_not_charge_the_first_takes_with_the_planning_of_all_that_were_planned_with_them() -> None:
    farm = Farm(takes(100), max_usd_micros=1_000_000, take_usd_micros=120_000)
    assert farm.step().sent == 8
    times = StageTimes(plan_ms=36_000, diffuse_ms=36_000)  # two cents
    made = [attempt(take, run_id=farm.run_id, times=times) for take in farm.received()[:4]]
    planned = Span(state="plan", start_ms=START_MS, end_ms=START_MS + 8 * 36_000, batch_id="p")
    rendered = Span(state="render", start_ms=planned.end_ms, end_ms=planned.end_ms + 4 * 36_000, batch_id="b")
    waited = Span(state="idle", start_ms=rendered.end_ms, end_ms=rendered.end_ms + 4 * 36_000)  # a cent each as well
    spans = SpansClosed(worker_id="w1", spans=[planned, rendered, waited], at_ms=waited.end_ms)
    step = farm.step(started(at_ms=START_MS, started_at_ms=START_MS), spans, *made)
    assert step.sent == (1_000_000 - 160_000 - 4 * 30_000) // 30_000  # without what is spent and what is on its way


def test_a_cap_without_a_price_is_an_error_and_not_free():
    farm = Farm(takes(2), max_usd_micros=1_000_000, take_usd_micros=1, price=False)
    farm.controller.feeding = False
    farm.step(started(at_ms=START_MS))
    farm.controller.feeding = True
    assert isinstance(farm.step().refused[farm.run_id], PriceError)


def test_records_are_removed_only_after_they_are_written():
    farm = Farm(takes(1))
    farm.step()
    farm.broker.deliver(as_of(attempt(farm.plan[0]), START_MS, farm.run_id))
    farm.broker.drop_records = lambda oldest: (_ for _ in ()).throw(BrokerError("gone"))
    with pytest.raises(BrokerError):
        farm.controller.step()
    assert farm.counts.accepted == 1
    del farm.broker.drop_records
    farm.step()
    assert farm.counts.accepted == 1
    assert farm.broker.records == []


PLAN = takes(4)
EVENTS = st.tuples(
    st.sampled_from(["accepted", "rejected", "failed", "retry", "held", "returned", "stopped"]),
    st.sampled_from(PLAN),
    st.sampled_from(["w1", "w2"]),
    st.integers(1, 2),
)


@settings(max_examples=40)
@given(events=st.lists(EVENTS, max_size=40), silence_s=st.sampled_from([0.0, 61.0]))
def test_whatever_order_facts_come_in_the_counts_add_up_and_the_run_can_end(events, silence_s):
    farm = Farm(PLAN)
    farm.step()
    accepted = set()
    for kind, take, worker_id, times in events:
        farm.step(*[_record(kind, take, worker_id)] * times, after_s=silence_s)
        accepted |= {take.id} if kind == "accepted" else set()
        assert farm.counts.total == len(PLAN)
    for take in PLAN:
        if farm.column(take, "state") in ("waiting", "sent"):
            farm.step(attempt(take))
            accepted.add(take.id)
    farm.step()
    assert farm.counts.pending == 0
    assert farm.counts.accepted == len(accepted)
    assert farm.ledger.unfinished_run("spring") is None
    farm.ledger.close()


def _record(kind, take, worker_id):
    if kind == "held":
        return heartbeat([take.id], worker_id)
    if kind == "returned":
        return TakesReturned(worker_id=worker_id, take_ids=[take.id])
    if kind == "stopped":
        return WorkerStopped(worker_id=worker_id, reason="test")
    outcome = "failed" if kind == "retry" else kind
    return attempt(take, outcome, worker_id, retry=kind == "retry")


PLANNED = {"model": "acestep-v15-turbo", "planner": PlannerSpec()}  # needs the planner, and with it 15 GiB


def test_takes_that_no_worker_can_serve_do_not_hold_up_those_that_some_can():
    small, large = takes(10, duration_s=30), takes(10, duration_s=31, **PLANNED)
    farm = Farm([*small, *large], window=4)
    farm.step()
    queues = {queue_of(take.spec) for take in farm.received()}
    assert queues == {queue_of(small[0].spec), queue_of(large[0].spec)}
    assert farm.counts.sent == 8
    farm.step(started(holds_max=9, vram_gib=8, model="acestep-v15-turbo"))
    assert farm.counts.sent == 8  # an 8 GiB card serves neither the tone queue nor the planner's
    farm.step(started("big", holds_max=9, vram_gib=24, model="acestep-v15-turbo"))
    assert {queue: count for queue, count in farm.sent_by_queue().items() if count != 4} == {
        queue_of(large[0].spec): 10
    }


def test_a_paused_run_sends_nothing_takes_back_what_waits_and_goes_on_when_resumed():
    farm = Farm(takes(10), window=6)
    farm.step()
    held = farm.broker.sent[:2]
    farm.broker.sent = farm.broker.sent[2:]
    farm.step(started(), heartbeat([message.take.id for message in held]))
    farm.wish(PAUSE)
    farm.step(after_s=1)
    assert (farm.counts.sent, farm.counts.waiting, farm.broker.sent) == (2, 8, [])
    farm.step(attempt(held[0].take), after_s=1)
    assert (farm.counts.accepted, farm.counts.waiting) == (1, 8)
    farm.wish(GO_ON)
    assert farm.step().sent == 5


def test_a_cancelled_run_ends_when_what_workers_hold_has_ended_and_the_counts_add_up():
    farm = Farm(takes(10), window=6)
    farm.step()
    held = farm.broker.sent[:2]
    farm.broker.sent = farm.broker.sent[2:]
    farm.step(started(), heartbeat([message.take.id for message in held]))
    farm.wish(CANCEL)
    assert farm.step(after_s=1).finished == ()
    assert (farm.counts.sent, farm.counts.cancelled) == (2, 8)
    assert farm.step(attempt(held[0].take), after_s=1).finished == ()
    assert farm.step(after_s=61).finished == (farm.run_id,)  # the other one's worker fell silent
    assert (farm.counts.accepted, farm.counts.cancelled, farm.counts.total) == (1, 9, 10)
    with farm.ledger.read() as connection:
        assert readings.get_run(connection, farm.run_id).state == "cancelled"


def test_a_take_of_a_cancelled_run_that_was_made_all_the_same_is_accepted():
    farm = Farm(takes(2))
    farm.step()
    first = farm.received()[0]
    farm.step(started(), heartbeat([first.id]))
    farm.wish(CANCEL)
    farm.step(after_s=1)
    farm.step(attempt(first), after_s=1)
    farm.step(attempt(first, adopted=True, worker_id="w2"))
    assert (farm.counts.accepted, farm.counts.sent + farm.counts.cancelled) == (1, 1)


def test_a_silent_worker_is_taken_for_ended_when_it_was_last_heard_of_and_lives_again_when_it_speaks():
    farm = Farm(takes(1))
    farm.step(started(at_ms=1_000), heartbeat([], at_ms=9_000))
    farm.step(after_s=61)
    assert farm.worker().ended_at_ms == START_MS + 9_000
    assert farm.worker().end_reason == "silent for 61 s"
    farm.step(heartbeat([], at_ms=200_000))
    assert farm.worker().ended_at_ms is None


def test_a_heartbeat_that_a_later_one_has_overtaken_changes_nothing():
    farm = Farm(takes(2))
    farm.step()
    first, second = farm.received()
    late = heartbeat([first.id]).model_copy(update={"number": 1})
    farm.step(started(), heartbeat([second.id]).model_copy(update={"number": 2}), late)
    assert farm.column(first, "held_by") is None
    assert farm.column(second, "held_by") == "w1"
    farm.step(late)
    assert farm.column(second, "held_by") == "w1"


def test_a_worker_whose_clock_is_ahead_is_heard_by_ours():
    farm = Farm(takes(1))
    ahead_ms = 3_600_000
    farm.step(started(at_ms=farm.now_ms + ahead_ms - 900), heartbeat([], at_ms=farm.now_ms + ahead_ms))
    assert (farm.worker().heard_at_ms, farm.worker().clock_ahead_ms) == (farm.now_ms, ahead_ms)
    farm.step(after_s=61)
    assert farm.worker().ended_at_ms is not None


def test_a_writer_whose_place_was_taken_writes_nothing_more(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with ledger.writer_lock() as lock:
        fenced = ledger.fenced(lock)
        with fenced.write() as connection:
            work.finish_runs(connection, [], 1)
        with ledger.write() as connection:  # as the next holder does, while this one sleeps
            connection.execute(text("update writer set epoch = epoch + 1, holder = 'the next one'"))
        with pytest.raises(BusyError, match="the next one"), fenced.write() as connection:
            connection.execute(text("delete from run"))


def test_a_clock_that_is_behind_is_told_from_records_that_waited():
    farm = Farm(takes(1))
    farm.step(started(at_ms=farm.now_ms - 600_000))
    assert farm.worker().clock_ahead_ms == -600_000
    farm.step(heartbeat([], at_ms=farm.now_ms + 10_000), after_s=10)
    assert farm.worker().clock_ahead_ms == 0  # it was only we who had been away

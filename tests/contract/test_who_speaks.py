"""Nobody speaks for another: logins, receipts and instants decide what is believed, and the rest is set aside."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select

from catalog.messages import Heartbeat, Span, SpansClosed, TakesReturned, WorkerStopped
from catalog.orders import OrderSigner
from catalog.queues import queue_of
from catalog.rental import RentalNote
from orchestrator.control.admission import AHEAD_MAX_MS, BEHIND_MAX_MS, LIVING_MAX, OrderProof
from orchestrator.control.controller import Controller
from orchestrator.ledger import logins, open_ledger, readings, set_aside, strikes
from orchestrator.ledger.tables import ATTEMPT, SPAN, TAKE, WORKER
from tests.support.farm import DOLLAR_AN_HOUR, FakeBroker, attempt, started, takes
from tests.support.makers import exactly

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
PLAN = takes(6)
HONEST, OTHER, FOE = "honest.1", "honest.2", "foe.1"


class Fleet:
    """Two logins, of which one is hostile; orders are signed."""

    def __init__(self, database_url: str, *, signed: bool = True) -> None:
        self.now_ms = NOW_MS
        self.ledger = open_ledger(database_url)
        self.broker = FakeBroker()
        self.run_id = self.ledger.begin_or_resume_run("spring", "tone", exactly(PLAN)).run_id
        self.signer = OrderSigner(Ed25519PrivateKey.generate())
        self.proof = OrderProof(self.signer, since_ms=NOW_MS - DAY_MS) if signed else None
        self.begin_controller()
        self.numbers = {worker_id: count(1) for worker_id in (HONEST, OTHER, FOE)}
        self.beats = {worker_id: count(1) for worker_id in (HONEST, OTHER, FOE)}
        self.last = dict.fromkeys(self.numbers, 0)
        self.step()
        for worker_id in (HONEST, FOE):
            self.say(worker_id, started(worker_id, at_ms=self.now_ms, started_at_ms=self.now_ms - 5_000))

    def begin_controller(self) -> None:
        self.controller = Controller(
            self.ledger,
            self.broker,
            price_of=lambda machine, at_ms: DOLLAR_AN_HOUR,
            window=256,
            silent_after_s=60,
            clock=lambda: self.now_ms,
            proof=self.proof,
        )

    def step(self, after_s: float = 2.0):
        self.now_ms += round(after_s * 1000)
        return self.controller.step()

    def numbered(self, worker_id, record):
        self.last[worker_id] = next(self.numbers[worker_id])
        return record.model_copy(update={"sequence": self.last[worker_id]})

    def say(self, worker_id, *records, step: bool = True):
        """The login of the worker writes these on its list."""
        login = worker_id.partition(".")[0]
        self.broker.deliver_as(login, *(self.numbered(worker_id, record) for record in records))
        return self.step() if step else None

    def beat(self, worker_id, *held, receipts=None, after=None, number=None):
        """A heartbeat of the worker, set but not looked at yet."""
        self.broker.deliver_as(
            worker_id.partition(".")[0],
            Heartbeat(
                worker_id=worker_id,
                held=[take.id for take in held],
                receipts=[self.receipt(take) for take in held] if receipts is None else receipts,
                number=next(self.beats[worker_id]) if number is None else number,
                after=self.last[worker_id] if after is None else after,
                at_ms=self.now_ms,
            ),
        )

    def receipt(self, take, sent_at_ms: int | None = None) -> str:
        """The receipt of the take's order, as whoever was given it has it."""
        sent_at_ms = sent_at_ms if sent_at_ms is not None else self.take(take)["sent_at_ms"]
        return self.signer.receipt_of(take.id, sent_at_ms) if self.proof else ""

    def made(self, take, outcome="accepted", worker_id=HONEST, **fields):
        values = {"run_id": self.run_id, "at_ms": self.now_ms, **fields}
        if "receipt" not in values:
            values["receipt"] = self.receipt(take)
        return attempt(take, outcome, worker_id, **values)

    def take(self, take):
        with self.ledger.read() as connection:
            return connection.execute(select(TAKE).where(TAKE.c.take_id == take.id)).mappings().one()

    def holder(self, take):
        return self.take(take)["held_by"]

    def worker(self, worker_id):
        with self.ledger.read() as connection:
            return connection.execute(select(WORKER).where(WORKER.c.worker_id == worker_id)).mappings().first()

    def reasons(self):
        with self.ledger.read() as connection:
            return [row.reason for row in set_aside.list_set_aside(connection)]

    def count(self, table):
        with self.ledger.read() as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar()

    @property
    def counts(self):
        with self.ledger.read() as connection:
            return readings.count_takes(connection, self.run_id)


@pytest.fixture
def fleet(database_url) -> Iterator[Fleet]:
    made = Fleet(database_url)
    yield made
    made.ledger.close()


def test_a_worker_that_was_given_its_orders_is_believed(fleet):
    fleet.beat(HONEST, *PLAN[:3])
    fleet.step()
    assert [fleet.holder(take) for take in PLAN] == [HONEST] * 3 + [None] * 3
    fleet.say(HONEST, fleet.made(PLAN[0]), fleet.made(PLAN[1], "rejected"))
    assert (fleet.counts.accepted, fleet.counts.rejected) == (1, 1)
    assert fleet.reasons() == []


# ------------------------------------------------------------ in another's name

FALSE_RECORDS = {
    "an end": lambda fleet: WorkerStopped(worker_id=HONEST, reason="bye", at_ms=fleet.now_ms),
    "a beginning": lambda fleet: started(HONEST, at_ms=fleet.now_ms, started_at_ms=NOW_MS - 20 * DAY_MS),
    "spans": lambda fleet: SpansClosed(
        worker_id=HONEST, at_ms=fleet.now_ms, spans=[Span(state="idle", start_ms=NOW_MS, end_ms=NOW_MS + 1_000)]
    ),
    "an attempt": lambda fleet: fleet.made(PLAN[0], "rejected"),
    "a return": lambda fleet: TakesReturned(worker_id=HONEST, take_ids=[PLAN[0].id], at_ms=fleet.now_ms),
    "one without a login": lambda fleet: started("plain", at_ms=fleet.now_ms, started_at_ms=fleet.now_ms),
}


@pytest.mark.parametrize("what", FALSE_RECORDS)
def test_a_login_does_not_speak_for_anothers_worker(fleet, what):
    fleet.beat(HONEST, PLAN[0])
    fleet.step()
    before = (fleet.worker(HONEST)["ended_at_ms"], fleet.count(SPAN), fleet.count(ATTEMPT), fleet.holder(PLAN[0]))
    fleet.broker.deliver_as("foe", FALSE_RECORDS[what](fleet))
    fleet.step()
    assert (
        fleet.worker(HONEST)["ended_at_ms"],
        fleet.count(SPAN),
        fleet.count(ATTEMPT),
        fleet.holder(PLAN[0]),
    ) == before
    assert fleet.worker("plain") is None
    (reason,) = fleet.reasons()
    assert reason.startswith("login 'foe' reports about a worker of ")


def test_whoever_has_no_login_does_not_speak_for_one_that_has(fleet):
    fleet.broker.deliver(WorkerStopped(worker_id=HONEST, reason="bye", at_ms=fleet.now_ms))
    fleet.step()
    assert fleet.worker(HONEST)["ended_at_ms"] is None
    assert fleet.reasons() == ["no login reports about a worker of login 'honest'"]


def test_a_heartbeat_of_any_number_mutes_its_own_worker_alone(fleet):
    fleet.beat(FOE, number=2**62)
    fleet.step()
    fleet.beat(HONEST, PLAN[0])
    fleet.step()
    assert fleet.holder(PLAN[0]) == HONEST


def test_a_machine_on_which_anothers_workers_live_cannot_be_named(fleet):
    pod = RentalNote(provider="runpod", external_id="pod", gpu_count=1)
    at_ms = {"at_ms": fleet.now_ms, "started_at_ms": fleet.now_ms}
    fleet.say(OTHER, started(OTHER, rental=pod, **at_ms))
    fleet.say(FOE, started("foe.9", rental=pod, **at_ms))
    assert fleet.worker("foe.9") is None
    assert fleet.reasons() == ["it names runpod/pod, where workers of login 'honest' run"]
    fleet.say(OTHER, started("honest.9", rental=pod, **at_ms))  # another GPU of the machine
    for worker_id in (OTHER, "honest.9"):
        fleet.broker.deliver_as("honest", WorkerStopped(worker_id=worker_id, reason="told to", at_ms=fleet.now_ms))
    fleet.step()
    fleet.say(FOE, started("foe.9", rental=pod, **at_ms))  # the machine has got a new login
    assert fleet.worker("foe.9")["rental_id"] == "runpod/pod"


@pytest.mark.parametrize(
    ("rental", "reason"),
    [
        (RentalNote(provider="local", external_id=HONEST), "it names local/honest.1, which is another worker's own"),
        (RentalNote(provider="runpod", external_id="x", gpu_count=2**30), "it names a machine of 1,073,741,824 GPUs"),
    ],
)
def test_a_machine_that_cannot_be_is_not_believed(fleet, rental, reason):
    fleet.say(FOE, started("foe.9", rental=rental, at_ms=fleet.now_ms, started_at_ms=fleet.now_ms))
    assert fleet.worker("foe.9") is None
    assert fleet.reasons()[0].startswith(reason)


# ------------------------------------------------------------ takes that nobody was given


@pytest.mark.parametrize("outcome", ["rejected", "failed", "accepted"])
def test_what_was_not_given_cannot_be_ended(fleet, outcome):
    for receipt in ("", fleet.receipt(PLAN[1]), f"{fleet.now_ms:x}." + "A" * 22):
        fleet.say(FOE, fleet.made(PLAN[0], outcome, FOE, receipt=receipt))
    assert fleet.counts.sent == len(PLAN)
    assert fleet.count(ATTEMPT) == 0
    assert {reason[:50] for reason in fleet.reasons()} == {"nothing proves that its worker was given the order"}


def test_what_was_not_given_is_not_held_and_not_returned(fleet):
    fleet.beat(HONEST, PLAN[0])
    fleet.step()
    fleet.beat(FOE, *PLAN[:2], receipts=[])
    fleet.step()
    fleet.beat(FOE, *PLAN[:2], receipts=[fleet.receipt(PLAN[1]), fleet.receipt(PLAN[0])])
    fleet.step()
    assert [fleet.holder(take) for take in PLAN[:2]] == [HONEST, None]
    fleet.broker.sent.clear()
    fleet.say(FOE, TakesReturned(worker_id=FOE, take_ids=[PLAN[1].id], at_ms=fleet.now_ms))
    assert fleet.broker.sent == []


def test_a_return_said_again_sends_nothing_again(fleet):
    fleet.beat(FOE, PLAN[1])
    fleet.step()
    returned = TakesReturned(
        worker_id=FOE, take_ids=[PLAN[1].id], receipts=[fleet.receipt(PLAN[1])], at_ms=fleet.now_ms
    )
    fleet.broker.sent.clear()
    for _ in range(4):
        fleet.say(FOE, returned)
    assert [message.take.id for message in fleet.broker.sent] == [PLAN[1].id]


def test_a_take_of_which_nobody_sent_an_order_is_set_aside_and_can_be_tried_again(database_url):
    fleet = Fleet(database_url, signed=False)
    unknown = takes(7)[6]
    record = fleet.made(PLAN[0]).model_copy(update={"take_id": unknown.id, "sidecar": None, "outcome": "failed"})
    fleet.say(HONEST, record)
    assert fleet.reasons() == [f"no order was sent for take {unknown.id}: the ledger does not know it"]
    with fleet.ledger.write() as connection:
        connection.execute(TAKE.update().where(TAKE.c.take_id == PLAN[5].id).values(state="waiting", orders=0))
    fleet.controller.feeding = False
    fleet.say(HONEST, fleet.made(PLAN[5], "rejected"))
    assert fleet.reasons()[0] == f"no order was sent for take {PLAN[5].id}" or len(fleet.reasons()) == 2
    assert fleet.counts.rejected == 0
    fleet.controller.feeding = True
    fleet.step()
    with fleet.ledger.write() as connection:
        set_aside.mark_due(connection)
    fleet.step()
    assert fleet.counts.rejected == 1
    fleet.ledger.close()


def test_a_ledger_that_went_back_believes_the_receipt_of_an_order_that_it_forgot(fleet):
    receipt = fleet.receipt(PLAN[0])
    with fleet.ledger.write() as connection:
        connection.execute(TAKE.update().values(state="waiting", orders=0, sent_at_ms=None))
    fleet.controller.feeding = False
    fleet.say(HONEST, fleet.made(PLAN[0], receipt=receipt))
    assert fleet.counts.accepted == 1


def test_orders_from_before_the_key_need_no_receipt(fleet):
    with fleet.ledger.write() as connection:
        connection.execute(TAKE.update().where(TAKE.c.take_id == PLAN[0].id).values(sent_at_ms=NOW_MS - 2 * DAY_MS))
    fleet.say(HONEST, fleet.made(PLAN[0], receipt=""), fleet.made(PLAN[1], receipt=""))
    assert fleet.counts.accepted == 1


def test_an_attempt_counts_for_the_run_that_ordered_it_and_for_no_other(fleet):
    other = fleet.ledger.begin_or_resume_run("autumn", "tone", exactly(takes(1, catalog="autumn"))).run_id
    for run_id in (other, "nobody's"):
        fleet.say(FOE, fleet.made(PLAN[0], "rejected", FOE, run_id=run_id))
    assert fleet.counts.rejected == 0
    assert sorted(fleet.reasons()) == sorted(f"run {run_id} has no take {PLAN[0].id}" for run_id in (other, "nobody's"))


def test_the_sidecar_of_another_take_or_worker_is_no_proof(fleet):
    of_another = fleet.made(PLAN[1], worker_id=FOE).sidecar
    fleet.say(FOE, fleet.made(PLAN[0], worker_id=FOE).model_copy(update={"sidecar": of_another}))
    of_honest = fleet.made(PLAN[0]).sidecar
    fleet.say(FOE, fleet.made(PLAN[0], worker_id=FOE).model_copy(update={"sidecar": of_honest}))
    own, other = (fleet.made(take, worker_id=FOE).sidecar for take in PLAN[:2])
    elsewhere = own.model_copy(update={"audio": own.audio.model_copy(update={"key": other.audio.key})})
    fleet.say(FOE, fleet.made(PLAN[0], worker_id=FOE).model_copy(update={"sidecar": elsewhere}))
    assert fleet.counts.accepted == 0
    assert sorted(reason[:16] for reason in fleet.reasons()) == [
        "its sidecar is o",
        "its sidecar is o",
        "its sidecar name",
    ]


def test_adopting_puts_nothing_into_the_life_of_another_logins_worker_that_has_not_lost_the_take(fleet):
    sidecar = fleet.made(PLAN[0]).sidecar.model_copy(update={"record_id": "invented"})
    fleet.say(FOE, fleet.made(PLAN[0], worker_id=FOE, adopted=True).model_copy(update={"sidecar": sidecar}))
    with fleet.ledger.read() as connection:
        assert list(connection.execute(select(ATTEMPT.c.worker_id)).scalars()) == [FOE]


def test_a_worker_that_died_after_its_sidecar_has_its_attempt_on_the_books_all_the_same(fleet):
    fleet.beat(HONEST, PLAN[0])
    fleet.step()
    sidecar = fleet.made(PLAN[0]).sidecar.model_copy(update={"record_id": "unreported"})
    for _ in range(10):  # HONEST says no more
        fleet.beat(FOE)
        fleet.step(after_s=10)
    fleet.say(FOE, fleet.made(PLAN[0], worker_id=FOE, adopted=True).model_copy(update={"sidecar": sidecar}))
    with fleet.ledger.read() as connection:
        assert sorted(connection.execute(select(ATTEMPT.c.worker_id)).scalars()) == [FOE, HONEST]


# ------------------------------------------------------------ instants


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda now: started("foe.2", at_ms=now, started_at_ms=0), "started_at_ms is"),
        (lambda now: started("foe.2", at_ms=now, started_at_ms=now - BEHIND_MAX_MS - 1), "started_at_ms is"),
        (lambda now: started("foe.2", at_ms=now, started_at_ms=now + AHEAD_MAX_MS + 9_000), "started_at_ms is"),
        (lambda now: started("foe.2", at_ms=32_000_000_000_000, started_at_ms=now), "at_ms is"),
        (lambda now: WorkerStopped(worker_id=FOE, reason="", at_ms=30_000_000_000_000), "at_ms is"),
        (lambda now: spans(now, now - 40 * DAY_MS, now), "spans.start_ms is"),
        (lambda now: spans(now, NOW_MS - 20 * DAY_MS, now), "spans.start_ms is"),  # before its life
        (lambda now: spans(now, now, now + 2 * DAY_MS), "spans.end_ms is"),
        (lambda now: spans(now, now, now - 5), "a span ends at"),
    ],
)
def test_instants_far_from_our_clock_or_outside_a_life_are_not_believed(fleet, what, reason):
    before = (fleet.worker(FOE)["last_seen_ms"], fleet.count(SPAN), fleet.count(WORKER))
    fleet.say(FOE, what(fleet.now_ms))
    assert fleet.reasons()[0].startswith(reason)
    assert (fleet.worker(FOE)["last_seen_ms"], fleet.count(SPAN), fleet.count(WORKER)) == before


def spans(now_ms: int, start_ms: int, end_ms: int) -> SpansClosed:
    return SpansClosed(worker_id=FOE, at_ms=now_ms, spans=[Span(state="render", start_ms=start_ms, end_ms=end_ms)])


def test_a_life_begins_once_whatever_is_said_of_it_later(fleet):
    began_ms = fleet.worker(FOE)["started_at_ms"]
    fleet.say(FOE, started(FOE, at_ms=fleet.now_ms, started_at_ms=began_ms + 3_000))
    assert fleet.worker(FOE)["started_at_ms"] == began_ms


def test_a_long_life_may_report_what_is_older_than_a_record_may_wait(fleet):
    with fleet.ledger.write() as connection:
        early = WORKER.update().where(WORKER.c.worker_id == FOE)
        connection.execute(early.values(started_at_ms=NOW_MS - 100 * DAY_MS))
    fleet.say(FOE, spans(fleet.now_ms, NOW_MS - 60 * DAY_MS, NOW_MS - 59 * DAY_MS))
    assert fleet.count(SPAN) == 1


def test_a_login_may_not_announce_workers_without_end(fleet):
    many = [
        started(f"foe.x{number}", at_ms=fleet.now_ms, started_at_ms=fleet.now_ms) for number in range(LIVING_MAX + 5)
    ]
    fleet.broker.deliver_as("foe", *many)
    while fleet.step().more:
        pass
    assert fleet.count(WORKER) == LIVING_MAX + 1  # and HONEST
    fleet.say(OTHER, started(OTHER, at_ms=fleet.now_ms, started_at_ms=fleet.now_ms))
    assert fleet.worker(OTHER) is not None


# ------------------------------------------------------------ ended and struck


def test_nothing_is_recorded_of_a_login_that_has_ended(fleet):
    with fleet.ledger.write() as connection:
        assert logins.end_login(connection, "foe", fleet.now_ms) == [FOE]
    fleet.say(FOE, fleet.made(PLAN[0], "rejected", FOE), started("foe.3", at_ms=fleet.now_ms))
    fleet.beat(FOE, PLAN[1])
    fleet.step()
    assert (fleet.counts.rejected, fleet.holder(PLAN[1]), fleet.worker("foe.3")) == (0, None, None)
    assert fleet.reasons() == []
    fleet.say(HONEST, fleet.made(PLAN[0], "rejected"))
    assert fleet.counts.rejected == 1


def test_a_struck_worker_does_not_come_back_by_speaking(fleet):
    with fleet.ledger.write() as connection:
        assert strikes.strike(connection, FOE, "it lies", fleet.now_ms)
    fleet.say(FOE, started(FOE, at_ms=fleet.now_ms, started_at_ms=fleet.now_ms))
    assert fleet.worker(FOE) is None
    assert fleet.reasons() == ["its worker was struck from the books"]


def test_a_logins_share_of_rejections_is_counted(fleet):
    fleet.say(HONEST, fleet.made(PLAN[0]), fleet.made(PLAN[1]), fleet.made(PLAN[2], "failed"))
    fleet.say(FOE, fleet.made(PLAN[3], "rejected", FOE), fleet.made(PLAN[4], worker_id=FOE))
    with fleet.ledger.read() as connection:
        uses = {use.login: use for use in logins.list_uses(connection)}
    assert (uses["honest"].rejected_share, uses["foe"].rejected_share) == (0.0, 0.5)
    assert (uses["honest"].accepted, uses["honest"].failed, uses["foe"].living) == (2, 1, 1)


# ------------------------------------------------------------ heartbeats and the records before them


def test_a_heartbeat_waits_for_the_records_before_it(fleet):
    fleet.beat(HONEST, PLAN[0])
    fleet.step()
    fleet.broker.deliver_as("honest", fleet.numbered(HONEST, fleet.made(PLAN[0], "failed", retry=True)))
    fleet.beat(HONEST, PLAN[1])  # it was said after the failure, which is further back than one look reaches
    held_back, fleet.broker.records = fleet.broker.records, []
    fleet.broker.undrained = {"honest"}
    fleet.step()
    assert (fleet.holder(PLAN[0]), fleet.holder(PLAN[1])) == (HONEST, None)
    fleet.broker.records, fleet.broker.undrained = held_back, set()
    fleet.step()
    assert (fleet.take(PLAN[0])["alone"], fleet.holder(PLAN[1])) == (True, HONEST)


def test_a_heartbeat_does_not_name_again_what_a_later_record_has_ended(fleet):
    fleet.controller.feeding = False
    fleet.beat(HONEST, PLAN[0])
    fleet.say(HONEST, fleet.made(PLAN[0], "failed", retry=True))
    assert fleet.take(PLAN[0])["state"] == "waiting"
    # It was set before that record, and is read after it.
    fleet.beat(HONEST, PLAN[0], after=1, receipts=[fleet.signer.receipt_of(PLAN[0].id, NOW_MS)])
    fleet.step()
    assert fleet.take(PLAN[0])["state"] == "waiting"
    assert fleet.worker(HONEST)["last_seen_ms"] >= fleet.now_ms - 2_000


def test_a_record_that_the_broker_has_lost_is_not_waited_for_once_its_list_is_drained(fleet):
    fleet.numbered(HONEST, started(HONEST))  # its number is taken, and it never comes
    fleet.beat(HONEST, PLAN[0])
    fleet.step()
    assert fleet.holder(PLAN[0]) == HONEST


def test_an_older_heartbeat_that_comes_late_changes_nothing(fleet):
    fleet.beat(HONEST, PLAN[0])
    late = dict(fleet.broker.beats)
    fleet.beat(HONEST, PLAN[1])
    fleet.step()
    fleet.broker.beats.update(late)
    fleet.step()
    assert (fleet.holder(PLAN[0]), fleet.holder(PLAN[1])) == (None, HONEST)


def test_a_worker_that_only_beats_lives_and_one_that_stops_beating_loses_its_takes(fleet):
    fleet.beat(HONEST, PLAN[0])
    for _ in range(10):
        fleet.beat(HONEST, PLAN[0])
        fleet.step(after_s=20)
    assert fleet.holder(PLAN[0]) == HONEST
    for _ in range(4):  # what lies there is no new word
        fleet.step(after_s=20)
    assert (fleet.holder(PLAN[0]), fleet.take(PLAN[0])["losses"]) == (None, 1)
    assert fleet.worker(HONEST)["end_reason"].startswith("silent for")


def test_a_controller_that_begins_takes_an_old_heartbeat_for_no_new_word(fleet):
    fleet.beat(HONEST, PLAN[0])
    fleet.step()
    fleet.begin_controller()
    for _ in range(5):
        fleet.step(after_s=20)
    assert fleet.holder(PLAN[0]) is None


def test_a_worker_taken_for_dead_that_speaks_again_is_heard_again(fleet):
    fleet.beat(HONEST, PLAN[0])
    for _ in range(5):
        fleet.step(after_s=20)
    assert fleet.worker(HONEST)["ended_at_ms"] is not None
    fleet.beat(HONEST, PLAN[0])
    fleet.step()  # nobody looks at its heartbeats now
    fleet.say(HONEST, started(HONEST, at_ms=fleet.now_ms, started_at_ms=fleet.now_ms - 1_000))
    fleet.beat(HONEST, PLAN[0])
    fleet.step()
    assert fleet.worker(HONEST)["ended_at_ms"] is None
    assert fleet.holder(PLAN[0]) == HONEST


def test_what_a_heartbeat_named_is_compared_with_the_ledger_now_and_then(fleet):
    fleet.beat(HONEST, PLAN[0])
    fleet.step()
    with fleet.ledger.write() as connection:  # somebody puts back an older ledger
        connection.execute(TAKE.update().where(TAKE.c.take_id == PLAN[0].id).values(held_by=None))
    for _ in range(16):
        fleet.beat(HONEST, PLAN[0])
        fleet.step(after_s=20)
    assert fleet.holder(PLAN[0]) == HONEST


def test_the_heartbeat_of_a_worker_that_has_ended_is_forgotten(fleet):
    fleet.beat(HONEST)
    fleet.say(HONEST, WorkerStopped(worker_id=HONEST, reason="told to", at_ms=fleet.now_ms))
    fleet.step()
    assert HONEST not in fleet.broker.beats


def test_a_login_that_never_lets_its_list_end_holds_up_nobody(fleet):
    fleet.beat(HONEST, PLAN[0])
    fleet.beat(FOE, PLAN[1])
    fleet.step()
    fleet.broker.undrained = {"foe"}
    for _ in range(5):
        fleet.step(after_s=20)
    assert (fleet.holder(PLAN[0]), fleet.holder(PLAN[1])) == (None, FOE)
    for _ in range(40):
        fleet.step(after_s=20)
    assert fleet.holder(PLAN[1]) is None


def test_the_last_records_are_written_down_however_many_come_meanwhile(fleet):
    fleet.broker.deliver_as("foe", *[started("foe.9", at_ms=fleet.now_ms) for _ in range(700)])
    look = fleet.broker.peek_records

    def look_while_more_come(limit):
        fleet.broker.deliver_as("foe", *[started("foe.9", at_ms=fleet.now_ms) for _ in range(500)])
        return look(limit)

    fleet.broker.peek_records = look_while_more_come
    assert 700 <= fleet.controller.record_waiting() <= 1_000


# ------------------------------------------------------------ first words that were lost


def test_the_time_of_a_worker_whose_first_words_were_lost_is_on_the_books(fleet):
    closed = [Span(state="render", start_ms=NOW_MS - 90_000, end_ms=NOW_MS - 30_000, batch_id="b")]
    fleet.say(OTHER, SpansClosed(worker_id=OTHER, at_ms=fleet.now_ms, spans=closed))
    found = fleet.worker(OTHER)
    assert (found["started_at_ms"], found["gpu"], found["rate_usd_micros_per_h"]) == (NOW_MS - 90_000, "", None)
    fleet.say(OTHER, started(OTHER, at_ms=fleet.now_ms, started_at_ms=NOW_MS - 100_000))
    found = fleet.worker(OTHER)
    assert (found["started_at_ms"], found["gpu"]) == (NOW_MS - 100_000, "gpu")
    assert found["rate_usd_micros_per_h"] == DOLLAR_AN_HOUR.rate_usd_micros_per_h


def test_orders_carry_the_instant_that_their_receipts_name(fleet):
    (order, *_) = fleet.broker.orders
    assert order.sent_at_ms == fleet.take(order.message.take)["sent_at_ms"]
    assert order.queue == queue_of(order.message.take.spec)

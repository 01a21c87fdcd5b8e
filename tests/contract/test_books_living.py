"""A rental that still runs, on SQLite and on Postgres: only what is new of it is read, and nothing of it is missed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, insert, select, update

from catalog.messages import BatchNote, Span, SpansClosed, WorkerStopped
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.books import rentals as rental_facts
from orchestrator.finance.books import tallies
from orchestrator.finance.books.books import provisional_rows, update_books
from orchestrator.finance.books.invoices import write_invoice
from orchestrator.ledger import open_ledger, work
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.machines import mark_makers_unposted, mark_rentals_unposted
from orchestrator.ledger.tables import ATTEMPT, RENTAL, RUN, SPAN, STANDING, TAKE, TALLY, VERDICT, WORKER
from tests.support.cost_facts import DECEMBER, NOVEMBER
from tests.support.cost_ledger import DAY_MS, GPUS, Filling, a_line, an_invoice, price_of
from tests.support.farm import attempt, heartbeat, takes

HOUR_MS = 3_600_000
BATCHES = 60  # of each GPU
LATER = NOVEMBER + 90 * DAY_MS
POD = "runpod/pod"


class Machine:
    """A pod with two GPUs whose facts arrive a stretch of time after the other."""

    def __init__(self, ledger, *, begin_ms: int = NOVEMBER + DAY_MS, seed: int = 5) -> None:
        self.ledger = ledger
        filling = Filling(seed, batch_ms=(HOUR_MS // 4, HOUR_MS))
        run_id = filling.run("hotels", begin_ms)
        filling.machine("pod", sorted(GPUS)[0], begin_ms, "hotels", run_id, gpus=2, batches=BATCHES, living=True)
        self.spans, self.attempts = filling.rows[SPAN], filling.rows[ATTEMPT]
        self.at_ms = begin_ms
        with ledger.write() as connection:
            for table in (RUN, RENTAL, WORKER, TAKE):
                connection.execute(insert(table), filling.rows[table])

    def go_on(self, hours: int) -> None:
        """What the next hours bring; batches that are not over come later."""
        self.at_ms += hours * HOUR_MS
        spans = [row for row in self.spans if row["end_ms"] <= self.at_ms]
        attempts = [row for row in self.attempts if row["at_ms"] <= self.at_ms]
        self.spans = [row for row in self.spans if row["end_ms"] > self.at_ms]
        self.attempts = [row for row in self.attempts if row["at_ms"] > self.at_ms]
        with self.ledger.write() as connection:
            for table, rows in ((SPAN, spans), (ATTEMPT, attempts)):
                if rows:
                    connection.execute(insert(table), rows)
            connection.execute(update(WORKER).values(last_seen_ms=self.at_ms))
            mark_rentals_unposted(connection, [POD], later=True)

    def worker_id(self) -> str:
        with self.ledger.read() as connection:
            return connection.execute(select(func.min(WORKER.c.worker_id))).scalar()

    def record(self, *records) -> None:
        with self.ledger.write() as connection:
            record_facts(connection, list(records), price_of, self.at_ms)


@pytest.fixture
def ledger(database_url, monkeypatch):
    monkeypatch.setattr(tallies, "_WORTH_KEEPING", 1)
    opened = open_ledger(database_url)
    yield opened
    opened.close()


def post(ledger):
    return update_books(ledger, time_zone="UTC", price_of=price_of, at_ms=LATER)


def so_far(updated):
    return list(provisional_rows(updated.provisional))


def anew(ledger):
    """As if nothing were added up."""
    with ledger.write() as connection:
        tallies.forget(connection, POD)
    return post(ledger)


@pytest.fixture
def wholes(monkeypatch):
    """How often a rental is read whole."""
    read, found = rental_facts.read, []

    def counted(connection, rental_id, of_price):
        found.append(rental_id)
        return read(connection, rental_id, of_price)

    monkeypatch.setattr(rental_facts, "read", counted)
    return found


def test_what_arrives_bit_by_bit_is_read_once_and_costs_what_the_whole_costs(ledger, wholes):
    machine = Machine(ledger)
    machine.go_on(3)
    post(ledger)
    assert wholes == [POD]
    for _ in range(8):
        machine.go_on(3)
        found = so_far(post(ledger))
        assert wholes == [POD]
        assert found
        assert found == so_far(anew(ledger))
        wholes[:] = [POD]
    with ledger.read() as connection:
        marks = connection.execute(select(func.min(WORKER.c.tally_spans_ms))).scalar()
        left = list(rental_facts.read_attempts(connection, POD, since=True))
        every = list(rental_facts.read_attempts(connection, POD))
    assert machine.at_ms - 4 * HOUR_MS < marks < machine.at_ms
    assert 0 < len(left) < len(every) / 4


def test_reading_again_without_anything_new_says_the_same(ledger, wholes):
    machine = Machine(ledger)
    machine.go_on(20)
    first = so_far(post(ledger))
    assert so_far(post(ledger)) == first
    assert wholes == [POD]


@pytest.mark.parametrize(
    "late",
    [
        lambda machine: SpansClosed(
            worker_id=machine.worker_id(),
            at_ms=machine.at_ms,
            spans=[Span(state="idle", start_ms=NOVEMBER + DAY_MS - 900, end_ms=NOVEMBER + DAY_MS)],
        ),
        lambda machine: attempt(
            takes(1)[0], "rejected", machine.worker_id(), at_ms=NOVEMBER + DAY_MS + 5 * HOUR_MS, record_id="late"
        ),
        lambda machine: attempt(
            takes(1)[0],
            *("rejected", machine.worker_id()),
            at_ms=machine.at_ms,
            record_id="late",
            batch=BatchNote(id=an_old_batch(machine), size=1, position=0, takes=["x"]),
        ),
    ],
    ids=["span", "attempt", "attempt of an old batch"],
)
def test_what_arrives_late_is_not_missed(ledger, wholes, late):
    machine = Machine(ledger)
    machine.go_on(20)
    before = so_far(post(ledger))
    machine.record(late(machine))
    found = so_far(post(ledger))
    assert wholes == [POD, POD]
    assert found != before
    assert found == so_far(anew(ledger))


def an_old_batch(machine):
    with machine.ledger.read() as connection:
        first = select(SPAN.c.batch_id).where(SPAN.c.state == "render", SPAN.c.worker_id == machine.worker_id())
        return connection.execute(first.order_by(SPAN.c.start_ms).limit(1)).scalar()


def test_a_verdict_and_a_bill_make_tallies_void(ledger, wholes):
    machine = Machine(ledger)
    machine.go_on(20)
    before = so_far(post(ledger))
    with ledger.write() as connection:
        kept = select(ATTEMPT.c.record_id, ATTEMPT.c.take_id).where(ATTEMPT.c.outcome == "accepted")
        record_id, take_id = connection.execute(kept.order_by(ATTEMPT.c.at_ms)).first()
        said = {"outcome": "rejected", "reason": "dull", "at_ms": LATER}
        connection.execute(insert(VERDICT).values(record_id=record_id, take_id=take_id, **said))
        mark_makers_unposted(connection, [take_id])
    found = so_far(post(ledger))
    assert found != before
    assert sum(row.tracks for row in found) == sum(row.tracks for row in before) - 1
    with ledger.write() as connection:
        write_invoice(connection, an_invoice([a_line(1, "pod", 5_000_000)]), LATER)
    assert post(ledger).posted > 0
    assert wholes == [POD] * 3


def test_a_month_that_is_over_is_posted_and_the_next_is_added_up(ledger, wholes):
    machine = Machine(ledger, begin_ms=NOVEMBER + 29 * DAY_MS)
    machine.go_on(20)
    assert post(ledger).posted == 0
    machine.go_on(6)
    updated = post(ledger)
    assert updated.posted == 2  # what November cost, and what came of it
    assert {row.period for row in so_far(updated)} == {"2026-12"}
    assert wholes == [POD, POD]
    machine.go_on(6)
    assert so_far(post(ledger)) == so_far(anew(ledger))
    assert wholes == [POD, POD, POD]


def test_a_rental_that_has_ended_is_posted_whole_and_leaves_no_tally(ledger):
    machine = Machine(ledger)
    machine.go_on(20)
    provisional = sum(row.usd_micros for row in so_far(post(ledger)))
    with ledger.read() as connection:
        workers = list(connection.execute(select(WORKER.c.worker_id)).scalars())
        assert connection.execute(select(func.count()).select_from(TALLY)).scalar() > 0
    machine.record(*(WorkerStopped(worker_id=each, at_ms=machine.at_ms, reason="done") for each in workers))
    updated = post(ledger)
    assert updated.provisional == []
    with ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(TALLY)).scalar() == 0
        assert connection.execute(select(RENTAL.c.tally)).scalar() == ""
    with ledger.read() as connection:
        assert cost_readings.sum_usd_micros(connection) == provisional


def test_months_of_another_time_zone_are_added_up_anew(ledger, wholes):
    machine = Machine(ledger, begin_ms=NOVEMBER + 29 * DAY_MS + 20 * HOUR_MS)
    machine.go_on(8)
    post(ledger)
    updated = update_books(ledger, time_zone="America/New_York", price_of=price_of, at_ms=LATER)
    assert {row.period for row in so_far(updated)} == {"2026-11"}
    assert wholes == [POD, POD]


def a_span(worker_id, start_ms, end_ms, state="render", batch_id="late"):
    span = Span(state=state, start_ms=start_ms, end_ms=end_ms, batch_id=batch_id if state == "render" else "")
    return SpansClosed(worker_id=worker_id, at_ms=end_ms, spans=[span])


def standing(ledger):
    with ledger.read() as connection:
        return set(connection.execute(select(STANDING.c.key, STANDING.c.digest)).all())


def assert_as_anew(ledger):
    """What stands and what is provisional is the same when nothing is added up."""
    found, stands = so_far(post(ledger)), standing(ledger)
    assert (found, stands) == (so_far(anew(ledger)), standing(ledger))


def test_a_span_across_midnight_that_is_told_after_the_month_was_posted_corrects_it(ledger):
    machine = Machine(ledger, begin_ms=DECEMBER - 20 * HOUR_MS)
    machine.go_on(20)
    machine.at_ms += HOUR_MS * 3 // 4  # heartbeats go on, and the month is posted
    with ledger.write() as connection:
        connection.execute(update(WORKER).values(last_seen_ms=machine.at_ms))
        mark_rentals_unposted(connection, [POD], later=True)
    assert post(ledger).posted == 2
    before = standing(ledger)
    with ledger.read() as connection:
        worker_id, last_ms = connection.execute(
            select(SPAN.c.worker_id, func.max(SPAN.c.end_ms)).group_by(SPAN.c.worker_id)
        ).first()
    assert last_ms < DECEMBER
    machine.record(a_span(worker_id, last_ms, DECEMBER + 60_000))
    assert post(ledger).reversed == 1
    assert standing(ledger) != before
    assert_as_anew(ledger)


def test_a_price_that_becomes_known_is_posted_for_a_month_that_is_over(ledger):
    machine = Machine(ledger, begin_ms=DECEMBER - 20 * HOUR_MS)
    with ledger.write() as connection:
        connection.execute(update(WORKER).values(rate_usd_micros_per_h=None))
    machine.go_on(24)
    update_books(ledger, time_zone="UTC", price_of=lambda machine, at_ms: None, at_ms=LATER)
    with ledger.read() as connection:
        assert cost_readings.sum_usd_micros(connection) == 0
    assert post(ledger).posted == 1
    with ledger.read() as connection:
        assert cost_readings.sum_usd_micros(connection) > 0
    assert_as_anew(ledger)


def test_a_worker_that_was_taken_for_dead_over_midnight_corrects_the_month_when_it_speaks(ledger):
    machine = Machine(ledger, begin_ms=DECEMBER - 20 * HOUR_MS)
    machine.go_on(19)
    worker_id = machine.worker_id()
    with ledger.write() as connection:
        work.end_silent(connection, worker_id, "silent")
    machine.at_ms += 3 * HOUR_MS
    with ledger.write() as connection:
        connection.execute(update(WORKER).where(WORKER.c.worker_id != worker_id).values(last_seen_ms=machine.at_ms))
    assert post(ledger).posted == 2
    machine.record(heartbeat([], worker_id, at_ms=machine.at_ms))
    assert post(ledger).reversed == 1
    assert_as_anew(ledger)


def test_a_call_that_is_added_up_and_goes_on_is_shared_anew(ledger):
    machine = Machine(ledger)
    machine.go_on(4)
    worker_id = machine.worker_id()
    with ledger.read() as connection:
        last_ms = connection.execute(select(func.max(SPAN.c.end_ms)).where(SPAN.c.worker_id == worker_id)).scalar()
    machine.record(a_span(worker_id, last_ms, last_ms + 60_000, batch_id="twice"))
    machine.at_ms += 3 * HOUR_MS
    machine.record(heartbeat([], worker_id, at_ms=machine.at_ms))
    post(ledger)
    with ledger.read() as connection:
        assert connection.execute(select(func.max(WORKER.c.tally_spans_ms))).scalar() > last_ms
    company = BatchNote(id="twice", size=1, position=0, takes=["x"])
    made = attempt(takes(1)[0], "rejected", worker_id, at_ms=machine.at_ms, record_id="twice", batch=company)
    machine.record(a_span(worker_id, machine.at_ms - 60_000, machine.at_ms, batch_id="twice"), made)
    assert_as_anew(ledger)


def test_a_take_that_fails_with_its_last_worker_is_counted_by_whatever_clock(ledger):
    machine = Machine(ledger)
    machine.go_on(6)
    worker_id = machine.worker_id()
    poison(ledger, worker_id)
    tries = sum(row.attempts for row in so_far(post(ledger)))
    with ledger.write() as connection:
        assert work.lose_held(connection, worker_id, machine.at_ms - 5 * HOUR_MS) == 1
    assert sum(row.attempts for row in so_far(post(ledger))) == tries + 1
    assert_as_anew(ledger)


def poison(ledger, worker_id):
    """A take that a worker holds, and that so many were lost with that the next is one too many."""
    with ledger.write() as connection:
        take_id = connection.execute(select(func.min(TAKE.c.take_id)).where(TAKE.c.state != "accepted")).scalar()
        held = {"state": "sent", "held_by": worker_id, "losses": work.LOSSES_MAX - 1}
        connection.execute(update(TAKE).where(TAKE.c.take_id == take_id).values(**held))


def test_adopting_a_take_that_nobody_here_has_made_leaves_tallies_as_they_are(ledger, wholes):
    machine = Machine(ledger)
    machine.go_on(6)
    post(ledger)
    machine.record(attempt(takes(1)[0], "accepted", machine.worker_id(), at_ms=machine.at_ms, adopted=True))
    post(ledger)
    assert wholes == [POD]
    assert_as_anew(ledger)


def test_the_order_in_which_a_database_gives_workers_back_says_nothing(ledger):
    """Postgres gives a row that was changed after the others."""
    machine = Machine(ledger, begin_ms=DECEMBER - 20 * HOUR_MS)  # so that their lives reach into a posted month
    machine.go_on(24)
    with ledger.read() as connection:
        facts = rental_facts.read(connection, POD, price_of)
    turned = replace(facts, lives=facts.lives[::-1])
    assert len(facts.lives) == 2
    assert tallies.Living.of(turned, "UTC").note("busy") == tallies.Living.of(facts, "UTC").note("busy")


def test_a_span_that_was_held_up_fills_the_silence_that_was_added_up(ledger, wholes):
    machine = Machine(ledger)
    held = machine.spans.pop(next(n for n, row in enumerate(machine.spans) if row["state"] == "render"))
    machine.go_on(20)
    before = so_far(post(ledger))
    machine.record(a_span(held["worker_id"], held["start_ms"], held["end_ms"], batch_id=held["batch_id"]))
    found = so_far(post(ledger))
    assert wholes == [POD, POD]
    assert found != before
    assert found == so_far(anew(ledger))

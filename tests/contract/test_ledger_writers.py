"""Writers of one ledger take turns, and nobody waits for ever: on SQLite and on Postgres alike."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from catalog.errors import BusyError, LedgerError
from catalog.queues import queue_of
from orchestrator.ledger import database, open_ledger, plans, work
from tests.contract.test_ledger import record, states
from tests.support.farm import attempt, heartbeat, started, takes
from tests.support.makers import exactly

# SQLite's lock ends with its process only, and the driver decides how long its writers wait.
ON_POSTGRES = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


@pytest.fixture
def ledger(database_url):
    opened = open_ledger(database_url)
    yield opened
    opened.close()


@ON_POSTGRES
def test_a_run_to_which_takes_are_being_added_is_not_finished(ledger):
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly(takes(1))).run_id
    record(ledger, attempt(takes(1)[0]))

    def finish() -> list[str]:
        with ledger.write() as connection:
            return work.finish_runs(connection, [run_id], 9_000)

    with ThreadPoolExecutor(1) as other, ledger.write() as connection:
        plans.begin_or_resume(connection, "spring", plans.RunTerms("tone"), exactly(takes(2)), 8_000)
        finishing = other.submit(finish)
        time.sleep(0.3)  # it waits for us, or would have seen a run without anything left to make
        assert not finishing.done()
        connection.commit()
        assert finishing.result(timeout=10) == []
    assert ledger.unfinished_run("spring").run_id == run_id


def test_a_plan_and_records_of_the_same_takes_never_lock_each_other_out(ledger, monkeypatch):
    monkeypatch.setattr(plans, "_ROWS_AT_ONCE", 1)
    one, other = sorted(takes(2), key=lambda take: take.id)
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly([one, other])).run_id
    with ledger.write() as connection:
        work.mark_next_sent(connection, run_id, queue_of(one.spec), 2, 1_000)
    record(ledger, attempt(one, "failed"), attempt(other, "failed"))
    late: list[Future[None]] = []

    def the_other_way_round():
        yield other
        late.append(pool.submit(record, ledger, heartbeat([one.id, other.id])))
        time.sleep(0.3)  # it has the first row by now, or waits for us before it takes any
        yield one

    with ThreadPoolExecutor(1) as pool:
        begun = ledger.begin_or_resume_run("spring", "tone", exactly(the_other_way_round()))
        late[0].result(timeout=20)
    assert begun.again == 2
    assert states(ledger, begun.run_id) == {"sent": 2}


@ON_POSTGRES
def test_a_writer_that_never_ends_is_said_in_words(ledger, monkeypatch):
    patience = database._BEGIN_WRITING["postgresql"].replace("30s", "200ms")
    monkeypatch.setitem(database._BEGIN_WRITING, "postgresql", patience)
    with ledger.write(), pytest.raises(LedgerError) as caught:
        record(ledger, started())
    assert "another program held it" in caught.value.why


def test_the_second_writer_is_told_who_the_first_is(ledger, database_url):
    program = (
        "import sys; from orchestrator.ledger import open_ledger; from catalog.errors import BusyError\n"
        "try: open_ledger(sys.argv[1]).writer_lock().acquire()\n"
        "except BusyError as error: print(error.what)\n"
        "else: print('taken')"
    )
    with ledger.writer_lock():
        other = subprocess.run(
            [sys.executable, "-c", program, database_url], capture_output=True, text=True, check=True
        )
        with pytest.raises(BusyError):
            ledger.writer_lock().acquire()
    assert "pid" in other.stdout
    ledger.writer_lock().acquire()


@ON_POSTGRES
def test_a_lock_that_was_lost_with_its_session_is_taken_again_once_the_server_is_back(ledger):
    lock = ledger.writer_lock()
    lock.acquire()
    there = lock._engine
    session = lock._connection.execute(text("select pg_backend_pid()")).scalar()
    with ledger.write() as connection:
        connection.execute(text("select pg_terminate_backend(:pid)"), {"pid": session})
    lock._engine = create_engine("postgresql+psycopg://127.0.0.1:1/none")
    for _ in range(2):  # the outage goes on
        with pytest.raises(LedgerError):
            lock.verify(now=True)
    lock._engine = there
    lock.verify()
    with pytest.raises(BusyError):
        ledger.writer_lock().acquire()
    lock.release()


def test_reading_goes_on_while_another_writes(ledger):
    ledger.begin_or_resume_run("spring", "tone", exactly(takes(2)))
    with ledger.write() as writer:
        writer.execute(text("update take set tries = 1"))
        assert len(ledger.known_takes("spring")) == 2

"""The ledger keeps its promises on SQLite and on Postgres alike."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from catalog.errors import LedgerError, StoreFullError, UnknownNameError
from catalog.messages import AttemptMade, Span, SpansClosed
from catalog.queues import queue_of
from catalog.sidecar import Plan
from orchestrator.finance.allocation.posting import draft_rental
from orchestrator.finance.books import rentals as rental_facts
from orchestrator.ledger import Ledger, open_ledger, readings, work
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.migrations import HEAD, script_heads
from orchestrator.ledger.tables import Row
from orchestrator.ledger.triggers import APPEND_ONLY, trigger_names
from orchestrator.planning import history
from tests.support.farm import DOLLAR_AN_HOUR, attempt, heartbeat, started, takes
from tests.support.makers import a_batch, a_sidecar, exactly
from tests.support.new_ledgers import by_alembic
from tests.support.time_facts import read_time_facts

TONE_QUEUE = queue_of(takes(1)[0].spec)


@pytest.fixture
def ledger(database_url):
    opened = open_ledger(database_url)
    yield opened
    opened.close()


def record(ledger: Ledger, *records) -> None:
    with ledger.write() as connection:
        record_facts(connection, records, lambda machine, at_ms: DOLLAR_AN_HOUR, max(each.at_ms for each in records))


def states(ledger: Ledger, run_id: str) -> dict[str, int]:
    with ledger.read() as connection:
        return {name: count for name, count in readings.count_takes(connection, run_id)._asdict().items() if count}


def test_the_migrations_make_exactly_the_tables(database_url):
    with by_alembic(), closing(open_ledger(database_url)) as ledger, ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Row.metadata) == []
    assert script_heads() == [HEAD]


def test_opening_again_changes_nothing_and_keeps_what_is_there(ledger, database_url):
    ledger.begin_or_resume_run("spring", "tone", exactly(takes(2)))
    again = open_ledger(database_url)
    assert len(again.known_takes("spring")) == 2
    again.close()


def test_every_trigger_is_there(ledger):
    query = {
        "sqlite": "select name from sqlite_master where type = 'trigger'",
        "postgresql": "select tgname from pg_trigger where not tgisinternal",
    }[ledger.engine.dialect.name]
    with ledger.read() as connection:
        found = set(connection.execute(text(query)).scalars())
    assert found >= trigger_names()


def write_a_row_of_the_books(connection, name: str) -> None:
    """Some row, where records have not made one: a trigger for each row needs one to guard."""
    table = Row.metadata.tables[name]
    if connection.execute(table.select().limit(1)).first() is not None:
        return
    for key in table.foreign_keys:
        write_a_row_of_the_books(connection, key.column.table.name)
    allowed = {"meter": "gpu", "kind": "work", "scope": "month", "outcome": "accepted"}
    row = {
        column.name: allowed.get(column.name, {int: 0, bool: True}.get(column.type.python_type, "0"))
        for column in table.columns
        if not column.nullable
    }
    connection.execute(table.insert().values(row))


@pytest.mark.parametrize("change", ["update {} set worker_id = 'x'", "delete from {}"])
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_facts_cannot_be_changed(ledger, table, change):
    spans = SpansClosed(worker_id="w1", spans=[Span(state="render", start_ms=1, end_ms=2)])
    record(ledger, attempt(takes(1)[0]), spans)
    column = next(iter(Row.metadata.tables[table].primary_key)).name
    statement = change.format(table).replace("worker_id = 'x'", f"{column} = {column}")
    with ledger.write() as connection:
        write_a_row_of_the_books(connection, table)
    with pytest.raises((DBAPIError, LedgerError), match="append-only"), ledger.write() as connection:
        connection.execute(text(statement))


def test_facts_cannot_be_replaced_or_truncated(ledger):
    record(ledger, attempt(takes(1)[0]))
    statement = {
        "sqlite": "insert or replace into attempt select * from attempt",
        "postgresql": "truncate attempt",
    }[ledger.engine.dialect.name]
    with pytest.raises((DBAPIError, LedgerError), match="append-only"), ledger.write() as connection:
        connection.execute(text(statement))


def test_a_newer_schema_is_refused_and_left_alone(ledger, database_url):
    with ledger.write() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(LedgerError, match="newer version"):
        open_ledger(database_url)
    with ledger.read() as connection:
        assert connection.execute(text("select version_num from alembic_version")).scalar() == "9999"


def test_a_plan_is_written_once_and_a_second_time_changes_nothing(ledger):
    first = ledger.begin_or_resume_run("spring", "tone", exactly(takes(5)), 100)
    second = ledger.begin_or_resume_run("spring", "tone", exactly(takes(5)), 200)
    assert (first.new, first.pending, first.resumed) == (5, 5, False)
    assert second.run_id == first.run_id
    assert (second.new, second.again, second.pending, second.resumed) == (0, 0, 5, True)
    assert ledger.unfinished_run("spring").max_usd_micros == 200


def test_a_take_that_stands_twice_in_a_plan_is_one_take(ledger):
    assert ledger.begin_or_resume_run("spring", "tone", exactly(takes(3) + takes(3))).new == 3


def test_a_changed_preset_replaces_what_it_changed_and_cancels_the_old(ledger):
    run = ledger.begin_or_resume_run("spring", "tone", exactly(takes(3)))
    record(ledger, attempt(takes(3)[0]))
    changed = [takes(3)[0], takes(3)[1], *takes(3, caption="loud brass")[2:]]
    begun = ledger.begin_or_resume_run("spring", "tone", exactly(changed))
    assert (begun.new, begun.unchanged, begun.dropped, begun.pending) == (1, 1, 1, 2)
    assert states(ledger, run.run_id) == {"accepted": 1, "waiting": 2, "cancelled": 1}
    assert {known.take_id for known in ledger.known_takes("spring").values()} == {take.id for take in changed}


def test_a_preset_changed_back_finds_its_old_takes(ledger):
    ledger.begin_or_resume_run("spring", "tone", exactly(takes(2)))
    record(ledger, *[attempt(take) for take in takes(2)])
    ledger.begin_or_resume_run("spring", "tone", exactly(takes(2, caption="loud brass")))
    back = ledger.begin_or_resume_run("spring", "tone", exactly(takes(2)))
    assert (back.new, back.unchanged, back.dropped, back.pending, back.run_id) == (0, 2, 2, 0, None)
    assert ledger.unfinished_run("spring") is None
    assert {known.take_id for known in ledger.known_takes("spring").values()} == {take.id for take in takes(2)}


def test_failed_takes_wait_again_and_rejected_ones_stay(ledger):
    bad, poor = takes(2)
    ledger.begin_or_resume_run("spring", "tone", exactly([bad, poor]))
    record(ledger, attempt(bad, "failed"), attempt(poor, "rejected"))
    begun = ledger.begin_or_resume_run("spring", "tone", exactly([bad, poor]))
    assert (begun.again, begun.unchanged, begun.pending) == (1, 1, 1)


def test_a_plan_that_breaks_off_leaves_the_old_one(ledger):
    def broken():
        yield from takes(3)
        raise RuntimeError("the preset file has gone")

    with pytest.raises(RuntimeError):
        ledger.begin_or_resume_run("spring", "tone", exactly(broken()))
    assert ledger.known_takes("spring") == {}
    assert ledger.unfinished_run("spring") is None


def test_a_full_disk_is_said_in_words_and_leaves_the_ledger_whole(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.begin_or_resume_run("spring", "tone", exactly(takes(5)))
    with ledger.engine.connect() as connection:
        pages = connection.exec_driver_sql("pragma page_count").scalar()
        connection.exec_driver_sql(f"pragma max_page_count = {pages + 5}")  # the connection is kept in the pool
    with pytest.raises(StoreFullError, match="no space left"):
        ledger.begin_or_resume_run("summer", "tone", exactly(takes(500, catalog="summer")))
    assert len(ledger.known_takes("spring")) == 5
    assert ledger.known_takes("summer") == {}


def test_facts_written_twice_are_there_once(ledger):
    run = ledger.begin_or_resume_run("spring", "tone", exactly(takes(1)))
    made = attempt(takes(1)[0])
    record(ledger, started(), made, made)
    record(ledger, started(), made)
    with ledger.read() as connection:
        assert connection.execute(text("select count(*) from attempt")).scalar() == 1
        assert connection.execute(text("select count(*) from rendition")).scalar() == 1
    assert states(ledger, run.run_id) == {"accepted": 1}


def test_a_second_rendition_is_an_attempt_and_changes_nothing(ledger):
    (take,) = takes(1)
    ledger.begin_or_resume_run("spring", "tone", exactly([take]))
    record(ledger, attempt(take, worker_id="w1"))
    record(ledger, attempt(take, worker_id="w2"))
    with ledger.read() as connection:
        assert connection.execute(text("select count(*) from attempt")).scalar() == 2
    assert ledger.find_rendition(take.id).worker_id == "w1"


def test_an_accepted_take_comes_back_as_it_was_sent(ledger):
    take = takes(1, caption='Café „Übermut“ – 夜 "quoted" 🎷')[0]
    ledger.begin_or_resume_run("spring", "tone", exactly([take]))
    record(ledger, attempt(take))
    with ledger.read() as connection:
        (listed,) = readings.list_tracks(connection, "spring", zone="spa")
        assert readings.list_tracks(connection, "spring", zone="pool") == []
    assert listed.take == take
    assert listed.rendition.dit_seed == take.dit_seed
    assert listed.metadata == {}
    assert ledger.find_rendition(take.id).sidecar["take_id"] == take.id


def test_a_track_is_listed_with_what_its_planner_chose(ledger):
    (take,) = takes(1)
    ledger.begin_or_resume_run("spring", "tone", exactly([take]))
    chosen = {"bpm": 77, "keyscale": "A minor", "timesignature": 3}
    plan = Plan(codes=[1, 2, 3], metadata=chosen, prompt_sha256="0" * 64, batch_key="b")
    record(ledger, AttemptMade.of(a_sidecar(take).model_copy(update={"plan": plan})))
    with ledger.read() as connection:
        (listed,) = readings.list_tracks(connection, "spring")
    assert listed.metadata == chosen


def test_a_rendition_is_found_by_the_beginning_of_its_id(ledger):
    many = takes(40)
    ledger.begin_or_resume_run("spring", "tone", exactly(many))
    record(ledger, *[attempt(take) for take in many])
    assert ledger.find_rendition(many[0].id[:12]).take_id == many[0].id
    assert ledger.find_rendition("%") is None
    assert ledger.find_rendition("f" * 24) is None
    shared = next(a.id[:1] for a in many for b in many if a is not b and a.id[0] == b.id[0])
    with pytest.raises(UnknownNameError, match="several"):
        ledger.find_rendition(shared)


def test_takes_are_sent_in_bucket_order(ledger):
    mixed = [*takes(3, duration_s=120), *takes(3, duration_s=20, caption="b"), *takes(3, duration_s=60, caption="c")]
    run = ledger.begin_or_resume_run("spring", "tone", exactly(mixed))
    with ledger.write() as connection:
        first = work.mark_next_sent(connection, run.run_id, TONE_QUEUE, 5, 1)
        rest = work.mark_next_sent(connection, run.run_id, TONE_QUEUE, 50, 1)
    lengths = [each.message.take.spec.duration_s for each in first + rest]
    assert lengths == sorted(lengths)
    assert len({each.message.take.id for each in first + rest}) == len(lengths)


def test_money_spent_is_the_workers_time_times_its_rate(ledger):
    run = ledger.begin_or_resume_run("spring", "tone", exactly(takes(1)))
    at = ledger.unfinished_run("spring").started_at_ms
    alive = started(started_at_ms=at, at_ms=at)
    record(ledger, alive, heartbeat([], at_ms=at + 3_600_000))
    with ledger.read() as connection:
        assert readings.spend_of_run(connection, readings.get_run(connection, run.run_id)).usd_micros == 1_000_000


def test_only_this_machines_workers_are_taken_for_ended_and_one_that_speaks_again_is_not(ledger):
    record(ledger, started("here", host="h"), started("there", host="fleet"), heartbeat([], "here", at_ms=4_000))
    with ledger.write() as connection:
        work.end_workers(connection, "h", "killed")
    with ledger.read() as connection:
        ended = {worker.worker_id: worker.ended_at_ms for worker in readings.latest_workers(connection, 9)}
    assert ended == {"here": 4_000, "there": None}
    record(ledger, heartbeat([], "here", at_ms=9_000))
    with ledger.read() as connection:
        ended = {worker.worker_id: worker.ended_at_ms for worker in readings.latest_workers(connection, 9)}
    assert ended == {"here": None, "there": None}


def test_a_run_on_one_machine_recalls_its_own_takes_and_no_others(ledger):
    ours, other = (
        ledger.begin_or_resume_run(name, "tone", exactly(takes(2, catalog=name))).run_id
        for name in ("spring", "autumn")
    )
    with ledger.write() as connection:
        for run_id in (ours, other):
            work.mark_next_sent(connection, run_id, TONE_QUEUE, 9, 1_000)
        assert work.recall_sent(connection, ours, 2_000) == 2
    assert states(ledger, ours) == {"waiting": 2}
    assert states(ledger, other) == {"sent": 2}


def test_a_worker_without_a_price_is_named_and_never_free(ledger):
    run = ledger.begin_or_resume_run("spring", "tone", exactly(takes(1)))
    at = ledger.unfinished_run("spring").started_at_ms
    with ledger.write() as connection:
        record_facts(connection, [started(at_ms=at + 5)], lambda machine, at_ms: None, at + 5)
    with ledger.read() as connection:
        spend = readings.spend_of_run(connection, readings.get_run(connection, run.run_id))
    assert spend.unpriced == ("gpu",)


@pytest.mark.parametrize("order", [("loading", "ready"), ("ready", "loading")])
def test_a_worker_that_ended_while_it_was_loading_costs_what_its_host_costs(ledger, order):
    said = {"gpu": "", "model_fingerprint": "", "batch_limit": 0, "batch_limit_reason": "loading"}
    for name in order:
        record(ledger, started(name, **(said if name == "loading" else {}), host="rented"))
    record(ledger, started("elsewhere", **said, host="other"))
    with ledger.read() as connection:
        rows = connection.execute(text("select worker_id, gpu, rate_usd_micros_per_h from worker")).all()
    rates = {worker: (gpu, rate) for worker, gpu, rate in rows}
    assert rates["loading"] == rates["ready"]
    assert rates["ready"][1]
    assert rates["elsewhere"] == ("", None)


def test_a_file_that_is_no_database_is_refused_in_words(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is a letter, not a database" * 100)
    with pytest.raises(LedgerError) as caught:
        open_ledger(f"sqlite:///{path}")
    assert "not an SQLite database" in caught.value.why


def test_a_server_that_is_down_is_refused_in_words_without_the_password():
    with pytest.raises(LedgerError) as caught:
        open_ledger("postgresql://me:geheim@127.0.0.1:1/ledger")
    assert "does not answer" in caught.value.why
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "redis://localhost", "sqlite+foo:///x"])
def test_an_address_of_another_kind_is_refused_in_words(url):
    with pytest.raises(LedgerError, match="TUNEMILL_DATABASE_URL"):
        open_ledger(url)


def test_time_and_speeds_are_read_alike(ledger):
    plan = takes(2)
    ledger.begin_or_resume_run("spring", "tone", exactly(plan))
    loading = Span(state="startup", start_ms=1_000, end_ms=1_500)
    spans = SpansClosed(worker_id="w1", spans=[loading], at_ms=1_500)
    record(ledger, started(), spans, *(attempt(take, audio_ms=10_000) for take in plan))
    facts = read_time_facts(ledger)
    assert [(life.worker_id, life.ms) for life in facts.lives] == [("w1", 2_000)]
    found = history.read_history(ledger.engine, model="tone", same_gpu=lambda name, sku: True)
    ((key, speed),) = found.speeds.items()
    assert (key.planner, key.diffusion) == ("", plan[0].spec.diffusion.as_fast)
    assert (speed.ms_per_audio_s, speed.takes) == (10.0, 2)


def test_a_planner_call_is_paid_for_by_the_takes_that_were_rendered_from_it(ledger):
    one, other = takes(2)
    ledger.begin_or_resume_run("spring", "tone", exactly([one, other]))
    planned = Span(state="plan", start_ms=1_000, end_ms=3_601_000, batch_id="p")
    batch = a_batch(one).model_copy(update={"plan_id": "p", "plan_size": 2})
    spans = SpansClosed(worker_id="w1", spans=[planned], at_ms=3_601_000)
    record(ledger, started(), attempt(one, "rejected", batch=batch), attempt(other), spans)
    with ledger.read() as connection:
        facts = rental_facts.read(connection, "local/w1", lambda machine, at_ms: None)
    (estimate, _) = draft_rental(facts, "UTC")
    assert [(str(entry.category), entry.usd_micros) for entry in estimate.entries] == [("rejected", 1_000_000)]


def test_the_use_of_a_workers_last_hour_is_read_alike(ledger):
    hour = 3_600_000
    spans = [
        Span(state="startup", start_ms=1_000, end_ms=hour),
        Span(state="plan", start_ms=hour, end_ms=2 * hour, batch_id="p"),
        Span(state="render", start_ms=2 * hour, end_ms=5 * hour // 2, batch_id="b"),
        Span(state="idle", start_ms=5 * hour // 2, end_ms=11 * hour // 4, cause="no work"),
    ]
    record(ledger, started(), started("w2"), SpansClosed(worker_id="w1", spans=spans, at_ms=11 * hour // 4))
    with ledger.read() as connection:
        use = readings.latest_time_use(connection, ["w1", "w2"], hour)
    assert use["w1"].ms == {("plan", ""): hour // 4, ("render", ""): hour // 2, ("idle", "no work"): hour // 4}
    assert use["w2"].busy_share is None


def test_an_attempt_whose_worker_died_before_it_could_report_is_known_from_the_sidecar_it_left(ledger):
    (take,) = takes(1)
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly([take])).run_id
    dead = attempt(take, run_id=run_id, worker_id="w1")
    sidecar = dead.sidecar.model_copy(update={"record_id": dead.record_id})
    adopted = attempt(take, run_id=run_id, worker_id="w2", adopted=True).model_copy(update={"sidecar": sidecar})
    record(ledger, started("w1"), started("w2"), adopted)
    with ledger.read() as connection:
        query = text("select record_id, worker_id, adopted from attempt order by adopted")
        rows = [tuple(row) for row in connection.execute(query)]
        (rendition,) = connection.execute(text("select record_id from rendition")).scalars()
        (named,) = connection.execute(text("select rendition_id from take")).scalars()
    assert rows == [(dead.record_id, "w1", False), (adopted.record_id, "w2", True)]
    assert rendition == named == dead.record_id
    record(ledger, dead.model_copy(update={"sidecar": sidecar}))  # it comes after all
    with ledger.read() as connection:
        assert connection.execute(text("select count(*) from attempt")).scalar() == 2


def test_a_sidecar_from_before_this_ledger_brings_no_attempt_of_a_worker_it_does_not_know(ledger):
    (take,) = takes(1)
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly([take])).run_id
    adopted = attempt(take, run_id=run_id, worker_id="w2", adopted=True)
    sidecar = adopted.sidecar.model_copy(update={"record_id": "old", "worker_id": "long gone"})
    record(ledger, started("w2"), adopted.model_copy(update={"sidecar": sidecar}))
    with ledger.read() as connection:
        assert connection.execute(text("select worker_id from attempt")).scalars().all() == ["w2"]

"""A ledger of an earlier version is brought up to date with everything that is in it, on SQLite and on Postgres."""

from __future__ import annotations

from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.exc import DBAPIError

from catalog.errors import LedgerError
from catalog.messages import Heartbeat, MemoryUse, Span, SpansClosed
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.books.books import update_books
from orchestrator.ledger import Ledger, open_ledger, readings
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.migrations import HEAD, alembic_config, script_heads
from orchestrator.ledger.tables import ATTEMPT, SPAN, WORKER, Row
from orchestrator.ledger.triggers import APPEND_ONLY, ensure_triggers, trigger_names
from tests.support.time_facts import read_time_facts

OLD_RUN = {"run_id": "r", "catalog": "spring", "model": "tone", "state": "active", "started_at_ms": 1}
OLD_WORKER = {
    **{"worker_id": "w1", "host": "h", "gpu": "A100", "vram_gib": 80.0, "model": "tone", "model_fingerprint": "f"},
    **{"code": "c", "noise": False, "batch_limit": 4, "batch_limit_reason": "table", "started_at_ms": 1_000},
    **{"last_seen_ms": 9_000, "price_sku": "a100", "price_source": "book", "rate_usd_micros_per_h": 1_640_000},
}
OLD_SPANS = [
    {"worker_id": "w1", "start_ms": 1_000, "end_ms": 2_000, "state": "startup", "batch_id": "", "cause": ""},
    {"worker_id": "w1", "start_ms": 2_000, "end_ms": 5_000, "state": "render", "batch_id": "b", "cause": ""},
    {"worker_id": "w1", "start_ms": 5_000, "end_ms": 9_000, "state": "idle", "batch_id": "", "cause": "no work"},
]
OLD_ATTEMPT = {
    **{"record_id": "a", "take_id": "t", "run_id": "r", "worker_id": "w1", "outcome": "rejected"},
    **{"reasons": ["silence"], "adopted": False, "batch_id": "b", "batch_size": 1, "at_ms": 5_000, "audio_ms": 60_000},
    **{"plan_ms": 0, "encode_ms": 1, "diffuse_ms": 2_000, "decode_ms": 900, "post_ms": 5},
}


def in_version(url: str, revision: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Make the ledger as the program of that version made it, with `rows` in its tables."""
    engine = create_engine(url)
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), revision)
        ensure_triggers(connection)
        for name, listed in rows.items():
            connection.execute(insert(Table(name, MetaData(), autoload_with=connection)), listed)
    engine.dispose()


@pytest.fixture
def ledger(database_url):
    in_version(
        database_url, "0001", {"run": [OLD_RUN], "worker": [OLD_WORKER], "span": OLD_SPANS, "attempt": [OLD_ATTEMPT]}
    )
    opened = open_ledger(database_url)
    yield opened
    opened.close()


def rows(ledger: Ledger, table: Table) -> list[dict[str, Any]]:
    with ledger.read() as connection:
        return [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]


def triggers(engine: Engine) -> set[str]:
    query = {
        "sqlite": "select name from sqlite_master where type = 'trigger'",
        "postgresql": "select tgname from pg_trigger where not tgisinternal",
    }[engine.dialect.name]
    with engine.connect() as connection:
        return set(connection.execute(text(query)).scalars())


def test_the_first_versions_rows_are_all_there_and_say_nothing_of_what_came_later(ledger):
    assert rows(ledger, SPAN) == OLD_SPANS
    (attempt,) = rows(ledger, ATTEMPT)
    assert attempt == {**OLD_ATTEMPT, "plan_id": ""}
    (worker,) = rows(ledger, WORKER)
    assert worker.items() >= OLD_WORKER.items()
    assert (worker["plan_limit"], worker["holds_max"], worker["rss_mib"]) == (0, 0, None)
    assert read_time_facts(ledger).lives[0].usd_micros == 8_000 * 1_640_000 // 3_600_000


def test_time_from_before_is_posted_when_the_first_report_is_asked_for(ledger):
    with ledger.write() as connection:
        connection.execute(text("update worker set ended_at_ms = 9000"))
    update_books(ledger, time_zone="UTC", price_of=lambda machine, at_ms: None, at_ms=10_000)
    with ledger.read() as connection:
        found = cost_readings.read_rows(connection)
    assert sum(row.usd_micros for row in found) == 8_000 * 1_640_000 // 3_600_000
    assert {row.provider for row in found} == {"local"}


def test_the_migrated_schema_is_the_one_of_a_new_ledger_with_all_its_triggers(ledger):
    with ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Row.metadata) == []
        assert context.get_current_revision() == HEAD == script_heads()[0]
    assert triggers(ledger.engine) >= trigger_names()


@pytest.mark.parametrize("table", sorted({"attempt", "span"} & set(APPEND_ONLY)))
@pytest.mark.parametrize("change", ["update {} set worker_id = 'x'", "delete from {}"])
def test_facts_from_before_cannot_be_changed_either(ledger, table, change):
    with pytest.raises((DBAPIError, LedgerError), match="append-only"), ledger.write() as connection:
        connection.execute(text(change.format(table)))


def test_a_migrated_ledger_takes_spans_of_planner_calls_and_refuses_states_nobody_knows(ledger):
    planned = Span(state="plan", start_ms=9_000, end_ms=9_500, batch_id="p")
    with ledger.write() as connection:
        record_facts(connection, [SpansClosed(worker_id="w1", spans=[planned])], lambda machine, at_ms: None, 1)
    assert rows(ledger, SPAN)[-1]["state"] == "plan"
    with pytest.raises(LedgerError), ledger.write() as connection:
        connection.execute(text("insert into span values ('w1', 10000, 10001, 'asleep', '', '')"))


def test_a_migrated_ledger_takes_what_a_heartbeat_says_of_memory(ledger):
    memory = MemoryUse(rss_mib=2_000.5, device_mib=30_000, growth_mib_per_100_takes=1.5)
    beats = [Heartbeat(worker_id="w1", held=[], memory=memory), Heartbeat(worker_id="w1", held=[])]
    with ledger.write() as connection:
        record_facts(connection, beats, lambda machine, at_ms: None, 1)
    with ledger.read() as connection:
        (worker,) = readings.latest_workers(connection, 9)
    assert (worker.rss_mib, worker.device_mib, worker.growth_mib_per_100_takes) == (2_000.5, 30_000, 1.5)

"""What an earlier version has written is read by this one: orders, records, sidecars, ledgers, prices, mappings."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
import yaml
from sqlalchemy import create_engine, select, text

from catalog.messages import parse_record, parse_render
from catalog.settings import Settings
from catalog.sidecar import parse_sidecar
from catalog.track import Take
from orchestrator.finance.books.books import update_books
from orchestrator.finance.books.budgets import no_price
from orchestrator.finance.invoices.mapped import Mapping
from orchestrator.finance.prices.book import read_price_book
from orchestrator.ledger import open_ledger, readings
from orchestrator.ledger.tables import RENDITION, TAKE
from orchestrator.matrix import load_catalog
from orchestrator.planning.plan import make_plan

GOLDEN = Path(__file__).parents[1] / "support" / "golden"
VERSIONS = sorted(path.parent for path in GOLDEN.glob("*/orders.jsonl"))
PRESETS = Path(__file__).parents[2] / "presets"

pytestmark = pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_orders_are_read_and_written_as_they_were(version):
    orders = lines(version / "orders.jsonl")
    assert orders
    for order in orders:
        assert parse_render(order).model_dump(mode="json") == order


def test_records_of_every_kind_are_read_and_written_as_they_were(version):
    records = lines(version / "records.jsonl")
    assert {record["kind"] for record in records} >= {
        *("worker_started", "heartbeat", "spans_closed", "attempt_made", "takes_returned", "worker_stopped")
    }
    for record in records:
        assert parse_record(record).model_dump(mode="json") == record


def test_sidecars_are_read_and_written_byte_for_byte(version):
    files = sorted((version / "sidecars").glob("*.json"))
    assert files
    for file in files:
        sidecar = parse_sidecar(file.read_bytes(), file.stem)
        assert sidecar.to_json() == file.read_bytes()
        assert sidecar.take.id == file.stem, "what a take is called follows from what it is"


def a_ledger_of(version: Path, database_url: str) -> None:
    if database_url.startswith("sqlite"):
        with sqlite3.connect(database_url.removeprefix("sqlite:///")) as connection:
            connection.executescript((version / "ledger.sqlite.sql").read_text())
        return
    script = [line for line in (version / "ledger.postgres.sql").read_text().splitlines() if line[:1] != "\\"]
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.connection.driver_connection.execute("\n".join(script))
        connection.execute(text("select set_config('search_path', 'public', false)"))
    engine.dispose()


def test_a_ledger_is_brought_up_to_date_and_says_the_same(version, database_url):
    a_ledger_of(version, database_url)
    before = create_engine(database_url)
    with before.connect() as connection:
        takes = connection.execute(text("select take_id, state, rendition_id from take order by take_id")).all()
        booked = connection.execute(text("select sum(usd_micros), max(period) from cost_monthly")).one()
        seen_ms = connection.execute(text("select max(last_seen_ms) from worker")).scalar()
    before.dispose()
    ledger = open_ledger(database_url)
    with ledger.read() as connection:
        after = connection.execute(text("select take_id, state, rendition_id from take order by take_id")).all()
        tracks = readings.list_tracks(connection)
        rows = connection.execute(RENDITION.select()).mappings().all()
        sounds = connection.execute(select(TAKE.c.sound_id, TAKE.c.message)).all()
    assert [sound_id for sound_id, _ in sounds] == [Take.model_validate(message).sound_id for _, message in sounds]
    assert [tuple(row) for row in after] == [tuple(row) for row in takes]
    assert {track.take.id for track in tracks} <= {row["take_id"] for row in rows}
    assert all(parse_sidecar(json.dumps(row["sidecar"]).encode(), row["take_id"]) for row in rows)
    update_books(ledger, time_zone="UTC", price_of=no_price, at_ms=seen_ms + 1_000)
    with ledger.read() as connection:
        assert connection.execute(text("select sum(usd_micros), max(period) from cost_monthly")).one() == booked
    ledger.close()


def test_price_files_and_a_mapping_are_read(version):
    book = read_price_book(version / "prices")
    assert book.prices
    assert book.unit_prices
    assert Mapping.model_validate(yaml.safe_load((version / "mapping.yaml").read_text())).provider == "coreweave"


def test_the_shipped_catalogs_plan_the_takes_that_they_planned_then(version):
    for name, expected in json.loads((version / "take_ids.json").read_text()).items():
        catalog, model = name.split()
        found, ids = hashlib.sha256(), []
        for take in make_plan(load_catalog(catalog, PRESETS, Settings()), {}, model=model).takes():
            ids.append(take.id)
            said = f"{take.id} {take.spec.fingerprint} {take.dit_seed} {take.lm_seed} {take.track.key}\n"
            found.update(said.encode())
        assert ids[:3] == expected["first"], name
        assert (len(ids), found.hexdigest()) == (expected["takes"], expected["sha256"]), name

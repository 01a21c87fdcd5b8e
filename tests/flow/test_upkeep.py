"""A real catalog is damaged by hand, found out, repaired, made again and agreed on; and a lost ledger comes back."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Table, select

from orchestrator.ledger import open_ledger
from orchestrator.ledger.tables import ATTEMPT, RENDITION, RUN, TAKE
from orchestrator.runs.local import broker as embedded
from tests.flow.test_run import CATALOG, Machine
from tests.support.servers import missing

TRACKS = 8
IDENTITY = ("take_id", "run_id", "catalog", "zone", "genre", "track_key", "number", "title", "model", "queue", "bucket")
IDENTITY += ("duration_ms", "message", "state", "current", "rendition_id")


@pytest.fixture
def machine(short_tmp):
    try:
        embedded._find_program()
    except Exception:
        missing("a Valkey server")
    made = Machine(short_tmp / "home")
    made.catalog.write_text(CATALOG.replace("tracks: 24", f"tracks: {TRACKS}").replace("[20, 40]", "[10, 12]"))
    yield made
    made.clean_up()


def sidecars(machine: Machine) -> list[Path]:
    return sorted((machine.home / "store" / "flow" / "takes").glob("*.json"))


def audio_of(machine: Machine, sidecar: Path) -> Path:
    return machine.home / "store" / json.loads(sidecar.read_text())["audio"]["key"]


def verify(machine: Machine, *arguments: str, code: int) -> Counter[str]:
    found = machine.tunemill("catalog", "verify", *arguments, "--json")
    assert found.returncode == code, found.stdout + found.stderr
    return Counter(finding["kind"] for finding in json.loads(found.stdout)["findings"])


def test_what_is_damaged_by_hand_is_found_repaired_and_made_again(machine):
    assert machine.run().returncode == 0
    assert verify(machine, code=0) == {}
    lost, without_audio, flipped, garbled, twisted, unsaid = sidecars(machine)[:6]
    lost.unlink()
    audio_of(machine, without_audio).unlink()
    audio = audio_of(machine, flipped)
    body = bytearray(audio.read_bytes())
    body[len(body) // 2] ^= 1
    audio.write_bytes(body)
    garbled.write_text("{")
    twisted.write_text(twisted.read_text().replace('"gpu": "cpu"', '"gpu": "another"'))
    audio_of(machine, unsaid).unlink()
    unsaid.unlink()
    orphan = audio.with_name(f"{'a' * 24}-{'b' * 16}.flac")
    orphan.write_bytes(b"nobody's")
    os.utime(orphan, (1, 1))
    all_kinds = {
        "missing sidecar": 2,
        "missing audio": 1,
        "altered audio": 1,
        "damaged sidecar": 1,
        "different sidecar": 1,
        "orphan audio": 1,
    }
    assert verify(machine, "flow", code=52) == all_kinds
    assert verify(machine, "--quick", code=52) == Counter(all_kinds) - Counter({"altered audio": 1})
    shown = machine.tunemill("catalog", "verify")
    assert "altered audio" in shown.stdout
    assert "tunemill catalog repair" in shown.stderr

    dry = json.loads(machine.tunemill("catalog", "repair", "--dry-run", "--json").stdout)
    assert verify(machine, code=52) == all_kinds
    done = json.loads(machine.tunemill("catalog", "repair", "flow", "--json").stdout)
    assert (
        done["repairs"]
        == dry["repairs"]
        == {
            **dict.fromkeys(done["repairs"], 0),
            "believe": 1,
            "restore": 2,
            "make again": 3,
        }
    )
    assert (done["waiting"], done["orphans_left"]) == (dry["waiting"], dry["orphans_left"]) == (3, 1)
    again = machine.tunemill("catalog", "repair")
    assert "nothing to repair" in again.stdout
    assert verify(machine, code=52) == {"orphan audio": 1}

    run = machine.run("--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["takes"]["accepted"] == 3
    swept = json.loads(machine.tunemill("catalog", "gc", "--json").stdout)
    assert [each["key"] for each in swept["removed"]] == [str(orphan.relative_to(machine.home / "store"))]
    assert swept["bytes"] == len(b"nobody's")
    assert verify(machine, code=0) == {}
    assert "nothing to do" in machine.run().stdout
    assert machine.query("select count(*) from rendition") == [(TRACKS + 4,)]  # three made again, one believed


def rows(url: str, table: Table, columns: tuple[str, ...] = ()) -> list[dict]:
    names = columns or tuple(column.name for column in table.columns)
    ledger = open_ledger(url)
    with ledger.read() as connection:
        key = next(iter(table.primary_key))
        found = connection.execute(select(*(table.c[name] for name in names)).order_by(key)).mappings().all()
    ledger.close()
    return [dict(row) for row in found]


def test_a_lost_ledger_is_made_again_row_for_row(machine, database_url, tmp_path):
    there = {"TUNEMILL_DATABASE_URL": database_url}
    assert machine.run(**there).returncode == 0
    before = {table: rows(database_url, table) for table in (RUN, ATTEMPT, RENDITION)}
    takes_before = rows(database_url, TAKE, IDENTITY)
    assert len(before[ATTEMPT]) == len(before[RENDITION]) == TRACKS

    refused = machine.tunemill("catalog", "rebuild", **there)
    assert refused.returncode == 33
    assert "has takes already" in refused.stderr
    fresh = f"sqlite:///{tmp_path / 'new' / 'ledger.sqlite'}"
    dry = machine.tunemill("catalog", "rebuild", "--dry-run", "--json")
    assert json.loads(dry.stdout)["takes"] == TRACKS
    rebuilt = machine.tunemill("catalog", "rebuild", "--database", fresh)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert f"{TRACKS} accepted takes" in rebuilt.stdout
    assert "their costs are not in the store" in rebuilt.stderr

    assert rows(fresh, RENDITION) == before[RENDITION]
    assert rows(fresh, ATTEMPT) == before[ATTEMPT]
    assert rows(fresh, TAKE, IDENTITY) == takes_before
    (run,), (run_before,) = rows(fresh, RUN), before[RUN]
    assert {**run, "started_at_ms": 0, "finished_at_ms": 0} == {
        **run_before,
        "started_at_ms": 0,
        "finished_at_ms": 0,
        "take_usd_micros": None,
        "tries": 0,  # of a run that is over; the next one has its catalog's
    }
    assert run_before["started_at_ms"] <= run["started_at_ms"] <= run["finished_at_ms"] <= run_before["finished_at_ms"]
    here = {"TUNEMILL_DATABASE_URL": fresh}
    assert f"nothing to do: {TRACKS} unchanged" in machine.run(**here).stdout
    for command in (["catalog", "verify"], ["catalog", "list"], ["status"], ["costs", "report"]):
        answered = machine.tunemill(*command, **here)
        assert answered.returncode == 0, answered.stderr

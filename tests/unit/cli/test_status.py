"""What `status` notes of a worker: nothing of its first minutes, which say little of the hours that follow."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from catalog.messages import FAULT, Heartbeat, MemoryUse, Span, SpansClosed, WorkerStopped, now_ms
from orchestrator.cli import app as program
from orchestrator.ledger import open_ledger
from orchestrator.ledger.facts import record_facts
from tests.support.farm import DOLLAR_AN_HOUR, started

program._register()


@pytest.mark.parametrize(("minutes", "notes"), [(9, 0), (11, 2)])
def test_a_worker_is_judged_when_it_has_been_up_for_ten_minutes(tmp_path, monkeypatch, minutes, notes):
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    until_ms = now_ms()
    since_ms = until_ms - minutes * 60_000
    middle_ms = (since_ms + until_ms) // 2
    records = [
        started("w9", started_at_ms=since_ms, at_ms=until_ms),
        SpansClosed(
            worker_id="w9",
            spans=[
                Span(state="render", start_ms=since_ms, end_ms=middle_ms, batch_id="b"),
                Span(state="idle", start_ms=middle_ms, end_ms=until_ms, cause="waiting for post"),
            ],
        ),
        Heartbeat(worker_id="w9", held=[], memory=MemoryUse(rss_mib=1_000, growth_mib_per_100_takes=36.0)),
    ]
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with ledger.write() as connection:
        record_facts(connection, records, lambda machine, at_ms: DOLLAR_AN_HOUR, until_ms)
    ledger.close()
    (worker,) = json.loads(CliRunner().invoke(program.app, ["status", "--json"]).stdout)["workers"]
    assert len(worker["warnings"]) == notes
    assert worker["use_of_last_hour"]["waiting_for_post_share"] == 0.5


@pytest.mark.parametrize(
    ("reason", "replaced", "is_said"),
    [(FAULT + "other weights than named", False, True), (FAULT + "x", True, False), ("told to stop", False, False)],
)
def test_a_gpu_whose_worker_ended_by_a_fault_is_named_until_another_takes_its_place(
    tmp_path, monkeypatch, reason, replaced, is_said
):
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    at_ms = now_ms()
    records = [
        started("w9", started_at_ms=at_ms - 9_000, at_ms=at_ms, lane="1"),
        started("w8", started_at_ms=at_ms - 9_000, at_ms=at_ms, lane="0"),
        WorkerStopped(worker_id="w9", reason=reason, at_ms=at_ms),
        *([started("w10", started_at_ms=at_ms, at_ms=at_ms, lane="1")] if replaced else []),
    ]
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with ledger.write() as connection:
        record_facts(connection, records, lambda machine, at_ms: DOLLAR_AN_HOUR, at_ms)
    ledger.close()
    shown = json.loads(CliRunner().invoke(program.app, ["status", "--json"]).stdout)["workers"]
    said = [words for worker in shown for words in worker["warnings"]]
    assert said == (
        ["it is down on h, GPU 1, and nothing has taken its place: other weights than named"] if is_said else []
    )

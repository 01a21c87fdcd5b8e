"""`tunemill records`: what was set aside can be looked at on any terminal, tried again and dropped."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
import typer
from typer.testing import CliRunner

from catalog.errors import SettingsError, UnknownNameError
from catalog.messages import now_ms
from catalog.queues import queue_of
from catalog.settings import read_settings
from orchestrator.cli import records as records_command
from orchestrator.ledger import open_ledger, readings, work
from orchestrator.ledger.set_aside import SetAside, write_set_aside
from tests.support.farm import attempt, enveloped, takes
from tests.support.makers import exactly

HOSTILE = {"v": 1, "kind": "nonsense\x1b[2J", "worker_id": "w\x07\ud800", "more": ["\x1b]0;title\x07", float("nan")]}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def ask(*arguments: str):
    app = typer.Typer()
    app.callback()(lambda: None)
    records_command.register(app)
    return CliRunner().invoke(app, ["records", *arguments])


def keep(*payloads) -> None:
    with closing(open_ledger(read_settings().database)) as ledger, ledger.write() as connection:
        for at_ms, payload in enumerate(payloads):
            raw = payload if isinstance(payload, bytes) else enveloped(payload)
            known = None if isinstance(payload, bytes) else payload
            write_set_aside(
                connection, [SetAside(raw, known, "unreadable", "no\x1b[2J good")], 1_700_000_000_000 + at_ms
            )


def listed() -> list[dict]:
    return json.loads(ask("list", "--json").stdout)


def is_plain(text: str) -> bool:
    return all(each.isprintable() or each == "\n" for each in text)


def test_without_a_ledger_there_is_nothing_to_list_and_none_is_made(home):
    assert "no records" in ask("list").stdout
    assert listed() == []
    for arguments in (("show", "ab"), ("drop", "ab"), ("retry", "--all")):
        assert isinstance(ask(*arguments).exception, UnknownNameError)
    assert list(home.iterdir()) == []


def test_what_is_shown_of_a_hostile_record_is_plain_text(home):
    keep(HOSTILE, b"\x00\x1b[2J\xff not even json", {"v": 1, "kind": "attempt_made", "worker_id": "honest"})
    shown = ask("list").stdout
    assert is_plain(shown)
    assert "3 records set aside" in shown
    for row in listed():
        assert is_plain(ask("show", row["digest"][:8]).stdout)
        found = json.loads(ask("show", row["digest"], "--json").stdout)
        assert found["digest"] == row["digest"]
        assert "raw" in found
    newest = json.loads(ask("show", listed()[0]["digest"], "--json").stdout)
    assert newest["payload"] == {"v": 1, "kind": "attempt_made", "worker_id": "honest"}


def test_a_record_that_can_be_recorded_by_now_is_and_the_others_stay(home):
    take = takes(1)[0]
    with closing(open_ledger(read_settings().database)) as ledger:
        run_id = ledger.begin_or_resume_run("spring", "tone", exactly([take])).run_id
        with ledger.write() as connection:
            work.mark_next_sent(connection, run_id, queue_of(take.spec), 1, now_ms())
    keep(attempt(take, run_id=run_id, at_ms=now_ms()).model_dump(mode="json"), b"garbage")
    assert json.loads(ask("retry", "--all", "--json").stdout) == {
        "chosen": 2, "recorded": 1, "set_aside": 1, "left_to": ""
    }  # fmt: skip
    assert [row["kind"] for row in listed()] == [""]
    with closing(open_ledger(read_settings().database)) as ledger, ledger.read() as connection:
        assert readings.count_takes(connection, run_id).accepted == 1


def test_while_another_program_records_it_is_left_to_that(home):
    keep(b"garbage")
    with closing(open_ledger(read_settings().database)) as ledger, ledger.writer_lock():
        assert json.loads(ask("retry", "--all", "--json").stdout)["left_to"]
    assert [row["is_due"] for row in listed()] == [True]


def test_only_what_is_named_is_dropped(home):
    keep(b"one", b"two", b"three")
    first, second, third = listed()
    assert isinstance(ask("drop").exception, SettingsError)
    assert isinstance(ask("drop", first["digest"], "--all").exception, SettingsError)
    assert isinstance(ask("drop", first["digest"], "zz").exception, UnknownNameError)
    assert len(listed()) == 3
    ask("drop", first["digest"][:10])
    assert [row["digest"] for row in listed()] == [second["digest"], third["digest"]]
    assert json.loads(ask("drop", "--all", "--json").stdout) == {"dropped": 2}
    assert listed() == []

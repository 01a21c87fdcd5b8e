"""`tunemill pause`, `resume`, `cancel`, `retry` and `status --watch`: they do what they say, and say what they did."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from catalog.errors import BusyError, PausedError, UnknownNameError
from catalog.messages import now_ms
from orchestrator.cli import app as program
from orchestrator.ledger import open_ledger, readings, work
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.run_control import refuse_unless_going_on
from tests.support.farm import DOLLAR_AN_HOUR, attempt, started, takes
from tests.support.makers import exactly

program._register()


@pytest.fixture
def spring(tmp_path, monkeypatch):
    """A ledger with an active run of ten takes, three of them sent."""
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly(takes(10))).run_id
    with ledger.write() as connection:
        work.mark_next_sent(connection, run_id, work.waiting_queues(connection, run_id)[0], 3, 1_000)
    yield ledger
    ledger.close()


def tunemill(*arguments: str):
    return CliRunner().invoke(program.app, list(arguments))


def as_json(*arguments: str):
    answer = tunemill(*arguments, "--json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def test_a_run_is_paused_by_its_catalog_and_resumed_by_its_id(spring):
    paused = as_json("pause", "spring")
    assert (paused["state"], paused["wish"]) == ("active", "pause")
    assert [run["shown_state"] for run in as_json("status")["runs"]] == ["paused"]
    assert isinstance(tunemill("pause", "spring").exception, PausedError)
    with pytest.raises(PausedError, match="paused"):
        refuse_unless_going_on(spring.unfinished_run("spring"))
    assert as_json("resume", paused["run_id"][:6])["wish"] == ""
    assert "was not paused" in tunemill("resume", "spring").output


def test_a_cancelled_run_is_over_at_once_where_nobody_is_at_work_and_can_be_made_after_all(spring):
    cancelled = as_json("cancel", "spring")
    assert cancelled["state"] == "cancelled"
    assert cancelled["takes"]["cancelled"] == 10
    assert spring.unfinished_run("spring") is None
    again = spring.begin_or_resume_run("spring", "tone", exactly(takes(10)))
    assert (again.again, again.pending) == (10, 10)


def test_a_run_that_another_process_is_at_work_on_is_cancelled_by_that(spring):
    with spring.writer_lock():
        cancelled = as_json("cancel", "spring")
    assert (cancelled["state"], cancelled["wish"]) == ("active", "cancel")
    assert (cancelled["takes"]["sent"], cancelled["takes"]["cancelled"]) == (3, 7)
    with pytest.raises(BusyError, match="being cancelled"):
        refuse_unless_going_on(spring.unfinished_run("spring"))


def test_dead_takes_are_listed_with_their_reason_and_wait_again_when_asked(spring):
    one, other, *_ = takes(10)
    dead = [attempt(one, "failed", reasons=["the engine died"]), attempt(other, "failed", reasons=["no planner"])]
    with spring.write() as connection:
        record_facts(connection, dead, lambda machine, at_ms: DOLLAR_AN_HOUR, 1)
    assert {tuple(each["reasons"]) for each in as_json("status", "--dead")} == {("the engine died",), ("no planner",)}
    assert as_json("status")["dead"] == 2
    only_listed = tunemill("retry", "spring")
    assert "the engine died" in only_listed.output
    assert "tunemill retry spring --failed" in only_listed.output
    assert as_json("retry", "spring", "--failed", "--dry-run")["retried"] == 0
    assert as_json("retry", "spring", "--failed")["retried"] == 2
    assert as_json("status", "--dead") == []
    with spring.read() as connection:
        counts = readings.count_takes(connection, spring.unfinished_run("spring").run_id)
    assert (counts.failed, counts.waiting + counts.sent) == (0, 10)


def test_dead_takes_of_a_finished_run_wait_in_a_new_one_on_the_same_terms(spring):
    with spring.write() as connection:
        ended = [attempt(take, "failed", reasons=["no"]) for take in takes(10)]
        record_facts(connection, ended, lambda machine, at_ms: DOLLAR_AN_HOUR, 1)
        work.finish_runs(connection, [spring_run := spring_id(connection)], 5)
    retried = as_json("retry", "spring", "--failed")
    assert retried["retried"] == 10
    assert retried["run_id"] != spring_run
    assert spring.unfinished_run("spring").model == "tone"


def spring_id(connection) -> str:
    (run,) = work.active_runs(connection)
    return run.run_id


@pytest.mark.parametrize("command", ["pause", "resume", "cancel"])
def test_what_is_not_there_is_said_with_what_is(spring, command):
    refused = tunemill(command, "autumn").exception
    assert isinstance(refused, UnknownNameError)
    assert "spring" in refused.why
    assert isinstance(tunemill("retry", "autumn", "--failed").exception, UnknownNameError)


@pytest.mark.parametrize("command", ["pause", "resume", "cancel", "retry"])
def test_without_a_ledger_there_is_nothing_to_wish_for(tmp_path, monkeypatch, command):
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "none"))
    assert isinstance(tunemill(command, "spring").exception, UnknownNameError)
    assert not (tmp_path / "none").exists()


def test_a_watched_status_is_one_document_a_line_until_it_is_told_to_stop(spring, tmp_path):
    command = [sys.executable, "-c", "from orchestrator.cli import main; main()", "status", "--watch", "--json"]
    watching = subprocess.Popen([*command, "--every", "0.2"], stdout=subprocess.PIPE, text=True)
    try:
        looks = [json.loads(watching.stdout.readline()) for _ in range(2)]
        assert [look["runs"][0]["takes"]["sent"] for look in looks] == [3, 3]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=20) == 0
    finally:
        watching.kill()
        watching.stdout.close()


def test_a_paused_run_says_what_its_machines_go_on_costing(spring):
    at_ms = now_ms()
    up = [started("w1", model="tone", started_at_ms=at_ms - 9_000, at_ms=at_ms)]
    with spring.write() as connection:
        record_facts(connection, up, lambda machine, at_ms: DOLLAR_AN_HOUR, at_ms)
    assert as_json("status")["runs"][0]["paid_meanwhile"] is None
    words = " ".join(tunemill("pause", "spring").output.split())
    assert "1 machine is still paid for: $1.00 an hour, $0.00" in words
    paused_ms = spring.unfinished_run("spring").wished_at_ms
    with spring.read() as connection:
        paid = readings.paid_meanwhile(connection, spring.unfinished_run("spring"), paused_ms + 360_000)
        gone = readings.paid_meanwhile(connection, spring.unfinished_run("spring"), paused_ms + 900_000)
    assert (paid.machines, paid.usd_micros_per_h, paid.usd_micros) == (1, 1_000_000, 100_000)
    assert gone.machines == 0
    assert as_json("status")["runs"][0]["paid_meanwhile"]["machines"] == 1


def test_resume_says_who_goes_on_with_the_run(spring):
    tunemill("pause", "spring")
    assert "goes on with `tunemill run spring`" in " ".join(tunemill("resume", "spring").output.split())
    tunemill("pause", "spring")
    with spring.writer_lock():
        assert "is at work" in " ".join(tunemill("resume", "spring").output.split())

"""`tunemill run`, `catalog list` and `status`: what they refuse before anything is written, and what they print."""

from __future__ import annotations

import json

import pytest
import typer
from sqlalchemy import update
from typer.testing import CliRunner

from catalog.errors import ModelError, UnknownNameError
from catalog.messages import Heartbeat, MemoryUse, Span, SpansClosed, WorkerStopped, now_ms
from catalog.track import Track
from orchestrator.cli import catalog as catalog_command
from orchestrator.cli import run as run_command
from orchestrator.cli import status as status_command
from orchestrator.cli.app import app as program
from orchestrator.ledger import open_ledger, readings
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.tables import RunRow
from tests.bench.bench_plan import write_presets
from tests.support.farm import DOLLAR_AN_HOUR, attempt, started
from tests.support.makers import a_spec, exactly

CELLS = [(zone, genre) for zone in ("spa", "lobby") for genre in ("ambient", "cool_jazz")]


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("BROKER_URL", "DATABASE_URL", "STORE_URL", "WEIGHTS", "PRESETS", "PRICES", "MAX_USD"):
        monkeypatch.delenv(f"TUNEMILL_{name}", raising=False)
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    return tmp_path


def invoke(*arguments: str):
    app = typer.Typer()
    run_command.register(app)
    status_command.register(app)
    catalog_command.register(app)
    return CliRunner().invoke(app, list(arguments))


def a_catalog_made(home, count=3, *, title=""):
    """`count` accepted tracks in each cell of a catalog called spring."""
    planned = [
        Track(catalog="spring", zone=zone, genre=genre, slot=f"{slot:04d}", title=title, spec=a_spec()).take()
        for zone, genre in CELLS
        for slot in range(count)
    ]
    ledger = open_ledger(f"sqlite:///{home / 'home' / 'ledger.sqlite'}")
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly(planned)).run_id
    host = started(host="a-host-with-a-very-long-name.example.org")
    records = [host, *(attempt(take, run_id=run_id) for take in planned)]
    with ledger.write() as connection:
        record_facts(connection, records, lambda machine, at_ms: DOLLAR_AN_HOUR, 1)
    return ledger, run_id


@pytest.mark.parametrize("command", ["run", "refresh"])
def test_a_model_without_weights_is_refused_before_anything_is_written(home, command):
    path = write_presets(home / "presets", zones=1, genres=1, tracks=2)
    wish = [command, str(path), "--presets", str(home / "presets"), "--json"]
    refused = invoke(*wish).exception
    assert isinstance(refused, ModelError)
    assert "TUNEMILL_WEIGHTS" in refused.fix
    assert isinstance(invoke(*wish, "--model", "tiny-randm").exception, UnknownNameError)
    assert not (home / "home").exists()


def test_a_run_shows_tracks_from_as_many_cells_as_there_are(home):
    ledger, run_id = a_catalog_made(home)
    with ledger.read() as connection:
        few, some, more = (readings.list_tracks(connection, run_id=run_id, spread=count) for count in (2, 4, 6))
    cells = [[(track.take.track.zone, track.take.track.genre) for track in tracks] for tracks in (few, some, more)]
    assert [len(each) for each in cells] == [2, 4, 6]
    assert [len(set(each)) for each in cells] == [2, 4, 4]
    assert {track.take.track.slot for track in some} == {"0000"}
    ledger.close()


def test_a_list_fits_the_terminal_and_is_complete_in_a_pipe(home, terminal):
    a_catalog_made(home, title="夜のロビーと長い長い題名 with more words")[0].close()
    piped = invoke("catalog", "list", "spring")
    files = invoke("catalog", "list", "spring", "--files").stdout.splitlines()
    assert len(files) == 12
    assert all(file.startswith(str(home / "home" / "store")) and file in piped.stdout for file in files)
    assert [track["file"] for track in json.loads(invoke("catalog", "list", "--json").stdout)] == files
    terminal(80)
    shown = invoke("catalog", "list", "spring").stdout.splitlines()
    table = [line for line in shown if " ambient " in line or " cool_jazz " in line]
    assert len(table) == 12
    assert max(map(len, table)) <= 80
    assert invoke("catalog", "list", "spring", "--files").stdout.splitlines() == files


def test_status_fits_80_columns(home, terminal):
    a_catalog_made(home)[0].close()
    terminal(80)
    lines = invoke("status").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("spring" in line and "12/12" in line for line in lines)


def a_worker_that(home, *, waits_ms=0, growth=None, stopped=False):
    """What `status` says, in words and for scripts, of one that rendered for 1,000 s and waited after it."""
    at = now_ms() - 3_000_000
    rendered = Span(state="render", start_ms=at, end_ms=at + 1_000_000, batch_id="b")
    waited = Span(state="idle", start_ms=rendered.end_ms, end_ms=rendered.end_ms + waits_ms, cause="waiting for post")
    memory = MemoryUse(rss_mib=1_000, device_mib=234, growth_mib_per_100_takes=growth)
    records = [
        started("w9", started_at_ms=at, at_ms=now_ms(), plan_limit=64),
        SpansClosed(worker_id="w9", spans=[rendered, waited]),
        Heartbeat(worker_id="w9", held=[], memory=memory),
        *([WorkerStopped(worker_id="w9", reason="done")] if stopped else []),
    ]
    ledger, _ = a_catalog_made(home)
    with ledger.write() as connection:
        record_facts(connection, records, lambda machine, at_ms: DOLLAR_AN_HOUR, now_ms())
    ledger.close()
    shown = invoke("status")
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("w9")]
    (worker,) = [row for row in json.loads(invoke("status", "--json").stdout)["workers"] if row["worker_id"] == "w9"]
    return line.split(), shown.stderr, worker


def test_status_shows_how_busy_a_worker_is_and_what_memory_it_needs(home):
    line, told, worker = a_worker_that(home, waits_ms=50_000, growth=-1.5)
    assert line[6:11] == ["95%", "4", "64", "1,234", "-1.5"]
    assert "worker w9" not in told
    assert (worker["rss_mib"], worker["plan_limit"], worker["warnings"]) == (1_000, 64, [])
    assert worker["use_of_last_hour"]["idle_ms_by_cause"] == {"waiting for post": 50_000}


def test_status_warns_of_a_worker_that_waits_for_post_or_grows(home):
    _, told, worker = a_worker_that(home, waits_ms=250_000, growth=33.0)
    assert "worker w9: its engine waited for post 20% of the last hour" in told
    assert "worker w9: its engine's memory grows by 33 MiB every 100 takes" in told
    assert len(worker["warnings"]) == 2


def test_status_warns_of_no_worker_that_has_ended(home):
    _, told, worker = a_worker_that(home, waits_ms=250_000, growth=33.0, stopped=True)
    assert "worker w9" not in told
    assert worker["warnings"] == []


def test_a_run_that_is_over_costs_no_more_when_later_workers_come(home):
    ledger, run_id = a_catalog_made(home)
    with ledger.write() as connection:
        over = {"started_at_ms": 1_000, "finished_at_ms": 5_000}
        connection.execute(update(RunRow).where(RunRow.run_id == run_id).values(**over))
        later = [
            started("w2", started_at_ms=6_000, at_ms=6_000),
            WorkerStopped(worker_id="w2", reason="done", at_ms=3_606_000),
        ]
        record_facts(connection, later, lambda machine, at_ms: DOLLAR_AN_HOUR, 1)
    ledger.close()
    (run,) = json.loads(invoke("status", "--json").stdout)["runs"]
    assert 0 < run["usd_micros"] < 1_000


def test_the_program_alone_prints_help():
    alone = CliRunner().invoke(program, [])
    assert alone.exit_code == 0
    assert "Usage:" in alone.stdout

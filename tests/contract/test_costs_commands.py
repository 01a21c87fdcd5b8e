"""`tunemill costs`: the report's last line is the workers' time at its price, and prices are shown with their age."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
import typer
from sqlmodel import Session
from typer.testing import CliRunner

from catalog.errors import LedgerError, SettingsError, UnknownNameError
from orchestrator.cli.costs import report as costs_command
from orchestrator.ledger import open_ledger
from tests.unit.finance.test_readings import a_run, a_span, a_take, a_worker, an_attempt


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("TUNEMILL_DATABASE_URL", raising=False)
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def a_ledger(home, *rows):
    ledger = open_ledger(f"sqlite:///{home / 'ledger.sqlite'}")
    with Session(ledger.engine) as session:
        for row in rows:
            session.add(row)
            session.flush()
        session.commit()
    ledger.close()


def some_work(**worker):
    return (
        a_run(),
        a_take("t1"),
        a_take("t2"),
        a_worker(end=3_600_000, **worker),
        an_attempt("r1", "t1"),
        an_attempt("r2", "t2", "rejected"),
        a_span(0, 600_001, "startup"),
        a_span(600_001, 1_800_000, "render", "b-r1"),
        a_span(1_800_000, 3_000_000, "render", "b-r2"),
    )


def run(*arguments: str):
    app = typer.Typer()
    costs_command.register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["costs", *arguments])


def test_the_report_adds_up_to_the_workers_time_at_its_price(home):
    a_ledger(home, *some_work(rate=1_700_001))
    found = json.loads(run("report", "--by", "zone,run", "--json").stdout)
    assert found["whole_usd_micros"] == found["total"]["total_usd_micros"] == 1_700_001
    assert sum(row["total_usd_micros"] for row in found["rows"]) == 1_700_001
    assert (found["rows"][0]["zone"], found["rows"][0]["run"], found["rows"][0]["accepted"]) == ("spa", "run1", 1)


def test_the_printed_table_adds_up(home):
    a_ledger(home, *some_work(rate=1_700_001))
    result = run("report")
    assert result.exit_code == 0, result.exception
    [spa] = [line.split() for line in result.stdout.splitlines() if line.startswith("spa")]
    direct, wasted, idle, overhead, total = map(Decimal, spa[4:9])
    assert direct + wasted + idle + overhead == total == Decimal(spa[9]) == Decimal("1.700001")
    assert "1 worker, 1 h 00 min, $1.700001: the total above" in result.stdout
    assert "estimate: price book 2026-11-20" in result.stdout


@pytest.mark.parametrize("cuts", ["zone", "catalog", "zone,genre,run,catalog"])
def test_the_report_fits_a_terminal_of_80_columns(home, terminal, cuts):
    terminal(80)
    a_ledger(home, *some_work(rate=1_700_001))
    lines = run("report", "--by", cuts).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert all("1.700001" in line for line in lines if line.startswith("total"))


def test_the_report_says_what_the_workers_time_was_used_for(home):
    waited = a_span(3_000_000, 3_100_000, "idle")
    waited.cause = "waiting for post"
    a_ledger(home, *some_work(rate=1_000_000), waited)
    result = run("report")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    # The shares add up to 100, which 66.7 would not.
    assert {"rendering 40 min 00 s 66.6%", "idle: waiting for post 1 min 40 s 2.8%"} <= set(lines)
    assert "waited for post" not in result.stderr  # 4 % of the time it was up
    use = json.loads(run("report", "--json").stdout)["use"]
    assert (use["ms"], sum(use["ms_by_state"].values())) == (3_600_000, 3_600_000)
    assert use["idle_ms_by_cause"] == {"waiting for post": 100_000}


def test_workers_that_wait_for_post_are_told_of_with_what_mends_it(home):
    waited = a_span(3_000_000, 3_300_000, "idle")
    waited.cause = "waiting for post"
    a_ledger(home, *some_work(rate=1_000_000), waited)
    told = run("report").stderr
    assert "engines waited for post 11% of the time they were up" in told
    assert "--threads" in told


def test_a_run_is_named_by_its_first_digits(home):
    a_ledger(home, *some_work(rate=1_000_000))
    assert json.loads(run("report", "--run", "ru", "--json").stdout)["run"] == "run1"
    assert isinstance(run("report", "--run", "r%").exception, UnknownNameError)


def test_an_unknown_price_is_shown_as_unknown_with_the_fix(home):
    a_ledger(home, *some_work(rate=None, gpu="Mystery 9000", sku=None))
    result = run("report")
    assert "unknown" in result.stdout
    assert "1 h 00 min on 'Mystery 9000' has no price" in result.stderr
    [row] = json.loads(run("report", "--json").stdout)["rows"]
    assert (row["total_usd_micros"], row["usd_micros_per_accepted"], row["unpriced_ms"]) == (None, None, 3_600_000)


def test_a_report_of_one_run_says_what_share_it_shows(home):
    a_ledger(home, *some_work(rate=1_000_000), a_worker("w2", end=3_600_000, rate=1_000_000))
    result = run("report", "--run", "run1", "--by", "run")
    assert "shown: $1.000000 of $2.000000 (50.0% of all that was spent)" in result.stdout
    assert isinstance(run("report", "--catalog", "hotel").exception, UnknownNameError)
    assert isinstance(run("report", "--by", "mood").exception, UnknownNameError)


def test_without_a_ledger_the_report_is_empty_and_none_is_made(home):
    result = run("report", "--json")
    assert json.loads(result.stdout)["rows"] == []
    assert "no ledger yet" in result.stderr
    assert list(home.iterdir()) == []
    assert run("report").exit_code == 0


def test_a_pack_that_cannot_be_written_is_an_error_with_the_ledgers_code(home):
    out = home / "pack"
    result = run("report", "--period", "2026-11", "--out", str(out), "--focus", "--json")
    assert isinstance(result.exception, LedgerError)
    assert result.exception.what == "there is no ledger yet, so no pack of 2026-11 is written"
    assert "TUNEMILL_HOME" in result.exception.why
    assert json.loads(result.stdout)["rows"] == []  # what is known is shown all the same, as beside a ledger
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", ["--run", "--catalog", "--zone", "--genre", "--provider", "--gpu"])
def test_without_a_ledger_there_is_nothing_of_a_name(home, name):
    result = run("report", name, "x")
    assert isinstance(result.exception, UnknownNameError)
    assert result.exception.what == f"there is no ledger yet, and no {name.removeprefix('--')} 'x' in it"


@pytest.mark.parametrize("option", ["--tracks", "--baseline"])
def test_what_is_meant_for_a_pack_alone_is_refused_without_one(home, option):
    result = run("report", option, "5")
    assert isinstance(result.exception, SettingsError)
    assert (result.exception.what, option in result.exception.fix) == (f"{option} needs --out", True)


@pytest.mark.parametrize(
    ("rate", "valid_from", "said"),
    [
        (1_700_000, "2020-01-01", "recorded: 1 h 00 min of 1 worker on 'NVIDIA L4' stays at $1.70 an hour"),
        (None, "1970-01-01", "had no price and takes this one where it fits"),
        (None, "2020-01-01", "has no price; one that is valid from 1970-01-01 or earlier would be taken"),
    ],
)
def test_a_new_price_says_what_it_leaves_as_it_was(home, rate, valid_from, said):
    a_ledger(home, *some_work(rate=rate, gpu="NVIDIA L4"))
    arguments = ("prices", "add", "l4-24gb", "0.5", "--source", "x", "--valid-from", valid_from, "--json")
    recorded = json.loads(run(*arguments).stdout)["recorded"]
    assert said in recorded[0]
    assert "costs rentals add" in recorded[-1]


def test_a_new_price_changes_no_recorded_money(home):
    a_ledger(home, *some_work(rate=1_700_001, gpu="NVIDIA L4"))
    assert run("prices", "add", "l4-24gb", "0.5", "--source", "x", "--valid-from", "1970-01-01").exit_code == 0
    assert json.loads(run("report", "--json").stdout)["whole_usd_micros"] == 1_700_001


def test_a_new_price_of_another_card_says_nothing_of_what_is_recorded(home):
    a_ledger(home, *some_work(rate=1_700_000, gpu="NVIDIA L4"))
    found = json.loads(run("prices", "add", "l40s-48gb", "0.5", "--source", "x", "--json").stdout)
    assert found["recorded"] == []
    assert found["file"].startswith(str(home / "prices"))


def test_the_price_book_is_shown_with_date_and_source(home, tmp_path):
    prices = tmp_path / "prices"
    prices.mkdir()
    text = 'valid_from: 2020-0{m}-01\nprices:\n  - {{sku: l4, usd_per_hour: "{usd}", source: "[a] list"}}\n'
    (prices / "a.yaml").write_text(text.format(m=1, usd="0.80"))
    (prices / "b.yaml").write_text(text.format(m=2, usd="0.7992"))
    shown = run("prices", "--prices", str(prices)).stdout
    assert "0.799200" in shown
    assert "[a] list" in shown
    assert "0.80 " not in shown
    found = json.loads(run("prices", "--prices", str(prices), "--json").stdout)["prices"]
    found = [row for row in found if row["layer"] == "yours"]
    assert [(row["usd_micros_per_h"], row["in_force"]) for row in found] == [(800_000, False), (799_200, True)]

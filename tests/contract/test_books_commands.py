"""`tunemill costs` for finance: invoices, budgets, months and packs, by the commands a person types."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from sqlalchemy import select, update
from typer.testing import CliRunner

from catalog.errors import (
    DisagreementError,
    InvoiceError,
    LedgerError,
    PeriodError,
    SettingsError,
    UnknownNameError,
    UnreadableFileError,
)
from orchestrator.cli import app as program
from orchestrator.cli import catalog as catalog_command
from orchestrator.cli.costs import report as costs_command
from orchestrator.finance.report.manifest import check_manifest
from orchestrator.ledger import open_ledger
from orchestrator.ledger.tables import ATTEMPT, RENDITION, TAKE, WORKER
from tests.support.cost_ledger import Filling, fill

PERIOD = "2026-11"
ABC = "abc" + "0" * 21  # a take's id
AFTERWARDS_MS = int(datetime(2027, 2, 1, tzinfo=UTC).timestamp()) * 1000


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("TUNEMILL_DATABASE_URL", "TUNEMILL_FINANCE_TZ"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "home").mkdir()
    for module in ("orchestrator.finance.accounts", "orchestrator.cli.costs.periods", "orchestrator.cli.costs.budgets"):
        monkeypatch.setattr(f"{module}.now_ms", lambda: AFTERWARDS_MS)
    return tmp_path


@pytest.fixture
def pods(home):
    """Rentals of November and December; their ids."""
    ledger = open_ledger(f"sqlite:///{home / 'home' / 'ledger.sqlite'}")
    names = fill(ledger, 6, seed=7)
    ledger.close()
    return names


def run(*arguments: str):
    app = typer.Typer()
    costs_command.register(app)
    catalog_command.register(app)
    return CliRunner().invoke(app, list(arguments))


def asked(*arguments: str):
    result = run(*arguments, "--json")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return json.loads(result.stdout)


def a_bill(folder: Path, pods: list[str], name: str = "bill.csv", usd: str = "2.345678") -> Path:
    """A bill of any provider, as a CSV with a mapping beside it."""
    lines = ["pod,what,usd,from,to"]
    lines += [f"{pod},gpu,{usd},2026-11-01,2026-12-31" for pod in pods]
    lines += [f"{pods[0]},disk,0.020000,2026-11-01,2026-12-31", ",credit,-0.5,,"]
    (folder / name).write_text("\n".join(lines) + "\n")
    (folder / "ours.yaml").write_text(MAPPING)
    return folder / name


MAPPING = """\
provider: runpod
columns: {external_id: pod, meter: what, amount: usd, start: from, end: to}
meters: {gpu: gpu, disk: disk, credit: credit}
"""


def book(home, path, *options):
    return run("costs", "import-invoice", str(path), "--mapping", str(home / "ours.yaml"), *options)


def total(period=None):
    report = asked("costs", "report", *(["--period", period] if period else []))
    return report["total"]["total_usd_micros"]


def test_a_bill_takes_the_place_of_the_estimate_to_the_micro(home, pods):
    estimated = total()
    path = a_bill(home, pods)
    result = book(home, path, "--period", "2026-11-01..2027-01-01", "--number", "7")
    assert result.exit_code == 0, result.exception
    assert "8 lines, $13.594068" in result.stdout
    assert total() == 6 * 2_345_678 + 20_000 - 500_000 != estimated
    report = asked("costs", "report")
    assert report["coverage"]["usd_micros"] == {"billed": 13_594_068}
    assert report["coverage"]["billed_share"] == 1.0
    assert report["total"]["adjustment_usd_micros"] == -500_000
    assert "imported before" in book(home, path, "--period", "2026-11-01..2027-01-01", "--number", "7").stdout
    assert [row["number"] for row in asked("costs", "invoices")["invoices"]] == ["7"]
    assert asked("costs", "verify")["findings"] == []


def test_a_corrected_bill_takes_the_place_of_the_first(home, pods):
    book(home, a_bill(home, pods), "--period", "2026-11-01..2027-01-01", "--number", "7")
    changed = a_bill(home, pods, "fixed.csv", usd="2.000000")
    options = ("--period", "2026-11-01..2027-01-01", "--number", "7")
    assert isinstance(book(home, changed, *options).exception, InvoiceError)
    assert book(home, changed, *options, "--replaces", "7").exception is None
    assert total() == 6 * 2_000_000 + 20_000 - 500_000
    assert asked("costs", "verify")["findings"] == []


def test_what_nobody_knows_is_a_leak_and_ends_in_an_error(home, pods):
    total()
    book(home, a_bill(home, [*pods, "forgotten"]), "--period", "2026-11-01..2027-01-01", "--number", "7")
    result = run("costs", "reconcile", "--period", PERIOD)
    assert isinstance(result.exception, DisagreementError)
    assert "forgotten" in result.exception.why
    run("costs", "rentals", "add", "runpod/forgotten", "--gpu", "NVIDIA L40S", "--gpu-count", "1")
    listed = asked("costs", "rentals", "list")["rentals"]
    assert "forgotten" in {each["external_id"] for each in listed}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["report", "--period", "november"], SettingsError),
        (["report", "--out", "x"], SettingsError),
        (["report", "--focus"], SettingsError),
        (["report", "--zone", "moon"], UnknownNameError),
        (["report", "--provider", "nobody"], UnknownNameError),
        (["close", "2027-05"], PeriodError),
        (["budgets", "set", "catalog", "--usd", "5"], SettingsError),
        (["budgets", "set", "month", "--usd", "-5"], SettingsError),
        (["budgets", "set", "month", "--usd", "cheap"], SettingsError),
        (["budgets", "set", "run", "zzz", "--usd", "5"], UnknownNameError),
        (["budgets", "clear", "month"], UnknownNameError),
        (["rentals", "add", "nonsense"], SettingsError),
        (["rentals", "add", "runpod/x", "--market", "stolen"], SettingsError),
        (["rentals", "add", "runpod/x", "--start", "yesterday"], SettingsError),
        (["rentals", "add", "runpod/x", "--start", "2026-11-02T00:00Z", "--end", "2026-11-01T00:00Z"], SettingsError),
        (["import-invoice", "absent.csv"], UnreadableFileError),
    ],
)
def test_mistakes_are_answered_in_words(home, pods, arguments, error):
    result = run("costs", *arguments)
    assert isinstance(result.exception, error), result.exception
    assert result.exception.what
    assert result.exception.fix or result.exception.why


@pytest.mark.parametrize(
    ("arguments", "undone"),
    [
        (["report", "--period", PERIOD, "--out", "pack"], f"no pack of {PERIOD} is written"),
        (["close", PERIOD], f"{PERIOD} is not closed"),
        (["verify"], "no books were verified"),
        (["reconcile", "--period", PERIOD], f"nothing of {PERIOD} was reconciled"),
    ],
)
def test_what_was_to_be_done_without_a_ledger_is_said_not_to_be_done(home, arguments, undone):
    result = run("costs", *arguments)
    assert isinstance(result.exception, LedgerError)
    assert result.exception.what == f"there is no ledger yet, so {undone}"
    assert result.exception.why
    assert result.exception.fix
    assert list((home / "home").iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["report"], ["forecast"], ["periods"], ["invoices"], ["rentals", "list"], ["budgets", "list"]]
)
def test_a_look_without_a_ledger_finds_nothing_and_makes_none(home, arguments):
    assert run("costs", *arguments).exit_code == 0
    assert asked("costs", *arguments)
    assert list((home / "home").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["forecast", "spring"], UnknownNameError),
        (["forecast", "--baseline", "nonsense"], UnknownNameError),
        (["budgets", "clear", "month"], UnknownNameError),
        (["budgets", "set", "run", "3f2a", "--usd", "5"], UnknownNameError),
        (["budgets", "set", "catalog", "--usd", "5"], SettingsError),
        (
            ["import-invoice", "bill.csv", "--mapping", "ours.yaml", "--number", "7", "--replaces", "6"],
            UnknownNameError,
        ),
    ],
)
def test_a_mistake_does_not_make_a_ledger(home, monkeypatch, arguments, error):
    a_bill(home, ["pod"])
    monkeypatch.chdir(home)
    options = ["--period", "2026-11-01..2027-01-01"] if arguments[0] == "import-invoice" else []
    assert isinstance(run("costs", *arguments, *options).exception, error)
    assert list((home / "home").iterdir()) == []


@pytest.mark.parametrize("arguments", [["budgets", "set", "month", "--usd", "5"], ["rentals", "add", "runpod/x"]])
def test_what_may_be_told_before_the_first_run_makes_the_ledger(home, arguments):
    assert run("costs", *arguments).exit_code == 0
    assert [path.name for path in (home / "home").glob("*.sqlite")] == ["ledger.sqlite"]
    assert run("costs", "verify").exit_code == 0


def test_a_home_that_no_folder_can_have_is_told_in_words(home, monkeypatch):
    monkeypatch.setenv("TUNEMILL_HOME", str(home / ("x" * 300)))
    for arguments in (["report"], ["verify"], ["budgets", "set", "month", "--usd", "5"]):
        assert isinstance(run("costs", *arguments).exception, LedgerError)


def test_a_month_closes_once_and_says_what_it_held(home, pods):
    november = total(PERIOD)
    closed = asked("costs", "close", PERIOD, "--by", "Ada")
    assert (closed["control_usd_micros"], closed["closed_by"]) == (november, "Ada")
    assert isinstance(run("costs", "close", PERIOD).exception, PeriodError)
    book(home, a_bill(home, pods), "--period", "2026-11-01..2027-01-01", "--number", "7")
    assert total(PERIOD) == november
    states = {row["period"]: row["state"] for row in asked("costs", "periods")["periods"]}
    assert states[PERIOD] == "closed"
    assert asked("costs", "verify")["findings"] == []


def test_the_pack_of_a_month_is_written_alike_twice_and_adds_up(home, pods):
    book(home, a_bill(home, pods), "--period", "2026-11-01..2027-01-01", "--number", "=7")
    folders = [home / "one", home / "two"]
    for folder in folders:
        result = run("costs", "report", "--period", PERIOD, "--out", str(folder), "--focus")
        assert result.exception is None, result.exception
    files = {path.relative_to(folders[0]): path.read_bytes() for path in folders[0].rglob("*") if path.is_file()}
    again = {path.relative_to(folders[1]): path.read_bytes() for path in folders[1].rglob("*") if path.is_file()}
    assert files == again
    assert {"report.xlsx", "report.html", "ledger.csv", "costs.csv", "manifest.json"} <= {str(path) for path in files}
    assert check_manifest(folders[0]) == []
    rental = files[Path("focus/focus-rental.csv")].decode()
    assert "'=7" in rental


def test_a_month_with_a_machine_that_still_runs_has_a_pack_with_provisional_figures(home, pods):
    ledger = open_ledger(f"sqlite:///{home / 'home' / 'ledger.sqlite'}")
    filling = Filling(9, days=20)
    filling.skip(1_000_000)  # names of its own
    filling.rental(living=True, provider="vast")
    with ledger.write() as connection:
        filling.write(connection)
    ledger.close()
    report = asked("costs", "report", "--period", PERIOD)
    assert report["coverage"]["usd_micros"]["provisional"] > 0
    part = asked("costs", "report", "--period", PERIOD, "--provider", "runpod")
    assert part["whole_usd_micros"] == report["total"]["total_usd_micros"] > part["total"]["total_usd_micros"]
    result = run("costs", "report", "--period", PERIOD, "--out", str(home / "pack"), "--focus")
    assert result.exception is None, result.exception
    assert check_manifest(home / "pack") == []
    assert "provisional" in (home / "pack" / "ledger.csv").read_text()


def test_a_bill_that_was_replaced_can_take_its_place_again(home, pods):
    options = ("--period", "2026-11-01..2027-01-01", "--number")
    first, second = a_bill(home, pods), a_bill(home, pods, "b.csv", usd="2.000000")
    book(home, first, *options, "7")
    book(home, second, *options, "8", "--replaces", "7")
    assert isinstance(book(home, first, *options, "7").exception, InvoiceError)
    assert book(home, first, *options, "7", "--replaces", "8").exception is None
    assert total() == 6 * 2_345_678 + 20_000 - 500_000
    assert asked("costs", "verify")["findings"] == []


def test_what_is_said_of_a_machine_later_leaves_what_was_said_before(home, pods):
    run("costs", "rentals", "add", f"runpod/{pods[0]}", "--market", "spot", "--usd-per-hour", "0.5")
    run("costs", "rentals", "add", f"runpod/{pods[0]}", "--account", "studio")
    (found,) = [each for each in asked("costs", "rentals", "list")["rentals"] if each["external_id"] == pods[0]]
    assert (found["market"], found["rate_usd_micros_per_h"], found["account"]) == ("spot", 500_000, "studio")


def test_budgets_count_what_is_spent_and_an_end_of_one_is_one(home, pods):
    spent = total(PERIOD)
    asked("costs", "budgets", "set", "month", "--usd", "5")
    asked("costs", "budgets", "set", "month", PERIOD, "--usd", "7.5")
    asked("costs", "budgets", "set", "catalog", "hotels", "--usd", "1", "--period", PERIOD)
    rows = asked("costs", "budgets", "list", "--period", PERIOD)["budgets"]
    hotels = asked("costs", "report", "--period", PERIOD, "--catalog", "hotels")["total"]["total_usd_micros"]
    assert [(row["scope"], row["usd_micros"], row["spent_usd_micros"]) for row in rows] == [
        ("catalog", 1_000_000, hotels),
        ("month", 7_500_000, spent),
    ]
    run("costs", "budgets", "clear", "month", PERIOD)
    rows = asked("costs", "budgets", "list", "--period", PERIOD)["budgets"]
    assert [row["usd_micros"] for row in rows] == [1_000_000, 5_000_000]
    assert "hotels" in run("costs", "budgets", "list", "--period", PERIOD).stdout


def test_a_rejected_track_leaves_its_catalog_and_its_cost_is_waste(home, pods):
    ledger = open_ledger(f"sqlite:///{home / 'home' / 'ledger.sqlite'}")
    with ledger.write() as connection:
        take_id, record_id, run_id = connection.execute(
            select(TAKE.c.take_id, TAKE.c.rendition_id, TAKE.c.run_id).where(TAKE.c.state == "accepted").limit(1)
        ).one()
        worker_id = connection.execute(select(WORKER.c.worker_id).limit(1)).scalar()
        texts = dict.fromkeys(
            ("audio_key", "sha256", "pcm_sha256", "model_fingerprint", "planner_fingerprint"), "a" * 64
        )
        connection.execute(
            RENDITION.insert().values(
                record_id=record_id, take_id=ABC, run_id=run_id, worker_id=worker_id, **texts, bytes=1, audio_ms=1,
                dit_seed=1, lm_seed=1, code="c", gpu="g", noise=False, created_at_ms=1, sidecar={},
            )
        )  # fmt: skip
        connection.execute(update(TAKE).where(TAKE.c.take_id == take_id).values(take_id=ABC))
        connection.exec_driver_sql("drop trigger attempt_no_update")
        connection.execute(update(ATTEMPT).where(ATTEMPT.c.take_id == take_id).values(take_id=ABC))
    ledger.close()
    before = asked("costs", "report")["total"]
    assert asked("catalog", "reject", "abc", "--reason", "dull")["changed"] == 1
    after = asked("costs", "report")["total"]
    assert after["accepted"] == before["accepted"] - 1
    assert after["total_usd_micros"] == before["total_usd_micros"]
    assert after["wasted_usd_micros"] > before["wasted_usd_micros"]
    assert asked("catalog", "reject", "abc", "--reason", "dull")["changed"] == 0
    asked("catalog", "accept", "abc")
    assert asked("costs", "report")["total"] == before
    assert isinstance(run("catalog", "reject", "ffff", "--reason", "x").exception, UnknownNameError)
    assert isinstance(run("catalog", "reject", "abc", "--reason", " ").exception, SettingsError)


def test_a_ctrl_c_that_no_command_answers_is_told_in_words(home, pods, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.cli.costs.report.bring_up_to_date", interrupt)
    monkeypatch.setattr(sys, "argv", ["tunemill", "costs", "report"])
    with pytest.raises(SystemExit) as end:
        program.run()
    assert end.value.code == 130
    assert "nothing is lost: run the same command again" in capsys.readouterr().err

"""Warnings, rejected and spare takes, and the yield of a catalog: as commands show them, on SQLite and Postgres."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from catalog.errors import SettingsError, UnknownNameError
from catalog.store import Store
from orchestrator.cli import catalog as catalog_command
from orchestrator.cli.costs import report as costs_command
from orchestrator.finance.books.books import update_books
from orchestrator.ledger import Ledger, open_ledger, readings
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.observations import Category
from orchestrator.ledger.readings import WarningCounts
from orchestrator.ledger.yields import CUTS, Yield, Yields, read_yields
from tests.support.farm import DOLLAR_AN_HOUR, attempt, takes
from tests.support.judged import (
    AGAIN,
    BY_ENGINE,
    CLICKS,
    DULL,
    HEARD,
    LISTED,
    MASTERED,
    REFUSED,
    SAME,
    SPARE,
    VOICE,
    VOICED,
    judged_catalog,
)
from tests.support.makers import exactly


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("TUNEMILL_DATABASE_URL", raising=False)
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    judged_catalog(ledger)
    ledger.close()
    return tmp_path


def run(*arguments: str) -> Result:
    app = typer.Typer()
    catalog_command.register(app)
    costs_command.register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, arguments)


def told(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


# ---------------------------------------------------------------- both databases


def test_the_ledger_gives_warnings_and_unlisted_takes_with_who_rejected_them(store: Store, ledger: Ledger) -> None:
    run_id = judged_catalog(ledger)
    with ledger.read() as connection:
        listed = readings.list_tracks(connection, "spa")
        unlisted = readings.list_unlisted(connection, "spa")
        spare = readings.list_unlisted(connection, states=["spare"])
        elsewhere = readings.list_unlisted(connection, where=readings.in_places(["lobby"], [], {}))
        counts = readings.count_warnings(connection, run_id)
    assert [(each.take, each.warnings, each.flaws) for each in listed] == [
        (LISTED, (DULL.text, CLICKS.text, MASTERED), (DULL, CLICKS)),
        (VOICED, (VOICE.text,), (VOICE,)),
        (AGAIN, (), ()),
    ]
    assert [(each.take, each.state, each.rejected_by, each.reasons) for each in unlisted] == [
        (REFUSED, "rejected", "checks", ("dull: 3 kHz (limit 6)", "clicks: 9")),
        (HEARD, "rejected", "listener", ("too busy",)),
        (SPARE, "spare", "", ("chosen before it: take 1",)),
        (BY_ENGINE, "rejected", "engine", ("the text is too long",)),
        (SAME, "rejected", "duplicates", (f"same as take {LISTED.id}",)),
    ]
    assert [(each.take, each.flaws) for each in spare] == [(SPARE, (CLICKS,))]
    assert elsewhere == []
    assert counts == WarningCounts(4, {"dull": 2, "click": 2, "mastering": 1, "voice": 1})
    assert sorted(list(counts.by_kind)[:2]) == ["click", "dull"]


def test_the_yield_of_each_group_is_counted_and_its_money_adds_up_to_the_books(store: Store, ledger: Ledger) -> None:
    judged_catalog(ledger)
    update_books(ledger, time_zone="UTC", price_of=lambda machine, at_ms: None, at_ms=10**12)
    booked = {("thermal", "ambient", Category.ACCEPTED): 1_000, ("thermal", "ambient", Category.REJECTED): 7}
    booked |= {("thermal", "ambient", Category.FAILED): 5, ("thermal", "ambient", Category.IDLE): 100}
    booked |= {("thermal", "gone", Category.STARTUP): 3}
    for by in CUTS:
        with ledger.read() as connection:
            found = read_yields(connection, "spa", by)
        found.share(booked)
        assert found.total == Yield(3, 1, 3, 1, 0, 3, 1, 9_000, 1_115, 12), by
    assert (found.total.made, found.total.kept_share) == (8, 0.375)
    with ledger.read() as connection:
        by_reason = read_yields(connection, "spa", "reason")
        by_seed = read_yields(connection, "spa", "seed")
    counted = {label: (each.made, each.kept) for (label,), each in by_reason.groups.items()}
    one = (1, 0)
    assert counted == {"": (4, 3), "dull": one, "too busy": one, "duplicate": one, "the text is too long": one}
    by_reason.share(booked)
    assert by_reason.groups["",].wasted_usd_micros == 5  # of the failed attempt; the rejected takes carry their own
    assert {label: each.made for label, each in by_seed.groups.items()} == {
        ("of the track's key", "take 1"): 6,
        ("of the track's key", "take 2"): 2,
    }


# ---------------------------------------------------------------- money


def test_money_goes_to_the_attempts_that_it_was_spent_on_and_no_micro_dollar_is_lost() -> None:
    found = Yields("model")
    place = ("spa", "jazz")
    found.ms[place]["accepted"].update({("good",): 200, ("bad",): 100})
    found.ms[place]["rejected"].update({("bad",): 300})
    found.tries[place]["failed"].update({("bad",): 1, ("good",): 2})  # they died before any engine time
    found.share(
        {
            ("spa", "jazz", Category.ACCEPTED): 100,
            ("spa", "jazz", Category.REJECTED): 50,
            ("spa", "jazz", Category.LOST): 10,
            ("spa", "jazz", Category.IDLE): 7,
            ("spa", "folk", Category.STARTUP): 1,
        }
    )
    cost = {label: (each.usd_micros, each.wasted_usd_micros) for label, each in found.groups.items()}
    assert cost == {("good",): (67 + 7 + 2, 7), ("bad",): (33 + 50 + 3 + 5, 53), ("",): (1, 0)}
    assert [label for label, _ in found.lines] == [("bad",), ("good",), ("",)]


# ---------------------------------------------------------------- commands


def test_a_list_shows_the_kinds_of_warnings_and_take_numbers_within_80_columns(home, terminal) -> None:
    terminal(80)
    heading, first, second, third, *_ = run("catalog", "list", "spa").stdout.splitlines()
    assert heading.split() == ["title", "zone", "genre", "take", "length", "warnings", "id"]
    assert max(map(len, (heading, first, second, third))) == 80
    assert first.split()[4:] == ["1", "0:10", "dull,", "click", "x3,", "maste…", LISTED.id[:12]]
    assert second.split()[4:] == ["2", "0:10", "voice", VOICED.id[:12]]
    assert third.split()[4:] == ["1", "0:10", AGAIN.id[:12]]


def test_only_tracks_with_warnings_are_listed_a_possible_voice_first_with_texts_and_seconds(home) -> None:
    rows = told("catalog", "list", "spa", "--warnings")
    assert [(row["take_id"], row["number"]) for row in rows] == [(VOICED.id, 2), (LISTED.id, 1)]
    assert rows[1]["warnings"] == [DULL.text, CLICKS.text, MASTERED]
    assert rows[0]["flaws"] == [VOICE.model_dump(mode="json", exclude={"stops"})]
    printed = run("catalog", "list", "spa", "--warnings").stdout.splitlines()
    assert printed[:2] == [
        f"Warm Stone (thermal, ambient, take 2, {VOICED.id})",
        "    voice: maybe a singer, at 0:00.0-0:02.5",
    ]
    assert f"    {DULL.text}" in printed
    assert f"    {CLICKS.text}, at 0:01.0-0:01.1, 0:02.0-0:02.1, 1:15.5-1:15.6" in printed
    assert printed[-1] == "2 of 3 tracks have warnings: voice 1, dull 1, click 1, mastering 1"
    files = run("catalog", "list", "spa", "--warnings", "--files").stdout.splitlines()
    assert [VOICED.id in files[0], LISTED.id in files[1], len(files)] == [True, True, 2]


def test_rejected_and_spare_takes_are_listed_with_numbers_reasons_and_files(home, terminal) -> None:
    rows = told("catalog", "list", "spa", "--rejected", "--spare")
    assert [(row["take_id"], row["number"], row["state"], row["rejected_by"]) for row in rows] == [
        (REFUSED.id, 1, "rejected", "checks"),
        (HEARD.id, 1, "rejected", "listener"),
        (SPARE.id, 2, "spare", None),
        (BY_ENGINE.id, 1, "rejected", "engine"),
        (SAME.id, 1, "rejected", "duplicates"),
    ]
    assert [row["file"] is None for row in rows] == [True, False, False, True, False]
    files = run("catalog", "list", "spa", "--rejected", "--spare", "--files").stdout.splitlines()
    assert files == [row["file"] for row in rows if row["file"]]
    assert [row["take_id"] for row in told("catalog", "list", "--spare", "--genre", "ambient")] == [SPARE.id]
    printed = run("catalog", "list", "spa", "--rejected").stdout
    assert "checks: dull: 3 kHz (limit 6); clicks: 9" in printed
    assert "state" not in printed.splitlines()[0].split()
    terminal(80)
    shown = run("catalog", "list", "spa", "--rejected", "--spare").stdout.splitlines()
    assert max(map(len, shown)) <= 80
    assert {"take", "state", "reason", "id"} <= set(shown[0].split())
    assert "4 rejected, 1 spare takes" in shown


def test_what_cannot_be_listed_is_refused(home) -> None:
    refused = run("catalog", "list", "spa", "--warnings", "--spare").exception
    assert isinstance(refused, SettingsError)
    for arguments in (["list", "nowhere", "--rejected"], ["list", "spa", "--spare", "--zone", "nowhere"]):
        assert isinstance(run("catalog", *arguments).exception, UnknownNameError), arguments
    for arguments in (["yield", "nowhere"], ["yield", "spa", "--by", "moon"]):
        assert isinstance(run("catalog", *arguments).exception, UnknownNameError), arguments


def test_the_yield_costs_what_the_report_of_the_catalog_says(home) -> None:
    report = told("costs", "report", "--catalog", "spa", "--by", "zone")
    [zone] = report["rows"]
    for by in CUTS:
        shown = told("catalog", "yield", "spa", "--by", by)
        for name, whole in (("usd_micros", "total_usd_micros"), ("wasted_usd_micros", "wasted_usd_micros")):
            assert sum(row[name] for row in shown["rows"]) == shown["total"][name] == zone[whole] > 0, by
        wasted = [row["wasted_usd_micros"] for row in shown["rows"]]
        assert wasted == sorted(wasted, reverse=True)
    assert told("catalog", "yield", "spa")["rows"][0]["name"] == "thermal/ambient"
    printed = run("catalog", "yield", "spa", "--by", "reason").stdout.splitlines()
    assert printed[0].split()[:3] == ["reason", "made", "kept"]
    assert printed[-1].split()[:3] == ["total", "8", "3"]


def test_a_catalog_of_which_nothing_was_made_has_no_yield(home) -> None:
    ledger = open_ledger(f"sqlite:///{home / 'ledger.sqlite'}")
    ledger.begin_or_resume_run("spring", "tone", exactly(takes(1)))
    ledger.close()
    done = run("catalog", "yield", "spring")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing was made of spring yet" in done.stderr
    assert told("catalog", "yield", "spring")["total"]["kept_share"] is None


def test_a_catalog_of_which_nothing_is_kept_has_its_yield_and_its_waste(home) -> None:
    ledger = open_ledger(f"sqlite:///{home / 'ledger.sqlite'}")
    [take] = takes(1)
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly([take])).run_id
    silent = attempt(take, "rejected", run_id=run_id, reasons=["near silence: RMS -80 dBFS"], audio_ms=10_000)
    with ledger.write() as connection:
        record_facts(connection, [silent], lambda machine, at_ms: DOLLAR_AN_HOUR, 30_000)
    ledger.close()
    done = run("catalog", "yield", "spring", "--by", "reason")
    assert done.stdout.splitlines()[1].split()[:3] == ["near-silence", "1", "0"]
    assert "no take is kept" in done.stderr


def test_without_a_price_the_money_of_a_yield_is_unknown_and_not_zero(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    judged_catalog(ledger, rate_usd_micros_per_h=None)
    ledger.close()
    shown = told("catalog", "yield", "spa")
    assert (shown["total"]["usd_micros"], shown["rows"][0]["wasted_usd_micros"]) == (None, None)
    assert shown["unpriced"] == ["gpu"]
    done = run("catalog", "yield", "spa")
    assert done.stdout.splitlines()[-1].split()[-2:] == ["unknown", "unknown"]
    assert "no price for gpu" in done.stderr

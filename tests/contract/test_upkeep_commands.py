"""`tunemill catalog verify`, `repair`, `rebuild` and `gc`: what they say, and what they refuse."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog.errors import BusyError, DisagreementError, LedgerError, StoreError, UnknownNameError
from catalog.keys import sidecar_key
from catalog.store import Store, open_store
from orchestrator.cli import app as program
from orchestrator.ledger import open_ledger
from tests.contract.test_upkeep import a_catalog, flip_a_bit, garble_sidecar, lose_both, lose_sidecar
from tests.support.servers import free_port

program._register()


class Home:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: Store = open_store(str(folder / "store"))
        self.ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.sidecars = a_catalog(self.store, self.ledger, 6)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a finished catalog of six takes."""
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    made = Home(tmp_path)
    yield made
    made.ledger.close()


def tunemill(*arguments: str):
    return CliRunner().invoke(program.app, ["catalog", *arguments])


def refusal(kind: type[Exception], *arguments: str) -> str:
    answer = tunemill(*arguments)
    assert isinstance(answer.exception, kind), (answer.output, answer.exception)
    assert answer.exception.fix
    return str(answer.exception)


def test_a_sound_catalog_is_said_to_be_sound(home):
    answer = tunemill("verify", "spring")
    assert answer.exit_code == 0
    assert "6 accepted takes, 6 sidecars, 6 audio objects; every byte read" in answer.output
    assert "ledger, sidecars and audio agree" in answer.output
    assert "sizes compared" in tunemill("verify", "--quick").output
    assert "nothing to repair" in tunemill("repair").output
    assert "nothing to remove" in tunemill("gc").output


def test_what_is_wrong_is_counted_listed_and_answered_with_the_next_command(home):
    lose_both(home.store, home.sidecars[0])
    flip_a_bit(home.store, home.sidecars[1])
    answer = tunemill("verify")
    assert isinstance(answer.exception, DisagreementError)
    assert answer.exception.exit_code == 52
    assert "tunemill catalog repair" in answer.exception.fix
    assert "missing sidecar" in answer.output
    assert home.sidecars[1].audio.key in answer.output
    found = json.loads(tunemill("verify", "--json").stdout)
    assert (found["accepted"], found["sidecars"], found["audio"]) == (6, 5, 5)
    assert [finding["take_id"] for finding in found["findings"]] == [each.take_id for each in home.sidecars[:2]]
    planned = tunemill("repair", "--dry-run").output
    assert "2 takes would wait" in planned
    assert "nothing was changed" in planned
    assert "`tunemill run spring` renders them" in tunemill("repair").output
    assert "4 accepted takes, 4 sidecars, 4 audio objects" in tunemill("verify").output


def test_what_only_a_newer_version_can_read_is_answered_with_an_upgrade_and_not_with_a_repair(home):
    key = sidecar_key(home.sidecars[0].take)
    (home.folder / "store" / key).write_bytes(home.store.find(key).replace(b'"v": 1', b'"v": 2'))
    fix = tunemill("verify").exception.fix
    assert "upgrade this machine" in fix
    assert "repair" not in fix
    assert "left as they are" in tunemill("repair").output


def test_many_findings_are_cut_on_the_screen_and_whole_in_json(home):
    for one in home.sidecars:
        for number in range(5):
            orphan = home.folder / "store" / one.audio.key.replace(one.audio.sha256[:16], f"{number:016x}")
            orphan.write_bytes(b"x")
            os.utime(orphan, (1, 1))
    answer = tunemill("verify")
    assert "and 10 more" in answer.output
    assert "gc" in answer.exception.fix
    assert len(json.loads(tunemill("verify", "--json").stdout)["findings"]) == 30
    assert "30 bytes would be freed" in tunemill("gc", "--dry-run").output
    assert "30 bytes freed" in tunemill("gc").output
    assert tunemill("verify").exit_code == 0


def test_young_objects_are_left_alone_unless_a_person_says_otherwise(home):
    key = home.sidecars[0].audio.key.replace(home.sidecars[0].audio.sha256[:16], "0" * 16)
    (home.folder / "store" / key).write_bytes(b"on its way?")
    part = home.folder / "store" / "spring" / f".{'0' * 32}.part"
    part.write_bytes(b"half")
    assert json.loads(tunemill("gc", "--json").stdout)["removed"] == []
    removed = json.loads(tunemill("gc", "--older-than", "0", "--json").stdout)
    assert (removed["bytes"], [each["kind"] for each in removed["removed"]]) == (15, ["orphan audio", "left-over part"])
    assert not part.exists()


@pytest.mark.parametrize("hours", ["-1", "nan", "inf", "many"])
def test_an_age_that_is_none_is_a_usage_error(home, hours):
    assert tunemill("gc", "--older-than", hours).exit_code == 2


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_a_catalog_that_nobody_knows_is_refused(home, command):
    assert "the ledger has: spring" in refusal(UnknownNameError, command, "autumn")
    assert "the ledger has: spring" in refusal(UnknownNameError, command, "../spring")


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_without_a_ledger_there_is_nothing_to_compare_and_none_is_made(tmp_path, monkeypatch, command):
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    assert "tunemill catalog rebuild" in refusal(LedgerError, command)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["verify", "repair", "rebuild"])
def test_a_store_that_is_not_there_is_not_taken_for_an_empty_one(home, monkeypatch, command):
    monkeypatch.setenv("TUNEMILL_STORE_URL", str(home.folder / "not-mounted"))
    monkeypatch.setenv(
        "TUNEMILL_DATABASE_URL", f"sqlite:///{home.folder / 'new.sqlite'}"
    ) if command == "rebuild" else 0
    assert "not mounted" in refusal(StoreError, command)
    assert not (home.folder / "not-mounted").exists()


def test_what_is_really_all_lost_can_be_made_again(home, monkeypatch):
    monkeypatch.setenv("TUNEMILL_STORE_URL", str(home.folder / "empty"))
    assert json.loads(tunemill("repair", "--all-lost", "--json").stdout)["waiting"] == 6


@pytest.mark.parametrize("command", [["verify"], ["repair"], ["gc"], ["rebuild", "--dry-run"]])
def test_a_store_that_does_not_answer_is_said_in_words(home, monkeypatch, command):
    monkeypatch.setattr("catalog.store.s3_wire.ATTEMPTS", 1)
    monkeypatch.setenv("TUNEMILL_STORE_URL", "s3://bucket/prefix")
    monkeypatch.setenv("TUNEMILL_S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    assert "does not answer" in refusal(StoreError, *command)


def test_a_repair_waits_for_nobody_who_records(home):
    lose_sidecar(home.store, home.sidecars[0])
    with home.ledger.writer_lock():
        refusal(BusyError, "repair")
        assert tunemill("repair", "--dry-run").exit_code == 0
    assert tunemill("repair").exit_code == 0


def test_a_rebuild_says_what_stays_lost_and_which_sidecars_it_could_not_read(home, tmp_path):
    refusal(LedgerError, "rebuild")
    garble_sidecar(home.store, home.sidecars[0])
    new = f"sqlite:///{tmp_path / 'new' / 'ledger.sqlite'}"
    answer = tunemill("rebuild", "--database", new)
    assert isinstance(answer.exception, DisagreementError)
    assert home.sidecars[0].take_id in answer.exception.why
    assert "5 accepted takes of 1 runs" in answer.output
    assert "their costs" in answer.output
    refusal(LedgerError, "rebuild", "--database", new)
    (tmp_path / "broken.sqlite").write_text("this is no database, however long it may be" * 40)
    refusal(LedgerError, "rebuild", "--database", f"sqlite:///{tmp_path / 'broken.sqlite'}")
    refusal(LedgerError, "rebuild", "--database", "mysql://somewhere")


def test_progress_is_shown_on_a_terminal_and_said_now_and_then_in_a_file(monkeypatch, capsys):
    from orchestrator.cli import display

    monkeypatch.setattr(display, "LINE_EVERY_S", 0.0)
    with display.counting("comparing", 3) as on_take:
        on_take()
    assert "comparing: 1/3 takes" in capsys.readouterr().err

"""`tunemill worker-login` and the key of orders: made once, shown to nobody, and missed in words."""

from __future__ import annotations

import json
import stat

import pytest
import typer
from typer.testing import CliRunner

from catalog.errors import SettingsError, UnknownNameError
from catalog.messages import now_ms
from catalog.orders import read_signer
from catalog.settings import read_settings
from orchestrator.cli import logins as logins_command
from orchestrator.control.access import acl_line_of_digest
from orchestrator.control.signing import open_order_proof
from orchestrator.ledger import logins, open_ledger, work
from orchestrator.ledger.facts import record_facts
from tests.support.farm import DOLLAR_AN_HOUR, attempt, heartbeat, started, takes
from tests.support.makers import exactly
from tests.support.servers import INFRA

BROKER = "rediss://controller:ctl-secret@broker.example.com:6379/0?ssl_cert_reqs=required"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    monkeypatch.setenv("TUNEMILL_BROKER_URL", BROKER)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def ask(*arguments: str):
    app = typer.Typer()
    app.callback()(lambda: None)
    logins_command.register(app)
    result = CliRunner().invoke(app, ["worker-login", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_new_login_has_a_line_for_the_broker_and_a_file_for_its_machines(home):
    shown = ask("new", "runpod-1").stdout
    environment = dict(line.split("=", 1) for line in (home / "logins" / "runpod-1.env").read_text().splitlines())
    password = environment["TUNEMILL_BROKER_URL"].split(":")[2].partition("@")[0]
    assert environment["TUNEMILL_BROKER_URL"] == BROKER.replace("controller:ctl-secret", f"runpod-1:{password}")
    assert len(password) == 64
    assert password not in shown
    assert "ctl-secret" not in shown
    assert shown.startswith("user runpod-1 on #")
    assert stat.S_IMODE((home / "logins" / "runpod-1.env").stat().st_mode) == 0o600
    assert environment["TUNEMILL_VERIFY_ORDERS"] == read_signer(home / "signing.key").public_key


def test_the_line_is_the_one_of_the_shipped_users_file():
    lines = (INFRA / "users.acl").read_text().splitlines()
    assert acl_line_of_digest("worker", "SHA256-OF-THE-WORKERS-PASSWORD") in lines


def test_a_login_is_made_once_and_again_after_its_end(home):
    first = json.loads(ask("new", "a", "--json").stdout)
    with pytest.raises(SettingsError, match="exists already"):
        ask("new", "a")
    ask("end", "a")
    again = json.loads(ask("new", "a", "--json").stdout)
    assert first["acl"] != again["acl"]
    assert first["public_key"] == again["public_key"]


@pytest.mark.parametrize("name", ["A", "a.b", "unreadable", "../x", "x" * 40])
def test_a_name_that_cannot_be_a_login_is_refused(home, name):
    with pytest.raises(SettingsError, match="cannot be the name of a login"):
        ask("new", name)
    assert not (home / "logins").exists()


def test_without_a_fleet_there_is_nothing_to_make(home, monkeypatch):
    monkeypatch.delenv("TUNEMILL_BROKER_URL")
    with pytest.raises(SettingsError, match="embedded broker"):
        ask("new", "a")


def test_ending_a_login_ends_its_workers_and_sends_what_they_hold_again(home):
    ask("new", "a")
    plan = takes(2)
    ledger = open_ledger(read_settings().database)
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly(plan)).run_id
    at_ms = now_ms()
    with ledger.write() as connection:
        work.mark_next_sent(connection, run_id, "render.tone.4g", 2, at_ms)
        facts = [
            started("a.1", at_ms=at_ms, started_at_ms=at_ms),
            heartbeat([take.id for take in plan], "a.1", at_ms),
            started("b.1", at_ms=at_ms, started_at_ms=at_ms),
            attempt(plan[0], "rejected", "b.1", run_id=run_id, at_ms=at_ms),
        ]
        record_facts(connection, facts, lambda machine, at_ms: DOLLAR_AN_HOUR, at_ms)
    listed = {row["login"]: row for row in json.loads(ask("list", "--json").stdout)}
    assert (listed["a"]["living"], listed["b"]["rejected_share"]) == (1, 1.0)
    assert "100.0%" in ask("list").stdout
    ended = json.loads(ask("end", "a", "--json").stdout)
    assert ended == {"login": "a", "workers": ["a.1"], "takes_sent_again": 1}
    with ledger.read() as connection:
        assert work.living(connection) == ["b.1"]
        assert logins.ended_logins(connection) == {"a"}
    ledger.close()
    with pytest.raises(UnknownNameError, match="no login 'c'"):
        ask("end", "c")


# ------------------------------------------------------------ the key


@pytest.fixture
def ledger(home):
    opened = open_ledger(read_settings().database)
    yield opened
    opened.close()


def test_nothing_is_signed_before_there_is_a_key_and_everything_after(home, ledger):
    assert open_order_proof(ledger, read_settings()) is None
    shown = ask("key").stdout
    proof = open_order_proof(ledger, read_settings())
    assert f"TUNEMILL_VERIFY_ORDERS={proof.signer.public_key}" in shown
    assert ask("key").stdout.splitlines()[0] == shown.splitlines()[0]


def test_a_machine_without_the_fleets_key_does_not_feed_it(home, ledger):
    ask("key")
    (home / "signing.key").rename(home / "elsewhere.key")
    with pytest.raises(SettingsError, match="this machine has no signing key"):
        open_order_proof(ledger, read_settings())


def test_a_machine_with_another_key_does_not_feed_the_fleet(home, ledger, monkeypatch):
    ask("key")
    ask("key", "--make", str(home / "other.key"))
    monkeypatch.setenv("TUNEMILL_SIGNING_FILE", str(home / "other.key"))
    with pytest.raises(SettingsError, match="another key"):
        open_order_proof(ledger, read_settings())


def test_the_key_is_changed_in_two_steps_and_the_old_one_is_kept(home, ledger):
    old = open_order_proof(ledger, read_settings()) or json.loads(ask("key", "--json").stdout)["public_key"]
    made = json.loads(ask("key", "--make", str(home / "new.key"), "--json").stdout)["public_key"]
    assert open_order_proof(ledger, read_settings()).signer.public_key == old
    with pytest.raises(SettingsError, match="cannot be written"):
        ask("key", "--make", str(home / "new.key"))
    assert json.loads(ask("key", "--change", str(home / "new.key"), "--json").stdout)["public_key"] == made
    assert open_order_proof(ledger, read_settings()).signer.public_key == made
    (kept,) = home.glob("signing.key.until-*")
    assert read_signer(kept).public_key == old


def test_an_embedded_broker_needs_no_key(home, ledger, monkeypatch):
    ask("key")
    monkeypatch.delenv("TUNEMILL_BROKER_URL")
    assert open_order_proof(ledger, read_settings()) is None

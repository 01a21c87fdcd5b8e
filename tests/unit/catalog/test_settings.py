"""Settings from the environment: what is wrong is named, and secrets stay unsaid."""

import pytest

from catalog.errors import SettingsError
from catalog.settings import read_settings, without_secrets


def test_a_variable_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEMILL_BROKER_URL", "")
    assert read_settings().embedded


@pytest.mark.parametrize("url", ["http://u:hidden@x", "u:hidden@x", "amqp://u:hidden@x/"])
def test_a_broker_address_of_another_kind_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("TUNEMILL_BROKER_URL", url)
    with pytest.raises(SettingsError, match="TUNEMILL_BROKER_URL is wrong: it must begin with redis://") as raised:
        read_settings()
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("variable", ["SILENT_AFTER_S", "HEARTBEAT_S", "VRAM_GIB"])
@pytest.mark.parametrize("value", ["inf", "nan", "0", "soon"])
def test_a_number_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"TUNEMILL_{variable}", value)
    with pytest.raises(SettingsError, match=f"TUNEMILL_{variable} is wrong"):
        read_settings()


def test_a_worker_must_not_be_taken_for_dead_between_two_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEMILL_HEARTBEAT_S", "45")
    with pytest.raises(SettingsError, match="SILENT_AFTER_S is wrong: it must be at least twice TUNEMILL_HEARTBEAT_S"):
        read_settings()
    monkeypatch.setenv("TUNEMILL_SILENT_AFTER_S", "90")
    assert read_settings().heartbeat_s == 45


def test_a_window_that_no_statement_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEMILL_WINDOW", "50000")
    with pytest.raises(SettingsError, match="TUNEMILL_WINDOW is wrong"):
        read_settings()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rediss://user:hidden@host:6379/0?password=hidden", "rediss://host:6379/0"),
        ("redis+socket:///run/broker?password=hidden", "redis+socket:///run/broker"),
        ("sqlite:////srv/ledger.sqlite", "sqlite:////srv/ledger.sqlite"),
        ("/srv/store", "/srv/store"),
        ("redis://u:hidden@[::bad", "(an address that cannot be read)"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown

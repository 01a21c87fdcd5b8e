"""What must stay unsaid stays unsaid, in addresses and in whatever text a library writes."""

from __future__ import annotations

import logging
import sys
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import SettingsError
from catalog.secrets import ScrubbingFormatter, scrub, scrub_broker_error, without_secrets
from catalog.settings import read_settings

passwords = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=8, max_size=20).filter(
    lambda text: text.strip("*") and not set(text) <= set(":/?#@[]* ")
)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hid/den@host:6379/0",
        "redis://user:hid#den@host:6379/0",
        "redis://user:hid?den@host:6379/0",
        "redis://user:hidden@other@host:6379/0",
        "redis://user:hidden@host:6379/0?password=hidden#hidden",
        "postgresql+psycopg://user:hidden@host/db?password=hidden",
        "user:hidden@host",
    ],
)
def test_an_address_with_an_unescaped_password_is_shown_without_it(url):
    shown = without_secrets(url)
    assert not any(part in shown for part in ("hid", "den", "user", "other")), shown


@given(password=passwords, escaped=st.booleans())
def test_a_password_in_an_address_never_leaves_a_process_as_text(password, escaped):
    written = quote(password, safe="") if escaped else password
    environment = {"TUNEMILL_BROKER_URL": f"rediss://user:{written}@host:6379/0"}
    for said in (written, password, f"cannot connect to rediss://user:{written}@host:6379/0: no"):
        assert written not in scrub(said, environment)


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "HF_TOKEN", "PGPASSWORD", "SOME_API_KEY"],
)
def test_secrets_of_the_environment_are_left_out_of_the_log_with_their_tracebacks(monkeypatch, name):
    monkeypatch.setenv(name, "planted/secret+value")
    try:
        raise ValueError("signature planted/secret+value does not match")
    except ValueError:
        record = logging.LogRecord(
            "x", logging.ERROR, "f", 1, "cannot sign with %s", ("planted/secret+value",), sys.exc_info()
        )
    line = ScrubbingFormatter().format(record)
    assert "planted" not in line
    assert "ValueError: signature *** does not match" in line


def test_ordinary_words_stay():
    environment = {"AWS_SECRET_ACCESS_KEY": "test", "TOKENIZERS_PARALLELISM": "engine", "HOME": "/home/somebody"}
    assert scrub("the test engine of /home/somebody", environment) == "the test engine of /home/somebody"


def test_a_brokers_words_lose_the_login_and_keep_the_place():
    url = "redis://finance:s3cret-word@host:6379/0"
    said = f"NOPERM User finance has no permissions; {url}; redis://finance:**@host:6379//; s3cret-word"
    shown = scrub_broker_error(said, url)
    assert "finance" not in shown
    assert "s3cret" not in shown
    assert "host:6379" in shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hid/den@host:6379/0",
        "redis://user:hid#den@host:6379/0",
        "redis://user:hid?den@host:6379/0",
        "redis://user:hidden@host:port/0",
    ],
)
def test_a_broker_address_whose_password_is_not_escaped_is_refused_before_a_client_quotes_it(monkeypatch, url):
    monkeypatch.setenv("TUNEMILL_BROKER_URL", url)
    with pytest.raises(SettingsError, match="TUNEMILL_BROKER_URL is wrong: the host or the port") as raised:
        read_settings()
    assert "hid" not in str(raised.value)
    assert "%2F" in str(raised.value)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("rediss://host:6379/0", "rediss://host:6379/0?ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_ca_certs=/ca.pem", "rediss://host/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
        ("redis://user:p%40ss@host:6379/0", "redis://user:p%40ss@host:6379/0"),
        ("redis+socket:///run/broker?virtual_host=0", "redis+socket:///run/broker?virtual_host=0"),
    ],
)
def test_with_tls_the_server_must_prove_who_it_is(monkeypatch, given, used):
    monkeypatch.setenv("TUNEMILL_BROKER_URL", given)
    assert read_settings().broker_url == used

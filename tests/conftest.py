"""Fixtures for all tests: the real servers, and a machine of its own for each test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from catalog import clock
from orchestrator.cli import console
from tests.support import guard, new_ledgers, servers

# Speed is measured in benchmarks; a busy machine must not fail a property.
hypothesis.settings.register_profile("tunemill", deadline=None, print_blob=True, max_examples=50)
hypothesis.settings.register_profile("quick", parent=hypothesis.settings.get_profile("tunemill"), max_examples=30)
hypothesis.settings.load_profile("tunemill")


def pytest_configure() -> None:
    """Nothing that is started here outlives this process for long; each of xdist's workers has a guard of its own."""
    # Where tests are started in the background, a Ctrl-C is ignored, and so it would be by whatever they start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    guard.begin()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own TUNEMILL_ variables and AWS keys must not reach a test."""
    for name in list(os.environ):
        if name.startswith(("TUNEMILL_", "AWS_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _right_time() -> None:
    """Each test begins at the machine's time, as each command does.

    A process follows a wall clock that is set only slowly, by design; one that runs tests for half an hour would go on
    with the old time, while files and the processes that tests start have the new one.
    """
    kept = clock.now_ms.__self__
    if abs(kept.now_ms() - time.time_ns() // 1_000_000) > 20:
        kept.__init__()


@pytest.fixture(scope="session", autouse=True)
def _ledgers_made_at_once() -> Iterator[None]:
    with new_ledgers.made_at_once():
        yield


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder whose path leaves room for a unix socket."""
    with guard.new_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def _valkey() -> Iterator[str]:
    with guard.new_folder() as folder, servers.valkey(folder) as url:
        yield url


@pytest.fixture
def broker_url(_valkey: str) -> str:
    """An empty Valkey server."""
    import redis

    path = _valkey.removeprefix("redis+socket://").partition("?")[0]
    with redis.Redis(unix_socket_path=path) as client:
        client.flushall()
    return _valkey


@pytest.fixture(scope="session")
def _postgres() -> Iterator[str]:
    with guard.new_folder() as folder, servers.postgres(folder / "pg") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.sqlite'}"
        return
    with servers.new_database(request.getfixturevalue("_postgres")) as url:
        yield url


@pytest.fixture(scope="session")
def _s3() -> Iterator[str]:
    with servers.s3() as endpoint:
        yield endpoint


@pytest.fixture
def s3_endpoint(_s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An S3 service with the bucket `servers.BUCKET`, and the keys for it in the environment."""
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("TUNEMILL_S3_ENDPOINT_URL", _s3)
    servers.make_bucket(_s3)
    return _s3


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes standard output a colourless terminal of so many columns."""

    def of(width: int) -> None:
        for name, value in {"_force_terminal": True, "_color_system": None, "_width": width, "_height": 40}.items():
            monkeypatch.setattr(console.out, name, value)

    return of

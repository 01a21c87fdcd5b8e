"""Fixtures of the chaos tests: fleets that are ended with their test, and servers that tests may hurt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.chaos.faulty_s3 import FaultyS3
from tests.chaos.fleet import Fleet, a_fleet
from tests.chaos.services import Postgres
from tests.support import guard, servers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")

MakeFleet = Callable[..., Fleet]


@pytest.fixture
def fleet_of(short_tmp: Path) -> Iterator[MakeFleet]:
    """Makes fleets that end with the test."""
    with ExitStack() as stack:

        def make(**parts: Any) -> Fleet:
            folder = short_tmp / f"f{len(list(short_tmp.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(a_fleet(folder, **parts))

        yield make


@pytest.fixture
def fleet(fleet_of: MakeFleet) -> Fleet:
    """A fleet of 16 tracks with a broker that keeps its messages, SQLite and a folder."""
    return fleet_of()


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyS3]:
    """A misbehaving S3 service; it behaves until it is told otherwise."""
    proxy = FaultyS3(s3_endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def s3_fleet_of(fleet_of: MakeFleet, proxy: FaultyS3, s3_endpoint: str) -> MakeFleet:
    """Makes fleets whose store lies behind `proxy`, each below a prefix of its own."""

    def make(**parts: Any) -> Fleet:
        url = f"s3://{servers.BUCKET}/p{uuid4().hex[:8]}"
        return fleet_of(store_url=url, endpoint=proxy.endpoint, true_endpoint=s3_endpoint, **parts)

    return make


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A Postgres server that may be hurt; it must be up again at the end of a test."""
    with guard.new_folder() as folder:
        server = Postgres(folder / "pg")
        yield server
        server.close()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty database on it."""
    name = f"t{uuid4().hex[:12]}"
    # No pool: a test may crash the server, and its connections with it.
    engine = create_engine(postgres.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    yield engine.url.set(database=name).render_as_string(hide_password=False)
    postgres.start()

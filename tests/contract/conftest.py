"""What contract tests share: every kind of store, with the ledger that stands beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catalog.store import Store, open_store
from orchestrator.ledger import Ledger, open_ledger
from tests.support import servers
from tests.support.fakes import MemoryStore


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request, tmp_path) -> Store:
    if request.param == "s3":
        endpoint = request.getfixturevalue("s3_endpoint")
        return open_store(f"s3://{servers.BUCKET}/{tmp_path.name.lower()[-40:]}", s3_endpoint_url=endpoint)
    return MemoryStore() if request.param == "memory" else open_store(str(tmp_path / "store"))


@pytest.fixture
def ledger(request, tmp_path) -> Iterator[Ledger]:
    """On Postgres beside S3, as a fleet has it; else SQLite."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and callspec.params.get("store") == "s3":
        with servers.new_database(request.getfixturevalue("_postgres")) as url:
            opened = open_ledger(url)
            yield opened
            opened.close()
        return
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield opened
    opened.close()

"""The ledgers that tests make without Alembic are those that Alembic makes."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path

from orchestrator.ledger import migrations, open_ledger
from tests.support.new_ledgers import by_alembic, made_at_once


def schema_of(path: Path, made: AbstractContextManager[None]) -> list[tuple[str, ...]]:
    with made:
        open_ledger(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as connection:
        revision = connection.execute("select 'revision', version_num from alembic_version").fetchall()
        return revision + connection.execute("select type, name, sql from sqlite_master order by 1, 2").fetchall()


def test_a_later_ledger_has_the_schema_of_alembic_without_its_work(tmp_path, monkeypatch):
    by_hand = schema_of(tmp_path / "alembic.sqlite", by_alembic())
    assert by_hand[0] == ("revision", migrations.HEAD)
    first = schema_of(tmp_path / "first.sqlite", made_at_once())
    monkeypatch.setattr("tests.support.new_ledgers.upgrade", None)  # who called it now would fail
    assert first == by_hand == schema_of(tmp_path / "second.sqlite", made_at_once())


def test_an_older_ledger_is_upgraded_by_alembic(tmp_path, monkeypatch):
    path = tmp_path / "old.sqlite"
    schema_of(path, made_at_once())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("update alembic_version set version_num = '0001'")
        connection.commit()
    upgraded: list[str] = []
    monkeypatch.setattr("tests.support.new_ledgers.upgrade", lambda connection: upgraded.append("by alembic"))
    schema_of(path, made_at_once())
    assert upgraded == ["by alembic"]

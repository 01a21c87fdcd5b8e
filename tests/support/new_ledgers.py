"""New ledgers for tests: the schema of an empty database comes from what Alembic did to the first one.

Alembic takes a quarter of a second for a new ledger, and a thousand tests want one. The first upgrade of each kind of
database in this process is Alembic's own. Its statements are kept, and every later empty database gets the same ones.
A database that holds a schema already is always upgraded by Alembic; so is an empty one inside `by_alembic`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Connection, event, inspect

from orchestrator.ledger import database
from orchestrator.ledger.migrations import upgrade
from orchestrator.ledger.triggers import ensure_triggers

_CHANGES = ("alter", "create", "delete", "drop", "insert", "update")


class _Statement(NamedTuple):
    text: str
    parameters: Any


_kept: dict[str, list[_Statement]] = {}  # by the name of the dialect


@contextmanager
def made_at_once() -> Iterator[None]:
    """Here empty databases get their schema without Alembic, but for the first of each kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "upgrade", _upgrade)
        patch.setattr(database, "ensure_triggers", lambda connection: None)  # `_upgrade` has made them
        yield


@contextmanager
def by_alembic() -> Iterator[None]:
    """Here every database gets its schema from Alembic, as in the program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "upgrade", upgrade)
        patch.setattr(database, "ensure_triggers", ensure_triggers)
        yield


def _upgrade(connection: Connection) -> None:
    kind = connection.dialect.name
    if inspect(connection).get_table_names():
        _by_alembic(connection)
    elif kind in _kept:
        for statement in _kept[kind]:
            connection.exec_driver_sql(*statement)
    else:
        with _listening(connection) as heard:
            _by_alembic(connection)
        _kept[kind] = heard


def _by_alembic(connection: Connection) -> None:
    upgrade(connection)
    ensure_triggers(connection)


@contextmanager
def _listening(connection: Connection) -> Iterator[list[_Statement]]:
    """The statements that change anything, as the driver gets them."""
    heard: list[_Statement] = []

    def hear(_: Connection, cursor: object, text: str, parameters: Any, context: object, is_many: bool) -> None:
        if text.split(maxsplit=1)[0].lower() in _CHANGES:
            heard.append(_Statement(text, parameters or None))

    event.listen(connection, "before_cursor_execute", hear)
    yield heard
    event.remove(connection, "before_cursor_execute", hear)

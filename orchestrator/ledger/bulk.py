"""Bulk inserts: many rows at once, without SQLAlchemy's work on every single value.

SQLite takes plain tuples in one prepared statement; Postgres takes one array per column in one statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

_Name = TypeVar("_Name", str, int)

_NAMES_MAX: Final = 10_000  # in one statement; SQLite allows 32,766


def insert_rows(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert `rows`, each of the columns `names`; plain values only, text as `str` itself."""
    if not rows:
        return
    into = f"insert into {table.name} ({', '.join(names)})"
    if connection.dialect.name == "postgresql":
        types = (table.c[name].type.compile(connection.dialect) for name in names)
        arrays = ", ".join(f"%s::{each}[]" for each in types)
        columns = tuple(list(column) for column in zip(*rows, strict=True))
        connection.exec_driver_sql(f"{into} select * from unnest({arrays})", columns)  # noqa: S608 - names of ours
    else:
        connection.exec_driver_sql(f"{into} values ({', '.join('?' * len(names))})", list(rows))


def plain(value: Any) -> Any:
    """The same with a word of a closed list as text: a driver may not know its type."""
    return str(value) if isinstance(value, str) else value


def chunks(names: list[_Name]) -> Iterable[list[_Name]]:
    """Groups of names as large as one statement allows; heartbeats of 500 large workers name more than that."""
    return (names[at : at + _NAMES_MAX] for at in range(0, len(names), _NAMES_MAX))


def insert_into(connection: Connection, table: Any) -> Any:
    """The dialect's own `insert`, which supports a clause for keys that exist already."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        return postgres_insert(table)
    return sqlite_insert(table)


def insert_new(connection: Connection, table: type[Any], rows: Iterable[dict[str, Any]]) -> None:
    """Insert `rows`; those whose key is there already are left as they are."""
    listed = list(rows)
    if listed:
        connection.execute(insert_into(connection, table.__table__).on_conflict_do_nothing(), listed)

"""Many rows at once, by the fastest way that each database has and past SQLAlchemy's work on every single value.

SQLite takes plain tuples in one prepared statement; Postgres takes a column at a time, as arrays of one statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table


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

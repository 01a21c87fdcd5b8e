"""Triggers that make the fact tables append-only, whoever writes.

They are made anew after every schema change, because SQLite drops a table's triggers when it rebuilds it.
"""

from __future__ import annotations

from sqlalchemy import Connection

APPEND_ONLY = ("attempt", "rendition", "span")

_FUNCTION = """
create or replace function tunemill_append_only() returns trigger language plpgsql as $$
begin raise exception '%% is append-only', tg_table_name; end $$
"""


def trigger_names() -> set[str]:
    """The triggers a complete ledger has, on either database (Postgres has one more per table for truncate)."""
    return {f"{table}_no_{change}" for table in APPEND_ONLY for change in ("update", "delete")}


def ensure_triggers(connection: Connection) -> None:
    """Make the triggers that are not there."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_FUNCTION)
    for table in APPEND_ONLY:
        for change in ("update", "delete"):
            _guard(connection, table, change)
        if connection.dialect.name == "postgresql":
            _replace(connection, table, "truncate", "statement")


def _guard(connection: Connection, table: str, change: str) -> None:
    if connection.dialect.name == "postgresql":
        _replace(connection, table, change, "row")
        return
    connection.exec_driver_sql(
        f"create trigger if not exists {table}_no_{change} before {change} on {table} "
        f"begin select raise(abort, '{table} is append-only'); end"
    )


def _replace(connection: Connection, table: str, change: str, each: str) -> None:
    connection.exec_driver_sql(f"drop trigger if exists {table}_no_{change} on {table}")
    connection.exec_driver_sql(
        f"create trigger {table}_no_{change} before {change} on {table} "
        f"for each {each} execute function tunemill_append_only()"
    )

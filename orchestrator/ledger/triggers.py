"""Triggers: the database itself keeps facts and books append-only and closed months closed, for every writer.

The triggers are created again after every schema change, because SQLite drops a table's triggers when it rebuilds the
table.
"""

from __future__ import annotations

from sqlalchemy import Connection, inspect

APPEND_ONLY = (
    *("attempt", "loss", "rendition", "span", "verdict", "strike", "invoice", "invoice_line"),
    *("posting", "cost_entry", "closed_period", "budget"),
)

_FUNCTION = """
create or replace function tunemill_append_only() returns trigger language plpgsql as $$
begin raise exception '%% is append-only', tg_table_name; end $$
"""
_CLOSED = "exists (select 1 from closed_period where period = new.period)"
_CLOSED_FUNCTION = f"""
create or replace function tunemill_month_is_open() returns trigger language plpgsql as $$
begin if {_CLOSED} then raise exception '%% is closed', new.period; end if; return new; end $$
"""


def trigger_names() -> set[str]:
    """The triggers a complete ledger has, on either database (Postgres has one more per table for truncate)."""
    guards = {f"{table}_no_{change}" for table in APPEND_ONLY for change in ("update", "delete")}
    return guards | {"posting_month_is_open"}


def ensure_triggers(connection: Connection) -> None:
    """Make the triggers that are not there, of the tables that are."""
    there = set(inspect(connection).get_table_names())
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_FUNCTION)
    for table in (name for name in APPEND_ONLY if name in there):
        for change in ("update", "delete"):
            _guard(connection, table, change)
        if connection.dialect.name == "postgresql":
            _replace(connection, table, "truncate", "statement")
    if "closed_period" in there:
        _guard_closed_months(connection)


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


def _guard_closed_months(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_CLOSED_FUNCTION)
        connection.exec_driver_sql("drop trigger if exists posting_month_is_open on posting")
        connection.exec_driver_sql(
            "create trigger posting_month_is_open before insert on posting "
            "for each row execute function tunemill_month_is_open()"
        )
        return
    connection.exec_driver_sql(
        f"create trigger if not exists posting_month_is_open before insert on posting when {_CLOSED} "
        "begin select raise(abort, 'the month is closed'); end"
    )

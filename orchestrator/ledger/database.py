"""The ledger's database: open it, upgrade its schema to this version, and put its refusals into words.

SQLite and Postgres behave alike. Readers never wait for a writer (SQLite runs in WAL mode). A writing transaction takes
the one write lock at its start, so two writers queue: neither fails half-way, and they never deadlock. On Postgres, the
write lock is an advisory lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.pool import StaticPool

from catalog.errors import LedgerError, StoreFullError, TunemillError
from catalog.settings import without_secrets
from orchestrator.ledger.migrations import HEAD, upgrade
from orchestrator.ledger.triggers import ensure_triggers

BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
_WRITE_LOCK = 0x74756E65  # any constant of our own
_BEGIN = {"sqlite": "begin"}  # the statement that opens a transaction, where the driver needs one
_BEGIN_WRITING = {
    "sqlite": "begin immediate",
    "postgresql": f"select set_config('lock_timeout', '{BUSY_TIMEOUT_S}s', true), pg_advisory_xact_lock({_WRITE_LOCK})",
}


class RefusedValueError(LedgerError):
    """The database works, and refuses a value that was to be written; another value may be written."""


def open_database(url: str) -> Engine:
    """An engine for `url` with this version's schema. Raises LedgerError in words."""
    parsed = _parse(url)
    engine = _sqlite(parsed) if parsed.drivername == "sqlite" else _postgres(parsed)
    event.listen(engine, "begin", _begin)
    try:
        with in_words(engine.url):
            _bring_to_head(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def in_words(url: URL) -> Iterator[None]:
    """Turn the database's own errors into LedgerError.

    Raises StoreFullError when its disk is full, RefusedValueError when only the written values are at fault.
    """
    try:
        yield
    except DBAPIError as error:
        raise _explained(error, url) from None
    except NoConnectionFree as error:
        raise LedgerError(
            f"no connection to the ledger at {_shown(url)} is free", why=str(error), fix="run the same command again"
        ) from None


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.drivername in ("sqlite", "postgresql+psycopg"):
            return parsed
    except (ArgumentError, NoSuchModuleError, ValueError):
        pass
    raise LedgerError(
        "TUNEMILL_DATABASE_URL is not an address this program knows",
        why="the program knows sqlite:///path and postgresql+psycopg://user@host/name",
        fix="correct the variable, or unset it to use a file below TUNEMILL_HOME",
    )


def _sqlite(url: URL) -> Engine:
    in_memory = url.database in (None, "", ":memory:")
    if not in_memory:
        folder = Path(str(url.database)).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(
                f"the ledger's folder {folder} cannot be made",
                why=str(error.strerror),
                fix="set TUNEMILL_HOME or TUNEMILL_DATABASE_URL to a folder that this user may write to",
            ) from None
    options: dict[str, Any] = {"poolclass": StaticPool} if in_memory else {}
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": not in_memory}, **options)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # `_begin` opens transactions, not the driver
        for pragma in ("journal_mode=wal", "synchronous=normal", "foreign_keys=on", "recursive_triggers=on"):
            connection.execute(f"pragma {pragma}")

    return engine


def _postgres(url: URL) -> Engine:
    return create_engine(url, pool_pre_ping=True, pool_size=3, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})


def _begin(connection: Connection) -> None:
    begin = _BEGIN_WRITING if connection.get_execution_options().get("tunemill_writing") else _BEGIN
    if statement := begin.get(connection.dialect.name):
        connection.exec_driver_sql(statement)


def writing(engine: Engine) -> Engine:
    """`engine` for transactions that write: they take the write lock at once, so no other writer runs meanwhile."""
    return engine.execution_options(tunemill_writing=True)


def _bring_to_head(engine: Engine) -> None:
    with engine.connect() as connection:
        found = _revision(connection)
    if found == HEAD:
        return
    with writing(engine).begin() as connection:
        if _revision(connection) != HEAD:  # another process may have done it while we waited
            upgrade(connection)
            ensure_triggers(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("select version_num from alembic_version")).scalar()


def _explained(error: DBAPIError, url: URL) -> TunemillError:
    said = str(error.orig).strip()
    first_line = next((line.rpartition("FATAL:")[2].strip() for line in said.splitlines()), type(error).__name__)
    place = _shown(url)
    if _sqlstate(error) == "53100" or "disk is full" in said or "No space left" in said:
        return StoreFullError(
            f"no space left for the ledger at {place}",
            why="earlier records are complete; the last step was not recorded",
            fix="free some space and run the same command again",
        )
    if _is_of_a_value(error):
        return RefusedValueError(
            f"the ledger at {place} refused a value",
            why=first_line,
            fix="correct the value; the ledger is unchanged",
        )
    for cause in _CAUSES:
        if _sqlstate(error) in cause.sqlstates or any(sign in said for sign in cause.signs):
            why = cause.why.format(said=first_line)
            refused = LedgerError(f"the ledger at {place} cannot be used", why=why, fix=cause.fix)
            refused.needs_person = cause.needs_person
            return refused
    return LedgerError(
        f"the ledger at {place} refused",
        why=first_line,
        fix="run the same command again, since earlier records are complete; after a second refusal, read the"
        " database's log",
    )


def _sqlstate(error: DBAPIError) -> str:
    """Postgres' code of the error; "" from SQLite, and when no connection could be made."""
    return str(getattr(error.orig, "sqlstate", None) or "")


def _is_of_a_value(error: DBAPIError) -> bool:
    if isinstance(error, DataError | IntegrityError):
        return True
    if isinstance(error, InterfaceError) and "sqlite" in type(error.orig).__module__:
        return True  # a type or a text that it cannot bind; Postgres' driver says so of connections
    return _sqlstate(error)[:2] in _SQLSTATES_OF_VALUES


def _shown(url: URL) -> str:
    return without_secrets(url.render_as_string(hide_password=True))


_SQLSTATES_OF_VALUES = ("22", "23", "54")  # data exception, constraint violated, a limit of the program exceeded


class _Cause(NamedTuple):
    """A known reason why a database refuses, found by Postgres' code or the message's words; the first match counts."""

    why: str  # {said}: its own words
    fix: str
    signs: tuple[str, ...]
    sqlstates: tuple[str, ...] = ()
    needs_person: bool = False  # waiting does not help


_HELD = f"another program held it for over {BUSY_TIMEOUT_S} s"
_NO_RIGHT = "its user lacks a right: {said}"
# Codes are those of Postgres' appendix "Error Codes". A connection that could not be made has none, only words.
_CAUSES = (
    # SQLite
    _Cause(
        "the file is not an SQLite database, or it is damaged",
        "move the file away and run again; the run finds accepted takes in the store",
        ("not a database",),
    ),
    _Cause("the database file is damaged", "restore a copy, or move it away and run again", ("malformed",)),
    _Cause("the file cannot be opened", "check its folder's rights, or set TUNEMILL_HOME", ("unable to open",)),
    _Cause(
        "this user may not write to the file",
        "check the rights of the file and its folder, and that its disk is not mounted read-only; or set TUNEMILL_HOME",
        ("readonly database",),
    ),
    _Cause(
        "the disk of the ledger failed to read or write",
        "check the disk, which must be a local one, and run the same command again",
        ("disk I/O error",),
    ),
    _Cause(_HELD, "end that program and run again", ("is locked", "lock timeout"), ("55P03",)),
    # Postgres: rights, which a person must grant
    _Cause(
        _NO_RIGHT,
        "let the schema's owner run `grant usage, create on schema public to USER` (or whichever schema it is), or"
        " `alter schema public owner to USER`, for the user in TUNEMILL_DATABASE_URL",
        ("permission denied for schema", "no schema has been selected"),
        needs_person=True,
    ),
    _Cause(
        _NO_RIGHT,
        "let the database's owner run `grant connect on database DATABASE to USER`, or correct TUNEMILL_DATABASE_URL",
        ("permission denied for database",),
        needs_person=True,
    ),
    _Cause(
        _NO_RIGHT,
        "name the user that made the ledger in TUNEMILL_DATABASE_URL, or let an administrator run `grant OWNER to"
        " USER`, where OWNER owns the ledger's tables",
        ("permission denied", "must be owner"),
        ("42501",),
        needs_person=True,
    ),
    _Cause(
        "the server does not let its user in: {said}",
        "let an administrator allow the login (`alter role USER login`, or a line in pg_hba.conf, which may require"
        " TLS: ?sslmode=require), or correct TUNEMILL_DATABASE_URL",
        ("not permitted to log in", "pg_hba.conf"),
        ("28000",),
        needs_person=True,
    ),
    _Cause(
        "the user or password was refused",
        "correct TUNEMILL_DATABASE_URL",
        ("password authentication", "no password supplied"),
        ("28P01",),
        needs_person=True,
    ),
    _Cause(
        "it only takes reading: {said}",
        "name the primary server in TUNEMILL_DATABASE_URL if this one is a standby; else let an administrator turn"
        " default_transaction_read_only off for its user and database",
        ("read-only transaction",),
        ("25006",),
    ),
    # Postgres: outages, which pass
    _Cause(
        "the server has no connection free: {said}",
        "end programs that hold some, or raise max_connections or the limit of its user and database; then run the same"
        " command again",
        ("too many connections", "too many clients", "connection slots are reserved"),
        ("53300",),
    ),
    _Cause(
        "the server is being started or stopped: {said}",
        "wait until it is up, and run the same command again",
        ("the database system is", "terminating connection"),
        ("57P01", "57P02", "57P03"),
    ),
    _Cause(
        "the server ended the statement: {said}",
        "run the same command again; where its user has a statement_timeout, let an administrator raise it",
        ("canceling statement",),
        ("57014",),
    ),
    _Cause(
        "another program was in the way: {said}",
        "run the same command again",
        ("deadlock detected", "could not serialize"),
        ("40001", "40P01"),
    ),
    _Cause(
        "the server's files are damaged: {said}",
        "stop the server and restore a copy",
        ("invalid page in block", "could not read block"),
        ("XX001", "XX002"),
    ),
    _Cause(
        "the database, user or table does not exist", "create it, or correct TUNEMILL_DATABASE_URL", ("does not exist",)
    ),
    _Cause(
        "the host name is unknown",
        "correct TUNEMILL_DATABASE_URL",
        ("could not translate host", "failed to resolve host"),
    ),
    _Cause(
        "the server does not answer",
        "start it, or correct TUNEMILL_DATABASE_URL; then run again",
        ("connection",),
        ("08000", "08001", "08003", "08004", "08006"),
    ),
)

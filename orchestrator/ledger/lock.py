"""The writer lock: at most one process feeds the queues and writes records to the ledger.

Beside an SQLite file, the lock is a file lock; on Postgres, it is an advisory lock. Either one ends with the process
that holds it. A process that takes the lock also increments the ledger's epoch, and every transaction of a writer first
compares the ledger's epoch with its own. So a writer that was suspended or disconnected until another process took the
lock notices this before it writes.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, Engine, select, text, update
from sqlalchemy.exc import DBAPIError

from catalog.errors import BusyError, LedgerError
from catalog.messages import now_ms
from orchestrator.ledger.database import in_words, writing
from orchestrator.ledger.tables import WRITER

if TYPE_CHECKING:
    from filelock import FileLock

VERIFY_EVERY_S: Final = 15.0  # firewalls forget a connection that says nothing for some minutes
_KEY = 0x746D6C6C  # any constant of our own
_HOLDER_QUERY = text(
    "select a.application_name from pg_locks l join pg_stat_activity a on a.pid = l.pid "
    "where l.locktype = 'advisory' and l.objid = :key and l.granted "
    "and l.database = (select oid from pg_database where datname = current_database())"
)


class WriterLock:
    """Enter to become the writer; BusyError when another process is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._file: FileLock | None = None
        self._connection: Connection | None = None
        self._entered = False
        self._verified_s = 0.0
        self._epoch = 0

    def __enter__(self) -> WriterLock:
        if not self._entered:
            self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock or raise BusyError at once."""
        if self._engine.dialect.name == "postgresql":
            self._acquire_postgres()
        elif self._engine.url.database not in (None, "", ":memory:"):
            self._acquire_file(Path(str(self._engine.url.database)))
        try:
            self._begin_epoch()
        except BaseException:
            self.release()
            raise
        self._entered = True
        self._verified_s = time.monotonic()

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        self._entered = False
        if self._file is not None:
            self._file.release()
            self._file = None
        self._end_session()

    def verify(self, *, now: bool = False) -> None:
        """Make sure the lock is still ours, every few seconds or `now`; take it again when it was lost.

        A Postgres lock ends with its session, as when the server restarts, and the ledger's other connections may
        not notice. Raises BusyError when another process has taken it, LedgerError while there is no answer.
        """
        if not self._entered or self._engine.dialect.name != "postgresql":
            return
        if not now and self._connection is not None and time.monotonic() - self._verified_s < VERIFY_EVERY_S:
            return
        if not self._session_lives():
            self._end_session()
            self._acquire_postgres()
            self._begin_epoch()
        self._verified_s = time.monotonic()

    def check(self, connection: Connection) -> None:
        """Raise BusyError, inside a writing transaction, when another process has taken the lock since."""
        found = connection.execute(select(WRITER.c.epoch, WRITER.c.holder).where(WRITER.c.id == 1)).first()
        if found is None or found.epoch != self._epoch:
            raise _busy(found.holder if found else "nobody")

    def _begin_epoch(self) -> None:
        """From here on no earlier holder can write any more."""
        mine = {"holder": _myself(), "since_ms": now_ms()}
        with in_words(self._engine.url), writing(self._engine).begin() as connection:
            found = connection.execute(select(WRITER.c.epoch).where(WRITER.c.id == 1)).scalar()
            if found is None:
                connection.execute(WRITER.insert().values(id=1, epoch=1, **mine))
            else:
                connection.execute(update(WRITER).where(WRITER.c.id == 1).values(epoch=found + 1, **mine))
            self._epoch = (found or 0) + 1

    def _session_lives(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("select 1"))
        except DBAPIError:
            return False
        return True

    def _end_session(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # ends the session, and the lock with it
            self._connection.close()
            self._connection = None

    def _acquire_file(self, database: Path) -> None:
        from filelock import FileLock, Timeout

        lock = FileLock(f"{database}.lock", timeout=0, thread_local=False)
        note = Path(f"{database}.holder")
        try:
            lock.acquire()
        except Timeout:
            raise _busy(_read_note(note)) from None
        except OSError as error:
            raise LedgerError(
                f"the lock beside {database} cannot be taken",
                why=str(error),
                fix="put the ledger into a folder on a local disk that this user may write to",
            ) from None
        self._file = lock
        note.write_text(json.dumps({"holder": _myself()}))

    def _acquire_postgres(self) -> None:
        with in_words(self._engine.url):
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("select set_config('application_name', :name, false)"), {"name": _myself()[:60]})
            if connection.execute(text("select pg_try_advisory_lock(:key)"), {"key": _KEY}).scalar():
                self._connection = connection
                return
            holder = connection.execute(_HOLDER_QUERY, {"key": _KEY}).scalar()
            connection.invalidate()  # its application name is ours no longer
            connection.close()
        raise _busy(holder or "another process")


def is_controller(holder: str) -> bool:
    """True when the holder of a lock is a controller, which feeds and records every run."""
    return holder.startswith("controller ")


def _myself() -> str:
    command = " ".join(sys.argv[1:2]) or "tunemill"
    return f"{command} (pid {os.getpid()} on {socket.gethostname()})"


def _read_note(note: Path) -> str:
    try:
        return str(json.loads(note.read_text())["holder"])
    except (OSError, ValueError, KeyError):
        return "another process"


def _busy(holder: str) -> BusyError:
    error = BusyError(
        f"another process writes to the ledger: {holder}",
        why="only one process at a time may feed the queues and record results, so that no take is sent twice",
        fix="wait for that process or end it, then run the same command again; `tunemill status` shows its progress",
    )
    error.holder = holder
    return error

"""The open ledger: its transactions, the writer lock, and the queries that other packages use most."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine

from catalog.messages import now_ms
from orchestrator.ledger import plans, readings, slots
from orchestrator.ledger.database import in_words, open_database, writing
from orchestrator.ledger.due import Refused
from orchestrator.ledger.lock import WriterLock
from orchestrator.ledger.plans import BegunRun, PlannedTakes, RunTerms
from orchestrator.ledger.slots import KnownTake
from orchestrator.ledger.tables import TAKE, RenditionRow, RunRow


@dataclass(frozen=True, slots=True)
class Ledger:
    """One open database of this version's schema."""

    engine: Engine
    fence: WriterLock | None = None  # of the process that feeds and records: it writes only while it holds this

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises LedgerError in words."""
        with in_words(self.engine.url), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A transaction that only reads, all of it as of one instant. Raises LedgerError in words."""
        engine = self.engine
        if engine.name == "postgresql":  # SQLite's transactions always do
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with in_words(engine.url), engine.begin() as connection:
            if engine.name == "postgresql":
                # A month's sums are hundreds of thousands of rows, which it would sort on disk with what it takes.
                connection.exec_driver_sql("set local work_mem = '64MB'")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes whole or not at all. Raises LedgerError or StoreFullError in words.

        Behind a fence also BusyError, before anything is written, when another process has taken the lock.
        """
        with in_words(self.engine.url), writing(self.engine).begin() as connection:
            if self.fence is not None:
                self.fence.check(connection)
            yield connection

    def fenced(self, lock: WriterLock) -> Ledger:
        """The same ledger for the holder of `lock`."""
        return replace(self, fence=lock)

    def writer_lock(self) -> WriterLock:
        """The lock of the one process that feeds and records; entering raises BusyError naming who holds it."""
        return WriterLock(self.engine)

    def known_takes(self, catalog: str) -> dict[tuple[str, int], KnownTake]:
        """(track key, take number) -> the take that the slot has now, and how far it has come."""
        with self.read() as connection:
            return slots.known_takes(connection, catalog)

    def known_models(self, catalog: str) -> set[str]:
        """Every model that a take of the catalog was ever planned for."""
        with self.read() as connection:
            return plans.known_models(connection, catalog)

    def made_models(self, catalog: str) -> set[str]:
        """Every model that an accepted take of the catalog was made with."""
        with self.read() as connection:
            return plans.made_models(connection, catalog)

    def shelved_takes(self, catalog: str) -> dict[str, str]:
        """Take id -> state of the takes that the catalog had and has changed or dropped since."""
        with self.read() as connection:
            return slots.shelved_takes(connection, catalog)

    def refused_takes(self, catalog: str) -> Refused:
        """The takes whose place passes to another: the checks refused them, or a listener asks for another."""
        with self.read() as connection:
            return slots.refused_takes(connection, TAKE.c.catalog == catalog)

    def begin_or_resume_run(  # noqa: PLR0913 - a plan with its terms
        self,
        catalog: str,
        model: str,
        takes: PlannedTakes,
        max_usd_micros: int | None = None,
        take_usd_micros: int | None = None,
        *,
        tries: int = 0,
        duplicates: str = "warn",
        choose_by: str = "",
        remade: Collection[str] = (),
        is_part: bool = False,
    ) -> BegunRun:
        """Write down all of `takes` as the catalog's plan, or with `is_part` as a part of it.

        `remade` are takes that do not keep their slots though they differ in finishing alone. A run that is not
        finished goes on; BusyError when it has more takes to make than that part.

        One transaction: after a kill the ledger holds the old plan or the new one. Memory grows by a few
        hundred bytes a take.
        """
        terms = RunTerms(model, max_usd_micros, take_usd_micros, tries, duplicates, choose_by)
        with self.write() as connection:
            return plans.begin_or_resume(connection, catalog, terms, takes, now_ms(), is_part=is_part, remade=remade)

    def unfinished_run(self, catalog: str) -> RunRow | None:
        """The catalog's active run."""
        with self.read() as connection:
            return plans.unfinished_run(connection, catalog)

    def find_rendition(self, take_id_prefix: str) -> RenditionRow | None:
        """The accepted rendition whose take id begins so. Raises UnknownNameError when several do."""
        with self.read() as connection:
            return readings.find_rendition(connection, take_id_prefix)

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def open_ledger(url: str) -> Ledger:
    """Open the ledger at `url`, making or upgrading its schema. Raises LedgerError in words."""
    return Ledger(open_database(url))

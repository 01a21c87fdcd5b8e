"""Rebuild: a new ledger from the store alone, row for row what the lost one said of accepted takes and of verdicts.

One transaction holds it all: a rebuild that is killed leaves a ledger that is as empty as before. What is not in the
store cannot come back: rejected and failed attempts, workers, their time and their price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from sqlalchemy import Connection

from catalog.errors import LedgerError, MessageError, StoreError
from catalog.keys import take_of_sidecar
from catalog.sidecar import Sidecar
from catalog.store import ObjectInfo, Store
from catalog.verdicts import Verdict
from orchestrator.ledger import Ledger, upkeep
from orchestrator.ledger.verdicts import record_verdicts
from orchestrator.upkeep.abreast import abreast
from orchestrator.upkeep.reading import UnreadableError, read_sidecar
from orchestrator.upkeep.verdicts import Unread, stored_verdicts

_AT_ONCE: Final = 500


class Rebuilt(NamedTuple):
    """The findings of a rebuild."""

    takes: int
    runs: int
    catalogs: list[str]
    verdicts: int  # of listeners
    damaged: list[str]  # keys of sidecars and verdicts that could not be read, those of newer versions among them


def refuse_used(connection: Connection) -> None:
    """Raise LedgerError for a ledger that has takes already."""
    if upkeep.has_takes(connection):
        raise LedgerError(
            "the ledger has takes already",
            why="a rebuild makes a new ledger; what an old one says must not be mixed with guesses",
            fix="name an empty one with --database, or use `tunemill catalog repair` to mend this one",
        )


def read_sidecars(store: Store) -> Iterator[Sidecar | str]:
    """Every sidecar of the store, in order of keys; of one that cannot be read its key."""

    def read(info: ObjectInfo) -> Sidecar | str | None:
        try:
            return read_sidecar(store, info.key, str(take_of_sidecar(info.key)))  # None: removed since it was listed
        except (MessageError, UnreadableError):
            return info.key

    listed = (info for info in store.list("") if take_of_sidecar(info.key))
    return (each for each in abreast(read, listed) if each is not None)


def rebuild(store: Store, ledger: Ledger | None, *, on_take: Callable[[], None] = lambda: None) -> Rebuilt:
    """Fill the empty `ledger`, which must be fenced by the writer's lock, from `store`; None: only look.

    Raises LedgerError for a ledger that has takes, StoreError for a store that has none.
    """
    found = _Found()
    batches = found.batches(read_sidecars(store), on_take)
    if ledger is None:
        for batch in batches:
            found.note(batch)
        for catalog in sorted(found.catalogs):
            found.verdicts(store, catalog)
        return found.rebuilt(store)
    with ledger.write() as connection:
        refuse_used(connection)
        for batch in batches:
            upkeep.write_from_sidecars(connection, batch)
            upkeep.stretch_runs(connection, batch, found.bounds)
            found.note(batch)
        upkeep.mark_newest_current(connection)
        for catalog in sorted(found.catalogs):
            record_verdicts(connection, found.verdicts(store, catalog))
    return found.rebuilt(store)


class _Found:
    def __init__(self) -> None:
        self.bounds: dict[str, tuple[int, int]] = {}
        self._takes = 0
        self._runs: set[str] = set()
        self._verdicts = 0
        self.catalogs: set[str] = set()
        self._damaged: list[str] = []

    def batches(self, read: Iterator[Sidecar | str], on_take: Callable[[], None]) -> Iterator[list[Sidecar]]:
        """The sound ones, many at a time."""
        while chunk := list(islice(read, _AT_ONCE)):
            self._damaged += [each for each in chunk if isinstance(each, str)]
            for _ in chunk:
                on_take()
            yield [each for each in chunk if not isinstance(each, str)]

    def note(self, batch: list[Sidecar]) -> None:
        """Count a batch."""
        self._takes += len(batch)
        self._runs |= {sidecar.run_id for sidecar in batch}
        self.catalogs |= {sidecar.take.track.catalog for sidecar in batch}

    def verdicts(self, store: Store, catalog: str) -> list[Verdict]:
        """The sound verdicts about a catalog's takes."""
        read = list(stored_verdicts(store, catalog))
        self._damaged += [each.key for each in read if isinstance(each, Unread)]
        sound = [each for each in read if isinstance(each, Verdict)]
        self._verdicts += len(sound)
        return sound

    def rebuilt(self, store: Store) -> Rebuilt:
        """The sum."""
        if not self._takes and not self._damaged:
            raise StoreError(
                f"the store has not one sidecar: {store.locate('catalog').removesuffix('catalog')}",
                why="it is another store, one that is not mounted, or nothing was made yet",
                fix="correct TUNEMILL_STORE_URL or mount it",
            )
        return Rebuilt(self._takes, len(self._runs), sorted(self.catalogs), self._verdicts, self._damaged)

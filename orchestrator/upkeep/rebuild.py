"""Rebuild: a new ledger from the store alone, row for row what the lost one said of accepted takes.

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
from catalog.sidecar import NewerSidecarError, Sidecar, parse_sidecar
from catalog.store import ObjectInfo, Store
from orchestrator.ledger import Ledger, upkeep
from orchestrator.upkeep.abreast import abreast

_AT_ONCE: Final = 500


class Rebuilt(NamedTuple):
    """What a rebuild has found."""

    takes: int
    runs: int
    catalogs: list[str]
    damaged: list[str]  # keys of sidecars that could not be read


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
        body = store.find(info.key)
        if body is None:
            return None  # removed since it was listed
        try:
            return parse_sidecar(body, str(take_of_sidecar(info.key)))
        except NewerSidecarError:
            raise
        except MessageError:
            return info.key

    listed = (info for info in store.list("") if take_of_sidecar(info.key))
    return (each for each in abreast(read, listed) if each is not None)


def rebuild(store: Store, ledger: Ledger | None, *, on_take: Callable[[], None] = lambda: None) -> Rebuilt:
    """Fill the empty `ledger`, which must be fenced by the writer's lock, from `store`; None: only look.

    Raises LedgerError for a ledger that has takes, StoreError for a store that has none, NewerSidecarError when
    this program is too old.
    """
    found = _Found()
    batches = found.batches(read_sidecars(store), on_take)
    if ledger is None:
        for batch in batches:
            found.note(batch)
        return found.rebuilt(store)
    with ledger.write() as connection:
        refuse_used(connection)
        for batch in batches:
            upkeep.write_from_sidecars(connection, batch)
            upkeep.stretch_runs(connection, batch, found.bounds)
            found.note(batch)
        upkeep.mark_newest_current(connection)
    return found.rebuilt(store)


class _Found:
    def __init__(self) -> None:
        self.bounds: dict[str, tuple[int, int]] = {}
        self._takes = 0
        self._runs: set[str] = set()
        self._catalogs: set[str] = set()
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
        self._catalogs |= {sidecar.take.track.catalog for sidecar in batch}

    def rebuilt(self, store: Store) -> Rebuilt:
        """The sum."""
        if not self._takes and not self._damaged:
            raise StoreError(
                f"the store has not one sidecar: {store.locate('catalog').removesuffix('catalog')}",
                why="it is another store, one that is not mounted, or nothing was made yet",
                fix="correct TUNEMILL_STORE_URL or mount it",
            )
        return Rebuilt(self._takes, len(self._runs), sorted(self._catalogs), self._damaged)

"""Rebuild: makes a new ledger from the store alone, with the same rows for accepted takes and verdicts as the lost one.

The rebuild is one transaction, so a killed rebuild leaves the ledger empty, as it was before. Facts that are not in the
store cannot be restored: rejected and failed attempts, workers, their time and their price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from sqlalchemy import Connection

from catalog.errors import LedgerError, MessageError, StoreError
from catalog.keys import take_of_sidecar
from catalog.orders import OrderSigner
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
    unordered: list[str]  # takes whose sidecars came since orders are signed, and prove no order


class StoredSidecar(NamedTuple):
    """A sidecar, and when its object was written by the store's clock, which no worker can set."""

    sidecar: Sidecar
    modified_ms: int


def refuse_used(connection: Connection) -> None:
    """Raise LedgerError for a ledger that has takes already."""
    if upkeep.has_takes(connection):
        raise LedgerError(
            "the ledger has takes already",
            why="a rebuild makes a new ledger; it cannot add to an existing one",
            fix="name an empty database with --database, or repair this ledger with `tunemill catalog repair`",
        )


def read_sidecars(store: Store) -> Iterator[StoredSidecar | str]:
    """Every sidecar of the store, in order of keys; of one that cannot be read its key."""

    def read(info: ObjectInfo) -> StoredSidecar | str | None:
        try:
            sidecar = read_sidecar(store, info.key, str(take_of_sidecar(info.key)))
            return StoredSidecar(sidecar, info.modified_ms) if sidecar else None  # None: removed since it was listed
        except (MessageError, UnreadableError):
            return info.key

    listed = (info for info in store.list("") if take_of_sidecar(info.key))
    return (each for each in abreast(read, listed) if each is not None)


def rebuild(
    store: Store,
    ledger: Ledger | None,
    *,
    signer: OrderSigner | None = None,
    on_take: Callable[[], None] = lambda: None,
) -> Rebuilt:
    """Fill the empty `ledger`, which must be fenced by the writer's lock, from `store`; None: only look.

    With the `signer` of its orders, takes are marked that came since the first order that it has signed and that
    nothing proves to have been ordered.

    Raises LedgerError for a ledger that has takes, StoreError for a store that has none.
    """
    found = _Found(signer)
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
        upkeep.mark_orders_unknown(connection, found.unordered())
        for catalog in sorted(found.catalogs):
            record_verdicts(connection, found.verdicts(store, catalog))
    return found.rebuilt(store)


class _Found:
    def __init__(self, signer: OrderSigner | None) -> None:
        self._signer = signer
        self._signed_since_ms: int | None = None
        self._unproven: list[tuple[str, int]] = []  # takes without a receipt of ours, and when they were stored
        self.bounds: dict[str, tuple[int, int]] = {}
        self._takes = 0
        self._runs: set[str] = set()
        self._verdicts = 0
        self.catalogs: set[str] = set()
        self._damaged: list[str] = []

    def batches(self, read: Iterator[StoredSidecar | str], on_take: Callable[[], None]) -> Iterator[list[Sidecar]]:
        """The sound ones, many at a time."""
        while chunk := list(islice(read, _AT_ONCE)):
            self._damaged += [each for each in chunk if isinstance(each, str)]
            for _ in chunk:
                on_take()
            sound = [each for each in chunk if not isinstance(each, str)]
            for each in sound:
                self._prove(each)
            yield [each.sidecar for each in sound]

    def unordered(self) -> list[str]:
        """The takes that nothing proves to have been ordered, of those that came since orders are signed."""
        since_ms = self._signed_since_ms
        return [] if since_ms is None else [take_id for take_id, at_ms in self._unproven if at_ms >= since_ms]

    def _prove(self, stored: StoredSidecar) -> None:
        if self._signer is None:
            return
        sidecar = stored.sidecar
        sent_ms = self._signer.sent_at_ms(sidecar.receipt, sidecar.take_id) if sidecar.receipt else None
        if sent_ms is None:
            self._unproven.append((sidecar.take_id, stored.modified_ms))
        else:
            self._signed_since_ms = min(sent_ms, self._signed_since_ms or sent_ms)

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
                f"the store has no sidecar: {store.locate('catalog').removesuffix('catalog')}",
                why="this is another store, the store is not mounted, or nothing was made yet",
                fix="correct TUNEMILL_STORE_URL, or mount the store",
            )
        counted = (self._takes, len(self._runs), sorted(self.catalogs), self._verdicts)
        return Rebuilt(*counted, damaged=self._damaged, unordered=self.unordered())

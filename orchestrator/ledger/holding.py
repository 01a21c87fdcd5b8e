"""Takes in hand: which worker holds which take, according to heartbeats, attempts and returns.

The time of an update is linear in the number of changes: each worker's last heartbeat is remembered, so the next one
costs only its differences. From time to time, all holds are compared with the ledger again, because a person may have
changed the ledger or restored an older copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update

from catalog.messages import AttemptMade, Heartbeat, Record, TakesReturned, WorkerStopped
from orchestrator.ledger.bulk import chunks
from orchestrator.ledger.progress import TakeProgress
from orchestrator.ledger.tables import TAKE

_NAMES: Final = TakeProgress.__slots__
_VALUES: Final = attrgetter(*_NAMES)
COMPARED_EVERY_MS: Final = 300_000

# (worker, receipt, take, when the take was last sent) -> when the order was sent that the worker was given; None:
# nothing proves that it was given one.
GivenAt = Callable[[str, str, str, int | None], int | None]
ANY_TIME: Final = 2**63  # the instant of an order for which no proof is asked


def believe_all(worker_id: str, receipt: str, take_id: str, sent_at_ms: int | None) -> int | None:
    """The rule where orders are not signed: every worker that reports a take may have it."""
    return ANY_TIME


@dataclass(slots=True)
class NamedTakes:
    """The takes that each worker's last recorded heartbeat named, and when all of them were compared."""

    by_worker: dict[str, tuple[frozenset[str], int]] = field(default_factory=dict)

    def named_before(self, worker_id: str, at_ms: int) -> frozenset[str] | None:
        """The takes in the worker's last heartbeat; None when its next heartbeat must be compared with the ledger."""
        known = self.by_worker.get(worker_id)
        return known[0] if known is not None and at_ms - known[1] < COMPARED_EVERY_MS else None

    def forget(self, worker_ids: Iterable[str] | None = None) -> None:
        """Compare these workers' next heartbeats with the ledger, or everybody's."""
        if worker_ids is None:
            self.by_worker.clear()
            return
        for worker_id in worker_ids:
            self.by_worker.pop(worker_id, None)


class TakesTold:
    """The takes that a batch of records names, by id and by holder; `write` writes the changed ones."""

    def __init__(
        self, connection: Connection, records: Sequence[Record], named: NamedTakes, at_ms: int, given_at: GivenAt
    ) -> None:
        self._connection, self._at_ms, self._given_at = connection, at_ms, given_at
        self._compared_ms = {worker_id: compared_ms for worker_id, (_, compared_ms) in named.by_worker.items()}
        # For this batch's heartbeats that need no full comparison: the takes that the previous one named.
        self._before = {
            record.worker_id: named.named_before(record.worker_id, at_ms)
            for record in records
            if isinstance(record, Heartbeat)
        }
        self.named: dict[str, tuple[frozenset[str], int]] = {}  # to be remembered once all is written
        self._takes = self._read(records)
        self._was = {take_id: _VALUES(take) for take_id, take in self._takes.items()}
        self._held: dict[str, set[str]] = {}
        for take_id, take in self._takes.items():
            if take.held_by is not None:
                self._held.setdefault(take.held_by, set()).add(take_id)

    def attempted(self, record: AttemptMade) -> None:
        """One try has ended, that is new to the ledger."""
        if (take := self._takes.get(record.take_id)) is not None:
            take.attempted(record)

    def heard(self, record: Record) -> None:
        """Note that a worker holds takes, returns takes, or has ended."""
        if isinstance(record, Heartbeat):
            self._beat(record)
        elif isinstance(record, TakesReturned):
            receipts = record.receipts or [""] * len(record.take_ids)
            for take_id, receipt in zip(record.take_ids, receipts, strict=False):
                self._returned(record.worker_id, take_id, receipt)
        elif isinstance(record, WorkerStopped):
            for take_id in self._held.pop(record.worker_id, set()):
                self._takes[take_id].returned(record.worker_id)
            self.named[record.worker_id] = (frozenset(), 0)

    def write(self) -> None:
        """Write only each take's changed columns, because even an equal value makes the database update indexes."""
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for take_id, take in self._takes.items():
            now, was = _VALUES(take), self._was[take_id]
            if now != was:
                names = tuple(name for name, new, old in zip(_NAMES, now, was, strict=True) if new != old)
                values = {f"to_{name}": getattr(take, name) for name in names}
                by_columns.setdefault(names, []).append({"of_take": take_id, **values})
        ours = update(TAKE).where(TAKE.c.take_id == bindparam("of_take"))
        for names, rows in by_columns.items():
            to: dict[str, Any] = {name: bindparam(f"to_{name}") for name in names}
            self._connection.execute(ours.values(**to), rows)

    def _beat(self, record: Heartbeat) -> None:
        worker_id, named = record.worker_id, frozenset(record.held)
        before = self.named[worker_id][0] if worker_id in self.named else self._before[worker_id]
        compared_ms = self._at_ms if before is None else self._compared_ms[worker_id]
        if fresh := named if before is None else named - before:
            receipts = dict(zip(record.held, record.receipts, strict=False))
            for take_id in fresh:
                self._named(worker_id, take_id, receipts.get(take_id, ""))
        held = self._held.get(worker_id, set()) if before is None else before
        for take_id in sorted(held - named):
            if (take := self._takes.get(take_id)) is not None:
                take.not_named(worker_id, self._at_ms)
            self._held.get(worker_id, set()).discard(take_id)
        self._compared_ms[worker_id] = compared_ms
        self.named[worker_id] = (named, compared_ms)

    def _named(self, worker_id: str, take_id: str, receipt: str) -> None:
        take = self._takes.get(take_id)
        if take is None:
            return
        if take.held_by != worker_id:
            given_ms = self._given_at(worker_id, receipt, take_id, take.sent_at_ms)
            if given_ms is None:
                return
            if given_ms != ANY_TIME:
                take.orders = max(1, take.orders)  # a ledger that went back does not know of an order that was sent
        if take.held_by is not None:
            self._held.get(take.held_by, set()).discard(take_id)
        take.named(worker_id, self._at_ms)
        if take.held_by is not None:
            self._held.setdefault(take.held_by, set()).add(take_id)

    def _returned(self, worker_id: str, take_id: str, receipt: str) -> None:
        take = self._takes.get(take_id)
        if take is None:
            return
        given_ms = self._given_at(worker_id, receipt, take_id, take.sent_at_ms)
        # Said twice, it must not have a take sent a third time that was sent again after the first.
        if given_ms is not None and given_ms >= (take.sent_at_ms or 0):
            self._held.get(worker_id, set()).discard(take_id)
            take.returned(worker_id)

    def _read(self, records: Sequence[Record]) -> dict[str, TakeProgress]:
        """The takes that the batch may change: those of attempts and returns, those that heartbeats name anew or no
        longer, and all that are held by workers that have ended or whose heartbeat is compared as a whole, which also
        concerns the takes that it does not name.
        """
        columns = [TAKE.c.take_id, *(TAKE.c[name] for name in _NAMES)]
        whole = {worker_id for worker_id, before in self._before.items() if before is None}
        ended = {record.worker_id for record in records if isinstance(record, WorkerStopped)}
        # By worker and not by what the takes were: one that was just named may have been held by another until now.
        conditions = [TAKE.c.held_by.in_(chunk) for chunk in chunks(sorted(whole | ended))]
        conditions += [TAKE.c.take_id.in_(chunk) for chunk in chunks(sorted(self._touched(records)))]
        found: dict[str, TakeProgress] = {}
        for condition in conditions:
            for row in self._connection.execute(select(*columns).where(condition)):
                found[row[0]] = TakeProgress(*row[1:])
        return found

    def _touched(self, records: Sequence[Record]) -> set[str]:
        touched: set[str] = set()
        for record in records:
            if isinstance(record, AttemptMade):
                touched.add(record.take_id)
            elif isinstance(record, TakesReturned):
                touched.update(record.take_ids)
            elif isinstance(record, Heartbeat):
                touched |= frozenset(record.held) ^ (self._before[record.worker_id] or frozenset())
        return touched

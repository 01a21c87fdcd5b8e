"""Recording: turns workers' records into facts in the ledger; a record that cannot be written never stops the others.

A record comes from a machine of a third party. A record is set aside with its reason when it cannot be read, when a
newer program wrote it, when it is not believed, or when the rules of facts or the database refuse it. Recording finds a
refused record by halving the batch that was to be written, and writes all other records. An outage of the database is
no fault of a record: recording waits until the outage ends.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from catalog.errors import MessageError, OutdatedError, TunemillError
from catalog.messages import MESSAGE_VERSION, Heartbeat, Record, check_record_size, parse_record, parse_record_json
from orchestrator.control.admission import Admission, OrderProof
from orchestrator.control.broker import RawRecord
from orchestrator.ledger import Ledger, set_aside
from orchestrator.ledger.database import RefusedValueError
from orchestrator.ledger.facts import Recorded, record_facts
from orchestrator.ledger.holding import NamedTakes, believe_all
from orchestrator.ledger.machines import PriceOf
from orchestrator.ledger.set_aside import SetAside

log = logging.getLogger(__name__)


class _Readable(NamedTuple):
    raw_record: RawRecord
    record: Record


class RecordWriter:
    """Writes records down in their order; the caller holds the writer lock."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        price_of: PriceOf,
        clock: Callable[[], int],
        proof: OrderProof | None = None,
    ) -> None:
        self._ledger, self._price_of, self._clock, self._proof = ledger, price_of, clock, proof
        self._named = NamedTakes()

    def write(self, raw_records: Sequence[RawRecord], undrained: Collection[str] = ()) -> Recorded:
        """Write these records, or set them aside. Raises LedgerError for an outage; it may be done again then.

        `undrained` holds the logins whose lists have more records than these.
        """
        aside: list[SetAside] = []
        readable = [each for raw_record in raw_records if (each := _read(raw_record, aside)) is not None]
        recorded = self._write(self._admitted(_in_order(readable), aside), aside, undrained)
        if aside:
            self._set_aside(aside)
        return recorded

    def forget_named(self, worker_ids: Iterable[str] | None = None) -> None:
        """Compare the holdings of these workers, or of all, with the ledger again, as another program changed it."""
        self._named.forget(worker_ids)

    def retry_due(self) -> Recorded | None:
        """Try some records again that were set aside and are due; None when none is due.

        A record that succeeds is no longer set aside, and one that fails again is no longer due.
        """
        with self._ledger.read() as connection:
            due = set_aside.due(connection)
        if not due:
            return None
        recorded = self.write([RawRecord(each.raw, each.login) for each in due])
        with self._ledger.write() as connection:
            set_aside.drop_due(connection, [each.digest for each in due])
        return recorded

    def retry_newer(self) -> None:
        """Mark the records due that an earlier program found too new and this one can read."""
        with self._ledger.write() as connection:
            set_aside.mark_due_up_to(connection, MESSAGE_VERSION)

    def _admitted(self, readable: list[_Readable], aside: list[SetAside]) -> list[_Readable]:
        """Those of the records that are believed."""
        if not readable:
            return []
        with self._ledger.read() as connection:
            records = [each.record for each in readable]
            admission = Admission(connection, records, now_ms=self._clock(), proof=self._proof)
            faults = [admission.fault_of(each.record, each.raw_record.login) for each in readable]
        believed, dropped = [], Counter[str]()
        for each, fault in zip(readable, faults, strict=True):
            if each.raw_record.login in admission.ended:
                dropped[each.raw_record.login] += 1
            elif fault:
                aside.append(_as_aside(each.raw_record, "refused", fault))
            else:
                believed.append(each)
        for login, count in dropped.items():
            log.warning(
                "%d records of the ended login %s were dropped; remove it from the broker's users", count, login
            )
        return believed

    def _write(self, readable: Sequence[_Readable], aside: list[SetAside], undrained: Collection[str]) -> Recorded:
        if not readable:
            return Recorded()
        given_at = self._proof.given_at if self._proof else believe_all
        try:
            with self._ledger.write() as connection:
                records = [each.record for each in readable]
                recorded = record_facts(
                    connection,
                    records,
                    self._price_of,
                    self._clock(),
                    named=self._named,
                    given_at=given_at,
                    undrained=undrained,
                )
        except Exception as error:
            self._named.forget({each.record.worker_id for each in readable})
            # Whatever else goes wrong may be one record's doing: a number that our own arithmetic cannot hold, a name
            # that the price book cannot look up. Alone it is kept, whole, so that nothing is lost if it was not.
            if isinstance(error, TunemillError) and not isinstance(error, RefusedValueError):
                raise
            if len(readable) == 1:
                aside.append(_refused(readable[0].raw_record, error))
                return Recorded()
        else:
            self._named.by_worker.update(recorded.named)
            return recorded
        middle = len(readable) // 2
        first = self._write(readable[:middle], aside, undrained)
        return first.plus(self._write(readable[middle:], aside, undrained))

    def _set_aside(self, aside: list[SetAside]) -> None:
        with self._ledger.write() as connection:
            gone = set_aside.write_set_aside(connection, aside, self._clock())
        first = aside[0]
        worker_id = (first.payload or {}).get("worker_id", "unknown")
        log.warning(
            "%d records were set aside, the first of worker %s: %s; see `tunemill records list`",
            *(len(aside), ascii(worker_id)[:80], first.reason),
        )
        if gone:
            log.error("%d of the oldest records that were set aside had to go: there are too many", gone)


def _in_order(readable: list[_Readable]) -> list[_Readable]:
    """The records with each heartbeat after the last one that its worker had sent before it."""
    beats = {each.record.worker_id: each for each in readable if _is_placed(each.record)}
    if not beats:
        return readable
    ordered: list[_Readable] = []
    for each in readable:
        if _is_placed(each.record):
            continue
        beat = beats.get(each.record.worker_id)
        if beat is not None and isinstance(beat.record, Heartbeat) and each.record.sequence > beat.record.after:
            ordered.append(beats.pop(each.record.worker_id))
        ordered.append(each)
    return [*ordered, *beats.values()]


def _is_placed(record: Record) -> bool:
    """True for a heartbeat from a key, whose sequence number gives its place among the worker's records."""
    return isinstance(record, Heartbeat) and not record.sequence and record.after > 0


def _read(raw_record: RawRecord, aside: list[SetAside]) -> _Readable | None:
    """The record, unless it cannot be read."""
    try:
        check_record_size(raw_record.raw)
        return _Readable(raw_record, parse_record_json(raw_record.raw) or parse_record(raw_record.payload or {}))
    except MessageError as error:
        fault: set_aside.Fault = "newer" if isinstance(error, OutdatedError) else "unreadable"
        aside.append(_as_aside(raw_record, fault, error.what))
        return None


def _refused(raw_record: RawRecord, error: Exception) -> SetAside:
    said = error.why if isinstance(error, TunemillError) else f"{type(error).__name__}: {error}"
    return _as_aside(raw_record, "refused", said)


def _as_aside(raw_record: RawRecord, fault: set_aside.Fault, reason: str) -> SetAside:
    return SetAside(raw_record.raw, raw_record.payload, fault, reason, raw_record.login)

"""Recording: what workers report becomes facts, and what cannot is set aside and stops nobody.

A record comes from a machine that is not ours. One that cannot be read, that a newer program wrote, or that the rules
of facts or the database refuse, harms itself alone: it is found by halving what was to be written together, kept with
its reason, and everything else is written. An outage of the database is none of this: it is waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from catalog.errors import MessageError, OutdatedError, TunemillError
from catalog.messages import MESSAGE_VERSION, Record, check_record_size, parse_record
from orchestrator.control.broker import Envelope, open_record
from orchestrator.ledger import Ledger, set_aside
from orchestrator.ledger.database import RefusedValueError
from orchestrator.ledger.facts import PriceOf, Recorded, record_facts
from orchestrator.ledger.set_aside import SetAside

log = logging.getLogger(__name__)


class _Readable(NamedTuple):
    envelope: Envelope
    record: Record


class RecordWriter:
    """Writes records down in their order; the caller holds the writer lock."""

    def __init__(self, ledger: Ledger, *, price_of: PriceOf, clock: Callable[[], int]) -> None:
        self._ledger, self._price_of, self._clock = ledger, price_of, clock

    def write(self, envelopes: Sequence[Envelope]) -> Recorded:
        """Write these records, or set them aside. Raises LedgerError for an outage; it may be done again then."""
        aside: list[SetAside] = []
        readable = [each for envelope in envelopes if (each := _read(envelope, aside)) is not None]
        recorded = self._write(readable, aside)
        if aside:
            self._set_aside(aside)
        return recorded

    def retry_due(self) -> Recorded | None:
        """Try some of those again that were set aside and are due; None when none is.

        What succeeds is set aside no longer, and what fails again is no longer due.
        """
        with self._ledger.read() as connection:
            due = set_aside.due(connection)
        if not due:
            return None
        recorded = self.write([open_record(raw) for _, raw in due])
        with self._ledger.write() as connection:
            set_aside.drop_due(connection, [digest for digest, _ in due])
        return recorded

    def retry_newer(self) -> None:
        """Mark the records due that an earlier program found too new and this one can read."""
        with self._ledger.write() as connection:
            set_aside.mark_due_up_to(connection, MESSAGE_VERSION)

    def _write(self, readable: Sequence[_Readable], aside: list[SetAside]) -> Recorded:
        if not readable:
            return Recorded()
        try:
            with self._ledger.write() as connection:
                return record_facts(connection, [each.record for each in readable], self._price_of, self._clock())
        except Exception as error:
            # Whatever else goes wrong may be one record's doing: a number that our own arithmetic cannot hold, a name
            # that the price book cannot look up. Alone it is kept, whole, so that nothing is lost if it was not.
            if isinstance(error, TunemillError) and not isinstance(error, RefusedValueError):
                raise
            if len(readable) == 1:
                aside.append(_refused(readable[0].envelope, error))
                return Recorded()
        middle = len(readable) // 2
        return self._write(readable[:middle], aside).plus(self._write(readable[middle:], aside))

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


def _read(envelope: Envelope, aside: list[SetAside]) -> _Readable | None:
    """The record, unless it cannot be read."""
    try:
        check_record_size(envelope.raw)
        return _Readable(envelope, parse_record(envelope.payload or {}))
    except MessageError as error:
        fault: set_aside.Fault = "newer" if isinstance(error, OutdatedError) else "unreadable"
        aside.append(SetAside(envelope.raw, envelope.payload, fault, error.what))
        return None


def _refused(envelope: Envelope, error: Exception) -> SetAside:
    said = error.why if isinstance(error, TunemillError) else f"{type(error).__name__}: {error}"
    return SetAside(envelope.raw, envelope.payload, "refused", said)

"""The roll-call: one row for each worker, with its own description, the time of its last message, and its price."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update

from catalog.logins import login_of_worker
from catalog.messages import AttemptMade, Heartbeat, MemoryUse, Record, SpansClosed, WorkerStarted, WorkerStopped
from catalog.rental import LOCAL, RentalNote
from orchestrator.ledger.bulk import insert_new
from orchestrator.ledger.machines import PriceOf, machine_of, mark_rentals_unposted, rental_row
from orchestrator.ledger.observations import Machine
from orchestrator.ledger.tables import RENTAL, WORKER, RentalRow, WorkerRow

CLOCK_TOLERANCE_MS: Final = 5_000  # a clock that is further off than this is wrong, not merely coarse

# The columns of a worker's row that its start record does not contain.
_NOTHING_KNOWN: Final[dict[str, Any]] = {
    "last_seen_ms": 0,
    "heard_at_ms": 0,
    "clock_ahead_ms": 0,
    "last_beat": 0,
    "last_record": 0,
    "ended_at_ms": None,
    "end_reason": None,
    "tally_spans_ms": 0,
    "tally_attempts_ms": 0,
    "tally_reached_ms": 0,
    **dict.fromkeys(MemoryUse.model_fields),
}


def _is_belated(row: Mapping[str, Any], record: Record, posted_ms: int) -> bool:
    """True when a record tells of time that is in its worker's tally already, or before `posted_ms`."""
    if isinstance(record, SpansClosed):
        return any(span.start_ms < max(row["tally_spans_ms"], posted_ms) for span in record.spans)
    return isinstance(record, AttemptMade) and record.at_ms < max(row["tally_attempts_ms"], posted_ms)


def _place_of(beat: Heartbeat, row: Mapping[str, Any], *, is_drained: bool) -> Heard:
    if beat.number and beat.number <= row["last_beat"]:
        return Heard.OVERTAKEN
    if beat.after < row["last_record"]:
        return Heard.STALE
    return Heard.CURRENT if beat.after == row["last_record"] or is_drained else Heard.EARLY


class Heard(Enum):
    """The effect of a record on the takes that its worker holds."""

    CURRENT = "current"
    OVERTAKEN = "overtaken"  # a heartbeat that is older than one that was recorded
    STALE = "stale"  # a heartbeat from before a record that is on the books: its worker lives, and holds something else
    EARLY = "early"  # a heartbeat whose worker has told more before it: it waits for that


class RollCall:
    """The rows of the workers that a batch of records names; `write` writes the changed ones."""

    def __init__(self, connection: Connection, worker_ids: set[str], price_of: PriceOf, at_ms: int) -> None:
        self._connection, self._price_of, self._at_ms = connection, price_of, at_ms
        query = select(WORKER).where(WORKER.c.worker_id.in_(sorted(worker_ids)))
        self._rows = {row["worker_id"]: dict(row) for row in connection.execute(query).mappings()}
        self._was = {worker_id: dict(row) for worker_id, row in self._rows.items()}
        self._rentals: dict[str, dict[str, Any]] = {}
        self._belated: set[str] = set()  # rentals of which time became known that was thought to be added up
        rental_ids = {row["rental_id"] for row in self._rows.values()}
        posted = select(RENTAL.c.rental_id, RENTAL.c.posted_ms).where(RENTAL.c.rental_id.in_(sorted(rental_ids)))
        self._posted_ms: dict[str, int] = dict(connection.execute(posted).all())

    def heard(self, record: Record, *, is_drained: bool = True) -> Heard:
        """Note a worker's report on itself. `is_drained`: all its earlier records are in this batch or an earlier one.

        A heartbeat takes its place among the worker's records by their sequence. A record that the broker has lost is
        waited for no longer than its list is drained.
        """
        if isinstance(record, WorkerStarted):
            self._started(record)
        row = self._rows.get(record.worker_id) or self._appear(record)
        if row is None:
            return Heard.CURRENT  # its start has not come yet; it will be known by its next record
        heard = _place_of(record, row, is_drained=is_drained) if isinstance(record, Heartbeat) else Heard.CURRENT
        if heard in (Heard.OVERTAKEN, Heard.EARLY):
            return heard
        self._note(row, record)
        if isinstance(record, Heartbeat):
            row["last_beat"] = record.number or row["last_beat"]
            if record.memory is not None:
                row.update(record.memory.model_dump())
        return heard

    def _note(self, row: dict[str, Any], record: Record) -> None:
        self._compare_clocks(row, record.at_ms)
        row["heard_at_ms"] = max(row["heard_at_ms"], self._at_ms)
        row["last_record"] = max(row["last_record"], record.sequence)
        if _is_belated(row, record, self._posted_ms.get(row["rental_id"], 0)):
            self._belated.add(row["rental_id"])
        ends = [span.end_ms for span in record.spans] if isinstance(record, SpansClosed) else []
        row["last_seen_ms"] = max(row["last_seen_ms"], record.at_ms, *ends)
        if isinstance(record, WorkerStopped):
            row["ended_at_ms"], row["end_reason"] = record.at_ms, record.reason
        elif isinstance(record, Heartbeat | WorkerStarted) and record.at_ms > (row["ended_at_ms"] or record.at_ms):
            row["ended_at_ms"] = row["end_reason"] = None  # taken for dead, but it lives on and costs money

    def _appear(self, record: Record) -> dict[str, Any] | None:
        """The row of a worker whose first words were lost, once it tells of time that costs money; else nothing."""
        if not isinstance(record, SpansClosed | AttemptMade):
            return None
        sidecar = record.sidecar if isinstance(record, AttemptMade) and not record.adopted else None
        starts = [span.start_ms for span in record.spans] if isinstance(record, SpansClosed) else []
        said = {"host": "", "vram_gib": 0.0, "model_fingerprint": "", "code": "", "noise": False, "lane": ""}
        self._started(
            WorkerStarted(
                worker_id=record.worker_id,
                gpu=sidecar.gpu if sidecar else "",
                model=sidecar.take.spec.model if sidecar else "",
                batch_limit=0,
                batch_limit_reason="nothing is known of it but what it recorded later",
                started_at_ms=min(starts, default=record.at_ms),
                **said,
            )
        )
        return self._rows[record.worker_id]

    def write(self) -> None:
        """Write all rows back."""
        fresh = [row for worker_id, row in self._rows.items() if worker_id not in self._was]
        insert_new(self._connection, WorkerRow, fresh)
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for worker_id, was in self._was.items():
            row = self._rows[worker_id]
            if names := tuple(name for name, value in row.items() if was[name] != value):
                changed = {f"to_{name}": row[name] for name in names}
                by_columns.setdefault(names, []).append({"of_worker": worker_id, **changed})
        for names, rows in by_columns.items():
            values: dict[str, Any] = {name: bindparam(f"to_{name}") for name in names}
            ours = update(WORKER).where(WORKER.c.worker_id == bindparam("of_worker"))
            self._connection.execute(ours.values(**values), rows)
        insert_new(self._connection, RentalRow, self._rentals.values())
        mark_rentals_unposted(self._connection, {row["rental_id"] for row in self._rows.values()}, later=True)
        if self._belated:
            mark_rentals_unposted(self._connection, self._belated)

    def _started(self, record: WorkerStarted) -> None:
        row = self._rows.get(record.worker_id, _NOTHING_KNOWN)
        if row.get("model_fingerprint") and not record.model_fingerprint:
            return  # the first announcement, arriving after the complete one
        said = record.model_dump(exclude={"v", "record_id", "at_ms", "kind", "rental", "sequence"})
        said["login"] = login_of_worker(record.worker_id)
        if row.get("host"):
            said["started_at_ms"] = row["started_at_ms"]  # a life begins once; later records do not move its beginning
        if (before := row.get("rental_id")) and record.rental and record.rental.rental_id != before:
            self._belated.add(before)  # postings for a worker without known facts
        rental = record.rental or RentalNote(provider=LOCAL, external_id=record.worker_id, gpu_count=1)
        self._rentals[rental.rental_id] = rental_row(rental, record.gpu)
        self._rows[record.worker_id] = {**row, **said, "rental_id": rental.rental_id}
        self._price(self._rows[record.worker_id], record.gpu or self._gpu_seen_on(record.host))
        if record.gpu:
            for silent in self._silent_on(record.host):
                self._price(silent, record.gpu)

    def _compare_clocks(self, row: dict[str, Any], at_ms: int) -> None:
        """Learn how far a worker's clock is ahead of ours, or behind it when that is negative.

        A record that waited on the queue looks like one of a clock that is behind: the one that waited least is right.
        """
        ahead_ms = at_ms - self._at_ms
        ahead_ms = 0 if abs(ahead_ms) <= CLOCK_TOLERANCE_MS else ahead_ms
        row["clock_ahead_ms"] = max(row["clock_ahead_ms"], ahead_ms) if row["heard_at_ms"] else ahead_ms

    def _price(self, row: dict[str, Any], gpu: str) -> None:
        price = self._price_of(self._machine(row["rental_id"], gpu), row["started_at_ms"]) if gpu else None
        row["gpu"] = gpu
        row["price_sku"] = price.sku if price else None
        row["price_source"] = price.source if price else None
        row["rate_usd_micros_per_h"] = price.rate_usd_micros_per_h if price else None

    def _machine(self, rental_id: str, gpu: str) -> Machine:
        """The rented machine: as the books have it, else as its worker reports it."""
        query = select(RENTAL).where(RENTAL.c.rental_id == rental_id)
        row = self._connection.execute(query).mappings().first() or self._rentals.get(rental_id)
        return machine_of(row, gpu) if row else Machine(gpu)

    # A worker names its GPU when its model is loaded. One that was ended before that has cost money too, and a
    # host's GPUs are of one kind, so its other workers say which.

    def _gpu_seen_on(self, host: str) -> str:
        """The GPU that the latest worker on `host` has named; empty when none has."""
        here = [row for row in self._rows.values() if row["host"] == host and row["gpu"]]
        if here:
            return str(max(here, key=lambda row: row["started_at_ms"])["gpu"])
        named = select(WORKER.c.gpu).where(WORKER.c.host == host, WORKER.c.gpu != "")
        return self._connection.execute(named.order_by(WORKER.c.started_at_ms.desc()).limit(1)).scalar() or ""

    def _silent_on(self, host: str) -> list[dict[str, Any]]:
        """The rows of workers on `host` that never named a GPU, fit to be written back."""
        query = select(WORKER).where(WORKER.c.host == host, WORKER.c.gpu == "")
        for row in self._connection.execute(query).mappings():
            self._rows.setdefault(row["worker_id"], dict(row))
            self._was.setdefault(row["worker_id"], dict(row))
        return [row for row in self._rows.values() if row["host"] == host and not row["gpu"]]

"""Facts: what workers report becomes rows, many in one transaction, each exactly once.

The record queue delivers at least once. Attempts are known by their record id, spans by worker and start,
renditions by take: writing them again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from catalog.messages import (
    AttemptMade,
    Heartbeat,
    MemoryUse,
    Record,
    SpansClosed,
    TakesReturned,
    WorkerStarted,
    WorkerStopped,
)
from catalog.rental import LOCAL, RentalNote
from catalog.sidecar import Sidecar
from orchestrator.ledger.observations import Machine
from orchestrator.ledger.progress import TakeProgress, rendition_id
from orchestrator.ledger.tables import (
    ATTEMPT,
    RENTAL,
    TAKE,
    WORKER,
    AttemptRow,
    RenditionRow,
    RentalRow,
    SpanRow,
    WorkerRow,
)


class WorkerPrice(NamedTuple):
    """The price of one worker hour, and the price row that states it."""

    sku: str
    source: str
    rate_usd_micros_per_h: int


CLOCK_TOLERANCE_MS: Final = 5_000  # a clock that is further off than this is wrong, not merely coarse
_NAMES_MAX: Final = 10_000  # in one statement; SQLite allows 32,766

PriceOf = Callable[[Machine, int], WorkerPrice | None]  # (machine, instant in ms) -> price in force, None if unknown


@dataclass(slots=True)
class Recorded:
    """The outcomes and workers that a transaction has recorded."""

    outcomes: Counter[str] = field(default_factory=Counter)  # new attempts by outcome
    seen: set[str] = field(default_factory=set)  # workers heard of
    stopped: set[str] = field(default_factory=set)

    def plus(self, later: Recorded) -> Recorded:
        """The sum of two recordings; a worker that was heard of after its stop has not stopped."""
        stopped = (self.stopped - later.seen) | later.stopped
        outcomes = self.outcomes + later.outcomes
        return Recorded(outcomes, self.seen | later.seen, stopped)


def record_facts(connection: Connection, records: Sequence[Record], price_of: PriceOf, at_ms: int) -> Recorded:
    """Write `records` in their order; `at_ms` is the controller's clock."""
    recorded = Recorded()
    attempts = _new_attempts(connection, records)
    takes = _read_progress(connection, records)
    before = {take_id: asdict(take) for take_id, take in takes.items()}
    workers = _Workers(connection, {record.worker_id for record in records}, price_of, at_ms)
    made: list[AttemptMade] = []
    spans: list[SpansClosed] = []
    for record in records:
        recorded.seen.add(record.worker_id)
        is_current = workers.heard(record)
        if isinstance(record, AttemptMade):
            # Taken out once counted: the same record twice in one batch is one attempt.
            if attempts.pop(record.record_id, None) is not None:
                recorded.outcomes[record.outcome] += 1
                made.append(record)
                if record.take_id in takes:
                    takes[record.take_id].attempted(record)
        elif isinstance(record, SpansClosed):
            spans.append(record)
        elif is_current:
            _apply(record, takes, at_ms)
            if isinstance(record, WorkerStopped):
                recorded.stopped.add(record.worker_id)
    workers.write()
    _insert_attempts(connection, made)
    _insert_spans(connection, spans)
    _write_progress(connection, takes, before)
    # Another worker's time has made what was adopted, and only now is it known what became of it.
    mark_makers_unposted(connection, {each.take_id for each in made if each.adopted})
    return recorded


def _apply(record: Record, takes: dict[str, TakeProgress], at_ms: int) -> None:
    if isinstance(record, Heartbeat):
        held = set(record.held)
        for take_id, take in takes.items():
            if take_id in held:
                take.named(record.worker_id, at_ms)
            else:
                take.not_named(record.worker_id)
    elif isinstance(record, TakesReturned):
        for take_id in record.take_ids:
            if take_id in takes:
                takes[take_id].returned(record.worker_id)
    elif isinstance(record, WorkerStopped):
        for take in takes.values():
            if take.held_by == record.worker_id:
                take.returned(record.worker_id)


def _new_attempts(connection: Connection, records: Sequence[Record]) -> dict[str, AttemptMade]:
    made = {record.record_id: record for record in records if isinstance(record, AttemptMade)}
    written = select(ATTEMPT.c.record_id).where(ATTEMPT.c.record_id.in_(list(made)))
    for record_id in connection.execute(written).scalars():
        del made[record_id]
    return made


def _named_takes(records: Sequence[Record]) -> set[str]:
    named: set[str] = set()
    for record in records:
        if isinstance(record, AttemptMade):
            named.add(record.take_id)
        elif isinstance(record, Heartbeat):
            named.update(record.held)
        elif isinstance(record, TakesReturned):
            named.update(record.take_ids)
    return named


def _read_progress(connection: Connection, records: Sequence[Record]) -> dict[str, TakeProgress]:
    """The takes that are named, and all that these workers hold: a heartbeat speaks of those it leaves out, too."""
    columns = [TAKE.c.take_id, *(TAKE.c[name] for name in TakeProgress.__slots__)]
    speaking = {record.worker_id for record in records if isinstance(record, Heartbeat | WorkerStopped)}
    # By worker and not by what the takes were: one that was just named may have been held by another until now.
    conditions = [TAKE.c.held_by.in_(sorted(speaking))] if speaking else []
    conditions += [TAKE.c.take_id.in_(chunk) for chunk in chunks(sorted(_named_takes(records)))]
    found: dict[str, TakeProgress] = {}
    for condition in conditions:
        for row in connection.execute(select(*columns).where(condition)):
            found[row[0]] = TakeProgress(*row[1:])
    return found


def chunks(names: list[str]) -> Iterable[list[str]]:
    """So many at a time as one statement may name; 500 heartbeats of large workers name more than that."""
    return (names[at : at + _NAMES_MAX] for at in range(0, len(names), _NAMES_MAX))


def _write_progress(connection: Connection, takes: dict[str, TakeProgress], before: dict[str, dict[str, Any]]) -> None:
    changed = [
        {"of_take": take_id, **{f"to_{name}": value for name, value in asdict(take).items()}}
        for take_id, take in takes.items()
        if asdict(take) != before[take_id]
    ]
    if changed:
        values: dict[str, Any] = {name: bindparam(f"to_{name}") for name in TakeProgress.__slots__}
        connection.execute(update(TAKE).where(TAKE.c.take_id == bindparam("of_take")).values(**values), changed)


def _insert_attempts(connection: Connection, made: Sequence[AttemptMade]) -> None:
    insert_new(connection, AttemptRow, [attempt_row(each) for each in [*made, *_unreported(connection, made)]])
    insert_new(
        connection, RenditionRow, [rendition_row(each.sidecar, rendition_id(each)) for each in made if each.sidecar]
    )


def _unreported(connection: Connection, made: Sequence[AttemptMade]) -> list[AttemptMade]:
    """The attempts behind adopted sidecars, for those whose worker did not live to report them.

    So the time they took is known to have made a take. Only of workers on these books: a sidecar may be older.
    """
    sidecars = [each.sidecar for each in made if each.adopted and each.sidecar and each.sidecar.record_id]
    ours = select(WORKER.c.worker_id).where(WORKER.c.worker_id.in_({sidecar.worker_id for sidecar in sidecars}))
    known = set(connection.execute(ours).scalars()) if sidecars else set()
    return [AttemptMade.of(sidecar) for sidecar in sidecars if sidecar.worker_id in known]


def attempt_row(made: AttemptMade) -> dict[str, Any]:
    """The ledger's row of an attempt."""
    return {
        **made.model_dump(include={"record_id", "take_id", "run_id", "worker_id", "outcome", "reasons", "adopted"}),
        **made.times.model_dump(),
        "batch_id": made.batch.id if made.batch else "",
        "batch_size": made.batch.size if made.batch else 0,
        "plan_id": made.batch.plan_id if made.batch else "",
        "audio_ms": made.audio_ms,
        "at_ms": made.at_ms,
    }


def rendition_row(sidecar: Sidecar, record_id: str) -> dict[str, Any]:
    """The ledger's row of a rendition: what its sidecar says, under the id of the attempt that made it."""
    return {
        "record_id": record_id,
        "take_id": sidecar.take_id,
        "run_id": sidecar.run_id,  # of the run that rendered it, which an adopted one may not be
        "worker_id": sidecar.worker_id,
        "audio_key": sidecar.audio.key,
        "sha256": sidecar.audio.sha256,
        "pcm_sha256": sidecar.audio.pcm_sha256,
        "bytes": sidecar.audio.bytes,
        "audio_ms": sidecar.audio.duration_ms,
        "dit_seed": sidecar.effective.dit_seed,
        "lm_seed": sidecar.effective.lm_seed,
        "model_fingerprint": sidecar.fingerprints.model,
        "planner_fingerprint": sidecar.fingerprints.planner,
        "code": sidecar.fingerprints.code,
        "gpu": sidecar.gpu,
        "noise": sidecar.fingerprints.noise,
        "loudness_lufs": sidecar.measures.loudness_out_lufs,
        "created_at_ms": sidecar.created_at_ms,
        "sidecar": sidecar.model_dump(mode="json"),
    }


def _insert_spans(connection: Connection, records: Sequence[SpansClosed]) -> None:
    rows = [
        {"worker_id": record.worker_id, **span.model_dump()}
        for record in records
        for span in record.spans
        if span.end_ms > span.start_ms  # an empty one would take the place of the next
    ]
    insert_new(connection, SpanRow, rows)


def rental_row(note: RentalNote, gpu: str) -> dict[str, Any]:
    """The row of a rental that a worker has named."""
    said = {**note.model_dump(), "rental_id": note.rental_id, "gpu": gpu}
    return {**said, "account": "", "settled": False}


def machine_of(row: Mapping[Any, Any], gpu: str) -> Machine:
    """The machine to look up a price for, from a rental's row; a machine that nobody has named has no provider."""
    return Machine(gpu, row["provider"] if row["provider"] != LOCAL else "", row["market"], row["region"])


def mark_rentals_unposted(connection: Connection, rental_ids: Iterable[str], *, later: bool = False) -> None:
    """Note that something new is known of these rentals: what was posted of them is looked at again.

    So are their tallies, unless what is new came `later` than all that is added up.
    """
    ours = RENTAL.c.rental_id.in_(sorted(rental_ids))
    if later:
        connection.execute(update(RENTAL).where(ours, RENTAL.c.settled.is_(True)).values(settled=False))
    else:
        connection.execute(update(RENTAL).where(ours).values(settled=False, tally=""))


def mark_makers_unposted(connection: Connection, take_ids: Iterable[str]) -> None:
    """The same for all rentals on which these takes were made: what became of them has changed."""
    for chunk in chunks(sorted(take_ids)):
        made = (
            select(WORKER.c.rental_id)
            .join(ATTEMPT, ATTEMPT.c.worker_id == WORKER.c.worker_id)
            .where(
                ATTEMPT.c.take_id.in_(chunk),
                ATTEMPT.c.outcome == "accepted",
                or_(~ATTEMPT.c.adopted, ATTEMPT.c.batch_id != ""),
            )
        )
        connection.execute(update(RENTAL).where(RENTAL.c.rental_id.in_(made)).values(settled=False, tally=""))


def insert_new(connection: Connection, table: type[Any], rows: Iterable[dict[str, Any]]) -> None:
    """Insert `rows`; those whose key is there already are left as they are."""
    insert = postgres_insert if connection.dialect.name == "postgresql" else sqlite_insert
    listed = list(rows)
    if listed:
        connection.execute(insert(table.__table__).on_conflict_do_nothing(), listed)


# What a worker's row holds beside what it says of itself at its start.
_NOTHING_KNOWN: Final[dict[str, Any]] = {
    "last_seen_ms": 0,
    "heard_at_ms": 0,
    "clock_ahead_ms": 0,
    "last_beat": 0,
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


class _Workers:
    """The roll-call rows that a batch of records touches."""

    def __init__(self, connection: Connection, worker_ids: set[str], price_of: PriceOf, at_ms: int) -> None:
        self._connection, self._price_of, self._at_ms = connection, price_of, at_ms
        query = select(WORKER).where(WORKER.c.worker_id.in_(sorted(worker_ids)))
        self._rows = {row["worker_id"]: dict(row) for row in connection.execute(query).mappings()}
        self._known = set(self._rows)
        self._rentals: dict[str, dict[str, Any]] = {}
        self._belated: set[str] = set()  # rentals of which time became known that was thought to be added up
        rental_ids = {row["rental_id"] for row in self._rows.values()}
        posted = select(RENTAL.c.rental_id, RENTAL.c.posted_ms).where(RENTAL.c.rental_id.in_(sorted(rental_ids)))
        self._posted_ms: dict[str, int] = dict(connection.execute(posted).all())

    def heard(self, record: Record) -> bool:
        """Note what a worker says of itself; False for a heartbeat that a later one has overtaken."""
        if isinstance(record, WorkerStarted):
            self._started(record)
        row = self._rows.get(record.worker_id)
        if row is None:
            return True  # its start has not come yet; it will be known by its next record
        self._compare_clocks(row, record.at_ms)
        row["heard_at_ms"] = max(row["heard_at_ms"], self._at_ms)
        if isinstance(record, Heartbeat) and record.number:
            if record.number <= row["last_beat"]:
                return False
            row["last_beat"] = record.number
        if _is_belated(row, record, self._posted_ms.get(row["rental_id"], 0)):
            self._belated.add(row["rental_id"])
        ends = [span.end_ms for span in record.spans] if isinstance(record, SpansClosed) else []
        row["last_seen_ms"] = max(row["last_seen_ms"], record.at_ms, *ends)
        if isinstance(record, WorkerStopped):
            row["ended_at_ms"], row["end_reason"] = record.at_ms, record.reason
        elif isinstance(record, Heartbeat):
            if record.at_ms > (row["ended_at_ms"] or record.at_ms):
                row["ended_at_ms"] = row["end_reason"] = None  # taken for dead, but it lives on and costs money
            if record.memory is not None:
                row.update(record.memory.model_dump())
        return True

    def write(self) -> None:
        """Write all rows back."""
        fresh = [row for worker_id, row in self._rows.items() if worker_id not in self._known]
        insert_new(self._connection, WorkerRow, fresh)
        for worker_id in sorted(self._known):
            row = self._rows[worker_id]
            self._connection.execute(update(WORKER).where(WORKER.c.worker_id == worker_id).values(**row))
        insert_new(self._connection, RentalRow, self._rentals.values())
        mark_rentals_unposted(self._connection, {row["rental_id"] for row in self._rows.values()}, later=True)
        if self._belated:
            mark_rentals_unposted(self._connection, self._belated)

    def _started(self, record: WorkerStarted) -> None:
        row = self._rows.get(record.worker_id, _NOTHING_KNOWN)
        if row.get("model_fingerprint") and not record.model_fingerprint:
            return  # the first announcement, arriving after the complete one
        said = record.model_dump(exclude={"v", "record_id", "at_ms", "kind", "rental"})
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
            self._known.add(row["worker_id"])
        return [row for row in self._rows.values() if row["host"] == host and not row["gpu"]]

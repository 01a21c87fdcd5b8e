"""Facts: workers' records become rows, many in one transaction, each record exactly once.

The record queue delivers at least once. Attempts are identified by their record id, spans by worker and start, and
renditions by take, so writing one a second time changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from catalog.logins import login_of_worker
from catalog.messages import AttemptMade, Record, SpansClosed, WorkerStopped
from catalog.sidecar import Sidecar
from orchestrator.ledger import plans
from orchestrator.ledger.bulk import insert_new
from orchestrator.ledger.choice import note_changed
from orchestrator.ledger.chroma import note_renditions
from orchestrator.ledger.holding import GivenAt, NamedTakes, TakesTold, believe_all
from orchestrator.ledger.machines import PriceOf, mark_makers_unposted
from orchestrator.ledger.progress import rendition_id
from orchestrator.ledger.roll_call import Heard, RollCall
from orchestrator.ledger.tables import ATTEMPT, LOSS, WORKER, AttemptRow, RenditionRow, SpanRow


@dataclass(slots=True)
class Recorded:
    """The outcomes and workers that a transaction has recorded."""

    outcomes: Counter[str] = field(default_factory=Counter)  # new attempts by outcome
    seen: set[str] = field(default_factory=set)  # workers heard of
    stopped: set[str] = field(default_factory=set)
    early: set[str] = field(default_factory=set)  # workers whose heartbeat waits for records before it
    named: dict[str, tuple[frozenset[str], int]] = field(default_factory=dict)  # as NamedTakes has them

    def plus(self, later: Recorded) -> Recorded:
        """The sum of two recordings; a worker whose later message follows its stop has not stopped."""
        stopped = (self.stopped - later.seen) | later.stopped
        outcomes = self.outcomes + later.outcomes
        early, named = self.early | later.early, self.named | later.named
        return Recorded(outcomes, self.seen | later.seen, stopped, early, named)


def record_facts(
    connection: Connection,
    records: Sequence[Record],
    price_of: PriceOf,
    at_ms: int,
    *,
    named: NamedTakes | None = None,
    given_at: GivenAt = believe_all,
    undrained: Collection[str] = (),
) -> Recorded:
    """Write `records` in their order; `at_ms` is the controller's clock.

    `named` is what heartbeats named before, `given_at` the proof of what a worker was given, and `undrained` holds the
    logins whose lists have more records than these.
    """
    recorded = Recorded()
    attempts = _new_attempts(connection, records)
    takes = TakesTold(connection, records, named or NamedTakes(), at_ms, given_at)
    workers = RollCall(connection, {record.worker_id for record in records}, price_of, at_ms)
    made: list[AttemptMade] = []
    spans: list[SpansClosed] = []
    for record in records:
        heard = workers.heard(record, is_drained=login_of_worker(record.worker_id) not in undrained)
        if heard in (Heard.OVERTAKEN, Heard.EARLY):
            if heard is Heard.EARLY:
                recorded.early.add(record.worker_id)
            continue
        recorded.seen.add(record.worker_id)
        if isinstance(record, AttemptMade):
            # Taken out once counted: the same record twice in one batch is one attempt.
            if attempts.pop(record.record_id, None) is not None:
                recorded.outcomes[record.outcome] += 1
                made.append(record)
                takes.attempted(record)
        elif isinstance(record, SpansClosed):
            spans.append(record)
        elif heard is Heard.CURRENT:
            takes.heard(record)
            if isinstance(record, WorkerStopped):
                recorded.stopped.add(record.worker_id)
    workers.write()
    _insert_attempts(connection, made)
    _insert_spans(connection, spans)
    takes.write()
    plans.pass_places_on(connection, [each.take_id for each in made if each.outcome == "rejected" and each.audio_ms])
    note_changed(connection, [each.take_id for each in made if each.outcome == "accepted"])
    # The adopted rendition was made in another worker's time, and its outcome is known only now.
    mark_makers_unposted(connection, {each.take_id for each in made if each.adopted})
    recorded.named = takes.named
    return recorded


def _new_attempts(connection: Connection, records: Sequence[Record]) -> dict[str, AttemptMade]:
    made = {record.record_id: record for record in records if isinstance(record, AttemptMade)}
    written = select(ATTEMPT.c.record_id).where(ATTEMPT.c.record_id.in_(list(made)))
    for record_id in connection.execute(written).scalars():
        del made[record_id]
    return made


def _insert_attempts(connection: Connection, made: Sequence[AttemptMade]) -> None:
    insert_new(connection, AttemptRow, [attempt_row(each) for each in [*made, *_unreported(connection, made)]])
    insert_renditions(connection, [(rendition_id(each), each.sidecar) for each in made if each.sidecar])


def _unreported(connection: Connection, made: Sequence[AttemptMade]) -> list[AttemptMade]:
    """The attempts behind adopted sidecars whose worker ended before it reported them: its time was work.

    Only attempts of workers in this ledger count, because a sidecar may be older. Those of another login's worker count
    only if the ledger has recorded that the take was lost with it.
    """
    adopted = [
        (each.worker_id, each.sidecar) for each in made if each.adopted and each.sidecar and each.sidecar.record_id
    ]
    if not adopted:
        return []
    workers = sorted({sidecar.worker_id for _, sidecar in adopted})
    known = set(connection.execute(select(WORKER.c.worker_id).where(WORKER.c.worker_id.in_(workers))).scalars())
    of_workers = select(LOSS.c.worker_id, LOSS.c.take_id).where(LOSS.c.worker_id.in_(workers))
    takes = sorted({sidecar.take_id for _, sidecar in adopted})
    lost = {tuple(row) for row in connection.execute(of_workers.where(LOSS.c.take_id.in_(takes)))}
    return [
        AttemptMade.of(sidecar)
        for speaker, sidecar in adopted
        if sidecar.worker_id in known
        and (
            login_of_worker(speaker) == login_of_worker(sidecar.worker_id)
            or (sidecar.worker_id, sidecar.take_id) in lost
        )
    ]


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


def insert_renditions(connection: Connection, sidecars: Sequence[tuple[str, Sidecar]]) -> None:
    """Write the renditions that are new, each under its record id, and let them be compared with others."""
    insert_new(connection, RenditionRow, [rendition_row(sidecar, record_id) for record_id, sidecar in sidecars])
    note_renditions(connection, sidecars)


def rendition_row(sidecar: Sidecar, record_id: str) -> dict[str, Any]:
    """The ledger's row of a rendition: the content of its sidecar, under the id of the attempt that made it."""
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

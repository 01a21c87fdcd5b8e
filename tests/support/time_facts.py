"""The time of all workers, read row by row: the reference for the sums that the program computes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import select

from orchestrator.ledger import Ledger
from orchestrator.ledger.observations import SpanTime, WorkerLife
from orchestrator.ledger.tables import SPAN, WORKER
from orchestrator.ledger.time_use import TimeUse


class TimeFacts(NamedTuple):
    """Every life and every span."""

    lives: Sequence[WorkerLife]
    spans: Sequence[SpanTime]


def read_time_facts(ledger: Ledger) -> TimeFacts:
    """Every worker's life and span, as of one instant."""
    with ledger.snapshot() as connection:
        spans = [SpanTime(*row) for row in connection.execute(select(*(SPAN.c[name] for name in SpanTime._fields)))]
        workers = connection.execute(select(WORKER).order_by(WORKER.c.started_at_ms, WORKER.c.worker_id)).all()
    reach: defaultdict[str, list[int]] = defaultdict(list)
    for span in spans:
        reach[span.worker_id] += (span.start_ms, span.end_ms)
    return TimeFacts([_life(row, reach[row.worker_id]) for row in workers], spans)


def _life(row, reach: Sequence[int]) -> WorkerLife:
    # A worker that vanished was last seen before its last span was recorded, or the other way round.
    return WorkerLife(
        worker_id=row.worker_id,
        gpu=row.gpu,
        start_ms=min([row.started_at_ms, *reach]),
        end_ms=max([row.last_seen_ms if row.ended_at_ms is None else row.ended_at_ms, *reach]),
        rate_usd_micros_per_h=row.rate_usd_micros_per_h,
        price_source=row.price_source or "",
        is_over=row.ended_at_ms is not None,
    )


def ms_within(span: SpanTime, life: WorkerLife) -> int:
    """Length of a span's part that lies in a life."""
    return max(0, min(span.end_ms, life.end_ms) - max(span.start_ms, life.start_ms))


def use_of(lives: Iterable[WorkerLife], spans: Iterable[SpanTime]) -> TimeUse:
    """The use of the time of `lives`, by the spans of their workers."""
    of_worker: defaultdict[str, list[SpanTime]] = defaultdict(list)
    for span in spans:
        of_worker[span.worker_id].append(span)
    uses: Counter[tuple[str, str]] = Counter()
    for life in lives:
        seen_ms = 0
        for span in of_worker[life.worker_id]:
            uses[span.state, span.cause if span.state == "idle" else ""] += ms_within(span, life)
            seen_ms += ms_within(span, life)
        uses[str(life.silence), ""] += max(0, life.ms - seen_ms)
    return TimeUse(uses)

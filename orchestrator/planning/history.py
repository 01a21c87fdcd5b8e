"""History: the speeds that the ledger has measured, and the share of workers' time that did not go into rendering.

Estimates use these figures. This module only reads, and looks up no price.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import median, quantiles
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Engine, Select, func, select
from sqlmodel import col

from catalog.spec import DiffusionSpec
from orchestrator.ledger.database import in_words
from orchestrator.ledger.observations import BUSY_STATES, SpanTime, WorkerLife
from orchestrator.ledger.tables import AttemptRow, SpanRow, TakeRow, WorkerRow
from orchestrator.planning.estimate import FEW_TAKES, History, Speed, SpeedKey

# Old measurements, made by older code, say little: only the last so many workers and tries count.
_WORKERS_MAX: Final = 200
_TRIES_MAX: Final = 5_000

_ENGINE_MS: Final[ColumnElement[int]] = (
    col(AttemptRow.plan_ms) + col(AttemptRow.encode_ms) + col(AttemptRow.diffuse_ms) + col(AttemptRow.decode_ms)
)


def read_history(engine: Engine, *, model: str, same_gpu: Callable[[str, str | None], bool]) -> History:
    """The measurements of `model` on workers whose (GPU name, sku) satisfies `same_gpu`."""
    with in_words(engine.url), _snapshot(engine).begin() as connection:
        rows = connection.execute(_workers().where(col(WorkerRow.model) == model)).all()
        newest = sorted(rows, key=lambda row: row.started_at_ms, reverse=True)
        lives = [_life(row) for row in newest if same_gpu(row.gpu, row.price_sku)][:_WORKERS_MAX]
        ids = [life.worker_id for life in lives]
        spans = [SpanTime(*row) for row in connection.execute(_spans().where(col(SpanRow.worker_id).in_(ids)))]
        busy_ms = {row[0]: int(row[1]) for row in connection.execute(_busy(ids))}
        tries = connection.execute(_tries(ids)).all()
    taken = {row.take_id for row in tries}
    ended = {row.take_id: row.outcome for row in tries if row.outcome != "failed"}
    rejected = sum(outcome == "rejected" for outcome in ended.values())
    engine_time = _EngineTime.of(spans)
    startup_ms, idle_share = _overheads(lives, engine_time, busy_ms)
    return History(
        speeds=_speeds(tries, {worker_id: engine_time.share_of(worker_id, ms) for worker_id, ms in busy_ms.items()}),
        tries_per_take=len(tries) / len(taken) if taken else 1.0,
        reject_rate=rejected / len(ended) if ended else None,
        startup_ms=startup_ms,
        idle_share=idle_share,
    )


def _snapshot(engine: Engine) -> Engine:
    """`engine` for transactions whose queries all see one instant; SQLite's always do."""
    return engine.execution_options(isolation_level="REPEATABLE READ") if engine.name == "postgresql" else engine


def _workers() -> Select[*tuple[Any, ...]]:
    return select(
        col(WorkerRow.worker_id),
        col(WorkerRow.gpu),
        col(WorkerRow.started_at_ms),
        col(WorkerRow.last_seen_ms),
        col(WorkerRow.ended_at_ms),
        col(WorkerRow.rate_usd_micros_per_h),
        col(WorkerRow.price_sku),
        col(WorkerRow.price_source),
    ).order_by(col(WorkerRow.started_at_ms), col(WorkerRow.worker_id))


def _spans() -> Select[*tuple[Any, ...]]:
    return select(
        col(SpanRow.worker_id),
        col(SpanRow.start_ms),
        col(SpanRow.end_ms),
        col(SpanRow.state),
        col(SpanRow.batch_id),
        col(SpanRow.cause),
    )


def _busy(worker_ids: Collection[str]) -> Select[*tuple[Any, ...]]:
    return (
        select(col(AttemptRow.worker_id), func.sum(_ENGINE_MS))
        .where(col(AttemptRow.worker_id).in_(worker_ids))
        .group_by(col(AttemptRow.worker_id))
    )


def _tries(worker_ids: Collection[str]) -> Select[*tuple[Any, ...]]:
    spec = col(TakeRow.message)["track"]["spec"]
    return (
        select(
            col(AttemptRow.take_id),
            col(AttemptRow.worker_id),
            col(AttemptRow.outcome),
            col(AttemptRow.audio_ms),
            _ENGINE_MS.label("engine_ms"),
            spec["planner"]["model"].as_string().label("planner"),
            spec["diffusion"].label("diffusion"),
        )
        .join(TakeRow, col(TakeRow.take_id) == col(AttemptRow.take_id))
        .where(col(AttemptRow.worker_id).in_(worker_ids), col(AttemptRow.adopted).is_(False))
        .order_by(col(AttemptRow.at_ms).desc(), col(AttemptRow.record_id))
        .limit(_TRIES_MAX)
    )


def _life(row: Any) -> WorkerLife:
    return WorkerLife(
        worker_id=row.worker_id,
        gpu=row.gpu,
        start_ms=row.started_at_ms,
        end_ms=row.last_seen_ms if row.ended_at_ms is None else row.ended_at_ms,
        rate_usd_micros_per_h=row.rate_usd_micros_per_h,
        price_source=row.price_source or "",
        is_over=row.ended_at_ms is not None,
    )


class _EngineTime(NamedTuple):
    """Milliseconds in which each worker's engine started and ended, and in which it worked on takes."""

    starting: Counter[str]
    working: Counter[str]

    @classmethod
    def of(cls, spans: Iterable[SpanTime]) -> _EngineTime:
        """The sums over `spans`."""
        engine_time = cls(Counter(), Counter())
        for span in spans:
            if span.state in ("startup", "teardown"):
                engine_time.starting[span.worker_id] += span.end_ms - span.start_ms
            elif span.state in BUSY_STATES:
                engine_time.working[span.worker_id] += span.end_ms - span.start_ms
        return engine_time

    def share_of(self, worker_id: str, engine_ms: int) -> float:
        """The share of a worker's time in each of its `engine_ms`: less than one where stages overlapped."""
        working_ms = self.working[worker_id]
        return min(1.0, working_ms / engine_ms) if working_ms and engine_ms else 1.0


def _speeds(tries: Sequence[Any], share_of: Mapping[str, float]) -> dict[SpeedKey, Speed]:
    by_key: defaultdict[SpeedKey, list[float]] = defaultdict(list)
    for row in tries:
        if row.engine_ms > 0 and row.audio_ms > 0:
            ms_per_audio_s = row.engine_ms * share_of[row.worker_id] * 1000 / row.audio_ms
            by_key[SpeedKey.of(row.planner or "", DiffusionSpec(**row.diffusion))].append(ms_per_audio_s)
    return {key: Speed(median(values), len(values), _quartiles(values)) for key, values in by_key.items()}


def _quartiles(values: Sequence[float]) -> tuple[float, float] | None:
    """The quarters below and above which values lie; None where there are too few to tell."""
    if len(values) < FEW_TAKES:
        return None
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def _overheads(lives: Sequence[WorkerLife], engine_time: _EngineTime, busy_ms: Mapping[str, int]) -> tuple[int, float]:
    """Median over workers of the time to start and end (ms), and of idle time as a share of engine time."""
    idle = []
    for life in lives:
        if busy := busy_ms.get(life.worker_id):
            working_ms = busy * engine_time.share_of(life.worker_id, busy)
            idle.append(max(0.0, (life.ms - engine_time.starting[life.worker_id]) / working_ms - 1))
    return round(median(engine_time.starting.values())) if engine_time.starting else 0, median(idle) if idle else 0.0

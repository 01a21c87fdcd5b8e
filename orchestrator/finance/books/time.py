"""Readings of time for reports: the use of workers' time, for the part of the books that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, case, func, select, text

from orchestrator.finance.books.readings import Scope
from orchestrator.ledger.tables import ATTEMPT, RUN, SPAN, WORKER
from orchestrator.ledger.time_use import TimeUse

_SLACK_MS: Final = 86_400_000


def read_time_use(
    connection: Connection, scope: Scope, start_ms: int | None = None, end_ms: int | None = None
) -> TimeUse:
    """The time of the workers that have worked for the scope's run or catalog; of all workers without such a scope."""
    ours = [*_workers_of(scope), *_there_between(start_ms, end_ms)]
    spans = select(SPAN.c.state, case((SPAN.c.state == "idle", SPAN.c.cause), else_=""), WORKER.c.ended_at_ms.is_(None))
    begin, end = _clipped(SPAN.c.start_ms, SPAN.c.end_ms, start_ms, end_ms)
    query = spans.add_columns(func.sum(end - begin)).join(WORKER, WORKER.c.worker_id == SPAN.c.worker_id)
    uses: dict[tuple[str, str], int] = {}
    seen_ms = {True: 0, False: 0}
    for state, cause, is_living, ms in connection.execute(
        query.where(end > begin, *ours).group_by(text("1"), text("2"), text("3"))
    ):
        uses[state, cause] = uses.get((state, cause), 0) + int(ms)
        seen_ms[bool(is_living)] += int(ms)
    for is_living, ms in _lives(connection, ours, start_ms, end_ms).items():
        unseen_ms = max(0, ms - seen_ms[is_living])
        uses["unobserved" if is_living else "lost", ""] = unseen_ms
    return TimeUse(uses)


def _lives(connection: Connection, ours: Sequence[Any], start_ms: int | None, end_ms: int | None) -> dict[bool, int]:
    """Milliseconds that workers lived, by whether they still do."""
    reach = select(SPAN.c.worker_id, func.min(SPAN.c.start_ms).label("first"), func.max(SPAN.c.end_ms).label("last"))
    if ours:
        reach = reach.where(SPAN.c.worker_id.in_(select(WORKER.c.worker_id).where(*ours)))
    spans = reach.group_by(SPAN.c.worker_id).subquery()
    ended = func.coalesce(WORKER.c.ended_at_ms, WORKER.c.last_seen_ms)
    first, last = func.coalesce(spans.c.first, WORKER.c.started_at_ms), func.coalesce(spans.c.last, ended)
    began_ms = case((first < WORKER.c.started_at_ms, first), else_=WORKER.c.started_at_ms)
    ended_ms = case((last > ended, last), else_=ended)
    begin, end = _clipped(began_ms, ended_ms, start_ms, end_ms)
    query = (
        select(WORKER.c.ended_at_ms.is_(None), func.sum(end - begin))
        .outerjoin(spans, spans.c.worker_id == WORKER.c.worker_id)
        .where(end > begin, *ours)
        .group_by(text("1"))
    )
    return {bool(is_living): int(ms) for is_living, ms in connection.execute(query)}


def _there_between(start_ms: int | None, end_ms: int | None) -> list[Any]:
    """Conditions on workers' rows that exclude most workers without time in a stretch.

    A span may lie outside the life in its worker's row, but never by a day.
    """
    ended = case((WORKER.c.ended_at_ms > WORKER.c.last_seen_ms, WORKER.c.ended_at_ms), else_=WORKER.c.last_seen_ms)
    conditions: list[Any] = [ended > start_ms - _SLACK_MS] if start_ms is not None else []
    if end_ms is not None:
        conditions.append(WORKER.c.started_at_ms < end_ms + _SLACK_MS)
    return conditions


def _clipped(begin: Any, end: Any, start_ms: int | None, end_ms: int | None) -> tuple[Any, Any]:
    if start_ms is not None:
        begin = case((begin < start_ms, start_ms), else_=begin)
    if end_ms is not None:
        end = case((end > end_ms, end_ms), else_=end)
    return begin, end


def _workers_of(scope: Scope) -> list[Any]:
    """Conditions on workers: those that have worked for the scope."""
    conditions: list[Any] = []
    if scope.run_id is not None:
        worked = select(ATTEMPT.c.worker_id).where(ATTEMPT.c.run_id == scope.run_id)
        conditions.append(WORKER.c.worker_id.in_(worked))
    if scope.catalog is not None:
        runs = select(RUN.c.run_id).where(RUN.c.catalog == scope.catalog)
        conditions.append(WORKER.c.worker_id.in_(select(ATTEMPT.c.worker_id).where(ATTEMPT.c.run_id.in_(runs))))
    return conditions


def count_workers(connection: Connection, start_ms: int | None = None, end_ms: int | None = None) -> tuple[int, int]:
    """(workers that lived in a stretch of time, milliseconds they did)."""
    ended = func.coalesce(WORKER.c.ended_at_ms, WORKER.c.last_seen_ms)
    within = [WORKER.c.started_at_ms < end_ms] if end_ms is not None else []
    within += [ended >= start_ms] if start_ms is not None else []
    count = connection.execute(select(func.count()).select_from(WORKER).where(*within)).scalar() or 0
    return count, sum(_lives(connection, _there_between(start_ms, end_ms), start_ms, end_ms).values())

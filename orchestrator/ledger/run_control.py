"""Run control: a person pauses, resumes or cancels an active run, or has its dead takes tried again.

The request is written into the run's row (column `wish`), and the controller carries it out.

A paused run sends no more takes; its takes that wait in the queues are removed from there, and workers finish those
that they hold. A cancelled run ends in the same way. A dead take is one that has failed for good; a retry makes it wait
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, func, select, update

from catalog.errors import BusyError, PausedError, UnknownNameError
from catalog.messages import now_ms
from orchestrator.ledger import plans, work
from orchestrator.ledger.tables import ATTEMPT, RUN, TAKE, RunRow

GO_ON: Final = ""
PAUSE: Final = "pause"
CANCEL: Final = "cancel"


class DeadTake(NamedTuple):
    """A take that has failed for good, and why."""

    take_id: str
    catalog: str
    track_key: str
    number: int
    title: str
    tries: int
    losses: int
    reasons: tuple[str, ...]  # of its last try


class Retried(NamedTuple):
    """Dead takes that wait again, and the run that they wait in; None when there were none."""

    run_id: str | None
    takes: int


def get_active_run(connection: Connection, name: str) -> RunRow:
    """The active run of the catalog called `name`, or whose id begins so. Raises UnknownNameError."""
    named = (RUN.c.catalog == name) | RUN.c.run_id.startswith(name, autoescape=True)
    query = select(RUN).where(RUN.c.state == "active").order_by(RUN.c.started_at_ms.desc())
    rows = connection.execute(query.where(named)).mappings().all()
    if len(rows) == 1:
        return RunRow(**rows[0])
    active = [f"{row['catalog']} ({row['run_id'][:8]})" for row in connection.execute(query).mappings()]
    raise UnknownNameError(
        f"no active run is called {name!r}" if not rows else f"{name!r} is the beginning of several run ids",
        why=f"active are: {', '.join(active) or 'none'}",
        fix="name a run by its catalog or by the first digits of its id; `tunemill status` lists the runs",
    )


def write_control(connection: Connection, run: RunRow, request: str) -> None:
    """Ask that an active run goes on, pauses or is cancelled."""
    connection.execute(update(RUN).where(RUN.c.run_id == run.run_id).values(wish=request, wished_at_ms=now_ms()))


def refuse_unless_going_on(run: RunRow) -> None:
    """Raise PausedError or BusyError for a run that is paused or being cancelled."""
    if run.wish == PAUSE:
        raise PausedError(
            f"the run of {run.catalog!r} is paused",
            why="a person has paused the run, and a person must resume it",
            fix=f"`tunemill resume {run.catalog}`, then run the same command again",
        )
    if run.wish == CANCEL:
        raise BusyError(
            f"the run of {run.catalog!r} is being cancelled",
            why="workers finish the takes that they hold",
            fix="wait until `tunemill status` shows it as cancelled, then run the same command again",
        )


def cancel_all(connection: Connection, run: RunRow, at_ms: int) -> None:
    """Cancel all waiting and sent takes and close the run; only when it is known that no worker holds any of them."""
    work.recall_sent(connection, run.run_id, at_ms)
    work.cancel_waiting(connection, run.run_id)
    work.finish_runs(connection, [run.run_id], at_ms)


def dead_takes(connection: Connection, catalog: str | None = None, limit: int | None = None) -> list[DeadTake]:
    """Failed takes that their catalog still has, with the reasons of their last try."""
    dead = _dead(catalog)
    query = select(TAKE).where(*dead).order_by(TAKE.c.catalog, TAKE.c.track_key, TAKE.c.number).limit(limit)
    rows = connection.execute(query).mappings().all()
    reasons = _last_reasons(connection, [row["take_id"] for row in rows])
    names = ("take_id", "catalog", "track_key", "number", "title", "tries", "losses")
    return [
        DeadTake(**{name: row[name] for name in names}, reasons=tuple(reasons.get(row["take_id"], ()))) for row in rows
    ]


def count_dead(connection: Connection, catalog: str | None = None) -> int:
    """Count the dead takes of `catalog`, or of all catalogs."""
    return int(connection.execute(select(func.count()).select_from(TAKE).where(*_dead(catalog))).scalar() or 0)


def retry_dead(connection: Connection, catalog: str, at_ms: int) -> Retried:
    """Let every dead take of `catalog` wait again, in its active run or in a new one on the terms of its last."""
    take_ids = list(connection.execute(select(TAKE.c.take_id).where(*_dead(catalog))).scalars())
    if not take_ids:
        return Retried(None, 0)
    run_id = plans.open_run_again(connection, catalog, at_ms)
    plans.wait_again(connection, take_ids, run_id)
    return Retried(run_id, len(take_ids))


def _dead(catalog: str | None) -> list[Any]:
    return [TAKE.c.state == "failed", TAKE.c.current, *([TAKE.c.catalog == catalog] if catalog else [])]


def _last_reasons(connection: Connection, take_ids: Sequence[str]) -> dict[str, list[str]]:
    """Take id -> reasons of its last failed try."""
    found: dict[str, list[str]] = {}
    for at in range(0, len(take_ids), 1_000):
        failed = ATTEMPT.c.take_id.in_(take_ids[at : at + 1_000]) & (ATTEMPT.c.outcome == "failed")
        query = select(ATTEMPT.c.take_id, ATTEMPT.c.reasons).where(failed).order_by(ATTEMPT.c.at_ms)
        found |= dict(connection.execute(query).all())
    return found

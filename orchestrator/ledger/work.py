"""Work on its way: choose the takes that are sent next, take back those that were lost, and decide when a run is done.

A take's state is committed before its message is published. So a crash between the two leaves a take that is marked as
sent but lies in no queue; `recall_strays` finds it. The loss of a worker is no failure of its takes. But a take with
which many workers were lost in turn ends as failed, so that it is not sent for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, case, func, insert, literal, or_, select, text, update

from catalog.messages import RenderMessage, new_id
from catalog.track import Take
from orchestrator.ledger.bulk import insert_into
from orchestrator.ledger.machines import mark_rentals_unposted
from orchestrator.ledger.tables import ATTEMPT, LOSS, RUN, TAKE, UNHELD, WORKER, RunRow

LOSSES_MAX: Final = 20  # far more than preemption causes: that many workers in a row do not end by chance


_WAITING = {"state": "waiting", "sent_at_ms": None, "held_by": None, "held_at_ms": None}


class Outgoing(NamedTuple):
    """One take to publish."""

    queue: str
    message: RenderMessage
    sent_at_ms: int = 0


def active_runs(connection: Connection) -> list[RunRow]:
    """Runs that are not finished, oldest first; a person may have asked that some of them pause or end."""
    query = select(RUN).where(RUN.c.state == "active").order_by(RUN.c.started_at_ms, RUN.c.run_id)
    return [RunRow(**row) for row in connection.execute(query).mappings()]


def count_sent(connection: Connection, run_ids: Sequence[str]) -> dict[str, int]:
    """Takes of each run that are sent and not finished."""
    query = select(TAKE.c.run_id, func.count()).where(TAKE.c.run_id.in_(run_ids), TAKE.c.state == "sent")
    counted: dict[str, int] = dict(connection.execute(query.group_by(TAKE.c.run_id)).all())
    return {run_id: counted.get(run_id, 0) for run_id in run_ids}


def count_sent_by_queue(connection: Connection, run_id: str, *, held: bool = True) -> dict[str, int]:
    """Takes of the run that are sent and not finished, by queue; without those a worker has named, if not `held`."""
    sent = (TAKE.c.run_id == run_id) & (TAKE.c.state == "sent")
    query = select(TAKE.c.queue, func.count()).where(sent if held else sent & TAKE.c.held_by.is_(None))
    return dict(connection.execute(query.group_by(TAKE.c.queue)).all())


def waiting_queues(connection: Connection, run_id: str) -> list[str]:
    """The queues for which takes of the run wait; the index is read once for each queue."""
    ours = (TAKE.c.run_id == run_id) & (TAKE.c.state == "waiting")
    queues: list[str] = []
    next_queue = select(func.min(TAKE.c.queue)).where(ours)
    while (found := connection.execute(next_queue).scalar()) is not None:
        queues.append(found)
        next_queue = select(func.min(TAKE.c.queue)).where(ours, TAKE.c.queue > found)
    return queues


def pending_queues(connection: Connection, run_id: str) -> dict[str, int]:
    """Takes of the run that are not finished, by queue."""
    pending = TAKE.c.state.in_(["waiting", "sent"])
    query = select(TAKE.c.queue, func.count()).where(TAKE.c.run_id == run_id, pending).group_by(TAKE.c.queue)
    return dict(connection.execute(query).all())


def is_fed(connection: Connection, run_id: str) -> bool:
    """True when takes of the run may be sent: it is active, and was not paused or cancelled since it was read."""
    query = select(RUN.c.run_id).where(RUN.c.run_id == run_id, RUN.c.state == "active", RUN.c.wish == "")
    return connection.execute(query).first() is not None


def mark_next_sent(connection: Connection, run_id: str, queue: str, limit: int, at_ms: int) -> list[Outgoing]:
    """Mark up to `limit` of the takes that wait for `queue` as sent, in feed order, and return their messages."""
    query = (
        select(TAKE.c.take_id, TAKE.c.message, TAKE.c.alone)
        .where(TAKE.c.run_id == run_id, TAKE.c.state == "waiting", TAKE.c.queue == queue)
        .order_by(TAKE.c.bucket, TAKE.c.take_id)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    if rows:
        sent = update(TAKE).where(TAKE.c.take_id.in_([row.take_id for row in rows]))
        on_its_way = {"state": "sent", "sent_at_ms": at_ms, "held_by": None, "held_at_ms": None}
        connection.execute(sent.values(**on_its_way, orders=TAKE.c.orders + 1))
    return [
        Outgoing(queue, RenderMessage(run_id=run_id, take=Take.model_validate(row.message), alone=row.alone), at_ms)
        for row in rows
    ]


def withdraw(connection: Connection, take_ids: Sequence[str]) -> int:
    """Let the takes wait whose messages were removed from their queue, unless a worker has named them since."""
    return _wait(connection, TAKE.c.take_id.in_(take_ids), TAKE.c.held_by.is_(None)) if take_ids else 0


def cancel_waiting(connection: Connection, run_id: str) -> int:
    """Cancel all waiting takes of a run; workers finish the takes that they hold."""
    waiting = update(TAKE).where(TAKE.c.run_id == run_id, TAKE.c.state == "waiting")
    return int(connection.execute(waiting.values(state="cancelled")).rowcount)


def put_back(connection: Connection, take_ids: Sequence[str]) -> None:
    """Let takes wait again that were marked as sent but could not be published."""
    _wait(connection, TAKE.c.take_id.in_(take_ids))


def recall_sent(connection: Connection, run_id: str, at_ms: int) -> int:
    """Let every sent take of the run wait again; only when it is known that no worker and no queue has any of them."""
    ours = TAKE.c.run_id == run_id
    _note_losses(connection, ours & TAKE.c.held_by.is_not(None), at_ms)
    given_up = _give_up_lost(connection, ours & TAKE.c.held_by.is_not(None), at_ms)
    held = case((TAKE.c.held_by.is_not(None), 1), else_=0)
    return _wait(connection, ours, losses=TAKE.c.losses + held) + given_up


def lose_held(connection: Connection, worker_id: str, at_ms: int) -> int:
    """Let the takes of a silent worker wait again, as losses, not failures. Returns the number of takes it held."""
    held = TAKE.c.held_by == worker_id
    _note_losses(connection, held, at_ms)
    return _give_up_lost(connection, held, at_ms) + _wait(connection, held, losses=TAKE.c.losses + 1)


def _note_losses(connection: Connection, where: Any, at_ms: int) -> None:
    """Record which takes were lost with which worker, because its unreported time was spent on them."""
    lost = where & (TAKE.c.state == "sent")
    rows = select(TAKE.c.held_by, TAKE.c.take_id, TAKE.c.run_id, literal(at_ms)).where(lost)
    noted = insert_into(connection, LOSS).from_select(["worker_id", "take_id", "run_id", "at_ms"], rows)
    connection.execute(noted.on_conflict_do_nothing())
    _mark_holders_unposted(connection, lost, later=True)


def _mark_holders_unposted(connection: Connection, where: Any, *, later: bool) -> None:
    holders_ = select(TAKE.c.held_by).where(where)
    ours = select(WORKER.c.rental_id).where(WORKER.c.worker_id.in_(holders_)).distinct()
    mark_rentals_unposted(connection, connection.execute(ours).scalars(), later=later)


def _give_up_lost(connection: Connection, where: Any, at_ms: int) -> int:
    """Fail those of the lost takes that were lost too often, and record the reason."""
    last_time = where & (TAKE.c.state == "sent") & (TAKE.c.losses >= LOSSES_MAX - 1)
    query = select(TAKE.c.take_id, TAKE.c.run_id, TAKE.c.held_by).where(last_time)
    lost = connection.execute(query).all()
    if lost:
        _mark_holders_unposted(connection, last_time, later=False)
        connection.execute(insert(ATTEMPT), [_lost_attempt(row, at_ms) for row in lost])
        failed = update(TAKE).where(TAKE.c.take_id.in_([row.take_id for row in lost]))
        connection.execute(failed.values(**{**_WAITING, "state": "failed", "losses": LOSSES_MAX}))
    return len(lost)


def _lost_attempt(take: Any, at_ms: int) -> dict[str, Any]:
    unmeasured = ("batch_size", "plan_ms", "encode_ms", "diffuse_ms", "decode_ms", "post_ms", "audio_ms")
    return {
        "record_id": new_id(),
        "take_id": take.take_id,
        "run_id": take.run_id,
        "worker_id": take.held_by,
        "outcome": "failed",
        "reasons": [f"{LOSSES_MAX} workers fell silent or died while they held this take"],
        "adopted": False,
        "batch_id": "",
        "plan_id": "",
        "at_ms": at_ms,
        **dict.fromkeys(unmeasured, 0),
    }


def sent_queues(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    """The queues to which takes on their way were sent."""
    query = select(TAKE.c.queue).where(TAKE.c.run_id.in_(run_ids), TAKE.c.state == "sent").distinct()
    return sorted(connection.execute(query).scalars())


def recall_strays(
    connection: Connection, run_ids: Sequence[str], sent_before_ms: int, *, queues: Sequence[str] | None = None
) -> int:
    """Let takes wait again that were sent before that instant and are not held; with `queues`, only those of these."""
    # Ledgers of an earlier version have takes that were sent at no known instant.
    nobody = text(UNHELD) & (func.coalesce(TAKE.c.sent_at_ms, 0) < sent_before_ms)
    # A take that was held and no longer is gets the same time to be reported in.
    long_ago = or_(TAKE.c.held_at_ms.is_(None), TAKE.c.held_at_ms < sent_before_ms)
    of_queues = [] if queues is None else [TAKE.c.queue.in_(queues)]
    return _wait(connection, TAKE.c.run_id.in_(run_ids), *of_queues, nobody, long_ago)


def holders(connection: Connection) -> list[str]:
    """Workers that hold takes."""
    held = (TAKE.c.state == "sent") & TAKE.c.held_by.is_not(None)
    return sorted(connection.execute(select(TAKE.c.held_by).where(held).distinct()).scalars())


class Serving(NamedTuple):
    """A worker that accepts takes, with the properties that the feed needs."""

    model: str
    vram_gib: float
    holds_max: int


def serving(connection: Connection, worker_ids: Sequence[str]) -> list[Serving]:
    """The model, VRAM and most takes held of each worker in `worker_ids` that is ready and has not ended."""
    ready = WORKER.c.worker_id.in_(worker_ids) & WORKER.c.ended_at_ms.is_(None) & (WORKER.c.batch_limit > 0)
    query = select(WORKER.c.model, WORKER.c.vram_gib, WORKER.c.holds_max).where(ready)
    return [Serving(*row) for row in connection.execute(query)]


def living(connection: Connection) -> list[str]:
    """Workers whose end is not recorded."""
    return sorted(connection.execute(select(WORKER.c.worker_id).where(WORKER.c.ended_at_ms.is_(None))).scalars())


def end_silent(connection: Connection, worker_id: str, reason: str) -> None:
    """Record the end of a silent worker, at the instant of its last message by its own clock.

    If it reports again, it is alive again, and its time continues.
    """
    gone = update(WORKER).where(WORKER.c.worker_id == worker_id, WORKER.c.ended_at_ms.is_(None))
    connection.execute(gone.values(ended_at_ms=WORKER.c.last_seen_ms, end_reason=reason))


def finish_runs(connection: Connection, run_ids: Sequence[str], at_ms: int) -> list[str]:
    """Close the runs that have no take left to make, and return them."""
    done = [run_id for run_id in run_ids if not _has_pending(connection, run_id)]
    if not done:
        return []
    ours = select(RUN.c.run_id).where(RUN.c.run_id.in_(done), RUN.c.state == "active").order_by(RUN.c.run_id)
    active = list(connection.execute(ours).scalars())
    closed = update(RUN).where(RUN.c.run_id.in_(active))
    state = case((RUN.c.wish == "cancel", "cancelled"), else_="finished")
    connection.execute(closed.values(state=state, wish="", finished_at_ms=at_ms))
    return active


def _has_pending(connection: Connection, run_id: str) -> bool:
    pending = TAKE.c.state.in_(["waiting", "sent"]) & (TAKE.c.run_id == run_id)
    # One row is enough to know; counting a hundred thousand several times a second is not.
    return connection.execute(select(TAKE.c.take_id).where(pending).limit(1)).first() is not None


def end_workers(connection: Connection, host: str, reason: str, at_ms: int | None = None) -> None:
    """Record the end of every worker on `host` that did not report its own, at that instant or its last message."""
    gone = update(WORKER).where(WORKER.c.ended_at_ms.is_(None), WORKER.c.host == host)
    last_seen = WORKER.c.last_seen_ms
    end = last_seen if at_ms is None else case((last_seen > at_ms, last_seen), else_=at_ms)
    connection.execute(gone.values(ended_at_ms=end, end_reason=reason))


def _wait(connection: Connection, *where: Any, **more: Any) -> int:
    result = connection.execute(update(TAKE).where(TAKE.c.state == "sent", *where).values(**_WAITING, **more))
    return int(result.rowcount)

"""Plans in the ledger: which takes a catalog stands for, and what of it is still to be made.

A plan is written in one transaction and may be written again at any time: accepted and rejected takes stay,
failed ones wait again, takes that the preset no longer has are kept but no longer current. A part of a plan may be
written alone; it changes the slots of its own takes and no others.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from catalog.buckets import Bucket
from catalog.errors import BusyError
from catalog.messages import new_id
from catalog.queues import queue_of
from catalog.track import Take
from orchestrator.ledger.tables import RUN, TAKE, RunRow

_ROWS_AT_ONCE = 2_000
_DONE = frozenset({"accepted", "rejected"})  # rendering again would only say the same
_PENDING = frozenset({"waiting", "sent"})


class RunTerms(NamedTuple):
    """On what terms a run goes ahead."""

    model: str
    max_usd_micros: int | None = None  # None: no cap
    take_usd_micros: int | None = None  # what one take should cost, for the cap; None: unknown


class BegunRun(NamedTuple):
    """The changes that a plan made to the ledger. `run_id` is None when there is nothing to do."""

    run_id: str | None
    resumed: bool
    new: int  # takes the ledger did not have
    again: int  # failed or cancelled ones that wait again
    unchanged: int  # accepted or rejected before
    dropped: int  # takes the preset has changed or no longer has
    pending: int  # takes now waiting or on their way


def known_models(connection: Connection, catalog: str) -> set[str]:
    """Every model that a take of the catalog was ever planned for."""
    query = select(TAKE.c.model).where(TAKE.c.catalog == catalog).distinct()
    return set(connection.execute(query).scalars())


def made_models(connection: Connection, catalog: str) -> set[str]:
    """Every model that an accepted take of the catalog was made with."""
    query = select(TAKE.c.model).where(TAKE.c.catalog == catalog, TAKE.c.state == "accepted").distinct()
    return set(connection.execute(query).scalars())


def unfinished_run(connection: Connection, catalog: str) -> RunRow | None:
    """The catalog's active run; there is at most one."""
    query = select(RUN).where(RUN.c.catalog == catalog, RUN.c.state == "active")
    row = connection.execute(query).mappings().first()
    return RunRow(**row) if row else None


class _Before(NamedTuple):
    """A take that the ledger has before the plan is written."""

    state: str
    is_current: bool
    slot: tuple[str, int]


def begin_or_resume(
    connection: Connection, catalog: str, terms: RunTerms, takes: Iterable[Take], at_ms: int, *, is_part: bool = False
) -> BegunRun:
    """Write the plan; the caller's transaction makes it whole.

    With `is_part` the takes are a part of the plan, and the slots of all others stay as they are. Raises BusyError when
    an unfinished run waits for takes outside that part, which it would make as well.
    """
    run_id, resumed = _open_run(connection, catalog, terms, at_ms)
    columns = (TAKE.c.take_id, TAKE.c.state, TAKE.c.current, TAKE.c.track_key, TAKE.c.number)
    before = {
        row.take_id: _Before(row.state, row.current, (row.track_key, row.number))
        for row in connection.execute(select(*columns).where(TAKE.c.catalog == catalog))
    }
    seen: set[str] = set()
    slots: set[tuple[str, int]] = set()
    new = again = unchanged = pending = 0
    stream = iter(takes)
    while chunk := list(islice(stream, _ROWS_AT_ONCE)):
        fresh = [take for take in chunk if take.id not in before and take.id not in seen]
        _insert(connection, fresh, run_id)
        known = {take.id for take in chunk} & before.keys() - seen
        states = {take_id: before[take_id].state for take_id in known}
        waiting_again = [take_id for take_id, state in states.items() if state in {"failed", "cancelled"}]
        wait_again(connection, waiting_again, run_id)
        _set_current(connection, [take_id for take_id in known if not before[take_id].is_current])
        new += len({take.id for take in fresh})
        again += len(waiting_again)
        unchanged += sum(state in _DONE for state in states.values())
        pending += sum(state in _PENDING for state in states.values())
        seen.update(take.id for take in chunk)
        if is_part:
            slots.update((take.track.key, take.number) for take in chunk)
    left = {take_id: each for take_id, each in before.items() if each.is_current and take_id not in seen}
    if is_part:
        refuse_others_pending(catalog, sum(each.state in _PENDING and each.slot not in slots for each in left.values()))
    dropped = [take_id for take_id, each in left.items() if not is_part or each.slot in slots]
    _drop(connection, dropped)
    pending += new + again
    if not pending:
        _close_empty_run(connection, run_id, resumed, at_ms)
    return BegunRun(run_id if pending else None, resumed, new, again, unchanged, len(dropped), pending)


def refuse_others_pending(catalog: str, takes: int) -> None:
    """Raise BusyError when an unfinished run of `catalog` still has to make `takes` that are not asked for."""
    if takes:
        raise BusyError(
            f"an unfinished run of {catalog!r} has {takes:,} more takes to make than are selected",
            why="a run that goes on makes all of its takes, so a part of them cannot be made alone",
            fix=f"`tunemill run {catalog}` goes on with all of them; or end that run with `tunemill cancel {catalog}`, "
            "then run the same command again: what was cancelled is made by a later run",
        )


def _open_run(connection: Connection, catalog: str, terms: RunTerms, at_ms: int) -> tuple[str, bool]:
    active = select(RUN.c.run_id).where(RUN.c.catalog == catalog, RUN.c.state == "active")
    found = connection.execute(active).scalar()
    if found is not None:
        connection.execute(update(RUN).where(RUN.c.run_id == found).values(**terms._asdict()))
        return str(found), True
    run_id = new_id()
    row = {"run_id": run_id, "catalog": catalog, "state": "active", "started_at_ms": at_ms, **terms._asdict()}
    connection.execute(insert(RUN).values(**row))
    return run_id, False


def open_run_again(connection: Connection, catalog: str, at_ms: int) -> str:
    """The catalog's active run, or a new one on the terms of its last. The catalog must have had one."""
    last = select(RUN).where(RUN.c.catalog == catalog).order_by(RUN.c.started_at_ms.desc()).limit(1)
    row = connection.execute(last).mappings().one()
    terms = RunTerms(row["model"], row["max_usd_micros"], row["take_usd_micros"])
    return _open_run(connection, catalog, terms, at_ms)[0]


def _close_empty_run(connection: Connection, run_id: str, resumed: bool, at_ms: int) -> None:
    if resumed:
        connection.execute(update(RUN).where(RUN.c.run_id == run_id).values(state="finished", finished_at_ms=at_ms))
    else:
        connection.execute(RUN.delete().where(RUN.c.run_id == run_id))


def _insert(connection: Connection, takes: list[Take], run_id: str) -> None:
    rows = {take.id: take_row(take, run_id) for take in takes}
    if rows:
        connection.execute(insert(TAKE), list(rows.values()))


def take_row(take: Take, run_id: str) -> dict[str, Any]:
    """The row of a take that waits."""
    track = take.track
    return {
        "take_id": take.id,
        "run_id": run_id,
        "catalog": track.catalog,
        "zone": track.zone,
        "genre": track.genre,
        "track_key": track.key,
        "number": take.number,
        "title": track.title,
        "model": take.spec.model,
        "queue": queue_of(take.spec),
        "bucket": Bucket.of(take.spec).feed_order,
        "duration_ms": take.spec.duration_s * 1000,
        "message": take.model_dump(mode="json"),
        "state": "waiting",
        "current": True,
        "alone": False,
        "tries": 0,
        "losses": 0,
    }


def wait_again(connection: Connection, take_ids: list[str], run_id: str) -> None:
    """Let these takes begin anew, as if they had never been tried."""
    fresh = {"state": "waiting", "run_id": run_id, "tries": 0, "losses": 0, "alone": False, "current": True}
    fresh |= {"rendition_id": None}
    _update(connection, take_ids, {**fresh, "sent_at_ms": None, "held_by": None, "held_at_ms": None})


def _set_current(connection: Connection, take_ids: list[str]) -> None:
    _update(connection, take_ids, {"current": True})


def _drop(connection: Connection, take_ids: list[str]) -> None:
    _update(connection, take_ids, {"current": False})
    pending = or_(*(TAKE.c.state == state for state in sorted(_PENDING)))
    released = {"state": "cancelled", "sent_at_ms": None, "held_by": None, "held_at_ms": None}
    _update(connection, take_ids, released, pending)


def _update(connection: Connection, take_ids: list[str], values: dict[str, Any], *where: Any) -> None:
    if take_ids:
        statement = update(TAKE).where(TAKE.c.take_id == bindparam("of_take"), *where).values(**values)
        connection.execute(statement, [{"of_take": take_id} for take_id in take_ids])

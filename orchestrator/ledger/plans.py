"""Plans in the ledger: the takes of each catalog, and which of them are still to be made.

A plan is written in one transaction and may be written again at any time. Accepted and rejected takes stay, failed ones
wait again, and takes that the preset no longer has are kept but are no longer current. A part of a plan may be written
alone; it changes only the slots of its own takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, insert, or_, select, update

from catalog.buckets import Bucket
from catalog.errors import BusyError
from catalog.messages import new_id
from catalog.queues import queue_of
from catalog.track import Take
from orchestrator.ledger.bulk import chunks
from orchestrator.ledger.due import DueTake, Held, Refused, Slot, due_takes
from orchestrator.ledger.slots import DONE, KnownTake, refused_takes, stands_in
from orchestrator.ledger.tables import RUN, TAKE, RunRow

_ROWS_AT_ONCE = 2_000
_PENDING = frozenset({"waiting", "sent"})
_STOPPED = frozenset({"failed", "cancelled"})

PlannedTakes = Callable[[Held], Iterable[DueTake]]  # the takes of a plan, for what the catalog holds


class RunTerms(NamedTuple):
    """The terms under which a run is made."""

    model: str
    max_usd_micros: int | None = None  # None: no cap
    take_usd_micros: int | None = None  # the expected cost of one take, for the cap; None: unknown
    tries: int = 0  # times a place may pass on from a take that was refused
    duplicates: str = "warn"  # of two takes that sound alike: warn, reroll or off
    choose_by: str = ""  # the scorers that choose among the takes of a track, comma-separated


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
    slot: Slot
    counts: tuple[int, int]  # takes of its track that are wanted, and of these kept
    sound_id: str


def begin_or_resume(
    connection: Connection,
    catalog: str,
    terms: RunTerms,
    takes: PlannedTakes,
    at_ms: int,
    *,
    is_part: bool = False,
    remade: Collection[str] = (),
) -> BegunRun:
    """Write the plan, inside the caller's transaction.

    With `is_part` the takes are a part of the plan, and the slots of all others stay as they are. Raises BusyError when
    an unfinished run waits for takes outside that part, which it would make as well.
    """
    run_id, resumed = _open_run(connection, catalog, terms, at_ms)
    before = _read_before(connection, TAKE.c.catalog == catalog)
    seen: set[str] = set()
    slots: set[tuple[str, int]] = set()
    new = again = unchanged = pending = 0
    at_slot = {each.slot: take_id for take_id, each in before.items() if each.is_current and take_id not in remade}
    # What is due is asked for here, so that it follows from what a controller has recorded until now.
    stream = iter(takes(_held(before, refused_takes(connection, TAKE.c.catalog == catalog))))
    while dues := list(islice(stream, _ROWS_AT_ONCE)):
        if is_part:
            slots.update((due.take.track.key, due.take.number) for due in dues)
        stand_ins = {due.take.id: there for due in dues if (there := _find_stand_in(due.take, before, at_slot))}
        seen.update(stand_ins.values())
        unchanged += len(stand_ins)
        dues = [due for due in dues if due.take.id not in stand_ins]
        chunk = [due.take for due in dues]
        fresh = [due for due in dues if not (due.is_passed or due.take.id in before or due.take.id in seen)]
        _insert(connection, fresh, run_id)
        known = {take.id for take in chunk} & before.keys() - seen
        states = {take_id: before[take_id].state for take_id in known}
        waiting_again = [take_id for take_id, state in states.items() if state in _STOPPED]
        wait_again(connection, waiting_again, run_id)
        _set_current(connection, [take_id for take_id in known if not before[take_id].is_current])
        _set_wanted(connection, [due for due in dues if due.take.id in known], before)
        new += len({due.take.id for due in fresh})
        again += len(waiting_again)
        unchanged += sum(state in DONE for state in states.values())
        pending += sum(state in _PENDING for state in states.values())
        seen.update(take.id for take in chunk)
    left = {take_id: each for take_id, each in before.items() if each.is_current and take_id not in seen}
    if is_part:
        refuse_others_pending(catalog, sum(each.state in _PENDING and each.slot not in slots for each in left.values()))
    dropped = [take_id for take_id, each in left.items() if not is_part or each.slot in slots]
    _drop(connection, dropped)
    pending += new + again
    if not pending:
        _close_empty_run(connection, run_id, resumed, at_ms)
    return BegunRun(run_id if pending else None, resumed, new, again, unchanged, len(dropped), pending)


def _find_stand_in(take: Take, before: Mapping[str, _Before], at_slot: Mapping[tuple[str, int], str]) -> str | None:
    """The take that keeps the slot of `take` as `stands_in` has it; None when there is none."""
    own, there = before.get(take.id), at_slot.get((take.track.key, take.number))
    if there is None:
        return None
    entry = KnownTake(there, before[there].state, sound_id=before[there].sound_id)
    return there if stands_in(take, entry, own.state if own else None) else None


def pass_places_on(connection: Connection, take_ids: Collection[str]) -> int:
    """Let the next takes wait that are due because these were refused, in the runs that had sent them; how many.

    Only in runs that go on, for takes that their catalogs still have. A second call changes nothing more.
    """
    waiting = 0
    for ids in chunks(sorted(take_ids)):
        query = select(TAKE.c.track_key, TAKE.c.message, TAKE.c.wanted, TAKE.c.keep, RUN.c.run_id, RUN.c.tries)
        query = query.join(RUN, RUN.c.run_id == TAKE.c.run_id).where(
            and_(TAKE.c.take_id.in_(ids), TAKE.c.state.in_(sorted(DONE)), TAKE.c.current, TAKE.c.wanted > 0),
            and_(RUN.c.state == "active", RUN.c.wish != "cancel", RUN.c.tries > 0),
        )
        by_track = {row.track_key: row for row in connection.execute(query)}
        ours = TAKE.c.track_key.in_(list(by_track))
        before = _read_before(connection, ours)
        held = _held(before, refused_takes(connection, ours))
        for row in by_track.values():
            due = due_takes(Take.model_validate(row.message).track, row.wanted, row.tries, held, row.keep)
            further = [each for each in due if each.is_further and not each.is_passed]
            waiting += _let_wait(connection, further, before, row.run_id)
    return waiting


def _let_wait(connection: Connection, takes: Sequence[DueTake], before: Mapping[str, _Before], run_id: str) -> int:
    """Let those of `takes` wait that are new or were dropped unmade; those dropped after they were made are back."""
    fresh = [due for due in takes if due.take.id not in before]
    dropped = [due.take.id for due in takes if due.take.id in before and not before[due.take.id].is_current]
    again = [take_id for take_id in dropped if before[take_id].state in _STOPPED]
    _insert(connection, fresh, run_id)
    wait_again(connection, again, run_id)
    _set_current(connection, dropped)
    return len(fresh) + len(again)


def _read_before(connection: Connection, where: ColumnElement[bool]) -> dict[str, _Before]:
    slot = (TAKE.c.track_key, TAKE.c.number)
    columns = (TAKE.c.take_id, *slot, TAKE.c.state, TAKE.c.current, TAKE.c.wanted, TAKE.c.keep, TAKE.c.sound_id)
    return {
        take_id: _Before(state, current, (key, number), (wanted, keep), sound_id)
        for take_id, key, number, state, current, wanted, keep, sound_id in connection.execute(
            select(*columns).where(where)
        )
    }


def _held(before: Mapping[str, _Before], refused: Refused) -> Held:
    current = ((take_id, each) for take_id, each in before.items() if each.is_current)
    return Held.of({each.slot: each.sound_id or take_id for take_id, each in current}, refused)


def refuse_others_pending(catalog: str, takes: int) -> None:
    """Raise BusyError when an unfinished run of `catalog` still has to make `takes` that are not asked for."""
    if takes:
        raise BusyError(
            f"an unfinished run of {catalog!r} has {takes:,} more takes to make than were selected",
            why="an unfinished run always makes all of its takes",
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
    """The catalog's active run, or a new one under the terms of its last run, which must exist."""
    last = select(RUN).where(RUN.c.catalog == catalog).order_by(RUN.c.started_at_ms.desc()).limit(1)
    row = connection.execute(last).mappings().one()
    terms = RunTerms(**{name: row[name] for name in RunTerms._fields})
    return _open_run(connection, catalog, terms, at_ms)[0]


def _close_empty_run(connection: Connection, run_id: str, resumed: bool, at_ms: int) -> None:
    if resumed:
        connection.execute(update(RUN).where(RUN.c.run_id == run_id).values(state="finished", finished_at_ms=at_ms))
    else:
        connection.execute(RUN.delete().where(RUN.c.run_id == run_id))


def _insert(connection: Connection, takes: Sequence[DueTake], run_id: str) -> None:
    rows = {due.take.id: {**take_row(due.take, run_id), "wanted": due.wanted, "keep": due.keep} for due in takes}
    if rows:
        connection.execute(insert(TAKE), list(rows.values()))


def take_row(take: Take, run_id: str) -> dict[str, Any]:
    """The row of a take that waits."""
    track = take.track
    return {
        "take_id": take.id,
        "sound_id": take.sound_id,
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
    """Let these takes wait as if they had never been tried."""
    fresh = {"state": "waiting", "run_id": run_id, "tries": 0, "losses": 0, "alone": False, "current": True}
    fresh |= {"rendition_id": None}
    _update(connection, take_ids, {**fresh, "sent_at_ms": None, "held_by": None, "held_at_ms": None})


def _set_current(connection: Connection, take_ids: list[str]) -> None:
    _update(connection, take_ids, {"current": True})


def _set_wanted(connection: Connection, takes: Sequence[DueTake], before: dict[str, _Before]) -> None:
    """Write how many takes are wanted and kept where that has changed, of takes that are not done."""
    changed: dict[tuple[int, int], list[str]] = {}
    for due in takes:
        known, counts = before[due.take.id], (due.wanted, due.keep)
        if known.counts != counts and known.state not in DONE:
            changed.setdefault(counts, []).append(due.take.id)
    for (wanted, keep), take_ids in changed.items():
        _update(connection, take_ids, {"wanted": wanted, "keep": keep})


def _drop(connection: Connection, take_ids: list[str]) -> None:
    _update(connection, take_ids, {"current": False})
    pending = or_(*(TAKE.c.state == state for state in sorted(_PENDING)))
    released = {"state": "cancelled", "sent_at_ms": None, "held_by": None, "held_at_ms": None}
    _update(connection, take_ids, released, pending)


def _update(connection: Connection, take_ids: list[str], values: dict[str, Any], *where: Any) -> None:
    if take_ids:
        statement = update(TAKE).where(TAKE.c.take_id == bindparam("of_take"), *where).values(**values)
        connection.execute(statement, [{"of_take": take_id} for take_id in take_ids])

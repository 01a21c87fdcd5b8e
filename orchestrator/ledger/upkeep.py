"""Upkeep of the ledger: read what it holds of each take, mark takes to be made again, and restore rows from sidecars.

Facts never change: a take that is made again gets a second rendition, and `take.rendition_id` says which one counts. A
sidecar contains the data of its take, its accepted attempt and its rendition, so their rows can be made from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, and_, bindparam, func, select, update

from catalog.messages import AttemptMade, new_id
from catalog.sidecar import Sidecar, StageTimes
from orchestrator.ledger import plans
from orchestrator.ledger.bulk import chunks, insert_new
from orchestrator.ledger.facts import attempt_row, insert_renditions
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.machines import mark_makers_unposted
from orchestrator.ledger.tables import RENDITION, RUN, TAKE, AttemptRow, RunRow, TakeRow

_PAGE: Final = 1_000
_SIDECARS_AT_ONCE: Final = 200  # each is some tens of kilobytes once it is read
_PENDING: Final = ("waiting", "sent")


class Filed(NamedTuple):
    """A take as the ledger has it."""

    take_id: str
    state: str
    current: bool
    sidecar: dict[str, Any] | None  # of the rendition that counts

    @property
    def accepted(self) -> bool:
        """True when the store must have the take."""
        return self.state == "accepted"

    @property
    def pending(self) -> bool:
        """True when the take is still to be made or on its way."""
        return self.state in _PENDING


class MadeAgain(NamedTuple):
    """The number of lost takes that wait again, and of those that were dropped."""

    waiting: int = 0  # they wait again
    dropped: int = 0  # the preset no longer has them


def count_accepted(connection: Connection, catalog: str | None = None) -> dict[str, int]:
    """Catalog -> takes that the store must have; catalogs without any are in it too."""
    accepted = func.count().filter(TAKE.c.state == "accepted")
    query = select(TAKE.c.catalog, accepted).group_by(TAKE.c.catalog).order_by(TAKE.c.catalog)
    return dict(connection.execute(query if catalog is None else query.where(TAKE.c.catalog == catalog)).all())


def filed_takes(ledger: Ledger, catalog: str) -> Iterator[Filed]:
    """The catalog's takes by id, a page in memory at a time; no transaction is open between two pages."""
    # Not plainly by catalog: an index on that is no help, and to use it SQLite would sort all takes for every page.
    ours = func.coalesce(TAKE.c.catalog, "") == catalog
    after = ""
    while True:
        with ledger.read() as connection:
            page = _filed(_query().where(ours, TAKE.c.take_id > after).limit(_SIDECARS_AT_ONCE), connection)
        yield from page
        if len(page) < _SIDECARS_AT_ONCE:
            return
        after = page[-1].take_id


def find_filed(ledger: Ledger, take_id: str) -> Filed | None:
    """The take as the ledger has it now."""
    with ledger.read() as connection:
        found = _filed(_query().where(TAKE.c.take_id == take_id), connection)
    return found[0] if found else None


def make_again(connection: Connection, catalog: str, take_ids: Sequence[str], at_ms: int) -> MadeAgain:
    """Takes whose rendition is lost wait again, in the catalog's active run or a new one; dropped ones are let go."""
    query = select(TAKE.c.take_id, TAKE.c.current, TAKE.c.state)
    waiting: list[str] = []
    dropped: list[str] = []
    for at in range(0, len(take_ids), _PAGE):
        for take_id, current, state in connection.execute(query.where(TAKE.c.take_id.in_(take_ids[at : at + _PAGE]))):
            if current and state in ("accepted", "failed"):
                waiting.append(take_id)
            elif state == "accepted":
                dropped.append(take_id)
    if waiting:
        plans.wait_again(connection, waiting, plans.open_run_again(connection, catalog, at_ms))
    _update(connection, [{"of_take": each} for each in dropped], {"state": "cancelled", "rendition_id": None})
    mark_makers_unposted(connection, [*waiting, *dropped])  # the time that made them has come to nothing
    return MadeAgain(len(waiting), len(dropped))


def has_takes(connection: Connection) -> bool:
    """True when any take was ever planned."""
    return connection.execute(select(TAKE.c.take_id).limit(1)).first() is not None


def write_from_sidecars(connection: Connection, sidecars: Sequence[Sidecar]) -> None:
    """Write the accepted takes of `sidecars`: their runs, attempts, renditions, and the takes themselves."""
    if not sidecars:
        return
    made = [AttemptMade.of(sidecar) for sidecar in sidecars]
    insert_new(connection, RunRow, _runs(sidecars))
    insert_new(connection, TakeRow, [_take(each) for each in sidecars])
    insert_new(connection, AttemptRow, [attempt_row(attempt) for attempt in made])
    insert_renditions(connection, [(each.record_id, sidecar) for sidecar, each in zip(sidecars, made, strict=True)])
    _accept(connection, {attempt.take_id: attempt.record_id for attempt in made})


def write_unrecorded(connection: Connection, sidecars: Sequence[Sidecar]) -> None:
    """Write the sidecars that only the store has; a slot keeps its current take."""
    named = [sidecar.take_id for sidecar in sidecars]
    known = set(connection.execute(select(TAKE.c.take_id).where(TAKE.c.take_id.in_(named))).scalars())
    fresh = {sidecar.take_id: sidecar.take for sidecar in sidecars if sidecar.take_id not in known}
    keys = {take.track.key for take in fresh.values()}
    filled = select(TAKE.c.track_key, TAKE.c.number).where(TAKE.c.track_key.in_(keys), TAKE.c.current)
    slots = {tuple(row) for row in connection.execute(filled)} if fresh else set()
    write_from_sidecars(connection, sidecars)
    older = [{"of_take": take_id} for take_id, take in fresh.items() if (take.track.key, take.number) in slots]
    _update(connection, older, {"current": False})


def write_other_rendition(connection: Connection, sidecar: Sidecar, at_ms: int) -> None:
    """From now on `sidecar` counts for its take; a second row when the ledger knows its record id with other words."""
    known = select(RENDITION.c.record_id).where(RENDITION.c.record_id == sidecar.record_id)
    if sidecar.record_id and connection.execute(known).first() is None:
        write_from_sidecars(connection, [sidecar])
        return
    attempt = AttemptMade.of(sidecar).model_copy(
        update={"record_id": new_id(), "adopted": True, "at_ms": at_ms, "times": StageTimes(), "batch": None}
    )
    insert_new(connection, AttemptRow, [{**attempt_row(attempt), "audio_ms": 0}])
    insert_renditions(connection, [(attempt.record_id, sidecar)])
    _accept(connection, {sidecar.take_id: attempt.record_id})


def stretch_runs(connection: Connection, sidecars: Sequence[Sidecar], known: dict[str, tuple[int, int]]) -> None:
    """Let each run of a rebuilt ledger begin with its first sidecar and end with its last.

    `known` holds the instants written so far (run id -> first and last) and is updated.
    """
    changed: set[str] = set()
    for row in _runs(sidecars):
        first, last = known.get(row["run_id"], (row["started_at_ms"], row["finished_at_ms"]))
        wider = (min(first, row["started_at_ms"]), max(last, row["finished_at_ms"]))
        if known.get(row["run_id"]) != wider:
            known[row["run_id"]] = wider
            changed.add(row["run_id"])
    for run_id in sorted(changed):
        first, last = known[run_id]
        connection.execute(update(RUN).where(RUN.c.run_id == run_id).values(started_at_ms=first, finished_at_ms=last))


def mark_newest_current(connection: Connection) -> None:
    """Make the newest of several takes of one slot the current one; the others were made for earlier presets."""
    slot = (TAKE.c.track_key, TAKE.c.number)
    newest = func.row_number().over(partition_by=slot, order_by=(RENDITION.c.created_at_ms.desc(), TAKE.c.take_id))
    placed = (
        select(TAKE.c.take_id, newest.label("place"))
        .join(RENDITION, RENDITION.c.record_id == TAKE.c.rendition_id)
        .subquery()
    )
    older = select(placed.c.take_id).where(placed.c.place > 1)
    connection.execute(update(TAKE).where(TAKE.c.take_id.in_(older)).values(current=False))


def _query() -> Select[Any]:
    counting = and_(RENDITION.c.record_id == TAKE.c.rendition_id, RENDITION.c.take_id == TAKE.c.take_id)
    query = select(TAKE.c.take_id, TAKE.c.state, TAKE.c.current, RENDITION.c.sidecar)
    return query.outerjoin_from(TAKE, RENDITION, counting).order_by(TAKE.c.take_id)


def _filed(query: Select[Any], connection: Connection) -> list[Filed]:
    return [Filed(*row) for row in connection.execute(query)]


def _runs(sidecars: Sequence[Sidecar]) -> list[dict[str, Any]]:
    """The runs that rendered them, as far as sidecars tell."""
    runs: dict[str, dict[str, Any]] = {}
    for sidecar in sidecars:
        at_ms = sidecar.created_at_ms
        row = runs.setdefault(
            sidecar.run_id,
            {
                "run_id": sidecar.run_id,
                "catalog": sidecar.take.track.catalog,
                "model": sidecar.take.spec.model,
                "state": "finished",
                "started_at_ms": at_ms,
                "finished_at_ms": at_ms,
            },
        )
        row["started_at_ms"] = min(row["started_at_ms"], at_ms)
        row["finished_at_ms"] = max(row["finished_at_ms"], at_ms)
    return list(runs.values())


def _take(sidecar: Sidecar) -> dict[str, Any]:
    return {**plans.take_row(sidecar.take, sidecar.run_id), "take_id": sidecar.take_id}


def _accept(connection: Connection, renditions: dict[str, str]) -> None:
    values: dict[str, Any] = {
        "state": "accepted",
        "held_by": None,
        "held_at_ms": None,
        "rendition_id": bindparam("to_rendition"),
    }
    rows = [{"of_take": take_id, "to_rendition": record_id} for take_id, record_id in renditions.items()]
    _update(connection, rows, values)
    mark_makers_unposted(connection, renditions)


def _update(connection: Connection, rows: list[dict[str, Any]], values: dict[str, Any]) -> None:
    if rows:
        connection.execute(update(TAKE).where(TAKE.c.take_id == bindparam("of_take")).values(**values), rows)


def mark_orders_unknown(connection: Connection, take_ids: Sequence[str]) -> None:
    """Mark takes for which no order is proven."""
    for chunk in chunks(sorted(take_ids)):
        connection.execute(update(TAKE).where(TAKE.c.take_id.in_(chunk)).values(is_order_known=False))

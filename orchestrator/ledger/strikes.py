"""Strikes: a worker whose reported time is false is taken off the roll-call, and is put back if that was a mistake.

A worker's reports are facts and stay. A strike is a new fact that contains the worker's whole row of the roll-call; the
row itself is deleted. All computations with workers' time read spans, attempts and losses through the roll-call, so
they no longer see a struck worker: the costs of months, catalogs and runs, the money spent of a budget, the use of
workers' time, and the workers' speeds and failure rates.

Some readings of attempts do not go through the roll-call. Those that turn time into money leave struck workers out
(`struck_ids`): the cost so far of a run's attempts, and the shares of a machine on which no worker worked. Those that
describe a take keep struck workers: the take's state, its reasons, and the counts and pace of its run are what the
program acted upon, and a take that a struck worker ended has ended. `catalog reject`, `catalog verify` and `retry` undo
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select, update

from catalog.errors import UnknownNameError
from catalog.logins import login_of_worker
from orchestrator.ledger.bulk import chunks, insert_new
from orchestrator.ledger.machines import mark_rentals_unposted
from orchestrator.ledger.tables import STRIKE, TAKE, TALLY, WORKER, StrikeRow, WorkerRow

# The tallies of a worker that is back are gone.
_NOTHING_TALLIED: Final = {"tally_spans_ms": 0, "tally_attempts_ms": 0, "tally_reached_ms": 0}
_LET_GO: Final = {"state": "waiting", "sent_at_ms": None, "held_by": None, "held_at_ms": None}
_NAMED: Final = 3  # in an error


def strike(connection: Connection, worker_id: str, reason: str, at_ms: int) -> bool:
    """Take a worker off the roll-call; False when it is not there, and nothing is written.

    The takes that it holds wait again. This is not counted as a loss, because it is unknown if the worker ever had
    them.
    """
    worker = connection.execute(select(WORKER).where(WORKER.c.worker_id == worker_id)).mappings().first()
    if worker is None:
        return False
    _write(connection, worker, reason, at_ms, is_struck=True)
    held = update(TAKE).where(TAKE.c.held_by == worker_id, TAKE.c.state == "sent")
    connection.execute(held.values(**_LET_GO))
    connection.execute(TALLY.delete().where(TALLY.c.worker_id == worker_id))
    connection.execute(WORKER.delete().where(WORKER.c.worker_id == worker_id))
    mark_rentals_unposted(connection, {worker["rental_id"]})
    return True


def reinstate(connection: Connection, worker_id: str, reason: str, at_ms: int) -> bool:
    """Put a struck worker back on the roll-call as it was; False when it is not struck, and nothing is written."""
    newest = _newest(connection, worker_id)
    if newest is None or not newest["is_struck"]:
        return False
    # A strike of an earlier version lacks later columns; these get the values of older workers.
    worker = {name: value for name, value in newest["worker"].items() if name in WORKER.c}
    _write(connection, worker, reason, at_ms, is_struck=False)
    insert_new(connection, WorkerRow, [{**worker, **_NOTHING_TALLIED}])
    mark_rentals_unposted(connection, {worker["rental_id"]})
    return True


def struck(connection: Connection, worker_ids: Iterable[str]) -> set[str]:
    """Those of `worker_ids` that are struck now."""
    newest: dict[str, bool] = {}
    query = select(STRIKE.c.worker_id, STRIKE.c.is_struck).order_by(STRIKE.c.strike_id)
    for chunk in chunks(sorted(set(worker_ids))):
        newest |= dict(connection.execute(query.where(STRIKE.c.worker_id.in_(chunk))).all())
    return {worker_id for worker_id, is_struck in newest.items() if is_struck}


def struck_ids() -> Select[Any]:
    """The ids of all struck workers, for statements."""
    newest = select(func.max(STRIKE.c.strike_id)).group_by(STRIKE.c.worker_id)
    return select(STRIKE.c.worker_id).where(STRIKE.c.is_struck, STRIKE.c.strike_id.in_(newest))


def get_worker(connection: Connection, worker_id: str) -> WorkerRow:
    """A worker's row of the roll-call, or its row at its last strike. Raises UnknownNameError."""
    worker = connection.execute(select(WORKER).where(WORKER.c.worker_id == worker_id)).mappings().first()
    if worker is not None:
        return WorkerRow(**worker)
    newest = _newest(connection, worker_id)
    if newest is None:
        raise _unknown(worker_id)
    return WorkerRow(**newest["worker"])


def read_strikes(connection: Connection) -> list[StrikeRow]:
    """Every strike and every reinstatement, oldest first."""
    return [StrikeRow(**row) for row in connection.execute(select(STRIKE).order_by(STRIKE.c.strike_id)).mappings()]


def find_workers(connection: Connection, names: Sequence[str]) -> list[str]:
    """The workers whose ids these are, or begin so, in that order. Raises UnknownNameError for none or several.

    A struck worker counts: the same beginning names the same worker before and after a strike.
    """
    return list(dict.fromkeys(_find_one(connection, name) for name in names))


def find_workers_of_login(connection: Connection, login: str) -> list[str]:
    """The workers of a login, struck or not, in the order of their ids. Raises UnknownNameError when it has none.

    A worker whose login is not proven counts by its id, which begins with the login and a dot.
    """
    rows = [tuple(row) for row in connection.execute(select(WORKER.c.worker_id, WORKER.c.login))]
    rows += [(each.worker_id, each.worker.get("login", "")) for each in read_strikes(connection)]
    found = {worker_id for worker_id, proven in rows if login == (proven or login_of_worker(worker_id))}
    if not found or not login:  # "" would be the login of all that have none
        raise UnknownNameError(
            f"no worker has the login {login!r:.80}",
            why="the login stands before the dot in a worker's id",
            fix="`tunemill status` lists the latest workers",
        )
    return sorted(found)


def _find_one(connection: Connection, name: str) -> str:
    found: set[str] = set()
    for column in (WORKER.c.worker_id, STRIKE.c.worker_id):
        found.update(connection.execute(select(column).where(column.startswith(name, autoescape=True))).scalars())
    found = {each for each in found if each.startswith(name)} if name else set()  # SQLite ignores case
    if name in found:
        return name
    if len(found) == 1:
        return found.pop()
    if found:
        more = " and more" if len(found) > _NAMED else ""
        raise UnknownNameError(
            f"{name!r:.80} is the beginning of {len(found):,} workers' ids",
            why=", ".join(sorted(found)[:_NAMED]) + more,
            fix="write more of the worker's id",
        )
    raise _unknown(name)


def _unknown(name: str) -> UnknownNameError:
    return UnknownNameError(
        f"no worker's id begins with {name!r:.80}",
        why="the ledger knows a worker after its first heartbeat or record",
        fix="`tunemill status --json` has the ids of the latest workers",
    )


def _newest(connection: Connection, worker_id: str) -> Mapping[Any, Any] | None:
    """The strike or reinstatement of a worker that counts."""
    query = select(STRIKE).where(STRIKE.c.worker_id == worker_id).order_by(STRIKE.c.strike_id.desc()).limit(1)
    return connection.execute(query).mappings().first()


def _write(connection: Connection, worker: Mapping[Any, Any], reason: str, at_ms: int, *, is_struck: bool) -> None:
    row = {"worker_id": worker["worker_id"], "is_struck": is_struck, "reason": reason, "at_ms": at_ms}
    connection.execute(STRIKE.insert().values(**row, worker=dict(worker)))

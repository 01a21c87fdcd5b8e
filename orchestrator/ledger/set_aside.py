"""Records set aside: each record that could not be written to the ledger is kept here, with the reason.

No other record waits for these. A person reads them with `tunemill records`. A record that only a newer program can
read is tried again when that program runs. Their number is bounded: beyond it, the oldest are deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection, delete, func, select, update

from catalog.bounded import INT32_MAX, fit_words
from catalog.errors import UnknownNameError
from catalog.messages import RECORD_BYTES_MAX
from orchestrator.ledger.bulk import chunks, insert_new
from orchestrator.ledger.tables import SET_ASIDE, SetAsideRow

KEPT_MAX: Final = 10_000
KEPT_BYTES_MAX: Final = 256 * 1024 * 1024
OVERSIZED_KEPT: Final = 64 * 1024  # the beginning of a record that is too large to be read at all
RETRIED_AT_ONCE: Final = 200
_HEARTBEAT: Final = "heartbeat"  # each overtakes the one before it

Fault = Literal["newer", "unreadable", "refused"]  # refused: by the rules of facts, or by the database


class SetAside(NamedTuple):
    """One record as it lay on the queue, and why it is not on the books."""

    raw: bytes
    payload: dict[str, Any] | None  # the part of it that could be read
    fault: Fault
    reason: str
    login: str = ""  # on whose list it lay

    @property
    def digest(self) -> str:
        """The record's id: the hash of its bytes, so that the same record is set aside once."""
        return digest_of(self.raw)


def digest_of(raw: bytes) -> str:
    """The id of a record of these bytes: their SHA-256 in hex."""
    return sha256(raw).hexdigest()


def write_set_aside(connection: Connection, many: Iterable[SetAside], at_ms: int) -> int:
    """Keep these records, each once; how many of the oldest had to go for them."""
    rows: dict[str, dict[str, Any]] = {}
    for each in many:
        row = _row(each, at_ms)
        rows[row["worker_id"] if row["kind"] == _HEARTBEAT else row["digest"]] = row
    drop(connection, [row["digest"] for row in rows.values()])
    beating = sorted({row["worker_id"] for row in rows.values() if row["kind"] == _HEARTBEAT})
    for worker_ids in chunks(beating):
        overtaken = SET_ASIDE.c.worker_id.in_(worker_ids) & (SET_ASIDE.c.kind == _HEARTBEAT)
        connection.execute(delete(SET_ASIDE).where(overtaken))
    insert_new(connection, SetAsideRow, rows.values())
    return _make_room(connection) if rows else 0


def _row(each: SetAside, at_ms: int) -> dict[str, Any]:
    payload = each.payload or {}
    version = payload.get("v")
    return {
        "digest": each.digest,
        "set_aside_ms": at_ms,
        "login": each.login,
        "worker_id": _claimed(payload, "worker_id"),
        "kind": _claimed(payload, "kind"),
        "version": min(max(version, 0), INT32_MAX) if isinstance(version, int) else 0,
        "fault": each.fault,
        "reason": fit_words(each.reason, 1000),
        "raw": each.raw if len(each.raw) <= RECORD_BYTES_MAX else each.raw[:OVERSIZED_KEPT],
        "size_bytes": len(each.raw),
        "is_due": False,
    }


def _claimed(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    return fit_words(value, 128).replace("\n", " ") if isinstance(value, str) else ""


def _make_room(connection: Connection) -> int:
    """Let the oldest go of whichever login has the most, so that none takes the room of another; how many went."""
    size = func.length(SET_ASIDE.c.raw)
    used = select(SET_ASIDE.c.login, func.count(), func.coalesce(func.sum(size), 0)).group_by(SET_ASIDE.c.login)
    kept = {login: [int(count), int(size)] for login, count, size in connection.execute(used)}
    oldest: dict[str, Iterator[Any]] = {}
    gone: list[str] = []
    while not _fits(*map(sum, zip(*kept.values(), strict=True))):
        login = max(kept, key=lambda each: max(kept[each][0] / KEPT_MAX, kept[each][1] / KEPT_BYTES_MAX))
        if login not in oldest:
            ours = select(SET_ASIDE.c.digest, size).where(SET_ASIDE.c.login == login)
            oldest[login] = iter(connection.execute(ours.order_by(SET_ASIDE.c.set_aside_ms, SET_ASIDE.c.digest)).all())
        digest, row_size = next(oldest[login])
        gone.append(digest)
        kept[login] = [kept[login][0] - 1, kept[login][1] - row_size]
    drop(connection, gone)
    return len(gone)


def _fits(count: int, size: int) -> bool:
    return count <= KEPT_MAX and size <= KEPT_BYTES_MAX


def list_set_aside(connection: Connection, limit: int | None = None) -> list[SetAsideRow]:
    """The records set aside, newest first, without their bytes."""
    columns = [column for column in SET_ASIDE.c if column.name != "raw"]
    query = select(*columns).order_by(SET_ASIDE.c.set_aside_ms.desc(), SET_ASIDE.c.digest).limit(limit)
    return [SetAsideRow(**row, raw=b"") for row in connection.execute(query).mappings()]


def count_set_aside(connection: Connection) -> int:
    """Count the records that are set aside."""
    return int(connection.execute(select(func.count()).select_from(SET_ASIDE)).scalar() or 0)


def find_set_aside(connection: Connection, names: Sequence[str]) -> list[SetAsideRow]:
    """The records whose ids begin with `names`, in that order. Raises UnknownNameError for none or several."""
    return [_find_one(connection, name) for name in dict.fromkeys(names)]


def _find_one(connection: Connection, name: str) -> SetAsideRow:
    wanted = fit_words(name, 64).lower()
    query = select(SET_ASIDE).where(SET_ASIDE.c.digest.startswith(wanted, autoescape=True)).limit(2)
    rows = [SetAsideRow(**row) for row in connection.execute(query).mappings()] if wanted else []
    if len(rows) == 1:
        return rows[0]
    raise UnknownNameError(
        f"{len(rows) or 'no'} record{'s' if len(rows) != 1 else ''} set aside {'begin' if rows else 'begins'} "
        f"with {wanted!r}",
        why="a record is named by its id or by the beginning of its id",
        fix="take an id from `tunemill records list`",
    )


def drop(connection: Connection, digests: Iterable[str]) -> None:
    """Forget these records."""
    for chunk in chunks(sorted(digests)):
        connection.execute(delete(SET_ASIDE).where(SET_ASIDE.c.digest.in_(chunk)))


def drop_due(connection: Connection, digests: Iterable[str]) -> None:
    """Delete those of these records that are still due; a record that was set aside again is not due."""
    for chunk in chunks(sorted(digests)):
        connection.execute(delete(SET_ASIDE).where(SET_ASIDE.c.digest.in_(chunk), SET_ASIDE.c.is_due))


def mark_due(connection: Connection, digests: Iterable[str] | None = None) -> None:
    """Have these records tried again, or all of them."""
    if digests is None:
        connection.execute(update(SET_ASIDE).values(is_due=True))
        return
    for chunk in chunks(sorted(digests)):
        connection.execute(update(SET_ASIDE).where(SET_ASIDE.c.digest.in_(chunk)).values(is_due=True))


def mark_due_up_to(connection: Connection, version: int) -> None:
    """Have those tried again that an earlier program could not read because they are of a version up to this."""
    readable = (SET_ASIDE.c.fault == "newer") & (SET_ASIDE.c.version <= version)
    connection.execute(update(SET_ASIDE).where(readable).values(is_due=True))


class Due(NamedTuple):
    """A record that is to be tried again."""

    digest: str
    raw: bytes
    login: str


def due(connection: Connection) -> list[Due]:
    """Some of the records that are to be tried again, oldest first."""
    query = select(SET_ASIDE.c.digest, SET_ASIDE.c.raw, SET_ASIDE.c.login).where(SET_ASIDE.c.is_due)
    ordered = query.order_by(SET_ASIDE.c.set_aside_ms, SET_ASIDE.c.digest).limit(RETRIED_AT_ONCE)
    return [Due(row.digest, bytes(row.raw), row.login) for row in connection.execute(ordered)]

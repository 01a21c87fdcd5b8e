"""Logins of workers and keys of orders: the logins that exist, the results of each login's takes, and the valid key."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, case, func, insert, select, update

from orchestrator.ledger.tables import ATTEMPT, LOGIN, ORDER_KEY, WORKER, LoginRow, OrderKeyRow


class LoginUse(NamedTuple):
    """A login, its workers, and the outcomes of the takes that they tried; "" stands for workers without a login."""

    login: str
    made_at_ms: int | None  # None: it was not made here
    ended_at_ms: int | None
    workers: int
    living: int
    heard_at_ms: int | None
    accepted: int
    rejected: int
    failed: int

    @property
    def rejected_share(self) -> float | None:
        """Rejected takes among those that were rendered and checked; None before there is one."""
        checked = self.accepted + self.rejected
        return self.rejected / checked if checked else None


def find_login(connection: Connection, login: str) -> LoginRow | None:
    """A login that was made here."""
    row = connection.execute(select(LOGIN).where(LOGIN.c.login == login)).mappings().first()
    return LoginRow(**row) if row else None


def make_login(connection: Connection, login: str, at_ms: int) -> None:
    """Write a new login down; one that had ended counts again."""
    if find_login(connection, login) is None:
        connection.execute(insert(LOGIN).values(login=login, made_at_ms=at_ms))
    else:
        connection.execute(update(LOGIN).where(LOGIN.c.login == login).values(made_at_ms=at_ms, ended_at_ms=None))


def end_login(connection: Connection, login: str, at_ms: int) -> list[str]:
    """Believe nothing that the login says from now on; its living workers."""
    if find_login(connection, login) is None:
        make_login(connection, login, at_ms)
    connection.execute(update(LOGIN).where(LOGIN.c.login == login).values(ended_at_ms=at_ms))
    living = select(WORKER.c.worker_id).where(WORKER.c.login == login, WORKER.c.ended_at_ms.is_(None))
    return sorted(connection.execute(living).scalars())


def ended_logins(connection: Connection) -> frozenset[str]:
    """The logins that have ended."""
    return frozenset(connection.execute(select(LOGIN.c.login).where(LOGIN.c.ended_at_ms.is_not(None))).scalars())


def list_uses(connection: Connection) -> list[LoginUse]:
    """Every login that was made or has been heard of, by name."""
    made = {row["login"]: row for row in connection.execute(select(LOGIN)).mappings()}
    living = func.sum(case((WORKER.c.ended_at_ms.is_(None), 1), else_=0))
    roll = select(WORKER.c.login, func.count(), living, func.max(WORKER.c.heard_at_ms)).group_by(WORKER.c.login)
    workers = {row[0]: tuple(row[1:]) for row in connection.execute(roll)}
    tried = select(WORKER.c.login, ATTEMPT.c.outcome, func.count()).join(
        ATTEMPT, ATTEMPT.c.worker_id == WORKER.c.worker_id
    )
    counted = tried.where(~ATTEMPT.c.adopted).group_by(WORKER.c.login, ATTEMPT.c.outcome)
    outcomes = {(row[0], row[1]): int(row[2]) for row in connection.execute(counted)}
    return [
        LoginUse(
            login,
            made[login]["made_at_ms"] if login in made else None,
            made[login]["ended_at_ms"] if login in made else None,
            *workers.get(login, (0, 0, None)),
            *(outcomes.get((login, outcome), 0) for outcome in ("accepted", "rejected", "failed")),
        )
        for login in sorted({*made, *workers})
    ]


def newest_order_key(connection: Connection) -> OrderKeyRow | None:
    """The public key that today's orders are signed with; None where none are signed."""
    newest = select(ORDER_KEY).order_by(ORDER_KEY.c.made_at_ms.desc(), ORDER_KEY.c.public_key).limit(1)
    row = connection.execute(newest).mappings().first()
    return OrderKeyRow(**row) if row else None


def write_order_key(connection: Connection, public_key: str, at_ms: int) -> None:
    """Have orders signed with this key from now on."""
    known = connection.execute(select(ORDER_KEY).where(ORDER_KEY.c.public_key == public_key)).first()
    if known is None:
        connection.execute(insert(ORDER_KEY).values(public_key=public_key, made_at_ms=at_ms))

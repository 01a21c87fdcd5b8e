"""Closing a month: later postings go to other months; a control total and a checksum prove that nothing changed."""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, func, select

from catalog.errors import PeriodError
from orchestrator.finance.books.readings import find_closed, iterate_entries
from orchestrator.finance.months import bounds_of
from orchestrator.finance.records import Extracted
from orchestrator.ledger.tables import CLOSED_PERIOD, COST_ENTRY, COST_MONTHLY, POSTING, STANDING, ClosedPeriodRow

_KIND: Final = Extracted._fields.index("kind")


class Sealed(NamedTuple):
    """The sums of a month's entries, and their checksum."""

    entries: int
    usd_micros: int
    high_water_id: int
    sha256: str


def seal(connection: Connection, period: str) -> Sealed:
    """Count the entries of a month and take their checksum, in the order they were written."""
    digest, entries, total, last = hashlib.sha256(), 0, 0, 0
    for entry in iterate_entries(connection, period):
        # The kind as text: how Python shows an enumeration is its own affair, and a seal outlives a version of it.
        digest.update(repr((entry.kind.value, *entry[:_KIND], *entry[_KIND + 1 :])).encode())
        entries, total, last = entries + 1, total + (entry.usd_micros or 0), entry.entry_id
    return Sealed(entries, total, last, digest.hexdigest())


def close_period(
    connection: Connection,
    period: str,
    *,
    time_zone: str,
    by: str,
    at_ms: int,
    complete_through_ms: int | None,
    with_unknown: bool = False,
) -> ClosedPeriodRow:
    """Close a month for good. Raises PeriodError when it cannot be: not over, not complete, not in turn, not priced."""
    _, end_ms = bounds_of(period, time_zone)
    if find_closed(connection, period) is not None:
        raise PeriodError(f"{period} is closed already", fix="do nothing: corrections are posted in the open month")
    if at_ms < end_ms:
        raise PeriodError(
            f"{period} is not over yet", why=f"it ends at midnight in {time_zone}", fix="close it after that"
        )
    if complete_through_ms is not None and complete_through_ms < end_ms:
        raise PeriodError(
            f"not all of {period} is known yet",
            why="a worker that still runs has not reported all of its time in that month",
            fix="let the controller record the waiting records, then close the month again",
        )
    _refuse_out_of_turn(connection, period)
    unpriced = _unpriced(connection, period)
    if unpriced and not with_unknown:
        raise PeriodError(
            f"{period} has time without a known price: {unpriced}",
            why="an unknown price is not zero, and a closed month is not calculated again",
            fix="add the price (`tunemill costs prices add`) or import the bill; or close the month with "
            "--with-unknown",
        )
    sealed = seal(connection, period)
    row: dict[str, Any] = {
        "period": period,
        "closed_ms": at_ms,
        "closed_by": by,
        "time_zone": time_zone,
        "high_water_id": sealed.high_water_id,
        "entries": sealed.entries,
        "control_usd_micros": sealed.usd_micros,
        "sha256": sealed.sha256,
    }
    connection.execute(CLOSED_PERIOD.insert().values(**row))
    return ClosedPeriodRow(**row)


def verify_books(connection: Connection) -> list[str]:
    """The contradictions in the books: of sums with entries, closed months with seals, reversals with originals."""
    found = [*_sums_that_differ(connection), *_unbalanced_postings(connection)]
    for row in connection.execute(select(CLOSED_PERIOD)).mappings():
        sealed = seal(connection, row["period"])
        if (sealed.entries, sealed.usd_micros, sealed.sha256) != (
            row["entries"],
            row["control_usd_micros"],
            row["sha256"],
        ):
            found.append(f"{row['period']}: its entries are not those it was closed with")
    return found


def _refuse_out_of_turn(connection: Connection, period: str) -> None:
    closed = select(CLOSED_PERIOD.c.period)
    earlier = select(func.min(COST_MONTHLY.c.period)).where(
        COST_MONTHLY.c.period < period, COST_MONTHLY.c.period.not_in(closed)
    )
    if first := connection.execute(earlier).scalar():
        raise PeriodError(
            f"{first} is still open",
            why="months must be closed one after the other",
            fix=f"`tunemill costs close {first}`",
        )


def _unpriced(connection: Connection, period: str) -> str:
    """GPUs of the month whose price is unknown."""
    query = select(COST_MONTHLY.c.gpu).where(COST_MONTHLY.c.period == period, COST_MONTHLY.c.unpriced_ms != 0)
    return ", ".join(sorted({gpu or "unnamed GPU" for gpu in connection.execute(query.distinct()).scalars()}))


def _sums_that_differ(connection: Connection) -> list[str]:
    entries = select(
        COST_ENTRY.c.period, func.coalesce(func.sum(COST_ENTRY.c.usd_micros), 0), func.sum(COST_ENTRY.c.ms)
    )
    monthly = select(COST_MONTHLY.c.period, func.sum(COST_MONTHLY.c.usd_micros), func.sum(COST_MONTHLY.c.ms))
    by_entries = {
        row[0]: (int(row[1]), int(row[2])) for row in connection.execute(entries.group_by(COST_ENTRY.c.period))
    }
    by_sums = {
        row[0]: (int(row[1]), int(row[2])) for row in connection.execute(monthly.group_by(COST_MONTHLY.c.period))
    }
    return [
        f"{period}: entries and monthly sums differ"
        for period in sorted({*by_entries, *by_sums})
        if by_entries.get(period, (0, 0)) != by_sums.get(period, (0, 0))
    ]


def _unbalanced_postings(connection: Connection) -> list[str]:
    """Postings whose entries do not add up to them, and standing ones that something has reversed."""
    sums = (
        select(COST_ENTRY.c.posting_id, func.sum(COST_ENTRY.c.usd_micros).label("usd_micros"))
        .group_by(COST_ENTRY.c.posting_id)
        .subquery()
    )
    differ = (
        select(POSTING.c.posting_id)
        .outerjoin(sums, sums.c.posting_id == POSTING.c.posting_id)
        .where(func.coalesce(POSTING.c.usd_micros, 0) != func.coalesce(sums.c.usd_micros, 0))
        .limit(5)
    )
    reversed_ = select(POSTING.c.reverses_id).where(POSTING.c.reverses_id.is_not(None))
    stand = select(STANDING.c.posting_id).where(STANDING.c.posting_id.in_(reversed_)).limit(5)
    return [
        *(f"posting {each}: its entries do not add up to it" for each in connection.execute(differ).scalars()),
        *(f"posting {each} stands and is reversed" for each in connection.execute(stand).scalars()),
    ]

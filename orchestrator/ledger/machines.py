"""Rented machines: the rental that a worker names, the lookup of its price, and the request to post it anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, or_, select, update

from catalog.rental import LOCAL, RentalNote
from orchestrator.ledger.bulk import chunks
from orchestrator.ledger.observations import Machine
from orchestrator.ledger.tables import ATTEMPT, RENTAL, WORKER


class WorkerPrice(NamedTuple):
    """The price of one worker hour, and the price row that states it."""

    sku: str
    source: str
    rate_usd_micros_per_h: int


PriceOf = Callable[[Machine, int], WorkerPrice | None]  # (machine, instant in ms) -> price in force, None if unknown


def rental_row(note: RentalNote, gpu: str) -> dict[str, Any]:
    """The row of a rental that a worker has named."""
    said = {**note.model_dump(), "rental_id": note.rental_id, "gpu": gpu}
    return {**said, "account": "", "settled": False}


def machine_of(row: Mapping[Any, Any], gpu: str) -> Machine:
    """The machine for a price lookup, from a rental's row; a machine without a name has no provider."""
    return Machine(gpu, row["provider"] if row["provider"] != LOCAL else "", row["market"], row["region"])


def mark_rentals_unposted(connection: Connection, rental_ids: Iterable[str], *, later: bool = False) -> None:
    """Note that something new is known of these rentals, so that their postings are compared again.

    Their tallies are deleted too, unless the new facts are `later` than everything that was added up.
    """
    ours = RENTAL.c.rental_id.in_(sorted(rental_ids))
    if later:
        connection.execute(update(RENTAL).where(ours, RENTAL.c.settled.is_(True)).values(settled=False))
    else:
        connection.execute(update(RENTAL).where(ours).values(settled=False, tally=""))


def mark_makers_unposted(connection: Connection, take_ids: Iterable[str]) -> None:
    """The same for all rentals on which these takes were made, because the outcome of the takes has changed."""
    for chunk in chunks(sorted(take_ids)):
        made = (
            select(WORKER.c.rental_id)
            .join(ATTEMPT, ATTEMPT.c.worker_id == WORKER.c.worker_id)
            .where(
                ATTEMPT.c.take_id.in_(chunk),
                ATTEMPT.c.outcome == "accepted",
                or_(~ATTEMPT.c.adopted, ATTEMPT.c.batch_id != ""),
            )
        )
        connection.execute(update(RENTAL).where(RENTAL.c.rental_id.in_(made)).values(settled=False, tally=""))

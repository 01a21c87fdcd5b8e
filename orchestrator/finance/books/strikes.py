"""Strikes in the books: strike or reinstate a worker, and compute the change in its rental's cost.

This module changes only the roll-call. The next posting changes the books, as it does for every late fact: postings
that differ are reversed and posted anew, in the open month when their own month is closed. The total of a bill stays,
whichever workers count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from orchestrator.finance.allocation.posting import RentalFacts, charged_usd_micros
from orchestrator.finance.books import rentals as rental_facts
from orchestrator.ledger import strikes
from orchestrator.ledger.machines import PriceOf
from orchestrator.ledger.observations import SpanTime
from orchestrator.ledger.tables import RENTAL, SPAN, WORKER


class Correction(NamedTuple):
    """The cost that a strike takes off the books, or that a reinstatement puts back."""

    worker_id: str
    rental_id: str
    ms: int  # length of the worker's life
    usd_micros: int | None  # of all that its rental is charged, posted or not; None where a price is unknown


class Correcting:
    """Strikes and reinstates workers, and computes the change in cost of each.

    The cost of a worker is not its own time: a machine of four GPUs is charged for four, however many workers ran on
    it, and a life that extends beyond all others lengthens the time of every GPU. So a rental is computed with and
    without the worker. Several workers of one rental are removed one after the other, so that the parts add up.
    """

    def __init__(self, connection: Connection, price_of: PriceOf) -> None:
        self._connection, self._price_of = connection, price_of
        rental_facts.name_nameless(connection)

    def strike(self, worker_ids: Sequence[str], reason: str, at_ms: int) -> list[Correction]:
        """Strike workers; those that are struck already are left out."""
        rental_of = self._rentals_of(worker_ids)
        before = self._read(rental_of)
        changed = self._change(strikes.strike, rental_of, reason, at_ms)
        return self._corrections(changed, before, self._read(rental_of))

    def reinstate(self, worker_ids: Sequence[str], reason: str, at_ms: int) -> list[Correction]:
        """Reinstate workers; those that are not struck are left out."""
        rental_of = self._rentals_of(worker_ids)
        before = self._read(rental_of)
        changed = self._change(strikes.reinstate, rental_of, reason, at_ms)
        return self._corrections(changed, self._read(rental_of), before)

    def _rentals_of(self, worker_ids: Sequence[str]) -> dict[str, str]:
        return {each: strikes.get_worker(self._connection, each).rental_id for each in worker_ids}

    def _change(
        self, change: Callable[[Connection, str, str, int], bool], rental_of: Mapping[str, str], reason: str, at_ms: int
    ) -> list[tuple[str, str]]:
        """Strike or reinstate; those for whom that changed something, with their rentals."""
        return [each for each in rental_of.items() if change(self._connection, each[0], reason, at_ms)]

    def _read(self, rental_of: Mapping[str, str]) -> dict[str, RentalFacts]:
        return {rental_id: self._read_one(rental_id) for rental_id in set(rental_of.values())}

    def _read_one(self, rental_id: str) -> RentalFacts:
        """A rental as it is now, with the lives of its workers and its bill."""
        ours = select(WORKER.c.worker_id).where(WORKER.c.rental_id == rental_id)
        last = select(SPAN.c.worker_id, func.max(SPAN.c.end_ms)).where(SPAN.c.worker_id.in_(ours))
        spans = [
            SpanTime(worker_id, end_ms, end_ms, "", "")
            for worker_id, end_ms in self._connection.execute(last.group_by(SPAN.c.worker_id))
        ]
        row = self._connection.execute(select(RENTAL).where(RENTAL.c.rental_id == rental_id)).mappings().one()
        return rental_facts.read_lives(self._connection, row, spans, self._price_of)

    def _corrections(
        self, changed: Sequence[tuple[str, str]], with_all: dict[str, RentalFacts], without: Mapping[str, RentalFacts]
    ) -> list[Correction]:
        found = []
        for worker_id, rental_id in changed:
            facts = with_all[rental_id]
            life_ms = next(life.ms for life in facts.lives if life.worker_id == worker_id)
            left = [life for life in facts.lives if life.worker_id != worker_id]
            # The facts of a rental without any worker do not follow from the workers that it had.
            with_all[rental_id] = replace(facts, lives=left) if left else without[rental_id]
            charged, less = charged_usd_micros(facts), charged_usd_micros(with_all[rental_id])
            usd_micros = None if charged is None or less is None else charged - less
            found.append(Correction(worker_id, rental_id, life_ms, usd_micros))
        return found

"""Reconciling: what rentals should have cost in a month beside what invoices have billed for it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from catalog.rental import LOCAL
from catalog.settings import Settings
from orchestrator.costs.charges import Meter
from orchestrator.costs.months import bounds_of
from orchestrator.costs.pack.contents import Match
from orchestrator.costs.posting import RentalFacts, draft_rental
from orchestrator.costs.prices import PriceBook
from orchestrator.costs.reconcile import Billed, Expected, reconcile
from orchestrator.ledger import cost_readings, rental_facts
from orchestrator.ledger.tables import RENTAL
from orchestrator.pricing import price_lookup


def reconcile_period(
    connection: Connection, settings: Settings, book: PriceBook, period: str, *, as_of_ms: int
) -> list[Match]:
    """Every finding of a month, as things stand at an instant; the books are up to date."""
    start_ms, end_ms = bounds_of(period, settings.finance_tz)
    rentals = rental_facts.read_windows(connection, start_ms, end_ms, price_lookup(book), RENTAL.c.provider != LOCAL)
    expected = [each for facts in rentals for each in _expected(facts, period, settings.finance_tz)]
    billed = [Billed(*row) for row in cost_readings.read_billed(connection, period)]
    return reconcile(expected, billed, as_of_ms=as_of_ms)


def _expected(facts: RentalFacts, period: str, time_zone: str) -> Iterator[Expected]:
    """What the price book says of a rental in a month, as if no bill had come."""
    for draft in draft_rental(facts, time_zone):
        charge = draft.charge
        if charge.applies_to == period:
            yield Expected(
                provider=facts.rental.provider,
                external_id=facts.rental.external_id,
                meter=Meter.GPU,
                period=period,
                ms=sum(entry.ms for entry in draft.entries),
                usd_micros=charge.usd_micros,
                start_ms=charge.start_ms,
                end_ms=charge.end_ms,
                is_over=facts.is_over,
            )

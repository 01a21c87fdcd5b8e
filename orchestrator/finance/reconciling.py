"""Reconciling: read the expected cost and the bills of a month from price book and ledger, and compare them."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from catalog.rental import LOCAL
from catalog.settings import Settings
from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.allocation.posting import RentalFacts, draft_rental
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.books import rentals as rental_facts
from orchestrator.finance.months import bounds_of
from orchestrator.finance.prices.book import PriceBook
from orchestrator.finance.prices.lookup import price_lookup
from orchestrator.finance.reconcile import BilledAmount, Expected, reconcile
from orchestrator.finance.records import Match
from orchestrator.ledger.tables import RENTAL


def reconcile_period(
    connection: Connection, settings: Settings, book: PriceBook, period: str, *, as_of_ms: int
) -> list[Match]:
    """Every finding of a month, as things stand at an instant; the books are up to date."""
    start_ms, end_ms = bounds_of(period, settings.finance_tz)
    rentals = rental_facts.read_windows(connection, start_ms, end_ms, price_lookup(book), RENTAL.c.provider != LOCAL)
    expected = [each for facts in rentals for each in _expected(facts, period, settings.finance_tz)]
    billed = [BilledAmount(*row) for row in cost_readings.read_billed(connection, period)]
    return reconcile(expected, billed, as_of_ms=as_of_ms)


def _expected(facts: RentalFacts, period: str, time_zone: str) -> Iterator[Expected]:
    """The cost of a rental in a month by the price book, as if it had not been billed."""
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

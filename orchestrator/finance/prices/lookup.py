"""Price lookup: the function that gives the price in force for a machine, used by the ledger's facts and the books."""

from __future__ import annotations

from orchestrator.finance.prices.book import PriceBook, price_for
from orchestrator.ledger.machines import PriceOf, WorkerPrice
from orchestrator.ledger.observations import Machine


def price_lookup(book: PriceBook) -> PriceOf:
    """The price in force for a machine, from the price book."""

    def price_of(machine: Machine, at_ms: int) -> WorkerPrice | None:
        price = price_for(machine, at_ms, book) if machine.gpu else None
        return WorkerPrice(price.sku, price.provenance, price.usd_micros_per_h) if price else None

    return price_of

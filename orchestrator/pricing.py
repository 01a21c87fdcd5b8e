"""Pricing: the price in force for a worker's GPU, from the price book, as facts and books ask for it."""

from __future__ import annotations

from orchestrator.costs.prices import PriceBook, price_for_gpu
from orchestrator.ledger.facts import PriceOf, WorkerPrice


def price_lookup(book: PriceBook) -> PriceOf:
    """The price in force for a worker's GPU, from the price book."""

    def price_of(gpu: str, at_ms: int) -> WorkerPrice | None:
        price = price_for_gpu(gpu, at_ms, book) if gpu else None
        return WorkerPrice(price.sku, price.provenance, price.usd_micros_per_h) if price else None

    return price_of

"""Makers of the facts behind finance's books: rentals, lives, spans and attempts, as plain values."""

from __future__ import annotations

from orchestrator.finance.allocation.charges import Meter, Rental
from orchestrator.finance.allocation.posting import BilledLine, RentalFacts
from orchestrator.ledger.observations import AttemptFact, Category, CostObject, SpanTime, WorkerLife

NOVEMBER = 1_793_491_200_000  # 2026-11-01T00:00Z
DECEMBER = 1_796_083_200_000
USD = 1_000_000
ZONE_A = CostObject("spring", "lobby", "jazz", "run1")
ZONE_B = CostObject("spring", "spa", "ambient", "run1")


def rental(name: str = "r1", **fields) -> Rental:
    values = {
        **{"rental_id": f"runpod/{name}", "provider": "runpod", "external_id": name, "gpu": "A100-SXM4-80GB"},
        **{"gpu_count": 1, "market": "on_demand", "region": "EU-1", "account": "", "run_id": None},
        **{"rate_usd_micros_per_h": None, "billed_start_ms": None, "billed_end_ms": None},
    }
    return Rental(**{**values, **fields})


def life(worker_id: str = "w1", start_s: float = 0, end_s: float = 100, **fields) -> WorkerLife:
    values = {"gpu": "A100-SXM4-80GB", "rate_usd_micros_per_h": 1_640_000, "price_source": "price book 2026-11-20"}
    start_ms, end_ms = NOVEMBER + round(start_s * 1000), NOVEMBER + round(end_s * 1000)
    return WorkerLife(worker_id=worker_id, start_ms=start_ms, end_ms=end_ms, **{**values, "is_over": True, **fields})


def span(state: str, start_s: float, end_s: float, batch_id: str = "", worker_id: str = "w1", cause: str = ""):
    return SpanTime(worker_id, NOVEMBER + round(start_s * 1000), NOVEMBER + round(end_s * 1000), state, batch_id, cause)


def attempt(batch_id: str, outcome: str = "accepted", payer: CostObject = ZONE_A, **fields) -> AttemptFact:
    values = {"take_id": f"take-{batch_id}", "worker_id": "w1", "audio_ms": 180_000, "at_ms": NOVEMBER + 1}
    return AttemptFact(batch_id=batch_id, outcome=Category(outcome), payer=payer, **{**values, **fields})


def line(line_id: str, usd_micros: int, meter: Meter = Meter.GPU, start_s=None, end_s=None, **fields) -> BilledLine:
    values = {"sku": "A100", "invoice": "INV-1", "invoice_start_ms": NOVEMBER, "invoice_end_ms": DECEMBER}
    start_ms = None if start_s is None else NOVEMBER + round(start_s * 1000)
    end_ms = None if end_s is None else NOVEMBER + round(end_s * 1000)
    return BilledLine(line_id, meter, usd_micros=usd_micros, start_ms=start_ms, end_ms=end_ms, **{**values, **fields})


def worked_example() -> list[RentalFacts]:
    """Two rentals billed $2.55 together, whose allocation is known to the micro-dollar."""
    at = iter_seconds()
    first = [
        at("startup", 300),
        at("render", 2400, "a1"),
        at("render", 1200, "b1"),
        at("render", 450, "a2"),
        at("render", 150, "b2"),
        at("render", 100, "a3"),
        at("idle", 350),
        at("teardown", 20),
    ]
    at = iter_seconds(worker_id="w2")
    second = [at("startup", 200), at("render", 500, "b3"), at("render", 180, "b4")]
    return [
        RentalFacts(
            rental("r1"),
            [life("w1", 0, 4970)],
            first,
            [
                *(attempt("a1", take_id=f"a{n}") for n in range(1200)),
                *(attempt("b1", payer=ZONE_B, take_id=f"b{n}") for n in range(600)),
                attempt("a2", "rejected"),
                attempt("b2", "rejected", ZONE_B),
                attempt("a3", "failed"),
            ],
            [line("gpu1", 2_280_000, start_s=0, end_s=5000), line("disk1", 20_000, Meter.DISK)],
        ),
        RentalFacts(
            rental("r2", market="spot"),
            [life("w2", 0, 880, rate_usd_micros_per_h=900_000)],
            second,
            [
                *(attempt("b3", payer=ZONE_B, worker_id="w2", take_id=f"b{n}") for n in range(600, 850)),
                attempt("b4", "lost", ZONE_B, worker_id="w2"),
            ],
            [line("gpu2", 250_000, start_s=0, end_s=1000)],
        ),
    ]


def iter_seconds(worker_id: str = "w1"):
    """Spans that follow each other: (state, seconds, batch) -> span."""
    reached_s = 0

    def following(state: str, seconds: float, batch_id: str = ""):
        nonlocal reached_s
        reached_s += seconds
        return span(state, reached_s - seconds, reached_s, batch_id, worker_id)

    return following

"""Makers of charges for the FOCUS export: the worked example of the cost rules, and random postings."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st

from orchestrator.finance.allocation.charges import Charge, ChargeKind, CostEntry, Meter, Posting, Rental
from orchestrator.finance.focus.measures import find_measure
from orchestrator.finance.focus.rows import FocusCharge
from orchestrator.ledger.observations import UNALLOCATED, Category, CostObject

A = CostObject("spring", "lobby", "jazz", "run1")
B = CostObject("spring", "spa", "ambient", "run1")
S = 1_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NOVEMBER, DECEMBER, JANUARY = ms("2026-11-01"), ms("2026-12-01"), ms("2027-01-01")


def a_rental(name: str = "r1", **fields) -> Rental:
    values = {
        **{"rental_id": f"runpod/{name}", "provider": "runpod", "external_id": name, "gpu": "A100-SXM4-80GB"},
        **{"gpu_count": 1, "market": "on_demand", "region": "EU-1", "account": "acme", "run_id": "run1"},
        **{"rate_usd_micros_per_h": 1_640_000, "billed_start_ms": None, "billed_end_ms": None},
    }
    return Rental(**{**values, **fields})


def a_charge(meter: Meter = Meter.GPU, **fields) -> Charge:
    values = {
        **{
            "key": f"{meter}-1",
            "kind": ChargeKind.BILLED,
            "meter": meter,
            "rental_id": "runpod/r1",
            "provider": "runpod",
        },
        **{"gpu": "A100-SXM4-80GB", "market": "on_demand", "region": "EU-1", "sku": "a100", "applies_to": "2026-11"},
        **{"start_ms": NOVEMBER + 79_000 * S, "end_ms": NOVEMBER + 84_000 * S, "usd_micros": 2_280_000},
        **{"rate_usd_micros_per_h": 1_640_000, "source": "INV-1", "invoice_line_id": "INV-1/1"},
    }
    return Charge(**{**values, **fields})


def a_focus_charge(charge: Charge | None = None, entries: tuple[CostEntry, ...] | None = None, **fields) -> FocusCharge:
    """A charge paid by zone A alone, unless `entries` say otherwise."""
    charge = charge or a_charge()
    if entries is None:
        entries = (CostEntry(Category.ACCEPTED, A, charge.usd_micros, charge.ms),)
    posting = {"posting_id": 1, "period": "2026-11", "posted_ms": NOVEMBER, "reverses_id": None}
    posting |= {key: fields.pop(key) for key in posting.keys() & fields.keys()}
    values = {
        **{"rental": a_rental(), "account_id": "acme", "account_name": "Acme Music", "issuer": "runpod"},
        **{"billing_start_ms": NOVEMBER, "billing_end_ms": DECEMBER, "invoice_id": "INV-1"},
        **{"list_unit_price": Decimal("1.64"), "price_valid_from": "2026-11-20", "tags": {"env": "prod"}},
    }
    if charge.kind is not ChargeKind.BILLED:
        values["invoice_id"] = None
    return FocusCharge(Posting(charge=charge, entries=entries, **posting), **{**values, **fields})


def _entries(table: dict[Category, tuple[int, int]], seconds: dict[Category, tuple[int, int]]) -> tuple[CostEntry, ...]:
    """(micros of A, micros of B) by category, with the seconds of each."""
    found = []
    for category, amounts in table.items():
        for payer, micros, used_s in zip((A, B), amounts, seconds.get(category, (0, 0)), strict=True):
            if micros:
                found.append(CostEntry(category, payer, micros, used_s * S))
    return tuple(found)


def worked_example() -> list[FocusCharge]:
    """Two rentals and a disk, billed $2.55 together, and a credit of ten cents that nobody gets."""
    c = Category
    on_demand = {
        **{c.ACCEPTED: (1_094_400, 547_200), c.REJECTED: (205_200, 68_400), c.FAILED: (45_600, 0)},
        **{c.STARTUP: (93_851, 42_949), c.IDLE: (109_493, 50_107), c.TEARDOWN: (6_257, 2_863)},
        c.UNOBSERVED: (9_385, 4_295),
    }
    used_s = {c.ACCEPTED: (2_400, 1_200), c.REJECTED: (450, 150), c.FAILED: (100, 0), c.STARTUP: (206, 94)}
    used_s |= {c.IDLE: (240, 110), c.TEARDOWN: (14, 6), c.UNOBSERVED: (21, 9)}
    spot = {c.ACCEPTED: (0, 125_000), c.LOST: (0, 45_000), c.STARTUP: (0, 50_000), c.UNOBSERVED: (0, 30_000)}
    spot_s = {c.ACCEPTED: (0, 500), c.LOST: (0, 180), c.STARTUP: (0, 200), c.UNOBSERVED: (0, 120)}
    second = {"key": "gpu-2", "rental_id": "runpod/r2", "market": "spot", "usd_micros": 250_000, "source": "INV-1"}
    second |= {"start_ms": NOVEMBER, "end_ms": NOVEMBER + 1_000 * S, "rate_usd_micros_per_h": 900_000}
    disk = a_charge(Meter.DISK, usd_micros=20_000, sku="volume", rate_usd_micros_per_h=None, invoice_line_id="INV-1/2")
    credit = a_charge(
        Meter.CREDIT, usd_micros=-100_000, rental_id=None, sku="", rate_usd_micros_per_h=None, start_ms=0, end_ms=0
    )._replace(invoice_line_id="INV-1/4")
    return [
        a_focus_charge(a_charge(), _entries(on_demand, used_s), resource_name="worker-1"),
        a_focus_charge(
            disk,
            _entries({c.STORAGE: (13_721, 6_279)}, {}),
            posting_id=2,
            measure=find_measure("144.5", "GB-hours"),
            list_unit_price=Decimal("0.000137"),
        ),
        a_focus_charge(
            a_charge(**second)._replace(invoice_line_id="INV-1/3"),
            _entries(spot, spot_s),
            posting_id=3,
            rental=a_rental("r2", market="spot", rate_usd_micros_per_h=900_000),
        ),
        a_focus_charge(credit, (CostEntry(c.CREDIT, UNALLOCATED, -100_000, 0),), posting_id=4, rental=None),
    ]


# ------------------------------------------------------------ at random

_NAMES = st.sampled_from(["lobby", "spa", "=1+1", "@home", "a,b", 'say "hi"', "zwei\nZeilen", "Straße"])
_PAYERS = st.builds(CostObject, st.just("spring"), _NAMES, _NAMES, st.sampled_from(["run1", "run2"]))
_CATEGORIES = st.sampled_from(list(Category))
_PRICES = st.none() | st.decimals(0, 99, places=6)


@st.composite
def focus_charges(draw) -> FocusCharge:
    """A posting that adds up: any meter, sign, length and number of payers; sometimes reversed, late or prepaid."""
    meter = draw(st.sampled_from(list(Meter)))
    sign = draw(st.sampled_from([1, -1])) if meter is not Meter.TOPUP else 1
    parts = draw(st.lists(st.tuples(_CATEGORIES, _PAYERS | st.just(UNALLOCATED), st.integers(0, 10**9)), max_size=6))
    amounts = [sign * micros for _, _, micros in parts]
    lengths = draw(st.lists(st.integers(0, 10**8), min_size=len(parts), max_size=len(parts)))
    start_ms = draw(st.integers(NOVEMBER, DECEMBER - 1))
    end_ms = draw(st.integers(start_ms, min(DECEMBER, start_ms + 5 * 86_400_000)))
    kind = draw(st.sampled_from([ChargeKind.BILLED, ChargeKind.ESTIMATE]))
    charge = a_charge(meter, kind=kind, start_ms=start_ms, end_ms=end_ms, usd_micros=sum(amounts))
    charge = charge._replace(
        market=draw(st.sampled_from(["on_demand", "spot", "other"])),
        rate_usd_micros_per_h=draw(st.none() | st.integers(0, 10**8)),
        region=draw(st.sampled_from(["", "EU-1"])),
    )
    entries = tuple(
        CostEntry(category, payer, micros, sign * length)
        for (category, payer, _), micros, length in zip(parts, amounts, lengths, strict=True)
    )
    measure = find_measure(str(draw(st.integers(0, 10**6))), draw(st.sampled_from(["GB", "seconds", "?"])), "0.5")
    return a_focus_charge(
        charge,
        entries,
        posting_id=draw(st.integers(1, 10**9)),
        reverses_id=9 if sign < 0 and draw(st.booleans()) else None,
        period=draw(st.sampled_from(["2026-11", "2026-12"])),
        list_unit_price=draw(_PRICES),
        contracted_unit_price=draw(_PRICES),
        measure=measure if draw(st.booleans()) else None,
        is_prepaid=draw(st.booleans()),
        rental=draw(st.sampled_from([None, a_rental(), a_rental(gpu_count=8, run_id=None)])),
        invoice_id=draw(st.sampled_from([None, "INV-1", "-INV-2"])),
        issuer=draw(st.sampled_from(["runpod", "reseller"])),
        account_id=draw(st.sampled_from(["", "acme", "@acme"])),
        price_valid_from=draw(st.sampled_from(["", "2026-11-20"])),
    )

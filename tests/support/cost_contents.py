"""Makers of pack contents: the worked example, months of any size, and contents that hypothesis generates."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from orchestrator.finance.allocation.charges import METHOD, ChargeKind, CostRow
from orchestrator.finance.records import (
    Baseline,
    BudgetLine,
    Coverage,
    Extracted,
    Forecast,
    InvoiceSummary,
    Match,
    PriceUsed,
    Statement,
)
from orchestrator.finance.report.contents import Contents
from orchestrator.ledger.observations import UNALLOCATED, Category

START_MS = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 1000
END_MS = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp()) * 1000
MIN = 60_000

# The worked example: one on-demand and one spot machine, two zones, $2.55 in all.
EXAMPLE = (
    # zone, category, micros, ms, tracks, attempts
    ("A", Category.ACCEPTED, 1_094_400, 2_400_000, 1_200, 1_200),
    ("A", Category.REJECTED, 205_200, 450_000, 0, 220),
    ("A", Category.FAILED, 45_600, 100_000, 0, 40),
    ("A", Category.STARTUP, 93_851, 205_814, 0, 0),
    ("A", Category.IDLE, 109_493, 240_116, 0, 0),
    ("A", Category.TEARDOWN, 6_257, 13_721, 0, 0),
    ("A", Category.UNOBSERVED, 9_385, 20_581, 0, 0),
    ("A", Category.STORAGE, 13_721, 0, 0, 0),
    ("B", Category.ACCEPTED, 672_200, 1_700_000, 850, 850),
    ("B", Category.REJECTED, 68_400, 150_000, 0, 70),
    ("B", Category.LOST, 45_000, 180_000, 0, 90),
    ("B", Category.STARTUP, 92_949, 294_186, 0, 0),
    ("B", Category.IDLE, 50_107, 109_884, 0, 0),
    ("B", Category.TEARDOWN, 2_863, 6_279, 0, 0),
    ("B", Category.UNOBSERVED, 34_295, 129_419, 0, 0),
    ("B", Category.STORAGE, 6_279, 0, 0, 0),
)


def a_row(**changes: Any) -> CostRow:
    plain = CostRow(
        period="2026-03",
        applies_to="2026-03",
        kind=ChargeKind.BILLED,
        category=Category.ACCEPTED,
        catalog="hotels",
        zone="lobby",
        genre="jazz",
        run_id="spring",
        provider="runpod",
        gpu="NVIDIA A100",
        market="on_demand",
        usd_micros=1_000_000,
        unpriced_ms=0,
        ms=3_600_000,
        tracks=10,
        attempts=10,
        audio_ms=10 * 2 * MIN,
    )
    changed = plain._replace(**changes)
    return changed if changed.category is Category.ACCEPTED else changed._replace(tracks=0, audio_ms=0)


def example_rows() -> list[CostRow]:
    return [
        a_row(
            zone=zone, category=category, usd_micros=micros, ms=ms, tracks=tracks, attempts=tries,
            audio_ms=tracks * 3 * MIN,
        )
        for zone, category, micros, ms, tracks, tries in EXAMPLE
    ]  # fmt: skip


def a_big_month(
    zones: int = 24, genres: int = 6, runs: int = 3, *, seed: int = 1, scale: int = 1, catalogs: int = 3
) -> list[CostRow]:
    """Rows of a plausible month: every zone in some genres, several providers, a tax, a credit, rows of nobody."""
    random_ = random.Random(seed)
    zone_names = [f"{place} {number + 1}" for number in range(-(-zones // 8)) for place in _PLACES][:zones]
    machines = [("runpod", "NVIDIA A100-SXM4-80GB", "on_demand"), ("vast.ai", "NVIDIA GeForce RTX 4090", "spot"),
                ("lambda", "NVIDIA H100 80GB HBM3", "on_demand")]  # fmt: skip
    rows = []
    for index, zone in enumerate(zone_names):
        for genre in _GENRES[:genres]:
            for run in range(runs):
                provider, gpu, market = random_.choice(machines)
                size = random_.randint(20_000, 900_000) * scale * (zones - index + 2) // 4
                same = {"zone": zone, "genre": genre, "catalog": f"catalog {index % catalogs + 1}",
                        "provider": provider, "gpu": gpu, "market": market,
                        "run_id": f"2026-03-{run + 1:02d} refresh"}  # fmt: skip
                for category, weight in _WEIGHTS.items():
                    micros = size * weight * random_.randint(60, 140) // 10_000
                    tracks = micros // 900 if category is Category.ACCEPTED else 0
                    tries = tracks or (micros // 900 if category in _TRIED else 0)
                    kind = random_.choices(
                        [ChargeKind.BILLED, ChargeKind.ESTIMATE, ChargeKind.PROVISIONAL], [80, 15, 5]
                    )[0]
                    rows.append(a_row(**same, category=category, usd_micros=micros, ms=micros * 2, tracks=tracks,
                                      attempts=tries, audio_ms=tracks * 150_000, kind=kind))  # fmt: skip
    nobody = {"catalog": "unallocated", "zone": "unallocated", "genre": "unallocated", "run_id": "unallocated"}
    whole = sum(row.usd_micros for row in rows)
    rows.append(a_row(**nobody, category=Category.UNOBSERVED, usd_micros=whole // 200, ms=9_000_000, attempts=0))
    lines = {**nobody, "gpu": "", "market": "", "attempts": 0, "ms": 0}
    rows.append(a_row(**lines, category=Category.TAX, usd_micros=whole // 60))
    rows.append(a_row(**lines, category=Category.CREDIT, usd_micros=-(whole // 25)))
    rows.append(a_row(applies_to="2026-02", usd_micros=whole // 150, category=Category.IDLE, zone=zone_names[0],
                      attempts=0))  # fmt: skip
    return rows


_PLACES = ("Lobby", "Thermal spa", "Rooftop bar", "Breakfast room", "Fitness", "Boutique", "Late lounge", "Garden")
_GENRES = ("Jazz", "Ambient", "Bossa nova", "Deep house", "Neo-classical", "Lo-fi", "Soul", "Acoustic", "Funk", "Dub")
_WEIGHTS = {
    Category.ACCEPTED: 62, Category.REJECTED: 14, Category.FAILED: 3, Category.LOST: 2, Category.STARTUP: 7,
    Category.IDLE: 6, Category.POST: 2, Category.TEARDOWN: 1, Category.UNOBSERVED: 2, Category.STORAGE: 2,
}  # fmt: skip
_TRIED = (Category.REJECTED, Category.FAILED, Category.LOST)


def a_trend(rows: Sequence[CostRow], months: int = 12) -> list[CostRow]:
    """Twelve months by kind and category alone, the last of which is that of `rows`."""
    trend: Counter[tuple[str, Category, ChargeKind]] = Counter()
    seconds: Counter[tuple[str, Category, ChargeKind]] = Counter()
    tracks: Counter[tuple[str, Category, ChargeKind]] = Counter()
    for back in range(months):
        year, month = divmod(2026 * 12 + 2 - back, 12)
        for row in rows:
            key = (f"{year}-{month + 1:02d}", row.category, row.kind)
            part = 100 - 7 * back + 11 * (back % 3) if back else 100
            trend[key] += row.usd_micros * part // 100
            seconds[key] += row.ms * part // 100
            tracks[key] += row.tracks * part // 100
    names = dict.fromkeys(("catalog", "zone", "genre", "run_id", "provider", "gpu", "market"), "")
    return [
        a_row(**names, period=key[0], applies_to=key[0], category=key[1], kind=key[2], usd_micros=micros,
              ms=seconds[key], tracks=tracks[key], attempts=tracks[key], audio_ms=tracks[key] * 150_000)
        for key, micros in trend.items()
    ]  # fmt: skip


def extracted_of(rows: Sequence[CostRow]) -> Iterator[Extracted]:
    """One entry for each row."""
    for number, row in enumerate(rows, start=1):
        yield Extracted(
            number, number // 4 + 1, START_MS + number, row.period, row.applies_to, row.kind, str(row.category),
            row.catalog, row.zone, row.genre, row.run_id, row.provider, row.gpu, row.market, f"{row.provider}/pod-7",
            None if row.unpriced_ms and not row.usd_micros else row.usd_micros, row.ms, row.tracks, row.attempts,
            row.audio_ms, "price book 2026-01-01", METHOD, None,
        )  # fmt: skip


def contents_of(rows: Sequence[CostRow], **changes: Any) -> Contents:
    """A month with these rows and nothing else: no budget, no invoice, no baseline."""
    by_kind = {kind: sum(row.usd_micros for row in rows if row.kind is kind) for kind in ChargeKind}
    plain: dict[str, Any] = {
        "period": "2026-03", "start_ms": START_MS, "end_ms": END_MS, "time_zone": "Europe/Vienna", "state": "open",
        "closed_ms": None, "closed_by": "", "method": METHOD, "code": "0.1.0", "high_water_id": len(rows),
        "rows": rows, "trend": a_trend(rows), "budgets": [], "baseline": None, "forecasts": [], "matches": [],
        "coverage": Coverage(by_kind, sum(row.unpriced_ms for row in rows), END_MS - 6 * 86_400_000),
        "invoices": [], "statements": [], "prices": [], "notes": [], "extract": lambda: extracted_of(rows),
    }  # fmt: skip
    return Contents(**{**plain, **changes})


def a_full_month(rows: Sequence[CostRow], **changes: Any) -> Contents:
    """A month with everything a pack can hold."""
    whole = sum(row.usd_micros for row in rows)
    tracks = sum(row.tracks for row in rows)
    catalogs = sorted({row.catalog for row in rows} - {UNALLOCATED.catalog})
    budgets = [BudgetLine("month", "2026-03", whole * 9 // 8, whole)]
    budgets += [
        BudgetLine("catalog", name, whole // 3, whole * (3 + index) // 12) for index, name in enumerate(catalogs)
    ]
    forecasts = [
        Forecast(name, tracks // 3, whole // 3, whole * 7 // 24, whole * 9 // 24, 6 - 2 * index, word, 0.081)
        for index, (name, word) in enumerate(zip(catalogs, ("ok", "few runs", "low confidence"), strict=False))
    ]
    forecasts.append(Forecast("a new catalog", 500, None, None, None, 0, "low confidence", None))
    matches = [
        Match("matched", "runpod", f"pod-{n}", "gpu", "2026-03", 2_280_000, 2_280_000, 5_000_000, 5_000_000, "")
        for n in range(14)
    ]
    matches += [
        Match("price variance", "vast.ai", "inst-991", "gpu", "2026-03", 4_100_000, 4_350_000, 9_000_000, 9_000_000,
              "billed $0.52/h, agreed $0.49/h"),
        Match("quantity variance", "lambda", "i-0f3a", "gpu", "2026-03", 9_000_000, 9_150_000, 18_000_000, 18_300_000,
              "five minutes more than the worker saw"),
        Match("line without rental", "runpod", "pod-lost-and-found", "gpu", "2026-03", None, 1_640_000, None,
              3_600_000, "nobody knows this machine"),
        Match("rental without line", "lambda", "i-77c1", "gpu", "2026-03", 3_000_000, None, 6_000_000, None,
              "the weekly invoice is not out yet"),
    ]  # fmt: skip
    full: dict[str, Any] = {
        "state": "closed", "closed_ms": END_MS + 2 * 86_400_000, "closed_by": "mira", "budgets": budgets,
        "baseline": Baseline("mureka-song", "price list 2026-01-15", "2026-01-15", 67_000, 2, tracks, tracks * 67_000,
                             whole, (2 * whole + tracks) // (2 * tracks) if tracks else None,
                             {"A100 on demand, $1.64/h": 25, "RTX 4090 spot, $0.34/h": 6, "H100, unknown rate": None}),
        "forecasts": forecasts, "matches": matches,
        "invoices": [InvoiceSummary("i1", "runpod", "RP-2026-03", "USD", whole // 2, 40_000_000, whole // 2),
                     InvoiceSummary("i2", "lambda", "L-8841", "USD", whole // 5, 0, whole // 6)],
        "statements": [Statement("runpod", 12_500_000, 40_000_000, 31_205_377),
                       Statement("vast.ai", 3_000_000, 10_000_000, 9_120_004)],
        "prices": [PriceUsed("a100-80gb", "on_demand", 1_640_000, "price book 2026-01-01"),
                   PriceUsed("rtx-4090", "spot", 340_000, "agreed when rented"),
                   PriceUsed("h100-80gb", "on_demand", None, "unknown")],
        "notes": ["3 h 12 min on 'NVIDIA B200' have no known price and are not in these dollars."],
    }  # fmt: skip
    return contents_of(rows, **{**full, **changes})


# Names that a spreadsheet, a browser or a wildcard could take for something else.
NAMES = st.sampled_from(
    ["lobby", "Lobby", "", " ", "=cmd|' /C calc'!A1", "+1", "-1", "@SUM(A1)", "\tx", "'=x", "'90s", "*", "?", "~", ">0",
     "<b>bold</b>", "&amp;", '"quoted", with comma', "line\nbreak", "001", "1", "1e3", "2026-03", "TRUE", "Zürich 🎷",
     "http://example.com", "unallocated", "x" * 300]
)  # fmt: skip


@st.composite
def months(draw: st.DrawFn, max_rows: int = 30) -> list[CostRow]:
    """Rows of every kind: huge, tiny and negative amounts, unknown prices, odd names."""
    rows: dict[tuple[Any, ...], CostRow] = {}
    for _ in range(draw(st.integers(0, max_rows))):
        category = draw(st.sampled_from(list(Category)))
        is_adjusted = category in (Category.CREDIT, Category.TAX)
        kind = draw(st.sampled_from(list(ChargeKind)))
        is_work = kind is ChargeKind.WORK  # no money and no time
        is_adjusted = is_adjusted or is_work
        is_unpriced = not is_adjusted and draw(st.integers(0, 9)) == 0
        low = -(10**9) if is_adjusted or draw(st.integers(0, 9)) == 0 else 0
        ms = 0 if is_adjusted else draw(st.integers(0, 10**9))
        row = a_row(
            kind=kind, category=category, catalog=draw(NAMES), zone=draw(NAMES),
            genre=draw(NAMES), run_id=draw(NAMES), provider=draw(NAMES), gpu=draw(NAMES),
            applies_to=draw(st.sampled_from(["2026-03", "2026-03", "2026-02"])),
            market=draw(st.sampled_from(["spot", "on_demand", ""])),
            usd_micros=0 if is_unpriced or is_work else draw(st.integers(low, 10**draw(st.integers(1, 13)))),
            ms=ms, unpriced_ms=ms if is_unpriced else 0, tracks=draw(st.integers(0, 500)),
            attempts=draw(st.integers(0, 900)), audio_ms=draw(st.integers(0, 10**8)),
        )  # fmt: skip
        rows[row[:11]] = row
    return list(rows.values())

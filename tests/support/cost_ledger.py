"""A ledger full of rented time: rentals, workers, spans, takes and attempts, written as rows from a random seed.

`fill` makes a few rentals for a test. `fill_year` makes a year of nightly runs with any number of attempts, and holds
only some thousands of rows in memory at a time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert

from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.invoices.lines import Invoice, InvoiceLine
from orchestrator.finance.months import month_of
from orchestrator.ledger import Ledger
from orchestrator.ledger.machines import WorkerPrice
from orchestrator.ledger.observations import Machine
from orchestrator.ledger.tables import ATTEMPT, RENTAL, RUN, SPAN, TAKE, WORKER
from tests.support.cost_facts import DECEMBER, NOVEMBER

GPUS = {"NVIDIA A100-SXM4-80GB": 1_790_000, "NVIDIA L40S": 1_090_000, "NVIDIA H100 80GB HBM3": 3_990_000}
ZONES = ("lobby", "spa", "shop", "bar", "lift")
GENRES = ("jazz", "ambient", "piano", "bossa")
CATALOGS = ("hotels", "spas")
DAY_MS = 86_400_000
YEAR_MS = 1_735_689_600_000  # 2025-01-01T00:00Z
_ROWS_AT_ONCE = 20_000


def price_of(machine: Machine, at_ms: int) -> WorkerPrice | None:
    """The price of a known GPU."""
    rate = GPUS.get(machine.gpu)
    return WorkerPrice(machine.gpu.split()[1].lower(), "price book 2026-10-01", rate) if rate else None


class Filling:
    """Rows on their way into a ledger."""

    def __init__(
        self,
        seed: int = 1,
        *,
        start_ms: int = NOVEMBER,
        days: int = 40,
        zones: Sequence[str] = ZONES,
        genres: Sequence[str] = GENRES,
        batch_ms: tuple[int, int] = (2_000, 40_000),
    ) -> None:
        self.random = random.Random(seed)
        self.start_ms, self.days = start_ms, days
        self.zones, self.genres = zones, genres
        self.batch_ms = batch_ms  # a batch takes so long: from, to
        self.rows: dict[Any, list[dict[str, Any]]] = {table: [] for table in (RUN, RENTAL, WORKER, TAKE, SPAN, ATTEMPT)}
        self._count, self.prefix = 0, ""
        self.ledger: Ledger | None = None  # where rows go as soon as they are many

    def skip(self, names: int) -> None:
        """Leave out so many names, as if others had them."""
        self._count += names

    def name(self, prefix: str) -> str:
        self._count += 1
        return f"{self.prefix}{prefix}{self._count:07d}"

    def run(self, catalog: str, at_ms: int) -> str:
        run_id = self.name("run")
        self.rows[RUN].append(
            {"run_id": run_id, "catalog": catalog, "model": "tone", "state": "finished", "wish": ""}
            | {
                "started_at_ms": at_ms,
                "finished_at_ms": at_ms + DAY_MS,
                "max_usd_micros": None,
                "take_usd_micros": None,
            }
        )
        return run_id

    def rental(self, *, provider: str = "runpod", gpus: int = 1, batches: int = 5, living: bool = False) -> str:
        """One machine of a run of its own, with a worker on each GPU from its start to its end."""
        pick = self.random
        gpu = pick.choice(sorted(GPUS))
        external_id = self.name("pod")
        at_ms = self.start_ms + pick.randrange(self.days * DAY_MS)
        catalog = pick.choice(CATALOGS)
        run_id = self.run(catalog, at_ms)
        self.machine(external_id, gpu, at_ms, catalog, run_id, provider, gpus=gpus, batches=batches, living=living)
        return external_id

    def machine(
        self,
        external_id: str,
        gpu: str,
        at_ms: int,
        catalog: str,
        run_id: str,
        provider: str = "runpod",
        *,
        gpus: int,
        batches: int,
        living: bool = False,
    ) -> None:
        """The same of a run that is there."""
        pick = self.random
        self.rows[RENTAL].append(
            {"rental_id": f"{provider}/{external_id}", "provider": provider, "external_id": external_id, "gpu": gpu}
            | {"gpu_count": gpus, "market": pick.choice(["on_demand", "spot"]), "region": "EU", "account": ""}
            | {"run_id": None, "rate_usd_micros_per_h": None, "billed_start_ms": None, "billed_end_ms": None}
            | {"settled": False}
        )
        for lane in range(gpus):
            self.worker(f"{provider}/{external_id}", gpu, str(lane), at_ms, catalog, run_id, batches, living=living)

    def worker(
        self,
        rental_id: str,
        gpu: str,
        lane: str,
        at_ms: int,
        catalog: str,
        run_id: str,
        batches: int,
        *,
        living: bool = False,
    ) -> None:
        """A worker's life: start-up, batches with some idle time between them, and its end; some vanish."""
        pick, worker_id, start_ms = self.random, self.name("w"), at_ms
        at_ms = self._span(worker_id, "startup", at_ms, pick.randrange(20_000, 90_000))
        for _ in range(batches):
            at_ms = self._batch(worker_id, at_ms, catalog, run_id)
            if pick.random() < 0.3:
                at_ms = self._span(worker_id, "idle", at_ms, pick.randrange(1, 60_000), cause="no work")
        if pick.random() < 0.2:
            at_ms += pick.randrange(1, 60_000)  # killed before it could say what it did
        else:
            at_ms = self._span(worker_id, "teardown", at_ms, pick.randrange(1, 9_000))
        rate = GPUS[gpu]
        self.rows[WORKER].append(
            {"worker_id": worker_id, "host": "h", "gpu": gpu, "vram_gib": 80.0, "model": "tone", "code": "c"}
            | {"model_fingerprint": "f", "noise": False, "batch_limit": 4, "batch_limit_reason": "table"}
            | {"plan_limit": 0, "holds_max": 8, "started_at_ms": start_ms, "last_seen_ms": at_ms, "heard_at_ms": at_ms}
            | {"clock_ahead_ms": 0, "last_beat": 1, "ended_at_ms": None if living else at_ms, "end_reason": None}
            | {"price_sku": "gpu", "price_source": "price book 2026-10-01", "rate_usd_micros_per_h": rate}
            | {"rental_id": rental_id, "lane": lane}
        )

    def _span(self, worker_id: str, state: str, at_ms: int, ms: int, batch_id: str = "", cause: str = "") -> int:
        self.rows[SPAN].append(
            {"worker_id": worker_id, "start_ms": at_ms, "end_ms": at_ms + ms, "state": state}
            | {"batch_id": batch_id, "cause": cause}
        )
        return at_ms + ms

    def _batch(self, worker_id: str, at_ms: int, catalog: str, run_id: str) -> int:
        pick, batch_id = self.random, self.name("b")
        if self.ledger is not None and self.waiting > _ROWS_AT_ONCE:
            with self.ledger.write() as connection:
                self.write(connection)
        end_ms = self._span(worker_id, "render", at_ms, pick.randrange(*self.batch_ms), batch_id)
        if pick.random() < 0.05:
            return end_ms  # its worker never told what came of it
        for _ in range(pick.randrange(1, 9)):
            self._attempt(worker_id, batch_id, end_ms, catalog, run_id)
        return end_ms

    def _attempt(self, worker_id: str, batch_id: str, at_ms: int, catalog: str, run_id: str) -> None:
        pick, take_id, record_id = self.random, self.name("t"), self.name("r")
        outcome = pick.choices(["accepted", "rejected", "failed"], [8, 1, 1])[0]
        duration_ms = pick.choice([60_000, 120_000, 180_000])
        self.rows[TAKE].append(
            {"take_id": take_id, "run_id": run_id, "catalog": catalog, "zone": pick.choice(self.zones)}
            | {"genre": pick.choice(self.genres), "track_key": take_id, "number": 1, "title": "", "model": "tone"}
            | {"queue": "q", "bucket": "b", "duration_ms": duration_ms, "message": {}, "state": outcome}
            | {"current": True, "alone": False, "tries": 0, "losses": 0}
            | {"rendition_id": record_id if outcome == "accepted" else None}
        )
        self.rows[ATTEMPT].append(
            {"record_id": record_id, "take_id": take_id, "run_id": run_id, "worker_id": worker_id, "outcome": outcome}
            | {"reasons": [], "adopted": False, "batch_id": batch_id, "batch_size": 1, "plan_id": "", "plan_ms": 0}
            | {"encode_ms": 0, "diffuse_ms": 1_000, "decode_ms": 0, "post_ms": 0, "audio_ms": duration_ms}
            | {"at_ms": at_ms}
        )

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return sum(map(len, self.rows.values()))

    def write(self, connection: Connection) -> None:
        """Put all rows into the ledger."""
        for table, rows in self.rows.items():
            if rows:
                connection.execute(insert(table), rows)
            rows.clear()


def fill(ledger: Ledger, rentals: int, seed: int = 1, **options: Any) -> list[str]:
    """Write that many rentals and return their external ids."""
    filling = Filling(seed)
    names = [filling.rental(gpus=filling.random.choice([1, 1, 2]), **options) for _ in range(rentals)]
    with ledger.write() as connection:
        filling.write(connection)
    return names


class Year(NamedTuple):
    """The counts of a year of work in a ledger."""

    rows: int
    attempts: int
    external_ids: dict[str, list[str]]  # of rentals, by the month (YYYY-MM) they began in


def fill_year(ledger: Ledger, attempts: int, *, rentals: int = 1_000, seed: int = 1) -> Year:
    """A run every night of a year, over 20 zones and 12 genres of one of five catalogs in turn, on rented machines.

    About `attempts` tries on machines of 1, 2 or 8 GPUs of two providers.
    """
    zones, genres = [f"zone-{n:02d}" for n in range(20)], [f"genre-{n:02d}" for n in range(12)]
    filling = Filling(seed, start_ms=YEAR_MS, days=365, zones=zones, genres=genres)
    pick, tries_of_batch = filling.random, 0.95 * 4.5
    counts = pick.choices([1, 2, 8], [7, 2, 1], k=rentals)
    batches = max(1, round(attempts / tries_of_batch / sum(counts)))
    nights = [YEAR_MS + day * DAY_MS + DAY_MS // 24 for day in range(365)]
    runs = [filling.run(f"catalog-{day % 5}", night_ms) for day, night_ms in enumerate(nights)]
    external_ids: dict[str, list[str]] = {}
    rows = made = 0
    for index, gpus in enumerate(counts):
        day = index * 365 // rentals
        external_id, at_ms = filling.name("pod"), nights[day] + pick.randrange(DAY_MS // 24)
        provider, gpu = pick.choice(("runpod", "vast")), pick.choice(sorted(GPUS))
        filling.machine(external_id, gpu, at_ms, f"catalog-{day % 5}", runs[day], provider, gpus=gpus, batches=batches)
        external_ids.setdefault(month_of(at_ms, "UTC"), []).append(external_id)
        if filling.waiting > _ROWS_AT_ONCE or index == rentals - 1:
            rows, made = rows + filling.waiting, made + len(filling.rows[ATTEMPT])
            with ledger.write() as connection:
                filling.write(connection)
    return Year(rows, made, external_ids)


def add_living(ledger: Ledger, attempts: int, *, gpus: int = 8, days: int = 30, seed: int = 2) -> None:
    """One machine that began ten days before the last month of `fill_year` and still runs; it worked all the time."""
    batches = max(1, round(attempts / (0.95 * 4.5) / gpus))
    each_ms = days * DAY_MS // batches
    filling = Filling(seed, batch_ms=(each_ms - each_ms // 4, each_ms + 1))
    filling.zones, filling.genres = [f"zone-{n:02d}" for n in range(20)], [f"genre-{n:02d}" for n in range(12)]
    filling.prefix, filling.ledger = "living-", ledger
    at_ms = YEAR_MS + 324 * DAY_MS
    run_id = filling.run("catalog-0", at_ms)
    filling.machine("living", sorted(GPUS)[0], at_ms, "catalog-0", run_id, gpus=gpus, batches=batches, living=True)
    with ledger.write() as connection:
        filling.write(connection)


def an_invoice(lines: Sequence[InvoiceLine], number: str = "INV-1", **fields: Any) -> Invoice:
    """A bill of RunPod for November."""
    values = {
        **{"provider": "runpod", "currency": "USD", "usd_per_unit": "1", "rate_source": "", "start_ms": NOVEMBER},
        **{
            "end_ms": DECEMBER,
            "file_name": f"{number}.csv",
            "sha256": sha256(repr((number, lines)).encode()).hexdigest(),
        },
        "text": "",
    }
    return Invoice(number=number, lines=lines, **{**values, **fields})


def a_line(number: int, external_id: str, usd_micros: int, meter: Meter = Meter.GPU, **fields: Any) -> InvoiceLine:
    """One of its lines."""
    values: dict[str, Any] = {"sku": "A100", "description": "", "start_ms": None, "end_ms": None}
    texts = {"quantity": "", "unit": "", "unit_price": ""}
    return InvoiceLine(
        number=number, meter=meter, external_id=external_id, usd_micros=usd_micros, **{**values, **texts, **fields}
    )


def random_lines(names: Sequence[str], seed: int) -> Iterator[InvoiceLine]:
    """A bill for these pods: some with windows, some without, with disks, a credit, tax and a pod nobody knows."""
    pick = random.Random(seed)
    number = 0
    for name in [*names, "nobody"]:
        number += 1
        yield a_line(number, name, pick.randrange(1, 50_000_000))
        if pick.random() < 0.5:
            number += 1
            yield a_line(number, name, pick.randrange(1, 900_000), Meter.DISK)
    yield a_line(number + 1, "", -pick.randrange(1, 5_000_000), Meter.CREDIT)
    yield a_line(number + 2, "", pick.randrange(1, 5_000_000), Meter.TAX)
    yield a_line(number + 3, "", 100_000_000, Meter.TOPUP)

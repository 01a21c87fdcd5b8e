"""The cost report: what takes cost, by zone, genre, run or catalog, adding up to the workers' time and rate.

Every worker's amount is its life times its rate, and every micro of it stands in exactly one row. A worker
without a price adds no dollars: its time is shown beside, as unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from catalog.errors import UnknownNameError
from orchestrator.costs.allocation import (
    UNALLOCATED,
    WASTED,
    AttemptFact,
    Category,
    CostObject,
    SpanTime,
    WorkerLife,
    allocate,
)
from orchestrator.costs.prices import MICROS_PER_USD, PriceBook, price_for_gpu
from orchestrator.costs.split import split
from orchestrator.costs.time_use import TimeUse, use_of

CUTS: Final = ("zone", "genre", "run", "catalog")
_FIELD_OF_CUT: Final = {"zone": "zone", "genre": "genre", "run": "run_id", "catalog": "catalog"}


class TimeFacts(NamedTuple):
    """All the time that was paid for, and what it was used for."""

    lives: Sequence[WorkerLife]
    spans: Sequence[SpanTime]
    attempts: Sequence[AttemptFact]


class Scope(NamedTuple):
    """The part of the whole that a report shows; None is no restriction."""

    run_id: str | None = None
    catalog: str | None = None

    def holds(self, payer: CostObject) -> bool:
        """Whether `payer` belongs to it. Unallocated time belongs to the whole alone."""
        return self.run_id in (None, payer.run_id) and self.catalog in (None, payer.catalog)


WHOLE: Final = Scope()


@dataclass(slots=True)
class Row:
    """One line of the report; `name` holds the values of the cuts. Money in micro-dollars."""

    name: tuple[str, ...]
    takes: set[str] = field(default_factory=set)  # accepted ones, each counted in one row
    attempts: int = 0
    audio_ms: int = 0  # accepted
    usd_micros: defaultdict[Category, int] = field(default_factory=lambda: defaultdict(int))
    unpriced_ms: int = 0  # worker time without a known price

    def charge(self, category: Category, amount: int, *, priced: bool) -> None:
        """Add micro-dollars, or milliseconds where they have no price."""
        if priced:
            self.usd_micros[category] += amount
        else:
            self.unpriced_ms += amount

    def count(self, attempt: AttemptFact, *, accepted: bool) -> None:
        """Add an attempt; `accepted` when it is the one that made its take accepted."""
        self.attempts += 1
        if accepted:
            self.takes.add(attempt.take_id)
            self.audio_ms += attempt.audio_ms

    @property
    def accepted(self) -> int:
        """Takes that went into the catalog."""
        return len(self.takes)

    @property
    def direct(self) -> int:
        """Rendering of what was accepted."""
        return self.usd_micros[Category.ACCEPTED]

    @property
    def wasted(self) -> int:
        """Rendering of what was not."""
        return sum(self.usd_micros[category] for category in sorted(WASTED))

    @property
    def shared(self) -> int:
        """Start, end, idle and unreported time."""
        return self.total - self.direct - self.wasted

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.usd_micros.values())

    @property
    def per_accepted(self) -> int | None:
        """Fully loaded micro-dollars of an accepted take, rounded; None without any, or where a price is unknown."""
        if not self.accepted or self.unpriced_ms:
            return None
        return (2 * self.total + self.accepted) // (2 * self.accepted)


class Unpriced(NamedTuple):
    """A GPU without a known price: when the first worker on it started, and the time of them all."""

    gpu: str
    first_ms: int
    ms: int


class CostReport(NamedTuple):
    """Rows and their sum, with what they rest on."""

    by: tuple[str, ...]
    scope: Scope
    rows: list[Row]
    total: Row
    workers: int  # all workers, whatever the scope
    workers_ms: int
    whole_usd_micros: int  # of all workers with a price
    sources: tuple[str, ...]  # price books
    unpriced: tuple[Unpriced, ...]
    use: TimeUse  # of the workers that have worked for the scope, whomever else they worked for; of all for the whole

    @property
    def share(self) -> float | None:
        """Part of the whole that the rows show; None when nothing has cost anything."""
        return self.total.total / self.whole_usd_micros if self.whole_usd_micros else None


def make_report(facts: TimeFacts, *, by: Sequence[str] = ("zone",), scope: Scope = WHOLE) -> CostReport:
    """Allocate every worker's time and money, and sum it up by the cuts in `by`.

    Raises UnknownNameError for a cut that does not exist.
    """
    table = _Table(by, scope)
    spans, attempts = _by_worker(facts.spans), _by_worker(facts.attempts)
    for life in facts.lives:
        money = life.usd_micros
        amount = life.ms if money is None else money
        charges = allocate(amount, life, spans[life.worker_id], attempts[life.worker_id])
        for (payer, category), part in charges.items():
            for row in table.rows_of(payer):
                row.charge(category, part, priced=money is not None)
    accepted: set[str] = set()
    for attempt in facts.attempts:
        first = attempt.outcome == Category.ACCEPTED and attempt.take_id not in accepted
        accepted.update([attempt.take_id] if first else [])
        for row in table.rows_of(attempt.payer):
            row.count(attempt, accepted=first)
    return CostReport(
        by=tuple(by),
        scope=scope,
        rows=table.sorted_rows(),
        total=table.total,
        workers=len(facts.lives),
        workers_ms=sum(life.ms for life in facts.lives),
        whole_usd_micros=sum(life.usd_micros or 0 for life in facts.lives),
        sources=tuple(sorted({life.price_source for life in facts.lives if life.usd_micros is not None} - {""})),
        unpriced=_unpriced(facts.lives),
        use=_use(facts, scope),
    )


def with_prices(facts: TimeFacts, book: PriceBook) -> TimeFacts:
    """`facts` with a price for workers that had none when they started, where the book has one for that day now."""
    lives = []
    for life in facts.lives:
        price = price_for_gpu(life.gpu, life.start_ms, book) if life.rate_usd_micros_per_h is None else None
        lives.append(
            life._replace(rate_usd_micros_per_h=price.usd_micros_per_h, price_source=price.provenance)
            if price
            else life
        )
    return facts._replace(lives=lives)


class PrintedMoney(NamedTuple):
    """What a row shows, in micro-dollars that are whole units of the printed table."""

    direct: int
    wasted: int
    shared: int

    @property
    def total(self) -> int:
        """The row's sum, as printed."""
        return sum(self)


def printed_money(report: CostReport) -> tuple[int, list[PrintedMoney]]:
    """The unit (a micro-dollar, or a cent from ten dollars up) and the cells of each row, in order.

    Rounding each cell by itself would lose money on paper, so the rounded total is split over the cells: the
    printed table adds up, along and down.
    """
    unit = 1 if report.total.total < 10 * MICROS_PER_USD else MICROS_PER_USD // 100
    cells = {
        (str(index), column): getattr(row, column)
        for index, row in enumerate(report.rows)
        for column in PrintedMoney._fields
    }
    units = split((report.total.total + unit // 2) // unit, cells)
    return unit, [
        PrintedMoney(*(units[str(index), column] * unit for column in PrintedMoney._fields))
        for index in range(len(report.rows))
    ]


class _Table:
    """The rows of a report as they fill."""

    def __init__(self, by: Sequence[str], scope: Scope) -> None:
        for cut in by:
            if cut not in CUTS:
                raise UnknownNameError(f"no report by {cut!r}", fix=f"choose from {', '.join(CUTS)}")
        self._fields = [_FIELD_OF_CUT[cut] for cut in by]
        self._scope = scope
        self._rows: dict[tuple[str, ...], Row] = {}
        self.total = Row(("total",))

    def rows_of(self, payer: CostObject) -> list[Row]:
        """The rows that what `payer` pays belongs to: none outside the scope, else its own and the total."""
        if not self._scope.holds(payer):
            return []
        name = tuple(getattr(payer, field_name) for field_name in self._fields)
        row = self._rows.get(name)
        if row is None:
            row = self._rows[name] = Row(name)
        return [row, self.total]

    def sorted_rows(self) -> list[Row]:
        """Rows by name; the unallocated one, if any, last."""
        unallocated = tuple(getattr(UNALLOCATED, field_name) for field_name in self._fields)
        return [self._rows[name] for name in sorted(self._rows, key=lambda name: (name == unallocated, name))]


Timed = TypeVar("Timed", SpanTime, AttemptFact)


def _by_worker(facts: Iterable[Timed]) -> defaultdict[str, list[Timed]]:
    by_worker: defaultdict[str, list[Timed]] = defaultdict(list)
    for fact in facts:
        by_worker[fact.worker_id].append(fact)
    return by_worker


def _use(facts: TimeFacts, scope: Scope) -> TimeUse:
    if scope == WHOLE:
        return use_of(facts.lives, facts.spans)
    workers = {attempt.worker_id for attempt in facts.attempts if scope.holds(attempt.payer)}
    return use_of([life for life in facts.lives if life.worker_id in workers], facts.spans)


def _unpriced(lives: Iterable[WorkerLife]) -> tuple[Unpriced, ...]:
    found: dict[str, Unpriced] = {}
    for life in lives:
        if life.usd_micros is None:
            before = found.get(life.gpu, Unpriced(life.gpu, life.start_ms, 0))
            found[life.gpu] = Unpriced(life.gpu, min(before.first_ms, life.start_ms), before.ms + life.ms)
    return tuple(found[gpu] for gpu in sorted(found))

"""Readings of the books for reports: monthly sums, entries, invoices and closed months. This module writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, case, exists, func, literal, or_, select, text

from catalog.errors import UnknownNameError
from orchestrator.finance.allocation.charges import ChargeKind, CostRow, Meter, Posting, Rental
from orchestrator.finance.books.rentals import charge_of, cost_row, entry_of
from orchestrator.finance.forecast import RUNS_MAX, RunCost
from orchestrator.finance.months import bounds_of
from orchestrator.finance.records import Coverage, Extracted, InvoiceSummary, PriceUsed, Statement
from orchestrator.ledger.tables import (
    CLOSED_PERIOD,
    COST_ENTRY,
    COST_MONTHLY,
    INVOICE,
    INVOICE_LINE,
    POSTING,
    RENTAL,
    RUN,
    STANDING,
    TAKE,
    WORKER,
    ClosedPeriodRow,
)

_PAGE: Final = 5_000
_SUMS: Final = ("usd_micros", "unpriced_ms", "ms", "tracks", "attempts", "audio_ms")
_CUTS: Final = tuple(COST_MONTHLY.primary_key.columns.keys())
# Where the fields of an extract come from, and how to put them in its order.
_OF_ENTRY: Final = [name for name in Extracted._fields if name in COST_ENTRY.c]
_OF_POSTING: Final = [name for name in Extracted._fields if name not in COST_ENTRY.c]
_IN_ORDER: Final = itemgetter(*map([*_OF_ENTRY, *_OF_POSTING].index, Extracted._fields))


class Scope(NamedTuple):
    """The part of the books that a report shows; None is no restriction."""

    period: str | None = None  # YYYY-MM in which it is booked
    run_id: str | None = None
    catalog: str | None = None
    zone: str | None = None
    genre: str | None = None
    provider: str | None = None
    gpu: str | None = None

    def holds(self, row: CostRow) -> bool:
        """True when a row belongs to the scope."""
        return all(value in (None, getattr(row, name)) for name, value in zip(self._fields, self, strict=True))

    @property
    def is_whole(self) -> bool:
        """True when the scope restricts at most the month."""
        return self[1:] == (None,) * (len(self) - 1)


def read_rows(
    connection: Connection,
    scope: Scope = Scope(),  # noqa: B008 - it is a constant
    by: Collection[str] | None = None,
) -> list[CostRow]:
    """The monthly sums of a scope, zero ones left out.

    With `by`, they are added up over all other columns, which are empty then; kind, category and gpu always stay. So
    the number of rows grows with the size of the report, and not with the work that was done.
    """
    kept = [name for name in _CUTS if by is None or name in ("kind", "category", "gpu", *by)]
    cuts = [COST_MONTHLY.c[name] if name in kept else literal("").label(name) for name in _CUTS]
    numbers = [COST_MONTHLY.c[name] if by is None else func.sum(COST_MONTHLY.c[name]) for name in _SUMS]
    is_something = or_(*(number != 0 for number in numbers))
    query = select(*cuts, *numbers).order_by(*(COST_MONTHLY.c[name] for name in kept))
    for name, value in zip(scope._fields, scope, strict=True):
        if value is not None:
            query = query.where(COST_MONTHLY.c[name] == value)
    if by is None:
        query = query.where(is_something)
    else:
        query = query.group_by(*(COST_MONTHLY.c[name] for name in kept)).having(is_something)
    return [cost_row(row) for row in connection.execute(query)]


def sum_usd_micros(connection: Connection, period: str | None = None) -> int:
    """All that is booked in a month, or in all of them, in micro-dollars."""
    query = select(func.sum(COST_MONTHLY.c.usd_micros))
    if period is not None:
        query = query.where(COST_MONTHLY.c.period == period)
    return int(connection.execute(query).scalar() or 0)


def read_trend(connection: Connection, first: str, last: str) -> list[CostRow]:
    """Months from `first` to `last` by kind and category alone; the other cuts are empty."""
    sums = (func.sum(COST_MONTHLY.c[name]) for name in _SUMS)
    cuts = (COST_MONTHLY.c.period, COST_MONTHLY.c.kind, COST_MONTHLY.c.category)
    query = select(*cuts, *sums).where(COST_MONTHLY.c.period.between(first, last)).group_by(*cuts).order_by(*cuts)
    return [cost_row((row[0], row[0], row[1], row[2], *[""] * 7, *row[3:])) for row in connection.execute(query)]


def standing_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of `keys` under which something stands."""
    found: set[str] = set()
    for at in range(0, len(keys), 500):
        query = select(STANDING.c.key).where(STANDING.c.key.in_(keys[at : at + 500]))
        found.update(connection.execute(query).scalars())
    return found


def read_totals(connection: Connection) -> dict[str, int]:
    """Micro-dollars by month in which they are booked."""
    query = select(POSTING.c.period, func.sum(POSTING.c.usd_micros)).group_by(POSTING.c.period)
    return {row[0]: int(row[1] or 0) for row in connection.execute(query)}


def find_closed(connection: Connection, period: str) -> ClosedPeriodRow | None:
    """The row of a closed month; None while the month is open."""
    row = connection.execute(select(CLOSED_PERIOD).where(CLOSED_PERIOD.c.period == period)).mappings().first()
    return ClosedPeriodRow(**row) if row else None


def closed_periods(connection: Connection) -> list[ClosedPeriodRow]:
    """The months that are closed, in their order."""
    rows = connection.execute(select(CLOSED_PERIOD).order_by(CLOSED_PERIOD.c.period)).mappings()
    return [ClosedPeriodRow(**row) for row in rows]


def high_water_id(connection: Connection, period: str | None = None) -> int:
    """The last entry of a month, or of all."""
    query = select(func.max(COST_ENTRY.c.entry_id))
    if period is not None:
        query = query.where(COST_ENTRY.c.period == period)
    return connection.execute(query).scalar() or 0


def iterate_entries(connection: Connection, period: str) -> Iterator[Extracted]:
    """The entries booked in a month, in the order they were written; a page at a time."""
    query = (
        select(*(COST_ENTRY.c[name] for name in _OF_ENTRY))
        .where(COST_ENTRY.c.period == period)
        .order_by(COST_ENTRY.c.entry_id)
        .limit(_PAGE)
    )
    after, posting_id = 0, 0
    posting: tuple[Any, ...] = ()
    while rows := connection.execute(query.where(COST_ENTRY.c.entry_id > after)).all():
        for row in rows:
            if row[1] != posting_id:
                posting_id, posting = row[1], _posting_of_entries(connection, row[1])
            yield Extracted._make(_IN_ORDER((*row, *posting)))
        after = rows[-1][0]


def _posting_of_entries(connection: Connection, posting_id: int) -> tuple[Any, ...]:
    """The fields that entries take from their posting; a posting's entries are consecutive, so it is read once."""
    query = select(*(POSTING.c[name] for name in _OF_POSTING)).where(POSTING.c.posting_id == posting_id)
    row = connection.execute(query).mappings().one()
    return tuple({**row, "kind": ChargeKind(row["kind"]), "rental_id": row["rental_id"] or ""}.values())


def _counting(period: str | None) -> list[Any]:
    """Conditions on postings: posted to a month and not reversed in it, or active now.

    A posting that a later month reverses still counts in its closed month.
    """
    if period is None:
        return [POSTING.c.posting_id.in_(select(STANDING.c.posting_id))]
    other = POSTING.alias()
    cancels = and_(other.c.reverses_id == POSTING.c.posting_id, other.c.period == POSTING.c.period)
    undoes = and_(other.c.posting_id == POSTING.c.reverses_id, other.c.period == POSTING.c.period)
    return [POSTING.c.period == period, ~exists().where(cancels), ~exists().where(undoes)]


def iterate_postings(connection: Connection, period: str) -> Iterator[Posting]:
    """The postings booked in a month that cost something, with their entries.

    A posting and its reversal in the same month cancel each other, and neither is told.
    """
    query = (
        select(POSTING)
        .where(POSTING.c.kind != ChargeKind.WORK, *_counting(period))
        .order_by(POSTING.c.posting_id)
        .limit(500)
    )
    after = 0
    while rows := connection.execute(query.where(POSTING.c.posting_id > after)).mappings().all():
        for row in rows:  # one at a time: a posting may have thousands of entries
            of_this = select(COST_ENTRY).where(COST_ENTRY.c.posting_id == row["posting_id"])
            parts = tuple(map(entry_of, connection.execute(of_this.order_by(COST_ENTRY.c.entry_id))))
            yield Posting(row["posting_id"], row["period"], charge_of(row), parts, row["posted_ms"], row["reverses_id"])
        after = rows[-1]["posting_id"]


def read_prices_used(connection: Connection, period: str | None = None) -> list[PriceUsed]:
    """The rates that the estimates booked in a month rest on, or all that stand."""
    columns = (POSTING.c.sku, POSTING.c.market, POSTING.c.rate_usd_micros_per_h, POSTING.c.source)
    query = select(*columns).where(POSTING.c.kind == ChargeKind.ESTIMATE, *_counting(period))
    return [PriceUsed(*row) for row in connection.execute(query.distinct().order_by(*columns))]


def read_invoices(connection: Connection, period: str) -> list[InvoiceSummary]:
    """The invoices with lines that are posted to a month, and the posted part of each."""
    in_period = (
        select(INVOICE_LINE.c.invoice_id, func.sum(POSTING.c.usd_micros).label("usd_micros"))
        .join(POSTING, POSTING.c.invoice_line_id == INVOICE_LINE.c.line_id)
        .where(POSTING.c.period == period)
        .group_by(INVOICE_LINE.c.invoice_id)
        .subquery()
    )
    names = ("invoice_id", "provider", "number", "currency", "total_usd_micros", "topup_usd_micros")
    query = (
        select(*(INVOICE.c[name] for name in names), in_period.c.usd_micros)
        .join(in_period, in_period.c.invoice_id == INVOICE.c.invoice_id)
        .order_by(INVOICE.c.provider, INVOICE.c.number)
    )
    return [InvoiceSummary(*row[:6], int(row[6])) for row in connection.execute(query)]


class Unpriced(NamedTuple):
    """A GPU without a known price: when the first worker on it started, and the time of them all."""

    gpu: str
    first_ms: int
    ms: int


NO_COVERAGE: Final = Coverage({}, 0, 0)


def read_unpriced(connection: Connection, rows: Iterable[CostRow]) -> list[Unpriced]:
    """The GPUs that some of `rows` have no price for."""
    unpriced_ms: Counter[str] = Counter()
    for row in rows:
        unpriced_ms[row.gpu] += row.unpriced_ms
    found = []
    for gpu in sorted(gpu for gpu, ms in unpriced_ms.items() if ms):
        first = connection.execute(select(func.min(WORKER.c.started_at_ms)).where(WORKER.c.gpu == gpu)).scalar()
        found.append(Unpriced(gpu, first or 0, unpriced_ms[gpu]))
    return found


def read_sources(connection: Connection, period: str | None = None) -> list[str]:
    """The sources of the estimates that are posted to a month, or of all that are active."""
    query = select(POSTING.c.source).where(POSTING.c.kind == ChargeKind.ESTIMATE, POSTING.c.usd_micros.is_not(None))
    query = query.where(*_counting(period))
    return list(connection.execute(query.distinct().order_by(POSTING.c.source)).scalars())


def read_statements(connection: Connection, period: str, time_zone: str) -> list[Statement]:
    """The prepaid accounts according to invoices: top-ups and draw-down before a month and in it."""
    start_ms, end_ms = bounds_of(period, time_zone)
    at_ms = func.coalesce(INVOICE_LINE.c.start_ms, INVOICE.c.start_ms)
    replaced = select(INVOICE.c.replaces).where(INVOICE.c.replaces.is_not(None))
    paid_in = (
        select(INVOICE.c.provider, at_ms < start_ms, func.sum(INVOICE_LINE.c.usd_micros))
        .join(INVOICE, INVOICE.c.invoice_id == INVOICE_LINE.c.invoice_id)
        .where(INVOICE_LINE.c.meter == Meter.TOPUP, at_ms < end_ms, INVOICE.c.invoice_id.not_in(replaced))
        .group_by(text("1"), text("2"))
    )
    drawn = (
        select(POSTING.c.provider, POSTING.c.applies_to < period, func.sum(POSTING.c.usd_micros))
        .where(POSTING.c.applies_to <= period)
        .group_by(text("1"), text("2"))
    )
    topups = {(row[0], bool(row[1])): int(row[2]) for row in connection.execute(paid_in)}
    draws = {(row[0], bool(row[1])): int(row[2] or 0) for row in connection.execute(drawn)}
    return [
        Statement(
            provider=provider,
            opening_usd_micros=topups.get((provider, True), 0) - draws.get((provider, True), 0),
            topups_usd_micros=topups.get((provider, False), 0),
            drawn_usd_micros=draws.get((provider, False), 0),
        )
        for provider in sorted({provider for provider, _ in topups})
    ]


class LineNote(NamedTuple):
    """The quantity that an invoice line states, with the fields of its invoice."""

    invoice: str
    invoice_start_ms: int
    invoice_end_ms: int
    quantity: str
    unit: str
    unit_price: str
    parts: int  # months that it was split over


def read_line_notes(connection: Connection, period: str) -> dict[str, LineNote]:
    """The lines with anything booked in a month, by id."""
    booked = select(POSTING.c.invoice_line_id).where(POSTING.c.period == period)
    parts = (
        select(POSTING.c.invoice_line_id, func.count(POSTING.c.applies_to.distinct()).label("parts"))
        .where(POSTING.c.invoice_line_id.in_(booked))
        .group_by(POSTING.c.invoice_line_id)
        .subquery()
    )
    query = (
        select(
            INVOICE_LINE.c.line_id,
            *(INVOICE.c[name] for name in ("number", "start_ms", "end_ms")),
            *(INVOICE_LINE.c[name] for name in ("quantity", "unit", "unit_price")),
            parts.c.parts,
        )
        .join(INVOICE, INVOICE.c.invoice_id == INVOICE_LINE.c.invoice_id)
        .join(parts, parts.c.invoice_line_id == INVOICE_LINE.c.line_id)
    )
    return {row[0]: LineNote._make(row[1:]) for row in connection.execute(query)}


def read_rentals(connection: Connection) -> list[Rental]:
    """Every rental."""
    return [Rental(*row) for row in connection.execute(select(*(RENTAL.c[name] for name in Rental._fields)))]


def workers_by_rental(connection: Connection) -> dict[str, int]:
    """The number of workers of each rental."""
    query = select(WORKER.c.rental_id, func.count()).group_by(WORKER.c.rental_id)
    return dict(connection.execute(query).all())


def read_billed(connection: Connection, period: str) -> Iterator[tuple[str, str, str, str, int | None, int, str, str]]:
    """A month's active invoice lines: provider, id, meter, month, GPU time (ms), micro-dollars, number, line."""
    gpu_ms = select(func.sum(COST_ENTRY.c.ms)).where(COST_ENTRY.c.posting_id == POSTING.c.posting_id).scalar_subquery()
    query = (
        select(
            *(INVOICE_LINE.c[name] for name in ("provider", "external_id", "meter")),
            case((INVOICE_LINE.c.start_ms.is_not(None) & (INVOICE_LINE.c.meter == Meter.GPU), gpu_ms)).label("ms"),
            POSTING.c.usd_micros,
            INVOICE.c.number,
            INVOICE_LINE.c.line_id,
        )
        .join(STANDING, STANDING.c.posting_id == POSTING.c.posting_id)
        .join(INVOICE_LINE, INVOICE_LINE.c.line_id == POSTING.c.invoice_line_id)
        .join(INVOICE, INVOICE.c.invoice_id == INVOICE_LINE.c.invoice_id)
        .where(POSTING.c.applies_to == period)
        .order_by(INVOICE_LINE.c.line_id)
    )
    for row in connection.execute(query):
        ms = None if row.ms is None else int(row.ms)
        yield (row.provider, row.external_id, row.meter, period, ms, row.usd_micros, row.number, row.line_id)


def read_run_costs(connection: Connection, catalogs: Collection[str] | None = None) -> list[RunCost]:
    """The posted costs of each catalog's last finished runs, oldest first.

    As many of each as a forecast looks at; runs without a kept track are left out.
    """
    sums = (func.sum(COST_MONTHLY.c[name]) for name in ("usd_micros", "unpriced_ms", "ms", "tracks", "attempts"))
    cuts = (COST_MONTHLY.c.run_id, COST_MONTHLY.c.category)
    kept = exists().where(COST_MONTHLY.c.run_id == RUN.c.run_id, COST_MONTHLY.c.tracks > 0)
    newest_first = (RUN.c.finished_at_ms.desc(), RUN.c.run_id.desc())
    age = func.row_number().over(partition_by=RUN.c.catalog, order_by=newest_first).label("age")
    finished = select(RUN.c.run_id, RUN.c.catalog, RUN.c.finished_at_ms, age).where(RUN.c.state == "finished", kept)
    if catalogs is not None:
        finished = finished.where(RUN.c.catalog.in_(sorted(catalogs)))
    aged = finished.subquery()
    latest = select(aged).where(aged.c.age <= RUNS_MAX).order_by(aged.c.finished_at_ms, aged.c.run_id)
    runs = {row.run_id: RunCost(row.run_id, row.catalog, row.finished_at_ms or 0) for row in connection.execute(latest)}
    query = select(*cuts, *sums).where(COST_MONTHLY.c.run_id.in_(list(runs))).group_by(*cuts)
    for run_id, category, *numbers in connection.execute(query):
        runs[run_id].add(category, *(int(number) for number in numbers))
    return [run for run in runs.values() if run.tracks]


def check_names(connection: Connection, scope: Scope) -> None:
    """Raise UnknownNameError for a name in the scope that neither the books nor the ledger has."""
    for name, value in zip(scope._fields, scope, strict=True):
        if value is None or name == "period" or _is_known(connection, name, value):
            continue
        known = select(COST_MONTHLY.c[name]).distinct().order_by(COST_MONTHLY.c[name]).limit(6)
        listed = ", ".join(each for each in connection.execute(known).scalars() if each) or "none yet"
        raise UnknownNameError(
            f"the ledger has no {name.removesuffix('_id')} {value!r}",
            why=f"it has: {listed}",
            fix="write one of these names",
        )


def _is_known(connection: Connection, name: str, value: str) -> bool:
    columns = [COST_MONTHLY.c[name]]
    columns += [table.c[name] for table in (RUN, TAKE) if name in table.c]
    return any(connection.execute(select(column).where(column == value).limit(1)).first() for column in columns)

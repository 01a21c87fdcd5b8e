"""Accounts: the books, brought up to date and read for a report on the screen or for the pack of a month.

Every request for a report first posts the costs that are known and not posted, so a report contains everything that the
ledger holds. Rentals that still run are shown beside the books, marked as provisional.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import NamedTuple

from sqlalchemy import Connection

from catalog.errors import UnknownNameError
from catalog.messages import now_ms
from catalog.settings import Settings
from orchestrator.finance.allocation.charges import ChargeKind, CostRow, Sharing
from orchestrator.finance.baseline import SongPrice, baseline_of
from orchestrator.finance.books import budgets
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.books.books import Progress, Updated, provisional_rows, update_books
from orchestrator.finance.books.readings import Scope
from orchestrator.finance.books.rentals import known_until_ms
from orchestrator.finance.forecast import RunCost, forecast
from orchestrator.finance.months import bounds_of, next_month
from orchestrator.finance.prices.book import PriceBook
from orchestrator.finance.prices.lookup import price_lookup
from orchestrator.finance.reconciling import reconcile_period
from orchestrator.finance.records import Baseline, BudgetLine, Coverage, Extracted, Forecast, PriceUsed
from orchestrator.finance.report.contents import Contents
from orchestrator.finance.report.figures import Sums
from orchestrator.ledger import Ledger

_TREND_MONTHS = 12


class Accounts(NamedTuple):
    """The books as of now, with the provisional costs of rentals that still run."""

    rows: list[CostRow]
    provisional: list[CostRow]
    coverage: Coverage
    whole_usd_micros: int  # of the month, or of all time; the scope's other restrictions do not apply

    @property
    def all_rows(self) -> list[CostRow]:
        """Posted and provisional."""
        return [*self.rows, *self.provisional]


def bring_up_to_date(
    ledger: Ledger, settings: Settings, book: PriceBook, *, progress: Progress | None = None
) -> Updated:
    """Post all costs that are known and not posted."""
    return update_books(
        ledger,
        time_zone=settings.finance_tz,
        sharing=Sharing(settings.allocation),
        price_of=price_lookup(book),
        at_ms=now_ms(),
        progress=progress,
    )


def read_accounts(
    connection: Connection, settings: Settings, updated: Updated, scope: Scope, by: Collection[str] | None = None
) -> Accounts:
    """The rows of a scope, with how much of them rests on bills, in the connection's snapshot.

    With `by` (fields of rows) they are added up over everything else.
    """
    rows = cost_readings.read_rows(connection, scope, by)
    whole_usd_micros = sum(row.usd_micros for row in rows)
    if not scope.is_whole:
        whole_usd_micros = cost_readings.sum_usd_micros(connection, scope.period)
    known_ms = known_until_ms(connection)
    if updated.complete_through_ms is not None:
        known_ms = min(known_ms, updated.complete_through_ms)
    if scope.period is not None:
        closed = cost_readings.find_closed(connection, scope.period)
        _, end_ms = bounds_of(scope.period, settings.finance_tz)
        known_ms = end_ms if closed is not None else min(known_ms, end_ms)
    # Postings of other processes since then are in the rows already.
    posted = cost_readings.standing_keys(connection, [draft.charge.key for draft in updated.provisional])
    beside = list(provisional_rows(draft for draft in updated.provisional if draft.charge.key not in posted))
    provisional = [row for row in beside if scope.holds(row)]
    of_period = [row for row in beside if scope.period in (None, row.period)]
    return Accounts(
        rows,
        provisional,
        coverage_of([*rows, *provisional], known_ms),
        whole_usd_micros + sum(row.usd_micros for row in of_period),
    )


def coverage_of(rows: Iterable[CostRow], complete_through_ms: int) -> Coverage:
    """The money of a month by its basis (billed, estimated), and the instant through which everything is known."""
    micros: Counter[ChargeKind] = Counter()
    unpriced_ms = 0
    for row in rows:
        if row.kind is not ChargeKind.WORK:
            micros[row.kind] += row.usd_micros
        unpriced_ms += row.unpriced_ms
    return Coverage(
        {kind: amount for kind, amount in sorted(micros.items()) if amount}, unpriced_ms, complete_through_ms
    )


def contents_of(
    connection: Connection,
    settings: Settings,
    book: PriceBook,
    updated: Updated,
    period: str,
    *,
    tracks: int | None = None,
    song: str | None = None,
) -> Contents:
    """The contents of a month's pack, read in the connection's snapshot, which must last until the pack is written.

    `tracks` is the number of tracks that the next refresh keeps, if known. `song` names the price for the comparison
    with buying, by default the cheapest dated one. Raises UnknownNameError for a song price that the book lacks.
    """
    method = Sharing(settings.allocation).method
    accounts = read_accounts(connection, settings, updated, Scope(period=period))
    rows = accounts.all_rows
    start_ms, end_ms = bounds_of(period, settings.finance_tz)
    # Not the clock's word but the ledger's: the same ledger gives the same pack.
    known_ms = accounts.coverage.complete_through_ms
    closed = cost_readings.find_closed(connection, period)
    trend = cost_readings.read_trend(connection, next_month(period, 1 - _TREND_MONTHS), period)
    lefts = budgets.read_lefts(connection, period=period, time_zone=settings.finance_tz)
    run_costs = cost_readings.read_run_costs(connection)
    prices = cost_readings.read_prices_used(connection, period)
    invoices = cost_readings.read_invoices(connection, period)
    statements = cost_readings.read_statements(connection, period, settings.finance_tz)
    high_water_id = cost_readings.high_water_id(connection, period)
    return Contents(
        period=period,
        start_ms=start_ms,
        end_ms=end_ms,
        time_zone=settings.finance_tz,
        state="closed" if closed else "open",
        closed_ms=closed.closed_ms if closed else None,
        closed_by=closed.closed_by if closed else "",
        method=method,
        code=version("tunemill"),
        high_water_id=high_water_id,
        rows=rows,
        trend=[*trend, *_by_kind(accounts.provisional)],
        coverage=accounts.coverage,
        budgets=[
            BudgetLine(
                str(left.budget.scope), left.budget.name or period, left.budget.usd_micros, left.spent_usd_micros
            )
            for left in lefts
        ],
        baseline=baseline(rows, book, prices, end_ms - 1, song=song),
        forecasts=_forecasts(run_costs, rows, tracks),
        matches=reconcile_period(connection, settings, book, period, as_of_ms=known_ms),
        invoices=invoices,
        statements=statements,
        prices=prices,
        notes=_notes(accounts, closed is not None, cost_readings.high_water_id(connection)),
        extract=lambda: extract(connection, period, accounts.provisional, method),
    )


def outlook_of(
    connection: Connection,
    settings: Settings,
    book: PriceBook,
    updated: Updated,
    *,
    catalog: str | None = None,
    tracks: int | None = None,
    song: str | None = None,
) -> tuple[list[Forecast], Baseline | None]:
    """The forecasts of a catalog or of all, and rendering against buying for all that was made so far."""
    accounts = read_accounts(connection, settings, updated, Scope(catalog=catalog), by=["catalog"])
    run_costs = cost_readings.read_run_costs(connection, None if catalog is None else [catalog])
    prices = cost_readings.read_prices_used(connection)
    rows = accounts.all_rows
    return _forecasts(run_costs, rows, tracks), baseline(rows, book, prices, now_ms(), song=song)


def extract(connection: Connection, period: str, provisional: Sequence[CostRow], method: str) -> Iterator[Extracted]:
    """The entries of a month, and after them the provisional rows, which have no number."""
    yield from cost_readings.iterate_entries(connection, period)
    for row in provisional:
        known = row._replace(ms=row.ms - row.unpriced_ms, unpriced_ms=0)
        if not row.unpriced_ms or any((known.usd_micros, known.ms, known.attempts)):
            yield _extracted(known, known.usd_micros, method)
        if row.unpriced_ms:
            yield _extracted(row._replace(ms=row.unpriced_ms, tracks=0, attempts=0, audio_ms=0), None, method)


def _extracted(row: CostRow, usd_micros: int | None, method: str) -> Extracted:
    """A row that is not posted, as the extract has it: without a number."""
    values = {name: value for name, value in row._asdict().items() if name not in ("unpriced_ms", "usd_micros")}
    nothing = {"entry_id": 0, "posting_id": 0, "posted_ms": 0, "rental_id": "", "source": "", "reverses_id": None}
    return Extracted(**{**values, **nothing, "category": str(row.category), "method": method, "usd_micros": usd_micros})


def baseline(
    rows: Iterable[CostRow], book: PriceBook, prices: Sequence[PriceUsed], at_ms: int, *, song: str | None = None
) -> Baseline | None:
    """Buying against rendering at a price of a song: the one named, else the cheapest; None where there is none."""
    songs = [each for each in book.song_prices(at_ms) if song in (None, each.sku)]
    if not songs and song is not None:
        known = ", ".join(each.sku for each in book.song_prices(at_ms)) or "none in force"
        raise UnknownNameError(f"the price book has no price of a song named {song!r}", why=f"it has: {known}")
    if not songs:
        return None
    sums = Sums()
    for row in rows:
        sums.add(row)
    cheapest = min(songs, key=lambda price: (price.usd_micros, price.sku))
    price = SongPrice(
        cheapest.sku,
        cheapest.source,
        cheapest.valid_from.isoformat(),
        cheapest.usd_micros,
        cheapest.songs_per_request,
    )
    return baseline_of(price, tracks=sums.tracks, own_usd_micros=sums.usd(), is_known=not sums.unpriced(), rates=prices)


def _forecasts(run_costs: Sequence[RunCost], rows: Iterable[CostRow], tracks: int | None) -> list[Forecast]:
    catalogs = sorted({row.catalog for row in rows})
    found = (forecast(catalog, run_costs, tracks=tracks) for catalog in catalogs)
    return [each for each in found if each is not None]


def _by_kind(rows: Iterable[CostRow]) -> list[CostRow]:
    """Provisional rows as the trend has them: by kind and category alone."""
    return [row._replace(catalog="", zone="", genre="", run_id="", provider="", gpu="", market="") for row in rows]


def _notes(accounts: Accounts, is_closed: bool, high_water_id: int) -> list[str]:
    notes = []
    if is_closed:
        notes.append(
            "The month is closed: its money cannot change. Budgets, forecasts, statements and reconciliation are as of "
            f"entry {high_water_id:,} of the books."
        )
    if any(row.kind is ChargeKind.PROVISIONAL for row in accounts.provisional):
        notes.append(
            "Rentals that still run are provisional: they are posted when they end, or when the month is over."
        )
    if accounts.coverage.unpriced_ms:
        gpus = sorted({row.gpu or "a GPU nobody named" for row in accounts.all_rows if row.unpriced_ms})
        notes.append(f"Time on {', '.join(gpus)} has no known price and is not in these dollars.")
    if accounts.coverage.usd_micros.get(ChargeKind.ESTIMATE):
        notes.append(
            "Estimates rest on the price book until the bill comes; then they are reversed by what was billed."
        )
    return notes

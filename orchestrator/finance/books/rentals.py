"""Rentals in the ledger: the lives, spans and attempts of their workers, and the invoice lines that bill them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from sys import intern
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, case, exists, false, func, literal, or_, select, update

from catalog.rental import LOCAL
from orchestrator.finance.allocation.charges import Charge, ChargeKind, CostEntry, CostRow, Meter, Rental
from orchestrator.finance.allocation.posting import BilledLine, RentalFacts
from orchestrator.ledger.machines import PriceOf, machine_of
from orchestrator.ledger.observations import UNALLOCATED, AttemptFact, Category, CostObject, SpanTime, WorkerLife
from orchestrator.ledger.slots import SlotState, category_of
from orchestrator.ledger.strikes import struck_ids
from orchestrator.ledger.tables import (
    ATTEMPT,
    INVOICE,
    INVOICE_LINE,
    LOSS,
    RENTAL,
    SPAN,
    STANDING,
    TAKE,
    VERDICT,
    WORKER,
)

# Of results with a row for each attempt: a driver that takes all at once would hold them twice.
_IN_PAGES: Final[dict[str, Any]] = {"execution_options": {"yield_per": 5_000}}
_KINDS: Final = {str(each): each for each in ChargeKind}
_CATEGORIES: Final = {str(each): each for each in Category}


class StrayLine(NamedTuple):
    """A line that names no rental on the books."""

    provider: str
    line: BilledLine


def name_nameless(connection: Connection) -> None:
    """Give every worker that is on no rental one of its own."""
    nameless = WORKER.c.rental_id == ""
    mine = literal(f"{LOCAL}/").concat(WORKER.c.worker_id)
    there = select(RENTAL.c.rental_id).where(RENTAL.c.rental_id == mine)
    columns = ["rental_id", "provider", "external_id", "gpu", "gpu_count", "market", "region", "account", "settled"]
    values = (literal(each) for each in ("on_demand", "", ""))
    own = select(mine, literal(LOCAL), WORKER.c.worker_id, WORKER.c.gpu, literal(1), *values, false())
    connection.execute(RENTAL.insert().from_select(columns, own.where(nameless, ~there.exists())))
    connection.execute(update(WORKER).where(nameless).values(rental_id=mine))


def unsettled(connection: Connection) -> list[str]:
    """Rentals of which something is known that may not be posted, and those that wait for a price."""
    unpriced = select(STANDING.c.rental_id).where(STANDING.c.is_priced.is_(False))
    query = select(RENTAL.c.rental_id).where(or_(RENTAL.c.settled.is_(False), RENTAL.c.rental_id.in_(unpriced)))
    return list(connection.execute(query.order_by(RENTAL.c.rental_id)).scalars())


def read(connection: Connection, rental_id: str, price_of: PriceOf) -> RentalFacts:
    """Everything that is known of a rental."""
    row = connection.execute(select(RENTAL).where(RENTAL.c.rental_id == rental_id)).mappings().one()
    spans = list(read_spans(connection, rental_id))
    attempts = list(read_attempts(connection, rental_id))
    facts = read_lives(connection, row, spans, price_of)
    weights = _run_weights(connection, row["run_id"]) if row["run_id"] and not attempts else {}
    return replace(facts, spans=spans, attempts=attempts, run_weights=weights)


def read_lives(
    connection: Connection, row: Mapping[Any, Any], spans: Iterable[SpanTime], price_of: PriceOf
) -> RentalFacts:
    """A rental by its row, with its workers' lives and its bill; of `spans` only how far they reach."""
    first = select(func.min(SPAN.c.start_ms)).where(SPAN.c.worker_id == WORKER.c.worker_id).scalar_subquery()
    query = select(WORKER, first.label("first_ms")).where(WORKER.c.rental_id == row["rental_id"])
    query = query.order_by(WORKER.c.worker_id)
    last_ms: dict[str, int] = {}
    for span in spans:
        last_ms[span.worker_id] = max(span.end_ms, last_ms.get(span.worker_id, 0))
    lives = []
    for worker in connection.execute(query).mappings():
        reached_ms = max(last_ms.get(worker["worker_id"], 0), worker["tally_reached_ms"])
        reach = () if worker["first_ms"] is None else (worker["first_ms"], reached_ms)
        lives.append(_life(worker, row, reach, price_of))
    lines = list(_lines(connection, row["provider"], row["external_id"]))
    losses = _losses(connection, row["rental_id"])
    return _facts_of(connection, row, price_of, lives=lives, lines=lines, losses=losses)


def _facts_of(
    connection: Connection, row: Mapping[Any, Any], price_of: PriceOf, *, lives: Sequence[WorkerLife], **known: Any
) -> RentalFacts:
    """The facts of a rental, with the consequences when no worker ever ran on it."""
    rental = Rental(**{name: row[name] for name in Rental._fields})
    if not rental.gpu:
        rental = rental._replace(gpu=next((life.gpu for life in lives if life.gpu), ""))
    if lives or rental.billed_start_ms is None:
        return RentalFacts(rental=rental, lives=lives, **known)
    price = price_of(machine_of(row, rental.gpu), rental.billed_start_ms) if rental.gpu else None
    until_ms = max(rental.billed_start_ms, known_until_ms(connection)) if rental.billed_end_ms is None else None
    book_price = (price.rate_usd_micros_per_h, price.sku, price.source) if price else None
    return RentalFacts(rental=rental, lives=lives, book_price=book_price, open_until_ms=until_ms, **known)


def known_until_ms(connection: Connection) -> int:
    """The latest instant that any worker has told of; 0 before the first."""
    latest = case((WORKER.c.ended_at_ms > WORKER.c.last_seen_ms, WORKER.c.ended_at_ms), else_=WORKER.c.last_seen_ms)
    return connection.execute(select(func.max(latest))).scalar() or 0


def read_windows(
    connection: Connection,
    start_ms: int,
    end_ms: int,
    price_of: PriceOf,
    *chosen: ColumnElement[bool],
    with_lines: bool = False,
) -> Iterator[RentalFacts]:
    """Only from when to when rentals were paid for that were there in a stretch of time."""
    rows = connection.execute(select(RENTAL).where(*chosen)).mappings().all()
    ours = select(WORKER).join(RENTAL, RENTAL.c.rental_id == WORKER.c.rental_id).where(*chosen)
    workers = _by(connection.execute(ours).mappings(), "rental_id")
    for row in sorted(rows, key=lambda each: each["rental_id"]):
        lives = [_life(worker, row, (), price_of) for worker in workers[row["rental_id"]]]
        lines = list(_lines(connection, row["provider"], row["external_id"])) if with_lines else ()
        facts = _facts_of(connection, row, price_of, lives=lives, lines=lines)
        began_ms, ended_ms = facts.window
        if began_ms < end_ms and ended_ms > start_ms:
            yield facts


def lines_without_rental(connection: Connection) -> list[StrayLine]:
    """The lines that cost something and name no rental on the books."""
    known = select(RENTAL.c.rental_id).where(
        RENTAL.c.provider == INVOICE_LINE.c.provider, RENTAL.c.external_id == INVOICE_LINE.c.external_id
    )
    query = _current_lines().where(INVOICE_LINE.c.meter != Meter.TOPUP, ~known.exists())
    return [StrayLine(row.provider, _line(row)) for row in connection.execute(query)]


def _by(rows: Iterable[Mapping[Any, Any]], name: str) -> defaultdict[str, list[Mapping[Any, Any]]]:
    found: defaultdict[str, list[Mapping[Any, Any]]] = defaultdict(list)
    for row in rows:
        found[row[name]].append(row)
    return found


def read_spans(connection: Connection, rental_id: str, *, since: bool = False) -> Iterator[SpanTime]:
    """The spans of a rental's workers; `since` leaves out those that are in their tallies."""
    columns = (SPAN.c.worker_id, SPAN.c.start_ms, SPAN.c.end_ms, SPAN.c.state, SPAN.c.batch_id, SPAN.c.cause)
    query = select(*columns).select_from(WORKER).join(SPAN, SPAN.c.worker_id == WORKER.c.worker_id)
    query = query.where(WORKER.c.rental_id == rental_id)
    if since:
        query = query.where(SPAN.c.start_ms >= WORKER.c.tally_spans_ms)
    return (SpanTime._make(row) for row in connection.execute(query, **_IN_PAGES))


def read_attempts(connection: Connection, rental_id: str, *, since: bool = False) -> Iterator[AttemptFact]:
    """The attempts of a rental's workers, with their outcomes; with `since`, only those after these spans."""
    made = (WORKER.c.rental_id == rental_id, *([ATTEMPT.c.at_ms >= WORKER.c.tally_spans_ms] if since else []))
    query = (
        select(
            *(ATTEMPT.c[name] for name in ("record_id", "take_id", "worker_id", "batch_id", "plan_id", "outcome")),
            *(ATTEMPT.c[name] for name in ("audio_ms", "run_id", "adopted", "at_ms")),
            *(TAKE.c[name] for name in ("duration_ms", "catalog", "zone", "genre", "state", "rendition_id")),
        )
        .select_from(WORKER)
        .join(ATTEMPT, ATTEMPT.c.worker_id == WORKER.c.worker_id)
        .outerjoin(TAKE, TAKE.c.take_id == ATTEMPT.c.take_id)
        .where(*made)
    )
    refused, payers = _refused(connection, made), dict[Any, CostObject]()
    for row in connection.execute(query, **_IN_PAGES):
        yield _attempt(row, refused, payers)


def _losses(connection: Connection, rental_id: str) -> list[AttemptFact]:
    """The takes that a rental's workers held when they were lost, and never told of."""
    told = exists().where(
        ATTEMPT.c.worker_id == LOSS.c.worker_id, ATTEMPT.c.take_id == LOSS.c.take_id, ATTEMPT.c.batch_id != ""
    )
    query = (
        select(LOSS.c.worker_id, LOSS.c.take_id, LOSS.c.at_ms, TAKE.c.duration_ms)
        .add_columns(*(TAKE.c[name] for name in ("catalog", "zone", "genre")), LOSS.c.run_id)
        .select_from(WORKER)
        .join(LOSS, LOSS.c.worker_id == WORKER.c.worker_id)
        .join(TAKE, TAKE.c.take_id == LOSS.c.take_id)
        .where(WORKER.c.rental_id == rental_id, ~told)
    )
    return [
        AttemptFact(take_id, worker_id, "", Category.LOST, duration_ms or 0, CostObject(*payer), at_ms=at_ms)
        for worker_id, take_id, at_ms, duration_ms, *payer in connection.execute(query)
    ]


def _refused(connection: Connection, made: Sequence[ColumnElement[bool]]) -> set[str]:
    """Renditions of some workers that listeners have rejected; the newest word counts."""
    query = (
        select(VERDICT.c.record_id, VERDICT.c.outcome)
        .join(ATTEMPT, ATTEMPT.c.record_id == VERDICT.c.record_id)
        .join(WORKER, WORKER.c.worker_id == ATTEMPT.c.worker_id)
        .where(*made)
        .order_by(VERDICT.c.verdict_id)
    )
    newest = {row.record_id: row.outcome for row in connection.execute(query)}
    return {record_id for record_id, outcome in newest.items() if outcome == "rejected"}


def _attempt(row: Any, refused: Set[str], payers: dict[Any, CostObject]) -> AttemptFact:
    """An attempt by its row of `_attempts`; those of one payer share it from `payers`."""
    record_id, take_id, worker_id, batch_id, plan_id, said, *rest = row
    audio_ms, run_id, adopted, at_ms, duration_ms, catalog, zone, genre, state, rendition_id = rest
    outcome = _CATEGORIES[said]
    if outcome is Category.ACCEPTED:
        if record_id in refused:
            outcome = category_of(SlotState.REJECTED)
        elif rendition_id != record_id and (rendition_id or state != "accepted"):
            outcome = Category.LOST  # rendered twice, or lost from the store since: another one is kept, or none
        else:
            outcome = category_of(SlotState.KEPT)  # and of what was kept once, until something takes its place
    cuts = (catalog, zone, genre, run_id)
    if cuts not in payers:
        payers[cuts] = CostObject(*cuts) if catalog else UNALLOCATED
    return AttemptFact(
        take_id=take_id,
        worker_id=intern(worker_id),
        batch_id=intern(batch_id),
        outcome=outcome,
        audio_ms=audio_ms or duration_ms or 0,
        payer=payers[cuts],
        plan_id=intern(plan_id),
        at_ms=at_ms,
        adopted=adopted and not batch_id,
    )


def _life(row: Mapping[Any, Any], rental: Mapping[Any, Any], reach: Sequence[int], price_of: PriceOf) -> WorkerLife:
    """A worker's life, by its row and its rental's, and from when to when its spans reach."""
    # A worker that vanished was last seen before its last span was recorded, or the other way round.
    end_ms = row["last_seen_ms"] if row["ended_at_ms"] is None else row["ended_at_ms"]
    rate, source, sku = row["rate_usd_micros_per_h"], row["price_source"] or "", row["price_sku"] or ""
    # A price that was written down after the worker had started is as good.
    if rate is None and row["gpu"] and (price := price_of(machine_of(rental, row["gpu"]), row["started_at_ms"])):
        rate, source, sku = price.rate_usd_micros_per_h, price.source, price.sku
    return WorkerLife(
        worker_id=row["worker_id"],
        gpu=row["gpu"],
        start_ms=min([row["started_at_ms"], *reach[:1]]),
        end_ms=max([end_ms, *reach[1:]]),
        rate_usd_micros_per_h=rate,
        price_source=source,
        is_over=row["ended_at_ms"] is not None,
        lane=row["lane"],
        sku=sku,
    )


def _lines(connection: Connection, provider: str, external_id: str) -> Iterator[BilledLine]:
    named = (INVOICE_LINE.c.provider == provider) & (INVOICE_LINE.c.external_id == external_id)
    for row in connection.execute(_current_lines().where(named)):
        yield _line(row)


def _current_lines() -> Select[Any]:
    """The lines of invoices that no other has taken the place of."""
    replaced = select(INVOICE.c.replaces).where(INVOICE.c.replaces.is_not(None))
    return (
        select(
            *(INVOICE_LINE.c[name] for name in ("line_id", "provider", "meter", "sku", "start_ms", "end_ms")),
            *(INVOICE_LINE.c[name] for name in ("usd_micros", "quantity", "unit")),
            INVOICE.c.number.label("invoice"),
            INVOICE.c.start_ms.label("invoice_start_ms"),
            INVOICE.c.end_ms.label("invoice_end_ms"),
        )
        .join(INVOICE, INVOICE.c.invoice_id == INVOICE_LINE.c.invoice_id)
        .where(INVOICE.c.invoice_id.not_in(replaced))
        .order_by(INVOICE_LINE.c.line_id)
    )


def _line(row: Any) -> BilledLine:
    return BilledLine(
        line_id=row.line_id,
        meter=Meter(row.meter),
        sku=row.sku,
        start_ms=row.start_ms,
        end_ms=row.end_ms,
        usd_micros=row.usd_micros,
        invoice=row.invoice,
        invoice_start_ms=row.invoice_start_ms,
        invoice_end_ms=row.invoice_end_ms,
        quantity=row.quantity,
        unit=row.unit,
    )


def _run_weights(connection: Connection, run_id: str) -> dict[CostObject, int]:
    """Time that engines worked for a run on all its rentals, by cost object; not that of struck workers."""
    engine_ms = ATTEMPT.c.plan_ms + ATTEMPT.c.encode_ms + ATTEMPT.c.diffuse_ms + ATTEMPT.c.decode_ms
    cuts = (TAKE.c.catalog, TAKE.c.zone, TAKE.c.genre)
    query = (
        select(*cuts, func.sum(engine_ms))
        .join(TAKE, TAKE.c.take_id == ATTEMPT.c.take_id)
        .where(ATTEMPT.c.run_id == run_id, ATTEMPT.c.worker_id.not_in(struck_ids()))
        .group_by(*cuts)
    )
    return {CostObject(*row[:3], run_id): int(row[3]) for row in connection.execute(query) if row[3] > 0}


def entry_of(row: Any) -> CostEntry:
    """A written entry."""
    payer = CostObject(row.catalog, row.zone, row.genre, row.run_id)
    return CostEntry(_CATEGORIES[row.category], payer, row.usd_micros, row.ms, row.tracks, row.attempts, row.audio_ms)


def charge_of(row: Mapping[Any, Any]) -> Charge:
    """The charge of a written posting."""
    values = {name: row[name] for name in Charge._fields}
    return Charge(**{**values, "kind": ChargeKind(row["kind"]), "meter": Meter(row["meter"])})


def cost_row(values: Sequence[Any]) -> CostRow:
    """A row of the sums, from its columns in their order."""
    period, applies_to, kind, category, *rest = values
    # A month may have hundreds of thousands of rows, and few names: they share them.
    catalog, zone, genre, run_id, provider, gpu, market = map(intern, rest[:7])
    cuts = (intern(period), intern(applies_to), _KINDS[kind], _CATEGORIES[category])
    return CostRow(*cuts, catalog, zone, genre, run_id, provider, gpu, market, *map(int, rest[7:]))

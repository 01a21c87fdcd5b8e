"""Tallies in the ledger: sums of the work on rentals that still run, stored so that each reading adds only new work.

Losing a tally does no harm: a rental without a valid note is read in full, and its work is added up again. The note
states the open month and the allocation method of its tallies. Another month or another time zone makes the tallies
void, and so does a new fact about time that was already added up.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, select, update

from orchestrator.finance.allocation.allocation import Calls, calls_over_ms
from orchestrator.finance.allocation.posting import RentalFacts, on_lanes
from orchestrator.finance.allocation.tally import Cursor, SegmentKey, Tally, WorkCounts, WorkerTime
from orchestrator.finance.books import rentals as rental_facts
from orchestrator.finance.months import bounds_of, month_of
from orchestrator.ledger.bulk import chunks, insert_rows, plain
from orchestrator.ledger.machines import PriceOf
from orchestrator.ledger.observations import AttemptFact, CostObject, SpanTime
from orchestrator.ledger.tables import RENTAL, SPAN, TALLY, WORKER

_WORTH_KEEPING: Final = 1_000  # spans and attempts
_COLUMNS: Final = (
    *("worker_id", "period", "category", "catalog", "zone", "genre", "run_id"),
    *("ms", "tracks", "attempts", "audio_ms"),
)


class Living:
    """A rental that still runs, and the time of its workers; its facts hold no spans and no attempts."""

    def __init__(self, facts: RentalFacts, times: Mapping[str, WorkerTime], time_zone: str) -> None:
        self.facts, self.times, self._time_zone = facts, times, time_zone

    @classmethod
    def of(cls, facts: RentalFacts, time_zone: str) -> Living:
        """Of all that is known."""
        times = {life.worker_id: WorkerTime(life) for life in facts.lives}
        _share_out(times, facts.spans, facts.attempts)
        return cls(facts, times, time_zone)

    def note(self, method: str) -> str:
        """A text that changes when the rental's tallies, or its postings for closed months, are no longer valid.

        It names the open month, and a digest of everything that decides the earlier months: price, lanes, and lives in
        them.
        """
        facts = self.facts
        lanes = {lane for _, lane in on_lanes(facts.lives)}
        lives = [
            (*life[:3], min(life.end_ms, self.open_ms), *life[4:])
            for life in sorted(facts.lives, key=attrgetter("worker_id"))
            if life.start_ms < self.open_ms
        ]
        digest = hashlib.sha256(repr((facts.rental, facts.price, len(lanes), lives)).encode()).hexdigest()
        return f"{month_of(facts.complete_through_ms, self._time_zone)} {method} {digest[:16]}"

    @property
    def open_ms(self) -> int:
        """The start of its first open month; earlier months are posted."""
        return bounds_of(month_of(self.facts.complete_through_ms, self._time_zone), self._time_zone)[0]

    def keep(self, connection: Connection, method: str, *, anew: bool) -> None:
        """Add up the time that is over, if it is enough to be worth it; with `anew`, replace all earlier tallies."""
        calls = Calls(attempt for time in self.times.values() for attempt in time.attempts)
        latest_ms = max(life.end_ms for life in self.facts.lives)
        is_sound = not self._names_calls_of_others()
        marks, rows = [], []
        for worker_id, time in self.times.items():
            worth = is_sound and (anew or len(time.spans) + len(time.attempts) >= _WORTH_KEEPING)
            kept = time.kept(calls, self._time_zone, calls_over_ms(time.life, latest_ms)) if worth else None
            if kept is not None or anew:
                tally, mark = kept or ({}, Cursor())
                rows += [(worker_id, *cut[:2], *cut.payer, *counts) for cut, counts in tally.items()]
                marks.append({"of_worker": worker_id, **mark._asdict()})
        if marks:
            _write(connection, marks, rows)
        if anew:  # else it was compared with the active postings
            note = update(RENTAL).where(RENTAL.c.rental_id == self.facts.rental.rental_id)
            connection.execute(note.values(tally=self.note(method), posted_ms=self.open_ms))

    def _names_calls_of_others(self) -> bool:
        """True when an attempt names the call of another worker, so that the two workers' cut points do not suffice."""
        maker_of = {span.batch_id: span.worker_id for time in self.times.values() for span in time.spans}
        return any(
            maker_of.get(call_id, attempt.worker_id) != attempt.worker_id
            for time in self.times.values()
            for attempt in time.attempts
            for call_id in (attempt.plan_id, attempt.batch_id)
            if call_id
        )


def _write(connection: Connection, marks: Sequence[dict[str, Any]], rows: Sequence[tuple[Any, ...]]) -> None:
    names = [mark["of_worker"] for mark in marks]
    connection.execute(TALLY.delete().where(TALLY.c.worker_id.in_(names)))
    insert_rows(connection, TALLY, _COLUMNS, [tuple(map(plain, row)) for row in rows])
    moved: dict[str, Any] = {f"tally_{name}": bindparam(name) for name in Cursor._fields}
    connection.execute(update(WORKER).where(WORKER.c.worker_id == bindparam("of_worker")).values(**moved), marks)


def forget(connection: Connection, rental_id: str) -> None:
    """Add nothing up of a rental any more."""
    ours = select(WORKER.c.worker_id).where(WORKER.c.rental_id == rental_id)
    connection.execute(TALLY.delete().where(TALLY.c.worker_id.in_(ours)))
    connection.execute(update(RENTAL).where(RENTAL.c.rental_id == rental_id).values(tally=""))


def read_living(
    connection: Connection, rental_id: str, price_of: PriceOf, time_zone: str, method: str
) -> Living | None:
    """A rental with the new facts since its workers were added up; None for one that must be read in full."""
    row = connection.execute(select(RENTAL).where(RENTAL.c.rental_id == rental_id)).mappings().one()
    if not row["tally"]:
        return None
    spans = list(rental_facts.read_spans(connection, rental_id, since=True))
    attempts = list(rental_facts.read_attempts(connection, rental_id, since=True))
    facts = rental_facts.read_lives(connection, row, spans, price_of)
    marks = {mark[0]: Cursor(*mark[1:]) for mark in connection.execute(_marks(rental_id))}
    tallies = _read(connection, rental_id)
    times = {life.worker_id: WorkerTime(life, tallies[life.worker_id], marks[life.worker_id]) for life in facts.lives}
    _share_out(times, spans, attempts)
    living = Living(facts, times, time_zone)
    # A later attempt may still name a call of a month that is posted.
    is_unsure = any(span.start_ms < living.open_ms for span in spans)
    if facts.is_over or is_unsure or row["tally"] != living.note(method) or _names_a_call_before(connection, living):
        return None
    return living


def _names_a_call_before(connection: Connection, living: Living) -> bool:
    """True when a new fact belongs to a call that is added up already, whose time must then be divided anew."""
    names = {span.batch_id for time in living.times.values() for span in time.spans if span.batch_id}
    for time in living.times.values():
        for attempt in time.attempts:
            if attempt.at_ms >= time.mark.attempts_ms:
                names |= {call_id for call_id in (attempt.plan_id, attempt.batch_id) if call_id}
    before = (
        select(SPAN.c.batch_id)
        .join(WORKER, WORKER.c.worker_id == SPAN.c.worker_id)
        .where(WORKER.c.rental_id == living.facts.rental.rental_id, SPAN.c.start_ms < WORKER.c.tally_spans_ms)
    )
    return any(
        connection.execute(before.where(SPAN.c.batch_id.in_(chunk)).limit(1)).first() for chunk in chunks(sorted(names))
    )


def _marks(rental_id: str) -> Select[Any]:
    names = (f"tally_{name}" for name in Cursor._fields)
    return select(WORKER.c.worker_id, *(WORKER.c[name] for name in names)).where(WORKER.c.rental_id == rental_id)


def _read(connection: Connection, rental_id: str) -> defaultdict[str, Tally]:
    """The tallies of a rental's workers."""
    query = (
        select(*(TALLY.c[name] for name in _COLUMNS))
        .join(WORKER, WORKER.c.worker_id == TALLY.c.worker_id)
        .where(WORKER.c.rental_id == rental_id)
    )
    tallies: defaultdict[str, Tally] = defaultdict(dict)
    for worker_id, period, category, *rest in connection.execute(query):
        tallies[worker_id][SegmentKey(period, category, CostObject(*rest[:4]))] = WorkCounts(*rest[4:])
    return tallies


def _share_out(times: Mapping[str, WorkerTime], spans: Iterable[SpanTime], attempts: Iterable[AttemptFact]) -> None:
    for span in spans:
        times[span.worker_id].spans.append(span)
    for attempt in attempts:
        times[attempt.worker_id].attempts.append(attempt)

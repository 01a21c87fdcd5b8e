"""The books: compare the postings of a rental with the postings that it should have, and write only the differences.

A rental is examined again when something new is known of it. Wrong postings are reversed and missing ones are added,
all of a rental in one transaction, so a killed process leaves the books as they were before or after. A closed month
never changes: its corrections are posted to the open month, as a reversal and a new posting that both name the month
they apply to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, case, insert, or_, select, update
from sqlalchemy.sql import func

from catalog.errors import SettingsError
from orchestrator.finance.allocation.charges import Charge, ChargeKind, CostEntry, CostRow, Sharing
from orchestrator.finance.allocation.living import draft_living
from orchestrator.finance.allocation.posting import PostingDraft, RentalFacts, draft_line, draft_rental
from orchestrator.finance.books import rentals as rental_facts
from orchestrator.finance.books import tallies
from orchestrator.finance.months import bounds_of, month_of, next_month
from orchestrator.ledger.bulk import insert_into, insert_rows, plain
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.machines import PriceOf
from orchestrator.ledger.tables import CLOSED_PERIOD, COST_ENTRY, COST_MONTHLY, POSTING, RENTAL, STANDING

ENTRIES_AT_ONCE: Final = 20_000  # about so many in one transaction: a writer who waits should not wait long
RENTALS_AT_ONCE: Final = 20  # and no more than so many
_CUTS: Final = COST_MONTHLY.primary_key.columns.keys()
_SUMS: Final = ("usd_micros", "unpriced_ms", "ms", "tracks", "attempts", "audio_ms")
_POSTING_COLUMNS: Final = (
    *("posting_id", "posted_ms", "period", "method", "digest", "reverses_id"),
    *Charge._fields,
)
_ENTRY_COLUMNS: Final = (
    *("entry_id", "posting_id", "period", "category", "catalog", "zone", "genre", "run_id"),
    *("usd_micros", "ms", "tracks", "attempts", "audio_ms"),
)


@dataclass(slots=True)
class Updated:
    """The number of postings that were written, and the provisional costs of rentals that still run."""

    posted: int = 0
    reversed: int = 0
    provisional: list[PostingDraft] = field(default_factory=list)
    complete_through_ms: int | None = None  # of the living rental that is known for the shortest time; None without any


class ActivePosting(NamedTuple):
    """A posting that nothing has reversed."""

    posting_id: int
    digest: str
    method: str


Progress = Callable[[int, int], None]  # (rentals done, of so many)


class Policy(NamedTuple):
    """Finance's rules for its books."""

    time_zone: str  # in which months begin and end
    sharing: Sharing

    @property
    def method(self) -> str:
        """The name of the computation: the allocation method, and the zone by whose months a posting was cut."""
        return f"{self.sharing.method} {self.time_zone}"


def update_books(
    ledger: Ledger,
    *,
    time_zone: str,
    sharing: Sharing = Sharing.BUSY,
    price_of: PriceOf,
    at_ms: int,
    progress: Progress | None = None,
) -> Updated:
    """Post all costs that are known and not posted. Raises SettingsError when closed months follow another policy."""
    policy = Policy(time_zone, sharing)
    updated = Updated()
    with ledger.write() as connection:
        _check_policy(connection, policy)
        _unsettle_other_method(connection, policy.method)
        rental_facts.name_nameless(connection)
        waiting = rental_facts.unsettled(connection)
    done = 0
    if progress is not None:
        progress(0, len(waiting))
    while done < len(waiting):
        with ledger.write() as connection:
            clerk = Poster(connection, policy, at_ms, updated)
            for rental_id in waiting[done : done + RENTALS_AT_ONCE]:
                clerk.look_at(rental_id, price_of)
                done += 1
                if clerk.entries >= ENTRIES_AT_ONCE:
                    break
            clerk.write()
        if progress is not None:
            progress(done, len(waiting))
    with ledger.write() as connection:
        clerk = Poster(connection, policy, at_ms, updated)
        clerk.settle_strays(rental_facts.lines_without_rental(connection))
        clerk.write()
    return updated


def _check_policy(connection: Connection, policy: Policy) -> None:
    closed = connection.execute(select(CLOSED_PERIOD.c.period, CLOSED_PERIOD.c.time_zone)).all()
    if other := next((row for row in closed if row.time_zone != policy.time_zone), None):
        raise SettingsError(
            f"the month {other.period} was closed in the time zone {other.time_zone}, not in {policy.time_zone}",
            why="the beginning and the end of a closed month cannot change",
            fix=f"set TUNEMILL_FINANCE_TZ={other.time_zone}",
        )
    of_closed = (
        select(STANDING.c.method)
        .join(POSTING, POSTING.c.posting_id == STANDING.c.posting_id)
        .where(POSTING.c.period.in_([row.period for row in closed]))
    )
    methods = {method.split()[0] for method in connection.execute(of_closed.distinct()).scalars()} if closed else set()
    for was in Sharing:
        if was.method in methods and was is not policy.sharing:
            raise SettingsError(
                f"months were closed with the allocation of shared costs set to {was}, not to {policy.sharing}",
                why="a closed month is not calculated again, and its corrections must use the same allocation",
                fix=f"set TUNEMILL_ALLOCATION={was}",
            )


def _unsettle_other_method(connection: Connection, method: str) -> None:
    """Have rentals posted anew when their postings follow another method or the months of another zone."""
    stands = select(STANDING.c.key).where(STANDING.c.method != method).limit(1)
    if connection.execute(stands).first() is not None:
        connection.execute(update(RENTAL).values(settled=False))


_Place = tuple[Any, ...]  # the object of a charge, under any key; the charge that replaces it has the same object


def _place(charge: Charge) -> _Place:
    return charge.provider, charge.meter, charge.kind is ChargeKind.WORK, charge.applies_to


class Poster:
    """Writes postings in one transaction."""

    def __init__(self, connection: Connection, policy: Policy, at_ms: int, updated: Updated) -> None:
        self._connection, self._policy, self._at_ms, self._updated = connection, policy, at_ms, updated
        self._time_zone, self._method = policy.time_zone, policy.method
        # Months are closed in their order, so all before the last closed one are, too.
        self._closed_to: str = connection.execute(select(func.max(CLOSED_PERIOD.c.period))).scalar() or ""
        self._posting_id: int = connection.execute(select(func.max(POSTING.c.posting_id))).scalar() or 0
        self._entry_id: int = connection.execute(select(func.max(COST_ENTRY.c.entry_id))).scalar() or 0
        self._summed_id = self._first_id = self._entry_id
        self._postings: list[tuple[Any, ...]] = []
        self._entries: list[tuple[Any, ...]] = []

    @property
    def entries(self) -> int:
        """The number of entries that this poster has written."""
        return self._entry_id - self._first_id

    def look_at(self, rental_id: str, price_of: PriceOf) -> None:
        """Bring the books of one rental up to date; for a rental that still runs, read only new facts."""
        living = tallies.read_living(self._connection, rental_id, price_of, self._time_zone, self._method)
        if living is not None and self._note_provisional(living):
            living.keep(self._connection, self._method, anew=False)
            return
        self.settle(rental_facts.read(self._connection, rental_id, price_of))

    def settle(self, facts: RentalFacts) -> None:
        """Write the differences between the books of one rental and the postings that its facts call for."""
        drafts = draft_rental(facts, self._time_zone, self._policy.sharing)
        ready = [draft for draft in drafts if self._is_ready(draft, facts)]
        rental_id = facts.rental.rental_id
        self._replace(ready, STANDING.c.rental_id == rental_id)
        if facts.is_over:
            tallies.forget(self._connection, rental_id)
            # The payers of a rental without work follow from its run, which may go on elsewhere.
            if not facts.rental.run_id or facts.attempts:
                self._connection.execute(update(RENTAL).where(RENTAL.c.rental_id == rental_id).values(settled=True))
            return
        living = tallies.Living.of(facts, self._time_zone)
        if self._note_provisional(living):
            living.keep(self._connection, self._method, anew=True)
        else:
            tallies.forget(self._connection, rental_id)
            self._updated.provisional += [draft for draft in drafts if not self._is_ready(draft, facts)]

    def _note_provisional(self, living: tallies.Living) -> bool:
        """Note the cost so far of a rental in months that are open; False when its tallies do not suffice."""
        facts = living.facts
        known = [self._updated.complete_through_ms, facts.complete_through_ms]
        self._updated.complete_through_ms = min(each for each in known if each is not None)
        drafts = draft_living(facts, living.times, self._time_zone, self._policy.sharing)
        self._updated.provisional += drafts or []
        return drafts is not None

    def settle_strays(self, lines: Iterable[rental_facts.StrayLine]) -> None:
        """Write the differences for invoice lines that name an unknown rental."""
        drafts = [draft for stray in lines for draft in draft_line(stray.line, stray.provider, self._time_zone)]
        self._replace(drafts, STANDING.c.rental_id.is_(None))

    def write(self) -> None:
        """Insert the collected postings and entries, and add them to the monthly sums."""
        insert_rows(self._connection, POSTING, _POSTING_COLUMNS, self._postings)
        insert_rows(self._connection, COST_ENTRY, _ENTRY_COLUMNS, self._entries)
        self._postings.clear()
        self._entries.clear()
        if self._entry_id > self._summed_id:
            self._connection.execute(_added_to_sums(self._connection, self._summed_id))
            self._summed_id = self._entry_id

    # ------------------------------------------------------------ what differs

    def _is_ready(self, draft: PostingDraft, facts: RentalFacts) -> bool:
        """True when a posting is final unless new facts arrive: it is billed, or its month or its rental is over."""
        _, end_ms = bounds_of(draft.charge.applies_to, self._time_zone)
        return draft.charge.kind is ChargeKind.BILLED or facts.is_over or end_ms <= facts.complete_through_ms

    def _replace(self, drafts: Sequence[PostingDraft], owned: Any) -> None:
        wanted = {draft.charge.key: draft for draft in drafts}
        standing = self._standing(owned, list(wanted))
        wrong = {
            key: each
            for key, each in standing.items()
            if key not in wanted or (wanted[key].digest, self._method) != (each.digest, each.method)
        }
        reversed_in = self._reverse([each.posting_id for each in wrong.values()])
        self._forget(list(wrong))
        fresh = [draft for key, draft in wanted.items() if key not in standing or key in wrong]
        # A replacement is posted to the month of the reversal, so that the two are a pair.
        rows = [self._post(draft, reversed_in.get(_place(draft.charge))) for draft in fresh]
        if rows:
            self._connection.execute(insert(STANDING), rows)

    def _forget(self, keys: Sequence[str]) -> None:
        for at in range(0, len(keys), 500):
            self._connection.execute(STANDING.delete().where(STANDING.c.key.in_(keys[at : at + 500])))

    def _standing(self, owned: Any, keys: list[str]) -> dict[str, ActivePosting]:
        """The active postings of a rental, and those under `keys`: a line's key from before its rental was known."""
        found: dict[str, ActivePosting] = {}
        columns = select(STANDING.c.key, STANDING.c.posting_id, STANDING.c.digest, STANDING.c.method)
        for condition in (owned, *(STANDING.c.key.in_(keys[at : at + 500]) for at in range(0, len(keys), 500))):
            found |= {
                row.key: ActivePosting(row.posting_id, row.digest, row.method)
                for row in self._connection.execute(columns.where(condition))
            }
        return found

    def _post(self, draft: PostingDraft, period: str | None) -> dict[str, Any]:
        charge = draft.charge
        if period is None or charge.applies_to > self._closed_to:
            period = self._period_for(charge.applies_to)
        self._put(charge, draft.entries, period, draft.digest, None)
        self._updated.posted += 1
        return {
            "key": charge.key,
            "posting_id": self._posting_id,
            "rental_id": charge.rental_id,
            "digest": draft.digest,
            "method": self._method,
            "is_priced": charge.usd_micros is not None,
        }

    def _reverse(self, posting_ids: Sequence[int]) -> dict[_Place, str]:
        """Write the same rows with every number negated; return the month to which each reversal is posted."""
        booked: dict[_Place, str] = {}
        for posting_id in sorted(posting_ids):
            written = select(POSTING).where(POSTING.c.posting_id == posting_id)
            row = self._connection.execute(written).mappings().one()
            charge = rental_facts.charge_of(row)
            charge = charge._replace(usd_micros=None if charge.usd_micros is None else -charge.usd_micros)
            period = booked[_place(charge)] = self._period_for(row["period"])
            entries = select(COST_ENTRY).where(COST_ENTRY.c.posting_id == posting_id).order_by(COST_ENTRY.c.entry_id)
            negated_ = (negated(rental_facts.entry_of(entry)) for entry in self._connection.execute(entries))
            self._put(charge, negated_, period, row["digest"], posting_id)
            self._updated.reversed += 1
        return booked

    def _period_for(self, applies_to: str) -> str:
        """The month to post to: `applies_to`, or the first open month when that one is closed."""
        if applies_to > self._closed_to:
            return applies_to
        return max(month_of(self._at_ms, self._time_zone), next_month(self._closed_to))

    # ------------------------------------------------------------ rows

    def _put(
        self, charge: Charge, entries: Iterable[CostEntry], period: str, digest: str, reverses_id: int | None
    ) -> None:
        self._posting_id += 1
        posting_id = self._posting_id
        known = (posting_id, self._at_ms, period, self._method, digest, reverses_id)
        self._postings.append((*known, *map(plain, charge)))
        first_id = self._entry_id + 1
        self._entries += (
            (entry_id, posting_id, period, entry.category.value, *entry.payer, *entry[2:])
            for entry_id, entry in enumerate(entries, start=first_id)
        )
        self._entry_id = self._entries[-1][0] if self._entries else self._entry_id
        if len(self._entries) >= ENTRIES_AT_ONCE:
            self.write()


def _added_to_sums(connection: Connection, after_id: int) -> Any:
    """The SQL statement that adds new entries to the monthly sums."""
    of_posting = ("applies_to", "kind", "provider", "gpu", "market")
    cuts = [POSTING.c[name] if name in of_posting else COST_ENTRY.c[name] for name in _CUTS]
    unpriced_ms = case((COST_ENTRY.c.usd_micros.is_(None), COST_ENTRY.c.ms), else_=0)
    numbers = [unpriced_ms if name == "unpriced_ms" else func.coalesce(COST_ENTRY.c[name], 0) for name in _SUMS]
    sums = [func.sum(number) for number in numbers]
    new = (
        select(*cuts, *sums)
        .join(POSTING, POSTING.c.posting_id == COST_ENTRY.c.posting_id)
        .where(COST_ENTRY.c.entry_id > after_id)
        .group_by(*cuts)
        .having(or_(*(each != 0 for each in sums)))
    )
    statement = insert_into(connection, COST_MONTHLY).from_select([*_CUTS, *_SUMS], new)
    added = {name: COST_MONTHLY.c[name] + statement.excluded[name] for name in _SUMS}
    return statement.on_conflict_do_update(index_elements=list(_CUTS), set_=added)


Sums = defaultdict[tuple[str, ...], list[int]]


def add_to(sums: Sums, charge: Charge, entry: CostEntry, period: str) -> None:
    """Add an entry to the sums from which reports are made."""
    payer = entry.payer
    key = (
        *(period, charge.applies_to, str(charge.kind), str(entry.category)),
        *(payer.catalog, payer.zone, payer.genre, payer.run_id),
        *(charge.provider, charge.gpu, charge.market),
    )
    unpriced_ms = entry.ms if entry.usd_micros is None else 0
    numbers = (entry.usd_micros or 0, unpriced_ms, entry.ms, entry.tracks, entry.attempts, entry.audio_ms)
    row = sums[key]
    for place, number in enumerate(numbers):
        row[place] += number


def negated(entry: CostEntry) -> CostEntry:
    """The entry that reverses `entry`."""
    return CostEntry(
        entry.category,
        entry.payer,
        None if entry.usd_micros is None else -entry.usd_micros,
        *(-number for number in entry[3:]),
    )


def provisional_rows(drafts: Iterable[PostingDraft]) -> Iterator[CostRow]:
    """The cost so far of rentals that still run, summed up as for a report; none of it is posted."""
    sums: Sums = defaultdict(lambda: [0] * len(_SUMS))
    for draft in drafts:
        kind = draft.charge.kind if draft.charge.kind is ChargeKind.WORK else ChargeKind.PROVISIONAL
        for entry in draft.entries:
            add_to(sums, draft.charge._replace(kind=kind), entry, draft.charge.applies_to)
    for key in sorted(sums):
        yield rental_facts.cost_row((*key, *sums[key]))

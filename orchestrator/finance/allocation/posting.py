"""Posting: all postings that the books of one rental should contain, computed anew from the known facts.

`draft_rental` is a pure function, so the same facts always give the same postings. The books compare the result with
their present postings, reverse those that differ, and add those that are missing. A line of an invoice covers its
window; time that no invoice's period covers is estimated at the rental's rate. Every charge is cut at the ends of
finance's months, and the parts of an amount add up to it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

from catalog.split import split
from orchestrator.finance.allocation.allocation import (
    Calls,
    Charges,
    Segment,
    Weights,
    as_known,
    busy_weights,
    pieces_of,
    uses_in,
)
from orchestrator.finance.allocation.charges import (
    CATEGORY_OF_METER,
    METHOD,
    Charge,
    ChargeKind,
    CostEntry,
    Meter,
    Rental,
    Sharing,
)
from orchestrator.finance.allocation.tally import Tally, count_work
from orchestrator.finance.allocation.windows import BUCKET, narrowed
from orchestrator.finance.months import MonthSlice, bounds_of, cut_by_month
from orchestrator.ledger.observations import (
    CALLS_OVER_MS,
    UNALLOCATED,
    AttemptFact,
    Category,
    CostObject,
    SpanTime,
    WorkerLife,
    time_usd_micros,
)

_DAY_MS: Final = 86_400_000
_WHOLE: Final = (-(2**62), 2**62)


class BilledLine(NamedTuple):
    """A line of an invoice that names the rental, with the fields of its invoice that posting needs."""

    line_id: str
    meter: Meter
    sku: str
    start_ms: int | None  # None with `end_ms`: as long as the rental lasted within the invoice's period
    end_ms: int | None
    usd_micros: int
    invoice: str  # its number
    invoice_start_ms: int
    invoice_end_ms: int
    quantity: str = ""  # as the provider wrote it
    unit: str = ""


@dataclass(frozen=True)
class RentalFacts:
    """All known facts about a rental."""

    rental: Rental
    lives: Sequence[WorkerLife] = ()
    spans: Sequence[SpanTime] = ()
    attempts: Sequence[AttemptFact] = ()
    lines: Sequence[BilledLine] = ()
    run_weights: Weights = field(default_factory=dict)  # of the run that asked for it, over all its rentals
    book_price: tuple[int, str, str] | None = None  # (rate, sku, source) for one that no worker has a price for
    losses: Sequence[AttemptFact] = ()  # takes that its workers held when they were lost
    open_until_ms: int | None = None  # of a rental without a worker and without a stated end: known until then

    @property
    def is_over(self) -> bool:
        """True when no further report about the rental is expected."""
        return self.open_until_ms is None and all(life.is_over for life in self.lives)

    @property
    def window(self) -> tuple[int, int]:
        """The paid time of the rental: the bill's window where it is known, else the span of its workers' lives.

        (0, 0) while the start is unknown, because an end alone defines no window.
        """
        rental = self.rental
        if not self.lives and rental.billed_start_ms is None:
            return 0, 0
        starts = [life.start_ms for life in self.lives]
        ends = [life.end_ms for life in self.lives] or [self.open_until_ms or 0]
        start_ms = rental.billed_start_ms if rental.billed_start_ms is not None else min(starts)
        end_ms = rental.billed_end_ms if rental.billed_end_ms is not None else max(ends, default=start_ms)
        return start_ms, max(start_ms, end_ms)

    @property
    def price(self) -> tuple[int | None, str, str]:
        """(rate, sku, source): as agreed for the rental, else in force when its first priced worker started."""
        priced = sorted(
            (life for life in self.lives if life.rate_usd_micros_per_h is not None),
            key=lambda life: (life.start_ms, life.worker_id),
        )
        sku = priced[0].sku if priced else ""
        if self.rental.rate_usd_micros_per_h is not None:
            return self.rental.rate_usd_micros_per_h, sku or self.rental.gpu, "agreed rate"
        if priced:
            return priced[0].rate_usd_micros_per_h, sku, priced[0].price_source
        return self.book_price or (None, "", "unknown")

    @property
    def complete_through_ms(self) -> int:
        """The instant before which all time and results are known; a living worker's last calls may go on."""
        living = [life.end_ms - CALLS_OVER_MS for life in self.lives if not life.is_over]
        living += [self.open_until_ms] if self.open_until_ms is not None else []
        return min(living, default=_WHOLE[1])


class PostingDraft(NamedTuple):
    """A charge with its entries, not yet written to the books."""

    charge: Charge
    entries: tuple[CostEntry, ...]

    @property
    def digest(self) -> str:
        """A hash that is equal exactly for equal charges with equal entries."""
        entries = [(str(entry.category), *entry.payer, *entry[2:]) for entry in self.entries]
        charge = [str(value) if isinstance(value, str) else value for value in self.charge]
        return hashlib.sha256(repr((METHOD, charge, entries)).encode()).hexdigest()


def draft_rental(facts: RentalFacts, time_zone: str, sharing: Sharing = Sharing.BUSY) -> list[PostingDraft]:
    """The postings that `facts` call for, month by month: estimates, billed lines and the work done."""
    return list(_Draft(facts, time_zone, sharing).all())


def charged_usd_micros(facts: RentalFacts) -> int | None:
    """The sum of the charges of `draft_rental`, from lives and lines alone; None where a price is unknown."""
    lines = [line for line in facts.lines if line.meter is not Meter.TOPUP]
    covered = [(line.invoice_start_ms, line.invoice_end_ms) for line in lines if line.meter is Meter.GPU]
    begin_ms, end_ms = facts.window
    left = _uncovered(begin_ms, end_ms, covered)
    rate = facts.price[0] if left else 0
    if rate is None:
        return None
    of_lane = sum(money_of(MonthSlice("", *stretch), begin_ms, rate) for stretch in left)
    lanes = max(len({lane for _, lane in on_lanes(facts.lives)}), facts.rental.gpu_count, 1)
    return sum(line.usd_micros for line in lines) + lanes * of_lane


def shared_by(sharing: Sharing, busy: Weights) -> Weights:
    """The payers' weights for shared costs, by engine time; empty when no engine worked."""
    if sharing is Sharing.NONE:
        return {}
    return {payer: 1 for payer, ms in busy.items() if ms} if sharing is Sharing.EVEN else busy


def draft_line(line: BilledLine, provider: str, time_zone: str) -> list[PostingDraft]:
    """The postings of a line that names an unknown rental: an amount without a payer."""
    start_ms, end_ms = _line_window(line, line.invoice_start_ms, line.invoice_end_ms)
    drafts = []
    for stretch, usd_micros in _parts(line.usd_micros, list(cut_by_month(start_ms, end_ms, time_zone))):
        charge = _billed(line, stretch, usd_micros, provider=provider)
        ms = stretch.ms if line.meter is Meter.GPU else 0
        category = CATEGORY_OF_METER.get(line.meter, Category.UNOBSERVED)
        drafts.append(PostingDraft(charge, (CostEntry(category, UNALLOCATED, usd_micros, ms),)))
    return drafts


class _Draft:
    """The computation of one rental's postings."""

    def __init__(self, facts: RentalFacts, time_zone: str, sharing: Sharing) -> None:
        self._facts, self._time_zone, self._sharing = facts, time_zone, sharing
        self._rental = facts.rental
        self._calls = Calls(facts.attempts, facts.losses)
        self._start_ms, self._end_ms = facts.window
        self._weights: dict[str, Weights] = {}

    def all(self) -> Iterator[PostingDraft]:
        billed = [line for line in self._facts.lines if line.meter is not Meter.TOPUP]
        for line in billed:
            yield from self._of_line(line)
        covered = [(line.invoice_start_ms, line.invoice_end_ms) for line in billed if line.meter is Meter.GPU]
        yield from self._estimates(_uncovered(self._start_ms, self._end_ms, covered))
        yield from draft_work(self._rental, count_work(self._facts.attempts, self._time_zone), self._time_zone)

    # ------------------------------------------------------------ lanes

    @cached_property
    def _lanes(self) -> list[list[Segment]]:
        """The segments of each GPU; a GPU that never had a worker is included, because it was rented too."""
        spans: defaultdict[str, list[SpanTime]] = defaultdict(list)
        lives_of = {life.worker_id: life for life in self._facts.lives}
        for span in self._facts.spans:
            spans[span.worker_id].append(as_known(span, lives_of.get(span.worker_id), self._calls))
        lives: defaultdict[str, list[WorkerLife]] = defaultdict(list)
        for life, lane in on_lanes(self._facts.lives):
            lives[lane].append(life)
        # A bill may begin before the first worker spoke and end after the last.
        start_ms = min([self._start_ms, *(line.start_ms for line in self._facts.lines if line.start_ms is not None)])
        end_ms = max([self._end_ms, *(line.end_ms for line in self._facts.lines if line.end_ms is not None)])
        lanes = [pieces_of(lives[lane], spans, start_ms, end_ms) for lane in sorted(lives)]
        unseen = max(self._rental.gpu_count, 1) - len(lanes)
        idle = [Segment(start_ms, end_ms, Category.UNOBSERVED, "")] if end_ms > start_ms else []
        return lanes + [idle] * max(0, unseen)

    def _weights_of(self, stretch: MonthSlice) -> Weights:
        """The payers' weights for a month's shared costs: by work in the month, else on the rental, else in its run."""
        if stretch.period not in self._weights:
            pieces = [piece for lane in self._lanes for piece in lane]
            busy = (
                busy_weights(pieces, self._calls, *bounds_of(stretch.period, self._time_zone))
                or busy_weights(pieces, self._calls, *_WHOLE)
                or _audio_weights(self._facts.attempts)
                or self._facts.run_weights
            )
            self._weights[stretch.period] = shared_by(self._sharing, busy)
        return self._weights[stretch.period]

    # ------------------------------------------------------------ charges

    def _of_line(self, line: BilledLine) -> Iterator[PostingDraft]:
        start_ms = max(self._start_ms, line.invoice_start_ms)
        end_ms = min(self._end_ms, line.invoice_end_ms)
        if end_ms <= start_ms:  # the rental was not seen within the invoice's period
            start_ms, end_ms = line.invoice_start_ms, line.invoice_end_ms
        window = _line_window(line, start_ms, end_ms)
        if line.meter is Meter.GPU and line.start_ms is not None:
            unit = BUCKET if _is_bucket(line) else line.unit
            start_ms, end_ms = narrowed(window, line.quantity, unit, (self._start_ms, self._end_ms))
            window = start_ms, max(end_ms, start_ms + 1)
        for stretch, usd_micros in _parts(line.usd_micros, list(cut_by_month(*window, self._time_zone))):
            charge = _billed(line, stretch, usd_micros, provider=self._rental.provider, rental=self._rental)
            if line.meter is Meter.GPU:
                lanes = self._lanes
                shares = split(usd_micros, {f"{index:04d}": 1 for index in range(len(lanes))})
                yield PostingDraft(
                    charge, self._entries(stretch, [shares[f"{index:04d}"] for index in range(len(lanes))])
                )
            else:
                yield PostingDraft(charge, self._shared(CATEGORY_OF_METER[line.meter], usd_micros, stretch))

    def _estimates(self, windows: Sequence[tuple[int, int]]) -> Iterator[PostingDraft]:
        by_month: defaultdict[str, list[MonthSlice]] = defaultdict(list)
        for start_ms, end_ms in windows:
            for stretch in cut_by_month(start_ms, end_ms, self._time_zone):
                if stretch.ms:
                    by_month[stretch.period].append(stretch)
        for period in sorted(by_month):
            yield self._estimate(period, by_month[period])

    def _estimate(self, period: str, stretches: Sequence[MonthSlice]) -> PostingDraft:
        rate = self._facts.price[0]
        entries: list[CostEntry] = []
        total = None if rate is None else 0
        for stretch in stretches:
            amount = None if rate is None else money_of(stretch, self._start_ms, rate)
            entries += self._entries(stretch, [amount] * len(self._lanes))
            total = None if total is None or amount is None else total + amount * len(self._lanes)
        window = MonthSlice(period, stretches[0].start_ms, stretches[-1].end_ms)
        return PostingDraft(estimate_of(self._facts, window, total), _merged(entries))

    # ------------------------------------------------------------ entries

    def _entries(self, stretch: MonthSlice, amounts: Sequence[int | None]) -> tuple[CostEntry, ...]:
        """The entries of a stretch, from the uses of its lanes; `amounts` is by lane, None where no price is known."""
        money, time = Charges(), Charges()
        for pieces, amount in zip(self._lanes, amounts, strict=True):
            uses = uses_in(pieces, stretch.start_ms, stretch.end_ms) or {(str(Category.UNOBSERVED), ""): 1}
            if amount is not None:
                money.add(amount, uses, self._calls)
            time.add(sum(uses.values()) if stretch.ms else 0, uses, self._calls)
        weights = self._weights_of(stretch)
        return entries_of(money, time, weights, is_priced=None not in amounts)

    def _shared(self, category: Category, usd_micros: int, stretch: MonthSlice) -> tuple[CostEntry, ...]:
        charges = Charges()
        charges.shared[category] = usd_micros
        settled = charges.settled(self._weights_of(stretch))
        return tuple(CostEntry(category, payer, micros, 0) for (payer, _), micros in sorted(settled.items()))


def on_lanes(lives: Iterable[WorkerLife]) -> Iterator[tuple[WorkerLife, str]]:
    """Each life with its lane; a life without one gets the first free lane, as each worker had a GPU of its own."""
    free_ms: list[int] = []  # when each of the unnamed lanes is free again
    for life in sorted(lives, key=lambda each: (each.start_ms, each.worker_id)):
        if life.lane:
            yield life, life.lane
            continue
        place = next((at for at, until_ms in enumerate(free_ms) if until_ms <= life.start_ms), len(free_ms))
        free_ms[place:] = [life.end_ms, *free_ms[place + 1 :]]
        yield life, f"#{place:04d}"


def _merged(entries: Iterable[CostEntry]) -> tuple[CostEntry, ...]:
    """One entry for each category and payer."""
    sums: dict[tuple[Category, CostObject], CostEntry] = {}
    for entry in entries:
        key = (entry.category, entry.payer)
        if (before := sums.get(key)) is None:
            sums[key] = entry
        else:
            micros = None if entry.usd_micros is None else (before.usd_micros or 0) + entry.usd_micros
            sums[key] = CostEntry(*key, micros, before.ms + entry.ms)
    return tuple(sums[key] for key in sorted(sums))


def money_of(stretch: MonthSlice, begin_ms: int, usd_micros_per_h: int) -> int:
    """The price of a lane's stretch at a rate, counted from the rental's start, so that parts add up to the whole."""
    before = time_usd_micros(stretch.start_ms - begin_ms, usd_micros_per_h)
    return time_usd_micros(stretch.end_ms - begin_ms, usd_micros_per_h) - before


def estimate_of(facts: RentalFacts, window: MonthSlice, usd_micros: int | None) -> Charge:
    """The charge for time of a rental that no bill covers, at the rental's price."""
    rate, sku, source = facts.price
    key = f"estimate:{facts.rental.rental_id}:{window.period}"
    charge = _charge(key, ChargeKind.ESTIMATE, Meter.GPU, window, usd_micros, rental=facts.rental)
    return charge._replace(sku=sku, rate_usd_micros_per_h=rate, source=source)


def entries_of(money: Charges, time: Charges, weights: Weights, *, is_priced: bool) -> tuple[CostEntry, ...]:
    """The entries of a rental's lanes: money and time by payer and category; no money where the price is unknown."""
    micros, ms = money.settled(weights), time.settled(weights)
    return tuple(
        CostEntry(category, payer, micros[payer, category] if is_priced else None, ms[payer, category])
        for payer, category in sorted({*micros, *ms}, key=lambda each: (each[1], each[0]))
    )


def draft_work(rental: Rental, tally: Tally, time_zone: str, *, first: str = "") -> Iterator[PostingDraft]:
    """The results of a rental without money (attempts, kept tracks, their audio), from the month `first` on."""
    for period in sorted({cut.period for cut, counts in tally.items() if counts.attempts and cut.period >= first}):
        month = MonthSlice(period, *bounds_of(period, time_zone))
        entries = (
            CostEntry(Category(cut.category), cut.payer, 0, 0, *counts[1:])
            for cut, counts in sorted(tally.items())
            if counts.attempts and cut.period == period
        )
        charge = _charge(f"work:{rental.rental_id}:{period}", ChargeKind.WORK, Meter.GPU, month, 0, rental=rental)
        yield PostingDraft(charge, tuple(entries))


def _charge(
    key: str, kind: ChargeKind, meter: Meter, window: MonthSlice, usd_micros: int | None, *, rental: Rental | None
) -> Charge:
    return Charge(
        key=key,
        kind=kind,
        meter=meter,
        rental_id=rental.rental_id if rental else None,
        provider=rental.provider if rental else "",
        gpu=rental.gpu if rental else "",
        market=rental.market if rental else "",
        region=rental.region if rental else "",
        sku="",
        applies_to=window.period,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        usd_micros=usd_micros,
        rate_usd_micros_per_h=None,
        source="",
        invoice_line_id=None,
    )


def _billed(
    line: BilledLine, window: MonthSlice, usd_micros: int, *, provider: str, rental: Rental | None = None
) -> Charge:
    key = f"line:{line.line_id}:{window.period}"
    charge = _charge(key, ChargeKind.BILLED, line.meter, window, usd_micros, rental=rental)
    return charge._replace(
        provider=provider, sku=line.sku, source=f"invoice {line.invoice}", invoice_line_id=line.line_id
    )


def _is_bucket(line: BilledLine) -> bool:
    """True when a window names only the days or the invoice in which a machine was used, and so states no time."""
    if line.quantity or line.start_ms is None or line.end_ms is None:
        return False
    of_invoice = (line.start_ms, line.end_ms) == (line.invoice_start_ms, line.invoice_end_ms)
    return of_invoice or not (line.start_ms % _DAY_MS or line.end_ms % _DAY_MS)


def _line_window(line: BilledLine, start_ms: int, end_ms: int) -> tuple[int, int]:
    """The line's own window, or the given one; at least a millisecond long, so that it lies in a month."""
    if line.start_ms is not None and line.end_ms is not None:
        start_ms, end_ms = line.start_ms, line.end_ms
    return start_ms, max(end_ms, start_ms + 1)


def _parts(usd_micros: int, stretches: Sequence[MonthSlice]) -> list[tuple[MonthSlice, int]]:
    """An amount divided among months by length; the parts add up to the amount."""
    parts = split(usd_micros, {stretch.period: stretch.ms for stretch in stretches})
    return [(stretch, parts[stretch.period]) for stretch in stretches]


def _uncovered(start_ms: int, end_ms: int, covered: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of a window outside all of `covered`."""
    left: list[tuple[int, int]] = []
    for covered_start_ms, covered_end_ms in sorted(covered):
        if covered_start_ms > start_ms:
            left.append((start_ms, min(covered_start_ms, end_ms)))
        start_ms = max(start_ms, covered_end_ms)
    left.append((start_ms, end_ms))
    return [(start, end) for start, end in left if end > start]


def _audio_weights(attempts: Iterable[AttemptFact]) -> Mapping[CostObject, int]:
    """The payers' weights by the audio that was asked for, used where no span records work."""
    weights: Counter[CostObject] = Counter()
    for attempt in attempts:
        weights[attempt.payer] += max(1, attempt.audio_ms)
    return weights

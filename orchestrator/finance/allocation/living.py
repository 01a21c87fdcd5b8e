"""Provisional costs: the cost so far of a rental that still runs, from the tallies of its workers.

These costs are not posted. Each payer's part may differ by micro-dollars from the later posting, because money is split
over sums here and over single calls there. The total of a month is the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import reduce

from orchestrator.finance.allocation.allocation import Calls, Charges, Weights, split_over
from orchestrator.finance.allocation.charges import Meter, Sharing
from orchestrator.finance.allocation.posting import (
    PostingDraft,
    RentalFacts,
    draft_work,
    entries_of,
    estimate_of,
    money_of,
    on_lanes,
    shared_by,
)
from orchestrator.finance.allocation.tally import NOBODY, SILENCE, Tally, WorkerTime, added
from orchestrator.finance.months import MonthSlice, bounds_of, cut_by_month, month_of
from orchestrator.ledger.observations import Category, CostObject, WorkerLife

Uses = Counter[tuple[Category, CostObject]]  # milliseconds; shared time belongs to NOBODY


def draft_living(
    facts: RentalFacts, times: Mapping[str, WorkerTime], time_zone: str, sharing: Sharing = Sharing.BUSY
) -> list[PostingDraft] | None:
    """The postings for a running rental's open months; `times` is by worker, `facts` has no spans or attempts.

    None for a rental whose tallies do not suffice: one that is billed within these months, whose lanes two workers used
    at a time, whose paid window differs from its workers' lives, or that has not worked on takes yet.
    """
    start_ms, end_ms = facts.window
    first = month_of(facts.complete_through_ms, time_zone)
    first_ms, _ = bounds_of(first, time_zone)
    if not times or any(line.invoice_end_ms > first_ms for line in facts.lines if line.meter is not Meter.TOPUP):
        return None
    calls = Calls((attempt for time in times.values() for attempt in time.attempts), facts.losses)
    tallies = {worker_id: time.whole(calls, time_zone) for worker_id, time in times.items()}
    lanes = _lanes(facts, tallies, time_zone)
    drafts = []
    for stretch in cut_by_month(max(start_ms, first_ms), end_ms, time_zone):
        of_month = [lane[stretch.period] for lane in lanes]
        weights = _weights(of_month) or _weights([uses for lane in lanes for uses in lane.values()])
        if not weights or any(uses.total() != stretch.ms for uses in of_month):
            return None
        drafts.append(_estimate(facts, stretch, of_month, shared_by(sharing, weights), start_ms))
    return drafts + list(draft_work(facts.rental, reduce(added, tallies.values()), time_zone, first=first))


def _lanes(facts: RentalFacts, tallies: Mapping[str, Tally], time_zone: str) -> list[defaultdict[str, Uses]]:
    """The uses of each GPU, by month; a GPU that never had a worker is included, because it was rented too."""
    start_ms, end_ms = facts.window
    lives: defaultdict[str, list[WorkerLife]] = defaultdict(list)
    for life, lane in on_lanes(facts.lives):
        lives[lane].append(life)
    lanes = []
    for lane in [*sorted(lives), *[""] * (facts.rental.gpu_count - len(lives))]:
        uses: defaultdict[str, Uses] = defaultdict(Counter)
        reached_ms = start_ms
        for life in lives.get(lane, ()):
            _add_unseen(uses, reached_ms, life.start_ms, time_zone)
            for cut, counts in tallies[life.worker_id].items():
                category = life.silence if cut.category == SILENCE else Category(cut.category)
                uses[cut.period][category, cut.payer] += counts.ms
            reached_ms = life.end_ms
        _add_unseen(uses, reached_ms, end_ms, time_zone)
        lanes.append(uses)
    return lanes


def _add_unseen(uses: defaultdict[str, Uses], start_ms: int, end_ms: int, time_zone: str) -> None:
    for stretch in cut_by_month(start_ms, max(start_ms, end_ms), time_zone):
        uses[stretch.period][Category.UNOBSERVED, NOBODY] += stretch.ms


def _weights(lanes: Sequence[Uses]) -> Counter[CostObject]:
    """Milliseconds of engine time for each payer."""
    weights: Counter[CostObject] = Counter()
    for uses in lanes:
        for (_, payer), ms in uses.items():
            if ms and payer != NOBODY:
                weights[payer] += ms
    return weights


def _estimate(
    facts: RentalFacts, stretch: MonthSlice, lanes: Sequence[Uses], weights: Weights, start_ms: int
) -> PostingDraft:
    rate = facts.price[0]
    amount = None if rate is None else money_of(stretch, start_ms, rate)
    money, time = Charges(), Charges()
    for uses in lanes:
        _hand_down(money, amount or 0, uses)
        _hand_down(time, stretch.ms, uses)
    entries = entries_of(money, time, weights, is_priced=amount is not None)
    return PostingDraft(estimate_of(facts, stretch, None if amount is None else amount * len(lanes)), entries)


def _hand_down(charges: Charges, amount: int, uses: Uses) -> None:
    for (category, payer), part in split_over(amount, uses).items():
        if payer == NOBODY:
            charges.shared[category] += part
        else:
            charges.direct[payer, category] += part

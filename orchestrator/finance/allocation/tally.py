"""Tallies: sums of the work on a rental that still runs, so that only new spans and attempts need to be read.

A tally counts milliseconds, tracks and attempts by month; the order of adding does not matter. A worker's spans are
added up to a cut point that no engine call crosses, once a further attempt of the calls before it is unlikely. Spans
and attempts that arrive later must lie behind the cut point; otherwise the rental is read anew.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter
from typing import Final, NamedTuple

from orchestrator.finance.allocation.allocation import IN_ORDER, Calls, as_known, split_over
from orchestrator.finance.months import MonthSlice, bounds_of, cut_by_month, month_of
from orchestrator.ledger.observations import BUSY_STATES, AttemptFact, Category, CostObject, SpanTime, WorkerLife

NOBODY: Final = CostObject("", "", "", "")  # of time that the payers share
SILENCE: Final = ""  # in place of a category: no span tells of it


class SegmentKey(NamedTuple):
    """The columns that tell the sums of a tally apart."""

    period: str
    category: str  # or SILENCE
    payer: CostObject  # or NOBODY


class WorkCounts(NamedTuple):
    """The counts in one row of a tally."""

    ms: int = 0
    tracks: int = 0
    attempts: int = 0
    audio_ms: int = 0  # of accepted takes


Tally = dict[SegmentKey, WorkCounts]


class Cursor(NamedTuple):
    """The position up to which a worker's time is added up.

    Attempts after `spans_ms` are read again, because they may belong to later calls. Attempts before `attempts_ms`, and
    all that name a call of these spans, have been counted.
    """

    spans_ms: int = 0  # spans that begin before it are added up
    attempts_ms: int = 0  # attempts made before it are
    reached_ms: int = 0  # where those spans end


@dataclass
class WorkerTime:
    """The time of a worker on a rental that still runs: its tally, and the facts since."""

    life: WorkerLife
    tally: Tally = field(default_factory=dict)
    mark: Cursor = field(default_factory=Cursor)
    spans: list[SpanTime] = field(default_factory=list)
    attempts: list[AttemptFact] = field(default_factory=list)

    def whole(self, calls: Calls, time_zone: str) -> Tally:
        """The tally of the worker's whole life."""
        fresh = [attempt for attempt in self.attempts if attempt.at_ms >= self.mark.attempts_ms]
        spans = [as_known(span, self.life, calls) for span in self.spans]
        whole = added(self.tally, count(spans, fresh, calls, self.reached_ms, time_zone))
        known_ms = max([self.reached_ms, *(span.end_ms for span in self.spans)])
        shares = calls.of((Category.LOST, self.life.worker_id)) if self.life.is_over else None
        for stretch in cut_by_month(known_ms, max(known_ms, self.life.end_ms), time_zone):
            silent = {SegmentKey(stretch.period, SILENCE, NOBODY): WorkCounts(stretch.ms)}
            if shares:
                parts = split_over(stretch.ms, shares)
                silent = {
                    SegmentKey(stretch.period, category, payer): WorkCounts(ms)
                    for (payer, category), ms in parts.items()
                }
            whole = added(whole, silent)
        return whole

    def kept(self, calls: Calls, time_zone: str, before_ms: int) -> tuple[Tally, Cursor] | None:
        """The tally with all that can be added for good, and the cursor behind it; None when nothing can be added.

        Only time before `before_ms` is added, because a later attempt may still name a call that ended after it.
        """
        self.spans.sort(key=attrgetter(*IN_ORDER))
        cut = find_cut(self.spans, self.attempts, before_ms)
        if cut is None:
            return None
        over = self.spans[: cut.spans]
        spans_ms = over[-1].start_ms + 1
        mark = Cursor(
            spans_ms,
            max(self.mark.attempts_ms, cut.latest_ms + 1, spans_ms),
            max(self.reached_ms, *(span.end_ms for span in over)),
        )
        made = [each for each in self.attempts if self.mark.attempts_ms <= each.at_ms < mark.attempts_ms]
        return added(self.tally, count(over, made, calls, self.reached_ms, time_zone)), mark

    @property
    def reached_ms(self) -> int:
        """The instant up to which the worker's time is in the tally."""
        return self.mark.reached_ms or self.life.start_ms


def added(tally: Tally, more: Tally) -> Tally:
    """The sum of two tallies."""
    whole = dict(tally)
    for cut, counts in more.items():
        before = whole.get(cut)
        whole[cut] = WorkCounts(*map(sum, zip(before, counts, strict=True))) if before else counts
    return whole


def count(
    spans: Iterable[SpanTime], attempts: Iterable[AttemptFact], calls: Calls, reached_ms: int, time_zone: str
) -> Tally:
    """Add up a worker's spans and attempts; `calls` must know all takes of their calls.

    A span's time begins where the span before it ended; a gap between two spans is SILENCE.
    """
    ms: Counter[SegmentKey] = Counter()
    uses: Counter[tuple[str, str, str]] = Counter()  # by month, state and call
    for period, state, call_id, length_ms in _pieces(spans, reached_ms, time_zone):
        uses[period, state, call_id if state in BUSY_STATES else ""] += length_ms
    for (period, state, call_id), length_ms in uses.items():
        if state not in BUSY_STATES:
            ms[SegmentKey(period, state, NOBODY)] += length_ms
        elif shares := calls.of((state, call_id)):
            for (payer, category), part in split_over(length_ms, shares).items():
                ms[SegmentKey(period, category, payer)] += part
        else:
            ms[SegmentKey(period, Category.LOST, NOBODY)] += length_ms
    tally = {cut: WorkCounts(length_ms) for cut, length_ms in ms.items()}
    return added(tally, count_work(attempts, time_zone))


def _pieces(spans: Iterable[SpanTime], reached_ms: int, time_zone: str) -> Iterator[tuple[str, str, str, int]]:
    """(month, state, call, milliseconds) for each span and for the silence between spans."""
    month = MonthSlice("", 0, 0)
    for span in sorted(spans, key=attrgetter(*IN_ORDER)):
        start_ms = max(span.start_ms, reached_ms)
        for state, call_id, begin_ms, end_ms in (
            (SILENCE, "", reached_ms, start_ms),
            (span.state, span.batch_id, start_ms, span.end_ms),
        ):
            if end_ms <= begin_ms:
                continue
            if not month.start_ms <= begin_ms < month.end_ms:
                period = month_of(begin_ms, time_zone)
                month = MonthSlice(period, *bounds_of(period, time_zone))
            if end_ms <= month.end_ms:
                yield month.period, state, call_id, end_ms - begin_ms
            else:
                for stretch in cut_by_month(begin_ms, end_ms, time_zone):
                    yield stretch.period, state, call_id, stretch.ms
        reached_ms = max(reached_ms, span.end_ms)


def count_work(attempts: Iterable[AttemptFact], time_zone: str) -> Tally:
    """The results of attempts, by the month in which they ended: attempts, kept tracks and their audio."""
    work: defaultdict[SegmentKey, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    month = MonthSlice("", 0, 0)
    for attempt in attempts:
        if attempt.adopted:
            continue
        if not month.start_ms <= attempt.at_ms < month.end_ms:
            period = month_of(attempt.at_ms, time_zone)
            month = MonthSlice(period, *bounds_of(period, time_zone))
        counts = work[SegmentKey(month.period, attempt.outcome, attempt.payer)]
        kept = attempt.outcome is Category.ACCEPTED
        counts[1] += kept
        counts[2] += 1
        counts[3] += attempt.audio_ms if kept else 0
    return {cut: WorkCounts(*counts) for cut, counts in work.items()}


# ---------------------------------------------------------------- the mark


class CutPoint(NamedTuple):
    """A place at which a worker's spans can be cut."""

    spans: int  # so many of them lie before it
    latest_ms: int  # when the latest attempt was made that names a call among these; -1 without any


def find_cut(spans: Sequence[SpanTime], attempts: Iterable[AttemptFact], before_ms: int) -> CutPoint | None:
    """The last place in a worker's ordered spans before which nothing will change any more; None where there is none.

    Before this place, all spans and all attempts that name their calls were over before `before_ms`. No call lies on
    both sides, and no attempt of a later call is older than the place.
    """
    place_of: dict[str, tuple[int, int]] = {}
    for place, span in enumerate(spans):
        if span.state in BUSY_STATES:
            place_of[span.batch_id] = place_of.get(span.batch_id, (place, place))[0], place
    barred = _barred(place_of.values(), len(spans))
    latest_ms, earliest_ms = [-1] * (len(spans) + 1), [2**62] * (len(spans) + 1)
    for attempt in attempts:
        for call_id in (attempt.plan_id, attempt.batch_id):
            if call_id in place_of:
                first, last = place_of[call_id]
                latest_ms[first + 1] = max(latest_ms[first + 1], attempt.at_ms)
                earliest_ms[last] = min(earliest_ms[last], attempt.at_ms)
    latest_ms, earliest_ms = list(accumulate(latest_ms, max)), list(accumulate(reversed(earliest_ms), min))[::-1]
    ends_ms = list(accumulate((span.end_ms for span in spans), max))
    for cut in range(len(spans), 0, -1):
        is_over = max(ends_ms[cut - 1], latest_ms[cut]) < before_ms
        if is_over and not barred[cut] and earliest_ms[cut] > spans[cut - 1].start_ms:
            return CutPoint(cut, latest_ms[cut])
    return None


def _barred(reaches: Iterable[tuple[int, int]], after: int) -> list[bool]:
    """For each place, True when a call or an attempt extends from before it to behind it."""
    begins = [0] * (after + 2)
    for first, last in reaches:
        begins[first + 1] += 1
        begins[last + 1] -= 1
    open_, barred = 0, []
    for place in range(after + 1):
        open_ += begins[place]
        barred.append(open_ > 0)
    return barred

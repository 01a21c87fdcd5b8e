"""Allocation: the cost of a rental, divided among the takes that were worked on.

Stage 1 splits an amount over the activities of the rental's lanes in the rental's window, by length. A lane is one GPU.
A stretch that no span covers is `lost` when it lies within the life of a worker that ended without reporting it, and
`unobserved` elsewhere (minimum charges, rounded minutes, a machine without a worker). The cost of a render span goes to
the attempts of its batch, the cost of a plan span to the attempts that were rendered from its planner call; attempts
share it by the audio that each asked for. The last stretch of a lost worker goes to the takes that it held.

Stage 2 divides the shared costs (startup, idle, disks, ...) among the cost objects by the engine time of each in that
month. Wasted takes count, so that a catalog that throws takes away pays for the warm-up they used. The parts add up to
the amount exactly, in micro-dollars as in milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from catalog.split import split
from orchestrator.ledger.observations import (
    BUSY_STATES,
    CALLS_OVER_MS,
    UNALLOCATED,
    AttemptFact,
    Category,
    CostObject,
    SpanTime,
    WorkerLife,
)


class Segment(NamedTuple):
    """A stretch of a lane's time with one use; the segments of a lane cover its window."""

    start_ms: int
    end_ms: int
    state: str  # of a span, or lost or unobserved
    call_id: str  # of a busy one its batch or planner call, of the last of a lost worker its id

    def ms_in(self, start_ms: int, end_ms: int) -> int:
        """The length of the segment's part within that window."""
        return max(0, min(self.end_ms, end_ms) - max(self.start_ms, start_ms))


# Of spans: two that claim the same stretch are ordered by their content, never by their arrival.
IN_ORDER: Final = ("start_ms", "end_ms", "state", "batch_id", "cause")

Use = tuple[str, str]  # (state, call): the use of a stretch of time
Payers = Mapping[tuple[CostObject, Category], int]  # weights
Weights = Mapping[CostObject, int]


def pieces_of(
    lives: Iterable[WorkerLife], spans: Mapping[str, Sequence[SpanTime]], start_ms: int, end_ms: int
) -> list[Segment]:
    """The segments of one lane from `start_ms` to `end_ms`, from the lives of its workers and their spans.

    Where two workers claim the lane at the same time, the time belongs to the earlier one.
    """
    pieces: list[Segment] = []
    reached_ms = start_ms
    for life in sorted(lives, key=attrgetter("start_ms", "worker_id")):
        if life.start_ms > reached_ms:
            pieces.append(Segment(reached_ms, min(life.start_ms, end_ms), Category.UNOBSERVED, ""))
        pieces += _of_life(life, spans.get(life.worker_id, ()), max(life.start_ms, reached_ms))
        reached_ms = max(reached_ms, life.end_ms)
    if reached_ms < end_ms:
        pieces.append(Segment(reached_ms, end_ms, Category.UNOBSERVED, ""))
    return [piece for piece in pieces if piece.end_ms > piece.start_ms]


def _of_life(life: WorkerLife, spans: Sequence[SpanTime], reached_ms: int) -> Iterator[Segment]:
    """The segments of a worker's life from an instant on; time that two spans claim belongs to the earlier one."""
    for span in sorted(spans, key=attrgetter(*IN_ORDER)):
        start_ms, end_ms = max(span.start_ms, reached_ms), min(span.end_ms, life.end_ms)
        if end_ms <= start_ms:
            continue
        if start_ms > reached_ms:
            yield Segment(reached_ms, start_ms, life.silence, "")
        yield Segment(start_ms, end_ms, span.state, span.batch_id if span.state in BUSY_STATES else "")
        reached_ms = end_ms
    if reached_ms < life.end_ms:
        yield Segment(reached_ms, life.end_ms, life.silence, life.worker_id if life.is_over else "")


def uses_in(pieces: Iterable[Segment], start_ms: int, end_ms: int) -> dict[Use, int]:
    """Milliseconds by use within a window."""
    uses: Counter[Use] = Counter()
    for piece in pieces:
        if ms := piece.ms_in(start_ms, end_ms):
            uses[str(piece.state), piece.call_id] += ms
    return dict(uses)


class Calls:
    """The takes of each planner call and batch, and their shares, by the audio that each take asked for.

    `losses` are the takes that workers held when they were lost; they share the last silence of those workers.
    """

    def __init__(self, attempts: Iterable[AttemptFact], losses: Iterable[AttemptFact] = ()) -> None:
        self._shares: dict[Use, dict[tuple[CostObject, Category], int]] = {}
        for attempt in attempts:
            # A plan may outlive a failed try: then its call is shared by all tries it was used for, each counted once.
            for use in (("plan", attempt.plan_id), ("render", attempt.batch_id)):
                if use[1]:  # an adopted one was in none
                    self._add(use, attempt)
        for loss in losses:
            self._add((str(Category.LOST), loss.worker_id), loss)

    def _add(self, use: Use, attempt: AttemptFact) -> None:
        shares, who = self._shares.setdefault(use, {}), (attempt.payer, attempt.outcome)
        shares[who] = shares.get(who, 0) + max(1, attempt.audio_ms)

    def of(self, use: Use) -> Payers | None:
        """The shares of a call; None when nothing is known of its takes."""
        return self._shares.get(use)


def calls_over_ms(life: WorkerLife, latest_ms: int) -> int:
    """The time on the worker's clock before which its calls are over; all are when it ended long before `latest_ms`."""
    return (max(life.end_ms, latest_ms - 2 * CALLS_OVER_MS) if life.is_over else life.end_ms) - CALLS_OVER_MS


def as_known(span: SpanTime, life: WorkerLife | None, calls: Calls) -> SpanTime:
    """The same span; without its work when a living worker may still report attempts of its call."""
    may_be_told = life is not None and not life.is_over and span.end_ms >= life.end_ms - CALLS_OVER_MS
    if may_be_told and span.state in BUSY_STATES and not calls.of((span.state, span.batch_id)):
        return span._replace(state=str(Category.UNOBSERVED), batch_id="")
    return span


class Charges:
    """Amounts by payer and category; shared costs wait in `shared` for stage 2."""

    def __init__(self) -> None:
        self.direct: Counter[tuple[CostObject, Category]] = Counter()
        self.shared: Counter[Category] = Counter()

    def add(self, amount: int, uses: Mapping[Use, int], calls: Calls) -> None:
        """Stage 1: divide `amount` among the uses of a lane. Raises TunemillError when the lane has no uses."""
        for use, part in split(amount, uses).items():
            state = use[0]
            if shares := calls.of(use):
                for who, share in split_over(part, shares).items():
                    self.direct[who] += share
            else:
                self.shared[Category.LOST if state in BUSY_STATES else Category(state)] += part

    def settled(self, weights: Weights) -> Counter[tuple[CostObject, Category]]:
        """Stage 2: divide the shared costs among the cost objects; returns all amounts, by payer and category."""
        whole = Counter(self.direct)
        for category, part in self.shared.items():
            for payer, share in split_over(part, weights or {UNALLOCATED: 1}).items():
                whole[payer, category] += share
        return whole


def busy_weights(pieces: Iterable[Segment], calls: Calls, start_ms: int, end_ms: int) -> Counter[CostObject]:
    """Milliseconds of engine time for each cost object in a window, wasted and lost takes included."""
    charges = Charges()
    busy = (piece for piece in pieces if piece.state in BUSY_STATES or calls.of((str(piece.state), piece.call_id)))
    if uses := uses_in(busy, start_ms, end_ms):
        charges.add(sum(uses.values()), uses, calls)
    weights: Counter[CostObject] = Counter()
    for (payer, _), ms in charges.direct.items():
        weights[payer] += ms
    return weights


Key = TypeVar("Key", bound=tuple[Any, ...])


def split_over(amount: int, weights: Mapping[Key, int]) -> Mapping[Key, int]:
    """The same as `split`, but faster for a single payer, which most calls have."""
    if len(weights) == 1:
        return dict.fromkeys(weights, amount)
    return split(amount, weights)

"""Allocation: what a rental cost, handed down to the takes that were worked on.

Stage 1 splits an amount over what the rental's lanes did in its window, by length. A lane is one GPU; a stretch of it
that no span covers is `lost` within the life of a worker that ended without reporting it, and `unobserved` elsewhere:
minimums, rounded minutes, a machine without a worker. A render span goes on to the attempts of its batch, a plan span
to those that were rendered from its planner call, by the audio each asked for; the last stretch of a worker that was
lost to the takes it held. Stage 2 hands what they share (startup, idle, disks, ...) to the cost objects by the time
that engines worked for each in that month, wasted takes included: who throws takes away pays for the warm-up they used.
The parts add up to the amount exactly, whatever it counts: micro-dollars or milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from orchestrator.costs.split import split

MS_PER_H: Final = 3_600_000


def time_usd_micros(ms: int, usd_micros_per_h: int) -> int:
    """What `ms` of a worker cost at its rate, rounded down: the one rule by which time becomes money."""
    return ms * usd_micros_per_h // MS_PER_H


class Category(StrEnum):
    """What a stretch of paid time was for."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"
    LOST = "lost"  # a batch was rendered and nothing is known of its takes, or its worker died before it said anything
    STARTUP = "startup"
    IDLE = "idle"
    POST = "post"  # the engine had ended, and what it had made was still checked, mastered and uploaded
    TEARDOWN = "teardown"
    UNOBSERVED = "unobserved"  # paid, but no span says for what: minimums, rounded minutes, a pod without a worker
    STORAGE = "storage"
    EGRESS = "egress"
    CREDIT = "credit"
    TAX = "tax"


CALLS_OVER_MS: Final = 1_800_000  # a call that was over so long ago is named by no later attempt, unless by a stray
BUSY_STATES: Final = ("plan", "render")  # of spans in which the engine works on takes
WASTED: Final = frozenset({Category.REJECTED, Category.FAILED, Category.LOST})


class CostObject(NamedTuple):
    """Who pays: the finest cut that a report can make."""

    catalog: str
    zone: str
    genre: str
    run_id: str


# Time of workers that never worked for anybody; a row of its own, never left out.
UNALLOCATED: Final = CostObject("unallocated", "unallocated", "unallocated", "unallocated")


class WorkerLife(NamedTuple):
    """How long a worker was there, and the price that was in force when it started."""

    worker_id: str
    gpu: str
    start_ms: int
    end_ms: int  # its end, or when it was last seen
    rate_usd_micros_per_h: int | None  # None: unknown, never zero
    price_source: str = ""
    is_over: bool = False  # nothing more will be reported of it
    lane: str = ""  # its device on the rented machine
    sku: str = ""

    @property
    def silence(self) -> Category:
        """What the time is that no span covers."""
        return Category.LOST if self.is_over else Category.UNOBSERVED

    @property
    def ms(self) -> int:
        """Length of its life."""
        return max(0, self.end_ms - self.start_ms)

    @property
    def usd_micros(self) -> int | None:
        """Its time at its rate, or None when the rate is unknown."""
        rate = self.rate_usd_micros_per_h
        return None if rate is None else time_usd_micros(self.ms, rate)


class SpanTime(NamedTuple):
    """A stretch of a worker's time, as it reported it."""

    worker_id: str
    start_ms: int
    end_ms: int
    state: str
    batch_id: str  # of a plan span the planner call
    cause: str = ""  # of an idle span


class AttemptFact(NamedTuple):
    """One try at one take. `audio_ms` is the take's planned length when nothing was rendered.

    Of several accepted attempts at a take one is the track that is kept: the others' time is lost.
    """

    take_id: str
    worker_id: str
    batch_id: str
    outcome: Category  # accepted, rejected, failed or lost
    audio_ms: int
    payer: CostObject
    plan_id: str = ""  # the planner call it was rendered from; empty without one
    at_ms: int = 0
    adopted: bool = False  # found in the store: no time went into it


class Piece(NamedTuple):
    """What a lane did in a stretch of time; the pieces of a lane cover its window."""

    start_ms: int
    end_ms: int
    state: str  # of a span, or lost or unobserved
    call_id: str  # of a busy one its batch or planner call, of the last of a lost worker its id

    def ms_in(self, start_ms: int, end_ms: int) -> int:
        """Length of its part in that window."""
        return max(0, min(self.end_ms, end_ms) - max(self.start_ms, start_ms))


Use = tuple[str, str]  # (state, call): what a stretch of time was for
Payers = Mapping[tuple[CostObject, Category], int]  # weights
Weights = Mapping[CostObject, int]


def pieces_of(
    lives: Iterable[WorkerLife], spans: Mapping[str, Sequence[SpanTime]], start_ms: int, end_ms: int
) -> list[Piece]:
    """What one lane did from `start_ms` to `end_ms`, by the lives of its workers and their spans.

    Where two workers say that they had the lane at the same time, it is the earlier one's.
    """
    pieces: list[Piece] = []
    reached_ms = start_ms
    for life in sorted(lives, key=attrgetter("start_ms", "worker_id")):
        if life.start_ms > reached_ms:
            pieces.append(Piece(reached_ms, min(life.start_ms, end_ms), Category.UNOBSERVED, ""))
        pieces += _of_life(life, spans.get(life.worker_id, ()), max(life.start_ms, reached_ms))
        reached_ms = max(reached_ms, life.end_ms)
    if reached_ms < end_ms:
        pieces.append(Piece(reached_ms, end_ms, Category.UNOBSERVED, ""))
    return [piece for piece in pieces if piece.end_ms > piece.start_ms]


def _of_life(life: WorkerLife, spans: Sequence[SpanTime], reached_ms: int) -> Iterator[Piece]:
    """The pieces of a life from an instant on: time that two spans claim belongs to the earlier one."""
    for span in sorted(spans, key=attrgetter("start_ms", "end_ms")):
        start_ms, end_ms = max(span.start_ms, reached_ms), min(span.end_ms, life.end_ms)
        if end_ms <= start_ms:
            continue
        if start_ms > reached_ms:
            yield Piece(reached_ms, start_ms, life.silence, "")
        yield Piece(start_ms, end_ms, span.state, span.batch_id if span.state in BUSY_STATES else "")
        reached_ms = end_ms
    if reached_ms < life.end_ms:
        yield Piece(reached_ms, life.end_ms, life.silence, life.worker_id if life.is_over else "")


def uses_in(pieces: Iterable[Piece], start_ms: int, end_ms: int) -> dict[Use, int]:
    """Milliseconds by use within a window."""
    uses: Counter[Use] = Counter()
    for piece in pieces:
        if ms := piece.ms_in(start_ms, end_ms):
            uses[str(piece.state), piece.call_id] += ms
    return dict(uses)


class Calls:
    """Who was in each planner call and batch, and how they share it: by the audio that each take asked for.

    `losses` are the takes that workers held when they were lost; they share those workers' last silence.
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
    """Before when a worker's calls are over, by its own clock; of one that ended long before `latest_ms` all are."""
    return (max(life.end_ms, latest_ms - 2 * CALLS_OVER_MS) if life.is_over else life.end_ms) - CALLS_OVER_MS


def as_known(span: SpanTime, life: WorkerLife | None, calls: Calls) -> SpanTime:
    """The same span; one of a call of which a living worker may yet tell says no more than that time has passed."""
    may_be_told = life is not None and not life.is_over and span.end_ms >= life.end_ms - CALLS_OVER_MS
    if may_be_told and span.state in BUSY_STATES and not calls.of((span.state, span.batch_id)):
        return span._replace(state=str(Category.UNOBSERVED), batch_id="")
    return span


class Charges:
    """Amounts by payer and category; what all share waits in `shared` for stage 2."""

    def __init__(self) -> None:
        self.direct: Counter[tuple[CostObject, Category]] = Counter()
        self.shared: Counter[Category] = Counter()

    def add(self, amount: int, uses: Mapping[Use, int], calls: Calls) -> None:
        """Stage 1: hand `amount` down over the uses of a lane. Raises TunemillError when there are none."""
        for use, part in split(amount, uses).items():
            state = use[0]
            if shares := calls.of(use):
                for who, share in split_over(part, shares).items():
                    self.direct[who] += share
            else:
                self.shared[Category.LOST if state in BUSY_STATES else Category(state)] += part

    def settled(self, weights: Weights) -> Counter[tuple[CostObject, Category]]:
        """Stage 2: what is shared goes to the cost objects; all of it, by payer and category."""
        whole = Counter(self.direct)
        for category, part in self.shared.items():
            for payer, share in split_over(part, weights or {UNALLOCATED: 1}).items():
                whole[payer, category] += share
        return whole


def busy_weights(pieces: Iterable[Piece], calls: Calls, start_ms: int, end_ms: int) -> Counter[CostObject]:
    """Milliseconds that engines worked for each cost object in a window, wasted and lost takes included."""
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
    """As `split`, and quicker: most calls have one payer."""
    if len(weights) == 1:
        return dict.fromkeys(weights, amount)
    return split(amount, weights)

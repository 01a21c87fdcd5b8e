"""Allocation: what a worker's time cost, handed down to the takes it worked on.

Stage 1 splits the worker's amount over its spans by their length; time that no span covers is `lost` with a worker
that has ended and did not live to report it, and `unobserved` while it may still do so.
A render span goes on to the attempts of its batch, a plan span to those that were rendered from its planner
call. Stage 2 hands what they share (startup, idle, ...) to the cost objects by the engine time each took,
wasted takes included: who throws takes away pays for the warm-up they used. The parts add up to the amount
exactly, whatever it counts: micro-dollars or milliseconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Final, NamedTuple

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
    """How long a worker was paid for, and the price that was in force when it started."""

    worker_id: str
    gpu: str
    start_ms: int
    end_ms: int  # its end, or when it was last seen
    rate_usd_micros_per_h: int | None  # None: unknown, never zero
    price_source: str = ""
    is_over: bool = False  # nothing more will be reported of it

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

    def ms_within(self, life: WorkerLife) -> int:
        """Length of its part that lies in `life`."""
        return max(0, min(self.end_ms, life.end_ms) - max(self.start_ms, life.start_ms))


class AttemptFact(NamedTuple):
    """One try at one take. `audio_ms` is the take's planned length when nothing was rendered."""

    take_id: str
    worker_id: str
    batch_id: str
    outcome: str
    engine_ms: int
    audio_ms: int
    payer: CostObject
    plan_id: str = ""  # the planner call it was rendered from; empty without one


Charges = Counter[tuple[CostObject, Category]]


def allocate(amount: int, life: WorkerLife, spans: Iterable[SpanTime], attempts: Iterable[AttemptFact]) -> Charges:
    """Hand `amount` down to the cost objects of one worker's `attempts`; the charges add up to it exactly."""
    attempts = list(attempts)
    # A plan may outlive a failed try: then its call is shared by all tries it was used for, each counted once.
    together = {
        "plan": _by_call(attempts, attrgetter("plan_id")),
        "render": _by_call(attempts, attrgetter("batch_id")),
    }
    charges: Charges = Counter()
    shared: Counter[Category] = Counter()
    for (state, batch_id), part in split(amount, _span_weights(life, spans)).items():
        if state not in together:
            shared[Category(state)] += part
        elif batch_id in together[state]:
            charges.update(_split_call(part, together[state][batch_id]))
        else:
            shared[Category.LOST] += part
    weights = _object_weights(attempts)
    for category, part in shared.items():
        for payer, share in split(part, weights).items():
            charges[CostObject(*payer), category] += share
    return charges


def _span_weights(life: WorkerLife, spans: Iterable[SpanTime]) -> dict[tuple[str, str], int]:
    """Milliseconds by (state, batch) over the whole life, unreported time included; never all zero."""
    weights: Counter[tuple[str, str]] = Counter()
    for span in spans:
        weights[span.state, span.batch_id if span.state in BUSY_STATES else ""] += span.ms_within(life)
    silence = str(life.silence)
    weights[silence, ""] = max(0, life.ms - weights.total())
    if not weights.total():
        weights[silence, ""] = 1
    return dict(weights)


def _by_call(attempts: Sequence[AttemptFact], call_of: Callable[[AttemptFact], str]) -> Mapping[str, list[AttemptFact]]:
    """Attempts by the planner call or batch they were in; an adopted one was in none."""
    calls: defaultdict[str, list[AttemptFact]] = defaultdict(list)
    for attempt in attempts:
        if call_id := call_of(attempt):
            calls[call_id].append(attempt)
    return calls


def _split_call(part: int, attempts: Sequence[AttemptFact]) -> Charges:
    """What is planned or rendered together is paid for by the audio that each take asked for."""
    weights: Counter[tuple[str, ...]] = Counter()
    for attempt in attempts:
        weights[(*attempt.payer, attempt.outcome)] += max(1, attempt.audio_ms)
    return Counter({(CostObject(*key[:4]), Category(key[4])): share for key, share in split(part, weights).items()})


def _object_weights(attempts: Sequence[AttemptFact]) -> Mapping[tuple[str, ...], int]:
    """Engine time by payer; where none was measured, audio length; without any attempt all is unallocated."""
    by_engine: Counter[tuple[str, ...]] = Counter()
    by_audio: Counter[tuple[str, ...]] = Counter()
    for attempt in attempts:
        by_engine[attempt.payer] += attempt.engine_ms
        by_audio[attempt.payer] += attempt.audio_ms
    return by_engine if by_engine.total() else by_audio if by_audio.total() else {UNALLOCATED: 1}

"""Observations: the ledger's facts about rented time, as plain values for planning and finance."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

MS_PER_H: Final = 3_600_000


def time_usd_micros(ms: int, usd_micros_per_h: int) -> int:
    """The cost of `ms` of a worker's time at its rate, rounded down: the one rule by which time becomes money."""
    return ms * usd_micros_per_h // MS_PER_H


class Category(StrEnum):
    """The purpose of a stretch of paid time."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"
    LOST = "lost"  # a batch was rendered and nothing is known of its takes, or its worker died before it said anything
    STARTUP = "startup"
    IDLE = "idle"
    POST = "post"  # the engine had ended, and its last takes were still checked, mastered and uploaded
    TEARDOWN = "teardown"
    UNOBSERVED = "unobserved"  # paid, but covered by no span: minimums, rounded minutes, a pod without a worker
    STORAGE = "storage"
    EGRESS = "egress"
    CREDIT = "credit"
    TAX = "tax"


CALLS_OVER_MS: Final = 1_800_000  # a call that was over so long ago is named by no later attempt, unless by a stray


BUSY_STATES: Final = ("plan", "render")  # of spans in which the engine works on takes


class CostObject(NamedTuple):
    """The payer of a cost: the finest cut that a report can make."""

    catalog: str
    zone: str
    genre: str
    run_id: str


# Time of workers that never worked on a take; a row of its own, never left out.
UNALLOCATED: Final = CostObject("unallocated", "unallocated", "unallocated", "unallocated")


class WorkerLife(NamedTuple):
    """The lifetime of a worker, and the price that was in force when it started."""

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
        """The category of the worker's time that no span covers."""
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


class Machine(NamedTuple):
    """The properties of a machine by which its price is looked up; "" stands for an unknown one."""

    gpu: str  # a sku, or the driver's name
    provider: str = ""
    market: str = ""  # on_demand or spot
    region: str = ""

"""Requests: a take on its way through the engine; what it waits with, in whose company it travels, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from catalog.buckets import Bucket
from catalog.limits import CHANNELS
from catalog.messages import new_id
from catalog.sidecar import BatchNote, Plan, StageTimes
from catalog.spec import TrackSpec, settle
from catalog.track import Take
from workers.engine.protocol import Refusal, Rendition

_SAMPLE_BYTES = 4  # float32

CallKind = Literal["plan", "render"]


class TakeReturned(Exception):
    """The worker is stopping and the take has not been with the engine: it goes back to its queue."""


class TakeFailed(Exception):
    """The engine could not render the take."""

    def __init__(self, reason: str, *, retry: bool, batch: BatchNote) -> None:
        super().__init__(reason)
        self.reason, self.retry, self.batch = reason, retry, batch


class Rendered(NamedTuple):
    """What became of one take: its outcome, the company it was in and its share of the engine's time."""

    outcome: Rendition | Refusal
    batch: BatchNote
    times: StageTimes


@dataclass(eq=False)
class Request:
    """A take on its way through the engine, and what it has met so far."""

    take: Take
    alone: bool = False  # it may have killed an engine, or not have fitted beside others: it gets the engine to itself
    plan: Plan | None = None
    plan_id: str = ""  # the planner call that wrote `plan`, and how many takes that call was for
    plan_size: int = 0
    plan_ms: int = 0  # its share of that call
    deaths_alone: int = 0
    oom_limit: int = 0  # the batch limit after the last batch that did not fit; 0: all fitted
    turn: int = 0  # its place in the line: of two, the one with the lower came first
    overtaken: int = 0  # younger takes that have been rendered before it
    done: Future[Rendered] = field(default_factory=Future)
    spec: TrackSpec = field(init=False)  # with what the plan has chosen
    bucket: Bucket = field(init=False)  # what a batch with it must share; an open length counts as the longest

    def __post_init__(self) -> None:
        self.follow(self.plan)

    def follow(self, plan: Plan | None) -> None:
        """Be rendered by `plan`. Raises OutOfRangeError when it was not made for this take."""
        self.spec = settle(self.take.spec, plan.metadata) if plan else self.take.spec
        self.plan, self.bucket = plan, Bucket.of(self.spec)

    @property
    def wants_plan(self) -> bool:
        """Whether a planner must write before the take can be rendered."""
        return self.plan is None and self.take.spec.planner is not None

    @property
    def audio_bytes(self) -> int:
        """Memory that its audio takes."""
        return self.spec.n_samples * CHANNELS * _SAMPLE_BYTES

    def noted(self, outcome: Rendition | Refusal) -> Rendition | Refusal:
        """The outcome with the limit that its batch was cut down to, if it was."""
        if not self.oom_limit or isinstance(outcome, Refusal):
            return outcome
        extra = {**outcome.effective.extra, "batch_limit_after_oom": self.oom_limit}
        return replace(outcome, effective=outcome.effective.model_copy(update={"extra": extra}))

    @property
    def is_done(self) -> bool:
        """Whether its caller has an answer."""
        return self.done.done()


class EngineCall(NamedTuple):
    """One call of the engine, and whether it holds as many takes as it may."""

    call: CallKind
    takes: list[Request]
    is_full: bool

    @property
    def is_exclusive(self) -> bool:
        """Whether nothing else may be with the engine meanwhile."""
        return self.takes[0].alone

    @property
    def bucket(self) -> Bucket:
        """The bucket whose limit the call keeps: that of all, or in a planner call that of the longest."""
        return self.takes[-1].bucket

    @property
    def audio_bytes(self) -> int:
        """Memory that its audio takes."""
        return sum(each.audio_bytes for each in self.takes)


@dataclass(eq=False, frozen=True, slots=True)
class InFlight:
    """A step that is with the engine."""

    step: EngineCall
    note: BatchNote

    @classmethod
    def of(cls, step: EngineCall) -> InFlight:
        """`step` under a new id."""
        size, ids = len(step.takes), [each.take.id for each in step.takes]
        if step.call == "plan":
            return cls(step, BatchNote(id="", size=size, position=0, takes=ids, plan_id=new_id(), plan_size=size))
        return cls(step, BatchNote(id=new_id(), size=size, position=0, takes=ids))

    @property
    def takes(self) -> Sequence[Request]:
        """Who is aboard."""
        return self.step.takes

    def note_of(self, each: Request) -> BatchNote:
        """The note as it concerns one of its takes."""
        planned = {"plan_id": each.plan_id, "plan_size": each.plan_size} if each.plan_id else {}
        return self.note.model_copy(update={"position": self.step.takes.index(each), **planned})

"""Requests: a take on its way through the engine, from its arrival to the answer that its caller gets."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from catalog.buckets import Bucket
from catalog.limits import CHANNELS
from catalog.messages import new_id
from catalog.sidecar import BatchNote, Plan, StageTimes
from catalog.spec import TrackSpec, with_metadata
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
    """One take after its last engine call: the outcome, the batch it was in and its share of the engine's time."""

    outcome: Rendition | Refusal
    batch: BatchNote
    times: StageTimes


@dataclass(eq=False)
class Request:
    """A take on its way through the engine, and what has happened to it so far."""

    take: Take
    alone: bool = False  # it may have killed an engine, or not have fitted beside others: it gets the engine to itself
    plan: Plan | None = None
    plan_id: str = ""  # the planner call that wrote `plan`, and how many takes that call was for
    plan_size: int = 0
    plan_ms: int = 0  # its share of that call
    deaths_alone: int = 0
    oom_limit: int = 0  # the batch limit after the last batch that did not fit; 0: all fitted
    arrival: int = 0  # a running number: of two requests, the one with the lower came first
    overtaken: int = 0  # younger takes that have been rendered before it
    done: Future[Rendered] = field(default_factory=Future)
    spec: TrackSpec = field(init=False)  # with what the plan has chosen
    bucket: Bucket = field(init=False)  # what a batch with it must share; an open length counts as the longest

    def __post_init__(self) -> None:
        self.use_plan(self.plan)

    def use_plan(self, plan: Plan | None) -> None:
        """Be rendered by `plan`. Raises OutOfRangeError when the plan was not made for this take."""
        self.spec = with_metadata(self.take.spec, plan.metadata) if plan else self.take.spec
        self.plan, self.bucket = plan, Bucket.of(self.spec)

    @property
    def wants_plan(self) -> bool:
        """A planner must write before the take can be rendered."""
        return self.plan is None and self.take.spec.planner is not None

    @property
    def audio_bytes(self) -> int:
        """Memory that the take's audio needs."""
        return self.spec.n_samples * CHANNELS * _SAMPLE_BYTES

    def with_oom_limit(self, outcome: Rendition | Refusal) -> Rendition | Refusal:
        """The outcome, with the batch limit that running out of memory has led to, if it has."""
        if not self.oom_limit or isinstance(outcome, Refusal):
            return outcome
        extra = {**outcome.effective.extra, "batch_limit_after_oom": self.oom_limit}
        return replace(outcome, effective=outcome.effective.model_copy(update={"extra": extra}))

    @property
    def is_done(self) -> bool:
        """The caller has its answer."""
        return self.done.done()


class EngineCall(NamedTuple):
    """One call of the engine: a planner call or a render batch."""

    kind: CallKind
    takes: list[Request]
    is_full: bool  # it holds as many takes as it may

    @property
    def is_exclusive(self) -> bool:
        """Nothing else may be with the engine during the call."""
        return self.takes[0].alone

    @property
    def bucket(self) -> Bucket:
        """The bucket whose limit the call keeps: that of all its takes; in a planner call that of the longest."""
        return self.takes[-1].bucket

    @property
    def audio_bytes(self) -> int:
        """Memory that the audio of all its takes needs."""
        return sum(each.audio_bytes for each in self.takes)


@dataclass(eq=False, frozen=True, slots=True)
class InFlight:
    """A call that is with the engine."""

    call: EngineCall
    note: BatchNote

    @classmethod
    def of(cls, call: EngineCall) -> InFlight:
        """Give `call` a new id."""
        size, ids = len(call.takes), [each.take.id for each in call.takes]
        if call.kind == "plan":
            return cls(call, BatchNote(id="", size=size, position=0, takes=ids, plan_id=new_id(), plan_size=size))
        return cls(call, BatchNote(id=new_id(), size=size, position=0, takes=ids))

    @property
    def takes(self) -> Sequence[Request]:
        """The requests that the call is for."""
        return self.call.takes

    def note_of(self, each: Request) -> BatchNote:
        """The batch note as it stands in the record of one of the takes."""
        planned = {"plan_id": each.plan_id, "plan_size": each.plan_size} if each.plan_id else {}
        return self.note.model_copy(update={"position": self.call.takes.index(each), **planned})

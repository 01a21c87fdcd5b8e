"""Requests: a take on its way through the engine, from its arrival to the answer for its caller."""

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
    """The worker is stopping before the take reached the engine: the take goes back to its queue."""


class TakeFailed(Exception):
    """The engine could not render the take."""

    def __init__(self, reason: str, *, retry: bool, batch: BatchNote) -> None:
        super().__init__(reason)
        self.reason, self.retry, self.batch = reason, retry, batch


class Rendered(NamedTuple):
    """One take after its last engine call: its outcome, its batch and its share of the engine's time."""

    outcome: Rendition | Refusal
    batch: BatchNote
    times: StageTimes


@dataclass(eq=False)
class Request:
    """A take on its way through the engine, with the history of its calls."""

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
    spec: TrackSpec = field(init=False)  # with the choices of the plan
    bucket: Bucket = field(init=False)  # the properties that a batch must share; an open length counts as the longest

    def __post_init__(self) -> None:
        self.use_plan(self.plan)

    def use_plan(self, plan: Plan | None) -> None:
        """Set the plan to render by. Raises OutOfRangeError when the plan was made for another take."""
        self.spec = with_metadata(self.take.spec, plan.metadata) if plan else self.take.spec
        self.plan, self.bucket = plan, Bucket.of(self.spec)

    @property
    def wants_plan(self) -> bool:
        """True when a planner must write a plan before the take can be rendered."""
        return self.plan is None and self.take.spec.planner is not None

    @property
    def audio_bytes(self) -> int:
        """The memory of the take's audio."""
        return self.spec.n_samples * CHANNELS * _SAMPLE_BYTES

    def with_oom_limit(self, outcome: Rendition | Refusal) -> Rendition | Refusal:
        """The outcome, with the batch limit that an OutOfVram has led to, if there was one."""
        if not self.oom_limit or isinstance(outcome, Refusal):
            return outcome
        extra = {**outcome.effective.extra, "batch_limit_after_oom": self.oom_limit}
        return replace(outcome, effective=outcome.effective.model_copy(update={"extra": extra}))

    @property
    def is_done(self) -> bool:
        """True when the caller has its answer."""
        return self.done.done()


class EngineCall(NamedTuple):
    """One call of the engine: a planner call or a render batch."""

    kind: CallKind
    takes: list[Request]
    is_full: bool  # it holds as many takes as it may

    @property
    def is_exclusive(self) -> bool:
        """True when no other call may be with the engine meanwhile."""
        return self.takes[0].alone

    @property
    def bucket(self) -> Bucket:
        """The bucket whose limit the call obeys: that of all its takes; in a planner call, that of the longest take."""
        return self.takes[-1].bucket

    @property
    def audio_bytes(self) -> int:
        """The memory of the audio of all its takes."""
        return sum(each.audio_bytes for each in self.takes)


@dataclass(eq=False, frozen=True, slots=True)
class InFlight:
    """A call that the engine is processing."""

    call: EngineCall
    note: BatchNote

    @classmethod
    def of(cls, call: EngineCall) -> InFlight:
        """`call` with a new id."""
        size, ids = len(call.takes), [each.take.id for each in call.takes]
        if call.kind == "plan":
            return cls(call, BatchNote(id="", size=size, position=0, takes=ids, plan_id=new_id(), plan_size=size))
        return cls(call, BatchNote(id=new_id(), size=size, position=0, takes=ids))

    @property
    def takes(self) -> Sequence[Request]:
        """The requests of the call."""
        return self.call.takes

    def note_of(self, each: Request) -> BatchNote:
        """The batch note for the record of one of the takes."""
        planned = {"plan_id": each.plan_id, "plan_size": each.plan_size} if each.plan_id else {}
        return self.note.model_copy(update={"position": self.call.takes.index(each), **planned})

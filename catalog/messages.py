"""The messages on the queues: one whole take goes to a worker, one fact comes back to the controller.

JSON only, and no larger than anything we write. Every message carries its version. A message that says nothing new is
written as the version before would have written it; a reader refuses unknown content as too new instead of guessing.
Records carry an id of their own, so a record delivered twice is written once.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from catalog.bounded import (
    AUDIO_MAX_MS,
    BigCount,
    Count,
    Instant,
    Label,
    Name,
    NameOrNone,
    Words,
    fit_words,
)
from catalog.clock import now_ms as now_ms  # noqa: PLC0414 - found here by all that write instants
from catalog.envelope import most_values
from catalog.errors import MessageError, OutdatedError
from catalog.forms import Frozen, neutral
from catalog.orders import Receipt
from catalog.rental import RentalNote
from catalog.sidecar import BatchNote, Sidecar, StageTimes
from catalog.track import Take

MESSAGE_VERSION: Final = 1
# A take is some 1.5 KB, and 12 KB with the longest lyrics that the model reads: beyond this nobody meant a take.
RENDER_BYTES_MAX: Final = 256 * 1024
# As it lies on the queue, in base64. The largest we write: a sidecar with ten minutes of codes (30 KB), a heartbeat
# that names 10,000 takes (270 KB), a thousand spans (150 KB).
RECORD_BYTES_MAX: Final = 4 * 1024 * 1024
RECORD_VALUES_MAX: Final = 30_000  # a heartbeat of 10,000 takes with their receipts has 20,000


def new_id() -> str:
    """A random id for a record, a run, a batch or a worker."""
    return uuid.uuid4().hex


class RenderMessage(Frozen):
    """One take, complete: a worker needs nothing else to render it."""

    v: Literal[1] = MESSAGE_VERSION
    run_id: Name
    take: Take
    alone: bool = False  # an engine died with this take aboard: render it in a batch of one


class Span(Frozen):
    """A stretch of a worker's time and the work done in it. Spans of one worker touch and never overlap."""

    state: Literal["startup", "plan", "render", "idle", "post", "teardown"]
    start_ms: Instant
    end_ms: Instant
    batch_id: NameOrNone = ""  # of a render span its batch, of a plan span the planner call
    cause: Label = ""  # of an idle span: no work, waiting for post, loading, recovering


class MemoryUse(Frozen):
    """The memory that an engine holds, in MiB, and its growth; None stands for a slope over too few takes."""

    rss_mib: float  # of the engine's process
    device_mib: float = 0.0  # allocated on the device; 0 on the CPU
    growth_mib_per_100_takes: float | None = None  # of both together


class _Record(Frozen):
    v: Literal[1] = MESSAGE_VERSION
    record_id: Name = Field(default_factory=new_id)
    worker_id: Name
    at_ms: Instant = Field(default_factory=now_ms)
    sequence: BigCount = neutral(0)  # counts a worker's records from 1; 0: of an earlier version, or a heartbeat


class WorkerStarted(_Record):
    """A worker is up and its engine is loading. Sent again once the engine is ready, then with all fields."""

    kind: Literal["worker_started"] = "worker_started"
    host: Label
    gpu: Label  # name as the driver gives it, or "cpu"
    vram_gib: float
    model: Label
    model_fingerprint: Label = ""
    code: Words
    noise: bool
    batch_limit: Count
    batch_limit_reason: Words
    plan_limit: Count = 0  # takes in one planner call; 0: no planner
    holds_max: Count = 0  # takes it holds at most, in whatever stage; 0: not said
    started_at_ms: Instant
    rental: RentalNote | None = None  # None: nobody has named the machine
    lane: Label = ""  # the device on it


class Heartbeat(_Record):
    """The worker lives and holds these takes; what it does not name it does not hold."""

    kind: Literal["heartbeat"] = "heartbeat"
    held: list[Name]
    number: BigCount = 0  # counts a worker's heartbeats from 1, so that an older one that comes late is known as such
    memory: MemoryUse | None = None  # of the engine, as last measured
    after: BigCount = neutral(0)  # sequence of the last record before it, which it must not overtake
    receipts: list[Receipt] = neutral([])  # of the orders for the takes in `held`, in their order


class SpansClosed(_Record):
    """Time that has been used, in the order it was used."""

    kind: Literal["spans_closed"] = "spans_closed"
    spans: list[Span]


class AttemptMade(_Record):
    """One try at one take has ended. `sidecar` is there exactly when it was accepted."""

    kind: Literal["attempt_made"] = "attempt_made"
    run_id: Name
    take_id: Name
    outcome: Literal["accepted", "rejected", "failed"]
    reasons: list[Words] = []  # why rejected or failed
    retry: bool = False  # a failure that another try may not meet (engine death, store down)
    adopted: bool = False  # the store had it already: nothing was rendered
    batch: BatchNote | None = None
    times: StageTimes = StageTimes()
    audio_ms: int = Field(default=0, ge=0, le=AUDIO_MAX_MS)
    sidecar: Sidecar | None = None
    receipt: Receipt = neutral("")  # of the order that was given; "": the control side signs none

    @classmethod
    def of(cls, sidecar: Sidecar) -> AttemptMade:
        """The accepted attempt that left `sidecar`, which says all of it: a lost record can be made again."""
        return cls(
            record_id=sidecar.record_id or new_id(),  # those of an earlier version do not name theirs
            worker_id=sidecar.worker_id,
            at_ms=sidecar.created_at_ms,
            run_id=sidecar.run_id,
            take_id=sidecar.take_id,
            outcome="accepted",
            batch=sidecar.batch,
            times=sidecar.times,
            audio_ms=sidecar.audio.duration_ms,
            sidecar=sidecar,
        )


class TakesReturned(_Record):
    """Takes a stopping worker gives back unrendered; they may be sent again at once."""

    kind: Literal["takes_returned"] = "takes_returned"
    take_ids: list[Name]
    receipts: list[Receipt] = neutral([])  # of the orders for these takes, in their order


FAULT: Final = "fault: "  # how the reason of a worker begins that cannot go on, whatever it is told


class WorkerStopped(_Record):
    """The worker has ended its life in order."""

    kind: Literal["worker_stopped"] = "worker_stopped"
    reason: Words


Record = Annotated[
    WorkerStarted | Heartbeat | SpansClosed | AttemptMade | TakesReturned | WorkerStopped,
    Field(discriminator="kind"),
]
_RECORD: TypeAdapter[Record] = TypeAdapter(Record)


def parse_render(payload: dict[str, Any]) -> RenderMessage:
    """Read a render message. Raises OutdatedError for a newer one, MessageError for one that is broken or too large."""
    if _is_larger(payload, RENDER_BYTES_MAX):
        raise _too_large("render message", RENDER_BYTES_MAX)
    _refuse_newer(payload)
    try:
        return RenderMessage.model_validate(payload)
    except ValidationError as error:
        raise _broken("render message", error) from None


def parse_record(payload: dict[str, Any]) -> Record:
    """Read a record. Raises OutdatedError for a newer one, MessageError for a broken one."""
    _refuse_newer(payload)
    try:
        return _RECORD.validate_python(payload)
    except ValidationError as error:
        raise _broken("record", error) from None


def parse_record_json(raw: bytes) -> Record | None:
    """Read a record from its JSON, which takes half the time; None for whatever must be looked at more closely."""
    try:
        return _RECORD.validate_json(raw)
    except ValidationError:
        return None


def is_record_size(raw: bytes) -> bool:
    """True for a record that is, as it lies on the queue, no larger than those that workers write.

    Of many values each could be a fault, and each fault takes a kilobyte.
    """
    return len(raw) <= RECORD_BYTES_MAX and most_values(raw) <= RECORD_VALUES_MAX


def check_record_size(raw: bytes) -> None:
    """Raise MessageError for a record that is, as it lies on the queue, larger than any that a worker writes."""
    if not is_record_size(raw):
        raise _too_large(f"record of more than {RECORD_VALUES_MAX:,} values or", RECORD_BYTES_MAX)


def _is_larger(payload: Any, bytes_max: int) -> bool:
    """True when `payload` exceeds `bytes_max` bytes of JSON; the count is a lower bound and stops once it decides."""
    left, waiting = bytes_max, [payload]
    while waiting and left >= 0:
        each = waiting.pop()
        if isinstance(each, str):
            left -= len(each.encode("utf-8", "surrogatepass"))
        elif isinstance(each, dict):
            waiting += [*each, *each.values()]
        elif isinstance(each, list):
            waiting += each
        left -= 1
    return left < 0


def _too_large(what: str, bytes_max: int) -> MessageError:
    return MessageError(
        f"a {what} of more than {bytes_max // 1024:,} KiB is not read",
        why="it is larger than any that this program writes",
        fix="send only through `tunemill run`, with captions and lyrics that the model can read",
    )


def _refuse_newer(payload: dict[str, Any]) -> None:
    version = payload.get("v") if isinstance(payload, dict) else None
    if isinstance(version, int) and version > MESSAGE_VERSION:
        raise _outdated(f"message of version {version}; this program reads up to version {MESSAGE_VERSION}")


def _outdated(what: str) -> OutdatedError:
    return OutdatedError(
        what, why="the sender is newer than this process", fix="upgrade this machine to the sender's version"
    )


def _broken(what: str, error: ValidationError) -> MessageError:
    faults = error.errors(include_input=False, include_url=False)
    first = faults[0]
    where = ".".join(str(part) for part in first["loc"])
    if all(fault["type"] == "extra_forbidden" for fault in faults):
        return _outdated(fit_words(f"{what} with something that this program does not know: {where}", 300))
    return MessageError(
        fit_words(f"{what} cannot be read: {where}: {first['msg']}", 300),  # a stranger's keys are among them
        why="it was not written by this program, or by a version that differs",
        fix="send only through `tunemill run`; purge the queue if another program shares it",
    )

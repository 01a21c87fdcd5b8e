"""The messages on the queues: a render message carries one whole take to a worker, a record carries one fact back.

Messages are JSON, and no larger than any that we write. Every message carries its version. A message that uses no new
field is written exactly as the previous version would have written it. A reader that meets unknown content refuses the
message as too new instead of guessing. Each record has an id of its own, so a record that is delivered twice is written
once.
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
from catalog.flaws import Flaw
from catalog.forms import Frozen, neutral
from catalog.orders import Receipt
from catalog.rental import RentalNote
from catalog.sidecar import BatchNote, Sidecar, StageTimes
from catalog.track import Take

MESSAGE_VERSION: Final = 1
# The control side says with each order which fields of records and sidecars it reads, as a header that older workers
# pass by: 2 means masters, flaws, later measures and codes of the sound. A worker leaves out what would not be read.
FORMS_READ: Final = 2
# A take is some 1.5 KB, and 12 KB with the longest lyrics that the model reads: a larger message is no take.
RENDER_BYTES_MAX: Final = 256 * 1024
# As it lies on the queue, in base64. The largest we write: a sidecar with ten minutes of codes (30 KB), a heartbeat
# that names 10,000 takes (270 KB), a thousand spans (150 KB).
RECORD_BYTES_MAX: Final = 4 * 1024 * 1024
RECORD_VALUES_MAX: Final = 30_000  # a heartbeat of 10,000 takes with their receipts has 20,000


def new_id() -> str:
    """A random id for a record, a run, a batch or a worker."""
    return uuid.uuid4().hex


class RenderMessage(Frozen):
    """One complete take; a worker needs nothing else to render it."""

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
    """The memory that an engine holds, in MiB, and its growth; None means that there were too few takes for a slope."""

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
    """A worker has started and its engine is loading. Sent a second time with all fields once the engine is ready."""

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
    holds_max: Count = 0  # the most takes that it holds, at all stages together; 0: not stated
    started_at_ms: Instant
    rental: RentalNote | None = None  # None: the machine has no name
    lane: Label = ""  # the device on it


class Heartbeat(_Record):
    """The worker is alive and holds exactly the named takes."""

    kind: Literal["heartbeat"] = "heartbeat"
    held: list[Name]
    number: BigCount = 0  # counts a worker's heartbeats from 1, so that an older one that comes late is known as such
    memory: MemoryUse | None = None  # of the engine, as last measured
    after: BigCount = neutral(0)  # sequence of the last record before it, which it must not overtake
    receipts: list[Receipt] = neutral([])  # of the orders for the takes in `held`, in their order


class SpansClosed(_Record):
    """Spans of the worker's time that have ended, in their order."""

    kind: Literal["spans_closed"] = "spans_closed"
    spans: list[Span]


class AttemptMade(_Record):
    """One try at one take has ended. `sidecar` is set exactly when the take was accepted."""

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
    flaws: list[Flaw] = neutral([])  # of a take that the checks rejected; those of an accepted one are in its sidecar

    @classmethod
    def of(cls, sidecar: Sidecar) -> AttemptMade:
        """The accepted attempt that wrote `sidecar`, made again from it when the attempt's record was lost.

        A file that was finished from another take's master took no worker time for rendering.
        """
        return cls(
            record_id=sidecar.record_id or new_id(),  # those of an earlier version do not name theirs
            worker_id=sidecar.worker_id,
            at_ms=sidecar.created_at_ms,
            run_id=sidecar.run_id,
            take_id=sidecar.take_id,
            outcome="accepted",
            adopted=sidecar.origin is not None,
            batch=None if sidecar.origin else sidecar.batch,
            times=StageTimes() if sidecar.origin else sidecar.times,
            audio_ms=0 if sidecar.origin else sidecar.audio.duration_ms,
            sidecar=sidecar,
        )


class TakesReturned(_Record):
    """A stopping worker returns these takes unrendered; they may be sent again at once."""

    kind: Literal["takes_returned"] = "takes_returned"
    take_ids: list[Name]
    receipts: list[Receipt] = neutral([])  # of the orders for these takes, in their order


FAULT: Final = "fault: "  # how the reason of a worker begins that cannot go on, whatever it is told


class WorkerStopped(_Record):
    """The worker has stopped in order."""

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
    """Read a record from its JSON in half the time of `parse_record`; None for a record that needs the full check."""
    try:
        return _RECORD.validate_json(raw)
    except ValidationError:
        return None


def is_record_size(raw: bytes) -> bool:
    """True when a record, in its form on the queue, is no larger than the records that workers write.

    The limit comes before validation, because each of a record's values could cause an error of a kilobyte.
    """
    return len(raw) <= RECORD_BYTES_MAX and most_values(raw) <= RECORD_VALUES_MAX


def check_record_size(raw: bytes) -> None:
    """Raise MessageError when a record, in its form on the queue, is larger than any that a worker writes."""
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
        why="this program never writes a message of that size",
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
        why="another program wrote the message, or another version of this program",
        fix="send only through `tunemill run`; purge the queue if another program shares it",
    )

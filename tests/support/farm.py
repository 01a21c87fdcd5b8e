"""A simulated fleet: a broker in memory, and the records that simulated workers send."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

from catalog.errors import BrokerError
from catalog.logins import RECORD_QUEUE
from catalog.messages import AttemptMade, Heartbeat, Record, RenderMessage, SpansClosed, WorkerStarted, now_ms
from catalog.queues import queue_of
from catalog.sidecar import StageTimes
from catalog.track import Take, Track
from orchestrator.control.broker import Look, RawRecord
from orchestrator.ledger.machines import WorkerPrice
from orchestrator.ledger.work import Outgoing
from tests.support.makers import a_sidecar, a_spec

DOLLAR_AN_HOUR = WorkerPrice("gpu", "a test", 1_000_000)


def takes(count: int, *, catalog: str = "spring", **spec: Any) -> list[Take]:
    """Takes of `count` tracks of a catalog; fields of their spec may be named."""
    track = Track(catalog=catalog, zone="spa", genre="ambient", slot="0", spec=a_spec(**spec))
    return [track.model_copy(update={"slot": f"{slot:04d}"}).take() for slot in range(count)]


def enveloped(payload: Any) -> bytes:
    """A record's payload as it lies on the queue."""
    body = b64encode(json.dumps(payload).encode()).decode()
    properties = {"body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": RECORD_QUEUE}}
    form = {"content-type": "application/json", "content-encoding": "utf-8", "headers": {}, "properties": properties}
    return json.dumps({"body": body, **form}).encode()


class FakeBroker:
    """A Broker in memory. `down` makes every call fail, `refuse` only the sending."""

    def __init__(self) -> None:
        self.sent: list[RenderMessage] = []
        self.records: list[RawRecord] = []
        self.undrained: set[str] = set()  # logins of which more records are said to wait
        self.orders: list[Outgoing] = []  # as they were sent
        self.beats: dict[str, bytes] = {}  # the latest heartbeat of each worker
        self.unreadable: list[RawRecord] = []  # what an earlier version has left
        self.waiting: dict[str, int] = {}
        self.down = self.refuse = False

    def announce(self) -> None:
        self._answer()

    def send(self, outgoing: Sequence[Outgoing]) -> None:
        if self.refuse:
            raise BrokerError("no more")
        self._answer()
        self.orders += outgoing
        self.sent += [each.message for each in outgoing]
        for each in outgoing:
            self.waiting[each.queue] = self.waiting.get(each.queue, 0) + 1

    def lengths(self, queues: Sequence[str]) -> dict[str, int]:
        self._answer()
        return {queue: self.waiting.get(queue, 0) for queue in queues}

    def peek_records(self, limit: int) -> Look:
        self._answer()
        undrained = frozenset(each.login for each in self.records[limit:]) | self.undrained
        return Look(self.records[:limit], undrained)

    def count_records(self) -> int:
        self._answer()
        return len(self.records)

    def heartbeats(self, worker_ids: Sequence[str]) -> dict[str, bytes]:
        self._answer()
        return {worker_id: self.beats[worker_id] for worker_id in worker_ids if worker_id in self.beats}

    def forget_heartbeats(self, worker_ids: Sequence[str]) -> None:
        self._answer()
        for worker_id in worker_ids:
            self.beats.pop(worker_id, None)

    def drop_records(self, oldest: Sequence[RawRecord]) -> None:
        self._answer()
        assert self.records[: len(oldest)] == list(oldest)
        del self.records[: len(oldest)]

    def withdraw(self, queues: Sequence[str], run_id: str) -> list[str]:
        self._answer()
        taken = [message for message in self.sent if message.run_id == run_id]
        self.sent = [message for message in self.sent if message.run_id != run_id]
        for message in taken:
            self.waiting[queue_of(message.take.spec)] -= 1
        return [message.take.id for message in taken]

    def peek_unreadable(self) -> list[RawRecord]:
        self._answer()
        return list(self.unreadable)

    def drop_unreadable(self) -> None:
        self._answer()
        self.unreadable.clear()

    def prove_writable(self) -> None:
        self._answer()
        if self.refuse:
            raise BrokerError("no more")

    def deliver(self, *records: Record | dict[str, Any]) -> None:
        """Records as workers of an earlier release send them, or without a login."""
        for each in records:
            payload = each if isinstance(each, dict) else each.model_dump(mode="json")
            self.records.append(RawRecord(enveloped(payload)))

    def deliver_as(self, login: str, *records: Record) -> None:
        """Records as the workers of a login send them; a heartbeat replaces the one before it."""
        for each in records:
            raw = each.model_dump_json().encode()
            if isinstance(each, Heartbeat):
                self.beats[each.worker_id] = raw
            else:
                self.records.append(RawRecord(raw, login))

    def receive_all(self) -> list[RenderMessage]:
        """Take all render messages from the queues, as workers do."""
        self.waiting.clear()
        received, self.sent = self.sent, []
        return received

    def _answer(self) -> None:
        if self.down:
            raise BrokerError("no answer")


def started(worker_id: str = "w1", **fields: Any) -> WorkerStarted:
    """A worker that is ready."""
    card = {"host": "h", "gpu": "gpu", "vram_gib": 8, "model": "tone", "model_fingerprint": "f", "code": "c"}
    limits = {"noise": False, "batch_limit": 4, "batch_limit_reason": "test", "started_at_ms": 1_000}
    return WorkerStarted(worker_id=worker_id, **{**card, **limits, "at_ms": 1_000, **fields})


def heartbeat(held: Iterable[str], worker_id: str = "w1", at_ms: int = 2_000) -> Heartbeat:
    """A worker that holds these takes."""
    return Heartbeat(worker_id=worker_id, held=list(held), at_ms=at_ms)


def attempt(take: Take, outcome: str = "accepted", worker_id: str = "w1", **fields: Any) -> AttemptMade:
    """The end of one try."""
    values = {"run_id": "r", "take_id": take.id, "at_ms": 3_000, "times": StageTimes(diffuse_ms=100), **fields}
    sidecar = a_sidecar(take, run_id=values["run_id"], worker_id=worker_id) if outcome == "accepted" else None
    return AttemptMade(worker_id=worker_id, outcome=outcome, sidecar=sidecar, **values)


_DAY_MS = 86_400_000
_REAL_MS = 1_000_000_000_000  # what is smaller counts from some instant that a test chooses


def as_of(record: Record, base_ms: int, run_id: str) -> Record:
    """The record as of `base_ms`: its small instants count from there and the real one of now is that; an attempt is of
    the run `run_id` if it says "r".
    """

    def later(at_ms: int) -> int:
        if at_ms < _REAL_MS:
            return at_ms + base_ms
        return base_ms if abs(at_ms - now_ms()) < _DAY_MS else at_ms

    changed: dict[str, Any] = {"at_ms": later(record.at_ms)}
    if isinstance(record, WorkerStarted):
        changed["started_at_ms"] = later(record.started_at_ms)
    elif isinstance(record, SpansClosed):
        spans = [
            span.model_copy(update={"start_ms": later(span.start_ms), "end_ms": later(span.end_ms)})
            for span in record.spans
        ]
        changed["spans"] = spans
    elif isinstance(record, AttemptMade) and record.run_id == "r":
        changed["run_id"] = run_id
    return record.model_copy(update=changed)

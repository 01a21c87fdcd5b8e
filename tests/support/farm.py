"""A farm without machines: a broker in memory, and the records that pretended workers send."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

from catalog.errors import BrokerError
from catalog.messages import AttemptMade, Heartbeat, Record, RenderMessage, WorkerStarted
from catalog.queues import RECORD_QUEUE, queue_of
from catalog.sidecar import StageTimes
from catalog.track import Take, Track
from orchestrator.control.broker import Envelope, open_record
from orchestrator.ledger.facts import WorkerPrice
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
        self.records: list[Envelope] = []
        self.unreadable: list[Envelope] = []  # what an earlier version has left
        self.waiting: dict[str, int] = {}
        self.down = self.refuse = False

    def send(self, outgoing: Sequence[Outgoing]) -> None:
        if self.refuse:
            raise BrokerError("no more")
        self._answer()
        self.sent += [each.message for each in outgoing]
        for each in outgoing:
            self.waiting[each.queue] = self.waiting.get(each.queue, 0) + 1

    def lengths(self, queues: Sequence[str]) -> dict[str, int]:
        self._answer()
        return {queue: self.waiting.get(queue, 0) for queue in queues}

    def peek_records(self, limit: int) -> list[Envelope]:
        self._answer()
        return self.records[:limit]

    def drop_records(self, oldest: Sequence[Envelope]) -> None:
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

    def peek_unreadable(self) -> list[Envelope]:
        self._answer()
        return list(self.unreadable)

    def drop_unreadable(self) -> None:
        self._answer()
        self.unreadable.clear()

    def deliver(self, *records: Record | dict[str, Any]) -> None:
        """Records as workers send them."""
        for each in records:
            payload = each if isinstance(each, dict) else each.model_dump(mode="json")
            self.records.append(open_record(enveloped(payload)))

    def receive_all(self) -> list[RenderMessage]:
        """What a worker takes from the queues."""
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

"""Workers without engines: they take orders off the queues, record and beat as real ones do, and cost little.

What they write are bytes in the form of `workers.records.QueueRecorder`: records as JSON on the list of their login,
heartbeats each under a key of its own. An answer is filled into a form that a real sidecar was printed to once, so that
two processes can stand for 500 workers. As a program the module is such a process: it goes on until its input ends.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import redis

from catalog.logins import heartbeat_key, record_queue, worker_id_of
from catalog.messages import AttemptMade, Span, SpansClosed, WorkerStarted, new_id, now_ms
from catalog.orders import OrderSigner, read_signer
from catalog.queues import KEY_PREFIX
from catalog.sidecar import Plan
from catalog.track import Take, Track
from tests.support.makers import a_sidecar, a_spec, a_take

LOGIN = "worker"  # the user of infra/valkey/users.acl
SPANS_A_BEAT = 4
BEAT_EVERY_S = 10.0
_TICK_S = 0.1
_NUMBER, _INSTANT = 1_234_567_890_123, 1_987_654_321_098  # of the form, to be found in it again
_NAMES = {name: f"@{name}@" for name in ("take_id", "run_id", "worker_id", "record_id")}


class Order(NamedTuple):
    """An order as it came off a queue; the take is kept as JSON."""

    take_id: str
    run_id: str
    take: str
    receipt: str


def open_order(raw: bytes) -> Order:
    """Read a message of the control side, which is trusted here."""
    envelope = json.loads(raw)
    headers, message = envelope["headers"], json.loads(b64decode(envelope["body"]))[1]["message"]
    take = json.dumps(message["take"], separators=(",", ":"))
    return Order(headers["kwargsrepr"], message["run_id"], take, headers.get("receipt", ""))


def some_takes(catalog: str, first: int, count: int) -> Iterator[Take]:
    """Takes `first` up to `first + count` of a catalog of tones."""
    spec = a_spec()
    for slot in range(first, first + count):
        yield Track(catalog=catalog, zone="spa", genre="ambient", slot=f"{slot:06d}", spec=spec).take()


class AnswerForm:
    """An accepted attempt with a whole sidecar, to be filled in; with a plan of `codes` codes if there are any."""

    def __init__(self, codes: int = 0) -> None:
        take = a_take()
        sidecar = a_sidecar(take, run_id=_NAMES["run_id"], worker_id=_NAMES["worker_id"])
        values = [(place * 7919) % 64_000 for place in range(codes)]
        plan = Plan(codes=values, metadata={}, prompt_sha256="ab" * 32, batch_key="bench")
        named = {"record_id": _NAMES["record_id"], "receipt": "@receipt@", "plan": plan if codes else None}
        batch = sidecar.batch.model_copy(update={"id": _NAMES["record_id"]})
        sidecar = sidecar.model_copy(update={**named, "batch": batch, "created_at_ms": _INSTANT})
        made = AttemptMade.of(sidecar).model_copy(update={"receipt": "@receipt@", "sequence": _NUMBER})
        text = made.model_dump_json().replace(take.model_dump_json(), "@take@")
        self._text = text.replace(take.id, _NAMES["take_id"])

    def fill(self, order: Order, worker_id: str, sequence: int, at_ms: int) -> bytes:
        """The record of a worker that has made the take of this order."""
        text = self._text.replace("@worker_id@", worker_id).replace("@record_id@", new_id())
        text = text.replace(str(_NUMBER), str(sequence)).replace(str(_INSTANT), str(at_ms))
        text = text.replace("@run_id@", order.run_id).replace("@receipt@", order.receipt)
        return text.replace("@take_id@", order.take_id).replace("@take@", order.take).encode()


class SyntheticWorker:
    """One worker: what it has in hand and the numbers of its records; it hands over bytes and does no IO."""

    def __init__(self, number: int, form: AnswerForm, began_ms: int) -> None:
        self.worker_id = worker_id_of(LOGIN, f"{number:032x}")
        self.in_hand: dict[str, Order] = {}
        self._form, self._began_ms, self._spans_ms = form, began_ms, began_ms
        self._sequence = self._beats = 0

    @property
    def heartbeat_key(self) -> str:
        """The key of its heartbeat as the broker has it."""
        return KEY_PREFIX + heartbeat_key(self.worker_id)

    def take_in(self, orders: Iterable[Order]) -> None:
        """Receive orders."""
        self.in_hand.update((order.take_id, order) for order in orders)

    def card(self, at_ms: int, *, holds_max: int) -> bytes:
        """The record by which it introduces itself."""
        limits = {"batch_limit": 16, "batch_limit_reason": "a bench", "holds_max": holds_max}
        machine = {"host": f"host-{self.worker_id[-3:]}", "gpu": "NVIDIA A100-SXM4-80GB", "vram_gib": 80.0}
        model = {"model": "tone", "model_fingerprint": "ab" * 32, "code": "bench", "noise": False}
        times = {"at_ms": at_ms, "started_at_ms": self._began_ms, "sequence": self._next()}
        card = WorkerStarted.model_validate({"worker_id": self.worker_id, **machine, **model, **limits, **times})
        return card.model_dump_json().encode()

    def answers(self, count: int, at_ms: int) -> list[bytes]:
        """Make the oldest takes in hand: their records."""
        made = [self.in_hand.pop(take_id) for take_id in list(self.in_hand)[:count]]
        return [self._form.fill(order, self.worker_id, self._next(), at_ms) for order in made]

    def spans(self, at_ms: int) -> bytes:
        """The record of the time since the last one."""
        edges = [self._spans_ms + (at_ms - self._spans_ms) * n // SPANS_A_BEAT for n in range(SPANS_A_BEAT + 1)]
        spans = [
            Span(state="render", start_ms=start_ms, end_ms=end_ms, batch_id=new_id())
            for start_ms, end_ms in pairwise(edges)
        ]
        self._spans_ms = at_ms
        record = SpansClosed(worker_id=self.worker_id, at_ms=at_ms, sequence=self._next(), spans=spans)
        return record.model_dump_json().encode()

    def beat(self, at_ms: int) -> bytes:
        """The next heartbeat, which names all takes in hand."""
        self._beats += 1
        held = sorted(self.in_hand)
        receipts = [self.in_hand[take_id].receipt for take_id in held]
        said: dict[str, Any] = {"v": 1, "record_id": new_id(), "worker_id": self.worker_id, "at_ms": at_ms}
        said |= {"kind": "heartbeat", "held": held, "number": self._beats, "after": self._sequence}
        if any(receipts):
            said["receipts"] = receipts
        return json.dumps(said, separators=(",", ":")).encode()

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence


class Door:
    """The broker as workers use it, many commands in one round trip."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client

    def receive(self, queue: str, count: int) -> list[Order]:
        """At most so many of the oldest orders."""
        if count <= 0:
            return []
        return [open_order(raw) for raw in self._client.rpop(KEY_PREFIX + queue, count) or []]

    def record(self, records: Sequence[bytes]) -> None:
        """Hand records over, in their order."""
        for begin in range(0, len(records), 500):
            self._client.lpush(KEY_PREFIX + record_queue(LOGIN), *records[begin : begin + 500])

    def beat(self, beats: dict[str, bytes]) -> None:
        """Replace heartbeats, by key."""
        if beats:
            self._client.mset(beats)

    def waiting(self) -> int:
        """Records that the controller has not taken off the list."""
        return int(self._client.llen(KEY_PREFIX + record_queue(LOGIN)))


def open_door(port: int) -> Door:
    """The broker on a port of loopback, with every right: a worker may not take several orders in one command."""
    return Door(redis.Redis("127.0.0.1", port, username="admin", password="any"))


class Crowd:
    """Many workers in one process, at their pace: each beats every 10 s and makes `takes_per_s` takes a second."""

    def __init__(self, door: Door, workers: Sequence[SyntheticWorker], *, queue: str, holds: int, takes_per_s: float):
        self._door, self._workers, self._queue, self._holds = door, workers, queue, holds
        self._takes_per_s, self._elapsed_s, self._owed = takes_per_s, 0.0, 0.0
        self._turn = 0
        self._beat_due_s = [BEAT_EVERY_S * n / len(workers) for n in range(len(workers))]

    def begin(self) -> None:
        """Introduce all workers, and say what they hold."""
        at_ms = now_ms()
        self._door.record([worker.card(at_ms, holds_max=self._holds) for worker in self._workers])
        self._door.beat({worker.heartbeat_key: worker.beat(at_ms) for worker in self._workers})

    def go_on(self, passed_s: float) -> None:
        """Do what is due after so many more simulated seconds."""
        self._elapsed_s += passed_s
        self._owed += passed_s * self._takes_per_s * len(self._workers)
        at_ms, records = now_ms(), []
        while self._owed >= 1:
            worker = self._workers[self._turn % len(self._workers)]
            self._turn, self._owed = self._turn + 1, self._owed - 1
            records += worker.answers(1, at_ms)
        beating = [n for n, due_s in enumerate(self._beat_due_s) if due_s <= self._elapsed_s]
        records += [self._workers[n].spans(at_ms) for n in beating]
        self._door.record(records)
        self._refill()
        self._door.beat({self._workers[n].heartbeat_key: self._workers[n].beat(at_ms) for n in beating})
        for n in beating:
            self._beat_due_s[n] = max(self._beat_due_s[n] + BEAT_EVERY_S, self._elapsed_s)

    def _refill(self) -> None:
        lacking = sum(max(0, self._holds - len(worker.in_hand)) for worker in self._workers)
        orders = iter(self._door.receive(self._queue, lacking))
        for worker in self._workers:
            for _, order in zip(range(self._holds - len(worker.in_hand)), orders, strict=False):
                worker.take_in([order])


def prefilled(signer: OrderSigner, run_id: str, takes: Iterable[Take], sent_at_ms: int) -> Iterator[Order]:
    """The orders for takes of a run, as if they had been sent at that instant."""
    for take in takes:
        yield Order(take.id, run_id, take.model_dump_json(), signer.receipt_of(take.id, sent_at_ms))


class CrowdPlan(NamedTuple):
    """What a process of workers is told, as JSON on its command line."""

    port: int
    signing_file: str
    queue: str
    workers: list[int]
    in_hand: list[tuple[str, str, int, int]]  # of each worker: catalog, run, first take, how many
    sent_at_ms: int
    began_ms: int
    takes_per_s: float
    speed: float  # simulated seconds in one second


def _run_crowd(plan: CrowdPlan) -> None:
    ended = threading.Event()
    threading.Thread(target=_await_end_of_input, args=[ended], daemon=True).start()
    signer, form = read_signer(Path(plan.signing_file)), AnswerForm()
    workers = [SyntheticWorker(number, form, plan.began_ms) for number in plan.workers]
    for worker, (catalog, run_id, first, count) in zip(workers, plan.in_hand, strict=True):
        takes = some_takes(catalog, first, count)
        worker.take_in(prefilled(signer, run_id, takes, plan.sent_at_ms))
    holds = max((count for *_, count in plan.in_hand), default=1)
    crowd = Crowd(open_door(plan.port), workers, queue=plan.queue, holds=holds, takes_per_s=plan.takes_per_s)
    crowd.begin()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    last_s = time.monotonic()
    while not ended.wait(_TICK_S):
        now_s = time.monotonic()
        crowd.go_on((now_s - last_s) * plan.speed)
        last_s = now_s


def _await_end_of_input(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def main(argv: Sequence[str] | None = None) -> None:
    """Stand for workers until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.synthetic", description=__doc__)
    parser.add_argument("plan", type=Path, help="a CrowdPlan as JSON")
    _run_crowd(CrowdPlan(**json.loads(parser.parse_args(argv).plan.read_text())))


if __name__ == "__main__":
    main()

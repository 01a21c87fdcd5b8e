"""Facts for the control side: published on the record queue, and not forgotten while the broker is away.

`record` returns when the message is with the broker, so that a take is acknowledged only after its attempt
is on the books. The pulse names the takes this worker holds every few seconds, and at once when it takes
more; what it does not name, it does not hold. It also says what the engine holds in memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import redis.exceptions
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from catalog.errors import BrokerError
from catalog.messages import AttemptMade, Heartbeat, MemoryUse, Record, Span, SpansClosed, WorkerStopped
from catalog.queues import RECORD_QUEUE, TRANSPORT_OPTIONS
from catalog.secrets import scrub, scrub_broker_error, without_secrets
from workers.spans import SpanLog

log = logging.getLogger(__name__)

COALESCE_S = 0.05  # takes that arrive together are named together
RETRY_MAX_S = 10.0
ANNOUNCE_EVERY_S = 60.0
CONNECT_TIMEOUT_S = 5.0
REASON_LENGTH_MAX = 4000
SPANS_AT_ONCE = 1000  # some 130 bytes each

# Kombu would try for ever inside one call; how long to try is decided here.
_TRY_ONCE = {"max_retries": 0}


class Recorder(Protocol):
    """Where facts go."""

    def record(self, record: Record) -> None:
        """Hand a fact over; returns when it is safe with the broker, however long that takes."""

    def try_record(self, record: Record) -> bool:
        """Hand a fact over now or not at all."""


class QueueRecorder:
    """A Recorder on the record queue, for many threads."""

    def __init__(self, broker_url: str, *, timeout_s: float | None = None) -> None:
        self._broker_url = broker_url
        # None: as everybody waits for the broker.
        self._waits = (
            {} if timeout_s is None else dict.fromkeys(("socket_timeout", "socket_connect_timeout"), timeout_s)
        )
        self._connection: Any = None
        self._producer: Any = None
        self._lock = threading.Lock()

    def record_first(self, record: Record) -> None:
        """As `record`, for a worker's first: raises BrokerError when its user has no right to write records."""
        try:
            with self._lock:
                self._publish(record.model_dump(mode="json"))
        except redis.exceptions.NoPermissionError as error:
            raise _no_rights(self._broker_url, error) from None
        except _broker_errors():
            self.record(record)

    def record(self, record: Record) -> None:
        """Publish, again and again while the broker is away."""
        wait_s = 0.2
        while not self.try_record(record):
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_MAX_S)

    def try_record(self, record: Record) -> bool:
        """Publish once; False when the broker cannot be reached."""
        body = _free_of_secrets(record).model_dump(mode="json")
        with self._lock:
            try:
                self._publish(body)
            except _broker_errors() as error:
                said = scrub_broker_error(str(error), self._broker_url)
                log.warning("cannot record %s, the broker is away: %s", record.kind, said)
                self._drop_connection()
                return False
        return True

    def close(self) -> None:
        """Let the connection go."""
        with self._lock:
            self._drop_connection()

    def _publish(self, body: dict[str, Any]) -> None:
        if self._producer is None:
            self._connection = _connect(self._broker_url, **self._waits)
            self._producer = self._connection.Producer(serializer="json")
        # Nothing is declared: that would ask for the queue's length, and a worker may only write there.
        self._producer.publish(body, exchange="", routing_key=RECORD_QUEUE, delivery_mode=2, retry=False)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.release()
        self._producer = self._connection = None


def _free_of_secrets(record: Record) -> Record:
    """A record lasts for ever, and a reason may be any library's error message."""
    match record:
        case AttemptMade(reasons=reasons):
            return record.model_copy(update={"reasons": [scrub(reason)[:REASON_LENGTH_MAX] for reason in reasons]})
        case WorkerStopped(reason=reason):
            return record.model_copy(update={"reason": scrub(reason)[:REASON_LENGTH_MAX]})
        case _:
            return record


def _connect(broker_url: str, **options: Any) -> Any:
    return Connection(broker_url, transport_options={**TRANSPORT_OPTIONS, **_TRY_ONCE, **options})  # type: ignore[no-untyped-call]


def _broker_errors() -> tuple[type[Exception], ...]:
    """What a broker that is away, full or starting makes kombu and redis raise."""
    return (OperationalError, OSError, redis.exceptions.RedisError)


def check_broker(broker_url: str) -> None:
    """Prove within seconds that the broker answers, and lets us take work from it. Raises BrokerError."""
    shown = without_secrets(broker_url)
    try:
        with _connect(broker_url, socket_timeout=CONNECT_TIMEOUT_S) as connection:
            client = connection.default_channel.client
            client.llen("render.check")
            client.hget("unacked", "check")
    except redis.exceptions.NoPermissionError as error:
        raise _no_rights(broker_url, error) from None
    except Exception as error:
        # Whatever the transport says (refused, denied, unknown scheme), a person mends it at the same place.
        raise BrokerError(
            f"no answer from the broker at {shown}",
            why=f"{type(error).__name__}: {scrub_broker_error(str(error), broker_url)}",
            fix="start it, or correct TUNEMILL_BROKER_URL (redis://host:6379/0)",
        ) from None


def spans_closed(worker_id: str, spans: Sequence[Span]) -> Iterator[SpansClosed]:
    """The records that put `spans` on the books: after a long outage one would be too large to be accepted."""
    for begin in range(0, len(spans), SPANS_AT_ONCE):
        yield SpansClosed(worker_id=worker_id, spans=list(spans[begin : begin + SPANS_AT_ONCE]))


def _no_rights(broker_url: str, error: Exception) -> BrokerError:
    return BrokerError(
        f"the broker at {without_secrets(broker_url)} lets this worker in, but not do its work",
        why=scrub_broker_error(str(error), broker_url),
        fix="give its user the rights that infra/valkey/users.acl names",
    )


class InHand:
    """The takes in this worker's hands, from receipt to record."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._lock = threading.Lock()
        self.taken = threading.Event()  # set when a take has come; the pulse clears it

    def take(self, take_id: str) -> bool:
        """Hold `take_id`; False when it is held already: a second delivery of the same take."""
        with self._lock:
            if take_id in self._ids:
                return False
            self._ids.add(take_id)
        self.taken.set()
        return True

    def drop(self, take_id: str) -> None:
        """Hold it no longer."""
        with self._lock:
            self._ids.discard(take_id)

    def ids(self) -> list[str]:
        """All that is held."""
        with self._lock:
            return sorted(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


class Heartbeats(threading.Thread):
    """Sends heartbeats, and the closed spans on the way."""

    def __init__(
        self,
        recorder: Recorder,
        holds: InHand,
        spans: SpanLog,
        *,
        worker_id: str,
        every_s: float,
        memory: Callable[[], MemoryUse | None] = lambda: None,
    ) -> None:
        super().__init__(name="pulse", daemon=True)
        self._recorder, self._holds, self._spans = recorder, holds, spans
        self._worker_id, self._every_s = worker_id, every_s
        self._memory = memory  # what the engine holds, as last said
        self._beats = 0
        self.announcement: Record | None = None  # what the worker is; said again now and then, a broker may lose it
        self._announced_s = time.monotonic()
        self._ended = False

    def wake(self) -> None:
        """Send at once."""
        self._holds.taken.set()

    def run(self) -> None:
        """Beat until ended."""
        while not self._ended:
            try:
                self.beat()
            except Exception:  # a worker that renders on without a pulse would be taken for dead
                log.exception("a heartbeat failed; the next one follows")
            self._holds.taken.wait(self._every_s)
            time.sleep(COALESCE_S)

    def beat(self) -> None:
        """Publish what is new and name what is held."""
        self._holds.taken.clear()
        for record in spans_closed(self._worker_id, self._spans.take_closed()):
            self._recorder.record(record)
        if self.announcement is not None and time.monotonic() - self._announced_s > ANNOUNCE_EVERY_S:
            self._announced_s = time.monotonic()
            self._recorder.try_record(self.announcement)
        self._recorder.try_record(self.next_beat())

    def next_beat(self) -> Heartbeat:
        """What is held at this moment, under the next number."""
        self._beats += 1
        held, memory = self._holds.ids(), self._memory()
        return Heartbeat(worker_id=self._worker_id, held=held, number=self._beats, memory=memory)

    def end(self) -> None:
        """Stop beating; returns when no more will be sent, or after a few seconds when the broker is away."""
        self._ended = True
        self.wake()
        self.join(timeout=5)

"""Records: facts for the control side, published on the record queue and not lost while the broker is away.

`record` returns when the message is with the broker, so that a take is acknowledged only after its attempt has been
reported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import redis.exceptions
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from catalog.errors import BrokerError
from catalog.messages import AttemptMade, Record, Span, SpansClosed, WorkerStopped
from catalog.queues import RECORD_QUEUE, TRANSPORT_OPTIONS
from catalog.retry import Backoff
from catalog.secrets import scrub, scrub_broker_error, without_secrets

log = logging.getLogger(__name__)

BROKER_BACKOFF: Final = Backoff(first_s=0.2, longest_s=10.0)
CONNECT_TIMEOUT_S: Final = 5.0
REASON_LENGTH_MAX: Final = 4000
SPANS_AT_ONCE: Final = 1000  # some 130 bytes each

# Kombu would try for ever inside one call; how long to try is decided here.
_TRY_ONCE: Final = {"max_retries": 0}


class Recorder(Protocol):
    """The way of facts to the control side."""

    def record(self, record: Record) -> None:
        """Hand a fact over; returns when the broker has it, however long that takes."""

    def try_record(self, record: Record) -> bool:
        """Hand a fact over now or not at all."""


class QueueRecorder:
    """A Recorder that publishes on the record queue; many threads may use it."""

    def __init__(self, broker_url: str, *, timeout_s: float | None = None) -> None:
        self._broker_url = broker_url
        # None: the timeouts that all connections to the broker have.
        self._timeouts = (
            {} if timeout_s is None else dict.fromkeys(("socket_timeout", "socket_connect_timeout"), timeout_s)
        )
        self._connection: Any = None
        self._producer: Any = None
        self._lock = threading.Lock()

    def record_first(self, record: Record) -> None:
        """Record the first fact of a worker. Raises BrokerError when its user has no right to write records."""
        try:
            with self._lock:
                self._publish(record.model_dump(mode="json"))
        except redis.exceptions.NoPermissionError as error:
            raise _no_rights(self._broker_url, error) from None
        except _broker_errors():
            self.record(record)

    def record(self, record: Record) -> None:
        """Publish, again and again while the broker is away."""
        waits_s = BROKER_BACKOFF.waits_s()
        while not self.try_record(record):
            time.sleep(next(waits_s))

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
        """Close the connection."""
        with self._lock:
            self._drop_connection()

    def _publish(self, body: dict[str, Any]) -> None:
        if self._producer is None:
            self._connection = _connect(self._broker_url, **self._timeouts)
            self._producer = self._connection.Producer(serializer="json")
        # Nothing is declared: that would ask for the queue's length, and a worker may only write there.
        self._producer.publish(body, exchange="", routing_key=RECORD_QUEUE, delivery_mode=2, retry=False)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.release()
        self._producer = self._connection = None


def _free_of_secrets(record: Record) -> Record:
    """The record without secrets: it lasts for ever, and a reason may be any library's error message."""
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
    """The errors that kombu and redis raise for a broker that is away, full or starting."""
    return (OperationalError, OSError, redis.exceptions.RedisError)


def check_broker(broker_url: str) -> None:
    """Prove within seconds that the broker answers and that this worker may take work from it. Raises BrokerError."""
    shown = without_secrets(broker_url)
    try:
        with _connect(broker_url, socket_timeout=CONNECT_TIMEOUT_S) as connection:
            client = connection.default_channel.client
            client.llen("render.check")
            client.hget("unacked", "check")
    except redis.exceptions.NoPermissionError as error:
        raise _no_rights(broker_url, error) from None
    except Exception as error:
        # Refused, denied or unknown scheme: a person mends all of them at the same place.
        raise BrokerError(
            f"no answer from the broker at {shown}",
            why=f"{type(error).__name__}: {scrub_broker_error(str(error), broker_url)}",
            fix="start it, or correct TUNEMILL_BROKER_URL (redis://host:6379/0)",
        ) from None


def spans_closed(worker_id: str, spans: Sequence[Span]) -> Iterator[SpansClosed]:
    """The records that report `spans`; after a long outage a single one would be too large to be accepted."""
    for begin in range(0, len(spans), SPANS_AT_ONCE):
        yield SpansClosed(worker_id=worker_id, spans=list(spans[begin : begin + SPANS_AT_ONCE]))


def _no_rights(broker_url: str, error: Exception) -> BrokerError:
    return BrokerError(
        f"the broker at {without_secrets(broker_url)} lets this worker in, but not do its work",
        why=scrub_broker_error(str(error), broker_url),
        fix="give its user the rights that infra/valkey/users.acl names",
    )

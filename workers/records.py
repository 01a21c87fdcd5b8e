"""Records: reports for the control side, pushed to the record list of this worker's login and kept during an outage.

`record` returns when the broker has the record, so a take is acknowledged only after its attempt was reported. The
broker keeps only the latest heartbeat of a worker. A login with the rights of an earlier release, which had one list
for all workers, still uses that list for records and heartbeats.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Protocol

import redis.exceptions
from kombu.exceptions import OperationalError

from catalog.broker_answers import Sort, check_server, in_words, sort_of
from catalog.errors import BrokerError
from catalog.logins import (
    CONTROL_KEY,
    RECORD_QUEUE,
    delivery_keys,
    heartbeat_key,
    login_of_url,
    record_queue,
    worker_id_of,
)
from catalog.messages import AttemptMade, Heartbeat, Record, Span, SpansClosed, WorkerStopped, new_id
from catalog.queues import KEY_PREFIX, TRANSPORT_OPTIONS
from catalog.retry import Backoff
from catalog.secrets import scrub, scrub_broker_error, without_secrets
from workers.broker import BrokerConnection

log = logging.getLogger(__name__)

BROKER_BACKOFF: Final = Backoff(first_s=0.2, longest_s=10.0)
CONNECT_TIMEOUT_S: Final = 5.0
REASON_LENGTH_MAX: Final = 4000
SPANS_AT_ONCE: Final = 1000  # some 130 bytes each
ASK_EVERY_S: Final = 5.0
HEARTBEAT_KEPT_S: Final = 7 * 86_400  # of a worker that has ended: a control side that was away still learns when

# Kombu would try for ever inside one call; how long to try is decided here.
_TRY_ONCE: Final = {"max_retries": 0}


class WorkerIdentity(NamedTuple):
    """The identity of a worker: its id, which begins with its login, and the list for its records."""

    worker_id: str
    login: str = ""
    # False: the broker's rights or the control side are of an earlier release, which knows one list for everything.
    has_own_keys: bool = True

    @property
    def delivery_keys(self) -> dict[str, str]:
        """The broker's keys for messages that its login has received, as options of kombu's transport."""
        return delivery_keys(self.login if self.has_own_keys else "")


class Recorder(Protocol):
    """The way of facts to the control side."""

    def record(self, record: Record) -> None:
        """Hand a fact over; returns when the broker has it, however long that takes."""

    def try_record(self, record: Record) -> bool:
        """Hand a fact over now or not at all."""

    def beat(self, heartbeat: Heartbeat) -> bool:
        """Replace the worker's latest heartbeat, now or not at all."""

    def handed_over(self) -> int:
        """The sequence of the last record that the broker has, with all before it."""


class RecordSequence:
    """Numbers a worker's records, which several threads and connections hand over; the first is 1.

    `is_read` is False as long as the control side is of an earlier release, which reads no numbers.
    """

    def __init__(self, *, is_read: bool = True) -> None:
        self.is_read = is_read
        self._last = 0
        self._open: set[int] = set()
        self._lock = threading.Lock()

    def begin(self) -> int:
        """The number of one more record."""
        with self._lock:
            self._last += 1
            self._open.add(self._last)
            return self._last

    def end(self, number: int) -> None:
        """Note that the broker has that record, or that the record will never be sent."""
        with self._lock:
            self._open.discard(number)

    def ended(self) -> int:
        """The last number up to which all have ended."""
        with self._lock:
            return min(self._open, default=self._last + 1) - 1


class QueueRecorder:
    """A Recorder that writes to the broker; many threads may use it, and several of one worker share a `sequence`."""

    def __init__(
        self,
        broker_url: str,
        identity: WorkerIdentity,
        sequence: RecordSequence | None = None,
        *,
        timeout_s: float | None = None,
        on_refused: Callable[[BrokerError], None] = lambda _: None,  # for errors that only a person can mend
    ) -> None:
        self._broker_url, self._identity, self._on_refused = broker_url, identity, on_refused
        self._sequence = sequence or RecordSequence(is_read=identity.has_own_keys)
        self._asked_s = -math.inf
        # None: the timeouts that all connections to the broker have.
        self._timeouts = (
            {} if timeout_s is None else dict.fromkeys(("socket_timeout", "socket_connect_timeout"), timeout_s)
        )
        self._connection: Any = None
        self._producer: Any = None
        self._lock = threading.Lock()

    def record_first(self, record: Record) -> None:
        """Record the first fact of a worker. Raises BrokerError when its login has no right to write records."""
        with self._numbered(record) as numbered:
            try:
                with self._lock:
                    self._push(_free_of_secrets(numbered))
            except redis.exceptions.NoPermissionError as error:
                raise _no_rights(self._broker_url, error, self._record_right()) from None
            except _broker_errors():
                self._drop_connection()
                self._push_until_taken(numbered)

    def record(self, record: Record) -> None:
        """Hand over, again and again while the broker is away."""
        with self._numbered(record) as numbered:
            self._push_until_taken(numbered)

    def try_record(self, record: Record) -> bool:
        """Hand over once; False when the broker cannot be reached."""
        with self._numbered(record) as numbered:
            return self._try(lambda: self._push(_free_of_secrets(numbered)), record.kind)

    def beat(self, heartbeat: Heartbeat) -> bool:
        """Replace the worker's latest heartbeat; False when the broker cannot be reached."""
        if not self._sequence.is_read and not self._is_read_now():
            return self._try(lambda: self._push(heartbeat), heartbeat.kind)
        key, body = heartbeat_key(self._identity.worker_id), heartbeat.model_dump_json()
        return self._try(lambda: self._client().set(key, body, ex=HEARTBEAT_KEPT_S), heartbeat.kind)

    def handed_over(self) -> int:
        """The sequence of the last record that the broker has, with all before it."""
        return self._sequence.ended() if self._sequence.is_read else 0

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop_connection()

    def _push_until_taken(self, record: Record) -> None:
        waits_s = BROKER_BACKOFF.waits_s()
        while not self._try(lambda: self._push(_free_of_secrets(record)), record.kind):
            time.sleep(next(waits_s))

    def _try(self, write: Callable[[], Any], kind: str) -> bool:
        with self._lock:
            try:
                write()
            except _broker_errors() as error:
                said = scrub_broker_error(str(error), self._broker_url)
                log.warning("cannot record %s, the broker is away: %s", kind, said)
                self._drop_connection()
                if sort_of(error) is Sort.REFUSED:
                    self._on_refused(in_words(error, self._broker_url))
                return False
        return True

    @contextmanager
    def _numbered(self, record: Record) -> Iterator[Record]:
        """The record under the next number, which has ended once it is handed over or given up."""
        if not self._sequence.is_read:
            yield record
            return
        number = self._sequence.begin()
        try:
            yield record.model_copy(update={"sequence": number})
        finally:
            self._sequence.end(number)

    def _is_read_now(self) -> bool:
        """Ask now and then whether a control side of this release has come; rights of an earlier one never change."""
        if self._identity.login or time.monotonic() - self._asked_s < ASK_EVERY_S:
            return False
        self._asked_s = time.monotonic()

        def ask() -> None:
            self._sequence.is_read = self._client().get(KEY_PREFIX + CONTROL_KEY) is not None

        self._try(ask, "question")
        return self._sequence.is_read

    def _push(self, record: Record) -> None:
        if record.sequence:
            self._client().lpush(record_queue(self._identity.login), record.model_dump_json())
            return
        if self._producer is None:
            self._producer = self._open().Producer(serializer="json")
        # Nothing is declared: that would ask for the queue's length, and a worker may only write there.
        body = record.model_dump(mode="json")
        self._producer.publish(body, exchange="", routing_key=RECORD_QUEUE, delivery_mode=2, retry=False)

    def _client(self) -> Any:
        return self._open().default_channel.client

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = _connect(self._broker_url, **self._timeouts)
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.release()
        self._producer = self._connection = None

    def _record_right(self) -> str:
        queue = record_queue(self._identity.login) if self._sequence.is_read else RECORD_QUEUE
        return f"LPUSH to tunemill:{queue}"


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
    return BrokerConnection(broker_url, transport_options={**TRANSPORT_OPTIONS, **_TRY_ONCE, **options})  # type: ignore[no-untyped-call]


def _broker_errors() -> tuple[type[Exception], ...]:
    """The errors that kombu and redis raise for a broker that is away, full or starting."""
    return (OperationalError, OSError, redis.exceptions.RedisError)


def check_broker(broker_url: str) -> WorkerIdentity:
    """Prove within seconds that the broker answers and that this worker may take work from it; how the worker speaks.

    Raises BrokerError.
    """
    login = login_of_url(broker_url)
    identity = WorkerIdentity(worker_id_of(login, new_id()), login)
    try:
        with _connect(broker_url, socket_timeout=CONNECT_TIMEOUT_S) as connection:
            # A login of its own has a worker's rights, and those do not reach to the settings.
            check_server(connection.default_channel.client, asks_settings=not login)
            return _find_rights(connection.default_channel.client, identity, broker_url)
    except BrokerError:
        raise
    except redis.exceptions.NoPermissionError as error:
        raise _no_rights(broker_url, error, "HELLO, PING and SELECT") from None
    except Exception as error:
        # Refused, denied or unknown scheme: a person mends all of them at the same place.
        raise in_words(error, broker_url) from None


def _find_rights(client: Any, identity: WorkerIdentity, broker_url: str) -> WorkerIdentity:
    """The identity that the login's rights are for: with keys of its own, else as an earlier release had it."""
    earlier = WorkerIdentity(new_id(), identity.login, has_own_keys=False)
    _ask(broker_url, "LLEN on tunemill:render.*", lambda: client.llen("render.check"))
    try:
        client.hget(identity.delivery_keys["unacked_key"], "check")
        client.set(heartbeat_key(identity.worker_id), "", px=1)
        if not identity.login:
            return identity._replace(has_own_keys=client.get(KEY_PREFIX + CONTROL_KEY) is not None)
    except redis.exceptions.NoPermissionError:
        right = f"HGET on tunemill:{identity.delivery_keys['unacked_key']} and SET to tunemill:heartbeat.*"
        _ask(broker_url, right, lambda: client.hget(earlier.delivery_keys["unacked_key"], "check"))
        return earlier
    return identity


def _ask(broker_url: str, right: str, question: Callable[[], Any]) -> None:
    try:
        question()
    except redis.exceptions.NoPermissionError as error:
        raise _no_rights(broker_url, error, right) from None


def spans_closed(worker_id: str, spans: Sequence[Span]) -> Iterator[SpansClosed]:
    """The records that report `spans`; after a long outage a single one would be too large to be accepted."""
    for begin in range(0, len(spans), SPANS_AT_ONCE):
        yield SpansClosed(worker_id=worker_id, spans=list(spans[begin : begin + SPANS_AT_ONCE]))


def _no_rights(broker_url: str, error: Exception, right: str) -> BrokerError:
    return BrokerError(
        f"the broker at {without_secrets(broker_url)} lets this worker in, but not do its work",
        why=f"its login lacks a right: {right} ({scrub_broker_error(str(error), broker_url)})",
        fix="give the login the rights of a line in infra/valkey/users.acl; `tunemill worker-login new` writes one",
    )

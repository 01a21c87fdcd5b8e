"""The control side's only door to the broker: takes go out as Celery tasks, records come in.

Records are read without being taken off the queue and removed only after the ledger has them, so a crash
between the two loses nothing and repeats at most one batch. That needs lists that can be read from their end,
which is why the broker is Redis or Valkey, and one reader, which the writer lock guarantees; should two believe
they are, each removes only what it has read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple, Protocol

from celery import Celery
from kombu.exceptions import KombuError
from pydantic import ValidationError
from redis.exceptions import RedisError

from catalog.envelope import open_envelope
from catalog.errors import BrokerError, MessageError, StoreFullError, TunemillError
from catalog.messages import RECORD_BYTES_MAX, RENDER_BYTES_MAX
from catalog.queues import KEY_PREFIX, RECORD_QUEUE, RENDER_TASK, TRANSPORT_OPTIONS
from catalog.secrets import scrub_broker_error, without_secrets
from catalog.track import Take
from orchestrator.ledger.work import Outgoing

log = logging.getLogger(__name__)

# Newest records are at the head of the list. KEYS[1]: the list; ARGV: how many, the oldest, the newest of them.
_DROP = """
local count = tonumber(ARGV[1])
if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[2] or redis.call('LINDEX', KEYS[1], -count) ~= ARGV[3] then return 0 end
redis.call('LTRIM', KEYS[1], 0, -count - 1)
return 1
"""
UNREADABLE_QUEUE = f"{RECORD_QUEUE}.unreadable"  # where an earlier version kept what it could not read
_CHECK_TIMEOUT_S = 3.0
_PIPELINED = 500
# Kombu tries again once, so that an outage reaches the caller soon; the caller waits by catalog.retry.
_KOMBU_RETRY = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1}
_PRIORITY_SUFFIXES = ("", "\x06\x163", "\x06\x166", "\x06\x169")  # kombu keeps one list a priority


class Envelope(NamedTuple):
    """One record as it lies on the queue. `payload` is None when it is no JSON object."""

    payload: dict[str, Any] | None
    raw: bytes


class Broker(Protocol):
    """The queue operations that the controller needs. Every method raises BrokerError when there is no answer."""

    def send(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish takes; after an error some of them may have been published."""

    def lengths(self, queues: Sequence[str]) -> dict[str, int]:
        """Messages waiting in each queue; those a worker has received are not counted."""

    def peek_records(self, limit: int) -> list[Envelope]:
        """The oldest records, left where they are."""

    def drop_records(self, oldest: Sequence[Envelope]) -> None:
        """Remove these records, which must be the oldest still."""

    def withdraw(self, queues: Sequence[str], run_id: str) -> list[str]:
        """Take the run's messages off these queues again; the ids of their takes."""

    def peek_unreadable(self) -> list[Envelope]:
        """The messages that an earlier version of this program could not read and has left here."""

    def drop_unreadable(self) -> None:
        """Remove it."""


class Queues:
    """A Broker on Redis or Valkey."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._app = _celery(broker_url, {**TRANSPORT_OPTIONS, **_KOMBU_RETRY})

    def check(self) -> None:
        """Prove within seconds that the broker answers and lets us in."""
        short = {"socket_timeout": _CHECK_TIMEOUT_S, "socket_connect_timeout": _CHECK_TIMEOUT_S}
        app = _celery(self._url, {**TRANSPORT_OPTIONS, **_KOMBU_RETRY, **short})
        with self._in_words(), app.connection_for_write() as connection:
            connection.default_channel.client.llen(RECORD_QUEUE)

    def send(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish takes, pipelined, in their order."""
        with self._in_words(), self._app.producer_or_acquire() as producer, producer.batch(max_size=_PIPELINED):
            for each in outgoing:
                take_id = each.message.take.id
                self._app.send_task(
                    RENDER_TASK,
                    kwargs={"message": each.message.model_dump(mode="json")},
                    queue=each.queue,
                    producer=producer,
                    ignore_result=True,
                    argsrepr="()",
                    kwargsrepr=take_id,  # what logs show; by default the whole message twice
                )

    def lengths(self, queues: Sequence[str]) -> dict[str, int]:
        """Messages waiting in each queue."""
        with self._client() as (_, client):
            return {queue: sum(client.llen(queue + suffix) for suffix in _PRIORITY_SUFFIXES) for queue in queues}

    def peek_records(self, limit: int) -> list[Envelope]:
        """The oldest records, oldest first: new ones come in at the head of the list."""
        with self._client() as (_, client):
            newest_first = client.lrange(KEY_PREFIX + RECORD_QUEUE, -limit, -1)
            return [open_record(raw) for raw in reversed(newest_first)]

    def drop_records(self, oldest: Sequence[Envelope]) -> None:
        """Remove these records, but only while they are the oldest.

        Whoever was cut off between writing records down and removing them may find that another writer has removed
        them meanwhile: a bare count would then take records along that nobody has written down.
        """
        if not oldest:
            return
        with self._client() as (_, client):
            ends = (len(oldest), oldest[0].raw, oldest[-1].raw)
            if not client.eval(_DROP, 1, KEY_PREFIX + RECORD_QUEUE, *ends):
                log.warning("the record queue changed while its records were written down; they are read again")

    def withdraw(self, queues: Sequence[str], run_id: str) -> list[str]:
        """Take the run's messages off these queues again; those a worker has received stay with it."""
        taken: list[str] = []
        with self._client() as (_, client):
            for queue, suffix in product(queues, _PRIORITY_SUFFIXES):
                key = KEY_PREFIX + queue + suffix
                for raw in client.lrange(key, 0, -1):
                    take_id = _take_of(raw, queue, run_id)
                    if take_id and client.lrem(key, 1, raw):
                        taken.append(take_id)
        return taken

    def peek_unreadable(self) -> list[Envelope]:
        """The thousand records at most that an earlier version has set aside, oldest first."""
        with self._client() as (_, client):
            return [open_record(raw) for raw in reversed(client.lrange(KEY_PREFIX + UNREADABLE_QUEUE, 0, -1))]

    def drop_unreadable(self) -> None:
        """Remove them; this version keeps in the ledger what it sets aside."""
        with self._client() as (_, client):
            client.delete(UNREADABLE_QUEUE)

    def forget_renders(self) -> None:
        """Empty every render queue, and forget what was delivered to workers that are known to be gone."""
        with self._client() as (_, client):
            # Commands that kombu does not know get no prefix, those it knows do.
            keys = [key.decode().removeprefix(KEY_PREFIX) for key in client.scan_iter(f"{KEY_PREFIX}render.*")]
            client.delete("unacked", "unacked_index", *keys)

    def close(self) -> None:
        """Let the connections go."""
        self._app.close()

    @contextmanager
    def _client(self) -> Iterator[tuple[Any, Any]]:
        with self._in_words(), self._app.connection_for_write() as connection:
            channel = connection.default_channel
            yield channel, channel.client

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (KombuError, RedisError, OSError, KeyError, ValueError) as error:
            # KeyError and ValueError: an address kombu has no transport for, or with a part it cannot read.
            raise _explained(error, self._url) from None


def _celery(broker_url: str, options: dict[str, Any]) -> Celery:
    app = Celery("tunemill", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=True,
        broker_transport_options=options,
        task_send_sent_event=False,
    )
    return app


def open_record(raw: bytes) -> Envelope:
    """A record as it was written; without a payload whatever else a stranger has put there."""
    try:
        body = open_envelope(raw, queue=RECORD_QUEUE, bytes_max=RECORD_BYTES_MAX).body
    except MessageError:
        return Envelope(None, raw)
    return Envelope(body if isinstance(body, dict) else None, raw)


def _take_of(raw: bytes, queue: str, run_id: str) -> str:
    """The take of a render message, when it is of that run; else nothing."""
    try:
        body = open_envelope(raw, queue=queue, bytes_max=RENDER_BYTES_MAX * 2).body  # as it lies there, in base64
        message = body[1]["message"]  # Celery's body: positional arguments, named ones, and what it adds
        return Take.model_validate(message["take"]).id if message["run_id"] == run_id else ""
    except (MessageError, ValidationError, LookupError, TypeError):
        return ""  # a stranger's message is left where it is, for a worker to refuse


def _explained(error: Exception, url: str) -> TunemillError:
    shown = without_secrets(url)
    said = str(error.__cause__ or error)
    if "No space left" in said or "MISCONF" in said:
        return StoreFullError(
            "the broker cannot write to its disk",
            why=f"{shown} says: {said}",
            fix="free some space and run the same command again; nothing recorded is lost",
        )
    return BrokerError(
        f"no answer from the broker at {shown}",
        why=f"{type(error).__name__}: {scrub_broker_error(said, url)}",
        fix="start it, or correct TUNEMILL_BROKER_URL (redis://host:6379/0); unset it to use the embedded one",
    )

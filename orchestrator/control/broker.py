"""The control side's only connection to the broker: takes leave as Celery tasks, records arrive on lists.

Each login has one list of records, and each of its workers has one key for its latest heartbeat. The reader takes
records off their list only after the ledger holds them, so a crash in between loses nothing and repeats at most one
batch. This needs lists that can be read from their end, so the broker must be Redis or Valkey. It also needs a single
reader, which the writer lock guarantees; if two processes read by mistake, each removes only the records that it has
read.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pydantic import ValidationError

from catalog.broker_answers import check_server, in_words, tell_if_in_clear
from catalog.envelope import open_envelope
from catalog.errors import MessageError
from catalog.logins import CONTROL_KEY, RECORD_QUEUE, heartbeat_key, login_of_record_queue, record_queue
from catalog.messages import FORMS_READ, RECORD_BYTES_MAX, RECORD_VALUES_MAX, RENDER_BYTES_MAX, is_record_size
from catalog.orders import OrderSigner
from catalog.queues import KEY_PREFIX, RENDER_TASK, TRANSPORT_OPTIONS
from catalog.track import Take
from orchestrator.ledger.work import Outgoing

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

# Newest records are at the head of the list. KEYS[1]: the list; ARGV: how many, the oldest, the newest of them.
_DROP = """
local count = tonumber(ARGV[1])
if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[2] or redis.call('LINDEX', KEYS[1], -count) ~= ARGV[3] then return 0 end
redis.call('LTRIM', KEYS[1], 0, -count - 1)
return 1
"""
# The oldest records of a list: at most ARGV[1], and of at most ARGV[2] bytes together unless it is one.
_PEEK = """
local found, size = {}, 0
for i = 1, tonumber(ARGV[1]) do
  local record = redis.call('LINDEX', KEYS[1], -i)
  if not record then break end
  size = size + #record
  if i > 1 and size > tonumber(ARGV[2]) then return {found, 0} end
  found[i] = record
end
return {found, redis.call('LLEN', KEYS[1]) == #found and 1 or 0}
"""
# The values of these keys, as far as they have at most ARGV[1] bytes together, without those larger than ARGV[2].
_GET_BOUNDED = """
local found, size = {}, 0
for i, key in ipairs(KEYS) do
  local length = redis.call('STRLEN', key)
  if length > tonumber(ARGV[2]) then length = 0 end
  size = size + length
  if i > 1 and size > tonumber(ARGV[1]) then break end
  found[i] = length > 0 and redis.call('GET', key) or ''
end
return found
"""
LOOK_BYTES_MAX = 8 * 1024 * 1024  # of records read at once; the controller holds some ten times that while it parses
_ANNOUNCED_S = 7 * 86_400  # long enough for a control side to be away
_HEARTBEATS_AT_ONCE = 2_000
_LISTS_EVERY_S = 1.0  # how often new lists of records are looked for
_SCANNED_AT_ONCE = 1_000
_SCANS_MAX = 20  # of one look, so that a client that fills the broker with keys cannot stop the control side
UNREADABLE_QUEUE = f"{RECORD_QUEUE}.unreadable"  # where an earlier version kept records that it could not read
_CHECK_TIMEOUT_S = 3.0
_PIPELINED = 500
# Kombu tries again once, so that an outage reaches the caller soon; the caller waits by catalog.retry.
_KOMBU_RETRY = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1}
_PRIORITY_SUFFIXES = ("", "\x06\x163", "\x06\x166", "\x06\x169")  # kombu keeps one list a priority


class RawRecord(NamedTuple):
    """One unparsed record from the list of a login."""

    raw: bytes
    login: str = ""  # the login that may write on that list; "" on a broker without logins

    @property
    def payload(self) -> dict[str, Any] | None:
        """The record's content, parsed on each call; None when it is no JSON object or too large."""
        return _payload_of(self.raw)


class Look(NamedTuple):
    """The oldest records of every list, oldest first within each."""

    raw_records: list[RawRecord]
    undrained: frozenset[str] = frozenset()  # logins whose lists held more than these

    @property
    def has_more(self) -> bool:
        """True when the next look should follow at once."""
        return bool(self.undrained)


class Broker(Protocol):
    """The queue operations that the controller needs. Every method raises BrokerError when there is no answer."""

    def announce(self) -> None:
        """Tell workers that their own lists and keys are read here."""

    def send(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish takes; after an error some of them may have been published."""

    def lengths(self, queues: Sequence[str]) -> dict[str, int]:
        """Messages waiting in each queue; those a worker has received are not counted."""

    def peek_records(self, limit: int) -> Look:
        """The oldest records, left where they are: at most `limit` in all, but one at least of each list."""

    def drop_records(self, oldest: Sequence[RawRecord]) -> None:
        """Remove these records, which must be the oldest of their lists still."""

    def count_records(self) -> int:
        """The records that wait."""

    def heartbeats(self, worker_ids: Sequence[str]) -> dict[str, bytes]:
        """The latest heartbeat of each of these workers that has sent one, as it lies there."""

    def forget_heartbeats(self, worker_ids: Sequence[str]) -> None:
        """Remove the heartbeats of workers that have ended."""

    def withdraw(self, queues: Sequence[str], run_id: str) -> list[str]:
        """Take the run's messages off these queues again; the ids of their takes."""

    def peek_unreadable(self) -> list[RawRecord]:
        """The messages that an earlier version of this program could not read and has left here."""

    def drop_unreadable(self) -> None:
        """Remove it."""

    def prove_writable(self) -> None:
        """Raise BrokerError while nobody could write, as when the broker is full or has become a replica."""


class Queues:
    """A Broker on Redis or Valkey."""

    def __init__(self, broker_url: str, signer: OrderSigner | None = None) -> None:
        tell_if_in_clear(broker_url)
        self._url, self._signer = broker_url, signer
        self._app = _celery(broker_url, {**TRANSPORT_OPTIONS, **_KOMBU_RETRY})
        self._connection: Any = None
        self._lists: list[str] = []  # the logins that have a list of records
        self._lists_due_s = 0.0
        self._turn = 0  # where the next look at heartbeats begins

    def check(self) -> None:
        """Prove within seconds that the broker answers, lets us in and loses nothing."""
        short = {"socket_timeout": _CHECK_TIMEOUT_S, "socket_connect_timeout": _CHECK_TIMEOUT_S}
        app = _celery(self._url, {**TRANSPORT_OPTIONS, **_KOMBU_RETRY, **short})
        with self._in_words(), app.connection_for_write() as connection:
            client = connection.default_channel.client
            check_server(client)
            client.llen(RECORD_QUEUE)

    def announce(self) -> None:
        """Tell workers that their own lists and keys are read here; an earlier release told them nothing."""
        with self._client() as (_, client):
            client.set(CONTROL_KEY, "1", ex=_ANNOUNCED_S)

    def send(self, outgoing: Sequence[Outgoing]) -> None:
        """Publish takes, pipelined, in their order, each with the proofs that it was ordered."""
        with self._in_words(), self._app.producer_or_acquire() as producer, producer.batch(max_size=_PIPELINED):
            for each in outgoing:
                message = each.message.model_dump(mode="json")
                self._app.send_task(
                    RENDER_TASK,
                    kwargs={"message": message},
                    queue=each.queue,
                    producer=producer,
                    ignore_result=True,
                    argsrepr="()",
                    kwargsrepr=each.message.take.id,  # the text in logs; by default the whole message, twice
                    headers={"reads": FORMS_READ, **self._proofs(each, message)},
                )

    def _proofs(self, order: Outgoing, message: dict[str, Any]) -> dict[str, str]:
        if self._signer is None:
            return {}
        receipt = self._signer.receipt_of(order.message.take.id, order.sent_at_ms)
        return {"receipt": receipt, "signature": self._signer.sign(order.queue, message, receipt)}

    def lengths(self, queues: Sequence[str]) -> dict[str, int]:
        """Messages waiting in each queue."""
        with self._client() as (_, client):
            return {queue: sum(client.llen(queue + suffix) for suffix in _PRIORITY_SUFFIXES) for queue in queues}

    def peek_records(self, limit: int) -> Look:
        """The oldest records of every list; a flood on one takes nothing from the others' share."""
        raw_records: list[RawRecord] = []
        undrained = set()
        with self._client() as (_, client):
            logins = self._logins(client)
            share, bytes_max = max(1, limit // len(logins)), LOOK_BYTES_MAX // len(logins)
            for login in logins:
                records, is_all = client.eval(_PEEK, 1, KEY_PREFIX + record_queue(login), share, bytes_max)
                raw_records += [RawRecord(raw, login) for raw in records]
                if not is_all:
                    undrained.add(login)
        return Look(raw_records, frozenset(undrained))

    def count_records(self) -> int:
        """The records that wait on all lists."""
        with self._client() as (_, client):
            return sum(client.llen(record_queue(login)) for login in self._logins(client))

    def _logins(self, client: Any) -> list[str]:
        """The logins that have a list of records, and the list that all may share; looked for now and then."""
        if time.monotonic() >= self._lists_due_s:
            self._lists_due_s = time.monotonic() + _LISTS_EVERY_S
            self._lists = sorted(set(_record_lists(client)) | {""})
        return self._lists

    def drop_records(self, oldest: Sequence[RawRecord]) -> None:
        """Remove these records, but only while they are the oldest of their lists.

        Whoever was cut off between writing records down and removing them may find that another writer has removed
        them meanwhile: a bare count would then take records along that nobody has written down.
        """
        by_login: dict[str, list[bytes]] = {}
        for each in oldest:
            by_login.setdefault(each.login, []).append(each.raw)
        if not by_login:
            return
        with self._client() as (_, client):
            for login, raws in by_login.items():
                if not client.eval(_DROP, 1, KEY_PREFIX + record_queue(login), len(raws), raws[0], raws[-1]):
                    log.warning("a list of records changed while they were written down; they are read again")

    def heartbeats(self, worker_ids: Sequence[str]) -> dict[str, bytes]:
        """The latest heartbeats, of all these workers or, where they are large, of the next ones in turn."""
        if not worker_ids:
            return {}
        begin = self._turn % len(worker_ids)
        turn = [*worker_ids[begin:], *worker_ids[:begin]][:_HEARTBEATS_AT_ONCE]
        with self._client() as (_, client):
            keys = [KEY_PREFIX + heartbeat_key(worker_id) for worker_id in turn]
            raws = client.eval(_GET_BOUNDED, len(keys), *keys, LOOK_BYTES_MAX, RECORD_BYTES_MAX)
        self._turn = 0 if len(raws) == len(worker_ids) else begin + len(raws)
        return {worker_id: raw for worker_id, raw in zip(turn, raws, strict=False) if raw}

    def forget_heartbeats(self, worker_ids: Sequence[str]) -> None:
        """Remove the heartbeats of workers that have ended."""
        with self._client() as (_, client):
            if worker_ids:
                client.delete(*[heartbeat_key(worker_id) for worker_id in worker_ids])

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

    def peek_unreadable(self) -> list[RawRecord]:
        """The thousand records at most that an earlier version has set aside, oldest first."""
        with self._client() as (_, client):
            return [RawRecord(raw) for raw in reversed(client.lrange(KEY_PREFIX + UNREADABLE_QUEUE, 0, -1))]

    def drop_unreadable(self) -> None:
        """Remove them; this version keeps in the ledger what it sets aside."""
        with self._client() as (_, client):
            client.delete(UNREADABLE_QUEUE)

    def prove_writable(self) -> None:
        """Raise BrokerError while the broker takes nothing, such as a heartbeat."""
        with self._client() as (_, client):
            client.set("writable", "", px=1)

    def forget_renders(self) -> None:
        """Empty every render queue, and delete the messages that were delivered to workers known to be gone."""
        with self._client() as (_, client):
            # Commands that kombu does not know get no prefix, those it knows do.
            found = [*client.scan_iter(f"{KEY_PREFIX}render.*"), *client.scan_iter(f"{KEY_PREFIX}unacked*")]
            if keys := [key.decode().removeprefix(KEY_PREFIX) for key in found]:
                client.delete(*keys)

    def close(self) -> None:
        """Let the connections go."""
        self._drop_connection()
        self._app.close()

    @contextmanager
    def _client(self) -> Iterator[tuple[Any, Any]]:
        """The client of a connection that is kept until something fails on it."""
        with self._in_words():
            try:
                if self._connection is None:
                    self._connection = self._app.connection_for_write()
                channel = self._connection.default_channel
                yield channel, channel.client
            except BaseException:
                self._drop_connection()
                raise

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        from kombu.exceptions import KombuError
        from redis.exceptions import RedisError

        try:
            yield
        except (KombuError, RedisError, OSError, KeyError, ValueError, AttributeError) as error:
            # KeyError and ValueError: an address kombu has no transport for, or with a part it cannot read.
            if isinstance(error, AttributeError):
                if not _is_of_kombu(error):
                    raise
                self._app = _celery(self._url, {**TRANSPORT_OPTIONS, **_KOMBU_RETRY})  # without that connection
            raise in_words(error, self._url) from None


def _celery(broker_url: str, options: dict[str, Any]) -> Celery:
    from celery import Celery

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


def _record_lists(client: Any) -> Iterator[str]:
    """The logins whose workers have written records; a look that would take too long ends early."""
    cursor = 0
    for _ in range(_SCANS_MAX):
        cursor, keys = client.scan(cursor, match=f"{KEY_PREFIX}{RECORD_QUEUE}.*", count=_SCANNED_AT_ONCE)
        for key in keys:
            if login := login_of_record_queue(key.decode("ascii", "replace").removeprefix(KEY_PREFIX)):
                yield login
        if not cursor:
            return


def _payload_of(raw: bytes) -> dict[str, Any] | None:
    if not is_record_size(raw):
        return None
    try:
        payload = json.loads(raw)
        if isinstance(payload, dict) and "kind" not in payload:  # as an earlier version wrote it, in Celery's envelope
            limits = {"bytes_max": RECORD_BYTES_MAX, "values_max": RECORD_VALUES_MAX}
            payload = open_envelope(raw, queue=RECORD_QUEUE, **limits).body
    except (MessageError, ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def _take_of(raw: bytes, queue: str, run_id: str) -> str:
    """The take of a render message, when it is of that run; else nothing."""
    try:
        body = open_envelope(raw, queue=queue, bytes_max=RENDER_BYTES_MAX * 2).body  # as it lies there, in base64
        message = body[1]["message"]  # Celery's body: positional arguments, named ones, and Celery's own additions
        return Take.model_validate(message["take"]).id if message["run_id"] == run_id else ""
    except (MessageError, ValidationError, LookupError, TypeError):
        return ""  # a stranger's message is left where it is, for a worker to refuse


def _is_of_kombu(error: AttributeError) -> bool:
    """True where kombu asks something of a connection that it has closed itself meanwhile, as outages have it do."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and str(traceback.tb_frame.f_globals.get("__name__", "")).startswith("kombu.")

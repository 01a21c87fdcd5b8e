"""Ingress: a filter between broker and Celery, which passes render messages and drops all others.

A message that passes gets a new envelope, so Celery never reads one from a stranger: no pickles, no compression, no
other tasks, no follow-up calls. Messages that a dead worker had received are deleted after half a day and not delivered
again, because the controller has sent their takes again long before. So a worker needs no right to run scripts on the
server.
"""

from __future__ import annotations

import json
import logging
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic, sleep, time
from typing import Any, Final

from celery.app.amqp import AMQP
from kombu.transport import redis, virtual
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from catalog.broker_answers import AWAY, Sort, server_word, sort_of
from catalog.envelope import Opened, open_envelope
from catalog.errors import MessageError
from catalog.messages import RENDER_BYTES_MAX
from catalog.orders import OrderVerifier
from catalog.queues import KEY_PREFIX, RENDER_TASK
from catalog.retry import Backoff
from workers.broker import BrokerConnection, NamelessChannel

log = logging.getLogger(__name__)

ENVELOPE_BYTES_MAX: Final = 4 * RENDER_BYTES_MAX  # base64 and the envelope; larger content is recorded as a failure
PRUNED_AT_ONCE: Final = 1000
REFUSED_BACKOFF: Final = Backoff(first_s=1.0, longest_s=5.0)  # each try may cost a message its place in the queue
_CANNOT_CONNECT: Final = (AWAY, "LOADING")  # Celery meets them when it connects, and waits by itself
_INTRODUCTION: Final = "'client|"  # how redis-py names itself, which it does without where that is refused
_NOTHING_AFTERWARDS: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def sanitize(raw: bytes, queue: str, verifier: OrderVerifier | None = None) -> bytes:
    """The message in a form that Celery may read. Raises MessageError for any message but a render message.

    With a `verifier`, also raises it for an unsigned render message.
    """
    opened = open_envelope(raw, queue=queue, bytes_max=ENVELOPE_BYTES_MAX)
    match opened.body:
        case [[], {"message": message, **more}, dict(afterwards)] if not more and not any(afterwards.values()):
            pass
        case _:
            raise MessageError("a message was refused unread", why="it asks for something else than rendering")
    if opened.task != RENDER_TASK:
        raise MessageError("a message was refused unread", why="it names another task")
    if verifier is not None and not verifier.is_signed(queue, message, opened.receipt, opened.signature):
        raise MessageError(
            "a message was refused unread",
            why="no key of TUNEMILL_VERIFY_ORDERS has signed it" if opened.signature else "it is not signed",
        )
    return _envelope_of(message, queue, opened)


def _envelope_of(message: Any, queue: str, opened: Opened) -> bytes:
    number = str(uuid.uuid4())
    body = json.dumps([[], {"message": message}, _NOTHING_AFTERWARDS]).encode()
    # For the next worker that may get it.
    proofs = {"receipt": opened.receipt, "signature": opened.signature, "reads": opened.reads}
    headers = {"lang": "py", "task": RENDER_TASK, "id": number, "root_id": number, "argsrepr": "()", **proofs}
    properties = {
        "correlation_id": number,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": number,  # a stranger's could be that of another message
    }
    envelope = {
        "body": b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            **headers,
            "kwargsrepr": opened.shown_id,
            "retries": 0,
            "timelimit": [None, None],
            "ignore_result": True,
        },
        "properties": properties,
    }
    return json.dumps(envelope).encode()


class _SortedReplies:
    """Part of a connection to the broker: every answer is raised as Celery has to take it.

    Celery waits for a broker whose connection is lost, and ends at any other error. So an answer that passes by itself
    is raised as a lost connection, after a pause, for the next one would be there at once. One that needs a person
    is told to `on_refused`, which has the worker stop in order; until then it counts as lost too.
    """

    on_refused: Callable[[Exception], None]
    pause: _Pause

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            reply = super().read_response(*args, **options)  # type: ignore[misc]
        except RedisError as error:
            raise self._as_celery_takes_it(error) from None
        for each in reply if isinstance(reply, list) else ():  # the result of each command of a transaction
            if isinstance(each, ResponseError) and sort_of(each) is not Sort.DEFECT:
                raise self._as_celery_takes_it(each) from None
        return reply

    def _as_celery_takes_it(self, error: RedisError) -> RedisError:
        sort, word = sort_of(error), server_word(error)
        if sort is Sort.DEFECT or _INTRODUCTION in str(error) or (sort is Sort.PASSES and word in _CANNOT_CONNECT):
            return error
        if sort is Sort.REFUSED:
            self.on_refused(error)
        self.pause.wait()
        return RedisConnectionError(f"the broker said {word}: {str(error)[:200]}")


class _Pause:
    """Pauses between the refusals of a broker that can be reached; they grow while it goes on refusing."""

    def __init__(self) -> None:
        self._waits_s = REFUSED_BACKOFF.waits_s()
        self._ended_s = 0.0

    def wait(self) -> None:
        if monotonic() - self._ended_s > 2 * REFUSED_BACKOFF.longest_s:
            self._waits_s = REFUSED_BACKOFF.waits_s()
        sleep(next(self._waits_s))
        self._ended_s = monotonic()


class _Client(redis.PrefixedStrictRedis):
    verifier: OrderVerifier | None = None

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        reply = super().parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not reply:
            return reply
        key, raw = reply
        queue = key.decode().rpartition("\x06\x16")[0] or key.decode()  # without the priority
        try:
            return key, sanitize(raw, queue, self.verifier)
        except MessageError as error:
            log.error("a message on %s was dropped: %s", queue, error.why)
            return None  # as if none had come


class _Bookkeeping(redis.QoS):
    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that `message` was received. Where that fails the control side sends the message again."""
        try:
            super().append(message, delivery_tag)
        except RedisError as error:
            log.warning("the broker takes no notes of a message, which is sent again later: %s", str(error)[:200])
            raise

    def ack(self, delivery_tag: str) -> None:
        """Forget that a message was received: its take is recorded by then, so a failure costs some memory only."""
        with self._despite_outage("acknowledgement", delivery_tag):  # the broker's copies of its messages are pruned
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message back to its queue. Where that fails the control side sends the message again."""
        with self._despite_outage("return of a message", delivery_tag):
            super().reject(delivery_tag, requeue=requeue)

    @contextmanager
    def _despite_outage(self, what: str, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            log.warning("the broker takes no %s: %s", what, str(error)[:200])
            virtual.QoS.ack(self, delivery_tag)

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Forget messages that were delivered so long ago that their worker must be gone."""
        self._vrestore_count += 1
        if (self._vrestore_count - 1) % (interval or 1):
            return
        with self.channel.conn_or_acquire() as client:
            until = time() - self.visibility_timeout
            old = client.zrange(self.unacked_index_key, 0, until, byscore=True, offset=0, num=PRUNED_AT_ONCE)
            if old:
                client.pipeline().zrem(self.unacked_index_key, *old).hdel(self.unacked_key, *old).execute()


class _Channel(NamelessChannel):
    QoS = _Bookkeeping

    def _get_client(self) -> Any:
        super()._get_client()  # refuses a redis-py that is too old
        client = type("_VerifyingClient", (_Client,), {"verifier": self.connection.client.verifier})
        return partial(client, global_keyprefix=KEY_PREFIX)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        ours = {"on_refused": staticmethod(self.connection.client.on_refused), "pause": self.connection.client.pause}
        return {**params, "connection_class": type("_Sorted", (_SortedReplies, params["connection_class"]), ours)}


class _Transport(redis.Transport):
    Channel = _Channel


def _nobody(error: Exception) -> None:
    """Ignore a refusal, because no caller waits for it."""


class _Connection(BrokerConnection):
    verifier: OrderVerifier | None = None
    on_refused = staticmethod(_nobody)
    pause = _Pause()

    def get_transport_cls(self) -> type[redis.Transport]:
        return _Transport


def ingress_amqp(
    verifier: OrderVerifier | None = None, on_refused: Callable[[Exception], None] = _nobody
) -> type[AMQP]:
    """The Celery component that makes an application receive its messages through this module.

    `on_refused` is called with each answer of the broker that a person has to mend.
    """
    ours = {"verifier": verifier, "on_refused": staticmethod(on_refused), "pause": _Pause()}
    return type("IngressAMQP", (AMQP,), {"Connection": type("_OurConnection", (_Connection,), ours)})

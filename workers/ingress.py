"""Ingress, between the broker and Celery: render messages pass, and everything else is dropped.

A message that passes gets a new envelope, so that Celery never reads a stranger's: no pickles, no compression, no
other tasks, no calls to make afterwards. What a worker that died had received is forgotten after half a day instead of
being delivered again: the controller has sent those takes long before. So a worker needs no right to run scripts on
the server.
"""

from __future__ import annotations

import json
import logging
import uuid
from base64 import b64encode
from functools import partial
from time import sleep, time
from typing import Any, Final

from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis, virtual
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from catalog.envelope import open_envelope
from catalog.errors import MessageError
from catalog.messages import RENDER_BYTES_MAX
from catalog.queues import KEY_PREFIX, RENDER_TASK
from catalog.retry import Backoff

log = logging.getLogger(__name__)

ENVELOPE_BYTES_MAX: Final = 4 * RENDER_BYTES_MAX  # base64 and the envelope; what is too large within is put on record
PRUNED_AT_ONCE: Final = 1000
REFUSED_BACKOFF: Final = Backoff(first_s=1.0, longest_s=1.0)  # each try costs a message its place in the queue
_NO_ROOM: Final = ("MISCONF", "OOM")  # how a server's refusal begins when its disk or its memory is full
_NOTHING_AFTERWARDS: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def sanitize(raw: bytes, queue: str) -> bytes:
    """The message as Celery may read it. Raises MessageError for whatever is no render message."""
    opened = open_envelope(raw, queue=queue, bytes_max=ENVELOPE_BYTES_MAX)
    match opened.body:
        case [[], {"message": message, **more}, dict(afterwards)] if not more and not any(afterwards.values()):
            pass
        case _:
            raise MessageError("a message was refused unread", why="it asks for something else than rendering")
    if opened.task != RENDER_TASK:
        raise MessageError("a message was refused unread", why="it names another task")
    return _envelope_of(message, queue, opened.shown_id)


def _envelope_of(message: Any, queue: str, shown_id: str) -> bytes:
    number = str(uuid.uuid4())
    body = json.dumps([[], {"message": message}, _NOTHING_AFTERWARDS]).encode()
    headers = {"lang": "py", "task": RENDER_TASK, "id": number, "root_id": number, "argsrepr": "()"}
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
        "headers": {**headers, "kwargsrepr": shown_id, "retries": 0, "timelimit": [None, None], "ignore_result": True},
        "properties": properties,
    }
    return json.dumps(envelope).encode()


def _away(what: str, error: ResponseError) -> RedisConnectionError:
    """Wait, then return the error that makes Celery connect again, as to a broker that is away."""
    log.warning("%s, and is asked again: %s", what, str(error)[:200])
    sleep(REFUSED_BACKOFF.first_s)
    return RedisConnectionError(what)


class _Client(redis.PrefixedStrictRedis):
    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        try:
            reply = super().parse_response(connection, command_name, **options)
        except ResponseError as error:
            if command_name != "BRPOP" or not str(error).startswith(_NO_ROOM):
                raise
            raise _away("the broker hands out no messages", error) from None
        if command_name != "BRPOP" or not reply:
            return reply
        key, raw = reply
        queue = key.decode().rpartition("\x06\x16")[0] or key.decode()  # without the priority
        try:
            return key, sanitize(raw, queue)
        except MessageError as error:
            log.error("a message on %s was dropped: %s", queue, error.why)
            return None  # as if none had come


class _Bookkeeping(redis.QoS):
    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that `message` was received. A broker without memory or disk is waited for, as one that is away."""
        try:
            super().append(message, delivery_tag)
        except NoPermissionError:
            raise
        except ResponseError as error:
            raise _away("the broker takes no notes", error) from None  # what it had popped is sent again

    def ack(self, delivery_tag: str) -> None:
        """Forget that a message was received: its take is recorded by then, so a failure costs some memory only."""
        try:
            super().ack(delivery_tag)
        except NoPermissionError:
            raise
        except (RedisError, OSError) as error:
            log.warning("the broker takes no acknowledgement: %s", str(error)[:200])
            virtual.QoS.ack(self, delivery_tag)  # what the broker keeps of it is pruned

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


class _Channel(redis.Channel):
    QoS = _Bookkeeping

    def _get_client(self) -> Any:
        super()._get_client()  # refuses a redis-py that is too old
        return partial(_Client, global_keyprefix=KEY_PREFIX)


class _Transport(redis.Transport):
    Channel = _Channel


class _Connection(Connection):
    # Whatever the address's scheme (redis, rediss, redis+socket): there is one way in.
    def get_transport_cls(self) -> type[redis.Transport]:
        return _Transport


class IngressAMQP(AMQP):
    """The Celery component that makes an application receive its messages through this module."""

    Connection = _Connection

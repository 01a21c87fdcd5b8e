"""The connections of a worker to the broker: kombu's, without CLIENT SETINFO, which a worker's login may not send."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

from kombu.connection import Connection
from kombu.transport import redis

# redis-py names itself with CLIENT SETINFO. Redis 7.0 knows no such right, and each try would stand in the broker's log
# of refusals.
_NAMELESS: Final[dict[str, Any]] = (
    {"driver_info": None} if find_spec("redis.driver_info") else {"lib_name": None, "lib_version": None}
)


class NamelessChannel(redis.Channel):
    """A channel whose connections do not name their library."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {**super()._connparams(asynchronous=asynchronous), **_NAMELESS}


class _Transport(redis.Transport):
    Channel = NamelessChannel


class BrokerConnection(Connection):
    """A connection to the broker, for any scheme of its address (redis, rediss, redis+socket)."""

    def get_transport_cls(self) -> type[redis.Transport]:
        """The transport whose connections do not name their library."""
        return _Transport

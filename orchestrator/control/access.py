"""Access to the broker: the line in the broker's users file that limits a login of workers to its rights.

infra/valkey/users.acl holds the same line for a login `worker`; docs/security.md explains the rights.
"""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import quote, urlsplit

from catalog.logins import delivery_keys, heartbeat_key, record_queue, worker_id_of
from catalog.queues import KEY_PREFIX

_TAKING = (
    "+hello +auth +ping +select +brpop +lpush +rpush +llen +hset +hget +hdel +zadd +zrem +zrange "
    "+watch +unwatch +multi +exec"
)


def acl_line(login: str, password: str) -> str:
    """The line of users.acl for `login`, with the digest of its password."""
    return acl_line_of_digest(login, sha256(password.encode()).hexdigest())


def acl_line_of_digest(login: str, digest: str) -> str:
    """The same for the SHA-256 of a password."""
    keys = " ".join(f"~{KEY_PREFIX}{key}" for key in ("render.*", *delivery_keys(login).values()))
    records = f"(%W~{KEY_PREFIX}{record_queue(login)} -@all +lpush)"
    heartbeats = f"(%W~{KEY_PREFIX}{heartbeat_key(worker_id_of(login, '*'))} -@all +set)"
    return f"user {login} on #{digest} resetkeys resetchannels {keys} -@all {_TAKING} {records} {heartbeats}"


def url_of(broker_url: str, login: str, password: str) -> str:
    """The broker's address with another login."""
    parts = urlsplit(broker_url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(login, safe='')}:{quote(password, safe='')}@{place}").geturl()

"""Logins: the broker account of a worker, which proves who wrote a record.

Each login may write only to the record list and the heartbeat keys that carry its own name, and a worker's id begins
with its login. So the name of a list proves which login wrote each record on it, whatever the record claims. A broker
without users, such as the embedded one, has no logins: ids are plain, and all workers share one list.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit

LOGIN_PATTERN: Final = r"[a-z0-9][a-z0-9_-]{0,31}"
RECORD_QUEUE: Final = "records"  # of workers without a login, and of those of an earlier version
CONTROL_KEY: Final = "control"  # there once a control side has been at the broker that reads lists and keys of logins
_RESERVED: Final = frozenset({"unreadable"})  # a list of that name was an earlier version's own
_LOGIN: Final = re.compile(LOGIN_PATTERN)
_SEPARATOR: Final = "."  # no login holds one, so none is the beginning of another's names


def is_login(name: str) -> bool:
    """True for a name that the ids of workers may begin with."""
    return _LOGIN.fullmatch(name) is not None and name not in _RESERVED


def login_of_url(broker_url: str) -> str:
    """The login that an address names; "" for none, and for one that no worker's id may begin with."""
    name = unquote(urlsplit(broker_url).username or "")
    return name if is_login(name) else ""


def worker_id_of(login: str, number: str) -> str:
    """The id of a worker: `number`, after its login where it has one."""
    return f"{login}{_SEPARATOR}{number}" if login else number


def login_of_worker(worker_id: str) -> str:
    """The login that a worker's id begins with; "" for a plain one."""
    return worker_id.partition(_SEPARATOR)[0] if _SEPARATOR in worker_id else ""


def short_worker_id(worker_id: str) -> str:
    """A worker's id as tables show it: its login and the first digits of its number."""
    login = login_of_worker(worker_id)
    return f"{login}{_SEPARATOR}{worker_id[len(login) + 1 :][:6]}" if login else worker_id[:8]


def record_queue(login: str) -> str:
    """The list of a login's records."""
    return f"{RECORD_QUEUE}{_SEPARATOR}{login}" if login else RECORD_QUEUE


def login_of_record_queue(queue: str) -> str | None:
    """The login whose list of records that is; None when it is no list of records."""
    if queue == RECORD_QUEUE:
        return ""
    login = queue.removeprefix(RECORD_QUEUE + _SEPARATOR)
    return login if login != queue and is_login(login) else None


def heartbeat_key(worker_id: str) -> str:
    """The key of a worker's latest heartbeat."""
    return f"heartbeat{_SEPARATOR}{worker_id}"


def delivery_keys(login: str) -> dict[str, str]:
    """The broker's keys for messages that a login's workers have received and not acknowledged, as options of kombu.

    Each login has keys of its own and cannot read another login's, so orders in hand stay with their receiver.
    """
    end = f"{_SEPARATOR}{login}" if login else ""
    return {"unacked_key": f"unacked{end}", "unacked_index_key": f"unacked_index{end}"}

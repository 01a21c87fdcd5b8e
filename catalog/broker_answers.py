"""Broker answers: sort the errors of a Redis or Valkey server by the reaction they need, and name the usable servers.

A server that is full, starting, restarting or changing its role answers with an error, and so does a server whose users
were changed. The first kind of error passes without help, so the client waits; the second kind needs a person.
Controller and worker sort errors by the rules of this module, so that each waits for the same errors. The client
libraries turn some answers into exception classes and drop the server's error word from the message; `server_word`
returns the word for every answer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any, Final

from catalog.errors import BrokerError
from catalog.secrets import scrub_broker_error, without_secrets
from catalog.spellings import is_in_clear

log = logging.getLogger(__name__)

REDIS_MIN: Final = (7, 0)  # the first with selectors for users, which infra/valkey/users.acl has
SAFE_POLICY: Final = "noeviction"
AWAY: Final = "AWAY"  # in place of a server's word: no connection, or one that broke
NO_LOGIN: Final = "NOAUTH"

# The server's word for each class that redis-py makes of an answer. Of a class that is not here its bases count.
_WORDS: Final[Mapping[str, str]] = {
    "AskError": "ASK",
    "AuthenticationError": NO_LOGIN,
    "AuthenticationWrongNumberOfArgsError": NO_LOGIN,
    "AuthorizationError": NO_LOGIN,
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "ConnectionError": AWAY,
    "ExecAbortError": "EXECABORT",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "OSError": AWAY,
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TimeoutError": AWAY,
    "TryAgainError": "TRYAGAIN",
}
_PASSING: Final = frozenset((
    AWAY,
    "BUSY",  # a script runs
    "EXECABORT",  # a transaction was given up for a reason that was said before
    "LOADING",
    "MASTERDOWN",
    "MISCONF",  # the disk is full
    "NOREPLICAS",
    "OOM",
    "READONLY",  # the server has become a replica
    "UNBLOCKED",  # the server's role changes
))  # fmt: skip
_CLUSTER: Final = frozenset(("ASK", "CLUSTERDOWN", "CROSSSLOT", "MOVED", "TRYAGAIN"))
_LOGIN: Final = frozenset((NO_LOGIN, "WRONGPASS"))
_IN_PIPELINE: Final = "of pipeline caused error: "  # redis-py's text between the command and the answer
_ABORTED: Final = "Transaction discarded because of: "
_WORD: Final = re.compile(r"-?([A-Z]{3,})(?: |$)")
_MOST_CLIENTS: Final = "max number of clients"
_NO_DATABASE: Final = ("DB index is out of range", "invalid DB index")

_CLUSTER_MODE: Final = "a broker in cluster mode cannot be used"
_NO_CLUSTER: Final = "use a single Valkey or Redis server with cluster mode off; it may have replicas"
_NO_LONGER_PRIMARY: Final = (
    "the broker at {place} is a replica at the moment",
    "make it the primary again, or name the primary in TUNEMILL_BROKER_URL",
)
_REFUSED_LOGIN: Final = (
    "the broker at {place} refuses the login",
    "correct user and password in TUNEMILL_BROKER_URL, or the server's users (infra/valkey/users.acl)",
)
_NO_ANSWER: Final = (
    "no answer from the broker at {place}",
    "start the broker, or correct TUNEMILL_BROKER_URL (redis://host:6379/0), or unset it to use the embedded broker",
)
# The fault and its remedy, by the server's error word.
_EXPLAINED: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(_CLUSTER, (_CLUSTER_MODE, _NO_CLUSTER)),
    **dict.fromkeys(_LOGIN, _REFUSED_LOGIN),
    **dict.fromkeys(("READONLY", "MASTERDOWN", "UNBLOCKED"), _NO_LONGER_PRIMARY),
    "NOPERM": (
        "the broker at {place} accepts this login, but the login lacks rights",
        "give the login the rights that infra/valkey/users.acl names",
    ),
    "DENIED": (
        "the broker at {place} refuses connections from other machines",
        "configure users with passwords, as infra/valkey does",
    ),
    "OOM": ("the broker at {place} is full", "raise the broker's `maxmemory`; no record is lost"),
    "MISCONF": (
        "the broker cannot write to its disk at {place}",
        "free some space on the broker's disk; no record is lost",
    ),
    "NOREPLICAS": (
        "the broker at {place} has too few replicas",
        "start the replicas, or lower the broker's `min-replicas-to-write`",
    ),
    "BUSY": ("the broker at {place} is busy with a script", "wait, or end the script with SCRIPT KILL"),
    "LOADING": ("the broker at {place} is loading its data", "wait until the broker has loaded its data"),
}


@cache
def tell_if_in_clear(url: str) -> None:
    """Warn, once, when the traffic between this machine and the broker at `url` is not encrypted."""
    if is_in_clear(url):
        log.warning(
            "the connection to the broker at %s has no TLS: an attacker in the network can read its password and the "
            "orders; give the broker a certificate and write rediss:// in TUNEMILL_BROKER_URL (docs/security.md)",
            without_secrets(url),
        )


class Sort(Enum):
    """The reaction that an error of the broker needs."""

    PASSES = "passes"  # wait, and ask again
    REFUSED = "refused"  # a person has to change the server or the address
    DEFECT = "defect"  # neither helps: the program is wrong, or the server is no Redis


def sort_of(error: BaseException) -> Sort:
    """The sort of `error`, or of the error that caused it."""
    for each in _causes(error):
        word = server_word(each)
        if word in _PASSING or _MOST_CLIENTS in str(each):
            return Sort.PASSES
        if word in _CLUSTER or word in _LOGIN or word in ("NOPERM", "DENIED") or _is_of_database(each):
            return Sort.REFUSED
    return Sort.DEFECT


def server_word(error: BaseException) -> str:
    """The word with which the server's answer began, such as OOM; AWAY without an answer; empty for any other error."""
    from redis.exceptions import ResponseError

    for kind in type(error).__mro__:
        if found := _WORDS.get(kind.__name__):
            break
    else:
        found = ""
    said = str(error).rpartition(_IN_PIPELINE)[2]
    if found == "EXECABORT" and _ABORTED in said:  # the server says for which reason
        return _first_word(said.partition(_ABORTED)[2]) or found
    return found or (_first_word(said) if isinstance(error, ResponseError) else "")


def in_words(error: BaseException, broker_url: str) -> BrokerError:
    """A BrokerError that explains `error`; with `needs_person` when waiting does not help."""
    told = next((each for each in _causes(error) if server_word(each)), error)
    sort = sort_of(error)
    what, fix = _EXPLAINED.get(server_word(told), _NO_ANSWER) if sort is not Sort.DEFECT else _NO_ANSWER
    if _is_of_database(told):
        what, fix = "the broker at {place} has no such database", "correct the number that ends TUNEMILL_BROKER_URL"
    what = what.format(place=without_secrets(broker_url))
    why = scrub_broker_error(f"{type(told).__name__}: {told}", broker_url)
    found = BrokerError(what, why=why, fix=fix)
    found.needs_person = sort is Sort.REFUSED
    return found


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, because kombu wraps the client's errors in its own."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__


def _first_word(said: str) -> str:
    found = _WORD.match(said)
    return found[1] if found else ""


def _is_of_database(error: BaseException) -> bool:
    from redis.exceptions import ResponseError

    return isinstance(error, ResponseError) and any(words in str(error) for words in _NO_DATABASE)


# ------------------------------------------------------------ which servers can be used


def check_server(client: Any, *, asks_settings: bool = True) -> None:
    """Prove that the server behind `client` (a redis-py client) loses no takes. Raises BrokerError.

    Settings that the user may not read are skipped. A worker's login may not read any, and each try would fill the
    server's log of refusals; so without `asks_settings` only the greeting is read.
    """
    settings = _ask(client, "INFO") if asks_settings else {}
    said = _ask(client, "HELLO") or {
        "server": settings.get("server_name", "redis"),
        "version": settings.get("redis_version", ""),
        "mode": settings.get("redis_mode", ""),
        "role": settings.get("role", ""),
    }
    match said.get("mode"):
        case "cluster":
            raise _unusable(_CLUSTER_MODE, "the messages of a take would lie on different machines", _NO_CLUSTER)
        case "sentinel":
            why = "a sentinel monitors servers and holds no messages"
            raise _unusable(
                "a sentinel cannot be used as the broker", why, "name the server that the sentinel monitors"
            )
    _check_version(said)
    if said.get("role") in ("replica", "slave"):
        raise _unusable(
            "the broker is a replica and accepts no messages",
            "a replica only copies its primary server",
            "name the primary in TUNEMILL_BROKER_URL; during a failover, wait until it ends and start again",
        )
    _check_policy(settings)


def _check_version(said: Mapping[str, str]) -> None:
    version = said.get("version", "")
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if said.get("server") == "redis" and found and found < REDIS_MIN:
        raise _unusable(
            f"the broker is too old: Redis {version}",
            "this version cannot give workers fewer rights than the controller",
            "use Redis 7.0 or newer, or Valkey",
        )


def _check_policy(settings: Mapping[str, str]) -> None:
    policy = settings.get("maxmemory_policy", SAFE_POLICY)
    if policy != SAFE_POLICY and settings.get("maxmemory", "0") != "0":
        raise _unusable(
            "the broker may delete takes and records when it is full",
            f"the broker's `maxmemory-policy` is {policy}",
            f"set `maxmemory-policy {SAFE_POLICY}`, as infra/valkey/valkey.conf does",
        )


def _unusable(what: str, why: str, fix: str) -> BrokerError:
    error = BrokerError(what, why=why, fix=fix)
    error.needs_person = True
    return error


def _ask(client: Any, *command: str) -> dict[str, str]:
    """The server's answer by name; empty where the user may not ask, or the server does not know the command."""
    from redis.exceptions import NoPermissionError, ResponseError

    try:
        answer = client.execute_command(*command)
    except NoPermissionError:
        return {}
    except ResponseError as error:
        if sort_of(error) is not Sort.DEFECT:
            raise
        return {}
    if isinstance(answer, list):  # in the older protocol names and values follow each other
        answer = dict(zip(answer[::2], answer[1::2], strict=False))
    return {_text(name): _text(value) for name, value in answer.items()}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

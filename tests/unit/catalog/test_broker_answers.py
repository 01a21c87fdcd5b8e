"""Answers of a broker: which pass by themselves, which need a person, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.exceptions import BatchPublishError, OperationalError
from redis._parsers import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError

from catalog.broker_answers import Sort, check_server, in_words, server_word, sort_of
from catalog.errors import BrokerError

URL = "rediss://worker:s3cret-word@broker.example.com:6379/0?ssl_ca_certs=/etc/ca.crt"
# As Redis 7.0 and Valkey 9.1 write them.
PASSES = {
    "OOM command not allowed when used memory > 'maxmemory'.": "OOM",
    "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.": "OOM",
    "EXECABORT Transaction discarded because of: MISCONF Redis is configured to save RDB snapshots": "MISCONF",
    "EXECABORT Transaction discarded because of previous errors.": "EXECABORT",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": "MISCONF",
    "LOADING Redis is loading the dataset in memory": "LOADING",
    "READONLY You can't write against a read only replica.": "READONLY",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "MASTERDOWN",
    "NOREPLICAS Not enough good replicas to write.": "NOREPLICAS",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)": "UNBLOCKED",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": "BUSY",
    "ERR max number of clients reached": "AWAY",
}
REFUSED = {
    "NOAUTH Authentication required.": "NOAUTH",
    "WRONGPASS invalid username-password pair or user is disabled.": "NOAUTH",
    "NOPERM User worker has no permissions to run the 'brpop' command": "NOPERM",
    "DENIED Redis is running in protected mode because protected mode is enabled": "DENIED",
    "CROSSSLOT Keys in request don't hash to the same slot": "CROSSSLOT",
    "MOVED 3999 127.0.0.1:6381": "MOVED",
    "ASK 3999 127.0.0.1:6381": "ASK",
    "CLUSTERDOWN The cluster is down": "CLUSTERDOWN",
    "ERR DB index is out of range": "",
}


def answer(said: str) -> Exception:
    """What redis-py makes of an answer."""
    error = BaseParser.parse_error(said)
    assert isinstance(error, Exception)
    return error


def raised_from(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(("said", "word"), PASSES.items())
def test_what_a_broker_says_while_it_is_full_or_changes_passes_by_itself(said, word):
    assert (sort_of(answer(said)), server_word(answer(said))) == (Sort.PASSES, word)
    assert not in_words(answer(said), URL).needs_person


@pytest.mark.parametrize(("said", "word"), REFUSED.items())
def test_what_no_time_mends_needs_a_person(said, word):
    assert (sort_of(answer(said)), server_word(answer(said))) == (Sort.REFUSED, word)
    assert in_words(answer(said), URL).needs_person


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("Error 111 connecting to broker"),
        RedisTimeoutError("Timeout reading from socket"),
        ConnectionResetError("Connection reset by peer"),
        TimeoutError("timed out"),
        BrokenPipeError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_connection_passes_by_itself(error):
    assert sort_of(error) is Sort.PASSES


@pytest.mark.parametrize(
    "error",
    [answer("WRONGTYPE Operation against a key"), answer("ERR unknown command 'BRPOP'"), WatchError(), KeyError("x")],
    ids=lambda error: type(error).__name__,
)
def test_anything_else_is_a_defect(error):
    assert sort_of(error) is Sort.DEFECT


def test_an_answer_counts_through_the_errors_of_kombu_and_of_pipelines():
    full = answer("OOM command not allowed when used memory > 'maxmemory'.")
    assert sort_of(raised_from(OperationalError("gone"), full)) is Sort.PASSES
    assert sort_of(raised_from(BatchPublishError("uncertain"), answer("WRONGPASS invalid"))) is Sort.REFUSED
    # redis-py puts the command before what its parser knows no class for.
    told = ResponseError("Command # 1 (ZADD unacked_index 1 a) of pipeline caused error: MISCONF it cannot persist")
    assert (sort_of(told), server_word(told)) == (Sort.PASSES, "MISCONF")


def test_the_words_name_the_place_and_the_missing_right_and_no_login():
    error = in_words(answer("NOPERM User worker has no permissions to run the 'brpop' command"), URL)
    assert "rediss://broker.example.com:6379/0" in error.what
    assert "'brpop'" in error.why
    assert "users.acl" in error.fix
    assert not [word for word in ("s3cret", "User worker") if word in str(error)]
    assert error.exit_code == 30


def test_a_cluster_is_told_from_a_broker_that_is_away():
    error = in_words(answer("CROSSSLOT Keys in request don't hash to the same slot"), URL)
    assert "cluster mode cannot be used" in error.what
    assert "cluster mode off" in error.fix


class FakeClient:
    """A client of a server that says what it is; contract tests prove that real ones answer in this form."""

    def __init__(self, hello: Any, info: Any = None) -> None:
        self._answers = {"HELLO": hello, "INFO": {} if info is None else info}

    def execute_command(self, command: str) -> Any:
        answer = self._answers[command]
        if isinstance(answer, Exception):
            raise answer
        return answer


HELLO = {b"server": b"redis", b"version": b"7.0.15", b"mode": b"standalone", b"role": b"master"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({b"version": b"6.2.14"}, "too old: Redis 6.2.14"),
        ({b"mode": b"cluster"}, "cluster mode"),
        ({b"mode": b"sentinel"}, "sentinel"),
        ({b"role": b"replica"}, "replica"),
    ],
)
def test_a_server_that_cannot_be_used_is_named(changed, words):
    check_server(FakeClient(HELLO))
    for hello in ({**HELLO, **changed}, [part for pair in {**HELLO, **changed}.items() for part in pair]):
        with pytest.raises(BrokerError, match=words) as raised:
            check_server(FakeClient(hello))
        assert raised.value.needs_person
        assert raised.value.fix


def test_a_valkey_is_not_taken_for_an_old_redis():
    check_server(FakeClient({**HELLO, b"server": b"valkey", b"version": b"1.0.0"}))


def test_a_policy_that_may_evict_is_refused_by_its_name_once_there_is_a_limit():
    check_server(FakeClient(HELLO, {"maxmemory_policy": "allkeys-lru", "maxmemory": 0}))
    check_server(FakeClient(HELLO, {"maxmemory_policy": "noeviction", "maxmemory": 1}))
    lru = FakeClient(HELLO, {"maxmemory_policy": "allkeys-lru", "maxmemory": 1})
    with pytest.raises(BrokerError) as raised:
        check_server(lru)
    assert "allkeys-lru" in raised.value.why
    assert "noeviction" in raised.value.fix
    check_server(lru, asks_settings=False)


def test_what_a_login_may_not_ask_is_not_looked_at():
    refused = NoPermissionError("User worker has no permissions to run the 'info' command")
    check_server(FakeClient(HELLO, refused))
    check_server(FakeClient(refused, refused))
    info = {"redis_version": "5.0.7", "redis_mode": "standalone", "role": "master"}
    with pytest.raises(BrokerError, match=r"Redis 5\.0\.7"):
        check_server(FakeClient(answer("ERR unknown command `HELLO`"), info))

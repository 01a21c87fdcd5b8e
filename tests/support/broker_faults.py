"""Temporary faults of a broker: each one begins on a real server, and is over at the end of its `with` block.

A client that connected before a fault may have lost its connection after it, as a worker's client has.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress

import redis

from catalog.broker_answers import server_word
from tests.support.servers import BrokerServer, free_port

# A server allows no test to change where its files lie, but for this.
OPTIONS = ("--enable-protected-configs", "yes")


@contextmanager
def full(server: BrokerServer) -> Iterator[None]:
    """Its memory is full."""
    with server.admin() as admin:
        admin.config_set("maxmemory", 1)
        yield
        admin.config_set("maxmemory", "1gb")


@contextmanager
def disk_full(server: BrokerServer) -> Iterator[None]:
    """The server could not write to its disk the last time, and accepts nothing until it can."""
    gone = server.folder / "gone"
    with server.admin() as admin:
        gone.mkdir()
        admin.config_set("save", "3600 1000000")
        admin.config_set("dir", str(gone))
        gone.rmdir()
        with suppress(redis.ResponseError):
            admin.bgsave()
        _until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        yield
        admin.config_set("dir", str(server.folder))
        admin.bgsave()
        _until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "ok")
        admin.config_set("save", "")


@contextmanager
def replica(server: BrokerServer) -> Iterator[None]:
    """The server has become the replica of an unreachable one; it can be read."""
    with server.admin() as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", free_port())
        yield
        admin.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def silent_replica(server: BrokerServer) -> Iterator[None]:
    """The server has become a replica that answers nothing while its primary is unreachable."""
    with server.admin() as admin:
        admin.config_set("replica-serve-stale-data", "no")
        with replica(server):
            yield
        admin.config_set("replica-serve-stale-data", "yes")


@contextmanager
def without_replicas(server: BrokerServer) -> Iterator[None]:
    """The server requires a replica and has none."""
    with server.admin() as admin:
        admin.config_set("min-replicas-to-write", 1)
        yield
        admin.config_set("min-replicas-to-write", 0)


@contextmanager
def busy(server: BrokerServer) -> Iterator[None]:
    """A script does not end."""
    with server.admin() as admin, server.admin(timeout_s=600) as other:
        admin.config_set("busy-reply-threshold", 10)
        script = threading.Thread(target=lambda: _ends_with_error(lambda: other.eval("while true do end", 0)))
        script.start()
        _until(lambda: _is_refused(lambda: admin.get("anything"), "BUSY"))
        yield
        admin.script_kill()
        script.join()


@contextmanager
def crowded(server: BrokerServer) -> Iterator[None]:
    """The server has closed all connections and accepts none: there are too many clients."""
    with server.admin() as admin:
        admin.ping()
        admin.config_set("maxclients", 1)
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        yield
        admin.config_set("maxclients", 1000)


@contextmanager
def loading(server: BrokerServer) -> Iterator[None]:
    """The server was started again and loads its data for some seconds."""
    with server.admin() as admin, admin.pipeline(transaction=False) as pipe:
        for number in range(20_000):
            pipe.rpush("tunemill:ballast", number)
        pipe.execute()
    server.kill()
    server.start(*OPTIONS, "--key-load-delay", "100")
    yield
    _until_ready(server)
    with server.admin() as admin:
        admin.config_set("key-load-delay", 0)
        admin.delete("tunemill:ballast")
        admin.bgrewriteaof()


@contextmanager
def frozen(server: BrokerServer) -> Iterator[None]:
    """The server accepts connections and never answers."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


@contextmanager
def down(server: BrokerServer) -> Iterator[None]:
    """The server is killed, and comes back with its data."""
    server.kill()
    yield
    server.start(*OPTIONS)
    _until_ready(server)


@contextmanager
def down_and_forgetful(server: BrokerServer) -> Iterator[None]:
    """The server is killed, and comes back without its data."""
    server.kill()
    server.forget()
    yield
    server.start(*OPTIONS)
    _until_ready(server)


@contextmanager
def resetting(server: BrokerServer) -> Iterator[None]:
    """The server closes every connection again and again."""
    is_over = threading.Event()

    def reset() -> None:
        with server.admin() as admin:
            while not is_over.wait(0.5):
                admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    thread = threading.Thread(target=reset)
    thread.start()
    yield
    is_over.set()
    thread.join()


@contextmanager
def failing_over(server: BrokerServer) -> Iterator[None]:
    """Another server takes over in order, as before an upgrade, and hands back later."""
    folder = server.folder / "other"
    folder.mkdir(exist_ok=True)
    other = BrokerServer(server.kind, folder, {})
    other.write_users({"controller": "c", "worker": "w"})
    other.start("--masteruser", "admin", "--masterauth", "any", "--replicaof", f"127.0.0.1 {server.port}")
    try:
        with server.admin() as admin:
            admin.config_set("masteruser", "admin")
            admin.config_set("masterauth", "any")
            _fail_over(admin, other)
        yield
        with other.admin() as admin:
            _until(lambda: len(admin.info("replication").get("slave0", {})) > 0)
            _fail_over(admin, server)
    finally:
        other.close()


def _fail_over(primary: redis.Redis, to: BrokerServer) -> None:
    _until(lambda: primary.info("replication").get("slave0", {}).get("state") == "online", timeout_s=30)
    primary.execute_command("FAILOVER", "TO", "127.0.0.1", to.port)
    _until(lambda: primary.info("replication")["role"] == "slave", timeout_s=30)


# What the server answers meanwhile, and passes by itself.
FAULTS: Mapping[str, Callable[[BrokerServer], AbstractContextManager[None]]] = {
    "full": full,
    "disk full": disk_full,
    "replica": replica,
    "silent replica": silent_replica,
    "without replicas": without_replicas,
    "busy": busy,
    "crowded": crowded,
    "loading": loading,
    "frozen": frozen,
    "down": down,
    "forgetful": down_and_forgetful,
    "resetting": resetting,
    "failing over": failing_over,
}


def _until_ready(server: BrokerServer) -> None:
    with server.admin() as admin:
        _until(lambda: not _is_refused(admin.ping, "LOADING"), timeout_s=60)


def _until(condition: Callable[[], bool], *, timeout_s: float = 10) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the fault does not begin or end"
        time.sleep(0.05)


def _is_refused(question: Callable[[], object], word: str) -> bool:
    try:
        question()
    except (redis.RedisError, OSError) as error:
        return server_word(error) == word
    return False


def _ends_with_error(command: Callable[[], object]) -> None:
    with suppress(redis.RedisError):
        command()

"""Whatever a broker answers while it is full, starts, stops or changes its role, everybody waits for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from catalog.broker_answers import Sort, check_server, server_word, sort_of
from catalog.errors import BrokerError
from catalog.messages import WorkerStarted
from catalog.queues import queue_of
from orchestrator.control.broker import Queues
from orchestrator.ledger.work import Outgoing
from tests.chaos.form import IS_LONG, one_of
from tests.contract.test_worker import ROOT, Farm, stop
from tests.support import servers
from tests.support.broker_faults import FAULTS, full, replica
from tests.support.broker_scene import PLANTED, TUNEMILL, Scene, a_scene, a_server
from tests.support.makers import a_message, takes
from tests.support.servers import BrokerServer

# The short form leaves out Redis without TLS, which answers as it does with TLS.
KINDS = ["valkey", "redis", "redis-tls"] if IS_LONG else ["valkey", "redis-tls"]
QUEUE = queue_of(takes(1)[0].spec)
OUTAGE_S = 13  # longer than a worker may be silent, and than an idle one once took to end by itself
SLOW = {"loading", "frozen", "failing over"}  # to begin or to end


@pytest.fixture(scope="module", params=KINDS)
def _any_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerServer]:
    with a_server(request.param, tmp_path_factory.mktemp("broker")) as server:
        yield server


@pytest.fixture
def server(_any_server: BrokerServer) -> BrokerServer:
    """A server of each kind, empty."""
    with _any_server.admin() as admin:
        admin.flushall()
    return _any_server


@pytest.fixture
def farm(server: BrokerServer, tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(server.url("controller"), tmp_path)
    farm.environment["TUNEMILL_BROKER_URL"] = server.url("worker")
    yield farm
    farm.close()


# ------------------------------------------------------------ what the servers answer


def ask_as_everybody(client: redis.Redis) -> Iterator[Exception]:
    """The errors that workers and the control side get of their commands."""
    for command in (
        client.ping,
        lambda: client.brpop("tunemill:render.x", 0.01),
        lambda: client.pipeline().llen("tunemill:a").llen("tunemill:b").execute(),
        lambda: client.pipeline().zadd("tunemill:u", {"a": 1}).hset("tunemill:h", "a", "1").execute(),
        lambda: client.lpush("tunemill:records", 1),
        lambda: client.set("tunemill:heartbeat.x", 1),
        lambda: client.eval("return redis.call('LTRIM', KEYS[1], 0, -1)", 1, "tunemill:records"),
        lambda: client.lrange("tunemill:records", 0, -1),
    ):
        try:
            command()
        except (redis.RedisError, OSError) as error:
            yield error


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - SLOW))
def test_no_answer_of_a_server_in_trouble_is_taken_for_a_defect(server, fault):
    with server.admin(timeout_s=1) as known:
        known.ping()
        with FAULTS[fault](server), server.admin(timeout_s=1) as new:
            errors = [*ask_as_everybody(known), *ask_as_everybody(new)]
    assert [error for error in errors if sort_of(error) is not Sort.PASSES] == []
    assert errors or fault == "resetting"


def test_a_worker_that_waits_for_a_message_when_the_role_changes_is_told_to_ask_again(server):
    errors: list[Exception] = []

    def wait_for_a_message() -> None:
        with server.admin(timeout_s=20) as client:
            try:
                client.brpop("tunemill:render.x", 10)
            except redis.RedisError as error:
                errors.append(error)

    waiting = threading.Thread(target=wait_for_a_message)
    waiting.start()
    with server.admin() as admin:
        while admin.info("clients")["blocked_clients"] == 0:
            time.sleep(0.01)
    with replica(server):
        waiting.join(timeout=5)
    assert [(sort_of(error), server_word(error)) for error in errors] == [(Sort.PASSES, "UNBLOCKED")]


def test_the_settings_that_are_shipped_are_in_force(server):
    lines = (servers.INFRA / "valkey.conf").read_text().splitlines()
    shipped = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    ours = {"port", "tls-port", "dir", "aclfile", *(name for name in shipped if name.startswith("tls-"))}
    with server.admin() as admin:
        for name, value in shipped.items():
            if name not in ours:
                found = admin.config_get(name)[name]
                assert found == {"1gb": str(2**30), "8mb": str(2**23), '""': ""}.get(value, value), name
        if server.kind == "redis-tls":
            assert admin.config_get("port") == {"port": "0"}
            assert admin.config_get("tls-protocols") == {"tls-protocols": "TLSv1.2 TLSv1.3"}


# ------------------------------------------------------------ who waits


@pytest.mark.parametrize(("kind", "fault"), one_of(("valkey", full), ("redis-tls", replica)))
def test_workers_and_controller_wait_and_nothing_counts_as_lost(kind, fault, tmp_path):
    with a_scene(kind, tmp_path, batch_s=3) as scene:
        with fault(scene.server):
            scene.endure(OUTAGE_S)
        scene.finish()
        # The broker could be read all the while, so only the silence of those who could not write was seen.
        assert scene.count("losses > 0") == 0


def test_an_idle_worker_that_finds_takes_on_a_full_broker_waits(farm, server):
    worker = farm.start_worker("--threads", "2")
    farm.wait(lambda: len(farm.of(WorkerStarted)) == 2)
    with stopped(worker):
        farm.send(takes(6))
        with full(server):
            worker.send_signal(signal.SIGCONT)
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(timeout=OUTAGE_S)
    wait_for_new_takes(farm)
    errors = stop(worker)
    assert any(words in errors for words in ("takes no notes", "the broker said OOM", "cannot record")), errors


@contextmanager
def stopped(worker: subprocess.Popen[str]) -> Iterator[None]:
    worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGCONT)


def wait_for_new_takes(farm: Farm) -> None:
    later = takes(9)[6:]
    farm.send(later)
    farm.wait(lambda: {take.id for take in later} <= {take_id for take_id, _ in farm.outcomes()})


def test_a_connection_that_kombu_has_closed_itself_is_an_outage_and_the_next_try_has_another(broker_url):
    with closing(Queues(broker_url)) as queues:
        with pytest.raises(BrokerError, match="no answer from the broker") as raised:
            use_a_closed_channel(queues)
        assert "'NoneType' object has no attribute 'client'" in raised.value.why
        assert not raised.value.needs_person
        queues.send([Outgoing(QUEUE, a_message(take)) for take in takes(2)])
        assert queues.lengths([QUEUE]) == {QUEUE: 2}


def use_a_closed_channel(queues: Queues) -> None:
    with queues._in_words(), queues._app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.close()
        channel._get_pool()


def test_a_defect_of_our_own_is_not_taken_for_an_outage(broker_url):
    with closing(Queues(broker_url)) as queues, pytest.raises(AttributeError), queues._in_words():
        broker_url.no_such_thing()


# ------------------------------------------------------------ who ends, in words


def test_other_users_after_a_restart_end_everybody_in_words(tmp_path):
    with a_scene("valkey", tmp_path, batch_s=60) as scene:
        scene.server.kill()
        scene.server.write_users({"controller": "another", "worker": "another"})
        scene.server.start()
        assert_all_end_in_words(scene, "refuses the login")


def test_rights_that_are_taken_away_end_everybody_in_words(tmp_path):
    with a_scene("valkey", tmp_path, batch_s=60) as scene:
        with scene.server.admin() as admin:
            admin.execute_command("ACL", "SETUSER", "worker", "-brpop")
            admin.execute_command("ACL", "SETUSER", "controller", "-@all", "+ping", "+hello")
        assert_all_end_in_words(scene, "no permissions to run the '")
        assert "'brpop'" in scene.said("idle")


def test_a_worker_that_may_no_longer_report_ends_in_words(server, farm):
    worker = farm.start_worker()
    farm.wait(lambda: len(farm.of(WorkerStarted)) == 2)
    with server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "worker", "clearselectors", "-set")
        try:
            _, errors = worker.communicate(timeout=25)
        finally:
            admin.execute_command("ACL", "LOAD")
    assert worker.returncode == 30
    assert "accepts this login, but the login lacks rights" in errors
    assert not [word for word in (PLANTED, "Traceback") if word in errors]


def assert_all_end_in_words(scene: Scene, words: str) -> None:
    scene.wait(lambda: len(scene.ended()) == len(scene.processes), "all have ended", timeout_s=40)
    assert set(scene.ended().values()) == {30}
    for name in scene.processes:
        assert words in scene.said(name), scene.said(name)
        assert "fix: " in scene.said(name)
        assert not [word for word in (PLANTED, "Traceback") if word in scene.said(name)]


# ------------------------------------------------------------ which servers are refused

PROGRAMS = {"valkey": servers._valkey_program, "redis": servers.redis_program}


@contextmanager
def plain_server(kind: str, folder: Path, *options: str) -> Iterator[int]:
    """A server without users, with `options`; yields its port."""
    port = servers.free_port()
    (folder / "conf").write_text(f'port {port}\nbind 127.0.0.1\ndir {folder}\nsave ""\n')
    command = [PROGRAMS[kind](), str(folder / "conf"), *servers.KNOWABLE, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        servers._wait_for(port)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def cluster(kind: str, folder: Path) -> Iterator[int]:
    """The one server of a cluster, which has all slots."""
    # By default the port for other servers is 10,000 higher, and may be none.
    bus = ("--cluster-port", str(servers.free_port()))
    with plain_server(kind, folder, "--cluster-enabled", "yes", *bus) as port:
        with redis.Redis(port=port) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in as_bytes(client.execute_command("CLUSTER", "INFO")):
                time.sleep(0.05)
        yield port


def as_bytes(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else "\n".join(f"{k}:{v}" for k, v in answer.items()).encode()


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_broker_in_cluster_mode_is_refused_by_both_sides_before_an_engine_is_loaded(kind, tmp_path):
    with cluster(kind, tmp_path) as port:
        assert_refused(port, tmp_path, "cluster mode cannot be used", "cluster mode off")


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_broker_that_may_evict_is_refused_by_both_sides(kind, tmp_path):
    options = ("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    with plain_server(kind, tmp_path, *options) as port:
        assert_refused(port, tmp_path, "`maxmemory-policy` is allkeys-lru", "noeviction")


def test_a_replica_is_refused_at_the_start(tmp_path):
    with plain_server("valkey", tmp_path, "--replicaof", f"127.0.0.1 {servers.free_port()}") as port:
        assert_refused(port, tmp_path, "the broker is a replica", "name the primary")


def test_a_sentinel_is_refused_at_the_start(tmp_path):
    with plain_server("redis", tmp_path, "--sentinel") as port, pytest.raises(BrokerError, match="sentinel"):
        Queues(f"redis://127.0.0.1:{port}/0").check()


@pytest.mark.parametrize("user", ["controller", "worker", "admin"])
def test_a_server_as_it_is_shipped_is_accepted_and_no_refusal_is_logged(server, user):
    with server.admin() as admin:
        admin.acl_log_reset()
        if user == "controller":
            Queues(server.url("controller")).check()
        elif user == "worker":
            from workers.records import check_broker

            check_broker(server.url("worker"))
        else:
            check_server(admin)
        refused = {each["object"] for each in admin.acl_log()}
    assert refused <= {"client|setinfo"}  # with which the client names itself


def assert_refused(port: int, folder: Path, *words: str) -> None:
    """A worker and a controller end within seconds, and say why in these words."""
    with closing(Farm(f"redis://127.0.0.1:{port}/0", folder)) as farm:
        worker = farm.start_worker()
        said = {"worker": worker.communicate(timeout=20)[1]}
        control = {**farm.environment, "TUNEMILL_DATABASE_URL": f"sqlite:///{folder / 'ledger.sqlite'}"}
        done = subprocess.run(
            [sys.executable, *TUNEMILL, "controller"],
            env=control,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    said["controller"] = done.stdout + done.stderr
    assert (worker.returncode, done.returncode) == (30, 30), said
    for told in said.values():
        assert not [word for word in words if word not in " ".join(told.split())], told
        assert "Traceback" not in told
        assert "batch limit" not in told  # what a worker says once its engine is loaded

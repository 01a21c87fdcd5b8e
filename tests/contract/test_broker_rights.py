"""The broker as infra/valkey sets it up: a worker can do its work there and nothing else, and TLS is TLS."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.exceptions import NoPermissionError

from catalog.errors import BrokerError
from catalog.messages import RECORD_BYTES_MAX, AttemptMade, Heartbeat, RenderMessage, TakesReturned, WorkerStarted
from catalog.orders import OrderSigner
from catalog.queues import queue_of
from orchestrator.control.access import acl_line
from orchestrator.control.broker import Queues
from orchestrator.ledger.work import Outgoing
from tests.contract.test_worker import ROOT, Farm, stop
from tests.support import servers
from tests.support.certificates import Papers, write_papers
from tests.support.makers import takes

CONTROLLERS, WORKERS = "ctl-Pa%24sw0rd-planted", "wrk-Pa%24sw0rd-planted"  # as an address holds them
PASSWORDS = {"controller": "ctl-Pa$sw0rd-planted", "worker": "wrk-Pa$sw0rd-planted"}
QUEUE = queue_of(takes(1)[0].spec)
PRESETS = ROOT / "presets"
CATALOG = """
title: Rights
description: Tracks of the tone engine.
model: tone
defaults: {duration_s: [10, 10], takes: 1}
matrix: {zones: [hotel_lobby], genres: [piano_solo]}
tracks: 4
"""


class Broker(NamedTuple):
    """A server with two users, and TLS in front of it."""

    port: int
    tls_port: int
    papers: Papers

    def url(self, user: str, *, tls: bool = False, authority: Path | None = None) -> str:
        login = f"{user}:{CONTROLLERS if user == 'controller' else WORKERS}"
        if not tls:
            return f"redis://{login}@127.0.0.1:{self.port}/0"
        trusted = authority or self.papers.authority
        return f"rediss://{login}@127.0.0.1:{self.tls_port}/0?ssl_cert_reqs=required&ssl_ca_certs={trusted}"

    def client(self, user: str) -> redis.Redis:
        return redis.Redis(port=self.port, username=user, password=PASSWORDS.get(user, "any"))

    def refusals(self) -> list[tuple[str, str]]:
        """Who was refused what since the last time."""
        with self.client("admin") as admin:
            found = [(each["username"], each["object"]) for each in admin.acl_log()]
            admin.acl_log_reset()
        return found


@pytest.fixture(scope="module")
def _broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    papers = write_papers(tmp_path_factory.mktemp("papers"))
    folder = tmp_path_factory.mktemp("valkey")
    with (
        servers.fleet_valkey(folder, PASSWORDS) as port,
        servers.tls_front(port, papers.certificate, papers.key) as tls_port,
    ):
        yield Broker(port, tls_port, papers)


@pytest.fixture
def broker(_broker: Broker) -> Broker:
    """An empty server."""
    with _broker.client("admin") as admin:
        admin.flushall()
        admin.acl_log_reset()
    return _broker


@pytest.fixture
def farm(broker: Broker, tmp_path: Path) -> Iterator[Farm]:
    """The control side and workers, each with its own login."""
    farm = Farm(broker.url("controller"), tmp_path)
    farm.environment["TUNEMILL_BROKER_URL"] = broker.url("worker")
    yield farm
    farm.close()


def test_a_worker_renders_gives_back_and_ends_without_asking_for_more_than_it_may(broker, farm):
    farm.send(takes(3))
    worker = farm.start_worker()
    farm.wait(lambda: len(farm.of(AttemptMade)) == 3)
    stop(worker)
    farm.send(takes(9)[3:])
    slow = farm.start_slow_worker(batch_s=60)
    farm.wait(lambda: any(len(beat.held) == 6 for beat in farm.of(Heartbeat)))
    slow.send_signal(signal.SIGTERM)
    farm.wait(lambda: farm.broker.lengths([QUEUE])[QUEUE] >= 2)  # what was not on the engine
    slow.send_signal(signal.SIGQUIT)
    slow.communicate(timeout=25)
    assert broker.refusals() == []


FORBIDDEN_TO_WORKERS: list[tuple[Any, ...]] = [
    ("LRANGE", "tunemill:records", 0, -1),
    ("LTRIM", "tunemill:records", 1, 0),
    ("LLEN", "tunemill:records"),
    ("LINDEX", "tunemill:records", 0),
    ("RPOP", "tunemill:records"),
    ("BRPOP", "tunemill:records", 1),
    ("DEL", "tunemill:records"),
    ("LSET", "tunemill:records", 0, "x"),
    ("RENAME", "tunemill:records", "tunemill:render.x"),
    ("LMOVE", "tunemill:records", "tunemill:render.x", "LEFT", "LEFT"),
    ("RPUSH", "tunemill:records", "x"),
    ("LPUSH", "tunemill:records.unreadable", "x"),
    ("LPUSH", "tunemill:records", "x"),
    ("LPUSH", "tunemill:records.another", "x"),
    ("LLEN", "tunemill:records.worker"),
    ("LRANGE", "tunemill:records.worker", 0, -1),
    ("SET", "tunemill:records.worker", "x"),
    ("SET", "tunemill:heartbeat.another.1", "x"),
    ("SET", "tunemill:heartbeat.1", "x"),
    ("SET", "tunemill:heartbeat.worker.1", "x", "GET"),
    ("GET", "tunemill:heartbeat.worker.1"),
    ("DEL", "tunemill:heartbeat.worker.1"),
    ("HGET", "tunemill:unacked", "x"),
    ("HGET", "tunemill:unacked.another", "x"),
    ("ZRANGE", "tunemill:unacked_index.another", 0, -1),
    ("HGETALL", "tunemill:unacked.worker"),
    ("CLIENT", "SETNAME", "x"),
    ("LRANGE", "tunemill:render.tone.4g", 0, -1),
    ("DEL", "tunemill:render.tone.4g"),
    ("LTRIM", "tunemill:render.tone.4g", 1, 0),
    ("HGETALL", "tunemill:unacked"),
    ("DEL", "tunemill:unacked"),
    ("SADD", "tunemill:_kombu.binding.records", "x"),
    ("LPUSH", "another:project", "x"),
    ("GET", "anything"),
    ("SET", "tunemill:render.x", "x"),
    ("EVAL", "return 1", 0),
    ("EVALSHA", "0" * 40, 0),
    ("SCRIPT", "LOAD", "return 1"),
    ("FUNCTION", "LIST"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("DBSIZE",),
    ("RANDOMKEY",),
    ("INFO",),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "ID", "1"),
    ("CLIENT", "PAUSE", "1"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "worker", "+@all"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "somewhere", "6379"),
    ("MODULE", "LIST"),
    ("SAVE",),
    ("PUBLISH", "tunemill:anything", "x"),
    ("SUBSCRIBE", "anything"),
    ("SWAPDB", 0, 1),
    ("MIGRATE", "somewhere", "6379", "tunemill:unacked", 0, 1),
]
FORBIDDEN_TO_CONTROLLERS: list[tuple[Any, ...]] = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("KEYS", "*"),
    ("ACL", "LIST"),
    ("MONITOR",),
    ("SHUTDOWN", "NOSAVE"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "LIST"),
    ("CLIENT", "LIST"),
    ("GET", "another:project"),
]


@pytest.mark.parametrize(
    ("user", "command"),
    [
        *(("worker", command) for command in FORBIDDEN_TO_WORKERS),
        *(("controller", command) for command in FORBIDDEN_TO_CONTROLLERS),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value))[:40],
)
def test_everything_else_is_refused(broker, user, command):
    with broker.client(user) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command)


def test_a_script_of_the_controller_reaches_no_foreign_key(broker):
    with broker.client("controller") as client, pytest.raises(redis.exceptions.ResponseError, match="No permissions"):
        client.eval("return redis.call('GET', KEYS[1])", 1, "another:project")


def test_nobody_comes_in_without_a_password(broker):
    for name, password in (("default", ""), ("worker", "wrong"), ("root", "any")):
        client = redis.Redis(port=broker.port, username=name, password=password)
        with client, pytest.raises(redis.exceptions.RedisError):
            client.ping()


def test_users_whose_passwords_nobody_filled_in_let_no_server_start(tmp_path):
    (tmp_path / "users.acl").write_text((servers.INFRA / "users.acl").read_text())
    started = subprocess.run(
        [servers._valkey_program(), "--port", "0", "--aclfile", str(tmp_path / "users.acl"), "--dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert started.returncode != 0
    assert "users.acl" in started.stdout + started.stderr


def test_the_server_throws_nothing_away_and_forgets_nothing(broker):
    with broker.client("admin") as admin:
        assert admin.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert admin.config_get("appendonly") == {"appendonly": "yes"}


def test_a_message_larger_than_any_of_ours_does_not_even_come_in(broker):
    with broker.client("worker") as client, pytest.raises(redis.exceptions.RedisError):
        client.lpush("tunemill:records.worker", b"x" * 9 * 2**20)
    with broker.client("worker") as client:
        assert client.lpush("tunemill:records.worker", b"x" * RECORD_BYTES_MAX) == 1


def test_a_worker_with_a_wrong_password_is_refused_in_words(broker, farm):
    wrong = broker.url("worker").replace(WORKERS, "other-Pa%24sw0rd")
    worker = farm.start_worker(TUNEMILL_BROKER_URL=wrong)
    _, errors = worker.communicate(timeout=20)
    assert worker.returncode == 30
    assert "refuses the login" in errors
    assert not _said(errors, "other-Pa", "sw0rd", "worker:", "Traceback")


def test_a_worker_waits_for_a_full_broker(broker, farm):
    worker = farm.start_worker("--threads", "2")
    farm.wait(lambda: len(farm.of(WorkerStarted)) == 2)
    os.kill(worker.pid, signal.SIGSTOP)
    farm.send(takes(2))
    with broker.client("admin") as admin:
        admin.config_set("maxmemory", 1)
        try:
            os.kill(worker.pid, signal.SIGCONT)
            farm.wait(lambda: farm.broker.lengths([QUEUE])[QUEUE] < 2)
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(timeout=3)
        finally:
            admin.config_set("maxmemory", "1gb")
    farm.send(takes(4)[2:])
    farm.wait(lambda: {take.id for take in takes(4)[2:]} <= {take_id for take_id, _ in farm.outcomes()})
    assert "takes no notes" in stop(worker)


def test_a_worker_whose_rights_are_taken_away_ends_with_an_error(broker, farm):
    with broker.client("admin") as admin:
        worker = farm.start_worker()
        farm.wait(lambda: len(farm.of(WorkerStarted)) == 2)
        admin.execute_command("ACL", "SETUSER", "worker", "-brpop")
        try:
            _, errors = worker.communicate(timeout=20)
        finally:
            admin.execute_command("ACL", "LOAD")
    assert worker.returncode == 30
    assert "BRPOP" in errors.upper()
    assert "infra/valkey/users.acl" in errors
    assert not _said(errors, "sw0rd")


@pytest.mark.parametrize("rights", ["+hello +ping", "+hello +ping +llen +hget ~tunemill:render.* ~tunemill:unacked"])
def test_a_worker_with_too_few_rights_ends_in_words(broker, farm, rights):
    with broker.client("admin") as admin:
        admin.execute_command("ACL", "SETUSER", "poor", "reset", "on", f">{PASSWORDS['worker']}", *rights.split())
    worker = farm.start_worker(TUNEMILL_BROKER_URL=broker.url("worker").replace("worker:", "poor:"))
    _, errors = worker.communicate(timeout=20)
    assert worker.returncode == 30
    assert "no permissions" in errors
    assert "infra/valkey/users.acl" in errors
    assert not _said(errors, "sw0rd", "poor", "Traceback")


# ------------------------------------------------------------ who speaks

# As infra/valkey/users.acl had it before each login had keys of its own.
EARLIER = (
    "resetkeys resetchannels ~tunemill:render.* ~tunemill:unacked ~tunemill:unacked_index -@all +hello +auth +ping "
    "+select +client|setinfo +brpop +lpush +rpush +llen +hset +hget +hdel +zadd +zrem +zrange +watch +unwatch +multi "
    "+exec (%W~tunemill:records -@all +lpush)"
)


def set_user(broker: Broker, name: str, rights: str) -> str:
    """Make a user with a worker's password; its address."""
    words = rights.replace("(", "\0(").split("\0")
    parts = [*words[0].split(), *(each.strip() for each in words[1:])]
    with broker.client("admin") as admin:
        admin.execute_command("ACL", "SETUSER", name, "reset", "on", f">{PASSWORDS['worker']}", *parts)
    return broker.url("worker").replace("worker:", f"{name}:")


def keys(broker: Broker, pattern: str) -> list[str]:
    with broker.client("admin") as admin:
        return sorted(key.decode() for key in admin.scan_iter(pattern))


def test_a_worker_speaks_under_its_logins_name_and_keeps_one_heartbeat(broker, farm):
    worker = farm.start_worker(TUNEMILL_HEARTBEAT_S="0.1")
    farm.wait(lambda: len(farm.of(Heartbeat)) >= 5)
    (started,) = {record.worker_id for record in farm.of(WorkerStarted)}
    assert started.startswith("worker.")
    assert keys(broker, "tunemill:heartbeat*") == [f"tunemill:heartbeat.{started}"]
    assert keys(broker, "tunemill:records*") == []
    assert [beat.after for beat in farm.of(Heartbeat)] == sorted(beat.after for beat in farm.of(Heartbeat))
    errors = stop(worker)
    assert "orders are not verified" in errors
    assert "of an earlier release" not in errors
    with broker.client("admin") as admin:
        assert 0 < admin.ttl(f"tunemill:heartbeat.{started}") <= 7 * 86_400


def test_a_worker_behind_rights_of_an_earlier_release_speaks_as_it_did(broker, farm):
    url = set_user(broker, "old", EARLIER)
    farm.send(takes(2))
    worker = farm.start_worker(TUNEMILL_BROKER_URL=url)
    farm.wait(lambda: len(farm.of(AttemptMade)) == 2)
    farm.wait(lambda: farm.of(Heartbeat))
    assert "the broker's rights are of an earlier release" in stop(worker)
    assert not any("." in record.worker_id or record.sequence for record in farm.records)
    assert {record.after for record in farm.of(Heartbeat)} == {0}
    assert keys(broker, "tunemill:heartbeat.*") == []
    with broker.client("admin") as admin:
        admin.acl_log_reset()


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (" (%W~tunemill:records.poor -@all +lpush)", "LPUSH to tunemill:records.poor"),
        (" (%W~tunemill:heartbeat.poor.* -@all +set)", "SET to tunemill:heartbeat"),
        ("+llen ", "LLEN on tunemill:render"),
    ],
)
def test_a_worker_whose_line_lacks_a_right_names_it_before_it_loads_anything(broker, farm, missing, named):
    rights = acl_line("poor", PASSWORDS["worker"]).partition(" resetkeys ")[2]
    assert missing in f" {rights} "
    url = set_user(broker, "poor", "resetkeys " + rights.replace(missing.strip(), ""))
    worker = farm.start_worker(TUNEMILL_BROKER_URL=url)
    _, errors = worker.communicate(timeout=40)
    assert worker.returncode == 30
    assert named in errors
    assert "batch limit" not in errors
    assert not _said(errors, "sw0rd", "Traceback")


def test_only_signed_orders_are_rendered_also_after_they_were_given_back(broker, farm):
    signer = OrderSigner(Ed25519PrivateKey.generate())
    environment = {"TUNEMILL_VERIFY_ORDERS": signer.public_key}
    signed, forged, foreign = takes(3)
    control = Queues(broker.url("controller"), signer)
    other = Queues(broker.url("controller"), OrderSigner(Ed25519PrivateKey.generate()))
    message = RenderMessage(run_id="r", take=signed)
    control.send([Outgoing(QUEUE, message, 7)])
    (order,) = drain(broker)
    slow = farm.start_slow_worker(batch_s=60, **environment)
    with broker.client("worker") as foe:  # what a login of workers can do: put bytes on a queue
        foe.lpush(f"tunemill:{QUEUE}", order)
        farm.wait(lambda: any(beat.held == [signed.id] for beat in farm.of(Heartbeat)))
        slow.send_signal(signal.SIGQUIT)  # it gives the order back
        errors = slow.communicate(timeout=25)[1]
        assert "dropped" not in errors
        (returned,) = farm.of(TakesReturned)
        assert signer.sent_at_ms(returned.receipts[0], signed.id) == 7
        broker_empty(broker)
        control.send([Outgoing(QUEUE, message, 8)])
        Queues(broker.url("controller")).send([Outgoing(QUEUE, RenderMessage(run_id="r", take=forged))])
        other.send([Outgoing(QUEUE, RenderMessage(run_id="r", take=foreign), 8)])
    worker = farm.start_worker(**environment)
    farm.wait(lambda: farm.of(AttemptMade))
    farm.wait(lambda: farm.broker.lengths([QUEUE])[QUEUE] == 0)
    errors = stop(worker)
    assert farm.outcomes() == [(signed.id, "accepted")]
    (made,) = farm.of(AttemptMade)
    assert signer.sent_at_ms(made.receipt, signed.id) == 8
    assert made.sidecar.receipt == made.receipt
    assert "it is not signed" in errors
    assert "no key of TUNEMILL_VERIFY_ORDERS has signed it" in errors
    assert "orders are not verified" not in errors


def drain(broker: Broker) -> list[bytes]:
    with broker.client("admin") as admin:
        return [admin.rpop(f"tunemill:{QUEUE}") for _ in range(admin.llen(f"tunemill:{QUEUE}"))]


def broker_empty(broker: Broker) -> None:
    with broker.client("admin") as admin:
        admin.delete(f"tunemill:{QUEUE}")


def test_a_fleet_runs_over_tls_each_side_with_its_own_login(broker, tmp_path):
    (tmp_path / "rights.yaml").write_text(CATALOG)
    farm = Farm(broker.url("controller", tls=True), tmp_path)
    control = {
        **farm.environment,
        "TUNEMILL_BROKER_URL": broker.url("controller", tls=True),
        "TUNEMILL_PRESETS": str(PRESETS),
    }

    def tunemill(*arguments: str) -> str:
        program = [sys.executable, "-c", "from orchestrator.cli import main; main()", *arguments]
        done = subprocess.run(program, env=control, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    tunemill("run", str(tmp_path / "rights.yaml"), "--detach")
    everyday = {"TUNEMILL_BROKER_URL": broker.url("worker", tls=True), "TUNEMILL_HEARTBEAT_S": "5"}
    worker = farm.start_worker(**everyday)
    tunemill("controller", "--until-done")
    tunemill("status")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.execute("select state, count(*) from take group by state").fetchall() == [("accepted", 4)]
    stop(worker)
    farm.close()
    assert broker.refusals() == []


def test_a_server_that_another_authority_vouches_for_is_refused_in_words(broker, farm, tmp_path):
    strangers = write_papers(tmp_path / "strangers").authority
    worker = farm.start_worker(TUNEMILL_BROKER_URL=broker.url("worker", tls=True, authority=strangers))
    _, errors = worker.communicate(timeout=30)
    assert worker.returncode == 30, errors
    assert "certificate verify failed" in errors
    assert not _said(errors, "sw0rd", "worker:", "Traceback")
    queues = Queues(broker.url("controller", tls=True, authority=strangers))
    with pytest.raises(BrokerError, match="no answer from the broker") as raised:
        queues.check()
    assert "certificate verify failed" in raised.value.why
    assert not _said(str(raised.value), "sw0rd", "controller")


def test_a_certificate_for_another_host_is_refused(broker, farm, tmp_path):
    papers = write_papers(tmp_path / "elsewhere", host="192.0.2.1")
    with servers.tls_front(broker.port, papers.certificate, papers.key) as port:
        elsewhere = broker._replace(tls_port=port, papers=papers)
        worker = farm.start_worker(TUNEMILL_BROKER_URL=elsewhere.url("worker", tls=True))
        _, errors = worker.communicate(timeout=30)
    assert worker.returncode == 30
    assert "certificate verify failed" in errors


def test_a_worker_that_speaks_plainly_to_tls_hears_nothing_for_ever_and_says_so(broker, farm):
    plain = broker._replace(port=broker.tls_port)
    worker = farm.start_worker(TUNEMILL_BROKER_URL=plain.url("worker"))
    _, errors = worker.communicate(timeout=30)
    assert worker.returncode == 30
    assert "no answer from the broker" in errors
    assert not _said(errors, "sw0rd", "Traceback")


def test_a_worker_waits_for_a_broker_that_went_away_without_naming_its_login(short_tmp, tmp_path):
    with servers.fleet_valkey(short_tmp, PASSWORDS) as port:
        broker = Broker(port, 0, Papers(short_tmp, short_tmp, short_tmp))
        farm = Farm(broker.url("controller"), tmp_path)
        worker = farm.start_worker("--grace-s", "1", TUNEMILL_BROKER_URL=broker.url("worker"))
        farm.wait(lambda: len(farm.of(WorkerStarted)) == 2)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.communicate(timeout=3)
    worker.terminate()
    _, errors = worker.communicate(timeout=10)
    assert "broker is away" in errors or "Connection" in errors
    assert not _said(errors, "sw0rd", "worker:", "Traceback")
    farm.close()


def _said(text: str, *words: str) -> list[str]:
    return [word for word in words if word in text]

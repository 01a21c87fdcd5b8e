"""However a worker is told to end and whatever hangs, it is out in time, and what it held is known to be free."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.messages import FAULT, AttemptMade, Heartbeat, TakesReturned, WorkerStarted, WorkerStopped
from catalog.queues import queue_of
from tests.contract.test_worker import Farm
from tests.support import servers
from tests.support.makers import takes


@pytest.fixture
def farm(broker_url: str, tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(broker_url, tmp_path)
    yield farm
    farm.close()


def end_of(worker: subprocess.Popen[str], *, within_s: float) -> str:
    began_s = time.monotonic()
    _, errors = worker.communicate(timeout=25)
    assert worker.returncode == 0, errors
    assert "Traceback" not in errors
    assert time.monotonic() - began_s < within_s, errors
    return errors


def holding(farm: Farm, count: int) -> None:
    farm.wait(farm.batches_begun)
    farm.wait(lambda: any(len(beat.held) == count for beat in farm.of(Heartbeat)))


def is_engine_alive(farm: Farm) -> bool:
    pid = int(farm.batches_begun()[0].name.rpartition("-")[2])
    return Path(f"/proc/{pid}").exists()


def test_a_quit_gives_everything_back_at_once(farm):
    some = takes(6)
    queue = queue_of(some[0].spec)
    farm.send(some)
    worker = farm.start_slow_worker(batch_s=60)
    holding(farm, 6)
    worker.send_signal(signal.SIGQUIT)
    end_of(worker, within_s=5)
    (returned,) = farm.of(TakesReturned)
    assert len(returned.take_ids) + farm.broker.lengths([queue])[queue] >= 6  # one may come back both ways
    assert len(farm.of(WorkerStopped)) == 1
    farm.wait(lambda: not is_engine_alive(farm), timeout_s=5)


def test_a_quit_cuts_an_orderly_end_short(farm):
    farm.send(takes(3))
    worker = farm.start_slow_worker(batch_s=60)
    holding(farm, 3)
    worker.terminate()
    time.sleep(0.3)  # even within the second in which an equal signal counts as an echo
    worker.send_signal(signal.SIGQUIT)
    end_of(worker, within_s=5)
    assert len(farm.of(TakesReturned)) == 1


def test_a_quit_while_it_loads_ends_it(farm):
    worker = farm.start_slow_worker(batch_s=0)
    farm.wait(farm.read_records)
    worker.send_signal(signal.SIGQUIT)
    end_of(worker, within_s=5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize("batch_s", [60, 0.8])  # what hangs: the exit report; the records of takes that are done
def test_a_broker_that_hangs_holds_no_worker_back(short_tmp, tmp_path, number, batch_s):
    with servers.valkey(short_tmp) as url:
        farm = Farm(url, tmp_path)
        farm.send(takes(6))
        worker = farm.start_slow_worker(batch_s=batch_s, grace_s=1)
        farm.wait(farm.batches_begun)
        server = _server_below(short_tmp)
        os.kill(server, signal.SIGSTOP)
        try:
            time.sleep(1)  # its threads have met with the silence by now
            worker.send_signal(number)
            end_of(worker, within_s=6)
        finally:
            os.kill(server, signal.SIGCONT)
        farm.wait(lambda: not is_engine_alive(farm), timeout_s=5)
        farm.close()


def test_a_broker_that_is_gone_holds_no_worker_back(short_tmp, tmp_path):
    with servers.valkey(short_tmp) as url:
        farm = Farm(url, tmp_path)
        farm.send(takes(2))
        worker = farm.start_worker("--grace-s", "1")
        farm.wait(lambda: len(farm.of(AttemptMade)) == 2)
    time.sleep(1)
    worker.terminate()
    end_of(worker, within_s=6)
    farm.close()


def _server_below(folder: Path) -> int:
    """The process that has `folder` as its working directory: the server that was started there."""
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink() == folder:
                return int(path.parent.name)
        except OSError:
            continue
    return pytest.fail("no server runs there")


def test_a_worker_that_cannot_even_start_says_so_on_record(farm):
    worker = farm.start_worker(TUNEMILL_STORE_URL="/proc/no-store")
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 31, errors
    (started,) = farm.of(WorkerStarted)
    (stopped,) = farm.of(WorkerStopped)
    assert (started.batch_limit, started.worker_id) == (0, stopped.worker_id)
    assert stopped.reason.startswith(FAULT)
    assert stopped.reason.removeprefix(FAULT) in errors

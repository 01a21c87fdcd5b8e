"""`tunemill worker --all-gpus`: one worker for each device, none left behind, and a crash costs the others nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from catalog.messages import AttemptMade, WorkerStopped
from tests.contract.test_worker import ROOT, Farm
from tests.support.makers import takes

PROGRAM = "from orchestrator.cli import main; main()"
UUIDS = ["GPU-11111111-aaaa", "GPU-22222222-bbbb"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="CUDA and /proc are Linux's")


class Machine(Farm):
    """A machine with two GPUs, as far as its nvidia-smi says."""

    def __init__(self, broker_url: str, folder: Path, nvidia_smi: str | None) -> None:
        super().__init__(broker_url, folder)
        programs = folder / "bin"
        programs.mkdir()
        if nvidia_smi is not None:
            (programs / "nvidia-smi").write_text(f"#!/bin/sh\n{nvidia_smi}\n")
            (programs / "nvidia-smi").chmod(0o755)
        self.environment = {
            **{name: value for name, value in self.environment.items() if name != "CUDA_VISIBLE_DEVICES"},
            "PATH": f"{programs}:/usr/bin:/bin",
            "TUNEMILL_DATABASE_URL": "postgresql://user:not-for-workers@db/tunemill",
        }

    def start_all(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """`tunemill worker --model tone --all-gpus`, its log in a file that can be read while it runs."""
        with (self.folder / "log").open("w") as log:
            parent = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, "worker", "--model", "tone", "--all-gpus", *arguments],
                cwd=ROOT,
                env={**self.environment, **environment},
                stderr=log,
                text=True,
            )
        self.workers.append(parent)
        return parent

    def log(self) -> str:
        return (self.folder / "log").read_text()


def children_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


def environment_of(pid: int) -> dict[str, str]:
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(line.split("=", 1) for line in raw.split("\0") if "=" in line)


def devices_of(parent: int) -> list[str]:
    return sorted(environment_of(pid).get("CUDA_VISIBLE_DEVICES", "") for pid in children_of(parent))


def is_gone(pids: Sequence[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.fixture
def machine(broker_url: str, tmp_path: Path) -> Iterator[Machine]:
    rows = "\n".join(f"echo '{number}, {uuid}'" for number, uuid in enumerate(UUIDS))
    made = Machine(broker_url, tmp_path, rows)
    yield made
    made.close()


def serving(machine: Machine, count: int) -> bool:
    return machine.log().count(" serves tone on ") == count


def test_every_gpu_has_its_worker_a_killed_one_is_replaced_and_all_end_together(machine):
    parent = machine.start_all("--threads", "2")
    machine.wait(lambda: serving(machine, 2))
    first, second = children_of(parent.pid)
    assert devices_of(parent.pid) == UUIDS
    assert all("TUNEMILL_DATABASE_URL" not in environment_of(pid) for pid in (parent.pid, first, second))
    assert {environment_of(pid)["TUNEMILL_DEVICE"] for pid in (first, second)} == {"cuda"}

    os.kill(first, signal.SIGKILL)
    machine.wait(lambda: serving(machine, 3))
    assert devices_of(parent.pid) == UUIDS
    assert second in children_of(parent.pid)  # the other went on
    machine.send(takes(12))
    machine.wait(lambda: len(machine.of(AttemptMade)) == 12)

    alive = children_of(parent.pid)
    parent.terminate()
    assert parent.wait(timeout=25) == 0, machine.log()
    assert is_gone(alive)
    assert [stopped.reason for stopped in machine.of(WorkerStopped)] == ["told to stop"] * 2
    assert machine.unacknowledged() == 0
    lines = machine.log().splitlines()
    assert {line.split(":")[0] for line in lines if " serves tone on " in line} == {"gpu 0", "gpu 1"}
    assert any("ended with signal SIGKILL" in line and "starting it again in 1 s" in line for line in lines)
    assert "Traceback" not in machine.log()


def test_a_killed_parent_takes_its_workers_along(machine):
    parent = machine.start_all()
    machine.wait(lambda: serving(machine, 2))
    children = children_of(parent.pid)
    parent.kill()
    parent.wait()
    machine.wait(lambda: is_gone(children))
    assert [stopped.reason for stopped in machine.of(WorkerStopped)] == ["told to stop"] * 2


def test_the_devices_that_are_visible_are_taken_as_they_are_named(machine):
    parent = machine.start_all(CUDA_VISIBLE_DEVICES="3,GPU-44,-1,5")
    machine.wait(lambda: serving(machine, 2))
    assert devices_of(parent.pid) == ["3", "GPU-44"]
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=25) == 0, machine.log()


def test_a_quit_ends_all_at_once(machine):
    parent = machine.start_all()
    machine.wait(lambda: serving(machine, 2))
    began_s = time.monotonic()
    parent.send_signal(signal.SIGQUIT)
    assert parent.wait(timeout=25) == 0, machine.log()
    assert time.monotonic() - began_s < 20


def test_what_a_person_must_mend_is_not_tried_again(machine):
    parent = machine.start_all(TUNEMILL_VRAM_GIB="-1")
    assert parent.wait(timeout=25) == 35, machine.log()
    assert machine.log().count("it is not started again") == 2
    assert "starting it again" not in machine.log()


def test_an_outage_is_waited_out_by_every_gpu_with_nobody_awake(machine):
    store = machine.folder / "mount" / "store"
    store.parent.write_text("a file stands where the store will be mounted")
    parent = machine.start_all(TUNEMILL_STORE_URL=str(store))
    machine.wait(lambda: machine.log().count("exit code 31, an outage; starting it again in 5 s") == 2)
    store.parent.unlink()
    machine.wait(lambda: serving(machine, 2))
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(timeout=25) == 0, machine.log()


@pytest.mark.parametrize(
    ("nvidia_smi", "visible", "words"),
    [
        ("exit 0", None, "nvidia-smi lists none"),
        ("echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9", None, "has failed"),
        (None, None, "nvidia-smi is not on PATH"),
        ("echo '0, GPU-1'", "", "CUDA_VISIBLE_DEVICES is ''"),
        ("echo '0, GPU-1'", "-1", "CUDA_VISIBLE_DEVICES is '-1'"),
    ],
)
def test_without_a_gpu_it_is_said_in_words(broker_url, tmp_path, nvidia_smi, visible, words):
    machine = Machine(broker_url, tmp_path, nvidia_smi)
    parent = machine.start_all(**({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}))
    assert parent.wait(timeout=25) == 40
    assert "there is no CUDA device" in machine.log()
    assert words in machine.log()
    assert "fix:" in machine.log()
    assert "Traceback" not in machine.log()
    machine.close()


def test_all_gpus_and_one_device_contradict_each_other(machine):
    parent = machine.start_all("--device", "cuda:1")
    assert parent.wait(timeout=25) == 2
    assert "--all-gpus" in machine.log()

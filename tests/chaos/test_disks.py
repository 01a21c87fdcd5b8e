"""A disk is full for a while, under the store, the ledger or the broker: what was written before is whole."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.chaos.fleet import ACCEPTED, begin
from tests.chaos.form import only_long
from tests.chaos.truth import assert_truth


class SmallDisk:
    """A file system of some megabytes that can be filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as filler, suppress(OSError):
            while filler.write(b"\0" * 4096):
                pass

    def free(self) -> None:
        self._filler.unlink()


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[SmallDisk]:
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", str(folder)]
    mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 64) as disk:
        yield disk


def test_the_stores_disk_is_full_for_a_while(disk, fleet_of):
    fleet = fleet_of(store_url=str(disk.folder / "store"))
    begin(fleet)
    fleet.wait_until(ACCEPTED, 3)
    disk.fill()
    fleet.later(6, disk.free)
    fleet.finish()
    assert_truth(fleet)


@only_long
def test_the_ledgers_disk_is_full_for_a_while(disk, fleet_of):
    fleet = fleet_of(database_url=f"sqlite:///{disk.folder / 'ledger.sqlite'}")
    begin(fleet, batch_s=0.3)
    fleet.wait_until(ACCEPTED, 3)
    disk.fill()
    fleet.wait(lambda: "no space left for the ledger" in fleet.units[0].life.said, "the controller says so")
    disk.free()
    fleet.finish()
    books = assert_truth(fleet)
    assert set(books.rendered.values()) == {1}
    assert len(fleet.units[0].lives) == 1


@only_long
def test_the_brokers_disk_is_full_for_a_while(disk, fleet_of):
    fleet = fleet_of(broker_folder=disk.folder / "b")
    begin(fleet, batch_s=0.3)
    fleet.wait_until(ACCEPTED, 3)
    disk.fill()
    fleet.wait(lambda: "the broker cannot write" in fleet.units[0].life.said, "the controller says so")
    disk.free()
    fleet.finish()
    assert_truth(fleet)
    assert len(fleet.units[0].lives) == 1

"""A farm is upgraded one machine at a time: the version landed before and this one work for each other, either way.

The version before is the tree of its commit, run with this environment's libraries.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from orchestrator.ledger import open_ledger, set_aside
from tests.flow.test_run import TRACKS, Machine, assert_complete

BEFORE = "5150a6c005caa995b8ec61cb43d38e1331e97086"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Path:
    """The tree of the version before."""
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"no history here, as in a shallow clone: {archive.stderr.decode(errors='replace').strip()}")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tree:
        tree.extractall(folder, filter="data")
    return folder


class Farm(Machine):
    """One control side and one worker, each of a version of its own."""

    def __init__(self, home: Path, broker_url: str) -> None:
        super().__init__(home)
        self._environment["TUNEMILL_BROKER_URL"] = broker_url
        self.workers: list[subprocess.Popen[bytes]] = []

    def control(self, tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = (
            "import orchestrator; from orchestrator.cli import main; "
            f"assert orchestrator.__file__.startswith({str(tree)!r}); main()"
        )
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**self._environment, "PYTHONPATH": str(tree)},
            cwd=tree,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def begin_worker(self, tree: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "workers", "serve", "--model", "tone"]
        environment = {**self._environment, "PYTHONPATH": str(tree)}
        self.workers.append(subprocess.Popen(command, env=environment, cwd=tree, stderr=subprocess.DEVNULL))
        return self.workers[-1]

    def clean_up(self) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(timeout=60)
            except subprocess.TimeoutExpired:
                worker.kill()


@pytest.fixture
def farm(short_tmp, broker_url) -> Iterator[Farm]:
    made = Farm(short_tmp / "home", broker_url)
    yield made
    made.clean_up()


@pytest.mark.parametrize("older", ["worker", "control side"])
def test_the_version_before_and_this_one_make_a_catalog_together(farm, before, older):
    control, worker = (ROOT, before) if older == "worker" else (before, ROOT)
    farm.begin_worker(worker)
    done = farm.control(control, "run", str(farm.catalog), "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["takes"]["accepted"] == TRACKS
    assert (said["failed"], said["rejected"]) == ({}, {})
    assert_complete(farm)
    # And what they have made together is this version's from now on.
    again = farm.control(ROOT, "run", str(farm.catalog))
    assert "nothing to do" in again.stdout, again.stderr
    verified = farm.control(ROOT, "catalog", "verify", "--json")
    assert json.loads(verified.stdout)["findings"] == []
    ledger = open_ledger(f"sqlite:///{farm.home / 'ledger.sqlite'}")
    with ledger.read() as connection:
        assert set_aside.count_set_aside(connection) == 0
    ledger.close()

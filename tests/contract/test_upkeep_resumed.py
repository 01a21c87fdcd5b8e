"""A check of a catalog that was stopped goes on where it was, and finds what an uninterrupted one finds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog.errors import DisagreementError, StoreError
from catalog.keys import sidecar_key
from catalog.store import open_store
from orchestrator.cli import app as program
from orchestrator.ledger import open_ledger
from orchestrator.upkeep import digests as digests_module
from orchestrator.upkeep.abreast import abreast
from orchestrator.upkeep.digests import KEPT_MS, ReadDigests
from tests.contract.test_upkeep import a_catalog, flip_a_bit, lose_audio
from tests.support.servers import BUCKET

TAKES = 12
program._register()


class Home:
    """A finished catalog, and a store that can be stopped after so many objects were read."""

    def __init__(self, folder: Path, store_url: str, monkeypatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.store = open_store(store_url, s3_endpoint_url=os.environ.get("TUNEMILL_S3_ENDPOINT_URL"))
        self.ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.sidecars = a_catalog(self.store, self.ledger, TAKES)
        self.read: list[str] = []
        self.stop_after = TAKES * 2
        self.stop_by: BaseException = KeyboardInterrupt()
        kind, whole, lock = type(self.store), type(self.store).sha256_of, threading.Lock()

        def sha256_of(store, key: str) -> str | None:
            with lock:
                if len(self.read) >= self.stop_after:
                    raise self.stop_by
                self.read.append(key)
            return whole(store, key)

        monkeypatch.setattr(kind, "sha256_of", sha256_of)

    def verify(self, *options: str):
        self.read.clear()
        return CliRunner().invoke(program.app, ["catalog", "verify", "spring", *options])

    def findings(self, *options: str) -> list[tuple[str, str]]:
        answer = self.verify("--json", *options)
        return [(each["kind"], each["take_id"]) for each in json.loads(answer.stdout)["findings"]]

    def stop_a_check(self, *options: str, after: int = 5) -> None:
        """Ctrl-C after so many objects were read, one after the other."""
        self.stop_after = after
        assert self.verify("--jobs", "1", *options).exit_code != 0
        assert len(self.read) == after
        self.stop_after = TAKES * 3

    @property
    def kept(self) -> list[Path]:
        return sorted((self.folder / "verify").glob("*"))


@pytest.fixture(params=["folder", "s3"])
def home(request, tmp_path, monkeypatch):
    url = str(tmp_path / "store")
    if request.param == "s3":
        request.getfixturevalue("s3_endpoint")
        url = f"s3://{BUCKET}/{tmp_path.name}"
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    monkeypatch.setenv("TUNEMILL_STORE_URL", url)
    made = Home(tmp_path, url, monkeypatch)
    yield made
    made.ledger.close()


def test_a_check_that_was_stopped_goes_on_and_a_finished_one_leaves_nothing(home):
    home.stop_a_check()
    assert len(home.kept) == 1
    answer = home.verify()
    assert answer.exit_code == 0, answer.output
    assert len(home.read) == TAKES - 5
    assert "5 audio objects are read already; --again reads all" in answer.output
    assert f"{TAKES} accepted takes, {TAKES} sidecars, {TAKES} audio objects; every byte read" in answer.output
    assert home.kept == []
    assert home.verify().exit_code == 0
    assert len(home.read) == TAKES


def test_a_store_that_goes_away_costs_no_more_than_a_stop(home):
    home.stop_by = StoreError("the store is away", fix="wait")
    home.stop_after = 5
    listed = type(home.store).list

    def list_unless_away(store, prefix: str):
        if len(home.read) >= home.stop_after:
            raise home.stop_by
        return listed(store, prefix)

    home.monkeypatch.setattr(type(home.store), "list", list_unless_away)
    assert isinstance(home.verify("--jobs", "1").exception, StoreError)
    home.stop_after = TAKES * 2
    assert home.verify().exit_code == 0
    assert len(home.read) == TAKES - 5


def test_what_was_found_before_the_stop_is_found_without_another_look(home):
    flip_a_bit(home.store, home.sidecars[0])
    lose_audio(home.store, home.sidecars[1])
    whole = home.findings()
    home.stop_a_check(after=6)  # altered audio is read twice, and so is what is not there
    assert home.findings() == whole == [
        ("altered audio", home.sidecars[0].take_id),
        ("missing audio", home.sidecars[1].take_id),
    ]  # fmt: skip
    assert home.sidecars[0].audio.key not in home.read
    assert home.kept == []


def test_what_was_written_since_is_read_again(home):
    home.stop_a_check()
    one = home.sidecars[0].audio.key
    assert one not in _read_by(home)
    home.stop_a_check("--again")
    time.sleep(1.1 if "S3" in type(home.store).__name__ else 0.01)  # S3 tells times in seconds
    flip_a_bit(home.store, home.sidecars[0])
    assert home.findings() == [("altered audio", home.sidecars[0].take_id)]
    assert one in home.read


def _read_by(home: Home) -> list[str]:
    assert home.verify().exit_code == 0
    return list(home.read)


def test_what_the_ledger_and_the_sidecars_say_is_compared_anew(home):
    home.stop_a_check()
    home.store.delete(sidecar_key(home.sidecars[0].take))
    found = home.findings()
    assert ("missing sidecar", home.sidecars[0].take_id) in found


def test_again_reads_all(home):
    home.stop_a_check()
    answer = home.verify("--again")
    assert answer.exit_code == 0
    assert len(home.read) == TAKES
    assert "continuing" not in answer.output
    assert home.kept == []


def test_a_quick_check_neither_uses_nor_removes_what_was_read(home):
    home.stop_a_check()
    before = home.kept[0].read_bytes()
    assert home.verify("--quick").exit_code == 0
    assert home.kept[0].read_bytes() == before


def test_another_store_catalog_or_time_begins_anew(home, monkeypatch):
    home.stop_a_check()
    answer = CliRunner().invoke(program.app, ["catalog", "verify"])
    assert "continuing" not in answer.output
    assert len(home.kept) == 1
    monkeypatch.setattr(digests_module, "now_ms", lambda: int(time.time() * 1000) + KEPT_MS)
    assert "continuing" not in home.verify().output
    assert len(home.read) == TAKES


def test_a_file_that_was_cut_off_or_is_no_file_of_ours_is_no_reason_to_stop(home):
    home.stop_a_check()
    [kept] = home.kept
    kept.write_bytes(kept.read_bytes()[:-30])
    home.stop_a_check(after=2)
    assert home.verify().exit_code == 0
    assert len(home.read) == TAKES - 4 - 2
    home.stop_a_check()
    kept.write_bytes(b"\xff\x00 nonsense\n" * 9)
    assert home.verify().exit_code == 0
    assert len(home.read) == TAKES
    assert home.kept == []


def test_a_check_that_can_keep_nothing_says_so_and_goes_on(home):
    (home.folder / "verify").write_text("no folder")
    answer = home.verify()
    assert answer.exit_code == 0
    assert "could not be kept" in answer.output
    assert len(home.read) == TAKES


@pytest.mark.parametrize("jobs", ["0", "33", "many"])
def test_a_number_of_jobs_that_is_none_is_a_usage_error(home, jobs):
    assert home.verify("--jobs", jobs).exit_code == 2


@pytest.mark.parametrize("jobs", [1, 7, 16])
def test_so_many_objects_are_looked_at_at_once_and_no_more(jobs):
    at_work, most, gate = 0, 0, threading.Condition()

    def look(item: int) -> int:
        nonlocal at_work, most
        with gate:
            at_work += 1
            most = max(most, at_work)
            gate.notify_all()
            gate.wait_for(lambda: most >= jobs, timeout=10)
            gate.wait_for(lambda: most > jobs, timeout=0.02)
            at_work -= 1
        return item

    assert list(abreast(look, range(40), jobs)) == list(range(40))
    assert most == jobs


def test_a_killed_process_has_kept_what_it_read(tmp_path, monkeypatch):
    """A real one, in the middle of its work."""
    store, ledger = open_store(str(tmp_path / "store")), open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    a_catalog(store, ledger, TAKES)
    ledger.close()
    slow = (
        "import time\n"
        "from catalog.store.folder import FolderStore\n"
        "whole = FolderStore.sha256_of\n"
        "FolderStore.sha256_of = lambda store, key: (time.sleep(0.2), whole(store, key))[1]\n"
        "from orchestrator.cli import main\n"
        "main()\n"
    )
    environment = {**os.environ, "TUNEMILL_HOME": str(tmp_path)}
    command = [sys.executable, "-c", slow, "catalog", "verify", "spring", "--jobs", "1"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (kept := list((tmp_path / "verify").glob("*"))) or kept[0].read_text().count("\n") < 4:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    place = f"{tmp_path / 'store'} "
    with ReadDigests.opened(tmp_path, place, "spring") as digests:
        assert 3 <= digests.found < TAKES
    answer = CliRunner().invoke(program.app, ["catalog", "verify", "spring"])
    assert "continuing" in answer.output
    assert answer.exit_code == 0
    assert list((tmp_path / "verify").glob("*")) == []


def test_findings_end_a_check_as_well(home):
    flip_a_bit(home.store, home.sidecars[0])
    assert isinstance(home.verify().exception, DisagreementError)
    assert home.kept == []

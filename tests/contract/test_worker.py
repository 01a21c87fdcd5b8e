"""A real worker against a real broker: everything sent is made once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from catalog.buckets import Bucket
from catalog.errors import BrokerError
from catalog.keys import sidecar_key
from catalog.messages import (
    AttemptMade,
    Heartbeat,
    Record,
    SpansClosed,
    TakesReturned,
    WorkerStarted,
    WorkerStopped,
    parse_record,
)
from catalog.queues import queue_of, render_queue
from catalog.sidecar import Sidecar
from catalog.spec import PlannerSpec
from catalog.store import open_store
from catalog.tiers import TIERS
from catalog.track import Take
from orchestrator.control.broker import Queues
from orchestrator.ledger.work import Outgoing
from tests.support import servers
from tests.support.makers import a_message, a_take, takes

ROOT = Path(__file__).parents[2]
SERVE_SLOWLY = """
import sys
from pathlib import Path
from catalog.messages import now_ms
from catalog.settings import read_settings
from workers.engine.process import EngineRecipe
from workers.service import ServeOptions, serve
folder, batch_s, grace_s, plan_limit = Path(sys.argv[1]), *map(float, sys.argv[2:4]), int(sys.argv[4])
options = {"batch_s": batch_s, "folder": folder, "plan_limit": plan_limit}
recipe = EngineRecipe("tests.support.fakes:SlowEngine", options)
sys.exit(serve(read_settings(), ServeOptions("tone", grace_s=grace_s), started_at_ms=now_ms(), recipe=recipe))
"""


class Farm:
    """A broker, a folder store, and workers that are ended with the test."""

    def __init__(self, broker_url: str, folder: Path) -> None:
        self.folder, self.broker = folder, Queues(broker_url)
        with suppress(BrokerError):  # of a server that takes nothing, which is what some tests are about
            self.broker.announce()  # as a controller does
        self.store = open_store(str(folder / "store"))
        self.environment = {
            **os.environ,
            "TUNEMILL_HOME": str(folder),
            "TUNEMILL_BROKER_URL": broker_url,
            "TUNEMILL_STORE_URL": str(folder / "store"),
            "TUNEMILL_HEARTBEAT_S": "0.5",
        }
        self.workers: list[subprocess.Popen[str]] = []
        self.records: list[Record] = []
        self.beats: dict[str, bytes] = {}  # the latest heartbeat of each worker

    def start_worker(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """`python -m workers serve --model tone`."""
        return self._start("-m", "workers", "serve", "--model", "tone", *arguments, **environment)

    def start_slow_worker(
        self, *, batch_s: float, grace_s: float = 60, plan_limit: int = 0, **environment: str
    ) -> subprocess.Popen[str]:
        """A worker whose engine takes `batch_s` for a batch of at most four."""
        arguments = (str(self.folder), str(batch_s), str(grace_s), str(plan_limit))
        return self._start("-c", SERVE_SLOWLY, *arguments, **environment)

    def _start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.workers.append(worker)
        return worker

    def send(self, some: Sequence[Take]) -> None:
        self.broker.send([Outgoing(queue_of(take.spec), a_message(take)) for take in some])

    def read_records(self) -> list[Record]:
        while envelopes := self.broker.peek_records(500).raw_records:
            self.records += [parse_record(envelope.payload or {}) for envelope in envelopes]
            self.broker.drop_records(envelopes)
        workers = {record.worker_id for record in self.records if isinstance(record, WorkerStarted)}
        for worker_id, raw in self.broker.heartbeats(sorted(workers)).items():
            if self.beats.get(worker_id) != raw:
                self.beats[worker_id] = raw
                self.records.append(parse_record(json.loads(raw)))
        return self.records

    def of(self, kind: type[Any]) -> list[Any]:
        return [record for record in self.read_records() if isinstance(record, kind)]

    def outcomes(self) -> list[tuple[str, str]]:
        return sorted((attempt.take_id, attempt.outcome) for attempt in self.of(AttemptMade))

    def wait(self, condition: Callable[[], Any], *, timeout_s: float = 60) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if result := condition():
                return result
            time.sleep(0.05)
        return pytest.fail(f"it did not happen in {timeout_s} s; records: {self.read_records()}")

    def batches_begun(self) -> list[Path]:
        return sorted(self.folder.glob("began-*"))

    def unacknowledged(self) -> int:
        with self.broker._client() as (_, client):
            return sum(int(client.hlen(f"unacked{login}")) for login in ("", ".worker"))

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
            if worker.stderr is not None:
                worker.stderr.close()
        self.broker.close()


@pytest.fixture
def farm(broker_url: str, tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(broker_url, tmp_path)
    yield farm
    farm.close()


def stop(worker: subprocess.Popen[str]) -> str:
    worker.terminate()
    _, errors = worker.communicate(timeout=25)
    assert worker.returncode == 0, errors
    assert "Traceback" not in errors
    return errors


def test_every_take_sent_has_its_sidecar_and_its_record_and_the_time_is_accounted_for(farm):
    some = takes(20)
    farm.send(some)
    worker = farm.start_worker()
    farm.wait(lambda: len(farm.of(AttemptMade)) == 20)
    errors = stop(worker)
    assert farm.outcomes() == sorted((take.id, "accepted") for take in some)
    for take in some:
        sidecar = Sidecar.model_validate_json(farm.store.find(sidecar_key(take)) or b"")
        assert sidecar.take == take
        assert len(farm.store.find(sidecar.audio.key) or b"") == sidecar.audio.bytes
    assert "batch limit 8: tone engine" in errors
    loading, ready, again = farm.of(WorkerStarted)
    # Said once more at the end, should the broker have lost it.
    assert again.model_copy(update={name: getattr(ready, name) for name in ("record_id", "at_ms", "sequence")}) == ready
    assert (again.at_ms > ready.at_ms, again.sequence > ready.sequence) == (True, True)
    assert (loading.batch_limit, ready.batch_limit, ready.model) == (0, 8, "tone")
    spans = [span for record in farm.of(SpansClosed) for span in record.spans]
    assert (spans[0].state, spans[0].start_ms, spans[-1].state) == ("startup", ready.started_at_ms, "teardown")
    assert all(before.end_ms == after.start_ms for before, after in pairwise(spans))
    assert {attempt.batch.id for attempt in farm.of(AttemptMade)} <= {span.batch_id for span in spans}
    assert farm.of(WorkerStopped)[0].reason == "told to stop"
    assert {take_id for beat in farm.of(Heartbeat) for take_id in beat.held} <= {take.id for take in some}
    assert farm.unacknowledged() == 0


def test_a_worker_with_a_planner_holds_enough_for_its_calls_and_says_which_of_them_wrote_what(farm):
    some = takes(24, planner=PlannerSpec())
    farm.send(some)
    worker = farm.start_slow_worker(batch_s=0.1, plan_limit=12)
    farm.wait(lambda: len(farm.of(AttemptMade)) == 24)
    stop(worker)
    ready = farm.of(WorkerStarted)[-1]
    assert ready.plan_limit == 12
    assert 12 + 2 * 4 + 2 < ready.holds_max <= 12 + 4 * 4 + 2
    spans = [span for record in farm.of(SpansClosed) for span in record.spans]
    attempts = farm.of(AttemptMade)
    assert {made.batch.plan_id for made in attempts} == {span.batch_id for span in spans if span.state == "plan"}
    assert max(made.batch.plan_size for made in attempts) == 12
    assert sum(made.times.plan_ms for made in attempts) == sum(
        10 * size + 1 for size in {made.batch.plan_id: made.batch.plan_size for made in attempts}.values()
    )
    assert all(made.sidecar.plan is not None for made in attempts)
    memory = [beat.memory for beat in farm.of(Heartbeat) if beat.memory is not None]
    assert memory[-1].rss_mib > 10


def test_takes_sent_again_cost_nothing(farm):
    some = takes(3)
    farm.send([*some, *some])
    worker = farm.start_worker()
    farm.wait(lambda: {take_id for take_id, _ in farm.outcomes()} == {take.id for take in some})
    farm.wait(lambda: farm.unacknowledged() == 0)
    farm.send(some)
    farm.wait(lambda: sum(attempt.adopted for attempt in farm.of(AttemptMade)) >= 3)
    stop(worker)
    rendered = [attempt for attempt in farm.of(AttemptMade) if not attempt.adopted]
    assert sorted(attempt.take_id for attempt in rendered) == sorted(take.id for take in some)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_worker_finishes_its_batch_gives_the_rest_back_and_exits_with_zero(farm, number):
    some = takes(10)
    queue = queue_of(some[0].spec)
    farm.send(some)
    worker = farm.start_slow_worker(batch_s=3)
    farm.wait(farm.batches_begun)
    farm.wait(lambda: any(len(beat.held) == 10 for beat in farm.of(Heartbeat)))
    worker.send_signal(number)
    farm.wait(lambda: farm.broker.lengths([queue]) == {queue: 6})
    assert farm.outcomes() == []  # given back at once, not when the batch is done
    _, errors = worker.communicate(timeout=25)
    assert worker.returncode == 0, errors
    assert "Traceback" not in errors
    assert [outcome for _, outcome in farm.outcomes()] == ["accepted"] * 4
    assert farm.broker.lengths([queue]) == {queue: 6}
    assert farm.unacknowledged() == 0
    assert farm.of(Heartbeat)[-1].held == []
    successor = farm.start_worker()
    farm.wait(lambda: len(farm.of(AttemptMade)) == 10)
    stop(successor)
    assert farm.outcomes() == sorted((take.id, "accepted") for take in some)


def test_a_worker_whose_grace_is_over_gives_back_even_what_is_on_the_engine(farm):
    some = takes(6)
    farm.send(some)
    worker = farm.start_slow_worker(batch_s=60, grace_s=0.5)
    farm.wait(farm.batches_begun)
    farm.wait(lambda: any(len(beat.held) == 6 for beat in farm.of(Heartbeat)))
    began_s = time.monotonic()
    stop(worker)
    assert time.monotonic() - began_s < 10
    (returned,) = farm.of(TakesReturned)
    queued = farm.broker.lengths([queue_of(some[0].spec)])[queue_of(some[0].spec)]
    # None is lost. What was on the engine may be on the queue as well, if the client lived to restore it.
    assert 6 - len(returned.take_ids) <= queued <= 6
    assert len(farm.of(WorkerStopped)) == 1


def test_a_worker_stopped_while_it_loads_exits_with_zero(farm):
    worker = farm.start_slow_worker(batch_s=0)
    farm.wait(lambda: farm.of(WorkerStarted))
    stop(worker)
    assert worker.returncode == 0


def test_an_engine_killed_in_the_middle_of_a_batch_costs_no_take(farm):
    some = takes(6)
    farm.send(some)
    worker = farm.start_slow_worker(batch_s=0.5)
    (began, *_) = farm.wait(farm.batches_begun)
    os.kill(int(began.name.rpartition("-")[2]), signal.SIGKILL)
    farm.wait(lambda: len(farm.of(AttemptMade)) == 6)
    stop(worker)
    assert farm.outcomes() == sorted((take.id, "accepted") for take in some)
    spans = [span for record in farm.of(SpansClosed) for span in record.spans]
    assert "recovering" in {span.cause for span in spans}


def test_a_killed_workers_takes_are_made_by_the_next_when_they_are_sent_again(farm):
    some = takes(8)
    farm.send(some)
    worker = farm.start_slow_worker(batch_s=0.4)
    farm.wait(lambda: farm.of(AttemptMade))
    worker.kill()
    worker.wait()
    farm.send(some)  # as the controller does for a silent worker
    successor = farm.start_worker()
    farm.wait(lambda: {take_id for take_id, _ in farm.outcomes()} == {take.id for take in some})
    stop(successor)
    rendered = {attempt.take_id for attempt in farm.of(AttemptMade) if not attempt.adopted}
    # What the killed worker had stored and did not live to report was found by the next one.
    found = [attempt for attempt in farm.of(AttemptMade) if attempt.adopted and attempt.take_id not in rendered]
    assert rendered | {attempt.take_id for attempt in found} == {take.id for take in some}
    assert all(attempt.sidecar and attempt.sidecar.worker_id != attempt.worker_id for attempt in found)


def test_takes_of_different_length_never_share_a_batch(farm):
    some = [a_take(f"{n:04d}", duration_s=10 + n % 3) for n in range(12)]
    farm.send(some)
    worker = farm.start_worker()
    farm.wait(lambda: len(farm.of(AttemptMade)) == 12)
    stop(worker)
    bucket_of = {take.id: Bucket.of(take.spec) for take in some}
    for attempt in farm.of(AttemptMade):
        assert len({bucket_of[take_id] for take_id in attempt.batch.takes}) == 1


def test_a_large_card_takes_what_only_it_can_do_first_and_leaves_nothing_undone(farm):
    small, large = takes(8), takes(16, caption="for a large card")[8:]
    *_, tier = [each for each in TIERS if each.needs_gib <= 24]
    farm.send(small)
    farm.broker.send([Outgoing(render_queue("tone", tier), a_message(take)) for take in large])
    farm.broker.send([Outgoing(render_queue("tone", TIERS[-1]), a_message(takes(17)[16]))])  # for more than it has
    worker = farm.start_slow_worker(batch_s=0.3)  # a card of 24 GiB
    farm.wait(lambda: len(farm.of(AttemptMade)) == 16)
    stop(worker)
    order = [made.take_id for made in farm.of(AttemptMade)]
    assert set(order[:4]) <= {take.id for take in large}
    assert set(order) == {take.id for take in [*small, *large]}
    assert farm.broker.lengths([render_queue("tone", TIERS[-1])]) == {render_queue("tone", TIERS[-1]): 1}


def test_two_workers_on_one_take_end_with_one_track_and_both_their_times_on_the_books(farm):
    (take,) = takes(1)
    farm.send([take])
    first = farm.start_slow_worker(batch_s=2)
    farm.wait(farm.batches_begun)
    first.send_signal(signal.SIGSTOP)  # it falls silent while its engine renders on
    time.sleep(1.5)  # the broker would still give it what comes before its last look at the queue has ended
    farm.send([take])
    second = farm.start_slow_worker(batch_s=0.5)
    farm.wait(lambda: len(farm.of(AttemptMade)) == 1)
    first.send_signal(signal.SIGCONT)
    farm.wait(lambda: len(farm.of(AttemptMade)) == 2)
    stop(first)
    stop(second)
    one, other = farm.of(AttemptMade)
    assert (one.outcome, one.adopted, other.outcome, other.adopted) == ("accepted", False, "accepted", True)
    assert one.sidecar == other.sidecar
    assert one.worker_id != other.worker_id
    assert len(list((farm.folder / "store" / "spa" / "takes").iterdir())) == 1
    rendered = {record.worker_id for record in farm.of(SpansClosed) for span in record.spans if span.state == "render"}
    assert rendered == {one.worker_id, other.worker_id}


def test_a_store_that_goes_away_stops_the_worker_and_costs_no_take_a_try(farm):
    farm.send(takes(1))
    worker = farm.start_worker("--threads", "2", TUNEMILL_STORE_PATIENCE_S="2")
    farm.wait(lambda: len(farm.of(AttemptMade)) == 1)
    for folder in sorted((farm.folder / "store").rglob("*"), reverse=True):
        folder.unlink() if folder.is_file() else folder.rmdir()
    (farm.folder / "store").rmdir()
    (farm.folder / "store").touch()  # a file where the folder was: nothing can be stored
    farm.send(takes(30)[1:])
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode in (31, 32), errors
    assert "Traceback" not in errors
    assert [attempt.outcome for attempt in farm.of(AttemptMade)] == ["accepted"]
    queue = queue_of(takes(1)[0].spec)
    assert farm.broker.lengths([queue]) == {queue: 29}


def test_a_model_that_cannot_load_ends_the_worker_in_words_and_on_the_books(farm):
    worker = farm._start(
        "-m", "workers", "serve", "--model", "acestep-v15-turbo", TUNEMILL_WEIGHTS=str(farm.folder / "nowhere")
    )
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 41, errors
    assert "nowhere" in errors
    assert "Traceback" not in errors
    states = [span.state for record in farm.of(SpansClosed) for span in record.spans]
    assert states[0] == "startup"
    assert "nowhere" in farm.of(WorkerStopped)[0].reason


def test_a_worker_outlives_its_broker(short_tmp, tmp_path):
    before, after = takes(6)[:2], takes(6)[2:]
    with servers.valkey(short_tmp) as url:
        farm = Farm(url, tmp_path)
        farm.send(before)
        worker = farm.start_worker()
        farm.wait(lambda: len(farm.of(AttemptMade)) == 2)
    time.sleep(1)
    assert worker.poll() is None
    (short_tmp / "s").unlink(missing_ok=True)
    with servers.valkey(short_tmp):
        farm.broker = Queues(url)
        farm.send(after)
        farm.wait(lambda: len(farm.of(AttemptMade)) == 6)
        stop(worker)
        farm.close()
    assert sorted((made.take_id, made.outcome) for made in farm.records if isinstance(made, AttemptMade)) == sorted(
        (take.id, "accepted") for take in [*before, *after]
    )


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        ({"TUNEMILL_BROKER_URL": "redis://user:secret@127.0.0.1:1/0"}, 30, "no answer from the broker"),
        ({"TUNEMILL_BROKER_URL": ""}, 30, "no broker is named"),
        ({"TUNEMILL_BROKER_URL": "nonsense"}, 35, "TUNEMILL_BROKER_URL"),
        ({"TUNEMILL_STORE_URL": "/proc/nowhere"}, 31, "store"),
        ({"TUNEMILL_HEARTBEAT_S": "often"}, 35, "TUNEMILL_HEARTBEAT_S"),
    ],
)
def test_what_is_wrong_at_the_start_is_said_in_words_within_seconds(farm, environment, code, words):
    began_s = time.monotonic()
    worker = farm.start_worker(**environment)
    _, errors = worker.communicate(timeout=20)
    assert worker.returncode == code, errors
    assert words in errors
    assert "fix:" in errors or code == 31
    assert "Traceback" not in errors
    assert "secret" not in errors
    assert time.monotonic() - began_s < 15

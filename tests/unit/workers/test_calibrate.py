"""The largest batch is found by rendering: what is promised was tried, and what does not fit ends nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.buckets import Bucket
from catalog.errors import OutOfVram, WorkerError
from catalog.models import TINY, TONE
from catalog.settings import Settings
from catalog.sidecar import Fingerprints, StageTimes
from catalog.tiers import BatchLimit
from tests.support.makers import SHA, an_effective
from workers.calibrate import BatchMeasurement, CalibrationRun, find_limit, open_calibratable_engine
from workers.engine.calibration import CalibrationKey, read_calibration
from workers.engine.protocol import BatchResult, EngineCard, Finish, Job, Refusal, Rendition

MIB = 2**20


class Memory:
    """A device whose batches need `batch` bytes and `take` more for each take; it notes what was tried."""

    def __init__(self, take: int, batch: int = 0, *, total: int = 10**15) -> None:
        self.take, self.batch, self.total = take, batch, total
        self.tried: list[int] = []

    def need(self, takes: int) -> int:
        return self.batch + takes * self.take

    def render(self, takes: int) -> BatchMeasurement | None:
        self.tried.append(takes)
        need = self.need(takes)
        return BatchMeasurement(takes, need, ms=10 * takes) if need <= self.total else None


@given(
    take=st.integers(1, 10**10), batch=st.integers(0, 10**10), room=st.integers(0, 10**12), ceiling=st.integers(1, 200)
)
def test_where_memory_grows_evenly_the_limit_is_exactly_what_fits(take: int, batch: int, room: int, ceiling: int):
    memory = Memory(take, batch)
    limit = find_limit(memory.render, room_bytes=room, ceiling=ceiling)
    fits = min(ceiling, (room - batch) // take)
    if fits < 1:
        assert limit is None
    else:
        assert limit is not None
        assert limit.largest.takes == fits
    assert all(takes <= ceiling for takes in memory.tried)


@given(
    needs=st.lists(st.integers(1, 1000), min_size=64, max_size=64).map(np.cumsum).map(list),
    room=st.integers(0, 40_000),
    total=st.integers(0, 40_000),
)
def test_however_memory_grows_the_promise_was_tried_and_fitted(needs: list[int], room: int, total: int):
    tried: list[int] = []

    def render(takes: int) -> BatchMeasurement | None:
        tried.append(takes)
        need = int(needs[takes - 1])
        return BatchMeasurement(takes, need, 1) if need <= total else None

    limit = find_limit(render, room_bytes=room, ceiling=64)
    if limit is None:
        assert needs[0] > min(room, total)
        return
    assert limit.largest.takes in tried
    assert limit.largest.need_bytes <= min(room, total)
    assert limit.batch_bytes + limit.largest.takes * limit.take_bytes >= limit.largest.need_bytes
    assert len(tried) <= 10


def test_after_four_takes_the_rest_is_foretold_and_then_verified():
    memory = Memory(take=100, batch=50)
    limit = find_limit(memory.render, room_bytes=3_180, ceiling=64)
    assert limit is not None
    assert memory.tried == [1, 2, 4, 31]
    assert (limit.largest.takes, limit.take_bytes, limit.batch_bytes) == (31, 100, 50)


def test_a_batch_that_runs_out_of_memory_leads_to_a_smaller_one():
    memory = Memory(take=100, total=2_000)  # the driver promised 6,400
    limit = find_limit(memory.render, room_bytes=6_400, ceiling=64)
    assert limit is not None
    assert memory.tried == [1, 2, 4, 64, 34, 19]
    assert limit.largest.takes == 19


def test_memory_that_does_not_grow_with_the_batch_allows_the_ceiling():
    limit = find_limit(Memory(take=0, batch=10).render, room_bytes=100, ceiling=16)
    assert limit is not None
    assert limit.largest.takes == 16


# ------------------------------------------------------------------ an engine


class FakeCalibratableEngine:
    """An engine whose memory is a number, and its own memory probe and budget. It keeps what it needs for two runs."""

    def __init__(self, *, take: int = 10 * MIB, decode: int = 0, room: int = 100 * MIB, overlaps: bool = False) -> None:
        self.card = EngineCard(
            model=TINY.name,
            gpu="fake",
            device="cuda:0",
            dtype="float32",
            vram_gib=80.0,
            fingerprints=Fingerprints(model=SHA, code="fake", noise=True),
            guarantees=TINY.guarantees,
            overlaps=overlaps,
        )
        self.budget = self
        self.key = CalibrationKey(
            gpu="fake", total_mib=1, model="m", model_fingerprint="", planner_fingerprint="", setup="s", code="c"
        )
        self.take, self.decode, self.room = take, decode, room
        self.held, self.peak = 500 * MIB, 500 * MIB
        self.shapes: set[int] = set()
        self.batches: list[tuple[int, int]] = []
        self.interrupt_at: int | None = None
        self.refuses = False

    def start(self) -> None:
        self.peak = self.held

    def peak_bytes(self) -> int:
        return self.peak

    def open_memory_probe(self) -> FakeCalibratableEngine:
        return self

    def batches_bytes(self) -> int:
        return self.room

    def published_limit(self, bucket: Bucket) -> BatchLimit:
        return BatchLimit(8, "published")

    def forget_shapes(self) -> None:
        self.held -= MIB * len(self.shapes)
        self.shapes.clear()

    def begin(self, jobs: Sequence[Job]) -> Finish:
        duration_s = jobs[0].take.spec.duration_s
        if duration_s == self.interrupt_at:
            raise KeyboardInterrupt
        self.batches.append((duration_s, len(jobs)))
        self._use(len(jobs) * self.take)
        if len(jobs) not in self.shapes:  # such as a graph, recorded for what is rendered more than once
            self.shapes.add(len(jobs))
            self.held += MIB
        return lambda: self._finish(jobs)

    def _finish(self, jobs: Sequence[Job]) -> BatchResult:
        self._use(self.decode)
        silence = np.zeros((2, 1), np.float32)
        outcomes = [
            Refusal("not this one") if self.refuses else Rendition(silence, None, an_effective(job.take))
            for job in jobs
        ]
        return BatchResult(outcomes, StageTimes())

    def _use(self, n_bytes: int) -> None:
        self.peak = max(self.peak, self.held + n_bytes)
        if n_bytes > 2 * self.room:
            raise OutOfVram("the fake is full")


def a_row(engine: FakeCalibratableEngine, home: Path, duration_s: int = 60) -> object:
    calibration = CalibrationRun(engine, home)
    calibration.measure([duration_s])
    return json.loads(calibration.report())["measured"][0]


def test_every_batch_is_rendered_until_it_is_like_all_later_ones(tmp_path: Path):
    engine = FakeCalibratableEngine()
    row = a_row(engine, tmp_path)
    # 9, not 10: after the first run each shape keeps a MiB.
    assert engine.batches == [(60, takes) for takes in (1, 2, 4, 9) for _ in range(3)]
    assert (row["takes"], row["take_bytes"], row["batch_bytes"]) == (9, 10 * MIB, MIB)
    assert (row["published"], row["peak_bytes"]) == (8, 91 * MIB)


def test_decoding_counts_beside_the_next_batch_where_they_overlap(tmp_path: Path):
    alone = a_row(FakeCalibratableEngine(decode=30 * MIB), tmp_path / "alone")
    beside = a_row(FakeCalibratableEngine(decode=30 * MIB, overlaps=True), tmp_path / "beside")
    assert (alone["takes"], beside["takes"]) == (9, 6)
    assert (beside["batch_bytes"], beside["beside_bytes"], alone["beside_bytes"]) == (31 * MIB, 30 * MIB, 0)


def test_an_interrupted_sitting_keeps_what_it_has_and_the_next_one_goes_on(tmp_path: Path):
    engine = FakeCalibratableEngine()
    engine.interrupt_at = 180
    calibration = CalibrationRun(engine, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        calibration.measure([60, 180, 240])
    assert [row["duration_s"] for row in json.loads(calibration.report())["measured"]] == [60]
    engine = FakeCalibratableEngine(take=30 * MIB)
    CalibrationRun(engine, tmp_path).measure([180])
    kept = read_calibration(tmp_path, engine.key).calibration
    assert [(row.duration_s, row.takes) for row in kept.measured] == [(60, 9), (180, 3)]


def test_a_second_run_overwrites_what_it_measures_again(tmp_path: Path):
    CalibrationRun(FakeCalibratableEngine(), tmp_path).measure([60])
    engine = FakeCalibratableEngine(room=200 * MIB)
    CalibrationRun(engine, tmp_path).measure([60])
    (row,) = read_calibration(tmp_path, engine.key).calibration.measured
    assert row.takes == 19


def test_a_duration_of_which_not_one_take_fits_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    calibration = CalibrationRun(FakeCalibratableEngine(take=300 * MIB), tmp_path)
    calibration.measure([60])
    assert json.loads(calibration.report())["measured"] == []
    assert "not even one take fits into 100 MiB" in caplog.text


def test_no_batch_is_larger_than_the_ceiling(tmp_path: Path):
    engine = FakeCalibratableEngine()
    CalibrationRun(engine, tmp_path).measure([60], ceiling=3)
    assert max(takes for _, takes in engine.batches) == 3


def test_unless_told_otherwise_all_usual_durations_of_the_tier_are_measured(tmp_path: Path):
    engine = FakeCalibratableEngine()
    CalibrationRun(engine, tmp_path).measure(ceiling=1)
    assert sorted({duration_s for duration_s, _ in engine.batches}) == [30, 60, 120, 180, 240, 360, 480, 600]


def test_an_engine_that_refuses_to_be_measured_is_an_error(tmp_path: Path):
    engine = FakeCalibratableEngine()
    engine.refuses = True
    with pytest.raises(WorkerError) as caught:
        CalibrationRun(engine, tmp_path).measure([60])
    assert caught.value.why == "not this one"


def test_the_tone_engine_has_nothing_to_calibrate():
    with pytest.raises(WorkerError, match="tone"):
        open_calibratable_engine(Settings(), TONE.name, planner_wanted=True)

"""Benches of engines run, in small, and notice what they are there to notice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from catalog.messages import AttemptMade, MemoryUse, Span
from catalog.sidecar import StageTimes
from tests.bench import bench_full_size, full_size
from tests.bench.bench_memory import batches, growth, watch
from tests.bench.full_size import Goals
from tests.bench.measuring import Figure
from tests.bench.serving import Course
from tests.support.fakes import FakeEngine
from workers.engine.protocol import BatchResult, Job, Refusal


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Figure]]:
    """The bench of full size on the smallest model, with its result file and all its figures."""
    folder = tmp_path_factory.mktemp("results")
    words = "--reduced --durations 10 --batches 1 --planner-takes 1 --flow-takes 2"
    bench_full_size.main([*words.split(), "--results", str(folder)])
    (path,) = folder.glob("*.json")
    (run,) = json.loads(path.read_text())["runs"]
    return path, [Figure(*list(each.values())[:5]) for each in run["figures"]]


def test_the_bench_of_full_size_tells_of_every_stage(small_run):
    _, figures = small_run
    names = " | ".join(figure.name for figure in figures)
    for part in ("planner, 1 takes of 10 s", "encode", "diffuse", "decode", "share of its roofline", "rate"):
        assert part in names
    for figure in figures:
        assert figure.value >= 0, figure
        if "share" in figure.name:
            assert 0 < figure.value < 1, figure


def test_the_bench_of_full_size_turns_the_rate_into_dollars(small_run):
    _, figures = small_run
    (rate,) = [figure for figure in figures if figure.unit == "tracks/h"]
    (cost,) = [figure for figure in figures if figure.unit == "$ per 1,000 tracks"]
    assert cost.value == pytest.approx(1000 * 0.096 / rate.value)


def test_a_result_of_a_gpu_says_where_it_comes_from_and_a_second_run_is_added(small_run, tmp_path):
    path, _ = small_run
    known = json.loads(path.read_text())
    (run,) = known["runs"]
    assert run["versions"]["torch"]
    assert run["not_reached"] == []
    for _ in range(2):
        kept = bench_full_size.keep_result(run, "NVIDIA H200", tmp_path)
    assert kept.name.startswith("nvidia-h200-")
    assert len(json.loads(kept.read_text())["runs"]) == 2


def test_what_the_budget_does_not_reach_is_named(tmp_path, capsys):
    bench_full_size.main(["--reduced", "--budget-s", "-1", "--results", str(tmp_path)])
    captured = capsys.readouterr()
    assert "not reached within -1 s: miniature" in captured.err
    assert {figure["unit"] for figure in json.loads(captured.out)} == {"TFLOP/s", "GB/s"}


def test_a_fault_does_not_take_with_it_what_was_measured_before(tmp_path, monkeypatch):
    def fault(subject: object, *_: object) -> list[Figure]:
        raise RuntimeError("an illegal memory access")

    monkeypatch.setattr(full_size, "measure_render", fault)
    with pytest.raises(RuntimeError, match="illegal"):
        bench_full_size.main(["--reduced", "--durations", "10", "--batches", "1", "--results", str(tmp_path)])
    (path,) = tmp_path.glob("*.json")
    names = [figure["name"] for figure in json.loads(path.read_text())["runs"][0]["figures"]]
    assert any(", planner, " in name for name in names)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_models_of_the_real_size_are_refused_without_a_gpu():
    with pytest.raises(SystemExit, match="CUDA"):
        bench_full_size.main([])


def test_a_gpu_without_a_price_costs_unknown_and_not_nothing():
    rate = Figure("a: rate", 100.0, "tracks/h")
    assert bench_full_size.dollars([rate], "an unheard of GPU", []) == []
    (cost,) = bench_full_size.dollars([rate], "an unheard of GPU", [2.0])
    assert cost.value == 20.0


def test_nothing_is_promised_of_a_reduced_model(small_run):
    _, figures = small_run
    assert all(figure.promise == "" for figure in figures)
    assert Goals() == (None, None, None, None)


@dataclass
class LeakingEngine:
    """Holds on to so many MiB a take."""

    leak_mib: float
    engine: FakeEngine = field(default_factory=lambda: FakeEngine(limit=8))
    held_mib: float = 500.0

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        self.held_mib += self.leak_mib * len(jobs)
        return self.engine.render(jobs)

    def memory(self) -> MemoryUse:
        return MemoryUse(rss_mib=self.held_mib)


@pytest.mark.parametrize("leak_mib", [0.0, 0.25])
def test_the_memory_bench_finds_a_leak_and_invents_none(leak_mib):
    readings = watch(LeakingEngine(leak_mib), tracks=60)
    engine_growth, _ = growth(readings, settling=20)
    assert engine_growth == pytest.approx(100 * leak_mib, abs=1e-6)


def test_the_memory_bench_stops_at_a_track_that_is_not_rendered():
    class RefusingEngine(LeakingEngine):
        def render(self, jobs: Sequence[Job]) -> BatchResult:
            return BatchResult([Refusal("too loud")] * len(jobs), StageTimes())

    with pytest.raises(SystemExit, match="too loud"):
        watch(RefusingEngine(0.0), tracks=8)


def test_the_memory_bench_renders_as_many_tracks_as_it_says():
    sizes = [len(batch) for batch in batches(500)]
    assert sum(sizes) == 500
    assert max(sizes) == 8
    assert len({take.id for batch in batches(100) for take in batch}) == 100


def test_a_course_tells_idle_time_and_its_causes():
    spans = [
        Span(state="plan", start_ms=0, end_ms=300, batch_id="p"),
        Span(state="idle", start_ms=300, end_ms=400, cause="waiting for post"),
        Span(state="render", start_ms=400, end_ms=900, batch_id="b"),
        Span(state="idle", start_ms=900, end_ms=950, cause="no work"),
        Span(state="render", start_ms=950, end_ms=1000, batch_id="c"),
    ]
    attempt = AttemptMade(
        worker_id="w",
        run_id="r",
        take_id="t",
        outcome="rejected",
        times=StageTimes(plan_ms=300, diffuse_ms=540, post_ms=70),
        at_ms=1200,
    )
    course = Course(-100, 1200, [attempt], spans)
    assert (course.whole_s, course.lane_s) == (1.3, 1.0)
    assert (course.idle_s(), course.idle_s("no work")) == (0.15, 0.05)
    assert course.idle_causes == ["no work", "waiting for post"]
    assert (course.engine_s, course.post_s) == (0.84, 0.07)

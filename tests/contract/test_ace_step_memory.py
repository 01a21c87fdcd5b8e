"""Memory on the real classes: offloaded, quantised, guarded and calibrated engines, with the tiny checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from catalog.buckets import Bucket
from catalog.errors import OutOfVram, WorkerError
from catalog.models import TINY
from catalog.spec import PlannerSpec
from orchestrator.cli import worker
from tests.support.ace_step_samples import a_plan, a_take, renditions
from workers.ace_step.assembly import load_engine
from workers.ace_step.device import budget, probe
from workers.ace_step.device.fitting import GIB, MemoryBudget
from workers.ace_step.device.probe import ResidentMemoryProbe, free_bytes, open_memory_probe
from workers.ace_step.engine import AceStepEngine
from workers.ace_step.planner.planner import Planner
from workers.ace_step.tiny.checkpoint import PLANNER_FOLDER, tiny_checkpoint
from workers.ace_step.weights.offload import Offloaded, OffloadedParts, module_bytes
from workers.engine.calibration import Measured
from workers.engine.protocol import Job, Rendition

MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def _load(home: Path, **options: object) -> AceStepEngine:
    known = {"weights": None, "planner_weights": None, "device": "cpu", "vram_gib": None, "home": home}
    return load_engine(TINY.name, **{**known, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(home: Path) -> AceStepEngine:
    return _load(home)


def _render(engine: AceStepEngine) -> list[Rendition]:
    """Three takes: one that the engine plans, two that bring their plan."""
    takes = [a_take(n, planner=PlannerSpec()) for n in range(3)]
    return renditions(engine.render([Job(takes[0]), Job(takes[1], a_plan(1)), Job(takes[2], a_plan(2))]))


@pytest.fixture(scope="module")
def exact(plain: AceStepEngine) -> list[Rendition]:
    return _render(plain)


# ------------------------------------------------------------------ offload


def test_offloaded_weights_make_the_same_audio_bit_for_bit(home: Path, exact: list[Rendition]):
    engine = _load(home, offload="on")
    for one, other in zip(_render(engine), exact, strict=True):
        assert np.array_equal(one.audio, other.audio)
        assert one.plan == other.plan


def test_every_part_is_on_the_device_for_its_own_stage_and_gone_after_it(home: Path, monkeypatch: pytest.MonkeyPatch):
    engine = _load(home, offload="on")
    parts: OffloadedParts = engine._pipeline.offload
    loaded: list[str] = []
    names = {id(part): name for name, part in parts._asdict().items()}
    onload = type(parts.encoding)._onload

    def noted(part: object) -> None:
        loaded.append(names[id(part)])
        onload(part)  # type: ignore[arg-type]

    monkeypatch.setattr(type(parts.encoding), "_onload", noted)
    _render(engine)
    assert loaded == ["planning", "encoding", "hinting", "diffusion", "decoding"]
    silence = module_bytes(engine._pipeline.parts.condition_encoder)
    assert module_bytes(*engine._pipeline.parts.modules) == silence == 15_000 * 8 * 4


def test_an_offloading_engine_says_so_and_finishes_its_batches_one_after_the_other(home: Path):
    card = _load(home, offload="on").card
    assert any("wait in host memory" in note for note in card.notes)
    assert not card.overlaps


def test_a_planner_that_keeps_its_buffers_plans_the_same_after_its_weights_were_away(home: Path):
    folder, cpu = tiny_checkpoint(home) / PLANNER_FOLDER, torch.device("cpu")
    takes = [a_take(n, planner=PlannerSpec()) for n in range(4)]
    stayed, moved = (Planner.load(folder, device=cpu, dtype=torch.bfloat16) for _ in range(2))
    offloaded = Offloaded.in_host_memory([moved.model], cpu)
    moved.limit_memory(1.0, weights_stay=False)
    stayed.limit_memory(1.0)
    for batch in (takes[:2], takes[2:]):
        with offloaded:
            planned = moved.plan(batch)
        assert planned == stayed.plan(batch)


# ------------------------------------------------------------------ quantised weights


@pytest.mark.parametrize(("number_format", "error"), [("int8", 0.02), ("fp8", 0.12)])
def test_quantised_weights_are_smaller_and_sound_nearly_the_same(
    home: Path, plain: AceStepEngine, exact: list[Rendition], number_format: str, error: float
):
    engine = _load(home, quantize=number_format)
    assert engine.card.dtype == f"float32+{number_format}"
    blocks, whole = (each._pipeline.parts.transformer.layers for each in (engine, plain))
    assert module_bytes(blocks) < 0.4 * module_bytes(whole)  # rows of 32 weights bear a scale of four bytes each
    for one, other in zip(_render(engine), exact, strict=True):
        off = float(np.sqrt(np.mean((one.audio - other.audio) ** 2) / np.mean(other.audio**2)))
        assert 1e-4 < off < error
        assert one.effective.dtype == f"float32+{number_format}"
        assert one.plan == other.plan  # the planner keeps its precision


def test_quantised_weights_may_be_offloaded_too(home: Path):
    offloaded = _render(_load(home, quantize="int8", offload="on"))
    for one, other in zip(offloaded, _render(_load(home, quantize="int8")), strict=True):
        assert np.array_equal(one.audio, other.audio)


# ------------------------------------------------------------------ the guard


def test_a_batch_that_will_not_fit_is_not_begun(plain: AceStepEngine, monkeypatch: pytest.MonkeyPatch):
    encoded: list[int] = []
    encode = plain._pipeline.encode
    monkeypatch.setattr(plain._pipeline, "encode", lambda prompts: (encoded.append(len(prompts)), encode(prompts))[1])
    as_large = plain.budget._replace(transformer_weights=1_575_000_000)
    monkeypatch.setattr(plain, "budget", as_large)
    monkeypatch.setattr(budget, "free_bytes", lambda device: 2 * GIB)
    jobs = [Job(a_take(n)) for n in range(3)]
    with pytest.raises(OutOfVram, match=r"3 takes of 10 s need 3\.0 GiB \(published allowance\), and 2\.0 GiB"):
        plain.begin(jobs)
    assert encoded == []
    renditions(plain.render(jobs[:2]))
    assert encoded == [2]


def test_a_measured_need_leaves_out_what_the_batch_before_has_taken_already(plain: AceStepEngine):
    row = Measured(
        duration_s=60,
        takes=8,
        take_bytes=3 * MIB,
        batch_bytes=50 * MIB,
        beside_bytes=40 * MIB,
        peak_bytes=74 * MIB,
        published=8,
        ms_per_take=100,
        at_ms=0,
    )
    known = plain.budget.calibration.with_measured(row)
    assert plain.budget._replace(calibration=known).requirement(30) == (3 * MIB, 10 * MIB, "measured")


def test_other_programs_on_the_device_leave_batches_their_part_of_the_rest(
    plain: AceStepEngine, monkeypatch: pytest.MonkeyPatch
):
    roomy = plain.budget._replace(memory=MemoryBudget(80 * GIB, 10 * GIB, 0, planned=True))
    monkeypatch.setattr(budget, "free_bytes", lambda device: 69 * GIB)
    alone = roomy.batches_bytes()
    assert 0.95 * roomy.memory.for_batches < alone < roomy.memory.for_batches
    monkeypatch.setattr(budget, "free_bytes", lambda device: 30 * GIB)
    assert roomy.batches_bytes() / GIB == pytest.approx((40 * 0.95 - 0.5 - 10) / 3, abs=0.01)


def test_the_tiny_model_is_never_held_back(plain: AceStepEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(budget, "free_bytes", lambda device: 0)
    assert len(renditions(plain.render([Job(a_take(n)) for n in range(2)]))) == 2


def test_the_planner_is_given_its_part_of_what_the_weights_leave(home: Path, plain: AceStepEngine):
    memory = plain.budget.memory
    loaded = module_bytes(*plain._pipeline.parts.modules) + module_bytes(plain._planner.model)  # type: ignore[union-attr]
    assert memory.resident == loaded
    assert memory.for_planner == int(memory.spare * 2 / 3)
    assert (
        f"of {memory.for_planner / 1e9:.1f} GB"
        in plain.plan_limit(Bucket.of(a_take(planner=PlannerSpec()).spec)).reason
    )
    assert _load(home, planner_wanted=False).budget.memory.for_planner == 0


# ------------------------------------------------------------------ memory probes


def test_the_probe_sees_memory_that_was_let_go_long_ago():
    meter = ResidentMemoryProbe()
    meter.start()
    before = meter.peak_bytes()
    held = np.ones(64 * MIB, np.uint8)
    del held
    assert meter.peak_bytes() - before > 60 * MIB
    meter.start()
    assert meter.peak_bytes() - before < 20 * MIB


def test_free_is_what_the_machine_and_the_container_can_both_still_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    machine, container = tmp_path / "meminfo", tmp_path / "memory.stat"
    machine.write_text("MemTotal:  8388608 kB\nMemAvailable:  4096 kB\n")
    container.write_text("file 999\nanon 1048576\n")
    monkeypatch.setattr(probe, "_MEMORY", machine)
    monkeypatch.setattr(probe, "_GROUP_STATISTICS", container)
    monkeypatch.setattr(probe, "machine_bytes", lambda: 8 * GIB)
    assert free_bytes(torch.device("cpu")) == 4 * MIB
    monkeypatch.setattr(probe, "machine_bytes", lambda: 3 * MIB)
    assert free_bytes(torch.device("cpu")) == 2 * MIB


def test_metal_has_no_probe_and_says_what_holds_instead():
    with pytest.raises(WorkerError) as caught:
        open_memory_probe(torch.device("mps"))
    assert "published limits hold" in caught.value.fix


# ------------------------------------------------------------------ calibration


def _calibrate(*options: str) -> tuple[int, str]:
    app = typer.Typer()
    worker.register(app)
    arguments = ["worker", "calibrate", "--model", TINY.name, "--device", "cpu", "--no-planner", *options]
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    return tmp_path


def test_an_engine_goes_by_what_was_measured_on_its_machine(own_home: Path):
    code, printed = _calibrate("--durations", "10", "--ceiling", "2", "--json")
    assert code == 0
    report = json.loads(printed)
    (row,) = report["measured"]
    assert (row["duration_s"], row["takes"], row["published"]) == (10, 2, 8)
    assert 10 * MIB < row["peak_bytes"] < 2000 * MIB
    assert row["ms_per_take"] > 0
    assert Path(report["file"]).is_relative_to(own_home / "calibration")

    engine = _load(own_home, planner_wanted=False)
    limit = engine.batch_limit(Bucket.of(a_take(duration_s=10).spec))
    assert limit.takes == 2
    assert limit.reason.startswith("measured on this GPU on ")
    assert "batch limits measured on this GPU: 2 of 10 s" in engine.card.notes
    assert engine.batch_limit(Bucket.of(a_take(duration_s=11).spec)).reason == "random tiny weights fit anywhere"
    assert engine.budget.requirement(10).source == "measured"
    # With the planner in memory, or in another precision, it has not been measured.
    assert _load(own_home).budget.calibration.measured == ()
    assert _load(own_home, planner_wanted=False, quantize="int8").budget.calibration.measured == ()
    assert _load(own_home, planner_wanted=False, trial=True).budget.calibration.measured == ()


def test_people_get_a_table(monkeypatch: pytest.MonkeyPatch):
    row = {"duration_s": 180, "takes": 12, "published": 8, "take_bytes": 300 * MIB, "ms_per_take": 250}
    report = {"file": "/x.json", "key": {"gpu": "H200", "total_mib": 143_360, "setup": "bfloat16"}, "measured": [row]}
    done = subprocess.CompletedProcess([], 0, json.dumps(report))
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)
    assert _calibrate()[1].splitlines() == [
        "duration  limit  published  MiB per take  s per take",
        "   180 s     12          8           300        0.25",
        "H200, 140 GiB, bfloat16",
        "kept in: /x.json",
    ]
    done.stdout = json.dumps(report | {"measured": []})
    assert _calibrate()[1].splitlines()[-1] == "nothing was measured, and nothing is kept"


def test_what_the_child_cannot_do_ends_with_its_words_and_its_exit_code(capfd: pytest.CaptureFixture[str]):
    code, printed = _calibrate("--model", "tone")
    assert (code, printed) == (WorkerError.exit_code, "")
    assert "'tone' cannot be calibrated" in capfd.readouterr().err


@pytest.mark.parametrize("durations", ["5", "10,601", "x", "10.5"])
def test_durations_outside_the_models_limits_are_a_usage_error(durations: str):
    assert _calibrate("--durations", durations)[0] == 2


def test_an_interrupt_ends_it_in_order_with_what_there_is(own_home: Path):
    program = "import typer; from orchestrator.cli import worker; app = typer.Typer(); worker.register(app); app()"
    arguments = ["worker", "calibrate", "--model", TINY.name, "--device", "cpu", "--no-planner", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments, "--durations", "10,600", "--ceiling", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        folder = own_home / "calibration"
        deadline_s = time.monotonic() + 120
        while not (folder.is_dir() and list(folder.glob("*.json"))) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        printed, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert [row["duration_s"] for row in json.loads(printed)["measured"]] == [10]
    assert "Traceback" not in said

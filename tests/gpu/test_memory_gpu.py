"""Memory on a CUDA device: weights loaded from pinned host memory, quantised weights, probes and calibration.

Skipped where there is no CUDA device; with TUNEMILL_TEST_GPU=1, which promises one, that is a failure.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from catalog.models import TINY
from catalog.spec import PlannerSpec
from tests.support.ace_step_samples import a_take, renditions
from workers.ace_step.assembly import load_engine
from workers.ace_step.device.probe import free_bytes, open_memory_probe
from workers.ace_step.engine import AceStepEngine
from workers.ace_step.weights.offload import Offloaded, module_bytes
from workers.calibrate import CalibrationRun
from workers.engine.protocol import Job, Rendition

pytestmark = pytest.mark.gpu

MIB = 2**20


@pytest.fixture(scope="module")
def device() -> torch.device:
    return torch.device("cuda", 0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def _load(home: Path, **options: object) -> AceStepEngine:
    known = {"weights": None, "planner_weights": None, "device": "cuda", "vram_gib": None, "home": home}
    return load_engine(TINY.name, **{**known, "compiled": "off", **options})  # type: ignore[arg-type]


def _render(engine: AceStepEngine) -> list[Rendition]:
    return renditions(engine.render([Job(a_take(n, planner=PlannerSpec())) for n in range(3)]))


def test_a_stage_loads_the_weights_and_leaves_the_device_empty(device: torch.device):
    model = torch.nn.Linear(4096, 4096, bias=False).requires_grad_(False)
    x = torch.randn(2, 4096, device=device)
    expected = model.weight.to(device)
    offloaded = Offloaded.in_host_memory([model], device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    for _ in range(3):
        with offloaded:
            assert torch.equal(model.weight, expected)
            model(x)
            assert torch.cuda.memory_allocated(device) >= before + 64 * MIB
        assert torch.cuda.memory_allocated(device) < before + 16 * MIB
    assert all(tensor.host.is_pinned() for tensor in offloaded._host_tensors)


def test_a_small_card_offloads_and_quantises_by_itself_and_offloading_changes_no_bit(device: torch.device, home: Path):
    small = _load(home, vram_gib=8.0)
    assert small.card.dtype == "bfloat16+int8"
    assert any("all offloaded" in note for note in small.card.notes)
    large = _load(home, vram_gib=8.0, offload="off")
    for one, other in zip(_render(small), _render(large), strict=True):
        assert one.plan is not None
        assert other.plan is not None
        assert one.plan.codes == other.plan.codes
        assert np.array_equal(one.audio, other.audio)
    assert module_bytes(*small._pipeline.parts.modules) < 0.2 * module_bytes(*large._pipeline.parts.modules)


@pytest.mark.parametrize("number_format", ["int8", "fp8"])
def test_quantised_weights_sound_nearly_the_same(device: torch.device, home: Path, number_format: str):
    if number_format == "fp8" and torch.cuda.get_device_capability(device) < (8, 9):
        pytest.skip("this GPU knows no eight-bit floats")
    rough = _load(home, quantize=number_format, planner_wanted=False)
    exact = _load(home, quantize="none", planner_wanted=False)
    jobs = [Job(a_take(n)) for n in range(2)]
    for one, other in zip(renditions(rough.render(jobs)), renditions(exact.render(jobs)), strict=True):
        off = float(np.sqrt(np.mean((one.audio - other.audio) ** 2) / np.mean(other.audio**2)))
        assert 0 < off < 0.2  # bfloat16 alone is good for 0.05


def test_the_probe_sees_what_came_and_went(device: torch.device):
    probe = open_memory_probe(device)
    probe.start()
    before, free = probe.peak_bytes(), free_bytes(device)
    held = torch.empty(256 * MIB, dtype=torch.uint8, device=device)
    assert free - free_bytes(device) >= 255 * MIB
    del held
    assert probe.peak_bytes() - before >= 256 * MIB
    probe.start()
    assert probe.peak_bytes() - before < 64 * MIB


def test_the_tiny_model_is_calibrated_and_the_next_engine_goes_by_it(device: torch.device, home: Path):
    engine = _load(home, planner_wanted=False, trial=True)
    CalibrationRun(engine, home).measure([10], ceiling=16)
    again = _load(home, planner_wanted=False)
    row = again.budget.calibration.for_duration(10)
    assert row is not None
    assert row.takes == 16
    assert 0 < row.peak_bytes < 8192 * MIB
    renditions(again.render([Job(a_take(n)) for n in range(16)]))

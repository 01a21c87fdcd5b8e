"""The ACE-Step engine on a CUDA device, with the tiny checkpoint: precision, kernels and running out of memory.

Skipped where there is no CUDA device; with TUNEMILL_TEST_GPU=1, which promises one, that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from catalog.errors import OutOfVram
from catalog.spec import TINY_MODEL, PlannerSpec
from tests.contract.ace_step_samples import a_plan, a_take, gap, renditions
from workers.ace_step.device import Placement, choose_placement
from workers.ace_step.engine import AceStepEngine, load_engine
from workers.ace_step.loading import load_components
from workers.ace_step.stages import Stages
from workers.ace_step.tiny import tiny_checkpoint
from workers.engine import Job, Rendition

pytestmark = pytest.mark.gpu

EXACT = 1e-4  # of full scale, in float32: another device sums in another order
COARSE = 0.05  # relative RMS in bfloat16, whose steps are 2^-8


@pytest.fixture(scope="module", autouse=True)
def cuda() -> None:
    if torch.cuda.is_available():
        return
    reason = f"no CUDA device (torch {torch.__version__})"
    if os.environ.get("TUNEMILL_TEST_GPU") == "1":
        pytest.fail(f"{reason}, and TUNEMILL_TEST_GPU=1 promises one")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def engine(cuda: None, home: Path) -> AceStepEngine:
    return load_engine(TINY_MODEL, weights=None, planner_weights=None, device="cuda", vram_gib=None, home=home)


@pytest.fixture
def no_tf32() -> Iterator[None]:
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


def _relative_rms(one: Rendition, other: Rendition) -> float:
    return float(np.sqrt(np.mean((one.audio - other.audio) ** 2) / np.mean(other.audio**2)))


def _in_float32(placement: Placement) -> Placement:
    full = torch.float32
    return placement._replace(dtype=full, text_dtype=full, vae_dtype=full, planner_dtype=full)


def test_the_engine_says_what_it_runs_on(engine: AceStepEngine):
    assert engine.card.gpu == torch.cuda.get_device_name(0)
    assert (engine.card.device, engine.card.dtype) == ("cuda:0", "bfloat16")
    assert engine.card.vram_gib > 1


def test_masked_attention_runs_on_fused_kernels(engine: AceStepEngine):
    assert "math" not in engine.card.attention


def test_neighbours_do_not_matter_in_bfloat16(engine: AceStepEngine):
    jobs = [Job(a_take(n), a_plan(n)) for n in range(8)]
    together = renditions(engine.render(jobs))
    for place in (0, 4):
        (alone,) = renditions(engine.render([jobs[place]]))
        assert _relative_rms(alone, together[place]) < COARSE


def test_in_float32_the_gpu_makes_what_the_cpu_makes(engine: AceStepEngine, home: Path, no_tf32: None):
    jobs = [Job(a_take(n), a_plan(n) if n % 2 else None) for n in range(3)]
    made = []
    for name in ("cuda", "cpu"):
        placement = _in_float32(choose_placement(name))
        parts, _ = load_components(tiny_checkpoint(home), TINY_MODEL, placement)
        stages = Stages(parts, placement)
        made.append(renditions(AceStepEngine(stages, planner=None, placement=placement, card=engine.card).render(jobs)))
    assert max(gap(one, other) for one, other in zip(*made, strict=True)) < EXACT


def test_the_planner_runs_there_too(engine: AceStepEngine):
    (rendition,) = renditions(engine.render([Job(a_take(planner=PlannerSpec()))]))
    assert rendition.plan is not None
    assert len(rendition.plan.codes) == 50
    assert np.isfinite(rendition.audio).all()


def test_a_batch_that_does_not_fit_says_so_and_a_smaller_one_renders(engine: AceStepEngine):
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(64 * 2**20 / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(OutOfVram):
            engine.render([Job(a_take(n, duration_s=600)) for n in range(8)])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert renditions(engine.render([Job(a_take())]))

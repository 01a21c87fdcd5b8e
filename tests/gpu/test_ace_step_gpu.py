"""The ACE-Step engine on a CUDA device, with the tiny checkpoint: precision, kernels, graphs, streams and memory.

Skipped where there is no CUDA device; with TUNEMILL_TEST_GPU=1, which promises one, that is a failure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catalog.errors import OutOfVram
from catalog.models import TINY
from catalog.spec import DiffusionSpec, PlannerSpec
from tests.support.ace_step_samples import a_plan, a_take, gap, renditions
from workers.ace_step.assembly import load_engine
from workers.ace_step.device.placement import Placement, choose_placement
from workers.ace_step.diffusion.pipeline import Pipeline, TokenizedPrompt, context_of
from workers.ace_step.diffusion.sampler import StepInputs, constant_steps
from workers.ace_step.engine import AceStepEngine
from workers.ace_step.tiny.checkpoint import tiny_checkpoint
from workers.ace_step.weights.loading import load_components
from workers.engine.protocol import Job, Rendition

pytestmark = pytest.mark.gpu

EXACT = 1e-4  # of full scale, in float32: another device sums in another order
DIFFUSION = DiffusionSpec()
COARSE = 0.05  # relative RMS in bfloat16, whose steps are 2^-8


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def engine(cuda: None, home: Path) -> AceStepEngine:
    return load_engine(
        TINY.name, weights=None, planner_weights=None, device="cuda", vram_gib=None, home=home, compiled="off"
    )


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


def _pipeline(home: Path, placement: Placement | None = None, **how: Any) -> Pipeline:
    placement = placement or choose_placement("cuda")
    parts, _ = load_components(tiny_checkpoint(home), TINY.name, placement)
    return Pipeline(parts, placement, **how)


def test_in_float32_the_gpu_makes_what_the_cpu_makes(engine: AceStepEngine, home: Path, no_tf32: None):
    jobs = [Job(a_take(n, duration_s=45), a_plan(n, n_codes=225) if n % 2 else None) for n in range(3)]
    made = []
    for name in ("cuda", "cpu"):
        pipeline = _pipeline(home, _in_float32(choose_placement(name)))
        alone = AceStepEngine(pipeline, planner=None, budget=engine.budget, card=engine.card)
        made.append(renditions(alone.render(jobs)))
    assert max(gap(one, other) for one, other in zip(*made, strict=True)) < EXACT


def _steps(pipeline: Pipeline, first: int, n_latents: int) -> list[StepInputs]:
    prompts = [TokenizedPrompt("", [7 + n] * (40 + n), [5] * 4) for n in range(first, first + 2)]
    source = pipeline.hints_or_silence([None] * 2, n_latents)
    return constant_steps(pipeline.encode(prompts), context_of(source, torch.ones_like(source)), DIFFUSION)


@torch.inference_mode()
def _latents(pipeline: Pipeline, first: int = 0, n_latents: int = 1500, switch_at: int = 8) -> torch.Tensor:
    """Latents of two takes; from step `switch_at` on they hear the words of the next two."""
    steps = _steps(pipeline, first, n_latents)[:switch_at] + _steps(pipeline, first + 2, n_latents)[switch_at:]
    return pipeline.diffuse(pipeline.noise(range(first, first + 2), n_latents), steps, DIFFUSION)


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


@pytest.mark.parametrize("switch_at", [3, 8])
@pytest.mark.parametrize("n_latents", [250, 1500])
def test_a_recorded_step_makes_bitwise_what_a_plain_one_makes(home: Path, n_latents: int, switch_at: int):
    recorded, plain = _pipeline(home), _pipeline(home, graphs_kept=0)
    made = [_latents(recorded, first, n_latents, switch_at) for first in range(3)]
    assert len(recorded._sampler._graphs._kept) == 1
    assert recorded._sampler._graphs.records
    for first, latents in enumerate(made):
        assert torch.equal(latents, _latents(plain, first, n_latents, switch_at))


def test_the_host_waits_for_nothing_while_it_queues_the_steps(home: Path):
    for pipeline in (_pipeline(home), _pipeline(home, graphs_kept=0)):
        with torch.inference_mode():
            steps = _steps(pipeline, 0, 1500)[:4] + _steps(pipeline, 2, 1500)[4:]
            noise = pipeline.noise([0, 1], 1500)
            for _ in range(2):  # schedules are made, and graphs recorded, once
                pipeline.diffuse(noise, steps, DIFFUSION)
            torch.cuda.set_sync_debug_mode("error")  # from here on whatever waits for the device raises
            try:
                pipeline.diffuse(noise, steps, DIFFUSION)
            finally:
                torch.cuda.set_sync_debug_mode("default")


def test_compiled_the_model_makes_the_same_up_to_rounding(home: Path):
    compiled, plain = _pipeline(home, compiled=True), _pipeline(home)
    fast, slow = _latents(compiled), _latents(plain)
    assert 0 < _apart(fast, slow) < COARSE
    with torch.inference_mode():
        audio = [torch.from_numpy(pipeline.decode([slow[0]])[0]) for pipeline in (compiled, plain)]
    assert 0 < _apart(*audio) < COARSE
    assert compiled._sampler._graphs.records


def test_decoding_beside_the_next_batch_changes_nothing(engine: AceStepEngine):
    batches = [[Job(a_take(n, duration_s=40)), Job(a_take(n + 4, duration_s=40))] for n in range(4)]
    one_by_one = [renditions(engine.render(jobs)) for jobs in batches]
    with ThreadPoolExecutor(1) as decoding:
        audio = [decoding.submit(engine.begin(jobs)) for jobs in batches]
        beside = [renditions(future.result()) for future in audio]
    for one, other in zip(one_by_one, beside, strict=True):
        assert all(np.array_equal(a.audio, b.audio) for a, b in zip(one, other, strict=True))


def test_graphs_are_recorded_while_another_thread_decodes(engine: AceStepEngine, home: Path):
    pipeline = _pipeline(home)
    recording = AceStepEngine(pipeline, planner=None, budget=engine.budget, card=engine.card)
    batches = [[Job(a_take(n, duration_s=10 + n)), Job(a_take(n + 1, duration_s=10 + n))] for n in range(8)]
    with ThreadPoolExecutor(1) as decoding:
        audio = [decoding.submit(recording.begin(jobs)) for jobs in batches]
        assert all(np.isfinite(made.audio).all() for future in audio for made in renditions(future.result()))
    assert pipeline._sampler._graphs.records  # recording has not failed


def test_windows_decoded_together_give_what_single_ones_give(home: Path):
    pipeline, latents = _pipeline(home), _latents(_pipeline(home), n_latents=3000)[0]
    made = []
    with torch.inference_mode():
        for together in (1, 4):
            pipeline.decode._together = together
            made.append(torch.from_numpy(pipeline.decode([latents])[0]))
    assert _apart(*made) < COARSE


def test_stage_times_are_those_of_the_device(engine: AceStepEngine):
    jobs = [Job(a_take(n, duration_s=60)) for n in range(4)]
    engine.render(jobs)
    began = time.perf_counter()
    times = engine.render(jobs).times
    wall_ms = (time.perf_counter() - began) * 1000
    assert times.diffuse_ms > 0
    assert times.decode_ms > 0
    assert times.engine_ms <= wall_ms + 3


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

"""The planner on a CUDA device, with the tiny weights: graphs, waiting, and neighbours in bfloat16.

Skipped where there is no CUDA device; with TUNEMILL_TEST_GPU=1, which promises one, that is a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from catalog.spec import PlannerSpec
from tests.support.planner_takes import CPU, a_take, mixed_takes
from workers.ace_step.planner.codes import CodeWriter
from workers.ace_step.planner.decoding import Decoding, Shape
from workers.ace_step.planner.loading import load_model
from workers.ace_step.planner.planner import Planner
from workers.ace_step.planner.sampling import SamplingParams, choose, choose_on_device
from workers.ace_step.tiny.planner import write_tiny_planner

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("planner")
    write_tiny_planner(path)
    return path


@pytest.fixture(scope="module")
def planner(cuda: None, folder: Path) -> Planner:
    return Planner.load(folder, device=CUDA, dtype=torch.bfloat16)


def a_planner_like(planner: Planner, *, weights_stay: bool = True) -> Planner:
    """The same weights, with the published prompt classes, no plan remembered and no buffer kept."""
    if hasattr(planner.model.config, "context_tokens"):
        del planner.model.config.context_tokens
    fresh = Planner(planner.model, planner.tokenizer, planner.vocabulary, planner.fingerprint)
    fresh.limit_memory(60, weights_stay=weights_stay)
    return fresh


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the device is an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_neighbours_do_not_matter_in_bfloat16(planner: Planner, cfg_scale: float):
    takes = [
        a_take(n, duration_s=10 + n, caption="Slow piano, " * n, temperature=0.5 + n / 10, cfg_scale=cfg_scale)
        for n in range(1, 9)
    ]
    together = a_planner_like(planner).plan(takes)
    assert [a_planner_like(planner).plan([take])[0] for take in takes] == together
    assert a_planner_like(planner).plan(takes[::-1]) == together[::-1]


def test_graphs_write_what_single_launches_write(planner: Planner, caplog: pytest.LogCaptureFixture):
    takes = mixed_takes()
    recorded = a_planner_like(planner)
    plans = recorded.plan(takes)
    assert plans == a_planner_like(planner, weights_stay=False).plan(takes)
    assert not caplog.records  # such as a graph that could not be recorded
    writers = recorded._buffers._writers.values()
    assert any(len(writer.decoding.graphs._kept) for writer in writers)


def test_steps_never_make_the_host_wait(planner: Planner):
    requests = planner.requests([a_take(n) for n in (1, 2)])
    decoding = Decoding(planner.model, Shape.of(4, 512, 50))
    writer = CodeWriter(decoding, guided=True, first_code=planner.vocabulary.first_code)
    expected = writer.write(requests)  # and with it, graphs are recorded
    writer.begin(requests)
    with no_waiting():
        writer.write_on(49)
    assert writer.read(requests) == expected


def test_float32_writes_the_codes_that_the_cpu_writes(folder: Path, planner: Planner):
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        full, plain = (
            Planner(load_model(folder, device, torch.float32), planner.tokenizer, planner.vocabulary, "")
            for device in (CUDA, CPU)
        )
        takes = mixed_takes()
        assert [plan.codes for plan in full.plan(takes)] == [plan.codes for plan in plain.plan(takes)]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def test_codes_are_drawn_as_on_the_cpu():
    specs = [PlannerSpec(top_p=p, top_k=k) for p in (0.2, 0.9, 1.0) for k in (0, 7)]
    logits = torch.randn(len(specs), 64_000, generator=torch.Generator().manual_seed(0)) * 3
    for step in range(5):
        expected = choose(logits, SamplingParams.of(specs, range(len(specs)), CPU), step)
        params = SamplingParams.of(specs, range(len(specs)), CUDA)
        drawn = choose_on_device(logits.to(CUDA), params, torch.tensor([step], device=CUDA))
        assert drawn.tolist() == expected.tolist()


def test_buffers_and_graphs_are_given_back(planner: Planner):
    used = a_planner_like(planner)
    before = torch.cuda.memory_allocated(CUDA)
    used.plan([a_take(1), a_take(2, cfg_scale=1.0)])
    assert torch.cuda.memory_allocated(CUDA) > before
    used.limit_memory(60)
    assert torch.cuda.memory_allocated(CUDA) <= before + 2**20

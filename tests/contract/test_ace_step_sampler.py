"""The sampler on the tiny checkpoint: what is worked out once, recorded or compiled changes nothing that is heard."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

import workers.ace_step.diffusion.sampler
import workers.ace_step.diffusion.transformer
from catalog.spec import DiffusionSpec
from workers.ace_step.device.compiling import Compiler
from workers.ace_step.device.graphs import Graphs, Recording
from workers.ace_step.device.placement import choose_placement
from workers.ace_step.diffusion.pipeline import Pipeline, TokenizedPrompt, context_of
from workers.ace_step.diffusion.sampler import Sampler, StepInputs, constant_steps, schedule
from workers.ace_step.tiny.checkpoint import tiny_checkpoint
from workers.ace_step.weights.loading import load_components

MODEL = "tiny-random"
DIFFUSION = DiffusionSpec()
TOLERANCE = 1e-5  # of latents around 1; measured differences are about 1e-6


@pytest.fixture(scope="module", autouse=True)
def quietly() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    placement = choose_placement("cpu")
    parts, _ = load_components(tiny_checkpoint(tmp_path_factory.mktemp("home")), MODEL, placement)
    return Pipeline(parts, placement)


def _prompts(n: int, first: int = 0) -> list[TokenizedPrompt]:
    """Texts of different length and words."""
    return [TokenizedPrompt("", [7 + i] * (40 + 3 * i), [5 + i] * (4 + i)) for i in range(first, first + n)]


def _steps(
    pipeline: Pipeline, n_latents: int, *, first: int = 0, n: int = 2, diffusion: DiffusionSpec = DIFFUSION
) -> list[StepInputs]:
    """Of `n` takes whose words begin with those of number `first`."""
    source = pipeline.hints_or_silence([None] * n, n_latents)
    return constant_steps(pipeline.encode(_prompts(n, first)), context_of(source, torch.ones_like(source)), diffusion)


def _latents(pipeline: Pipeline, sampler: Sampler | None = None, n_latents: int = 250, **takes: int) -> torch.Tensor:
    steps = _steps(pipeline, n_latents, **takes)
    first, n = takes.get("first", 0), takes.get("n", 2)
    noise = pipeline.noise(range(first, first + n), n_latents)
    return (sampler or pipeline.diffuse)(noise, steps, DIFFUSION)


def _stock_latents(pipeline: Pipeline, n_latents: int) -> torch.Tensor:
    """One take through diffusers' own forward."""
    (inputs, *_), times = _steps(pipeline, n_latents, n=1), schedule(DIFFUSION)
    latents, words = pipeline.noise([0], n_latents), inputs.conditions.hidden
    for now, length in zip(times[:-1].tolist(), times.diff().tolist(), strict=True):
        time = torch.full((1,), now)
        (velocity,) = pipeline.parts.transformer(latents, time, time, words, inputs.context, return_dict=False)
        latents = latents + length * velocity
    return latents


@pytest.mark.parametrize("n_latents", [250, 275, 1024])  # an odd number of latents; the longest that is dense
def test_up_to_40_seconds_the_latents_are_bitwise_those_of_the_stock_transformer(pipeline: Pipeline, n_latents: int):
    assert torch.equal(_latents(pipeline, n_latents=n_latents, n=1), _stock_latents(pipeline, n_latents))


@pytest.mark.parametrize("n_latents", [1025, 2775])
def test_beyond_that_they_are_the_same_up_to_rounding(pipeline: Pipeline, n_latents: int):
    gap = (_latents(pipeline, n_latents=n_latents, n=1) - _stock_latents(pipeline, n_latents)).abs().max()
    assert 0 < gap < TOLERANCE


@pytest.mark.parametrize("n_latents", [250, 1050])
def test_texts_padded_to_whole_shapes_say_the_same(pipeline: Pipeline, n_latents: int):
    plain = _latents(pipeline, n_latents=n_latents)
    pipeline.token_multiple = 64
    try:
        assert pipeline.encode(_prompts(2)).hidden.shape[1] % 64 == 0
        assert (_latents(pipeline, n_latents=n_latents) - plain).abs().max() < TOLERANCE
    finally:
        pipeline.token_multiple = 1


def test_padding_that_is_not_hidden_is_heard(pipeline: Pipeline):
    # The proof that the tests for neighbours can fail.
    steps = _steps(pipeline, 250)
    assert steps[0].conditions.keep is not None
    unmasked = [step._replace(conditions=step.conditions._replace(keep=None)) for step in steps]
    noise = pipeline.noise([0, 1], 250)
    masked, heard = (pipeline.diffuse(noise, each, DIFFUSION) for each in (steps, unmasked))
    assert (masked - heard)[0].abs().max() > 100 * TOLERANCE
    assert (masked - heard)[1].abs().max() < TOLERANCE  # the longer text, which has no padding


@contextmanager
def _refusing() -> Iterator[None]:
    raise RuntimeError("cuDNN Frontend error: no valid engine configs\nmore of it")
    yield


@contextmanager
def _wrong() -> Iterator[None]:
    attend = workers.ace_step.diffusion.transformer.attend
    workers.ace_step.diffusion.transformer.attend = lambda *args: attend(*args) * 1.5
    try:
        yield
    finally:
        workers.ace_step.diffusion.transformer.attend = attend


@pytest.mark.parametrize(
    ("kernels", "kept", "said"),
    [(nullcontext, True, ""), (_refusing, False, "no valid engine configs"), (_wrong, False, "% off")],
)
def test_preferred_attention_kernels_must_first_give_what_the_plain_ones_give(
    pipeline: Pipeline,
    kernels: Callable[[], Any],
    kept: bool,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(workers.ace_step.diffusion.sampler, "cudnn_first", kernels)
    monkeypatch.setattr(pipeline._sampler, "cudnn_first", True)
    with torch.inference_mode(False):
        assert pipeline.attention_kernels()
    assert pipeline._sampler.cudnn_first is kept
    assert len(caplog.records) == (0 if kept else 1)
    assert said in caplog.text


class Tape:
    """Records on the CPU as CUDA does: a replay reads and writes the very tensors of the recorded step."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, step: Callable[[], Any]) -> Recording:
        self.recorded += 1
        return Recording(lambda: self._replay(step), None)

    def _replay(self, step: Callable[[], Any]) -> None:
        self.replayed += 1
        step()


def test_a_recorded_step_serves_every_batch_of_its_shape(pipeline: Pipeline):
    tape = Tape()
    sampler = Sampler(pipeline.parts.transformer, graphs=Graphs(pipeline.device, 4, recorder=tape))
    pipeline.token_multiple = 64
    try:
        made = [_latents(pipeline, sampler, first=first) for first in (0, 1, 2)]
        wanted = [_latents(pipeline, first=first) for first in (0, 1, 2)]
    finally:
        pipeline.token_multiple = 1
    # Compared only now: a batch must not have written over what an earlier one returned.
    assert all(torch.equal(one, other) for one, other in zip(made, wanted, strict=True))
    assert (tape.recorded, tape.replayed) == (1, 8 * 3 - 1)


def test_batches_of_other_shapes_are_recorded_by_themselves_and_only_the_last_few_kept(pipeline: Pipeline):
    tape = Tape()
    sampler = Sampler(pipeline.parts.transformer, graphs=Graphs(pipeline.device, 4, recorder=tape))
    lengths = [50, 100, 150, 200, 250, 50]
    made = [_latents(pipeline, sampler, n_latents) for n_latents in lengths]
    assert all(
        torch.equal(one, _latents(pipeline, n_latents=n_latents)) for one, n_latents in zip(made, lengths, strict=True)
    )
    assert tape.recorded == 6
    sampler.forget()
    _latents(pipeline, sampler, 50)
    assert tape.recorded == 7


def test_long_batches_are_not_recorded_because_they_would_only_hold_memory(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workers.ace_step.diffusion.sampler, "_RECORDED_LATENTS_MAX", 500)
    tape = Tape()
    sampler = Sampler(pipeline.parts.transformer, graphs=Graphs(pipeline.device, 4, recorder=tape))
    _latents(pipeline, sampler, n_latents=252)
    assert tape.recorded == 0
    _latents(pipeline, sampler, n_latents=250)
    assert tape.recorded == 1


def test_other_steps_and_shifts_have_a_schedule_of_their_own(pipeline: Pipeline):
    def latents(steps: int, shift: float) -> torch.Tensor:
        diffusion = DiffusionSpec(steps=steps, shift=shift)
        return pipeline.diffuse(pipeline.noise([0], 50), _steps(pipeline, 50, n=1, diffusion=diffusion), diffusion)

    first = latents(8, 3.0)
    assert not torch.equal(first, latents(8, 1.0))
    assert not torch.equal(first, latents(4, 3.0))
    assert torch.equal(first, latents(8, 3.0))


@pytest.mark.slow
def test_a_compiled_sampler_makes_the_same_latents(pipeline: Pipeline):
    compiler = Compiler(wanted=True)
    sampler = Sampler(pipeline.parts.transformer, compiler=compiler)
    gap = (_latents(pipeline, sampler, 1050) - _latents(pipeline, n_latents=1050)).abs().max()
    assert compiler.works
    assert 0 < gap < TOLERANCE


@pytest.mark.slow
def test_a_compiled_decoder_makes_the_same_audio(pipeline: Pipeline):
    compiled = Pipeline(dataclasses.replace(pipeline.parts), choose_placement("cpu"), compiled=True)
    latents = pipeline.noise([1], 30)
    ((plain,), (fast,)) = pipeline.decode(list(latents)), compiled.decode(list(latents))
    assert 0 < abs(plain - fast).max() < TOLERANCE

"""The walk on the tiny checkpoint: what is worked out once, recorded or compiled changes nothing that is heard."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

import workers.ace_step.diffusion.transformer
from workers.ace_step.device.compiling import Compiler
from workers.ace_step.device.graphs import Graphs, Recording
from workers.ace_step.device.placement import choose_placement
from workers.ace_step.diffusion.stages import Stages, TokenizedPrompt
from workers.ace_step.diffusion.transformer import Conditions, Sampler, schedule
from workers.ace_step.tiny.checkpoint import tiny_checkpoint
from workers.ace_step.weights.loading import load_components

MODEL = "tiny-random"
TOLERANCE = 1e-5  # of latents around 1; measured differences are about 1e-6


@pytest.fixture(scope="module", autouse=True)
def quietly() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    placement = choose_placement("cpu")
    parts, _ = load_components(tiny_checkpoint(tmp_path_factory.mktemp("home")), MODEL, placement)
    return Stages(parts, placement)


def _scripts(n: int, first: int = 0) -> list[TokenizedPrompt]:
    """Texts of different length and words."""
    return [TokenizedPrompt("", [7 + i] * (40 + 3 * i), [5 + i] * (4 + i)) for i in range(first, first + n)]


def _latents(stages: Stages, walk: Sampler | Stages, n_latents: int = 250, first: int = 0, n: int = 2) -> torch.Tensor:
    conditions, context = stages.encode(_scripts(n, first)), stages.context([None] * n, n_latents)
    take = walk.diffuse if isinstance(walk, Stages) else walk
    return take(stages.noise(range(first, first + n), n_latents), conditions, context, steps=8, shift=3.0)


def _stock_latents(stages: Stages, n_latents: int) -> torch.Tensor:
    """One take through diffusers' own forward."""
    conditions, context = stages.encode(_scripts(1)), stages.context([None], n_latents)
    times, latents = schedule(8, 3.0), stages.noise([0], n_latents)
    for now, length in zip(times[:-1].tolist(), times.diff().tolist(), strict=True):
        time = torch.full((1,), now)
        (velocity,) = stages.parts.transformer(latents, time, time, conditions.hidden, context, return_dict=False)
        latents = latents + length * velocity
    return latents


@pytest.mark.parametrize("n_latents", [250, 275, 1024])  # an odd number of latents; the longest that is dense
def test_up_to_40_seconds_the_latents_are_bitwise_those_of_the_stock_transformer(stages: Stages, n_latents: int):
    assert torch.equal(_latents(stages, stages, n_latents, n=1), _stock_latents(stages, n_latents))


@pytest.mark.parametrize("n_latents", [1025, 2775])
def test_beyond_that_they_are_the_same_up_to_rounding(stages: Stages, n_latents: int):
    gap = (_latents(stages, stages, n_latents, n=1) - _stock_latents(stages, n_latents)).abs().max()
    assert 0 < gap < TOLERANCE


@pytest.mark.parametrize("n_latents", [250, 1050])
def test_texts_padded_to_whole_shapes_say_the_same(stages: Stages, n_latents: int):
    plain = _latents(stages, stages, n_latents)
    stages.token_step = 64
    try:
        assert stages.encode(_scripts(2)).hidden.shape[1] % 64 == 0
        assert (_latents(stages, stages, n_latents) - plain).abs().max() < TOLERANCE
    finally:
        stages.token_step = 1


def test_padding_that_is_not_hidden_is_heard(stages: Stages):
    # The proof that the tests for neighbours can fail.
    conditions, context = stages.encode(_scripts(2)), stages.context([None] * 2, 250)
    assert conditions.keep is not None
    masked, heard = (
        stages.diffuse(stages.noise([0, 1], 250), each, context, steps=8, shift=3.0)
        for each in (conditions, Conditions(conditions.hidden, None))
    )
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
    stages: Stages,
    kernels: Callable[[], Any],
    kept: bool,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(workers.ace_step.diffusion.transformer, "cudnn_first", kernels)
    monkeypatch.setattr(stages._walk, "cudnn_first", True)
    with torch.inference_mode(False):
        assert stages.attention_kernels()
    assert stages._walk.cudnn_first is kept
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


def test_a_recorded_step_serves_every_batch_of_its_shape(stages: Stages):
    tape = Tape()
    walk = Sampler(stages.parts.transformer, graphs=Graphs(stages.device, 4, recorder=tape))
    stages.token_step = 64
    try:
        made = [_latents(stages, walk, first=first) for first in (0, 1, 2)]
        wanted = [_latents(stages, stages, first=first) for first in (0, 1, 2)]
    finally:
        stages.token_step = 1
    # Compared only now: a batch must not have written over what an earlier one returned.
    assert all(torch.equal(one, other) for one, other in zip(made, wanted, strict=True))
    assert (tape.recorded, tape.replayed) == (1, 8 * 3 - 1)


def test_batches_of_other_shapes_are_recorded_by_themselves_and_only_the_last_few_kept(stages: Stages):
    tape = Tape()
    walk = Sampler(stages.parts.transformer, graphs=Graphs(stages.device, 4, recorder=tape))
    lengths = [50, 100, 150, 200, 250, 50]
    made = [_latents(stages, walk, n_latents) for n_latents in lengths]
    assert all(
        torch.equal(one, _latents(stages, stages, n_latents)) for one, n_latents in zip(made, lengths, strict=True)
    )
    assert tape.recorded == 6
    walk.forget()
    _latents(stages, walk, 50)
    assert tape.recorded == 7


def test_long_batches_are_not_recorded_because_they_would_only_hold_memory(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workers.ace_step.diffusion.transformer, "_RECORDED_LATENTS_MAX", 500)
    tape = Tape()
    walk = Sampler(stages.parts.transformer, graphs=Graphs(stages.device, 4, recorder=tape))
    _latents(stages, walk, n_latents=252)
    assert tape.recorded == 0
    _latents(stages, walk, n_latents=250)
    assert tape.recorded == 1


def test_other_steps_and_shifts_have_their_own_moments(stages: Stages):
    def walked(steps: int, shift: float) -> torch.Tensor:
        conditions, context = stages.encode(_scripts(1)), stages.context([None], 50)
        return stages.diffuse(stages.noise([0], 50), conditions, context, steps=steps, shift=shift)

    first = walked(8, 3.0)
    assert not torch.equal(first, walked(8, 1.0))
    assert not torch.equal(first, walked(4, 3.0))
    assert torch.equal(first, walked(8, 3.0))


@pytest.mark.slow
def test_a_compiled_walk_makes_the_same_latents(stages: Stages):
    compiler = Compiler(wanted=True)
    walk = Sampler(stages.parts.transformer, compiler=compiler)
    gap = (_latents(stages, walk, 1050) - _latents(stages, stages, 1050)).abs().max()
    assert compiler.works
    assert 0 < gap < TOLERANCE


@pytest.mark.slow
def test_a_compiled_decoder_makes_the_same_audio(stages: Stages):
    compiled = Stages(dataclasses.replace(stages.parts), choose_placement("cpu"), compiled=True)
    latents = stages.noise([1], 30)
    ((plain,), (fast,)) = stages.decode(list(latents)), compiled.decode(list(latents))
    assert 0 < abs(plain - fast).max() < TOLERANCE

"""Sampling whose conditions, context or guidance change on the way, held against a plain loop over diffusers' forward.

Repainting and covers need the one, base models the other; both are sockets, and these tests are what is plugged in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch.nn.functional import pad

from catalog.spec import DiffusionSpec
from tests.support import tape
from workers.ace_step.device.graphs import Graphs
from workers.ace_step.device.placement import choose_placement
from workers.ace_step.diffusion.conditions import Conditions
from workers.ace_step.diffusion.guidance import GuidanceState
from workers.ace_step.diffusion.pipeline import Pipeline, TokenizedPrompt, context_of
from workers.ace_step.diffusion.sampler import Sampler, StepInputs, constant_steps, schedule
from workers.ace_step.tiny.checkpoint import tiny_checkpoint
from workers.ace_step.weights.loading import load_components

DIFFUSION = DiffusionSpec()
N_LATENTS = 250
TOLERANCE = 1e-5  # of latents around 1


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
    parts, _ = load_components(tiny_checkpoint(tmp_path_factory.mktemp("home")), "tiny-random", placement)
    return Pipeline(parts, placement)


class ARecorder:
    """Records as CUDA does, addresses and no Python; counts its recordings."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, step):
        self.recorded += 1
        return tape.record(step)


def a_sampler(pipeline: Pipeline, recorder: ARecorder | None = None) -> Sampler:
    graphs = Graphs(pipeline.device, 4, recorder=recorder) if recorder else None
    return Sampler(pipeline.parts.transformer, graphs=graphs)


def some_inputs(pipeline: Pipeline, word: int, *, n: int = 1, n_words: int = 40) -> StepInputs:
    """Conditions and context that `word` sets apart: other text, another source, and a mask with a hole."""
    prompts = [TokenizedPrompt("", [word + i] * n_words, [word + i] * 6) for i in range(n)]
    codes = [[(word + i) * 1000] * (N_LATENTS // 5) for i in range(n)]
    source = pipeline.hints_or_silence(codes, N_LATENTS)
    mask = torch.ones_like(source)
    mask[:, word : 10 * word] = 0
    return StepInputs(pipeline.encode(prompts), context_of(source, mask))


def a_switch(one: StepInputs, other: StepInputs, at: int) -> list[StepInputs]:
    first, second = (constant_steps(each.conditions, each.context, DIFFUSION) for each in (one, other))
    return first[:at] + second[at:]


def plainly(pipeline: Pipeline, noise: torch.Tensor, steps: list[StepInputs]) -> torch.Tensor:
    """The same steps by diffusers' transformer, one call a step; no row may be padded."""
    times, latents = schedule(DIFFUSION), noise
    for now, length, inputs in zip(times[:-1].tolist(), times.diff().tolist(), steps, strict=True):
        time = torch.full((len(noise),), now)
        (velocity,) = pipeline.parts.transformer(
            latents, time, time, inputs.conditions.hidden, inputs.context, return_dict=False
        )
        latents = latents + length * velocity
    return latents


@pytest.mark.parametrize("at", [1, 3, 7])
@pytest.mark.parametrize("what", ["conditions", "context", "both"])
def test_a_switch_is_bitwise_what_a_plain_loop_makes_of_it(pipeline: Pipeline, at: int, what: str):
    one, other = some_inputs(pipeline, 5), some_inputs(pipeline, 9)
    if what != "both":
        other = one._replace(**{what: getattr(other, what)})
    noise, steps = pipeline.noise([1], N_LATENTS), a_switch(one, other, at)
    switched = pipeline.diffuse(noise, steps, DIFFUSION)
    assert torch.equal(switched, plainly(pipeline, noise, steps))
    for unswitched in (one, other):
        alone = pipeline.diffuse(noise, a_switch(unswitched, unswitched, 0), DIFFUSION)
        assert (switched - alone).abs().max() > 100 * TOLERANCE


def test_a_switch_to_a_text_of_another_length_is_the_plain_loops_too(pipeline: Pipeline):
    steps = a_switch(some_inputs(pipeline, 5), some_inputs(pipeline, 9, n_words=70), 4)
    noise = pipeline.noise([1], N_LATENTS)
    for sampler in (a_sampler(pipeline), a_sampler(pipeline, ARecorder())):
        for _ in range(2):
            assert torch.equal(sampler(noise, steps, DIFFUSION), plainly(pipeline, noise, steps))


def test_recorded_once_a_step_serves_both_sides_of_a_switch_in_every_batch(pipeline: Pipeline):
    recorder = ARecorder()
    sampler = a_sampler(pipeline, recorder)
    batches = [
        (pipeline.noise([seed], N_LATENTS), a_switch(some_inputs(pipeline, seed), some_inputs(pipeline, seed + 3), at))
        for seed, at in ((2, 2), (3, 0), (4, 5))
    ]
    made = [sampler(noise, steps, DIFFUSION) for noise, steps in batches]
    for latents, (noise, steps) in zip(made, batches, strict=True):
        assert torch.equal(latents, plainly(pipeline, noise, steps))
    assert recorder.recorded == 1


def test_a_switch_to_equal_inputs_changes_no_bit(pipeline: Pipeline):
    one = some_inputs(pipeline, 5, n=2)
    copy = StepInputs(one.conditions._replace(hidden=one.conditions.hidden.clone()), one.context.clone())
    noise = pipeline.noise([1, 2], N_LATENTS)
    for recorder in (None, ARecorder()):
        sampler = a_sampler(pipeline, recorder)
        unswitched = sampler(noise, a_switch(one, one, 0), DIFFUSION)
        assert torch.equal(sampler(noise, a_switch(one, copy, 3), DIFFUSION), unswitched)
        assert torch.equal(sampler(noise, a_switch(one, one, 0), DIFFUSION), unswitched)


def test_rows_of_a_batch_switch_as_they_would_alone(pipeline: Pipeline):
    one, other = (some_inputs(pipeline, word, n=2) for word in (5, 9))
    together = pipeline.diffuse(pipeline.noise([1, 2], N_LATENTS), a_switch(one, other, 3), DIFFUSION)
    for row in range(2):
        alone = [
            StepInputs(Conditions(each.conditions.hidden[row : row + 1], None), each.context[row : row + 1])
            for each in (one, other)
        ]
        latents = pipeline.diffuse(pipeline.noise([1 + row], N_LATENTS), a_switch(*alone, 3), DIFFUSION)
        assert (together[row] - latents[0]).abs().max() < TOLERANCE


def test_inputs_for_another_number_of_steps_are_an_error(pipeline: Pipeline):
    one = some_inputs(pipeline, 5)
    with pytest.raises(ValueError, match="inputs for 3 steps"):
        pipeline.diffuse(pipeline.noise([1], N_LATENTS), [one] * 3, DIFFUSION)


# ------------------------------------------------------------------ guidance


@dataclass(frozen=True)
class Momentum:
    """Classifier-free guidance that remembers its last difference: rows, null conditions and state at once."""

    scale: float
    decay: float = 0.5
    rows: int = 2

    def conditions(self, given: Conditions) -> Conditions:
        assert given.null is not None
        keep = None if given.keep is None else torch.cat([given.keep, given.keep])
        return Conditions(torch.cat([given.hidden, given.null.expand_as(given.hidden)]), keep)

    def begin(self, latents: torch.Tensor) -> GuidanceState:
        return (torch.zeros_like(latents),)

    def combine(self, velocity: torch.Tensor, state: GuidanceState) -> torch.Tensor:
        told, untold = velocity.chunk(2)
        (running,) = state
        running.copy_(told - untold - self.decay * running)
        return told + (self.scale - 1) * running


def guided_plainly(pipeline: Pipeline, noise: torch.Tensor, steps: list[StepInputs]) -> torch.Tensor:
    """Two calls of diffusers' transformer where a step is guided, and one where it is not."""
    times, latents, running = schedule(DIFFUSION), noise, torch.zeros_like(noise)
    for now, length, inputs in zip(times[:-1].tolist(), times.diff().tolist(), steps, strict=True):
        time, told = torch.full((len(noise),), now), inputs.conditions.hidden
        null = pipeline.parts.condition_encoder.null_condition_emb.expand_as(told)
        velocity, untold = (
            pipeline.parts.transformer(latents, time, time, words, inputs.context, return_dict=False)[0]
            for words in (told, null)
        )
        if isinstance(inputs.guidance, Momentum):
            running = velocity - untold - inputs.guidance.decay * running
            velocity = velocity + (inputs.guidance.scale - 1) * running
        latents = latents + length * velocity
    return latents


@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
def test_a_guidance_of_two_rows_with_a_memory_is_what_a_plain_loop_makes_of_it(pipeline: Pipeline, recorded: bool):
    recorder = ARecorder() if recorded else None
    sampler = a_sampler(pipeline, recorder)
    for seed in (1, 2):
        noise = pipeline.noise([seed, seed + 1], N_LATENTS)
        one, other = (some_inputs(pipeline, seed + word, n=2) for word in (3, 6))
        for at in (0, 3):  # its memory outlasts a switch of conditions and context
            steps = [step._replace(guidance=Momentum(3.0)) for step in a_switch(one, other, at)]
            gap = (sampler(noise, steps, DIFFUSION) - guided_plainly(pipeline, noise, steps)).abs().max()
            assert gap < TOLERANCE
    assert recorder is None or recorder.recorded == 1


@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
def test_guidance_may_hold_for_some_steps_alone(pipeline: Pipeline, recorded: bool):
    sampler = a_sampler(pipeline, ARecorder() if recorded else None)
    noise, inputs = pipeline.noise([4], N_LATENTS), some_inputs(pipeline, 5)
    steps = [inputs._replace(guidance=Momentum(2.0)) if 2 <= step < 5 else inputs for step in range(8)]
    for _ in range(2):
        made = sampler(noise, steps, DIFFUSION)
        assert (made - guided_plainly(pipeline, noise, steps)).abs().max() < TOLERANCE
    assert (made - guided_plainly(pipeline, noise, [inputs] * 8)).abs().max() > 100 * TOLERANCE


def test_padded_texts_stay_hidden_in_both_rows_of_a_guided_take(pipeline: Pipeline):
    inputs = some_inputs(pipeline, 5)
    hidden = pad(inputs.conditions.hidden, (0, 0, 0, 16), value=3.0)
    keep = torch.arange(hidden.shape[1])[None] < inputs.conditions.hidden.shape[1]
    padded = inputs._replace(conditions=Conditions(hidden, keep, inputs.conditions.null))
    noise = pipeline.noise([4], N_LATENTS)
    made = [
        pipeline.diffuse(noise, [each._replace(guidance=Momentum(3.0))] * 8, DIFFUSION) for each in (inputs, padded)
    ]
    assert (made[0] - made[1]).abs().max() < TOLERANCE

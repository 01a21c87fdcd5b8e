"""The sampler: turns noise into latents by the steps of a schedule, each with its own conditions, context and guidance.

While these stay the same from one step to the next, the transformer reads the same buffers. When they change, the
buffers are made anew; on CUDA, where steps are recorded by shape, they are overwritten in place instead. So one
recorded step serves every batch of its shape, and every part of its sampling.

Source: diffusers 0.42 `pipelines/ace_step/pipeline_ace_step.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from diffusers.models.transformers.ace_step_transformer import AceStepTransformer1DModel

from catalog.spec import DiffusionSpec
from workers.ace_step.device.compiling import Compiler
from workers.ace_step.device.graphs import Graphs
from workers.ace_step.diffusion.attention import cudnn_first
from workers.ace_step.diffusion.conditions import Conditions
from workers.ace_step.diffusion.guidance import NO_GUIDANCE, Guidance, GuidanceState, guidance_at
from workers.ace_step.diffusion.transformer import DiffusionTransformer, Modulation, StaticInputs
from workers.ace_step.lru import Lru

SHAPES_KEPT = 4  # shapes of batches whose step stays recorded
# Longer batches keep the device busier than the host that launches their kernels one by one; recorded, they would
# only hold memory. 16,384 latents are 11 minutes of audio, takes times duration.
_RECORDED_LATENTS_MAX = 16_384
_SCHEDULES_KEPT = 8


class StepInputs(NamedTuple):
    """The inputs of one step, beside the latents that it moves."""

    conditions: Conditions
    context: torch.Tensor  # (batch, latents, 2 x channels): source latents, and a mask that is 1 where sound is wanted
    guidance: Guidance = NO_GUIDANCE

    def same_as(self, other: StepInputs) -> bool:
        """True when both hold the same tensors. Equal copies do not count: comparing them would wait for the device."""
        same_tensors = self.conditions is other.conditions and self.context is other.context
        return same_tensors and self.guidance == other.guidance


def constant_steps(conditions: Conditions, context: torch.Tensor, diffusion: DiffusionSpec) -> list[StepInputs]:
    """The inputs of all steps where neither conditions nor context change; slices of such lists make a switch."""
    return [StepInputs(conditions, context, guidance_at(diffusion, step)) for step in range(diffusion.steps)]


class TimeStep(NamedTuple):
    """One step of a schedule; time is 1 at the noise and 0 at the latents."""

    now: float
    aim: float  # the time that the model is asked to aim at
    length: float  # how far the step goes, below 0


def schedule(diffusion: DiffusionSpec) -> torch.Tensor:
    """Times from 1 to 0, `steps` + 1 of them in float32; a larger `shift` spends more steps near the noise."""
    even, shift = torch.linspace(1.0, 0.0, diffusion.steps + 1, dtype=torch.float32), diffusion.shift
    return even if shift == 1.0 else shift * even / (1 + (shift - 1) * even)


def time_steps(diffusion: DiffusionSpec) -> list[TimeStep]:
    """The steps of the schedule. Every published variant is trained to aim at the time that a step starts from."""
    times = schedule(diffusion)
    return [TimeStep(now, now, length) for now, length in zip(times[:-1].tolist(), times.diff().tolist(), strict=True)]


class _Scheduled(NamedTuple):
    """A schedule on the device; the first axis of every tensor is the step."""

    modulation: Modulation
    length: torch.Tensor  # float32 (steps,)


@dataclass(frozen=True, slots=True, eq=False)
class _SampledBatch:
    """The buffers of one batch; `latents`, `length`, `state` and parts of `static` change by step, in place."""

    latents: torch.Tensor  # (batch, latents, channels)
    length: torch.Tensor  # float32 (): how far the step goes
    static: StaticInputs
    guidance: Guidance
    state: GuidanceState

    @property
    def shape(self) -> Hashable:
        """Batches of one shape can take each other's values, and share a recorded step."""
        return (self.latents.shape, self.static.shape, self.guidance)

    def take_over(self, other: _SampledBatch) -> None:
        """Copy the values of `other`, which has the same shape."""
        self.latents.copy_(other.latents)
        self.static.take_over(other.static)
        for mine, theirs in zip(self.state, other.state, strict=True):
            mine.copy_(theirs)

    def load_step(self, scheduled: _Scheduled, step: int) -> None:
        """Write the values that differ for step number `step` of the schedule into the buffers."""
        for mine, theirs in zip(self.static.modulation, scheduled.modulation, strict=True):
            mine.copy_(theirs[step])
        self.length.copy_(scheduled.length[step])


class Sampler:
    """One transformer, stepped through schedules. Not thread-safe; callers hold `torch.inference_mode()`."""

    def __init__(
        self,
        transformer: AceStepTransformer1DModel,
        *,
        compiler: Compiler | None = None,
        graphs: Graphs | None = None,
        cudnn_first: bool = False,
    ) -> None:
        self.cudnn_first = cudnn_first
        self._transformer = DiffusionTransformer(transformer, compiler or Compiler(wanted=False))
        self._graphs = graphs or Graphs(torch.device("cpu"), keep=0)
        self._schedules: Lru[DiffusionSpec, _Scheduled] = Lru(_SCHEDULES_KEPT)
        self._batches: Lru[Hashable, _SampledBatch] = Lru(SHAPES_KEPT)

    def __call__(self, noise: torch.Tensor, steps: Sequence[StepInputs], diffusion: DiffusionSpec) -> torch.Tensor:
        """From `noise` (batch, latents, channels) to latents, by Euler steps that are added up in float32.

        `steps` has the inputs of each step. On a GPU this only queues: nothing is waited for.
        """
        if len(steps) != diffusion.steps:
            raise ValueError(f"there are inputs for {len(steps)} steps, and the diffusion takes {diffusion.steps}")
        with cudnn_first() if self.cudnn_first else nullcontext():
            scheduled = self._scheduled(diffusion)
            batch = self._begin(noise, steps[0])
            for step, inputs in enumerate(steps):
                if step and not inputs.same_as(steps[step - 1]):
                    batch = self._begin(batch.latents, inputs, batch)
                batch.load_step(scheduled, step)
                if self._records(batch):
                    self._graphs.run(batch, partial(self._step, batch))
                else:
                    self._step(batch)
            # The next batch of this shape is written into the same buffers.
            return batch.latents.clone() if self._records(batch) else batch.latents

    def forget(self) -> None:
        """Drop the buffers and recordings that are kept between batches for speed."""
        self._graphs.clear()
        self._batches.clear()

    def _scheduled(self, diffusion: DiffusionSpec) -> _Scheduled:
        if (known := self._schedules.find(diffusion)) is not None:
            return known
        steps = time_steps(diffusion)
        modulations = [self._transformer.modulation(step.now, step.aim) for step in steps]
        stacked = Modulation(*(torch.stack(each) for each in zip(*modulations, strict=True)))
        lengths = torch.tensor([step.length for step in steps], device=stacked.last.device)
        return self._schedules.put(diffusion, _Scheduled(stacked, lengths))

    def _begin(self, latents: torch.Tensor, inputs: StepInputs, before: _SampledBatch | None = None) -> _SampledBatch:
        """Buffers with `latents` and `inputs`; an unchanged guidance keeps its state of the earlier steps."""
        guidance = inputs.guidance
        if before is not None and before.guidance == guidance:
            state = tuple(each.clone() for each in before.state)
        else:
            state = guidance.begin(latents)
        static = self._transformer.static_inputs(
            _for_rows(latents, guidance), _for_rows(inputs.context, guidance), guidance.conditions(inputs.conditions)
        )
        length = torch.empty((), device=latents.device)
        fresh = _SampledBatch(latents.clone(), length, static, guidance, state)
        return self._kept(fresh) if self._records(fresh) else fresh

    def _kept(self, fresh: _SampledBatch) -> _SampledBatch:
        """Buffers that keep their addresses from batch to batch, with the values of `fresh`."""
        kept = self._batches.find(fresh.shape)
        if kept is not None:
            kept.take_over(fresh)
        return self._batches.put(fresh.shape, kept or fresh)

    def _records(self, batch: _SampledBatch) -> bool:
        return self._graphs.records and batch.static.frames.shape[:2].numel() <= _RECORDED_LATENTS_MAX

    def _step(self, batch: _SampledBatch) -> None:
        """Move the latents one step on."""
        latents, guidance = batch.latents, batch.guidance
        velocities = self._transformer.velocity(batch.static, _for_rows(latents, guidance))
        velocity = guidance.combine(velocities, batch.state)
        latents.copy_(latents.float() + batch.length * velocity.float())


def _for_rows(of_takes: torch.Tensor, guidance: Guidance) -> torch.Tensor:
    return of_takes if guidance.rows == 1 else of_takes.repeat(guidance.rows, 1, 1)

"""Text to music: the whole take is new, made from its text alone or also from planner codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from catalog.tasks import TEXT2MUSIC, Task
from workers.ace_step.diffusion.pipeline import Pipeline, context_of
from workers.ace_step.diffusion.sampler import StepInputs, constant_steps
from workers.ace_step.requests import PreparedJob


class TextToMusic:
    """The source is planner hints or silence, sound is wanted everywhere, and nothing changes on the way."""

    facts: Final[Task] = TEXT2MUSIC

    def steps(self, pipeline: Pipeline, jobs: Sequence[PreparedJob]) -> list[StepInputs]:
        """Conditions and context of the batch, the same for every step."""
        spec = jobs[0].spec
        conditions = pipeline.encode([job.prompt for job in jobs])
        source = pipeline.hints_or_silence([job.plan.codes if job.plan else None for job in jobs], spec.n_latents)
        return constant_steps(conditions, context_of(source, torch.ones_like(source)), spec.diffusion)

    def noise(self, pipeline: Pipeline, jobs: Sequence[PreparedJob]) -> torch.Tensor:
        """Noise alone, from each take's seed."""
        return pipeline.noise([job.job.take.dit_seed for job in jobs], jobs[0].spec.n_latents)

"""The Task protocol: the inputs of every step, and the noise from which the takes of a batch start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from catalog.tasks import Task
from workers.ace_step.diffusion.pipeline import Pipeline
from workers.ace_step.diffusion.sampler import StepInputs
from workers.ace_step.requests import PreparedJob


class DiffusionTask(Protocol):
    """One task. The jobs of a call are all of this task and of one bucket."""

    @property
    def facts(self) -> Task:
        """Its row, with the instruction that opens the text prompt."""

    def steps(self, pipeline: Pipeline, jobs: Sequence[PreparedJob]) -> list[StepInputs]:
        """The inputs of each step: conditions, and a context of source latents and mask; both may switch on the way."""

    def noise(self, pipeline: Pipeline, jobs: Sequence[PreparedJob]) -> torch.Tensor:
        """The noise from which each take starts, (jobs, latents, width)."""

"""Guidance: the number of transformer rows that one take needs, and the rule that combines their velocities.

Each guidance is one class in this file and one case of `guidance_at`, which chooses it for a step by the diffusion
settings. Turbo models are distilled and use none. State that a guidance keeps from step to step is held in tensors,
because steps are recorded. Everything else that a guidance depends on is part of its value, because equal guidances
share a recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import torch

from catalog.spec import DiffusionSpec
from workers.ace_step.diffusion.conditions import Conditions

GuidanceState = tuple[torch.Tensor, ...]


class Guidance(Protocol):
    """One way to guide. Hashable."""

    @property
    def rows(self) -> int:
        """Rows of the transformer's batch for each take: all takes, then all takes again."""

    def conditions(self, given: Conditions) -> Conditions:
        """The conditions of all rows, from those of the takes."""

    def begin(self, latents: torch.Tensor) -> GuidanceState:
        """The state before the first step, for `latents` (takes, latents, channels)."""

    def combine(self, velocity: torch.Tensor, state: GuidanceState) -> torch.Tensor:
        """The velocity of the takes from those of all rows; `state` is changed in place."""


@dataclass(frozen=True, slots=True)
class NoGuidance:
    """One row a take, whose velocity is the take's."""

    rows: int = 1

    def conditions(self, given: Conditions) -> Conditions:
        """The conditions as they are given."""
        return given

    def begin(self, latents: torch.Tensor) -> GuidanceState:
        """An empty state."""
        return ()

    def combine(self, velocity: torch.Tensor, state: GuidanceState) -> torch.Tensor:
        """The velocity, unchanged."""
        return velocity


NO_GUIDANCE: Final = NoGuidance()


def guidance_at(diffusion: DiffusionSpec, step: int) -> Guidance:
    """The guidance of step number `step` of `diffusion.steps`: none, whichever it is."""
    return NO_GUIDANCE

"""Buckets: which takes may share one model call.

Self-attention in the diffusion transformer is not masked in time, so takes of different length would hear
each other's padding: the duration is part of the bucket, as is all else a call has one value for. Tempo,
key, metre, text, seed and planner settings belong to the take and may differ within a batch.
"""

from __future__ import annotations

from typing import NamedTuple

from catalog.spec import TrackSpec


class Bucket(NamedTuple):
    """What the takes of one batch have in common. Sorts into the order in which the feed sends."""

    model: str
    planner: str  # the planner model's name, or "" when the diffusion model works from text alone
    steps: int
    shift: float
    duration_s: int

    @classmethod
    def of(cls, spec: TrackSpec) -> Bucket:
        """The bucket `spec` belongs to."""
        return cls(
            model=spec.model,
            planner=spec.planner.model if spec.planner else "",
            steps=spec.diffusion.steps,
            shift=spec.diffusion.shift,
            duration_s=spec.duration_s,
        )

    def __str__(self) -> str:
        planner = f"+{self.planner}" if self.planner else ""
        return f"{self.model}{planner} {self.steps} steps shift {self.shift:g} {self.duration_s} s"

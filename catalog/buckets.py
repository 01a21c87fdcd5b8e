"""Buckets: the rule that says which takes may share one model call.

Self-attention in the diffusion transformer is not masked in time, so takes of different length would hear each other's
padding. Therefore the duration is part of the bucket, and so is every other setting that a call has only one value for.
Tempo, key, metre, text, seed and planner settings belong to the take and may differ within a batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from catalog.spec import DiffusionSpec, TrackSpec


class Bucket(NamedTuple):
    """The properties that all takes of one batch share."""

    model: str
    planner: str  # the planner model's name, or "" when the diffusion model works from text alone
    diffusion: DiffusionSpec
    duration_s: int

    @classmethod
    def of(cls, spec: TrackSpec) -> Bucket:
        """The bucket `spec` belongs to."""
        return cls(
            model=spec.model,
            planner=spec.planner.model if spec.planner else "",
            diffusion=spec.diffusion,
            duration_s=spec.duration_s,
        )

    @property
    def feed_order(self) -> str:
        """Text that sorts buckets into the order in which the feed sends them; ledgers hold it."""
        steps, shift = self.diffusion.steps, self.diffusion.shift
        further = [f" {name}={value}" for name, value in sorted(self.diffusion.further.items())]
        first = f"{self.model} {self.planner or '-'} {steps:03d} {shift:07.4f} {self.duration_s:04d}"
        return "".join([first, *further])

    def as_plain_values(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model,
            "planner": self.planner,
            **self.diffusion.model_dump(mode="json"),
            "duration_s": self.duration_s,
        }

    def __str__(self) -> str:
        planner = f"+{self.planner}" if self.planner else ""
        further = "".join(f" {name} {value}" for name, value in self.diffusion.further.items())
        steps, shift = self.diffusion.steps, self.diffusion.shift
        return f"{self.model}{planner} {steps} steps shift {shift:g}{further} {self.duration_s} s"

"""The batch budget: the number of takes of each length that a device renders at once, with the reason.

A measurement on this very GPU is preferred to the published table. Calibrations are read once, at start.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from catalog.buckets import Bucket
from catalog.tiers import BatchLimit, batch_limit
from workers.ace_step.device.fitting import (
    MemoryBudget,
    Requirement,
    holds_small_model,
    published_requirement,
    require_memory,
)
from workers.ace_step.device.placement import Placement
from workers.ace_step.device.probe import CudaMemoryProbe, ResidentMemoryProbe, free_bytes, open_memory_probe
from workers.engine.calibration import Calibration, CalibrationKey

TINY_BATCH = 8


class BatchBudget(NamedTuple):
    """One device's memory, as the batches of one engine use it."""

    placement: Placement
    memory: MemoryBudget
    transformer_weights: int  # how many numbers they are
    calibration: Calibration
    noise: bool = False
    trial: bool = False  # a calibration is being made: its batches begin even if they exceed the allowance

    @property
    def key(self) -> CalibrationKey:
        """The key of its calibration: all that measurements depend on."""
        return self.calibration.key

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The most takes of `bucket` in one model call, with the reason."""
        measured = self.calibration.for_duration(bucket.duration_s)
        return BatchLimit(measured.takes, measured.reason) if measured else self.published_limit(bucket)

    def published_limit(self, bucket: Bucket) -> BatchLimit:
        """The limit of the published table, without regard to measurements."""
        if self.noise and holds_small_model(self.transformer_weights):
            return BatchLimit(TINY_BATCH, "random tiny weights fit anywhere")
        return batch_limit(self.placement.vram_gib, planned=bool(bucket.planner), source=self.placement.vram_source)

    def requirement(self, duration_s: float) -> Requirement:
        """The memory that batches of takes of `duration_s` need."""
        if measured := self.calibration.for_duration(duration_s):
            # What the batch before needs for its decoding meanwhile, it has taken already.
            return Requirement(measured.take_bytes, max(0, measured.batch_bytes - measured.beside_bytes), "measured")
        itemsize = self.placement.dtype.itemsize
        return published_requirement(
            duration_s, weights=self.transformer_weights, itemsize=itemsize, onload=self.memory.onload
        )

    def require_memory(self, takes: int, duration_s: float) -> None:
        """Raise OutOfVram when a batch of `takes` will not fit into the free memory."""
        if not self.trial:
            require_memory(takes, duration_s, self.requirement(duration_s), free_bytes(self.placement.device))

    def batches_bytes(self) -> int:
        """The bytes that a batch may need: its part of the device, reduced by the memory of other programs."""
        left = self.memory.resident + free_bytes(self.placement.device)
        return self.memory._replace(total=min(self.memory.total, left)).for_batches

    def open_memory_probe(self) -> CudaMemoryProbe | ResidentMemoryProbe:
        """A probe for the device. Raises WorkerError where there is none."""
        return open_memory_probe(self.placement.device)


def count_weights(module: torch.nn.Module) -> int:
    """Count the numbers in a module's parameters, in any format and on any device."""
    return sum(parameter.numel() for parameter in module.parameters())

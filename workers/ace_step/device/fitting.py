"""Fitting: make a model fit its device, and divide the device's memory between weights, planner and batches.

All arithmetic about memory stands here. The reserve and the weights are subtracted from the device's total memory. Of
the rest, two thirds go to the planner and one third to the batches, because the planner gains from many takes at once
and the diffusion transformer hardly does. Total memory decides, and not the memory that is free at the moment, so
workers with equal GPUs plan in equal shapes. Free memory decides only when a batch may begin.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from catalog.errors import OutOfVram
from catalog.tiers import tier_of
from workers.ace_step.device.placement import Placement

MIB, GIB = 2**20, 2**30
_CONTEXT_BYTES = GIB // 2  # the memory of CUDA itself
_RESERVE_SHARE = 0.05  # for blocks too small to use, and for other programs' short-lived memory
_PLANNER_SHARE = 2 / 3

# The published allowance of a take: 0.5 GB, and 0.15 GB for each minute beyond the first; 1.7 times that with the
# XL transformer. It is generous: a calibration finds the true need.
_TAKE_BYTES = GIB // 2
_MINUTE_BYTES = round(0.15 * GIB)
_XL_FACTOR = 1.7
_XL_WEIGHTS = 2_500_000_000  # the published transformers have 1.6 and 4 thousand million weights
_SMALL_WEIGHTS = 100_000_000

Quantize = Literal["auto", "none", "int8", "fp8"]
Offload = Literal["auto", "on", "off"]


class Fit(NamedTuple):
    """The measures that make a model fit; by default none."""

    quantize: Literal["", "int8", "fp8"] = ""  # number format of the transformer's weights
    offload: bool = False  # planner, encoders, code modules and VAE are on the device for their stage only
    offload_dit: bool = False  # so does the diffusion transformer

    @property
    def offloaded(self) -> str:
        """The parts that wait in host memory, for keys and logs; "" when none does."""
        return "all offloaded" if self.offload_dit else "all but the transformer offloaded" if self.offload else ""


AS_LOADED: Final = Fit()


def choose_fit(placement: Placement, quantize: Quantize = "auto", offload: Offload = "auto") -> Fit:
    """The fit that the settings ask for; "auto" is the fit of the device's VRAM tier on CUDA, and none elsewhere."""
    fit = AS_LOADED
    if placement.device.type == "cuda":
        tier = tier_of(placement.vram_gib)
        fit = Fit(tier.quantize, tier.offload, tier.offload_dit)
    if quantize != "auto":
        fit = fit._replace(quantize="" if quantize == "none" else quantize)
    if offload != "auto":
        fit = fit._replace(offload=offload == "on", offload_dit=offload == "on")
    return fit


class MemoryBudget(NamedTuple):
    """A device's memory and who has a claim to it, in bytes."""

    total: int
    resident: int  # weights that stay there
    onload: int  # the largest group of offloaded weights; one at a time is on the device
    planned: bool  # a planner shares it

    @property
    def spare(self) -> int:
        """Memory that is left for keys, values and activations."""
        usable = int(self.total * (1 - _RESERVE_SHARE)) - _CONTEXT_BYTES
        return max(0, usable - self.resident - self.onload)

    @property
    def for_planner(self) -> int:
        """The planner's part: its keys and values."""
        return int(self.spare * _PLANNER_SHARE) if self.planned else 0

    @property
    def for_batches(self) -> int:
        """The part of diffusion and decoding, the weights included that are loaded for them."""
        return self.spare - self.for_planner + self.onload


class Requirement(NamedTuple):
    """The memory that batches of one duration need beside the resident weights, in bytes."""

    take: int  # for each take
    batch: int = 0  # for each batch of any size; includes offloaded weights
    source: str = "published allowance"

    def of(self, takes: int) -> int:
        """The bytes that a batch of `takes` needs."""
        return self.batch + takes * self.take


def holds_small_model(weights: int) -> bool:
    """True when a transformer of `weights` numbers is a small test model, which fits anywhere."""
    return weights < _SMALL_WEIGHTS


def published_requirement(duration_s: float, *, weights: int, itemsize: int, onload: int) -> Requirement:
    """The published allowance for a transformer of `weights` numbers that computes in numbers of `itemsize` bytes."""
    if holds_small_model(weights):
        return Requirement(0)
    half_precision = _TAKE_BYTES + _MINUTE_BYTES * max(0.0, (duration_s - 60) / 60)
    factor = (_XL_FACTOR if weights > _XL_WEIGHTS else 1) * itemsize / 2
    return Requirement(round(half_precision * factor), onload)


def require_memory(takes: int, duration_s: float, requirement: Requirement, free: int) -> None:
    """Raise OutOfVram when a batch of several takes will not fit into `free` bytes, before time is spent on it.

    A single take is always tried: a smaller batch there is not, and the allowance may be too generous.
    """
    if takes > 1 and requirement.of(takes) > free:
        raise OutOfVram(
            f"{takes} takes of {duration_s:g} s need {requirement.of(takes) / GIB:.1f} GiB ({requirement.source}), "
            f"and {free / GIB:.1f} GiB are free"
        )

"""VRAM tiers: the most work that a GPU with a given amount of memory may be given.

The table is the one published with ACE-Step 1.5 (upstream `gpu_config.py` as of 2026-06). For each tier it limits the
duration, the batch and the size of the planner. It also says where a model must be made smaller to fit: either its
weights wait in host memory and are copied to the GPU for their stage, or its weights take one byte each. A worker that
has measured its own GPU may use a larger batch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from catalog.errors import OutOfRangeError
from catalog.spec import TrackSpec


class Tier(NamedTuple):
    """One class of VRAM. `needs_gib` is the least total memory of the class and names its queue."""

    name: str
    needs_gib: float
    max_s_planned: int  # longest take when the planner is on
    max_s: int
    batch_planned: int  # most takes in one call when the planner is on
    batch: int
    planners: frozenset[str]
    offload: bool  # planner, encoders, code modules and VAE visit the device for their stage
    offload_dit: bool  # so does the diffusion transformer
    quantize: Literal["", "int8"]  # number format of the diffusion transformer's weights; "": as loaded


_NONE: frozenset[str] = frozenset()
_SMALL = frozenset({"acestep-5Hz-lm-0.6B"})
_MEDIUM = _SMALL | {"acestep-5Hz-lm-1.7B"}
_ALL = _MEDIUM | {"acestep-5Hz-lm-4B"}

# needs_gib: published thresholds are upper bounds ("up to 4 GB"); each class begins where the one below ends.
# 15.5 rather than 16, because "16 GB" cards report slightly less.
TIERS: tuple[Tier, ...] = (
    Tier("4g", 0.0, 240, 360, 1, 1, _NONE, True, True, "int8"),
    Tier("6g", 4.01, 480, 600, 1, 1, _NONE, True, True, "int8"),
    Tier("8g", 6.01, 480, 600, 2, 2, _SMALL, True, True, "int8"),
    Tier("12g", 8.01, 480, 600, 2, 4, _SMALL, True, True, "int8"),
    Tier("15g", 12.01, 480, 600, 4, 4, _MEDIUM, True, False, "int8"),
    Tier("16g", 15.5, 480, 600, 4, 8, _MEDIUM, True, False, "int8"),
    Tier("24g", 20.0, 480, 480, 8, 8, _ALL, False, False, ""),
    Tier("max", 24.01, 600, 600, 8, 8, _ALL, False, False, ""),
)


class BatchLimit(NamedTuple):
    """The most takes that a call may hold, and the reason, which goes into the worker's log."""

    takes: int
    reason: str


def tier_of(total_gib: float) -> Tier:
    """The tier of a device with `total_gib` of memory (total, not free)."""
    return [tier for tier in TIERS if tier.needs_gib <= total_gib or tier is TIERS[0]][-1]


def fits(spec: TrackSpec, tier: Tier) -> bool:
    """True when a batch of one take of `spec` runs on `tier`."""
    if spec.planner is None:
        return spec.duration_s <= tier.max_s
    return spec.planner.model in tier.planners and spec.duration_s <= tier.max_s_planned


def least_tier(spec: TrackSpec) -> Tier:
    """The smallest tier that can render `spec`. Raises OutOfRangeError when none can."""
    for tier in TIERS:
        if fits(spec, tier):
            return tier
    planner = spec.planner.model if spec.planner else "none"
    raise OutOfRangeError(
        f"no GPU tier renders {spec.duration_s} s with planner {planner!r}",
        why="the published table allows " + ", ".join(sorted(_ALL)),
        fix="choose one of these planners, or a shorter duration",
    )


def batch_limit(total_gib: float, *, planned: bool, source: str) -> BatchLimit:
    """The published batch limit for a device of `total_gib`; `source` says where that number came from."""
    tier = tier_of(total_gib)
    takes = tier.batch_planned if planned else tier.batch
    how = "planner on" if planned else "planner off"
    return BatchLimit(takes, f"{tier.name} tier, {how} ({total_gib:.1f} GiB {source}; published table)")

"""Speeds before any measurement: the GPU time of a take, computed from its operations and the GPU's data sheet.

The operations of a take were counted at the model's true sizes. The share of a GPU's speed that each kind of work
reaches is an assumption that no measurement has confirmed. A planner call always runs at its full width, however few
takes it holds; each of its steps reads the weights once and the keys and values of all slots. Diffusion and decoding
are bound by arithmetic, with little memory traffic.

An A100 with 80 GB needs 0.24 s to plan, 0.31 s to diffuse and 0.30 s to decode a take of three minutes in full calls:
0.87 s, or 4,150 takes per hour. The low figure is the data sheet's full speed, which no program exceeds. The high
figure allows for kernels that are not fused, a decoder that waits for memory layouts, and calls that mix kinds of
prompts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from catalog.buckets import Bucket
from catalog.models import find_model
from catalog.tiers import tier_of
from orchestrator.finance.prices.gpu_names import card_of


class Basis(StrEnum):
    """The kind of evidence that a figure rests on."""

    MEASURED = "measured"
    RECKONED = "arithmetic"
    ASSUMED = "assumed"


class Range(NamedTuple):
    """A figure that is likely, and between which others it lies."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> Range:
        """All three, so many times as large."""
        return Range(self.low * factor, self.likely * factor, self.high * factor)


class Reckoned(NamedTuple):
    """Engine milliseconds for a second of audio, and what they rest on."""

    ms_per_audio_s: Range
    basis: Basis
    note: str


class _Gpu(NamedTuple):
    """A data sheet: dense bf16 with sums in fp32, and memory. `reach` is the share of both that was ever measured."""

    tflops: float
    gb_per_s: float
    gib: float
    tflops_reach: float = 1.0
    bandwidth_reach: float = 1.0


# An H200 reached 790 of its 989 TFLOP/s and 4.3 of its 4.8 TB/s; its kin is taken to do the same.
_HOPPER: Final = (0.8, 0.9)
GPUS: Final = {
    "a100-80gb": _Gpu(312, 2039, 80),
    "a100-40gb": _Gpu(312, 1555, 40),
    "b200": _Gpu(2250, 8000, 180, *_HOPPER),
    "h200": _Gpu(989, 4800, 141, *_HOPPER),
    "h100": _Gpu(989, 3350, 80, *_HOPPER),
    "h100-pcie": _Gpu(756, 2000, 80, *_HOPPER),
    "l40s": _Gpu(362, 864, 48),
    "l4": _Gpu(121, 300, 24),
    "a10g": _Gpu(70, 600, 24),
    "a10": _Gpu(125, 600, 24),
    "a40": _Gpu(150, 696, 48),
    "t4": _Gpu(65, 320, 16),
    "rtx-a6000": _Gpu(155, 768, 48),
    "rtx-6000-ada": _Gpu(364, 960, 48),
    "rtx-5090": _Gpu(210, 1792, 32),
    "rtx-4090": _Gpu(165, 1008, 24),
    "rtx-3090": _Gpu(71, 936, 24),
    "rtx-3060-12gb": _Gpu(26, 360, 12),
}

# Work for a second of audio, at eight steps of the model with two thousand million weights (counted, 180 s).
_DIFFUSION_TFLOP, _DIFFUSION_GB, _STEPS = 56.2 / 180, 65 / 180, 8
_DECODING_TFLOP, _DECODING_GB = 21.9 / 180, 219 / 180
_TEXT_TFLOP: Final = 6.2  # of a take: its text, codes and prompt
# Shares of a GPU's speed that the work reaches.
_PRODUCTS, _CONVOLUTIONS, _TRAFFIC, _WEIGHTS, _ATTENTION = 0.66, 0.43, 0.8, 0.68, 0.49
# How much longer it may take: mixed prompts, kernels that are not fused, layouts that are turned twice.
_PLANNER_WORST, _DIFFUSION_WORST, _DECODING_WORST = 2.0, 1.5, 3.0

# The planner: five codes make a second of audio; each slot has two rows of keys and values after a prompt of 256.
_CODES_PER_S: Final = 5
_PROMPT_COLUMNS: Final = 256 + 64  # with the rounding to 128
_SLOTS_MAX: Final = 64
_SAMPLING_GB: Final = 2.47 / _SLOTS_MAX  # a slot and step
_LAUNCH_MS, _UNRECORDED_MS = 1.4, 8.0  # of a step's kernels, recorded as a graph or not
_PLANNERS: Final = {  # GB of weights that a step reads, and bytes of keys and values for a token of a row
    "acestep-5Hz-lm-0.6B": (1.2, 114_688),
    "acestep-5Hz-lm-1.7B": (3.08, 114_688),
    "acestep-5Hz-lm-4B": (8.0, 147_456),
}
_RESIDENT_GIB: Final = 8.4  # weights on the device; where they are offloaded, the largest part of them
_ONLOAD_GIB: Final = 3.2
_HOST_GB_PER_S: Final = 12.0  # between host and device
_ONLOADED_GB, _DIT_GB = 1.5, 1.6  # for each batch

_REAL_TIME: Final = 1_000.0  # which every GPU beats
# On a CPU a trained model takes about four times as long as its audio: 83 TFLOP and 900 readings of 3.7 GB for 180 s,
# at 0.2 TFLOP/s and 20 GB/s.
_CPU_TRAINED: Final = Range(2_000.0, 4_000.0, 8_000.0)
_REHEARSAL: Final = Range(_REAL_TIME / 50, _REAL_TIME, _REAL_TIME)


def reckon_speed(bucket: Bucket, gpus: tuple[str, ...], takes: int) -> Reckoned:
    """The speed of one bucket on the GPU of any of these names, in a plan of so many takes with the same planner."""
    if not find_model(bucket.model).needs_weights:
        return Reckoned(_REHEARSAL, Basis.ASSUMED, f"at most real time; nothing is known of {bucket.model}")
    if any(card_of(gpu).model == "cpu" for gpu in gpus):
        return Reckoned(_CPU_TRAINED, Basis.ASSUMED, "four times real time on a CPU")
    name = _find_gpu(gpus)
    if name is not None:
        return Reckoned(_on(GPUS[name], bucket, takes), Basis.RECKONED, f"data sheet of {name}")
    every = [_on(gpu, bucket, takes) for gpu in GPUS.values()]
    slowest = max(every, key=lambda each: each.likely)
    guess = Range(min(each.low for each in every), slowest.likely, max(_REAL_TIME, slowest.high))
    return Reckoned(guess, Basis.ASSUMED, f"as slow as the slowest GPU known; nothing is known of {gpus[0]}")


def _find_gpu(names: tuple[str, ...]) -> str | None:
    """The data sheet of the card that the first of these names is of; of two that fit the one that says more alike."""
    for name in names:
        asked = card_of(name)
        fits = [known for known in GPUS if card_of(known).may_be(asked)]
        if fits:
            return max(fits, key=lambda known: (card_of(known).form == asked.form, card_of(known).vram_gib or 0))
    return None


def _on(gpu: _Gpu, bucket: Bucket, takes: int) -> Range:
    """Milliseconds for a second of audio."""
    model, tier = find_model(bucket.model), tier_of(gpu.gib)
    work = bucket.diffusion.steps / _STEPS * model.dit_cost
    tflops, gb_per_s = gpu.tflops / 1000, gpu.gb_per_s / 1000  # for a millisecond
    fast, wide = tflops * gpu.tflops_reach, gb_per_s * gpu.bandwidth_reach
    diffuse = work * (_DIFFUSION_TFLOP / (_PRODUCTS * fast) + _DIFFUSION_GB / (_TRAFFIC * wide))
    decode = _DECODING_TFLOP / (_CONVOLUTIONS * fast) + _DECODING_GB / (_TRAFFIC * wide)
    onloaded = tier.offload * _ONLOADED_GB + tier.offload_dit * _DIT_GB
    once = (_TEXT_TFLOP / fast + onloaded / _HOST_GB_PER_S * 1000 / tier.batch_planned) / bucket.duration_s
    low = work * (_DIFFUSION_TFLOP / tflops + _DIFFUSION_GB / gb_per_s)
    low += _DECODING_TFLOP / tflops + _DECODING_GB / gb_per_s
    plan = _planning(gpu, bucket, takes)
    return Range(
        low + plan.low,
        diffuse + decode + once + plan.likely,
        diffuse * _DIFFUSION_WORST + decode * _DECODING_WORST + once + plan.high,
    )


def _planning(gpu: _Gpu, bucket: Bucket, takes: int) -> Range:
    """Milliseconds for a second of audio that the planner takes; a call costs the same however few takes it holds."""
    if not bucket.planner:
        return Range(0.0, 0.0, 0.0)
    weights_gb, token_bytes = _PLANNERS.get(bucket.planner, _PLANNERS["acestep-5Hz-lm-1.7B"])
    codes, is_recorded = bucket.duration_s * _CODES_PER_S, not tier_of(gpu.gib).offload
    slots = _slots(gpu.gib, codes, token_bytes, is_recorded=is_recorded)
    cache_gb = 2 * slots * (_PROMPT_COLUMNS + codes / 2) * token_bytes / 1e9
    read_gb = weights_gb + slots * _SAMPLING_GB
    wide = gpu.gb_per_s * gpu.bandwidth_reach / 1000
    step_ms = read_gb / (_WEIGHTS * wide) + cache_gb / (_ATTENTION * wide)
    step_ms += _LAUNCH_MS if is_recorded else _UNRECORDED_MS
    for_each = _CODES_PER_S * -(-takes // slots) / takes
    floor_ms = (read_gb + cache_gb) / gpu.gb_per_s * 1000
    return Range(floor_ms, step_ms, step_ms * _PLANNER_WORST).times(for_each)


def _slots(gib: float, codes: int, token_bytes: int, *, is_recorded: bool) -> int:
    """The takes that one call holds: two thirds of the memory that the weights leave are the planner's."""
    spare_gib = gib * 0.95 - 0.5 - (_RESIDENT_GIB if is_recorded else _ONLOAD_GIB)
    columns = -(-(256 + codes) // 128) * 128
    slots = _SLOTS_MAX
    while slots > 1 and 2 * slots * columns * token_bytes > spare_gib * 2 / 3 * 2**30:
        slots //= 2
    return slots

"""What the hardware would need at least: FLOPs and bytes of every stage, counted on models without memory.

FLOPs are counted by torch on the meta device, operator by operator, so they follow from the model's own code. Bytes are
those of the weights and of the planner's keys and values, each read once a step. A stage's bound is the larger of FLOPs
over the peak of matrix products and bytes over the bandwidth of copies; both ceilings are measured on the device
itself. Elementwise work is free in this account, so no stage reaches its bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from catalog.limits import CODEBOOK_SIZE, LATENTS_PER_S
from tests.bench.checkpoints import Sizes

_MATMUL_SIDE = {"cuda": 8192, "cpu": 1024}
_COPY_BYTES = {"cuda": 4 * 2**30, "cpu": 256 * 2**20}
_TRIES = 20


class Cost(NamedTuple):
    """What one stage does for one batch."""

    flops: float
    bytes: float = 0.0


class Ceilings(NamedTuple):
    """What a device can do at most."""

    flops_per_s: float
    bytes_per_s: float

    def bound_s(self, cost: Cost) -> float:
        """The least time for `cost`."""
        return max(cost.flops / self.flops_per_s, cost.bytes / self.bytes_per_s)


class Roofline:
    """The costs of one model's stages; nothing is computed, only shapes are walked through."""

    def __init__(self, sizes: Sizes, *, bytes_per_weight: int = 2) -> None:
        self._parts = sizes.build()
        for part in self._parts.values():
            part.to("meta")  # buffers, too: nothing here holds a number
        self._parts["planner"].tie_weights()
        self._width: int = self._parts["transformer"].config["audio_acoustic_hidden_dim"]
        self._bytes_per_weight = bytes_per_weight

    def diffuse(self, duration_s: int, *, batch: int, tokens: int, steps: int) -> Cost:
        """All steps of one batch whose conditions are `tokens` long; the pairs outside the windows are not counted."""
        latents = torch.empty(batch, duration_s * LATENTS_PER_S, self._width, device="meta")
        transformer, config = self._parts["transformer"], self._parts["transformer"].config
        width = config["encoder_hidden_size"] or config["hidden_size"]
        flops = _count(
            lambda: transformer(
                hidden_states=latents,
                timestep=torch.empty(batch, device="meta"),
                timestep_r=torch.empty(batch, device="meta"),
                encoder_hidden_states=torch.empty(batch, tokens, width, device="meta"),
                context_latents=torch.empty(batch, latents.shape[1], 2 * self._width, device="meta"),
                return_dict=False,
            )
        )
        useless = batch * windows_waste(config, latents.shape[1] // config["patch_size"])
        return Cost(steps * (flops - useless), steps * self.weight_bytes("transformer"))

    def decode(self, duration_s: int, *, batch: int) -> Cost:
        """Latents to audio, untiled."""
        latents = torch.empty(1, self._width, duration_s * LATENTS_PER_S, device="meta")
        flops = _count(lambda: self._parts["vae"].decode(latents))
        return Cost(batch * flops, self._bytes_per_weight * _weights(self._parts["vae"].decoder))

    def plan(self, n_codes: int, *, rows: int, prompt_tokens: int) -> Cost:
        """Prefill and `n_codes` steps of `rows` sequences, guidance's own included; each step reads all weights."""
        model = self._parts["planner"]
        config, body = model.config, model.model
        head_flops = 2 * config.hidden_size * CODEBOOK_SIZE
        prefill = _count(lambda: body(torch.empty(rows, prompt_tokens, dtype=torch.long, device="meta")))
        step = _count(lambda: body(torch.empty(rows, 1, dtype=torch.long, device="meta")))
        # One position attends to all before it: half the codes on average, in two products a layer.
        context = prompt_tokens + n_codes / 2
        pairs = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * context
        flops = prefill + n_codes * (step + rows * (pairs + head_flops))
        kept = _weights(body.layers) + CODEBOOK_SIZE * config.hidden_size
        read = kept * self._bytes_per_weight + rows * context * self.kv_bytes_per_token
        return Cost(flops, n_codes * read)

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values that one token of the planner leaves behind."""
        config = self._parts["planner"].config
        per_layer = 2 * config.num_key_value_heads * config.head_dim
        return config.num_hidden_layers * per_layer * self._bytes_per_weight

    def weight_bytes(self, part: str) -> int:
        """Bytes of all weights of one part; a shared one counts once."""
        return self._bytes_per_weight * _weights(self._parts[part])


def windows_waste(config: Any, length: int) -> float:
    """FLOPs that one forward of one row spends on pairs no sliding window lets through, all layers together."""
    reach = config["sliding_window"]
    kept = length * (2 * reach + 1) - reach * (reach + 1) if length > 2 * reach else None
    if kept is None:  # near the ends of a short sequence a window is cut on both sides
        kept = sum(min(length, place + reach + 1) - max(0, place - reach) for place in range(length))
    sliding = sum(kind == "sliding_attention" for kind in config["layer_types"] or _alternate(config))
    return 4.0 * sliding * config["num_attention_heads"] * config["head_dim"] * (length**2 - kept)


def measure_ceilings(device: torch.device) -> Ceilings:
    """The best matrix product and the best copy that `device` shows in a second or so."""
    ceilings = Ceilings(_products_per_s(_MATMUL_SIDE[device.type], device), _copies_per_s(device))
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return ceilings


def _products_per_s(side: int, device: torch.device) -> float:
    """FLOPs a second of a square product in the format that models are run in."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left = torch.randn(side, side, device=device, dtype=dtype)
    right = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / _best_s(lambda: left @ right, device)


def _copies_per_s(device: torch.device) -> float:
    """Bytes a second, read and written ones together."""
    source = torch.ones(_COPY_BYTES[device.type], device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * source.numel() / _best_s(lambda: target.copy_(source), device)


def _best_s(work: Callable[[], object], device: torch.device) -> float:
    spent = []
    for _ in range(_TRIES):
        wait_for(device)
        began_s = time.perf_counter()
        work()
        wait_for(device)
        spent.append(time.perf_counter() - began_s)
    return min(spent)


def wait_for(device: torch.device) -> None:
    """Let everything queued on `device` come to its end."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _count(work: Callable[[], object]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _alternate(config: Any) -> list[str]:
    return ["sliding_attention" if layer % 2 == 0 else "full_attention" for layer in range(config["num_hidden_layers"])]

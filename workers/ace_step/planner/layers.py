"""One token per row through a Qwen3 model's layers, in a third of the operations.

transformers' own forward pass is written for any length of text; for a single token, most of its time is spent on
launching some sixty small operations per layer. This module does the same arithmetic with the model's own modules and
weights, also when these were quantised or moved. Each norm is one operation, the rotary embedding is applied to queries
and keys at once, and the queries that share a key are packed together, so that keys and values are read where they lie.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch.nn.functional import rms_norm, scaled_dot_product_attention


class KvCache(Protocol):
    """Keys and values of earlier tokens."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep a layer's states and return all to attend to, both (rows, heads, columns, head_dim)."""


def step_through(
    body: Any, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: KvCache
) -> torch.Tensor:
    """Hidden states (rows, width) after the tokens `ids` (rows,) at `positions` (rows, 1).

    `body` is a `Qwen3Model` with full attention in every layer; `mask` (rows, 1, 1, columns) is additive.
    """
    hidden = body.embed_tokens(ids)
    cosine, sine = body.rotary_emb(hidden, positions)
    half = sine.shape[-1] // 2
    # What is turned into the first half is subtracted.
    sine = torch.cat([-sine[..., :half], sine[..., half:]], dim=-1)
    for number, layer in enumerate(body.layers):
        normed = _norm(layer.input_layernorm, hidden)
        hidden = hidden + _attend(layer.self_attn, number, normed, (cosine, sine), mask, cache)
        normed = _norm(layer.post_attention_layernorm, hidden)
        mlp = layer.mlp
        hidden = hidden + mlp.down_proj(mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed))
    return _norm(body.norm, hidden)


def _attend(
    attention: Any,
    number: int,
    hidden: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor,
    cache: KvCache,
) -> torch.Tensor:
    rows, width = len(hidden), attention.head_dim
    query = _norm(attention.q_norm, attention.q_proj(hidden).view(rows, -1, width))
    key = _norm(attention.k_norm, attention.k_proj(hidden).view(rows, -1, width))
    value = attention.v_proj(hidden).view(rows, -1, 1, width)
    heads = value.shape[1]
    both = _rotate(torch.cat([query, key], dim=1), *rotary)
    keys, values = cache.update(both[:, -heads:, None], value, number)
    # A key/value head serves several query heads; to the kernel these are so many queries at one place.
    query = both[:, :-heads].reshape(rows, heads, -1, width)
    seen = scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=attention.scaling)
    output: torch.Tensor = attention.o_proj(seen.reshape(rows, -1))
    return output


def _rotate(states: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of (rows, heads, head_dim)."""
    half = states.shape[-1] // 2
    turned = torch.cat([states[..., half:], states[..., :half]], dim=-1)
    return torch.addcmul(states * cosine, turned, sine)


def _norm(norm: Any, states: torch.Tensor) -> torch.Tensor:
    return rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)

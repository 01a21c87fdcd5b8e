"""The transformer: one forward pass at a time, in which values that stay the same in all steps are computed once.

The modulation depends on the time step alone and not on the take. The keys and values of the conditions in every layer,
the rotary tables, the masks and the context stay the same from step to step. Every input of a step lies in a buffer
that keeps its address, so the host waits for nothing, and on CUDA a step can be recorded.

For one track, a velocity is bitwise that of diffusers' transformer, while the track is short enough for dense attention
(40 s); beyond that, it is the same sum in another order, within 1e-6.

Texts in a batch are padded to the longest. diffusers' transformer lets cross-attention see that padding, so a track
would sound different beside other texts (7 to 22 % relative RMS on random weights). Here the padding is masked.

Source: diffusers 0.42 `models/transformers/ace_step_transformer.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from diffusers.models.transformers.ace_step_transformer import (
    AceStepAttention,
    AceStepTransformer1DModel,
    AceStepTransformerBlock,
)
from torch.nn.functional import pad

from workers.ace_step.device.compiling import Compiler
from workers.ace_step.diffusion.attention import Window, attend, attend_in_blocks, padding_mask, window_of
from workers.ace_step.diffusion.conditions import Conditions

Rotary = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, (frames, head width) each
KeyValue = tuple[torch.Tensor, torch.Tensor]  # (rows, tokens, heads x head width) each


class Modulation(NamedTuple):
    """The part of a forward pass that follows from the time alone; with a first axis of steps, of a whole schedule."""

    layers: torch.Tensor  # (layers, 6, width): shift, 1 + scale, gate for self-attention; the same for the MLP
    last: torch.Tensor  # (2, width): shift and 1 + scale before the output


@dataclass(frozen=True, slots=True, eq=False)
class StaticInputs:
    """The buffers that a forward pass reads; only the latents' part of `frames`, and `modulation`, change by step."""

    frames: torch.Tensor  # (rows, latents up to a whole patch, 3 x channels): context, and columns for the latents
    rotary: Rotary
    window: Window | None
    key_values: list[KeyValue]  # of the conditions, by layer
    padding_mask: torch.Tensor | None  # additive (rows, 1, 1, tokens); None: no row is padded
    modulation: Modulation

    @property
    def shape(self) -> Hashable:
        """Inputs of one shape can take each other's values, where the latents are equally many."""
        return (*self.frames.shape, self.key_values[0][0].shape[1], self.padding_mask is None)

    def take_over(self, other: StaticInputs) -> None:
        """Copy the batch's values of `other`, which has the same shape."""
        for mine, theirs in zip(self._of_the_batch(), other._of_the_batch(), strict=True):
            mine.copy_(theirs)

    def _of_the_batch(self) -> Iterator[torch.Tensor]:
        yield self.frames
        for key_value in self.key_values:
            yield from key_value
        if self.padding_mask is not None:
            yield self.padding_mask


class DiffusionTransformer:
    """One transformer of diffusers. Callers hold `torch.inference_mode()`."""

    def __init__(self, model: AceStepTransformer1DModel, compiler: Compiler) -> None:
        self._model = model
        self._layers: list[Any] = list(model.layers)
        self._blocks = [compiler(_Block(layer)) for layer in self._layers]

    def modulation(self, now: float, aim: float) -> Modulation:
        """The modulation of a pass at time `now` that aims at time `aim`.

        It is worked out for a batch of one, so that it is the same for every batch.
        """
        model, like = self._model, self._model.scale_shift_table
        time, target = (torch.full((1,), each, device=like.device, dtype=like.dtype) for each in (now, aim))
        here, shifts = model.time_embed(time)
        rest, more_shifts = model.time_embed_r(time - target)
        last = model.scale_shift_table + (here + rest).unsqueeze(1)
        layers = torch.cat([layer.scale_shift_table + (shifts + more_shifts) for layer in self._layers])
        last[:, 1] += 1
        layers[:, (1, 4)] += 1
        return Modulation(layers, last[0])

    def static_inputs(self, latents: torch.Tensor, context: torch.Tensor, conditions: Conditions) -> StaticInputs:
        """Buffers for `latents` (rows, latents, channels) laid over `context` (rows, latents, 2 x channels)."""
        model, like = self._model, self._model.scale_shift_table
        frames = pad(torch.cat([context, latents], dim=-1), (0, 0, 0, -latents.shape[1] % model.patch_size))
        rows, patches = len(latents), frames.shape[1] // model.patch_size
        tokens = model.condition_embedder(conditions.hidden)
        return StaticInputs(
            frames=frames,
            rotary=_rotary(patches, model, like),
            window=window_of(rows, patches, model.config["sliding_window"], latents),
            key_values=[_key_value(layer.cross_attn, tokens) for layer in self._layers],
            padding_mask=None if conditions.keep is None else padding_mask(conditions.keep, latents),
            modulation=Modulation(
                like.new_empty(len(self._layers), 6, like.shape[-1]), like.new_empty(2, like.shape[-1])
            ),
        )

    def velocity(self, static: StaticInputs, latents: torch.Tensor) -> torch.Tensor:
        """The velocity (rows, latents, channels) at `latents`, which are written into `static`."""
        model = self._model
        static.frames[:, : latents.shape[1], -latents.shape[2] :] = latents
        frames = model.proj_in_conv(static.frames.transpose(1, 2)).transpose(1, 2)
        for block, shifts, (key, value) in zip(self._blocks, static.modulation.layers, static.key_values, strict=True):
            frames = block(frames, shifts, static.rotary, static.window, key, value, static.padding_mask)
        shift, scale = static.modulation.last
        frames = (model.norm_out(frames) * scale + shift).type_as(frames)
        return model.proj_out_conv(frames.transpose(1, 2)).transpose(1, 2)[:, : latents.shape[1]]


class _Block(torch.nn.Module):
    """One layer of the transformer, which is given its precomputed values."""

    def __init__(self, layer: AceStepTransformerBlock) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self,
        frames: torch.Tensor,
        shifts: torch.Tensor,
        rotary: Rotary,
        window: Window | None,
        key: torch.Tensor,
        value: torch.Tensor,
        padding_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """(batch, frames, width) in and out."""
        layer = self.layer
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = shifts
        inner = (layer.self_attn_norm(frames) * scale + shift).type_as(frames)
        mixed = _self_attention(layer.self_attn, inner, rotary, window)
        frames = (frames + mixed * gate).type_as(frames)
        inner = layer.cross_attn_norm(frames).type_as(frames)
        frames = frames + _cross_attention(layer.cross_attn, inner, key, value, padding_mask)
        inner = (layer.mlp_norm(frames) * mlp_scale + mlp_shift).type_as(frames)
        return (frames + layer.mlp(inner) * mlp_gate).type_as(frames)


def _self_attention(
    attn: AceStepAttention, frames: torch.Tensor, rotary: Rotary, window: Window | None
) -> torch.Tensor:
    query = _rotated(attn.norm_q(attn.to_q(frames).unflatten(-1, (attn.heads, attn.head_dim))), rotary)
    key = _rotated(attn.norm_k(_grouped(attn, attn.to_k(frames))), rotary)
    value = _grouped(attn, attn.to_v(frames))
    if attn.sliding_window is None or window is None:
        mixed = attend(query, key, value, attn.scaling, None)
    elif window.in_blocks:
        mixed = attend_in_blocks(query, key, value, attn.scaling, window.mask, attn.sliding_window)
    else:
        mixed = attend(query, key, value, attn.scaling, window.mask)
    return attn.to_out[0](mixed.flatten(2, 3))


def _cross_attention(
    attn: AceStepAttention,
    frames: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    padding_mask: torch.Tensor | None,
) -> torch.Tensor:
    query = attn.norm_q(attn.to_q(frames).unflatten(-1, (attn.heads, attn.head_dim)))
    mixed = attend(query, _grouped(attn, key), _grouped(attn, value), attn.scaling, padding_mask)
    return attn.to_out[0](mixed.flatten(2, 3))


def _key_value(attn: AceStepAttention, tokens: torch.Tensor) -> KeyValue:
    return attn.norm_k(_grouped(attn, attn.to_k(tokens))).flatten(2, 3), attn.to_v(tokens)


def _grouped(attn: AceStepAttention, states: torch.Tensor) -> torch.Tensor:
    # With the number of heads spelt out, compiled code need not take it for a variable.
    return states.unflatten(-1, (attn.kv_heads, attn.head_dim))


def _rotary(frames: int, model: AceStepTransformer1DModel, like: torch.Tensor) -> Rotary:
    places = torch.arange(frames, device=like.device, dtype=torch.float32)
    # The library's annotations forget that places may be a tensor, and below that there are cosines and sines.
    cosines, sines = get_1d_rotary_pos_embed(
        model.head_dim,
        places,  # type: ignore[arg-type]
        theta=model.rope_theta,
        use_real=True,
        repeat_interleave_real=False,
    )
    return cosines.to(like.dtype), sines.to(like.dtype)


def _rotated(states: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    # The half-split layout of Qwen3.
    turned: Any = apply_rotary_emb(states, rotary, use_real=True, use_real_unbind_dim=-2, sequence_dim=1)  # type: ignore[arg-type]
    return turned

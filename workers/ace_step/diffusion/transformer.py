"""The sampler: from noise to latents through the transformer, with all that stays the same worked out once.

For one track it is bitwise what diffusers' transformer computes, while the track is short enough for dense attention
(40 s); beyond that it is the same sum in another order, within 1e-6.

Once per schedule: scales and shifts, which follow from the time alone and not from the take. Once per batch: the
conditions' keys and values in every layer, rotary tables, masks and the context. What a step changes lies in buffers
that keep their place, so the host waits for nothing, and on CUDA a step is recorded and replayed.

Texts in a batch are padded to the longest, and diffusers' transformer lets cross-attention see that padding, so a
track would sound different in other company (7 to 22 % relative RMS on random weights). Here it is masked.

Source: diffusers 0.42 `models/transformers/ace_step_transformer.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from diffusers.models.transformers.ace_step_transformer import (
    AceStepAttention,
    AceStepTransformer1DModel,
    AceStepTransformerBlock,
)
from torch.nn.functional import pad

from workers.ace_step.device.compiling import Compiler
from workers.ace_step.device.graphs import Graphs
from workers.ace_step.diffusion.attention import Window, attend, attend_in_blocks, cudnn_first, hiding, window_of

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Rotary = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, (frames, head width) each
KeyValue = tuple[torch.Tensor, torch.Tensor]  # (batch, tokens, heads x head width) each

GROUNDS_KEPT = 4  # shapes of batches whose step stays recorded
# Longer batches keep the device busier than the host that launches their kernels one by one; recorded, they would
# only hold memory. 16,384 latents are 11 minutes of audio, takes times duration.
_RECORDED_LATENTS_MAX = 16_384
_SCHEDULES_KEPT = 8


class Conditions(NamedTuple):
    """What cross-attention sees: (batch, tokens, width), and which tokens are real (None: all are)."""

    hidden: torch.Tensor
    keep: torch.Tensor | None


class _Modulation(NamedTuple):
    """What the time alone decides about a step; with a first axis of steps, about a whole schedule."""

    blocks: torch.Tensor  # (layers, 6, width): shift, 1 + scale, gate for self-attention; the same for the MLP
    last: torch.Tensor  # (2, width): shift and 1 + scale before the output
    length: torch.Tensor  # float32 (): how far the step goes


@dataclass(frozen=True, slots=True, eq=False)
class _StaticInputs:
    """What one batch walks on; `latents` and `moment` change from step to step, in place."""

    latents: torch.Tensor  # (batch, latents, channels)
    inputs: torch.Tensor  # (batch, latents up to a whole patch, 3 x channels): context, and room for the latents
    rotary: Rotary
    window: Window | None
    conditions: list[KeyValue]  # by layer
    hiding: torch.Tensor | None  # additive (batch, 1, 1, tokens); None: no row is padded
    moment: _Modulation

    @property
    def shape(self) -> Hashable:
        """Grounds of one shape can take each other's values."""
        return (*self.latents.shape, self.conditions[0][0].shape[1], self.hiding is None)

    def take_over(self, other: _StaticInputs) -> None:
        """Copy what `other`, of the same shape, holds about its batch."""
        for mine, theirs in zip(self._of_the_batch(), other._of_the_batch(), strict=True):
            mine.copy_(theirs)

    def _of_the_batch(self) -> Iterator[torch.Tensor]:
        yield from (self.latents, self.inputs)
        for key_value in self.conditions:
            yield from key_value
        if self.hiding is not None:
            yield self.hiding


class Sampler:
    """One transformer, walked step by step. Not thread-safe; callers hold `torch.inference_mode()`."""

    def __init__(
        self,
        transformer: AceStepTransformer1DModel,
        *,
        compiler: Compiler | None = None,
        graphs: Graphs | None = None,
        cudnn_first: bool = False,
    ) -> None:
        compiler = compiler or Compiler(wanted=False)
        self.cudnn_first = cudnn_first
        self._model = transformer
        self._layers: list[Any] = list(transformer.layers)
        self._blocks = [compiler(_Block(layer)) for layer in self._layers]
        self._graphs = graphs or Graphs(torch.device("cpu"), keep=0)
        self._schedules: OrderedDict[tuple[int, float], _Modulation] = OrderedDict()
        self._grounds: OrderedDict[Hashable, _StaticInputs] = OrderedDict()

    def __call__(
        self, noise: torch.Tensor, conditions: Conditions, context: torch.Tensor, *, steps: int, shift: float
    ) -> torch.Tensor:
        """From `noise` (batch, latents, channels) to latents, by Euler steps that are added up in float32.

        `context` is (batch, latents, 2 x channels). On a GPU this only queues: nothing is waited for.
        """
        with cudnn_first() if self.cudnn_first else nullcontext():
            moments = self._schedule(steps, shift)
            ground = self._ground(noise, conditions, context)
            if not self._graphs.records or ground.inputs.shape[:2].numel() > _RECORDED_LATENTS_MAX:
                for step in range(steps):
                    self._turn_to(step, moments, ground)
                    self._step(ground)
                return ground.latents
            ground = self._lasting(ground)
            for step in range(steps):
                self._turn_to(step, moments, ground)
                self._graphs.run(ground, partial(self._step, ground))
            return ground.latents.clone()  # the next batch of this shape walks on the same ground

    def forget(self) -> None:
        """Let go of what is kept from batch to batch for speed."""
        self._graphs.clear()
        self._grounds.clear()

    def _schedule(self, steps: int, shift: float) -> _Modulation:
        """The moments of all steps. Worked out for a batch of one, so that they are the same for every batch."""
        if (known := self._schedules.get((steps, shift))) is not None:
            return known
        times = schedule(steps, shift)
        moments = [
            self._moment(now, length) for now, length in zip(times[:-1].tolist(), times.diff().tolist(), strict=True)
        ]
        made = _Modulation(*(torch.stack(each) for each in zip(*moments, strict=True)))
        return _keep(self._schedules, _SCHEDULES_KEPT, (steps, shift), made)

    def _moment(self, now: float, length: float) -> _Modulation:
        model, like = self._model, self._model.scale_shift_table
        time = torch.full((1,), now, device=like.device, dtype=like.dtype)
        here, shifts = model.time_embed(time)
        rest, more_shifts = model.time_embed_r(time - time)  # turbo steps aim at the time they start from
        last = model.scale_shift_table + (here + rest).unsqueeze(1)
        blocks = torch.cat([layer.scale_shift_table + (shifts + more_shifts) for layer in self._layers])
        last[:, 1] += 1
        blocks[:, (1, 4)] += 1
        return _Modulation(blocks, last[0], torch.tensor(length, device=like.device))

    def _ground(self, noise: torch.Tensor, conditions: Conditions, context: torch.Tensor) -> _StaticInputs:
        model = self._model
        inputs = pad(torch.cat([context, noise], dim=-1), (0, 0, 0, -noise.shape[1] % model.patch_size))
        batch, frames = len(noise), inputs.shape[1] // model.patch_size
        tokens = model.condition_embedder(conditions.hidden)
        like = model.scale_shift_table
        return _StaticInputs(
            latents=noise.clone(),
            inputs=inputs,
            rotary=_rotary(frames, model, like),
            window=window_of(batch, frames, model.config["sliding_window"], noise),
            conditions=[_key_value(layer.cross_attn, tokens) for layer in self._layers],
            hiding=None if conditions.keep is None else hiding(conditions.keep, noise),
            moment=_Modulation(
                like.new_empty(len(self._layers), 6, like.shape[-1]),
                like.new_empty(2, like.shape[-1]),
                torch.empty((), device=like.device),
            ),
        )

    def _lasting(self, fresh: _StaticInputs) -> _StaticInputs:
        """A ground that keeps its place from batch to batch, with what `fresh` holds."""
        kept = self._grounds.get(fresh.shape)
        if kept is not None:
            kept.take_over(fresh)
        return _keep(self._grounds, GROUNDS_KEPT, fresh.shape, kept or fresh)

    @staticmethod
    def _turn_to(step: int, moments: _Modulation, ground: _StaticInputs) -> None:
        for here, each in zip(ground.moment, moments, strict=True):
            here.copy_(each[step])

    def _step(self, ground: _StaticInputs) -> None:
        """Move `ground.latents` one step on."""
        model, latents = self._model, ground.latents
        ground.inputs[:, : latents.shape[1], -latents.shape[2] :] = latents
        frames = model.proj_in_conv(ground.inputs.transpose(1, 2)).transpose(1, 2)
        for block, shifts, (key, value) in zip(self._blocks, ground.moment.blocks, ground.conditions, strict=True):
            frames = block(frames, shifts, ground.rotary, ground.window, key, value, ground.hiding)
        shift, scale = ground.moment.last
        frames = (model.norm_out(frames) * scale + shift).type_as(frames)
        velocity = model.proj_out_conv(frames.transpose(1, 2)).transpose(1, 2)[:, : latents.shape[1]]
        latents.copy_(latents.float() + ground.moment.length * velocity.float())


class _Block(torch.nn.Module):
    """One layer of the transformer, given what `Sampler` has worked out beforehand."""

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
        hiding: torch.Tensor | None,
    ) -> torch.Tensor:
        """(batch, frames, width) in and out."""
        layer = self.layer
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = shifts
        inner = (layer.self_attn_norm(frames) * scale + shift).type_as(frames)
        mixed = _self_attention(layer.self_attn, inner, rotary, window)
        frames = (frames + mixed * gate).type_as(frames)
        inner = layer.cross_attn_norm(frames).type_as(frames)
        frames = frames + _cross_attention(layer.cross_attn, inner, key, value, hiding)
        inner = (layer.mlp_norm(frames) * mlp_scale + mlp_shift).type_as(frames)
        return (frames + layer.mlp(inner) * mlp_gate).type_as(frames)


def schedule(steps: int, shift: float) -> torch.Tensor:
    """Times from 1 to 0, `steps` + 1 of them in float32; a larger `shift` spends more steps near the noise."""
    even = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float32)
    return even if shift == 1.0 else shift * even / (1 + (shift - 1) * even)


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
    attn: AceStepAttention, frames: torch.Tensor, key: torch.Tensor, value: torch.Tensor, hiding: torch.Tensor | None
) -> torch.Tensor:
    query = attn.norm_q(attn.to_q(frames).unflatten(-1, (attn.heads, attn.head_dim)))
    mixed = attend(query, _grouped(attn, key), _grouped(attn, value), attn.scaling, hiding)
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


def _keep(kept: OrderedDict[K, V], most: int, key: K, value: V) -> V:
    """Put `value` into `kept` as the one used last, and drop what was used longest ago."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return value

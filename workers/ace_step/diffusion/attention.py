"""Attention for the diffusion transformer: grouped heads, masks, and a sliding window that computes only visible pairs.

SDPA with a mask and grouped heads at once finds no fused kernel in most builds and falls back to one that holds all
scores in float32. Keys and values that are repeated to the query's head count avoid that.

In half of the layers, a frame sees only the frames within a window. A dense mask would compute every pair and discard
most of them. So long tracks are cut into blocks as long as the window reaches, and each block of queries is combined
with its own block of keys and the two beside it. The result is the same sum in another order: equal within 1e-6.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

# 40.96 s of audio. Up to here all pairs at once are faster on a CPU, and bitwise what diffusers computes.
DENSE_FRAMES_MAX = 512

_CUDNN_FIRST_CAPABILITIES = (9, 10)  # Hopper and Blackwell
_CUDNN_FIRST = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


class Window(NamedTuple):
    """The mask of the pairs of frames that see each other: additive, 0 or the lowest number of the dtype.

    Dense: (1, 1, frames, frames). In blocks: (batch x blocks, 1, reach, 3 x reach).
    """

    mask: torch.Tensor
    in_blocks: bool


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of (batch, frames, heads, head width) to (batch, tokens, fewer heads, head width), as the query.

    `mask` is additive and fits (batch, heads, frames, tokens) by broadcasting.
    """
    if mask is not None and key.shape[2] != query.shape[2]:
        repeats = query.shape[2] // key.shape[2]
        key, value = key.repeat_interleave(repeats, dim=2), value.repeat_interleave(repeats, dim=2)
    mixed = scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        scale=scale,
        enable_gqa=key.shape[2] != query.shape[2],
    )
    return mixed.transpose(1, 2)


def attend_in_blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor, reach: int
) -> torch.Tensor:
    """`attend` among the frames of one sequence, each to those within `reach`; `mask` is that of `window_of`."""
    batch, frames, heads, width = query.shape
    missing = -frames % reach
    blocks = pad(query, (0, 0, 0, 0, 0, missing)).unflatten(1, (-1, reach)).flatten(0, 1)
    mixed = scaled_dot_product_attention(
        blocks.transpose(1, 2),
        _with_neighbours(key, heads, reach, missing),
        _with_neighbours(value, heads, reach, missing),
        attn_mask=mask,
        scale=scale,
    )
    return mixed.transpose(1, 2).reshape(batch, frames + missing, heads, width)[:, :frames]


def _with_neighbours(states: torch.Tensor, heads: int, reach: int, missing: int) -> torch.Tensor:
    """For each block its own frames and its neighbours': (batch x blocks, `heads`, 3 x reach, head width), one copy."""
    batch, _, grouped, width = states.shape
    padded = pad(states, (0, 0, 0, 0, reach, reach + missing))
    blocks = padded.unfold(1, 3 * reach, reach).transpose(-2, -1)  # (batch, blocks, grouped heads, 3 x reach, width)
    spread = blocks[:, :, :, None].expand(-1, -1, -1, heads // grouped, -1, -1)
    return spread.reshape(batch * blocks.shape[1], heads, 3 * reach, width)


def window_of(batch: int, frames: int, reach: int, like: torch.Tensor) -> Window | None:
    """The window over `frames` that see `reach` to each side; None where that is all of them.

    On the device and in the number format of `like`.
    """
    if frames <= reach + 1:
        return None
    if frames <= DENSE_FRAMES_MAX:
        places = torch.arange(frames, device=like.device)
        seen = (places[:, None] - places[None, :]).abs() <= reach
        return Window(_additive(seen[None, None], like), in_blocks=False)
    first = torch.arange(0, frames, reach, device=like.device)[:, None, None]
    queries = first + torch.arange(reach, device=like.device)[None, :, None]
    keys = first - reach + torch.arange(3 * reach, device=like.device)[None, None, :]
    seen = ((queries - keys).abs() <= reach) & (keys >= 0) & (keys < frames)
    return Window(_additive(seen[:, None], like).repeat(batch, 1, 1, 1), in_blocks=True)


def padding_mask(keep: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The additive mask (batch, 1, 1, tokens) of `keep`, bool (batch, tokens)."""
    return _additive(keep[:, None, None, :], like)


def _additive(seen: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(~seen, torch.finfo(like.dtype).min)


def prefers_cudnn(device: torch.device) -> bool:
    """True when cuDNN's attention, masked or not, is far faster on this kind of `device` than torch's own."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] in _CUDNN_FIRST_CAPABILITIES


def cudnn_first() -> AbstractContextManager[None]:
    """Let attention prefer cuDNN's kernels; the others are used where cuDNN's do not apply."""
    return sdpa_kernel(_CUDNN_FIRST, set_priority=True)


class KernelNames(TorchDispatchMode):
    """Collects which fused attention kernels torch chooses while the block runs; plain matrix products have none."""

    _PREFIX = "_scaled_dot_product_"

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name: str = func.overloadpacket.__name__
        if name.startswith(self._PREFIX):
            self.seen.add(name.removeprefix(self._PREFIX))
        return func(*args, **(kwargs or {}))

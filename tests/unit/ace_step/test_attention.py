"""Attention in blocks: a sliding window at the price of what it sees."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.ace_step.diffusion.attention import DENSE_FRAMES_MAX, attend, attend_in_blocks, padding_mask, window_of

REACH = 8


def _states(batch: int, frames: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, frames, heads, 4, generator=generator) for heads in (4, 2, 2)]


def _all_pairs(frames: int, reach: int = REACH) -> torch.Tensor:
    places = torch.arange(frames)
    seen = (places[:, None] - places[None, :]).abs() <= reach
    return torch.zeros(1, 1, frames, frames).masked_fill_(~seen, -torch.inf)


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(1, 3), frames=st.integers(DENSE_FRAMES_MAX + 1, DENSE_FRAMES_MAX + 4 * REACH))
def test_blocks_give_what_all_pairs_under_a_mask_give(batch: int, frames: int):
    query, key, value = _states(batch, frames)
    window = window_of(batch, frames, REACH, query)
    assert window is not None
    assert window.in_blocks
    mixed = attend_in_blocks(query, key, value, 0.5, window.mask, REACH)
    assert torch.allclose(mixed, attend(query, key, value, 0.5, _all_pairs(frames)), atol=1e-6, rtol=0)


def test_a_short_track_is_computed_densely_and_a_shorter_one_without_a_mask():
    (query, _, _) = _states(1, 1)
    dense = window_of(3, DENSE_FRAMES_MAX, REACH, query)
    assert dense is not None
    assert not dense.in_blocks
    assert torch.equal(dense.mask == 0, _all_pairs(DENSE_FRAMES_MAX) == 0)
    assert window_of(3, REACH + 1, REACH, query) is None
    assert window_of(3, REACH + 2, REACH, query) is not None


def test_what_is_out_of_reach_changes_nothing():
    frames = DENSE_FRAMES_MAX + 10
    query, key, value = _states(1, frames)
    window = window_of(1, frames, REACH, query)
    assert window is not None
    before = attend_in_blocks(query, key, value, 0.5, window.mask, REACH)
    value[:, 100] += 1
    after = attend_in_blocks(query, key, value, 0.5, window.mask, REACH)
    changed = (before != after).any(dim=-1).any(dim=-1)[0].nonzero().flatten()
    assert (int(changed.min()), int(changed.max())) == (100 - REACH, 100 + REACH)


@pytest.mark.parametrize("padding", [0.0, 1e4])
def test_hidden_tokens_are_not_heard(padding: float):
    query, key, value = _states(2, 6)
    keep = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    key[1, 4:], value[1, 4:] = padding, padding
    mixed = attend(query, key, value, 0.5, padding_mask(keep, query))
    alone = attend(query[1:], key[1:, :4], value[1:, :4], 0.5, None)
    assert torch.allclose(mixed[1:], alone, atol=1e-6)

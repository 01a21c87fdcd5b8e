"""Buffers of fixed shapes are kept, within the memory there is; what does not fit makes the planner modest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from workers.ace_step.planner import buffers
from workers.ace_step.planner.batching import BatchShape, KvBudget
from workers.ace_step.planner.buffers import DecodeBuffers
from workers.ace_step.planner.decoding import Decoding, Shape

CPU = torch.device("cpu")
PROMPTS = [[1, 2, 3]] * 4


class AWriter:
    """A writer that remembers nothing but its buffers."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding


@pytest.fixture(scope="module")
def config() -> Qwen3Config:
    return Qwen3Config(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )


def some_buffers(
    config: Qwen3Config, dtype: torch.dtype = torch.bfloat16, memory_gib: float | None = None
) -> DecodeBuffers:
    model = Qwen3ForCausalLM(config).to(dtype).eval()
    budget = KvBudget.of(config, dtype, CPU, 1024)
    return DecodeBuffers(model, budget._replace(memory_gib=memory_gib))


def a_batch_shape(slots: int = 2, *, guided: bool = True, prompt_class: int = 128) -> BatchShape:
    return BatchShape(guided, prompt_class, slots)


def test_a_fixed_shape_has_all_slots_and_the_width_of_its_class(config):
    kept = some_buffers(config)
    assert kept.writer(a_batch_shape(4), PROMPTS, 100, AWriter).decoding.shape == Shape(8, 128, 256)
    assert kept.writer(a_batch_shape(4, guided=False), PROMPTS, 200, AWriter).decoding.shape == Shape(4, 128, 384)


def test_in_float32_a_shape_is_no_larger_than_it_must_be_and_not_kept(config):
    kept = some_buffers(config, torch.float32)
    writer = kept.writer(a_batch_shape(16), PROMPTS, 100, AWriter)
    assert writer.decoding.shape == Shape(4, 3, 128)
    assert kept.writer(a_batch_shape(16), PROMPTS, 100, AWriter) is not writer


def test_a_writer_is_used_again_for_its_batch_shape_as_long_as_its_buffers_are_long_enough(config):
    kept = some_buffers(config)
    writer = kept.writer(a_batch_shape(), PROMPTS, 200, AWriter)
    assert kept.writer(a_batch_shape(), PROMPTS, 100, AWriter) is writer
    assert kept.writer(a_batch_shape(1), PROMPTS[:2], 100, AWriter) is not writer
    longer = kept.writer(a_batch_shape(), PROMPTS, 300, AWriter)
    assert longer is not writer
    assert kept.writer(a_batch_shape(), PROMPTS, 200, AWriter) is longer


def test_each_kind_of_writer_has_its_own(config):
    kept, other = some_buffers(config), lambda decoding: AWriter(decoding)  # noqa: PLW0108
    assert kept.writer(a_batch_shape(), PROMPTS, 9, AWriter) is not kept.writer(a_batch_shape(), PROMPTS, 9, other)


def test_what_was_used_longest_ago_goes_when_memory_runs_out(config):
    tokens = 2 * 2 * 256  # two slots, guided, of 128 tokens of prompt and up to 128 written
    kept = some_buffers(config)
    kept.budget = kept.budget._replace(memory_gib=2 * tokens * kept.budget.token_bytes / 2**30)
    first = kept.writer(a_batch_shape(prompt_class=128), PROMPTS, 100, AWriter)
    second = kept.writer(a_batch_shape(prompt_class=129), PROMPTS, 100, AWriter)  # a width of its own, of the same size
    assert kept.writer(a_batch_shape(prompt_class=128), PROMPTS, 100, AWriter) is first
    kept.writer(a_batch_shape(prompt_class=130), PROMPTS, 100, AWriter)
    assert kept.writer(a_batch_shape(prompt_class=128), PROMPTS, 100, AWriter) is first
    assert kept.writer(a_batch_shape(prompt_class=129), PROMPTS, 100, AWriter) is not second


def test_without_a_limit_a_few_are_kept(config):
    kept = some_buffers(config)
    for width in range(128, 140):
        kept.writer(a_batch_shape(prompt_class=width), PROMPTS, 9, AWriter)
    assert len(kept._writers) == 4


def test_when_the_device_has_no_memory_half_the_slots_are_tried_next(config, monkeypatch, caplog):
    kept = some_buffers(config)
    kept.writer(a_batch_shape(4), PROMPTS, 9, AWriter)

    def full(*_args: Any, **_named: Any) -> Decoding:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(buffers, "Decoding", full)
    with pytest.raises(torch.OutOfMemoryError):
        kept.writer(a_batch_shape(8), PROMPTS, 9, AWriter)
    assert kept.budget.slots(45, 128).takes == 4
    assert not kept._writers
    assert "from now on the planner writes 4 at a time" in caplog.text

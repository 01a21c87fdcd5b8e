"""Buffers of fixed shapes are kept, within the memory there is; what does not fit makes the planner modest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from workers.ace_step.planner import buffers as planner_kept
from workers.ace_step.planner.batching import BatchShape, KvBudget
from workers.ace_step.planner.buffers import DecodeBuffers
from workers.ace_step.planner.decoding import Decoding, Shape

CPU = torch.device("cpu")
PROMPTS = [[1, 2, 3]] * 4


class ADesk:
    """A desk that remembers nothing but its decoding."""

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


def some_desks(
    config: Qwen3Config, dtype: torch.dtype = torch.bfloat16, memory_gib: float | None = None
) -> DecodeBuffers:
    model = Qwen3ForCausalLM(config).to(dtype).eval()
    room = KvBudget.of(config, dtype, CPU, 1024)
    return DecodeBuffers(model, room._replace(memory_gib=memory_gib))


def a_company(slots: int = 2, *, guided: bool = True, prompt_class: int = 128) -> BatchShape:
    return BatchShape(guided, prompt_class, slots)


def test_a_fixed_shape_has_all_slots_and_the_width_of_its_class(config):
    desks = some_desks(config)
    assert desks.desk(a_company(4), PROMPTS, 100, ADesk).decoding.shape == Shape(8, 128, 256)
    assert desks.desk(a_company(4, guided=False), PROMPTS, 200, ADesk).decoding.shape == Shape(4, 128, 384)


def test_in_float32_a_shape_is_no_larger_than_it_must_be_and_not_kept(config):
    desks = some_desks(config, torch.float32)
    desk = desks.desk(a_company(16), PROMPTS, 100, ADesk)
    assert desk.decoding.shape == Shape(4, 3, 128)
    assert desks.desk(a_company(16), PROMPTS, 100, ADesk) is not desk


def test_a_desk_is_used_again_for_its_company_as_long_as_there_is_room(config):
    desks = some_desks(config)
    desk = desks.desk(a_company(), PROMPTS, 200, ADesk)
    assert desks.desk(a_company(), PROMPTS, 100, ADesk) is desk
    assert desks.desk(a_company(1), PROMPTS[:2], 100, ADesk) is not desk
    longer = desks.desk(a_company(), PROMPTS, 300, ADesk)
    assert longer is not desk
    assert desks.desk(a_company(), PROMPTS, 200, ADesk) is longer


def test_each_kind_of_desk_has_its_own(config):
    desks, other = some_desks(config), lambda decoding: ADesk(decoding)  # noqa: PLW0108
    assert desks.desk(a_company(), PROMPTS, 9, ADesk) is not desks.desk(a_company(), PROMPTS, 9, other)


def test_what_was_used_longest_ago_goes_when_memory_runs_out(config):
    tokens = 2 * 2 * 256  # two slots, guided, of 128 tokens of prompt and up to 128 written
    desks = some_desks(config)
    desks.room = desks.room._replace(memory_gib=2 * tokens * desks.room.token_bytes / 2**30)
    first = desks.desk(a_company(prompt_class=128), PROMPTS, 100, ADesk)
    second = desks.desk(a_company(prompt_class=129), PROMPTS, 100, ADesk)  # a width of its own, of the same size
    assert desks.desk(a_company(prompt_class=128), PROMPTS, 100, ADesk) is first
    desks.desk(a_company(prompt_class=130), PROMPTS, 100, ADesk)
    assert desks.desk(a_company(prompt_class=128), PROMPTS, 100, ADesk) is first
    assert desks.desk(a_company(prompt_class=129), PROMPTS, 100, ADesk) is not second


def test_without_a_limit_a_few_are_kept(config):
    desks = some_desks(config)
    for width in range(128, 140):
        desks.desk(a_company(prompt_class=width), PROMPTS, 9, ADesk)
    assert len(desks._kept) == 4


def test_when_the_device_has_no_memory_half_the_slots_are_tried_next(config, monkeypatch, caplog):
    desks = some_desks(config)
    desks.desk(a_company(4), PROMPTS, 9, ADesk)

    def full(*_args: Any, **_named: Any) -> Decoding:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(planner_kept, "Decoding", full)
    with pytest.raises(torch.OutOfMemoryError):
        desks.desk(a_company(8), PROMPTS, 9, ADesk)
    assert desks.room.slots(45, 128).takes == 4
    assert not desks._kept
    assert "from now on the planner writes 4 at a time" in caplog.text

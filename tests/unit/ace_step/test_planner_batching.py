"""How many takes are written side by side, and which: arithmetic on the published sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen3Config

from workers.ace_step.planner.batching import BatchShape, KvBudget, batches

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
MEDIUM = Qwen3Config(hidden_size=2048, num_hidden_layers=28, num_key_value_heads=8, head_dim=128)  # the 1.7B planner
LARGE = Qwen3Config(hidden_size=2560, num_hidden_layers=36, num_key_value_heads=8, head_dim=128)


def a_budget(memory_gib: float | None = None, device: torch.device = CUDA, config: Qwen3Config = MEDIUM) -> KvBudget:
    return KvBudget.of(config, torch.bfloat16, device, 4096)._replace(memory_gib=memory_gib)


@pytest.mark.parametrize(("config", "token_bytes"), [(MEDIUM, 114_688), (LARGE, 147_456)])
def test_a_token_takes_the_published_bytes(config, token_bytes):
    assert a_budget(config=config).token_bytes == token_bytes
    assert KvBudget.of(config, torch.float32, CPU, 4096).token_bytes == 2 * token_bytes


@pytest.mark.parametrize(
    ("memory_gib", "duration_s", "slots"),
    [
        (60, 180, 64),  # 80 GB card
        (60, 600, 64),
        (30, 180, 64),
        (30, 600, 32),
        (12, 180, 32),  # 24 GB card
        (6, 180, 16),
        (2, 180, 4),
        (0.1, 180, 1),  # one is tried, whatever the budget says
    ],
)
def test_slots_are_the_power_of_two_that_the_memory_holds(memory_gib, duration_s, slots):
    limit = a_budget(memory_gib).slots(duration_s * 5, 512)
    assert limit.takes == slots


def test_slots_are_never_more_than_64_and_16_on_the_cpu():
    assert a_budget().slots(900, 512).takes == 64
    assert a_budget(10_000).slots(900, 512).takes == 64
    assert a_budget(device=CPU).slots(900, 512).takes == 16


def test_the_limit_says_why():
    # 2 rows a take, 512 tokens of prompt and 900 codes in whole columns of 128: 1,536 tokens a row.
    assert a_budget(60).slots(900, 512).reason == "64 slots: KV 22.5 GB of 64.4 GB, 112 KiB a token"
    assert a_budget().slots(900, 512).reason == "64 slots: KV 22.5 GB, 112 KiB a token"


def test_prompts_have_four_classes_of_which_the_largest_is_half_the_context():
    budget = a_budget()
    assert budget.prompt_classes == (256, 512, 1024, 2048)
    assert [budget.prompt_class(n) for n in (1, 256, 257, 512, 1024, 1025, 2048)] == [
        256,
        256,
        512,
        512,
        1024,
        2048,
        2048,
    ]


def test_a_prompt_may_have_what_codes_leave_of_the_context_and_half_of_it_at_most():
    assert a_budget().longest_prompt(900) == 2048
    assert a_budget().longest_prompt(3000) == 1096


def test_a_takes_batch_shape_follows_from_itself():
    budget = a_budget(30)
    assert BatchShape.of(budget, [[1] * 300], 900) == BatchShape(guided=False, prompt_class=512, slots=64)
    assert BatchShape.of(budget, [[1] * 300, [1] * 513], 3000) == BatchShape(guided=True, prompt_class=1024, slots=32)


shapes = st.builds(BatchShape, st.booleans(), st.sampled_from([512, 1024]), st.sampled_from([1, 2, 4]))


@given(st.lists(st.tuples(shapes, st.integers(50, 3000)), max_size=30))
def test_splitting_loses_nothing_and_mixes_no_shapes(takes):
    split = list(batches([shape for shape, _ in takes], [length for _, length in takes]))
    assert sorted(place for _, places in split for place in places) == list(range(len(takes)))
    for shape, places in split:
        assert 1 <= len(places) <= shape.slots
        assert {takes[place][0] for place in places} == {shape}


@given(st.lists(st.integers(50, 3000), min_size=1, max_size=30))
def test_neighbours_in_length_are_written_together(lengths):
    split = list(batches([BatchShape(True, 512, 4)] * len(lengths), lengths))
    assert [lengths[place] for _, places in split for place in places] == sorted(lengths)
    assert len(split) == -(-len(lengths) // 4)

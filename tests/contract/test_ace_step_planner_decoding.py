"""The decode core: what it computes is what the model computes, beside whatever rows and through whatever window."""

from __future__ import annotations

import logging

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from tests.support import tape
from workers.ace_step.device.graphs import Graphs
from workers.ace_step.planner import decoding as planner_decode
from workers.ace_step.planner.decoding import COLUMNS, Decoding, Shape

CPU = torch.device("cpu")
VOCABULARY = 400
PROMPTS = [[5, 6, 7], list(range(40, 90)), [9], [5, 6, 7, 8]]


@pytest.fixture(scope="module")
def model() -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.35,  # so that the best logit is far from the next
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return Qwen3ForCausalLM(config).eval()


@torch.inference_mode()
def greedy(decoding: Decoding, prompts: list[list[int]], steps: int) -> list[list[int]]:
    """The most likely continuations, over the whole vocabulary."""
    hidden = decoding.prefill(prompts)
    written = []
    for _ in range(steps):
        written.append(decoding.logits(hidden, 0, VOCABULARY)[: len(prompts)].argmax(dim=1))
        hidden = decoding.step(written[-1])
    return torch.stack(written, dim=1).tolist()


@torch.inference_mode()
def greedy_from_scratch(model: Qwen3ForCausalLM, prompt: list[int], steps: int) -> list[int]:
    """The same for one prompt, without cache or padding: all tokens at every step."""
    ids = list(prompt)
    for _ in range(steps):
        ids.append(int(model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_rows_are_written_as_the_model_alone_would_write_them(model):
    written = greedy(Decoding(model, Shape.of(4, 64, 100)), PROMPTS, 100)  # across two widths
    assert written == [greedy_from_scratch(model, prompt, 100) for prompt in PROMPTS]


def test_a_narrow_window_changes_nothing(model, monkeypatch):
    narrow = greedy(Decoding(model, Shape.of(4, 64, 300)), PROMPTS, 300)
    monkeypatch.setattr(planner_decode, "COLUMNS", 4096)
    whole = Decoding(model, Shape(4, 64, 4096))
    assert greedy(whole, PROMPTS, 300) == narrow
    assert whole._cache.visible == 4096


def test_attention_sees_whole_columns_as_far_as_they_are_needed(model):
    decoding, seen = Decoding(model, Shape.of(1, 100, 200)), []
    decoding.prefill([[1]])
    for _ in range(200):
        decoding.step(torch.tensor([1]))
        seen.append(decoding._cache.visible)
    assert seen == [COLUMNS] * 28 + [2 * COLUMNS] * 128 + [3 * COLUMNS] * 44


def test_more_tokens_than_there_is_room_for_are_refused(model):
    decoding = Decoding(model, Shape.of(1, 100, 28))
    decoding.prefill([[1]])
    for _ in range(28):
        decoding.step(torch.tensor([1]))
    with pytest.raises(ValueError, match="no room for token 29"):
        decoding.step(torch.tensor([1]))


@pytest.mark.parametrize("prompts", [[[1]] * 3, [[1] * 9]])
def test_prompts_that_do_not_fit_are_refused(model, prompts):
    with pytest.raises(ValueError, match="do not fit"):
        Decoding(model, Shape.of(2, 8, 10)).prefill(prompts)


def test_a_decoding_serves_one_text_after_the_other(model):
    decoding = Decoding(model, Shape.of(4, 64, 60))
    first = greedy(decoding, PROMPTS, 60)
    greedy(decoding, [[300] * 60] * 4, 60)
    assert greedy(decoding, PROMPTS, 60) == first


def test_idle_rows_do_not_matter(model):
    expected = greedy(Decoding(model, Shape.of(4, 64, 20)), PROMPTS, 20)
    decoding = Decoding(model, Shape.of(9, 64, 20))
    assert greedy(decoding, PROMPTS, 20) == expected
    assert decoding.prefill([None, PROMPTS[0], None]).isfinite().all()


def calls(model: Qwen3ForCausalLM, decoding: Decoding, prompts: list[list[int]]) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    hook = model.model.register_forward_pre_hook(
        lambda _module, _args, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    decoding.prefill(prompts)
    hook.remove()
    return seen


def test_equal_prompts_are_read_once(model):
    assert calls(model, Decoding(model, Shape.of(9, 8, 5)), [[1, 2], [3], [1, 2], [3], [1, 2]]) == [(2, 8)]


def test_prompts_are_read_a_few_at_a_time(model):
    assert calls(model, Decoding(model, Shape.of(20, 8, 5)), [[n] for n in range(20)]) == [(8, 8), (8, 8), (4, 8)]


def test_narrow_number_formats_read_prompts_in_calls_of_one_shape(model):
    narrow = Qwen3ForCausalLM(model.config).to(torch.bfloat16).eval()
    assert calls(narrow, Decoding(narrow, Shape.of(20, 8, 5)), [[n] for n in range(9)]) == [(8, 8), (8, 8)]
    assert calls(narrow, Decoding(narrow, Shape.of(2, 8, 5)), [[1]]) == [(2, 8)]


@torch.inference_mode()
def test_logits_of_a_part_of_the_vocabulary_are_that_part_of_all_logits(model):
    decoding = Decoding(model, Shape.of(4, 64, 5))
    hidden = decoding.prefill(PROMPTS)
    every = model.lm_head(hidden).float()
    assert torch.equal(decoding.logits(hidden, 0, VOCABULARY), every)
    assert torch.allclose(decoding.logits(hidden, 100, 300), every[:, 100:300], rtol=1e-6, atol=1e-6)


@torch.inference_mode()
def test_logits_are_computed_from_rows_of_the_matrix_itself_and_no_copy(model, monkeypatch):
    decoding = Decoding(model, Shape.of(4, 64, 5))
    hidden, used = decoding.prefill(PROMPTS), []
    original = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, weight: used.append(weight) or original(x, weight))
    decoding.logits(hidden, 100, 300)
    assert [len(weight) for weight in used] == [200]
    assert used[0].untyped_storage().data_ptr() == model.lm_head.weight.untyped_storage().data_ptr()


def test_a_step_is_recorded_once_a_width_and_replays_from_tensors_alone(model, caplog):
    expected = greedy(Decoding(model, Shape.of(4, 64, 200)), PROMPTS, 200)
    decoding = Decoding(model, Shape.of(4, 64, 200))
    decoding.graphs = Graphs(CPU, keep=9, recorder=tape.record)
    with caplog.at_level(logging.WARNING):
        assert greedy(decoding, PROMPTS, 200) == expected
        assert greedy(decoding, PROMPTS, 200) == expected  # from replays alone
    assert not caplog.records
    assert len(decoding.graphs._kept) == 3


def test_a_tape_refuses_what_makes_the_host_wait():
    with pytest.raises(tape.HostWaits), torch.inference_mode():
        tape.record(lambda: torch.ones(3).sum().item())

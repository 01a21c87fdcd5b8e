"""The planner on tiny random weights: exact lengths, real codes, and neighbours that do not matter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.errors import ModelError, OutOfRangeError
from catalog.limits import CODEBOOK_SIZE
from catalog.sidecar import Plan
from catalog.track import Take
from tests.support.plain_planner import draw_plainly, plan_plainly
from tests.support.planner_takes import CPU, a_take, mixed_takes
from workers.ace_step.planner import planner as planner_module
from workers.ace_step.planner.loading import load_model
from workers.ace_step.planner.planner import Planner
from workers.ace_step.tiny.planner import write_tiny_planner


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("planner")
    write_tiny_planner(path)
    return path


@pytest.fixture(scope="module")
def planner(folder) -> Planner:
    return Planner.load(folder, device=CPU, dtype=torch.float32)


@pytest.fixture(scope="module")
def small_bfloat16(planner, folder) -> Planner:
    """In bfloat16 all shapes are full ones, so here they are small: eight slots, and the published prompt classes."""
    model = load_model(folder, CPU, torch.bfloat16)
    del model.config.context_tokens
    small = Planner(model, planner.tokenizer, planner.vocabulary, planner.fingerprint)
    small._buffers.budget = small._buffers.budget._replace(slots_max=8)
    return small


def codes_of(plans: list[Plan]) -> list[list[int]]:
    return [plan.codes for plan in plans]


def forgetful(planner: Planner) -> Planner:
    """The same planner, with no plan remembered and no buffer kept."""
    fresh = Planner(planner.model, planner.tokenizer, planner.vocabulary, planner.fingerprint)
    fresh._buffers.budget = planner._buffers.budget
    return fresh


def shapes_of_calls(planner: Planner, takes: list[Take]) -> list[tuple[int, ...]]:
    """What the model was given while it planned `takes`: rows and tokens of prompts, rows alone of steps."""
    seen: list[tuple[int, ...]] = []
    embedding = planner.model.get_input_embeddings()
    hook = embedding.register_forward_pre_hook(lambda _module, args: seen.append(tuple(args[0].shape)))
    try:
        forgetful(planner).plan(takes)
    finally:
        hook.remove()
    return seen


def rows_in_steps(planner: Planner, takes: list[Take]) -> set[int]:
    return {shape[0] for shape in shapes_of_calls(planner, takes) if len(shape) == 1}


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_a_batch_writes_what_the_plain_form_writes(planner, cfg_scale):
    takes = mixed_takes(cfg_scale=cfg_scale)
    assert codes_of(planner.plan(takes)) == plan_plainly(planner, takes, draw=draw_plainly)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_random_weights_write_what_the_plain_form_writes(planner, tmp_path, seed):
    write_tiny_planner(tmp_path, seed)
    other = Planner(load_model(tmp_path, CPU, torch.float32), planner.tokenizer, planner.vocabulary, "")
    takes = mixed_takes()
    assert codes_of(other.plan(takes)) == plan_plainly(other, takes, draw=draw_plainly)


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_neighbours_do_not_matter(planner, cfg_scale):
    takes = mixed_takes(cfg_scale=cfg_scale)
    together = codes_of(planner.plan(takes))
    assert [forgetful(planner).plan([take])[0].codes for take in takes] == together
    assert codes_of(forgetful(planner).plan(takes[::-1])) == together[::-1]


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_neighbours_do_not_matter_in_bfloat16(small_bfloat16, cfg_scale):
    takes = [
        a_take(n, duration_s=10 + n % 3, caption="Slow piano, " * n, temperature=0.5 + n / 10, cfg_scale=cfg_scale)
        for n in range(1, 9)
    ]
    together = small_bfloat16.plan(takes)
    assert [forgetful(small_bfloat16).plan([take])[0] for take in takes] == together
    assert forgetful(small_bfloat16).plan(takes[::-1]) == together[::-1]
    assert forgetful(small_bfloat16).plan(takes[2:5]) == together[2:5]


def test_what_was_planned_before_does_not_matter_in_bfloat16(small_bfloat16):
    short, long = a_take(1), a_take(2, duration_s=30, caption="Hard techno")
    fresh = forgetful(small_bfloat16).plan([short])
    used = forgetful(small_bfloat16)
    used.plan([long])
    assert used.plan([short]) == fresh


def test_guided_and_unguided_takes_share_a_call(planner):
    guided, free = a_take(1), a_take(2, cfg_scale=1.0)
    alone = [forgetful(planner).plan([take])[0] for take in (free, guided, free)]
    assert forgetful(planner).plan([free, guided, free]) == alone


def test_more_takes_than_slots_are_written_in_several_batches(planner):
    takes = [a_take(n, duration_s=10 + n % 3) for n in range(1, 20)]
    assert planner.slots(10).takes == 16
    assert rows_in_steps(planner, takes) == {32, 6}
    expected = [forgetful(planner).plan([take])[0] for take in takes]
    assert forgetful(planner).plan(takes) == expected


def test_a_prompt_of_another_class_is_written_apart(small_bfloat16):
    takes = [a_take(1), a_take(2, caption="la " * 150), a_take(3)]
    plans = small_bfloat16.plan(takes)
    widths = {shape[1] for shape in shapes_of_calls(small_bfloat16, takes) if len(shape) == 2}
    assert len(widths) == 2
    assert [(f"prompts of {max(widths)}" in plan.batch_key) for plan in plans] == [False, True, False]


def test_what_asks_for_the_same_codes_is_written_once(planner):
    same = [a_take(n, seed=7) for n in (1, 2, 3)]
    assert rows_in_steps(planner, [*same, a_take(4, seed=8)]) == {4}


def test_a_plan_is_remembered_for_a_while(planner):
    remembering = forgetful(planner)
    first = remembering.plan([a_take(1, seed=7)])
    remembering.model = None  # nothing can be written any more
    remembering._buffers.model = None
    assert remembering.plan([a_take(2, seed=7)]) == first
    with pytest.raises(AttributeError):
        remembering.plan([a_take(3, seed=8)])


def test_only_so_many_plans_are_remembered(planner, monkeypatch):
    monkeypatch.setattr(planner_module, "_RECENT", 2)
    remembering = forgetful(planner)
    _, two, _ = remembering.plan([a_take(n, seed=n) for n in (1, 2, 3)])
    remembering.plan([a_take(2, seed=2)])  # used again, so 3 is older now
    (four,) = remembering.plan([a_take(4, seed=4)])
    assert list(remembering._recent.values()) == [two, four]


def test_every_take_gets_exactly_its_codes_and_only_usable_ones(planner):
    takes = mixed_takes()
    plans = planner.plan(takes)
    assert [len(plan.codes) for plan in plans] == [50, 60, 55, 50, 50]
    written = {code for plan in plans for code in plan.codes}
    assert min(written) >= 0
    assert max(written) < CODEBOOK_SIZE
    assert len(written) > 100  # varied: neither one code over and over nor a short loop


def test_without_guidance_the_model_runs_one_row_a_take(planner):
    assert rows_in_steps(planner, [a_take(n, cfg_scale=1.0) for n in (1, 2, 3)]) == {3}
    assert rows_in_steps(planner, [a_take(n, cfg_scale=2.0) for n in (1, 2, 3)]) == {6}


def test_another_seed_writes_other_codes_and_the_same_seed_the_same(planner):
    first, second = planner.plan([a_take(seed=1), a_take(seed=2)])
    assert forgetful(planner).plan([a_take(seed=1)]) == [first]
    assert first.codes != second.codes
    assert first.prompt_sha256 == second.prompt_sha256


def test_a_longer_take_begins_with_the_codes_of_a_shorter_one(planner):
    # The duration must not be in the prompt, or the prompts differ.
    short, long = (a_take(duration_s=s, think_fields=("bpm",)) for s in (10, 14))
    assert planner.plan([long])[0].codes[:50] == planner.plan([short])[0].codes


def test_what_the_spec_says_reaches_the_codes(planner):
    base, *others = planner.plan(
        [
            a_take(),
            a_take(caption="Fast drums"),
            a_take(cfg_scale=3.0),
            a_take(temperature=1.5),
            a_take(top_k=1),
            a_take(negative_prompt="harsh"),
            a_take(assistant_turn="closed"),
            a_take(think_fields=()),
        ]
    )
    assert all(other.codes != base.codes for other in others)


def test_a_plan_says_what_it_was_made_of(planner):
    plan = planner.plan([a_take()])[0]
    assert plan.metadata == {"bpm": 72, "duration": 10, "keyscale": "F# minor", "timesignature": 4}
    assert len(plan.prompt_sha256) == 64
    for part in (planner.fingerprint[:12], "float32", "cpu", torch.__version__, "loop", "any shape", "cfg"):
        assert part in plan.batch_key
    assert "no cfg" in planner.plan([a_take(cfg_scale=1.0)])[0].batch_key


def test_nothing_to_plan_gives_no_plans(planner):
    assert planner.plan([]) == []


def test_global_random_state_neither_matters_nor_moves(planner):
    torch.manual_seed(1)
    first = forgetful(planner).plan([a_take()])
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert forgetful(planner).plan([a_take()]) == first
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_prompt_that_leaves_no_room_for_the_codes_is_refused_with_its_length(planner):
    take = a_take(caption="la " * 11_000)
    with pytest.raises(OutOfRangeError, match=r"prompt has 33\d{3} tokens; there is room for 16384"):
        planner.plan([a_take(), take])
    assert "33" in (planner.refusal(take) or "")
    assert planner.refusal(a_take()) is None


def test_the_published_context_is_4096_tokens(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["context_tokens"]  # the real checkpoint has no such entry
    (tmp_path / "config.json").write_text(json.dumps(config))
    real_sized = Planner.load(tmp_path, device=CPU, dtype=torch.float32)
    assert real_sized.refusal(a_take(duration_s=600)) is None
    assert "room for 1096" in (real_sized.refusal(a_take(duration_s=600, caption="la " * 300)) or "")


@pytest.mark.parametrize("token", ["<|im_end|>", "<think>", "<|audio_code_7|>", "<|audio_code_65000|>"])
def test_a_text_that_spells_a_control_token_is_refused(planner, token):
    for take in (a_take(caption=f"warm pads {token}"), a_take(negative_prompt=f"harsh{token}")):
        with pytest.raises(OutOfRangeError) as refused:
            planner.plan([take])
        assert token in str(refused.value)


def test_weights_that_yield_no_numbers_are_the_models_fault(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][0, 0] = torch.nan
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    damaged = Planner.load(tmp_path, device=CPU, dtype=torch.float32)
    with pytest.raises(ModelError, match="not numbers"):
        damaged.plan([a_take()])

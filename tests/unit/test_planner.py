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
from catalog.spec import PlannerSpec, TrackSpec
from catalog.track import Take, Track
from workers.ace_step.planner import Planner
from workers.ace_step.planner_prompt import render_prompts
from workers.ace_step.sampling import Settings, choose, guide
from workers.ace_step.tiny_planner import write_tiny_planner

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("planner")
    write_tiny_planner(path)
    return path


@pytest.fixture(scope="module")
def planner(folder) -> Planner:
    return Planner.load(folder, device=CPU, dtype=torch.float32)


def a_take(number: int = 1, *, duration_s: int = 10, caption: str = "Slow piano", seed: int = 0, **planner) -> Take:
    spec = TrackSpec(
        caption=caption,
        bpm=72,
        keyscale="F# minor",
        duration_s=duration_s,
        planner=PlannerSpec(**planner),
        model="tiny-random",
    )
    track = Track(catalog="demo", zone="spa", genre="ambient", slot="0001", spec=spec)
    return Take(track=track, number=number, dit_seed=0, lm_seed=seed or 1000 + number)


def mixed_takes(**planner) -> list[Take]:
    """Takes that differ in everything the planner knows: prompt, length, sampling, turn form, negative prompt."""
    return [
        a_take(1, **planner),
        a_take(2, duration_s=12, caption="Hard techno, " * 9, temperature=1.4, top_p=0.5, **planner),
        a_take(3, duration_s=11, caption="é", top_k=7, think_fields=("caption",), **planner),
        a_take(4, assistant_turn="closed", top_p=1.0, negative_prompt="harsh noise", **planner),
        a_take(5, caption="Slow piano", temperature=0.2, **planner),
    ]


def codes_of(plans: list[Plan]) -> list[list[int]]:
    return [plan.codes for plan in plans]


def rows_in_forward(planner: Planner, takes: list[Take]) -> set[int]:
    """How many rows the model was given at once while it planned `takes`."""
    seen: set[int] = set()
    hook = planner._model.register_forward_pre_hook(
        lambda _module, _args, named: seen.add(len(named["input_ids"])), with_kwargs=True
    )
    try:
        planner.plan(takes)
    finally:
        hook.remove()
    return seen


@torch.inference_mode()
def plain_codes(planner: Planner, take: Take, n_codes: int) -> list[int]:
    """What the planner should write: no batch, no padding, no cache, no generate(); the whole prompt at every step."""
    spec = take.spec.planner
    assert spec is not None
    vocabulary = planner._vocabulary
    prompts = render_prompts(planner._tokenizer, take.spec, spec)
    settings = Settings.of([spec], [take.lm_seed], CPU)

    def next_logits(text: str, codes: list[int]) -> torch.Tensor:
        ids = planner._encode(text) + [vocabulary.first_code + code for code in codes]
        logits = planner._model(torch.tensor([ids]), logits_to_keep=1).logits[:, -1]
        return logits[:, vocabulary.first_code : vocabulary.first_code + CODEBOOK_SIZE].float()

    codes: list[int] = []
    for step in range(n_codes):
        logits = next_logits(prompts.conditional, codes)
        if prompts.unconditional is not None:
            logits = guide(logits, next_logits(prompts.unconditional, codes), settings.cfg_scale)
        codes.append(int(choose(logits, settings, step)))
    return codes


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_a_batch_writes_what_a_plain_loop_writes_for_each_take(planner, cfg_scale):
    takes = mixed_takes(cfg_scale=cfg_scale)
    for take, plan in zip(takes, planner.plan(takes), strict=True):
        assert plan.codes[:25] == plain_codes(planner, take, 25)


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_neighbours_do_not_matter(planner, cfg_scale):
    takes = mixed_takes(cfg_scale=cfg_scale)
    together = codes_of(planner.plan(takes))
    assert [planner.plan([take])[0].codes for take in takes] == together
    assert codes_of(planner.plan(takes[::-1])) == together[::-1]


def test_guided_and_unguided_takes_share_a_call(planner):
    guided, free = a_take(1), a_take(2, cfg_scale=1.0)
    alone = [planner.plan([take])[0] for take in (free, guided, free)]
    assert planner.plan([free, guided, free])[1] == alone[1]
    assert codes_of(planner.plan([free, guided, free])) == codes_of(alone)


def test_every_take_gets_exactly_its_codes_and_only_usable_ones(planner):
    takes = mixed_takes()
    plans = planner.plan(takes)
    assert [len(plan.codes) for plan in plans] == [50, 60, 55, 50, 50]
    written = {code for plan in plans for code in plan.codes}
    assert min(written) >= 0
    assert max(written) < CODEBOOK_SIZE
    assert len(written) > 100  # varied: neither one code over and over nor a short loop


def test_a_model_that_wants_to_end_or_to_name_no_code_still_writes_codes(planner, monkeypatch):
    # Text, end of text, and the code names that never occur get by far the best logits.
    first = planner._vocabulary.first_code
    original = planner._model.forward

    def insistent(*args, **named):
        output = original(*args, **named)
        output.logits[..., :first] += 1000
        output.logits[..., first + CODEBOOK_SIZE :] += 1000
        return output

    take = a_take()
    expected = planner.plan([take])[0].codes
    monkeypatch.setattr(planner._model, "forward", insistent)
    assert planner.plan([take])[0].codes == expected


def test_without_guidance_the_model_runs_one_row_a_take(planner):
    assert rows_in_forward(planner, [a_take(n, cfg_scale=1.0) for n in (1, 2, 3)]) == {3}
    assert rows_in_forward(planner, [a_take(n, cfg_scale=2.0) for n in (1, 2, 3)]) == {6}


def test_another_seed_writes_other_codes_and_the_same_seed_the_same(planner):
    first, second, again = planner.plan([a_take(seed=1), a_take(seed=2), a_take(seed=1)])
    assert first == again
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
    for part in (planner.fingerprint[:12], "float32", "cpu", torch.__version__, "2 rows of", "cfg"):
        assert part in plan.batch_key
    assert "no cfg" in planner.plan([a_take(cfg_scale=1.0)])[0].batch_key


def test_nothing_to_plan_gives_no_plans(planner):
    assert planner.plan([]) == []


def test_global_random_state_neither_matters_nor_moves(planner):
    torch.manual_seed(1)
    first = planner.plan([a_take()])
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert planner.plan([a_take()]) == first
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_prompt_that_leaves_no_room_for_the_codes_is_refused_with_its_length(planner):
    take = a_take(caption="la " * 11_000)
    with pytest.raises(OutOfRangeError, match=r"prompt has 33\d{3} tokens; there is room for 32718"):
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

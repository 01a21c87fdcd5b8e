"""Sampling against a plain reimplementation: integers by hand, probabilities in float64."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from catalog.spec import PlannerSpec
from tests.support.plain_planner import draw_plainly
from workers.ace_step.planner import sampling
from workers.ace_step.planner.sampling import (
    SamplingParams,
    choose,
    choose_on_device,
    guide,
    gumbel_noise,
    hash_uniform,
)

CPU = torch.device("cpu")
SEED = 0x1234_5678_9ABC_DEF0
# Of seeds 0 and SEED at step 7, for codes 0, 1 and 63,999. Stored codes rest on them.
GOLDEN_BITS = [[5862386.5, 5688470.5, 420992.5], [2518117.5, 5035968.5, 1413840.5]]


def murmur3(message: bytes, seed: int = 0) -> int:
    """MurmurHash3_x86_32 of whole words, from its definition."""

    def rotate(value: int, bits: int) -> int:
        return ((value << bits) | (value >> (32 - bits))) & 0xFFFFFFFF

    state = seed
    for (word,) in struct.iter_unpack("<I", message):
        scrambled = rotate(word * 0xCC9E2D51 & 0xFFFFFFFF, 15) * 0x1B873593 & 0xFFFFFFFF
        state = (rotate(state ^ scrambled, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    state ^= len(message)
    state = (state ^ (state >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    state = (state ^ (state >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return state ^ (state >> 16)


def plain_uniform(seed: int, step: int, code: int) -> float:
    return ((murmur3(struct.pack("<QII", seed, step, code)) >> 9) + 0.5) / 2**23


def plain_choice(logits: np.ndarray, spec: PlannerSpec, seed: int, step: int) -> int:
    """Top-k, top-p on unscaled logits, temperature, Gumbel-max; float64 and a full sort."""
    order = [int(code) for code in np.argsort(-logits, kind="stable")]
    if spec.top_k:
        order = order[: spec.top_k]
    weights = np.exp(logits[order] - logits[order].max())
    probabilities = weights / weights.sum()
    before = np.concatenate([[0.0], np.cumsum(probabilities)[:-1]])
    kept = [code for code, mass in zip(order, before, strict=True) if spec.top_p >= 1 or mass <= spec.top_p]
    return max(kept, key=lambda c: logits[c] / spec.temperature - math.log(-math.log(plain_uniform(seed, step, c))))


def some_logits(rows: int, codes: int, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, codes, generator=torch.Generator().manual_seed(rows * codes)) * scale


def settings(*specs: PlannerSpec, seed: int = SEED) -> SamplingParams:
    return SamplingParams.of(specs, [seed + row for row in range(len(specs))], CPU)


SPECS = [
    PlannerSpec(temperature=temperature, top_p=top_p, top_k=top_k)
    for temperature in (0.3, 0.85, 1.6)
    for top_p in (0.2, 0.9, 1.0)
    for top_k in (0, 1, 7, 40)
]


def test_the_hash_is_murmur3():
    # Published test vectors of the plain reimplementation, which the next test holds ours to.
    assert murmur3(b"test") == 0xBA6BD213
    assert murmur3(b"aaaa", 0x9747B28C) == 0x5A97808A


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, SEED, 2**63 - 1])
@pytest.mark.parametrize("step", [0, 1, 2999])
def test_uniform_numbers_equal_the_plain_reimplementation(seed, step):
    codes = torch.tensor([0, 1, 255, 31_337, 63_999])
    ours = hash_uniform(torch.tensor(seed), step, codes)
    assert ours.tolist() == [plain_uniform(seed, step, int(code)) for code in codes]


def test_uniform_numbers_never_change():
    bits = hash_uniform(torch.tensor([[0], [SEED]]), 7, torch.tensor([0, 1, 63_999])) * 2**23
    assert bits.tolist() == GOLDEN_BITS


def test_uniform_numbers_are_uniform():
    drawn = hash_uniform(torch.arange(50)[:, None], 3, torch.arange(20_000)[None, :]).double()
    assert 0 < drawn.min() < drawn.max() < 1
    # A million draws: the standard error of the mean is 2.9e-4, of the variance 7.5e-5.
    assert drawn.mean().item() == pytest.approx(0.5, abs=1.2e-3)
    assert drawn.var().item() == pytest.approx(1 / 12, abs=3e-4)


@pytest.mark.parametrize("lag", ["seed", "step", "code"])
def test_neighbouring_keys_are_uncorrelated(lag):
    seed, step, codes = torch.tensor(SEED), 5, torch.arange(100_000)
    here = hash_uniform(seed, step, codes)
    there = hash_uniform(seed + (lag == "seed"), step + (lag == "step"), codes + (lag == "code"))
    assert abs(torch.corrcoef(torch.stack([here, there]))[0, 1].item()) < 0.013  # four standard errors


def test_gumbel_noise_is_finite_at_both_ends():
    noise = gumbel_noise(torch.tensor(SEED), 0, torch.arange(1_000_000))
    assert noise.isfinite().all()
    assert noise.double().mean().item() == pytest.approx(np.euler_gamma, abs=0.006)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"t{s.temperature}-p{s.top_p}-k{s.top_k}")
def test_choices_equal_the_plain_reimplementation(spec):
    logits = some_logits(rows=4, codes=300)
    for step in range(20):
        chosen = choose(logits, settings(*[spec] * 4), step)
        expected = [plain_choice(row.double().numpy(), spec, SEED + i, step) for i, row in enumerate(logits)]
        assert chosen.tolist() == expected


def test_every_row_has_its_own_settings():
    logits = some_logits(rows=len(SPECS), codes=300)
    together = choose(logits, settings(*SPECS), step=4)
    expected = [plain_choice(row.double().numpy(), SPECS[i], SEED + i, 4) for i, row in enumerate(logits)]
    assert together.tolist() == expected


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0, 30.0])
def test_drawing_unseen_chooses_the_same(scale):
    logits = some_logits(rows=len(SPECS), codes=5000, scale=scale)
    for step in range(5):
        assert (
            choose_on_device(logits, settings(*SPECS), step).tolist() == choose(logits, settings(*SPECS), step).tolist()
        )
    free = settings(*[spec for spec in SPECS if not spec.top_k])
    unlimited = choose_on_device(logits[: len(free.seed)], free, 9, limited=False)
    assert unlimited.tolist() == choose(logits[: len(free.seed)], free, 9).tolist()


def test_picking_out_few_codes_or_looking_at_all_chooses_the_same(monkeypatch):
    logits = some_logits(rows=len(SPECS), codes=300)
    expected = [choose(logits, settings(*SPECS), step).tolist() for step in range(10)]
    for share in (0.0, 1.0):  # always all; always the few
        monkeypatch.setattr(sampling, "_MANY", share)
        assert [choose(logits, settings(*SPECS), step).tolist() for step in range(10)] == expected


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_codes_of_a_full_vocabulary_equal_a_full_sort_in_float64(scale):
    logits, specs = some_logits(rows=8, codes=64_000, scale=scale), [SPECS[n] for n in (0, 3, 4, 8, 11, 15, 20, 28)]
    for step in range(3):
        expected = draw_plainly(logits, settings(*specs), step)
        assert choose(logits, settings(*specs), step).tolist() == expected.tolist()


@given(
    st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=40),
    st.lists(st.integers(0, 2**40), min_size=40, max_size=40),
    st.integers(0, 2**41),
)
def test_the_edge_is_where_weights_up_to_it_exceed_the_target(ranks, weights, target):
    weights = weights[: len(ranks)]
    upto = {edge: sum(weight for rank, weight in zip(ranks, weights, strict=True) if rank <= edge) for edge in ranks}
    beyond = [edge for edge, total in upto.items() if total > target]
    found = sampling._find_edge(
        torch.tensor([ranks], dtype=torch.int32), torch.tensor([weights]), torch.tensor([target])
    )
    assert found.item() == (min(beyond) if beyond else 2**31 - 1)


@given(st.integers(0, 2**53 - 1), st.integers(1, 2**30))
def test_shares_are_exact(total, p):
    assert sampling._share(torch.tensor(total), torch.tensor(p)).item() == total * p // 2**30


@pytest.mark.parametrize("damage", [math.nan, -math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_still_choose_some_code_and_spoil_no_other_row(damage):
    logits = some_logits(rows=len(SPECS), codes=300)
    expected = choose(logits, settings(*SPECS), 1)
    logits[5] = damage
    logits[7, 100] = damage
    for draw in (choose, choose_on_device):
        chosen = draw(logits, settings(*SPECS), 1)
        assert ((chosen >= 0) & (chosen < 300)).all()
        sound = [row for row in range(len(SPECS)) if row not in {5, 7}]
        assert torch.equal(chosen[sound], expected[sound])


def test_a_step_on_the_device_draws_like_its_number():
    logits = some_logits(rows=len(SPECS), codes=300)
    for step in (0, 7, 2999):
        expected = choose(logits, settings(*SPECS), step)
        assert torch.equal(choose(logits, settings(*SPECS), torch.tensor([step])), expected)


def test_equal_logits_at_the_edge_of_the_nucleus_all_stay_in():
    # Four codes of probability 1/4: the smallest set above one half needs three, and the fourth ties with it.
    flat = settings(*[PlannerSpec(top_p=0.5, temperature=1.0)] * 400)
    assert set(choose(torch.zeros(400, 4), flat, step=0).tolist()) == {0, 1, 2, 3}
    limited = settings(*[PlannerSpec(top_k=2, top_p=1.0)] * 400)
    assert set(choose(torch.zeros(400, 4), limited, step=0).tolist()) == {0, 1, 2, 3}


def test_codes_come_as_often_as_their_probability_says():
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -4.0])
    rows, temperature = 40_000, 0.7
    spec = PlannerSpec(temperature=temperature, top_p=1.0)
    blocks = [settings(*[spec] * 1000, seed=SEED + first) for first in range(0, rows, 1000)]
    drawn = torch.cat([choose(logits.expand(1000, -1), block, step=11) for block in blocks])
    probability = (logits / temperature).softmax(0)
    error = (torch.bincount(drawn, minlength=6) / rows - probability).abs()
    assert (error < 4 * (probability * (1 - probability) / rows).sqrt()).all()


def test_another_seed_or_step_chooses_otherwise():
    logits, spec = some_logits(rows=1, codes=300), PlannerSpec(top_p=1.0, temperature=2.0)
    by_step = {choose(logits, settings(spec), step).item() for step in range(20)}
    by_seed = {choose(logits, settings(spec, seed=seed), 0).item() for seed in range(20)}
    assert len(by_step) > 10
    assert len(by_seed) > 10


def test_guidance_moves_away_from_the_unconditional():
    conditional, unconditional = torch.tensor([[1.0, 2.0], [1.0, 2.0]]), torch.tensor([[0.0, 4.0], [0.0, 4.0]])
    assert guide(conditional, unconditional, torch.tensor([2.0, 1.0])).tolist() == [[2.0, 0.0], [1.0, 2.0]]

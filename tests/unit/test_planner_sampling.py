"""Sampling against a plain reimplementation: integers by hand, probabilities in float64."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch

from catalog.spec import PlannerSpec
from workers.ace_step import sampling
from workers.ace_step.sampling import Settings, choose, guide, gumbel_noise, hash_uniform

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


def settings(*specs: PlannerSpec, seed: int = SEED) -> Settings:
    return Settings.of(specs, [seed + row for row in range(len(specs))], CPU)


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


@pytest.mark.parametrize("width", [1, 2, 9, 64, 299])
def test_how_many_candidates_are_looked_at_first_changes_nothing(monkeypatch, width):
    logits = some_logits(rows=len(SPECS), codes=300)
    expected = [choose(logits, settings(*SPECS), step).tolist() for step in range(10)]
    monkeypatch.setattr(sampling, "CANDIDATES", width)
    assert [choose(logits, settings(*SPECS), step).tolist() for step in range(10)] == expected


def test_equal_logits_at_the_edge_of_the_nucleus_all_stay_in():
    # Four codes of probability 1/4: the smallest set above one half needs three, and the fourth ties with it.
    flat = settings(*[PlannerSpec(top_p=0.5, temperature=1.0)] * 400)
    assert set(choose(torch.zeros(400, 4), flat, step=0).tolist()) == {0, 1, 2, 3}
    limited = settings(*[PlannerSpec(top_k=2, top_p=1.0)] * 400)
    assert set(choose(torch.zeros(400, 4), limited, step=0).tolist()) == {0, 1, 2, 3}


def test_codes_come_as_often_as_their_probability_says():
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -4.0])
    rows, temperature = 40_000, 0.7
    drawn = choose(
        logits.expand(rows, -1), settings(*[PlannerSpec(temperature=temperature, top_p=1.0)] * rows), step=11
    )
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

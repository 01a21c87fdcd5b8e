"""Sampling audio codes: the same seed and step draw the same code, whatever else is in the batch.

Randomness is a hash of (seed, step, code), not a generator: there is no state to share, so a draw depends on
neither the batch, nor the row, nor how long the sequence will become. The hash is integer arithmetic and gives
the same bits on every device. From guided logits to a code the order is fixed: top-k, then top-p on the
*unscaled* logits, then temperature, then Gumbel-max. Source: the PyTorch backend of ACE-Step 1.5 (2026-02), which
ends in multinomial instead; Gumbel-max has the same distribution, and unlike inverse-CDF sampling it rarely
changes its choice when rounding moves the logits a little.

Everything here is a pure function of tensors and keeps the row axis first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from catalog.spec import PlannerSpec

# Nearly every nucleus lies inside the best 4096 of 64,000; a row whose nucleus does not is sorted in full.
CANDIDATES = 4096

_WORD = 0xFFFFFFFF  # the low 32 bits; int64 products wrap around and leave those right


class Settings(NamedTuple):
    """How each row is sampled; every tensor has shape (rows,)."""

    seed: torch.Tensor  # int64, in [0, 2**63)
    cfg_scale: torch.Tensor  # float32
    temperature: torch.Tensor  # float32, above 0
    top_p: torch.Tensor  # float32, in (0, 1]; 1 is off
    top_k: torch.Tensor  # int64; 0 is off

    @classmethod
    def of(cls, specs: Sequence[PlannerSpec], seeds: Sequence[int], device: torch.device) -> Settings:
        """One row for each spec and its seed."""

        def floats(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        return cls(
            seed=torch.tensor(list(seeds), dtype=torch.int64, device=device),
            cfg_scale=floats([spec.cfg_scale for spec in specs]),
            temperature=floats([spec.temperature for spec in specs]),
            top_p=floats([spec.top_p for spec in specs]),
            top_k=torch.tensor([spec.top_k for spec in specs], dtype=torch.int64, device=device),
        )

    def rows(self, index: torch.Tensor) -> Settings:
        """The settings of the rows that `index` (int64) names."""
        return Settings(*(column[index] for column in self))


def guide(conditional: torch.Tensor, unconditional: torch.Tensor, cfg_scale: torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance, u + s * (c - u): float32 logits (rows, vocabulary), one scale a row."""
    return unconditional + cfg_scale[:, None] * (conditional - unconditional)


def choose(logits: torch.Tensor, settings: Settings, step: int) -> torch.Tensor:
    """Draw one code a row from float32 `logits` (rows, codes): int64 (rows,), each in [0, codes).

    `step` counts the codes already drawn. A column number is the code that the noise is keyed by.
    """
    chosen, settled = _choose_among(logits, settings, step, min(CANDIDATES, logits.shape[1]))
    if not bool(settled.all()):
        # Only the rows that need it, so that no row's arithmetic depends on its neighbours.
        rows = (~settled).nonzero().squeeze(1)
        chosen[rows], _ = _choose_among(logits[rows], settings.rows(rows), step, logits.shape[1])
    return chosen


def _choose_among(logits: torch.Tensor, settings: Settings, step: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw among the `width` best codes; the second tensor says for which rows these were enough to look at."""
    best, codes = logits.topk(width, dim=1)
    cutoffs = find_cutoffs(logits, best, settings.top_k, settings.top_p)
    noisy = best / settings.temperature[:, None] + gumbel_noise(settings.seed[:, None], step, codes)
    winner = noisy.masked_fill(best < cutoffs.nucleus[:, None], -torch.inf).argmax(dim=1, keepdim=True)
    # A cutoff equal to the last candidate may have more of its kind beyond it.
    within = (cutoffs.nucleus > best[:, -1]) & ((settings.top_k == 0) | (cutoffs.top_k > best[:, -1]))
    settled = within if width < logits.shape[1] else torch.ones_like(within)
    return codes.gather(1, winner).squeeze(1), settled


class Cutoffs(NamedTuple):
    """The least logits that are kept, float32 (rows,)."""

    top_k: torch.Tensor  # by top-k alone; where it is off, the last candidate
    nucleus: torch.Tensor  # by top-k and then top-p


def find_cutoffs(logits: torch.Tensor, best: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> Cutoffs:
    """Where top-k and then top-p cut off each row; right if no cutoff in use is the last candidate.

    `best` (rows, width) is the largest of `logits`, in falling order. Codes that tie with a cutoff are all kept,
    so the order in which a device sorts equal logits decides nothing. The nucleus is the smallest set of best
    codes whose probability, renormalised after top-k, exceeds `top_p`.
    """
    width = best.shape[1]
    limited = top_k > 0
    last = torch.where(limited, top_k, width).clamp(max=width) - 1
    least = best.gather(1, last[:, None])
    survivors = best.masked_fill(best < least, -torch.inf)
    total = torch.where(limited, survivors.logsumexp(dim=1), logits.logsumexp(dim=1))
    upto = (survivors - total[:, None]).exp().cumsum(dim=1)
    before = torch.nn.functional.pad(upto[:, :-1], (1, 0))
    kept = ((before <= top_p[:, None]) | (top_p >= 1)[:, None]) & survivors.isfinite()
    nucleus = survivors.gather(1, kept.sum(dim=1, keepdim=True) - 1)
    return Cutoffs(least.squeeze(1), nucleus.squeeze(1))


def gumbel_noise(seed: torch.Tensor, step: int, code: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, -log(-log(u)), float32; the shapes of `seed` and `code` broadcast.

    The uniform numbers beneath are the same bits everywhere; the logarithms of two devices may differ in the last.
    """
    return -(-hash_uniform(seed, step, code).log()).log()


def hash_uniform(seed: torch.Tensor, step: int, code: torch.Tensor) -> torch.Tensor:
    """Uniform numbers in (0, 1), never 0 or 1: float32 with 23 random bits, exact on every device.

    `seed` (int64, 64 bits used), `step` and `code` (int64, 32 bits used) are hashed with MurmurHash3's 32-bit
    variant as four little-endian words: seed low, seed high, step, code. `seed` and `code` broadcast.
    """
    state = torch.zeros_like(seed)
    for word in (seed & _WORD, (seed >> 32) & _WORD, torch.full_like(seed, step & _WORD)):
        state = _absorb(state, word)
    bits = _finish(_absorb(state, code & _WORD), n_bytes=16)
    # 23 bits, so that adding a half is exact in float32.
    return ((bits >> 9).to(torch.float32) + 0.5) * 2.0**-23


def _absorb(state: torch.Tensor, word: torch.Tensor) -> torch.Tensor:
    word = _rotate(word * 0xCC9E2D51 & _WORD, 15) * 0x1B873593 & _WORD
    return (_rotate(state ^ word, 13) * 5 + 0xE6546B64) & _WORD


def _rotate(value: torch.Tensor, bits: int) -> torch.Tensor:
    return ((value << bits) | (value >> (32 - bits))) & _WORD


def _finish(state: torch.Tensor, n_bytes: int) -> torch.Tensor:
    state = state ^ n_bytes
    state = (state ^ (state >> 16)) * 0x85EBCA6B & _WORD
    state = (state ^ (state >> 13)) * 0xC2B2AE35 & _WORD
    return state ^ (state >> 16)

"""Sampling audio codes: the same seed and step draw the same code, whatever other takes are in the batch.

Randomness is a hash of (seed, step, code) and not a generator. So rows share no state, and a draw depends neither on
the batch, nor on the row, nor on the final length of the sequence. The hash is integer arithmetic and gives the same
bits on every device. From guided logits to a code, the order is fixed: top-k, then top-p on the *unscaled* logits, then
temperature, then Gumbel-max. Source: the PyTorch backend of ACE-Step 1.5 (2026-02), which ends in multinomial instead.
Gumbel-max has the same distribution; unlike inverse-CDF sampling, it rarely changes its choice when rounding changes
the logits a little.

The cut-offs of top-k and top-p are found without sorting, digit by digit, in histograms of integers. Integer sums are
exact and the same in any order of adding, on any device, so a row's choice depends only on its own logits, to the bit.
Two functions give the same code. `choose_on_device` has a fixed shape and never makes the host wait. `choose` reads the
first digit on the host and continues with the few remaining codes, which is faster on the CPU, where the host reads
without waiting.

Every function here is a pure function of tensors and keeps the row axis first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch

from catalog.spec import PlannerSpec

_P_BITS: Final = 30  # top-p is a whole number of 2**-30
_ALL: Final = 1 << _P_BITS
_MASS_BITS: Final = 36  # the best code weighs 2**36, so that a vocabulary weighs less than 2**53


_MANY: Final = 1 / 8  # of all codes: with more of them that matter, picking them out costs more than it saves


class _Digit(NamedTuple):
    """Some bits of a float32 that is not negative; such numbers sort like their bits."""

    shift: int
    bits: int


_DIGITS: Final = (_Digit(20, 11), _Digit(10, 10), _Digit(0, 10))


class SamplingParams(NamedTuple):
    """The sampling parameters of each row; every tensor has shape (rows,)."""

    seed: torch.Tensor  # int64, in [0, 2**63)
    cfg_scale: torch.Tensor  # float32
    temperature: torch.Tensor  # float32, above 0
    top_p: torch.Tensor  # int64, in (0, 2**30]; 2**30 is off
    top_k: torch.Tensor  # int64; 0 is off

    @classmethod
    def of(cls, specs: Sequence[PlannerSpec], seeds: Sequence[int], device: torch.device) -> SamplingParams:
        """One row for each spec and its seed."""

        def column(values: list[float] | list[int], dtype: torch.dtype) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        return cls(
            seed=column(list(seeds), torch.int64),
            cfg_scale=column([spec.cfg_scale for spec in specs], torch.float32),
            temperature=column([spec.temperature for spec in specs], torch.float32),
            top_p=column([max(1, round(spec.top_p * _ALL)) for spec in specs], torch.int64),
            top_k=column([spec.top_k for spec in specs], torch.int64),
        )

    def row(self, number: int) -> SamplingParams:
        """The parameters of one row."""
        return SamplingParams(*(column[number : number + 1] for column in self))


def guide(conditional: torch.Tensor, unconditional: torch.Tensor, cfg_scale: torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance, u + s * (c - u): float32 logits (rows, vocabulary), one scale a row."""
    return (conditional - unconditional).mul_(cfg_scale[:, None]).add_(unconditional)


def choose(logits: torch.Tensor, params: SamplingParams, step: int | torch.Tensor) -> torch.Tensor:
    """Draw one code a row from float32 `logits` (rows, codes): int64 (rows,), each in [0, codes).

    `step` counts the codes already drawn. A column number is the code that the noise is keyed by. The host waits for
    the device: see `choose_on_device`.
    """
    codes = _choose_without_top_k(logits, params, step)
    for row in params.top_k.nonzero().flatten().tolist():
        codes[row] = choose_on_device(logits[row : row + 1], params.row(row), step)[0]
    return codes


def choose_on_device(
    logits: torch.Tensor, params: SamplingParams, step: int | torch.Tensor, *, limited: bool = True
) -> torch.Tensor:
    """The codes that `choose` draws, by work of fixed shape on the device; no row may use top-k unless `limited`."""
    behind = logits.amax(dim=1, keepdim=True) - logits
    rank = behind.view(torch.int32)
    mass = _mass(behind)
    outside = None
    if limited:
        last = _find_edge(rank, torch.ones_like(mass), params.top_k - 1)
        outside = (rank > last) & (params.top_k > 0)[:, None]
        mass = mass.masked_fill_(outside, 0)
    last = _find_edge(rank, mass, _share(mass.sum(dim=1), params.top_p))
    beyond = (rank > last) & (params.top_p < _ALL)[:, None]
    noise = gumbel_noise(params.seed[:, None], step, torch.arange(logits.shape[1], device=logits.device))
    noisy = (logits / params.temperature[:, None]).add_(noise).masked_fill_(beyond, -torch.inf)
    return (noisy if outside is None else noisy.masked_fill_(outside, -torch.inf)).argmax(dim=1)


def _choose_without_top_k(logits: torch.Tensor, params: SamplingParams, step: int | torch.Tensor) -> torch.Tensor:
    """Draw with top-p alone; codes beyond the digit in which top-p ends are not examined again."""
    rows, n_codes = logits.shape
    behind = logits.amax(dim=1, keepdim=True) - logits
    mass = _mass(behind)
    target = _share(mass.sum(dim=1), params.top_p)
    first, *others = _DIGITS
    edge = _next_digit(_Edge.start(rows, logits.device), behind.view(torch.int32), mass, target, first)
    row, code = (behind.view(torch.int32) >> first.shift <= edge.found).nonzero(as_tuple=True)
    if len(row) > _MANY * logits.numel():
        return choose_on_device(logits, params, step, limited=False)
    rank, mass = behind.view(torch.int32)[row, code], mass[row, code]
    for digit in others:
        edge = _next_digit(edge, rank, mass, target, digit, row)
    noisy = logits[row, code] / params.temperature[row] + gumbel_noise(params.seed[row], step, code)
    noisy.masked_fill_(rank > edge.found[row, 0], -torch.inf)
    best = torch.full_like(logits[:, 0], -torch.inf).scatter_reduce_(0, row, noisy, "amax")
    # The lowest code where two are equal; in range even where logits are no numbers.
    winner = row.new_full((rows,), n_codes - 1)
    return winner.scatter_reduce_(0, row, code.masked_fill(noisy != best[row], n_codes - 1), "amin")


def _mass(behind: torch.Tensor) -> torch.Tensor:
    """Probabilities as whole numbers, int64; `behind` is how far below the best a logit is."""
    return behind.neg().exp_().mul_(2.0**_MASS_BITS).to(torch.int64)


def _share(total: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """floor(total * p / 2**30) for 0 <= total < 2**53, without leaving int64."""
    low = total & (_ALL - 1)
    return (total >> _P_BITS) * p + ((low * p) >> _P_BITS)


class _Edge(NamedTuple):
    """The least rank where weights up to it sum to more than a target, as far as it is known."""

    found: torch.Tensor  # int32 (rows, 1), its upper digits
    below: torch.Tensor  # int64 (rows, 1), the weight of all ranks with smaller upper digits

    @classmethod
    def start(cls, rows: int, device: torch.device) -> _Edge:
        """An edge of which nothing is known."""
        return cls(*(torch.zeros(rows, 1, dtype=dtype, device=device) for dtype in (torch.int32, torch.int64)))


def _find_edge(rank: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The least rank such that the weights of all up to it sum to more than `target`, int32 (rows, 1).

    `rank` (rows, codes) is int32 and not negative, `weight` int64, `target` int64 (rows,). Where there is none: the
    largest rank of all.
    """
    edge = _Edge.start(len(rank), rank.device)
    for digit in _DIGITS:
        edge = _next_digit(edge, rank, weight, target, digit)
    return edge.found


def _next_digit(
    edge: _Edge,
    rank: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    digit: _Digit,
    row: torch.Tensor | None = None,
) -> _Edge:
    """Find one digit more. With `row`, ranks and weights are a list in which each element names its row."""
    rows, values = len(target), 1 << digit.bits
    if digit is not _DIGITS[0]:
        upper = edge.found if row is None else edge.found[row, 0]
        weight = weight.masked_fill(rank >> (digit.shift + digit.bits) != upper, 0)
    value = (rank >> digit.shift).bitwise_and_(values - 1).to(torch.int64)
    if row is None:
        weights = weight.new_zeros(rows, values).scatter_add_(1, value, weight)
    else:
        weights = weight.new_zeros(rows * values).scatter_add_(0, value + row * values, weight).view(rows, values)
    upto = torch.cat([edge.below, weights.cumsum(dim=1).add_(edge.below)], dim=1)
    # How many values do not reach beyond the target; none does when the logits are no numbers.
    short = (upto[:, 1:] <= target[:, None]).sum(dim=1, keepdim=True).clamp_(max=values - 1)
    return _Edge((edge.found << digit.bits) | short.to(torch.int32), upto.gather(1, short))


def gumbel_noise(seed: torch.Tensor, step: int | torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, -log(-log(u)), float32; the shapes of `seed` and `code` broadcast.

    The uniform numbers beneath are the same bits everywhere; the logarithms of two devices may differ in the last.
    """
    return -(-hash_uniform(seed, step, code).log()).log()


def hash_uniform(seed: torch.Tensor, step: int | torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Uniform numbers in (0, 1), never 0 or 1: float32 with 23 random bits, exact on every device.

    `seed` (int64, 64 bits used), `step` and `code` (int64, 32 bits used) are hashed with MurmurHash3's 32-bit
    variant as four little-endian words: seed low, seed high, step, code. All three broadcast; a `step` on the
    device need not be known to the host.
    """
    step_word = _scramble(torch.zeros_like(seed) + step)
    state = torch.zeros_like(seed, dtype=torch.int32)
    for word in (_scramble(seed), _scramble(seed >> 32), step_word, _scramble(code)):
        state = _rotate(state ^ word, 13).mul_(5).add_(_word(0xE6546B64))
    # 23 bits, so that adding a half is exact in float32.
    return _finish(state, n_bytes=16).to(torch.float32).add_(0.5).mul_(2.0**-23)


def _word(constant: int) -> int:
    """32 bits as the int32 that has them: products and sums wrap around alike."""
    return constant - (1 << 32) if constant >> 31 else constant


def _scramble(word: torch.Tensor) -> torch.Tensor:
    """The low 32 bits of an int64 word, made ready to be absorbed; int32."""
    return _rotate(word.to(torch.int32).mul(_word(0xCC9E2D51)), 15).mul_(_word(0x1B873593))


def _rotate(value: torch.Tensor, bits: int) -> torch.Tensor:
    return (value << bits).bitwise_or_(_shift(value, 32 - bits))


def _shift(value: torch.Tensor, bits: int) -> torch.Tensor:
    """To the right, filled with zeros; int32 itself would fill with the sign."""
    return (value >> bits).bitwise_and_((1 << (32 - bits)) - 1)


def _finish(state: torch.Tensor, n_bytes: int) -> torch.Tensor:
    """The hash's upper 23 bits."""
    state = state ^ n_bytes
    state = state.bitwise_xor_(_shift(state, 16)).mul_(_word(0x85EBCA6B))
    state = state.bitwise_xor_(_shift(state, 13)).mul_(_word(0xC2B2AE35))
    return _shift(state.bitwise_xor_(_shift(state, 16)), 9)

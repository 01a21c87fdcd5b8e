"""The plain planner: a simple and correct implementation, with which the tests compare the fast one.

transformers' `generate()` runs over the whole batch with a single logits processor that guides, draws and forces each
code. In float32, it writes exactly the codes that `Planner.plan` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from catalog.limits import CODEBOOK_SIZE
from catalog.track import Take
from workers.ace_step.planner.codes import DecodeRequest
from workers.ace_step.planner.planner import Planner
from workers.ace_step.planner.sampling import SamplingParams, choose, guide, gumbel_noise

# From float32 logits (rows, codes), their parameters and the number of the step to one code a row.
Draw = Callable[[torch.Tensor, SamplingParams, int], torch.Tensor]


def plan_plainly(planner: Planner, takes: Sequence[Take], *, draw: Draw = choose) -> list[list[int]]:
    """The codes of `takes`, in one call of `generate()`; they must be all guided or all not.

    `draw` is how codes are drawn: the planner's own way, so that times can be compared, or `draw_plainly`.
    """
    requests, vocabulary = planner.requests(takes), planner.vocabulary
    return write_plainly(planner.model, requests, vocabulary.first_code, vocabulary.pad, draw)


def draw_plainly(logits: torch.Tensor, params: SamplingParams, step: int) -> torch.Tensor:
    """`choose` by its definition: a full sort, probabilities in float64, noise for every code."""
    best, codes = logits.sort(dim=1, descending=True, stable=True)
    places = torch.arange(best.shape[1])
    last = torch.where(params.top_k > 0, params.top_k, best.shape[1]) - 1
    allowed = best >= best.gather(1, last[:, None])
    probability = best.double().masked_fill(~allowed, -torch.inf).softmax(dim=1)
    before = probability.cumsum(dim=1) - probability
    p = params.top_p.double()[:, None] / 2**30
    size = (allowed & ((before <= p) | (p >= 1))).sum(dim=1, keepdim=True)
    kept = (places < size) | (best == best.gather(1, size - 1))
    noisy = best / params.temperature[:, None] + gumbel_noise(params.seed[:, None], step, codes)
    return codes.gather(1, noisy.masked_fill(~kept, -torch.inf).argmax(dim=1, keepdim=True)).squeeze(1)


@torch.inference_mode()
def write_plainly(
    model: Any, requests: Sequence[DecodeRequest], first_code: int, pad: int, draw: Draw = choose
) -> list[list[int]]:
    """The codes of `requests`, which must be all guided or all not."""
    rows = [request.conditional for request in requests]
    rows += [request.unconditional for request in requests if request.unconditional is not None]
    padded = _pad_left(rows, pad, model.device)
    params = SamplingParams.of(
        [request.planner for request in requests], [request.seed for request in requests], model.device
    )
    sampler = PairedCodes(prompt_length=padded.ids.shape[1], first_code=first_code, params=params, draw=draw)
    written = model.generate(
        padded.ids,
        attention_mask=padded.mask,
        generation_config=GenerationConfig(
            # Shorter takes run on with the longest; what they write beyond their own length is cut off.
            max_new_tokens=max(request.n_codes for request in requests),
            do_sample=False,
            pad_token_id=pad,
        ),
        logits_processor=LogitsProcessorList([sampler]),
    )
    codes = (written[: len(requests), padded.ids.shape[1] :] - first_code).tolist()
    return [row[: request.n_codes] for row, request in zip(codes, requests, strict=True)]


class PairedCodes(LogitsProcessor):
    """Chooses the next code of every take, and leaves `generate()` no other choice.

    Rows are all conditional prompts, then, when guided, all unconditional ones in the same order; both rows of a
    take get the same code. Whatever is no usable code, the end of the text included, cannot be chosen.
    """

    def __init__(self, *, prompt_length: int, first_code: int, params: SamplingParams, draw: Draw) -> None:
        self._prompt_length = prompt_length
        self._first_code = first_code
        self._params = params
        self._draw = draw

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary) that are 0 for one code a row and -inf for all else."""
        n_takes = len(self._params.seed)
        logits = scores[:, self._first_code : self._first_code + CODEBOOK_SIZE].float()
        if len(logits) > n_takes:
            logits = guide(logits[:n_takes], logits[n_takes:], self._params.cfg_scale)
        codes = self._draw(logits, self._params, input_ids.shape[1] - self._prompt_length)
        ids = (codes + self._first_code).repeat(len(scores) // n_takes)
        return torch.full_like(scores, -torch.inf).scatter_(1, ids[:, None], 0.0)


class _Padded(NamedTuple):
    """Prompts of different length as one batch."""

    ids: torch.Tensor  # int64 (rows, longest)
    mask: torch.Tensor  # int64, the same shape; 0 is padding


def _pad_left(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> _Padded:
    longest = max(len(row) for row in rows)
    ids = [[pad] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return _Padded(torch.tensor(ids, device=device), torch.tensor(mask, device=device))

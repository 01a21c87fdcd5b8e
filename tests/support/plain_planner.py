"""The planner in its plain form, whose one virtue is that it is right: the oracle for faster ones.

transformers' `generate()` runs over the whole batch with a single logits processor that guides, draws and forces each
code. In float32 it writes, code for code, what `Planner.plan` writes.
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
from workers.ace_step.planner.sampling import Settings, choose, guide, gumbel_noise

# From float32 logits (rows, codes), their settings and the number of the step to one code a row.
Draw = Callable[[torch.Tensor, Settings, int], torch.Tensor]


def plan_plainly(planner: Planner, takes: Sequence[Take], *, draw: Draw = choose) -> list[list[int]]:
    """The codes of `takes`, in one call of `generate()`; they must be all guided or all not.

    `draw` is how codes are drawn: the planner's own way, so that times can be compared, or `draw_plainly`.
    """
    scores, vocabulary = planner.scores(takes), planner.vocabulary
    return write_plainly(planner.model, scores, vocabulary.first_code, vocabulary.pad, draw)


def draw_plainly(logits: torch.Tensor, settings: Settings, step: int) -> torch.Tensor:
    """`choose` by its definition: a full sort, probabilities in float64, noise for every code."""
    best, codes = logits.sort(dim=1, descending=True, stable=True)
    places = torch.arange(best.shape[1])
    last = torch.where(settings.top_k > 0, settings.top_k, best.shape[1]) - 1
    allowed = best >= best.gather(1, last[:, None])
    probability = best.double().masked_fill(~allowed, -torch.inf).softmax(dim=1)
    before = probability.cumsum(dim=1) - probability
    p = settings.top_p.double()[:, None] / 2**30
    size = (allowed & ((before <= p) | (p >= 1))).sum(dim=1, keepdim=True)
    kept = (places < size) | (best == best.gather(1, size - 1))
    noisy = best / settings.temperature[:, None] + gumbel_noise(settings.seed[:, None], step, codes)
    return codes.gather(1, noisy.masked_fill(~kept, -torch.inf).argmax(dim=1, keepdim=True)).squeeze(1)


@torch.inference_mode()
def write_plainly(
    model: Any, scores: Sequence[DecodeRequest], first_code: int, pad: int, draw: Draw = choose
) -> list[list[int]]:
    """The codes of `scores`, which must be all guided or all not."""
    rows = [score.conditional for score in scores]
    rows += [score.unconditional for score in scores if score.unconditional is not None]
    padded = _pad_left(rows, pad, model.device)
    settings = Settings.of([score.planner for score in scores], [score.seed for score in scores], model.device)
    sampler = PairedCodes(prompt_length=padded.ids.shape[1], first_code=first_code, settings=settings, draw=draw)
    written = model.generate(
        padded.ids,
        attention_mask=padded.mask,
        generation_config=GenerationConfig(
            # Shorter takes run on with the longest; what they write beyond their own length is cut off.
            max_new_tokens=max(score.n_codes for score in scores),
            do_sample=False,
            pad_token_id=pad,
        ),
        logits_processor=LogitsProcessorList([sampler]),
    )
    codes = (written[: len(scores), padded.ids.shape[1] :] - first_code).tolist()
    return [row[: score.n_codes] for row, score in zip(codes, scores, strict=True)]


class PairedCodes(LogitsProcessor):
    """Chooses the next code of every take, and leaves `generate()` no other choice.

    Rows are all conditional prompts, then, when guided, all unconditional ones in the same order; both rows of a
    take get the same code. Whatever is no usable code, the end of the text included, cannot be chosen.
    """

    def __init__(self, *, prompt_length: int, first_code: int, settings: Settings, draw: Draw) -> None:
        self._prompt_length = prompt_length
        self._first_code = first_code
        self._settings = settings
        self._draw = draw

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary) that are 0 for one code a row and -inf for all else."""
        n_takes = len(self._settings.seed)
        logits = scores[:, self._first_code : self._first_code + CODEBOOK_SIZE].float()
        if len(logits) > n_takes:
            logits = guide(logits[:n_takes], logits[n_takes:], self._settings.cfg_scale)
        codes = self._draw(logits, self._settings, input_ids.shape[1] - self._prompt_length)
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

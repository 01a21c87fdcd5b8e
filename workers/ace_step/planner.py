"""The planner: a language model that writes five audio codes a second for the diffusion model to follow.

This is the plain form, whose one virtue is that it is right: transformers' `generate()` over the whole batch with a
single logits processor that guides, samples and forces each code. Faster forms are measured against it.

Promises. A take gets exactly `spec.n_codes` codes, each in [0, 64000). They follow from its spec, its `lm_seed` and the
batch key, and a longer take begins with the codes of a shorter one with the same prompt. Neighbours do not matter: in
float32 a take's codes are the same alone, in any batch and at any place in it (tested on CPU). That rests on matrix
products that differ by a few parts in 10^7 between batch shapes, against sampling that almost never turns on so
little. In bfloat16 products differ by parts in a thousand, and a take in other company soon writes other codes (tiny
model on CPU, 20 to 30 s, alone against a batch of 8: 9 of 48 takes kept theirs, where float32 kept 48 of 48). So a plan
names its shape in the batch key, and a replay feeds stored codes back instead of writing them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast

from catalog.errors import ModelError, OutOfRangeError
from catalog.limits import CODEBOOK_SIZE
from catalog.sidecar import Plan
from catalog.spec import PlannerSpec
from catalog.track import Take
from workers.ace_step.planner_loading import (
    Vocabulary,
    fingerprint_weights,
    load_model,
    load_tokenizer,
    read_vocabulary,
)
from workers.ace_step.planner_prompt import Metadata, render_prompts
from workers.ace_step.sampling import Settings, choose, guide

# Prompt and codes together: what the model was published with. A checkpoint may name its own in `context_tokens`.
CONTEXT_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class _Request:
    """One take, ready for the model: token ids instead of text."""

    planner: PlannerSpec
    seed: int
    n_codes: int
    conditional: list[int]
    unconditional: list[int] | None  # None: no guidance
    metadata: Metadata
    prompt_sha256: str


class Planner:
    """A loaded planner model; `fingerprint` is the hash of its weights."""

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary, fingerprint: str
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._context_tokens = int(getattr(model.config, "context_tokens", CONTEXT_TOKENS))
        self.fingerprint = fingerprint

    @classmethod
    def load(cls, folder: Path, *, device: torch.device, dtype: torch.dtype, home: Path | None = None) -> Planner:
        """Load a Qwen3 checkpoint with audio codes from `folder`: safetensors only, no remote code, no network.

        Under `home` the hash of the weights is kept for the next start. Raises ModelError when a file is absent or
        corrupt, a tensor is missing, or the tokenizer's codes are not the contiguous range that the arithmetic between
        codes and ids rests on.
        """
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, device, dtype)
        vocabulary = read_vocabulary(tokenizer, model.config.vocab_size)
        return cls(model, tokenizer, vocabulary, fingerprint_weights(folder, home))

    def plan(self, takes: Sequence[Take]) -> list[Plan]:
        """Write the codes of `takes`, in their order; takes may differ in everything.

        Raises OutOfRangeError for a take that `refusal` would name, ModelError when the model yields no numbers.
        """
        requests = [self._request(take) for take in takes]
        plans: dict[int, Plan] = {}
        for guided in (True, False):
            places = [i for i, request in enumerate(requests) if (request.unconditional is not None) is guided]
            if places:
                plans.update(zip(places, self._plan_batch([requests[i] for i in places]), strict=True))
        return [plans[place] for place in range(len(requests))]

    def refusal(self, take: Take) -> str | None:
        """Why this take cannot be planned whatever its company, or None."""
        try:
            self._request(take)
        except OutOfRangeError as error:
            return str(error)
        return None

    def _request(self, take: Take) -> _Request:
        planner = take.spec.planner
        if planner is None:
            raise ValueError(f"take {take.id} is rendered without a planner")
        self._refuse_control_tokens(take, planner)
        prompts = render_prompts(self._tokenizer, take.spec, planner)
        unconditional = None if prompts.unconditional is None else self._encode(prompts.unconditional)
        request = _Request(
            planner=planner,
            seed=take.lm_seed,
            n_codes=take.spec.n_codes,
            conditional=self._encode(prompts.conditional),
            unconditional=unconditional,
            metadata=prompts.metadata,
            prompt_sha256=sha256(prompts.conditional.encode()).hexdigest(),
        )
        self._refuse_too_long(take, request)
        return request

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _refuse_control_tokens(self, take: Take, planner: PlannerSpec) -> None:
        """A caption that spells `<|im_end|>` would end its own turn, and one that spells a code would be music."""
        texts = {"caption": take.spec.caption, "lyrics": take.spec.lyrics, "negative prompt": planner.negative_prompt}
        for name, text in texts.items():
            reserved = self._vocabulary.reserved.intersection(self._encode(text))
            if reserved:
                token = self._tokenizer.convert_ids_to_tokens(min(reserved))
                raise OutOfRangeError(
                    f"take {take.id}: the {name} contains {token!r}",
                    why="to the planner that is a control token and no text",
                    fix=f"take it out of the {name}",
                )

    def _refuse_too_long(self, take: Take, request: _Request) -> None:
        longest = max(len(request.conditional), len(request.unconditional or []))
        room = self._context_tokens - request.n_codes
        if longest > room:
            raise OutOfRangeError(
                f"take {take.id}: the planner's prompt has {longest} tokens; there is room for {room}",
                why=f"prompt and {request.n_codes} codes share a context of {self._context_tokens} tokens",
                fix="shorten caption or lyrics, shorten the track, or turn the planner off",
            )

    def _plan_batch(self, requests: Sequence[_Request]) -> list[Plan]:
        """Plan takes that are either all guided or all not."""
        rows = [request.conditional for request in requests]
        rows += [request.unconditional for request in requests if request.unconditional is not None]
        padded = _pad_left(rows, self._vocabulary.pad, self._model.device)
        batch_key = self._batch_key(padded.ids.shape, guided=len(rows) > len(requests))
        return [
            Plan(codes=codes, metadata=request.metadata, prompt_sha256=request.prompt_sha256, batch_key=batch_key)
            for request, codes in zip(requests, self._write_codes(requests, padded), strict=True)
        ]

    @torch.inference_mode()
    def _write_codes(self, requests: Sequence[_Request], padded: _Padded) -> list[list[int]]:
        first_code = self._vocabulary.first_code
        sampler = PairedCodes(
            prompt_length=padded.ids.shape[1],
            first_code=first_code,
            settings=Settings.of(
                [request.planner for request in requests], [request.seed for request in requests], self._model.device
            ),
        )
        written = self._model.generate(
            padded.ids,
            attention_mask=padded.mask,
            generation_config=GenerationConfig(
                # Shorter takes run on with the longest; what they write beyond their own length is cut off.
                max_new_tokens=max(request.n_codes for request in requests),
                do_sample=False,
                pad_token_id=self._vocabulary.pad,
            ),
            logits_processor=LogitsProcessorList([sampler]),
        )
        codes = (written[: len(requests), padded.ids.shape[1] :] - first_code).tolist()
        return [row[: request.n_codes] for row, request in zip(codes, requests, strict=True)]

    def _batch_key(self, shape: torch.Size, *, guided: bool) -> str:
        device = self._model.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        parts = [
            self.fingerprint[:12],
            str(self._model.dtype).removeprefix("torch."),
            name,
            f"torch {torch.__version__}",
            f"transformers {transformers.__version__}",
            f"{shape[0]} rows of {shape[1]}",
            "cfg" if guided else "no cfg",
        ]
        return ", ".join(parts)


class PairedCodes(LogitsProcessor):
    """Chooses the next code of every take, and leaves `generate()` no other choice.

    Rows are all conditional prompts, then, when guided, all unconditional ones in the same order; both rows of a
    take get the same code. Whatever is no usable code, the end of the text included, cannot be chosen.
    """

    def __init__(self, *, prompt_length: int, first_code: int, settings: Settings) -> None:
        self._prompt_length = prompt_length
        self._first_code = first_code
        self._settings = settings

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary) that are 0 for one code a row and -inf for all else."""
        n_takes = len(self._settings.seed)
        logits = scores[:, self._first_code : self._first_code + CODEBOOK_SIZE].float()
        if not bool(logits.isfinite().all()):
            raise ModelError(
                "the planner yields values that are not numbers",
                why="its weights are damaged, or their range is wider than the data type",
                fix="fetch the planner's weights again",
            )
        if len(logits) > n_takes:
            logits = guide(logits[:n_takes], logits[n_takes:], self._settings.cfg_scale)
        codes = choose(logits, self._settings, step=input_ids.shape[1] - self._prompt_length)
        ids = (codes + self._first_code).repeat(len(scores) // n_takes)
        return torch.full_like(scores, -torch.inf).scatter_(1, ids[:, None], 0.0)


class _Padded(NamedTuple):
    """Prompts of different length as one batch."""

    ids: torch.Tensor  # int64 (rows, longest)
    mask: torch.Tensor  # int64, the same shape; 0 is padding


def _pad_left(rows: Sequence[list[int]], pad: int, device: torch.device) -> _Padded:
    longest = max(len(row) for row in rows)
    ids = [[pad] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return _Padded(torch.tensor(ids, device=device), torch.tensor(mask, device=device))

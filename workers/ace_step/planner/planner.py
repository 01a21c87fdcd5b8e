"""The planner: a language model that writes five audio codes per second, which the diffusion model follows.

Promises. A take gets exactly as many codes as its length needs, each in [0, 64000). The codes follow from its spec, its
`lm_seed` and the batch key, and a longer take begins with the codes of a shorter one with the same prompt. Neighbours
do not matter: in float32, a take's codes are the same alone, in any batch and at any place in it, because sampling
almost never depends on rounding errors. In narrower formats, every batch has the same shape, so no rounding differs:
slots that no take needs stay idle, prompts are padded to the width of their class, and the cache grows with the number
of the step (tested on CPU in bfloat16; on a GPU by tests/gpu). The batch key names everything that the codes depend on.

A call may hold any number of takes. Takes that ask for the same codes share one plan, within a call and for a while
after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from catalog.errors import OutOfRangeError
from catalog.limits import CODES_PER_S, PLANNER_CONTEXT_TOKENS
from catalog.sidecar import Plan
from catalog.spec import Bounds, PlannerSpec, TrackSpec
from catalog.tiers import BatchLimit
from catalog.track import Take
from workers.ace_step.device.placement import is_out_of_memory
from workers.ace_step.lru import Lru
from workers.ace_step.planner.batching import BatchShape, KvBudget, batches
from workers.ace_step.planner.buffers import DecodeBuffers
from workers.ace_step.planner.codes import CodeWriter, DecodeRequest
from workers.ace_step.planner.decoding import Decoding, wants_fixed_shapes
from workers.ace_step.planner.loading import (
    Vocabulary,
    fingerprint_weights,
    load_model,
    load_tokenizer,
    read_vocabulary,
)
from workers.ace_step.planner.metadata import Filler
from workers.ace_step.planner.prompt import Metadata, provisional, render_prompts

# Prompt and codes together: what the model was published with. A checkpoint may name its own in `context_tokens`.
CONTEXT_TOKENS: Final = PLANNER_CONTEXT_TOKENS
# Named in the batch key: raise it when the same batch would from now on write other codes.
_LOOP: Final = "loop 2"
_RECENT: Final = 256  # plans that are remembered, of some ten kilobytes each


class _CacheKey(NamedTuple):
    """The key of a remembered plan: all that a plan of one planner follows from."""

    caption: str
    lyrics: str
    language: str
    bpm: int | None
    keyscale: str | None
    timesignature: str | None
    duration_s: int
    bounds: Bounds | None
    planner: PlannerSpec | None
    seed: int

    @classmethod
    def of(cls, take: Take) -> _CacheKey:
        spec = take.spec
        return cls(**{name: getattr(spec, name) for name in cls._fields if name != "seed"}, seed=take.lm_seed)


@dataclass(frozen=True, slots=True)
class _PreparedTake:
    """One take, ready for the model: token ids instead of text."""

    request: DecodeRequest
    metadata: Metadata
    prompt_sha256: str

    @property
    def prompts(self) -> list[Sequence[int]]:
        """The conditional one and, with guidance, the unconditional one."""
        return [prompt for prompt in (self.request.conditional, self.request.unconditional) if prompt is not None]


class Planner:
    """A loaded planner model; `fingerprint` is the hash of its weights."""

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary, fingerprint: str
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.fingerprint = fingerprint
        context = int(getattr(model.config, "context_tokens", CONTEXT_TOKENS))
        self._buffers = DecodeBuffers(model, KvBudget.of(model.config, model.dtype, model.device, context))
        self._filler = Filler(self._buffers, tokenizer, vocabulary)
        self._recent: Lru[_CacheKey, Plan] = Lru(_RECENT)

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

    def limit_memory(self, memory_gib: float, *, weights_stay: bool = True) -> None:
        """Give the planner this much memory for its buffers, beside its weights.

        The amount decides how many takes are written at a time, so it is part of the batch key: derive it from the
        device's total memory, not from the memory that is free. Where the weights are offloaded, no graphs are
        recorded.
        """
        self._buffers.clear()
        self._buffers.recorded = weights_stay
        self._buffers.budget = self._buffers.budget._replace(memory_gib=memory_gib)

    def slots(self, duration_s: int) -> BatchLimit:
        """The number of takes of `duration_s` written at a time, with the reason; prompts are of the smallest class."""
        budget = self._buffers.budget
        return budget.slots(duration_s * CODES_PER_S, budget.prompt_classes[0])

    def plan(self, takes: Sequence[Take]) -> list[Plan]:
        """Write the plans of `takes`, in their order; takes may differ in everything.

        Raises OutOfRangeError for a take that `refusal` would name, ModelError when the model yields no numbers.
        """
        keys = [_CacheKey.of(take) for take in takes]
        plans = {key: plan for key in keys if (plan := self._recent.find(key)) is not None}
        fresh = {key: take for key, take in zip(keys, takes, strict=True) if key not in plans}
        for key, plan in zip(fresh, self._write(list(fresh.values())), strict=True):
            plans[key] = self._recent.put(key, plan)
        return [plans[key] for key in keys]

    def refusal(self, take: Take) -> str | None:
        """The reason why this take cannot be planned in any batch, or None."""
        try:
            self._prepared(take, provisional(take.spec))
        except OutOfRangeError as error:
            return str(error)
        return None

    def requests(self, takes: Sequence[Take]) -> list[DecodeRequest]:
        """The request for each of `takes`: its prompts as token ids, its seed and its settings."""
        return [prepared.request for prepared in self._prepared_takes(takes)]

    def _write(self, takes: Sequence[Take]) -> list[Plan]:
        prepared = self._prepared_takes(takes)
        lengths = [each.request.n_codes for each in prepared]
        shapes = [
            BatchShape.of(self._buffers.budget, each.prompts, length)
            for each, length in zip(prepared, lengths, strict=True)
        ]
        longest: dict[BatchShape, int] = {}
        for shape, length in zip(shapes, lengths, strict=True):
            longest[shape] = max(length, longest.get(shape, 0))
        plans: dict[int, Plan] = {}
        for shape, places in batches(shapes, lengths):
            batch = [prepared[place] for place in places]
            plans.update(zip(places, self._write_batch(shape, batch, longest[shape]), strict=True))
        return [plans[place] for place in range(len(prepared))]

    def _prepared_takes(self, takes: Sequence[Take]) -> list[_PreparedTake]:
        """`takes` ready for the model, with all that they leave open chosen."""
        return [self._prepared(take, spec) for take, spec in zip(takes, self._filled(takes), strict=True)]

    def _filled(self, takes: Sequence[Take]) -> list[TrackSpec]:
        """The complete specs of `takes`."""
        return self._filler.fill(takes)

    def _write_batch(self, shape: BatchShape, batch: Sequence[_PreparedTake], longest: int) -> list[Plan]:
        """Plans of `batch`; `longest` is the number of codes of the longest take of its shape in this call."""
        prompts = [prompt for prepared in batch for prompt in prepared.prompts]
        # Kept buffers are made long enough for all batches; otherwise each longer batch would make new ones.
        kept = wants_fixed_shapes(self.model.dtype)
        n_codes = longest if kept else max(prepared.request.n_codes for prepared in batch)
        make = self._guided_writer if shape.guided else self._plain_writer
        writer = self._buffers.writer(shape, prompts, n_codes, make)
        try:
            written = writer.write([prepared.request for prepared in batch])
        except RuntimeError as error:
            if is_out_of_memory(error):
                self._buffers.shrink(shape)  # its shape is fixed: fewer takes alone would not make it smaller
            raise
        batch_key = self._batch_key(shape)
        return [
            Plan(codes=codes, metadata=prepared.metadata, prompt_sha256=prepared.prompt_sha256, batch_key=batch_key)
            for prepared, codes in zip(batch, written, strict=True)
        ]

    def _guided_writer(self, decoding: Decoding) -> CodeWriter:
        return CodeWriter(decoding, guided=True, first_code=self.vocabulary.first_code)

    def _plain_writer(self, decoding: Decoding) -> CodeWriter:
        return CodeWriter(decoding, guided=False, first_code=self.vocabulary.first_code)

    def _prepared(self, take: Take, spec: TrackSpec) -> _PreparedTake:
        planner = spec.planner
        if planner is None:
            raise ValueError(f"take {take.id} is rendered without a planner")
        self._refuse_control_tokens(take, planner)
        prompts = render_prompts(self.tokenizer, spec, planner)
        request = DecodeRequest(
            conditional=self._encode(prompts.conditional),
            unconditional=None if prompts.unconditional is None else self._encode(prompts.unconditional),
            planner=planner,
            seed=take.lm_seed,
            n_codes=spec.n_codes,
        )
        prepared = _PreparedTake(request, prompts.metadata, sha256(prompts.conditional.encode()).hexdigest())
        self._refuse_too_long(take, prepared)
        return prepared

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _refuse_control_tokens(self, take: Take, planner: PlannerSpec) -> None:
        """A caption that spells `<|im_end|>` would end its own turn, and one that spells a code would be music."""
        texts = {"caption": take.spec.caption, "lyrics": take.spec.lyrics, "negative prompt": planner.negative_prompt}
        for name, text in texts.items():
            reserved = self.vocabulary.reserved.intersection(self._encode(text))
            if reserved:
                token = self.tokenizer.convert_ids_to_tokens(min(reserved))
                raise OutOfRangeError(
                    f"take {take.id}: the {name} contains {token!r}",
                    why="to the planner that is a control token and no text",
                    fix=f"take it out of the {name}",
                )

    def _refuse_too_long(self, take: Take, prepared: _PreparedTake) -> None:
        longest = max(len(prompt) for prompt in prepared.prompts)
        budget = self._buffers.budget
        n_codes = prepared.request.n_codes
        if longest > budget.longest_prompt(n_codes):
            raise OutOfRangeError(
                f"take {take.id}: the planner's prompt has {longest} tokens; "
                f"there is room for {budget.longest_prompt(n_codes)}",
                why=f"prompt and {n_codes} codes share a context of {budget.context_tokens} tokens, "
                f"and a prompt may have half of it",
                fix="shorten caption or lyrics, shorten the track, or turn the planner off",
            )

    def _batch_key(self, batch_shape: BatchShape) -> str:
        device = self.model.device
        fixed = wants_fixed_shapes(self.model.dtype)
        shape = f"{batch_shape.slots} slots, prompts of {batch_shape.prompt_class}" if fixed else "any shape"
        parts = [
            self.fingerprint[:12],
            str(self.model.dtype).removeprefix("torch."),
            torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            f"torch {torch.__version__}",
            f"transformers {transformers.__version__}",
            _LOOP,
            shape,
            "cfg" if batch_shape.guided else "no cfg",
        ]
        return ", ".join(parts)

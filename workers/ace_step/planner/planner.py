"""The planner: a language model that writes five audio codes a second for the diffusion model to follow.

Promises. A take gets exactly as many codes as its length wants, each in [0, 64000). They follow from its spec, its
`lm_seed` and the batch key, and a longer take begins with the codes of a shorter one with the same prompt. Neighbours
do not matter: in float32 a take's codes are the same alone, in any batch and at any place in it, because sampling
almost never turns on what is left of rounding. In narrower formats every batch has the same shape, so that there is
nothing to differ: slots that no take needs stay idle, prompts are padded to the width of their class, and the cache
grows with the number of the step (tested on CPU in bfloat16; on a GPU by tests/gpu). The batch key names all that the
codes depend on.

A call may hold any number of takes. What asks for the same codes is written once, in a call and for a while after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from catalog.errors import OutOfRangeError
from catalog.limits import CODES_PER_S
from catalog.sidecar import Plan
from catalog.spec import Bounds, PlannerSpec, TrackSpec, settle
from catalog.tiers import BatchLimit
from catalog.track import Take
from workers.ace_step.device.placement import is_out_of_memory
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
from workers.ace_step.planner.prompt import Metadata, render_prompts

# Prompt and codes together: what the model was published with. A checkpoint may name its own in `context_tokens`.
CONTEXT_TOKENS: Final = 4096
# Named in the batch key: raise it when the same batch would from now on write other codes.
_LOOP: Final = "loop 2"
_RECENT: Final = 256  # plans that are remembered, of some ten kilobytes each


class _Wish(NamedTuple):
    """All that a plan follows from, on one planner."""

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
    def of(cls, take: Take) -> _Wish:
        spec = take.spec
        return cls(**{name: getattr(spec, name) for name in cls._fields if name != "seed"}, seed=take.lm_seed)


@dataclass(frozen=True, slots=True)
class _Request:
    """One take, ready for the model: token ids instead of text."""

    score: DecodeRequest
    metadata: Metadata
    prompt_sha256: str

    @property
    def prompts(self) -> list[Sequence[int]]:
        """The conditional one and, with guidance, the unconditional one."""
        return [prompt for prompt in (self.score.conditional, self.score.unconditional) if prompt is not None]


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
        self._desks = DecodeBuffers(model, KvBudget.of(model.config, model.dtype, model.device, context))
        self._filler = Filler(self._desks, tokenizer, vocabulary)
        self._recent: OrderedDict[_Wish, Plan] = OrderedDict()

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
        """Give the planner this much memory for what it writes in, its weights not counted.

        It decides how many takes are written at a time, and so belongs to the batch key: derive it from the device's
        total memory, not from what happens to be free. Where the weights come and go, no graphs are recorded.
        """
        self._desks.clear()
        self._desks.recorded = weights_stay
        self._desks.room = self._desks.room._replace(memory_gib=memory_gib)

    def slots(self, duration_s: int) -> BatchLimit:
        """How many takes of `duration_s` with prompts of the smallest class are written at a time, and why."""
        room = self._desks.room
        return room.slots(duration_s * CODES_PER_S, room.prompt_classes[0])

    def plan(self, takes: Sequence[Take]) -> list[Plan]:
        """Write the plans of `takes`, in their order; takes may differ in everything.

        Raises OutOfRangeError for a take that `refusal` would name, ModelError when the model yields no numbers.
        """
        wishes = [_Wish.of(take) for take in takes]
        fresh = {wish: take for wish, take in zip(wishes, takes, strict=True) if wish not in self._recent}
        plans = {wish: self._recent[wish] for wish in wishes if wish in self._recent}
        plans.update(zip(fresh, self._write(list(fresh.values())), strict=True))
        for wish, plan in plans.items():
            self._remember(wish, plan)
        return [plans[wish] for wish in wishes]

    def refusal(self, take: Take) -> str | None:
        """Why this take cannot be planned whatever its company, or None."""
        try:
            self._request(take, _provisional(take.spec))
        except OutOfRangeError as error:
            return str(error)
        return None

    def scores(self, takes: Sequence[Take]) -> list[DecodeRequest]:
        """What the model is given for each of `takes`: its prompts as token ids, its seed and its settings."""
        return [request.score for request in self._requests(takes)]

    def _write(self, takes: Sequence[Take]) -> list[Plan]:
        requests = self._requests(takes)
        companies = [BatchShape.of(self._desks.room, request.prompts, request.score.n_codes) for request in requests]
        lengths = [request.score.n_codes for request in requests]
        longest: dict[BatchShape, int] = {}
        for company, length in zip(companies, lengths, strict=True):
            longest[company] = max(length, longest.get(company, 0))
        plans: dict[int, Plan] = {}
        for company, places in batches(companies, lengths):
            batch = [requests[place] for place in places]
            plans.update(zip(places, self._write_batch(company, batch, longest[company]), strict=True))
        return [plans[place] for place in range(len(requests))]

    def _requests(self, takes: Sequence[Take]) -> list[_Request]:
        """What to write, with all that takes leave open chosen."""
        return [self._request(take, spec) for take, spec in zip(takes, self._settled(takes), strict=True)]

    def _settled(self, takes: Sequence[Take]) -> list[TrackSpec]:
        """The complete specs of `takes`."""
        return self._filler.settle(takes)

    def _write_batch(self, company: BatchShape, batch: Sequence[_Request], longest: int) -> list[Plan]:
        """Plans of `batch`; `longest` is what the longest of its company in this call will want."""
        prompts = [prompt for request in batch for prompt in request.prompts]
        # What is kept is made long enough for all that comes, or each longer batch would make it anew.
        kept = wants_fixed_shapes(self.model.dtype)
        n_codes = longest if kept else max(request.score.n_codes for request in batch)
        make = self._guided_writer if company.guided else self._plain_writer
        writer = self._desks.desk(company, prompts, n_codes, make)
        try:
            written = writer.write([request.score for request in batch])
        except RuntimeError as error:
            if is_out_of_memory(error):
                self._desks.shrink(company)  # its shape is fixed: fewer takes alone would not make it smaller
            raise
        batch_key = self._batch_key(company)
        return [
            Plan(codes=codes, metadata=request.metadata, prompt_sha256=request.prompt_sha256, batch_key=batch_key)
            for request, codes in zip(batch, written, strict=True)
        ]

    def _guided_writer(self, decoding: Decoding) -> CodeWriter:
        return CodeWriter(decoding, guided=True, first_code=self.vocabulary.first_code)

    def _plain_writer(self, decoding: Decoding) -> CodeWriter:
        return CodeWriter(decoding, guided=False, first_code=self.vocabulary.first_code)

    def _remember(self, wish: _Wish, plan: Plan) -> None:
        self._recent[wish] = plan
        self._recent.move_to_end(wish)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _request(self, take: Take, spec: TrackSpec) -> _Request:
        planner = spec.planner
        if planner is None:
            raise ValueError(f"take {take.id} is rendered without a planner")
        self._refuse_control_tokens(take, planner)
        prompts = render_prompts(self.tokenizer, spec, planner)
        score = DecodeRequest(
            conditional=self._encode(prompts.conditional),
            unconditional=None if prompts.unconditional is None else self._encode(prompts.unconditional),
            planner=planner,
            seed=take.lm_seed,
            n_codes=spec.n_codes,
        )
        request = _Request(score, prompts.metadata, sha256(prompts.conditional.encode()).hexdigest())
        self._refuse_too_long(take, request)
        return request

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

    def _refuse_too_long(self, take: Take, request: _Request) -> None:
        longest = max(len(prompt) for prompt in request.prompts)
        room = self._desks.room
        n_codes = request.score.n_codes
        if longest > room.longest_prompt(n_codes):
            raise OutOfRangeError(
                f"take {take.id}: the planner's prompt has {longest} tokens; "
                f"there is room for {room.longest_prompt(n_codes)}",
                why=f"prompt and {n_codes} codes share a context of {room.context_tokens} tokens, "
                f"and a prompt may have half of it",
                fix="shorten caption or lyrics, shorten the track, or turn the planner off",
            )

    def _batch_key(self, company: BatchShape) -> str:
        device = self.model.device
        fixed = wants_fixed_shapes(self.model.dtype)
        shape = f"{company.slots} slots, prompts of {company.prompt_class}" if fixed else "any shape"
        parts = [
            self.fingerprint[:12],
            str(self.model.dtype).removeprefix("torch."),
            torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            f"torch {torch.__version__}",
            f"transformers {transformers.__version__}",
            _LOOP,
            shape,
            "cfg" if company.guided else "no cfg",
        ]
        return ", ".join(parts)


def _provisional(spec: TrackSpec) -> TrackSpec:
    """`spec` with the longest words for what it leaves open: where these fit, any choice does."""
    if spec.bounds is None:
        return spec
    longest: dict[str, str | int] = {}
    for field in spec.bounds.open:
        values: tuple[str | int, ...] = spec.bounds.choices(field)
        longest[field] = max(values, key=lambda value: (len(str(value)), str(value)))
    return settle(spec, longest)

"""Filling: the planner chooses the metadata that a take leaves open, as text; audio codes are written afterwards.

The model writes its think block itself. The given fields are written for it, down to the name of the first open field.
From there on, a grammar allows only values within the bounds, written as PyYAML writes them, and inserts the given
fields in between. So the result needs no repair and no second try, and the block is, letter for letter, the one after
which the codes are then written.

Promises. Each choice lies within its bounds, and every value within them can be chosen. A choice follows from the spec,
the take's `lm_seed` and the batch's shape, never from neighbours; its noise is independent of the noise of the codes.
Filling uses no guidance, because upstream found that guidance distorts the text. The temperature is the planner's; the
bounds replace top-k and top-p.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import yaml
from llguidance import LLMatcher, LLTokenizer
from transformers import PreTrainedTokenizerFast

from catalog.errors import ModelError
from catalog.spec import ThinkField, TrackSpec, with_metadata
from catalog.track import Take
from workers.ace_step.planner.batching import BatchShape, batches
from workers.ace_step.planner.buffers import DecodeBuffers
from workers.ace_step.planner.decoding import Decoding
from workers.ace_step.planner.loading import Vocabulary
from workers.ace_step.planner.prompt import Metadata, given, render_opening, think_line
from workers.ace_step.planner.sampling import gumbel_noise

_STREAM: Final = 0x66_69_6C_6C  # "fill": sets the seed of this noise apart from that of the codes


class MetadataTemplate(NamedTuple):
    """One think block: the text that the planner is given, and the texts that it may write."""

    lead: str  # given fields, down to the name of the first open one
    parts: tuple[tuple[str, ...], ...]  # the allowed texts, part by part; a given text has only one
    temperature: float

    @classmethod
    def of(cls, spec: TrackSpec) -> MetadataTemplate:
        """The template of an open `spec`. It ends with the last open field, because later fields change nothing."""
        planner, bounds = spec.planner, spec.bounds
        if planner is None or bounds is None:
            raise ValueError("only an open spec has a template")
        choices = {str(field): bounds.choices(field) for field in bounds.open}
        fields: list[ThinkField] = sorted({*planner.think_fields, *bounds.open})
        parts: list[tuple[str, ...]] = [("",)]
        for field in fields:
            if field not in choices:
                parts[-1] = (parts[-1][0] + think_line(field, given(spec, field)),)
                continue
            parts[-1] = (f"{parts[-1][0]}{field}:",)
            parts += [tuple(_value(field, value) for value in choices[field]), ("",)]
        return cls(parts[0][0], tuple(parts[1:-1]), planner.temperature)

    @property
    def grammar(self) -> str:
        """The texts that may follow the lead, as a grammar in llguidance's Lark."""
        rules = [f"P{n}: {' | '.join(map(_quoted, part))}" for n, part in enumerate(self.parts)]
        return "\n".join([f"start: {' '.join(f'P{n}' for n in range(len(self.parts)))}", *rules])

    @property
    def tokens_max(self) -> int:
        """A bound on the tokens that may follow the lead: their bytes."""
        return sum(max(len(text.encode()) for text in part) for part in self.parts)


@lru_cache(maxsize=1024)  # more than there are, because PyYAML is slow
def _value(field: ThinkField, value: str | int) -> str:
    """The text after the field's colon, to the end of the line."""
    return think_line(field, value).removeprefix(f"{field}:")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class _TemplatePrompt(NamedTuple):
    """A template and the tokens that stand before it, ready to be filled in."""

    template: MetadataTemplate
    prompt: list[int]
    seed: int


class Filler:
    """Fills open takes with one planner model. Not thread-safe."""

    def __init__(self, buffers: DecodeBuffers, tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary) -> None:
        self._buffers = buffers
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._text_vocabulary: TextVocabulary | None = None  # takes seconds to make, and most planners never need it

    def fill(self, takes: Sequence[Take]) -> list[TrackSpec]:
        """The specs of `takes` with all that they leave open chosen, in their order; takes may differ in everything.

        Raises ModelError when the model yields no numbers.
        """
        specs = [take.spec for take in takes]
        places = [place for place, spec in enumerate(specs) if spec.is_open]
        prompts = [self._prompt(takes[place]) for place in places]
        for place, metadata in zip(places, self._fill(prompts), strict=True):
            specs[place] = with_metadata(specs[place], metadata)
        return specs

    def _prompt(self, take: Take) -> _TemplatePrompt:
        template = MetadataTemplate.of(take.spec)
        text = render_opening(self._tokenizer, take.spec, template.lead)
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return _TemplatePrompt(template, list(ids), take.lm_seed ^ _STREAM)

    def _fill(self, prompts: Sequence[_TemplatePrompt]) -> list[Metadata]:
        lengths = [prompt.template.tokens_max for prompt in prompts]
        shapes = [
            BatchShape.of(self._buffers.budget, [prompt.prompt], length)
            for prompt, length in zip(prompts, lengths, strict=True)
        ]
        found: dict[int, Metadata] = {}
        for shape, places in batches(shapes, lengths):
            batch = [prompts[place] for place in places]
            n_tokens = max(lengths[place] for place in places)
            writer = self._buffers.writer(shape, [prompt.prompt for prompt in batch], n_tokens, self._metadata_writer)
            found.update(zip(places, writer.write(batch), strict=True))
        return [found[place] for place in range(len(prompts))]

    def _metadata_writer(self, decoding: Decoding) -> MetadataWriter:
        vocabulary = self._text_vocabulary or TextVocabulary.of(self._tokenizer, self._vocabulary)
        self._text_vocabulary = vocabulary
        return MetadataWriter(decoding, vocabulary)


class TextVocabulary(NamedTuple):
    """The part of the vocabulary that text is made of: the ids below `end`."""

    end: int
    grammar_tokens: LLTokenizer

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary) -> TextVocabulary:
        """The text tokens of `tokenizer`, without its codes where these come last, as they do in the real one.

        With its tens of thousands of codes, making the grammar's tokenizer takes half a minute instead of two seconds.
        """
        described = json.loads(tokenizer.backend_tokenizer.to_str())
        ids = tokenizer.get_vocab()
        after = [name for name, number in ids.items() if number >= vocabulary.first_code]
        end = max(ids.values()) + 1
        if all(name.startswith("<|audio_code_") for name in after):
            end = vocabulary.first_code
            described["model"]["vocab"] = {name: n for name, n in described["model"]["vocab"].items() if n < end}
            described["added_tokens"] = [each for each in described["added_tokens"] if each["id"] < end]
        described |= {"padding": None, "truncation": None}
        stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
        return cls(end, LLTokenizer(json.dumps(described, ensure_ascii=False), n_vocab=end, eos_token=stop))


class _TemplateRow:
    """One template while it is filled in; `matcher` is its grammar's, fresh."""

    def __init__(self, prompt: _TemplatePrompt, matcher: LLMatcher) -> None:
        self.prompt = prompt
        self.matcher = matcher
        self.written: list[int] = []
        self.unread: deque[int] = deque()  # written, and not yet seen by the model
        self._write_forced()

    @property
    def is_done(self) -> bool:
        """True when nothing is left to choose."""
        return bool(self.matcher.is_stopped())

    def allowed(self) -> npt.NDArray[np.int64]:
        """Ids of the tokens that may come next."""
        bits = np.frombuffer(self.matcher.compute_bitmask(), np.uint8)
        return np.flatnonzero(np.unpackbits(bits, bitorder="little"))

    def write(self, token: int) -> None:
        """Write `token`, and all tokens that must follow it."""
        self.matcher.consume_token(token)
        self.written.append(token)
        self.unread.append(token)
        self._write_forced()

    def _write_forced(self) -> None:
        forced = self.matcher.compute_ff_tokens()
        self.matcher.consume_tokens(forced)
        self.written += forced
        self.unread.extend(forced)
        if self.matcher.is_error():
            raise ValueError(f"the grammar of a think block fails: {self.matcher.get_error()}")


class MetadataWriter:
    """Fills in up to as many templates at a time as its decoding has rows. Not thread-safe."""

    def __init__(self, decoding: Decoding, vocabulary: TextVocabulary) -> None:
        self.decoding = decoding
        self._vocabulary = vocabulary

    @torch.inference_mode()
    def write(self, prompts: Sequence[_TemplatePrompt]) -> list[Metadata]:
        """The metadata that the model writes into `prompts`: their think blocks as far as the last open field."""
        grammars = [prompt.template.grammar for prompt in prompts]
        compiled = {grammar: LLMatcher(self._vocabulary.grammar_tokens, grammar) for grammar in set(grammars)}
        rows = [
            _TemplateRow(prompt, compiled[each].deep_copy()) for prompt, each in zip(prompts, grammars, strict=True)
        ]
        hidden = self.decoding.prefill([prompt.prompt for prompt in prompts])
        step = 0
        while True:
            if choosing := [place for place, row in enumerate(rows) if not (row.is_done or row.unread)]:
                for place, token in zip(choosing, self._choose(hidden, rows, choosing, step), strict=True):
                    rows[place].write(token)
            if all(row.is_done for row in rows):
                return [self._read(row) for row in rows]
            # A row that is done reads its remaining tokens or padding; its results are not used.
            ids = [row.unread.popleft() if row.unread else 0 for row in rows]
            hidden = self.decoding.step(torch.tensor(ids, device=self.decoding.device))
            step += 1

    def _choose(
        self, hidden: torch.Tensor, rows: Sequence[_TemplateRow], choosing: Sequence[int], step: int
    ) -> list[int]:
        """The next token of each row that is `choosing`, by Gumbel-max over the tokens that its grammar allows."""
        device = self.decoding.device
        allowed = [torch.from_numpy(rows[place].allowed()) for place in choosing]
        ids = torch.nn.utils.rnn.pad_sequence(allowed, batch_first=True, padding_value=-1).to(device)
        seed = torch.tensor([rows[place].prompt.seed for place in choosing], device=device)
        temperature = torch.tensor([rows[place].prompt.template.temperature for place in choosing], device=device)
        logits = self.decoding.logits(hidden, 0, self._vocabulary.end)[torch.tensor(choosing, device=device)]
        logits = logits.gather(1, ids.clamp(min=0))
        if not bool(logits.isfinite().all()):
            raise ModelError(
                "the planner yields values that are not numbers",
                why="its weights are damaged, or their range is wider than the data type",
                fix="fetch the planner's weights again",
            )
        noisy = logits / temperature[:, None] + gumbel_noise(seed[:, None], step, ids.clamp(min=0))
        best = noisy.masked_fill(ids < 0, -torch.inf).argmax(dim=1, keepdim=True)
        return [int(token) for token in ids.gather(1, best)[:, 0].tolist()]

    def _read(self, row: _TemplateRow) -> Metadata:
        written = self._vocabulary.grammar_tokens.decode_bytes(row.written).decode()
        metadata: Any = yaml.safe_load(row.prompt.template.lead + written)
        return dict(metadata)

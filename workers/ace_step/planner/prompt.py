"""The planner's prompt: a spec as the chat that the language model was trained to answer with audio codes.

System turn: the task. User turn: caption and lyrics. Assistant turn: a think block with the metadata as YAML, after
which the codes follow. The chat markup is the checkpoint's own template. PyYAML writes the block, because the model was
trained on text that PyYAML wrote: captions folded at 80 columns, the language 'no' in quotes, integers bare.

With guidance there is a second, unconditional prompt. Upstream changed its text, and the end of the assistant turn
before the codes, between two releases. `assistant_turn` of the spec chooses the release, and each choice takes the two
prompts from the same release, so that a comparison is between prompts that upstream used:

* `open` (upstream since 2026-04, "training-aligned"): the turn ends `</think>`, blank line, codes. Unconditional: the
  user says only the negative prompt or `NO USER INPUT`, without headings, and the think block is empty.
* `closed` (upstream 2026-02): the think block is a finished message, `<|im_end|>` and a newline, then codes.
  Unconditional: the same user turn (its caption replaced by a negative prompt that says something), think block empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

import yaml

from catalog.prompt import PLANNER_INSTRUCTION
from catalog.spec import PlannerSpec, ThinkField, TrackSpec, with_metadata

SYSTEM = f"# Instruction\n{PLANNER_INSTRUCTION}\n\n"
NO_USER_INPUT = "NO USER INPUT"

Metadata = dict[str, str | int]

# The fields of the think block in its order, and where the spec has them.
_IN_SPEC: Final[dict[ThinkField, str]] = {
    "bpm": "bpm",
    "caption": "caption",
    "duration": "duration_s",
    "keyscale": "keyscale",
    "language": "language",
    "timesignature": "timesignature",
}


class ChatTokenizer(Protocol):
    """The part of a tokenizer that renders chats."""

    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool) -> Any:
        """Render `conversation`, a list of messages with role and content."""


class Prompts(NamedTuple):
    """The conditional and the unconditional prompt of one take, as text."""

    conditional: str
    unconditional: str | None  # None: no guidance, so none is needed
    metadata: Metadata  # the fields of the think block, as the model is given them


def render_prompts(tokenizer: ChatTokenizer, spec: TrackSpec, planner: PlannerSpec) -> Prompts:
    """Render the prompts of `spec` as `planner` asks; codes follow directly after each."""
    metadata = think_metadata(spec, planner)
    user = _user_turn(spec.caption, spec.lyrics)
    conditional = _render(tokenizer, user, think_block(metadata), planner)
    if planner.cfg_scale == 1:
        return Prompts(conditional, None, metadata)
    unconditional = _render(tokenizer, _unconditional_user_turn(spec, planner), think_block({}), planner)
    return Prompts(conditional, unconditional, metadata)


def think_metadata(spec: TrackSpec, planner: PlannerSpec) -> Metadata:
    """The fields of `spec` that `planner` wants in the think block, in the block's (alphabetical) order."""
    if spec.is_open:
        raise ValueError("the spec is still open; complete it with the metadata of its plan first")
    return {field: _as_trained(field, given(spec, field)) for field in _IN_SPEC if field in planner.think_fields}


def given(spec: TrackSpec, field: ThinkField) -> Any:
    """The value that `spec` has for a field of the think block; None while it is open."""
    return getattr(spec, _IN_SPEC[field])


def think_block(metadata: Mapping[str, str | int]) -> str:
    """The think block around `metadata`; empty metadata leave one empty line."""
    text = yaml.dump(dict(metadata), allow_unicode=True, sort_keys=True).strip() if metadata else ""
    return f"<think>\n{text}\n</think>"


def think_line(field: ThinkField, value: str | int) -> str:
    """The lines of one field inside the block, to the end of the last."""
    return yaml.dump({field: _as_trained(field, value)}, allow_unicode=True)


def render_opening(tokenizer: ChatTokenizer, spec: TrackSpec, written: str) -> str:
    """The conditional prompt as far as the beginning of a think block that goes on with `written`."""
    return f"{_opened_turn(tokenizer, _user_turn(spec.caption, spec.lyrics))}<think>\n{written}"


def _as_trained(name: str, value: str | int) -> str | int:
    """A field as the reference writes it: 4/4 becomes 4, and a text of digits becomes a number, in any field."""
    if isinstance(value, str):
        value = value.removesuffix("/4") if name == "timesignature" else value
        return int(value) if value.isdecimal() else value
    return value


def _user_turn(caption: str, lyrics: str) -> str:
    return f"# Caption\n{caption}\n\n# Lyric\n{lyrics}\n"


def _unconditional_user_turn(spec: TrackSpec, planner: PlannerSpec) -> str:
    negative = planner.negative_prompt
    says_something = negative.strip() not in {"", NO_USER_INPUT}
    if planner.assistant_turn == "open":
        return negative if says_something else NO_USER_INPUT
    return _user_turn(negative if says_something else spec.caption, spec.lyrics)


def _render(tokenizer: ChatTokenizer, user: str, think: str, planner: PlannerSpec) -> str:
    if planner.assistant_turn == "open":
        return f"{_opened_turn(tokenizer, user)}{think}\n\n"
    messages = [*_messages(user), {"role": "assistant", "content": think}]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False))
    return text if text.endswith("\n") else f"{text}\n"


def _opened_turn(tokenizer: ChatTokenizer, user: str) -> str:
    return str(tokenizer.apply_chat_template(_messages(user), tokenize=False, add_generation_prompt=True))


def _messages(user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def provisional(spec: TrackSpec) -> TrackSpec:
    """`spec` with the longest possible values in its open fields: if these fit, any choice fits."""
    if spec.bounds is None:
        return spec
    longest: dict[str, str | int] = {}
    for field in spec.bounds.open:
        values: tuple[str | int, ...] = spec.bounds.choices(field)
        longest[field] = max(values, key=lambda value: (len(str(value)), str(value)))
    return with_metadata(spec, longest)

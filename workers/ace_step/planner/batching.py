"""Planner batches: the number of takes that are planned together, and their choice; arithmetic without a model.

A take is written in a batch with a fixed number of slots and a fixed prompt width. The two follow from the take and the
device's total memory alone, so they are the same in every batch and on every worker with the same GPU. Takes share a
batch when the two agree and when all are guided or all are not. Lengths may differ; takes of similar length are put
together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import torch

from catalog.tiers import BatchLimit
from workers.ace_step.planner.decoding import whole_columns

# With guidance, reading the cache costs as much as reading the weights at about 16 takes; beyond 64 little is gained.
SLOTS_MAX: Final = 64
SLOTS_MAX_CPU: Final = 16
# From a sixteenth to half of the context: 256 (most instrumental takes), 512, 1024 and 2048 tokens. Attention reads the
# padding too, at every step.
_PROMPT_CLASSES: Final = 4
_GB: Final = 1e9
_GIB: Final = 2**30


class KvBudget(NamedTuple):
    """The memory and context that a planner writes in."""

    token_bytes: int  # keys and values of one token of one row
    context_tokens: int  # prompt and codes together
    slots_max: int
    memory_gib: float | None = None  # for keys and values; None: as much as it takes

    @classmethod
    def of(cls, config: Any, dtype: torch.dtype, device: torch.device, context_tokens: int) -> KvBudget:
        """The budget of a model with transformers' `config` on `device`, with no limit on memory."""
        token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype.itemsize
        return cls(token_bytes, context_tokens, SLOTS_MAX_CPU if device.type == "cpu" else SLOTS_MAX)

    @property
    def prompt_classes(self) -> tuple[int, ...]:
        """The widths that prompts are padded to, smallest first."""
        return tuple(self.context_tokens >> shift for shift in range(_PROMPT_CLASSES, 0, -1))

    def longest_prompt(self, n_codes: int) -> int:
        """The most tokens a prompt may have before `n_codes` codes."""
        return min(self.context_tokens - n_codes, self.prompt_classes[-1])

    def prompt_class(self, n_tokens: int) -> int:
        """The width of a prompt of `n_tokens`, which `longest_prompt` must allow."""
        return next(width for width in self.prompt_classes if n_tokens <= width)

    def slots(self, n_codes: int, prompt_class: int) -> BatchLimit:
        """The number of takes of `n_codes` written side by side after prompts of `prompt_class`, with the reason.

        The number is a power of two, so that few shapes occur. Each take has two rows, whether it is guided or not.
        """
        row_bytes = whole_columns(prompt_class + n_codes) * self.token_bytes
        slots = self.slots_max
        while slots > 1 and self.memory_gib is not None and 2 * slots * row_bytes > self.memory_gib * _GIB:
            slots //= 2
        of_all = "" if self.memory_gib is None else f" of {self.memory_gib * _GIB / _GB:.1f} GB"
        held = f"KV {2 * slots * row_bytes / _GB:.1f} GB{of_all}"
        return BatchLimit(slots, f"{slots} slots: {held}, {self.token_bytes / 1024:g} KiB a token")


class BatchShape(NamedTuple):
    """The sizes that the takes of one batch have in common."""

    guided: bool  # two rows a take instead of one
    prompt_class: int
    slots: int

    @classmethod
    def of(cls, budget: KvBudget, prompts: Sequence[Sequence[int]], n_tokens: int) -> BatchShape:
        """The batch shape of a take with one or two prompts, after which `n_tokens` are written."""
        width = budget.prompt_class(max(len(prompt) for prompt in prompts))
        return cls(len(prompts) > 1, width, budget.slots(n_tokens, width).takes)


def batches(shapes: Sequence[BatchShape], n_tokens: Sequence[int]) -> Iterator[tuple[BatchShape, list[int]]]:
    """Split takes, given by their batch shape and length, into batches, shortest takes first.

    Yields the indexes of the takes; each index occurs once.
    """
    for shape in sorted(set(shapes)):
        members = [place for place, other in enumerate(shapes) if other == shape]
        members.sort(key=lambda place: n_tokens[place])
        for first in range(0, len(members), shape.slots):
            yield shape, members[first : first + shape.slots]

"""The planner's decode buffers: made for a batch, and kept for the next batch where shapes are fixed.

Buffers also keep the graphs that were captured on them. All buffers together stay within the planner's memory; the
least recently used ones are dropped first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Protocol, TypeVar, cast

from workers.ace_step.device.placement import is_out_of_memory
from workers.ace_step.lru import Lru
from workers.ace_step.planner.batching import BatchShape, KvBudget
from workers.ace_step.planner.decoding import Decoding, Shape, wants_fixed_shapes

_GIB: Final = 2**30
_KEPT_WITHOUT_LIMIT: Final = 4

_log = logging.getLogger(__name__)


class DecodeWriter(Protocol):
    """Something that writes tokens, in decode buffers of its own."""

    @property
    def decoding(self) -> Decoding:
        """The buffers that it writes in."""


D = TypeVar("D", bound=DecodeWriter)


class DecodeBuffers:
    """The decode buffers of one model, each with its writer. `budget` limits their memory."""

    def __init__(self, model: Any, budget: KvBudget) -> None:
        self.model = model
        self.budget = budget
        self.recorded = True  # a model whose weights move cannot be
        self._writers: Lru[Hashable, DecodeWriter] = Lru()

    def writer(
        self, batch_shape: BatchShape, prompts: Sequence[Sequence[int]], n_tokens: int, make: Callable[[Decoding], D]
    ) -> D:
        """A writer with buffers for `prompts`, those of both halves of a batch, and up to `n_tokens` tokens after them.

        `make` builds one; it must be a different function for each kind of writer, because it is part of the key.
        Raises torch's errors when memory is short, and from then on allows half as many slots.
        """
        halves = 2 if batch_shape.guided else 1
        if not wants_fixed_shapes(self.model.dtype):
            longest = max(len(prompt) for prompt in prompts)
            return make(Decoding(self.model, Shape.of(len(prompts), longest, n_tokens)))
        key = (make, batch_shape)
        shape = Shape.of(halves * batch_shape.slots, batch_shape.prompt_class, n_tokens)
        kept = self._writers.find(key)
        if kept is None or kept.decoding.shape.columns < shape.columns:
            self._clear_for(key, shape)
            kept = self._writers.put(key, self._made(batch_shape, shape, make))
        return cast(D, kept)

    def clear(self) -> None:
        """Drop all buffers and their graphs."""
        while self._writers:
            _release(self._writers.pop_oldest())

    def shrink(self, batch_shape: BatchShape) -> None:
        """Something for `batch_shape` did not fit: from now on half as many takes are written at a time."""
        self.clear()
        fewer = max(1, batch_shape.slots // 2)
        _log.warning("no memory for %d takes: from now on the planner writes %d at a time", batch_shape.slots, fewer)
        self.budget = self.budget._replace(slots_max=min(self.budget.slots_max, fewer))

    def _made(self, batch_shape: BatchShape, shape: Shape, make: Callable[[Decoding], D]) -> D:
        try:
            return make(Decoding(self.model, shape, recorded=self.recorded))
        except RuntimeError as error:
            if is_out_of_memory(error):
                self.shrink(batch_shape)
            raise

    def _clear_for(self, key: Hashable, shape: Shape) -> None:
        """Drop the buffers of `key`, and others until `shape` fits beside the rest."""
        if (shorter := self._writers.pop(key)) is not None:
            _release(shorter)
        while self._writers and not self._fits(shape):
            _release(self._writers.pop_oldest())

    def _fits(self, shape: Shape) -> bool:
        if self.budget.memory_gib is None:
            return len(self._writers) < _KEPT_WITHOUT_LIMIT
        shapes = [writer.decoding.shape for writer in self._writers.values()]
        tokens = sum(each.rows * each.columns for each in (*shapes, shape))
        return tokens * self.budget.token_bytes <= self.budget.memory_gib * _GIB


def _release(writer: DecodeWriter) -> None:
    # Graphs refer to the steps they recorded, and these to the buffers: without this, they would live on for a while.
    writer.decoding.graphs.clear()

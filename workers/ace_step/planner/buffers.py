"""The planner's buffers: made for what is to be written, and kept for the next batch where shapes are fixed.

A kept decoding keeps its captured graphs too. Together they stay within the memory the planner was given; the one
that was used longest ago goes first.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Protocol, TypeVar, cast

from workers.ace_step.device.placement import is_out_of_memory
from workers.ace_step.planner.batching import BatchShape, KvBudget
from workers.ace_step.planner.decoding import Decoding, Shape, wants_fixed_shapes

_GIB: Final = 2**30
_KEPT_WITHOUT_LIMIT: Final = 4

_log = logging.getLogger(__name__)


class DecodeBuffer(Protocol):
    """Something that writes on a decoding of its own."""

    @property
    def decoding(self) -> Decoding:
        """What it writes on."""


D = TypeVar("D", bound=DecodeBuffer)


class DecodeBuffers:
    """The desks of one model. `room` says what fits."""

    def __init__(self, model: Any, room: KvBudget) -> None:
        self.model = model
        self.room = room
        self.recorded = True  # a model whose weights move cannot be
        self._kept: OrderedDict[Hashable, DecodeBuffer] = OrderedDict()

    def desk(
        self, company: BatchShape, prompts: Sequence[Sequence[int]], n_tokens: int, make: Callable[[Decoding], D]
    ) -> D:
        """A desk where `prompts`, those of both halves of a batch, are followed by up to `n_tokens` tokens.

        `make` builds one; a function of its own for each kind of desk, because it tells them apart. Raises what torch
        raises when there is no memory for it, and from then on allows half as many slots.
        """
        halves = 2 if company.guided else 1
        if not wants_fixed_shapes(self.model.dtype):
            longest = max(len(prompt) for prompt in prompts)
            return make(Decoding(self.model, Shape.of(len(prompts), longest, n_tokens)))
        key = (make, company)
        shape = Shape.of(halves * company.slots, company.prompt_class, n_tokens)
        kept = self._kept.get(key)
        if kept is None or kept.decoding.shape.columns < shape.columns:
            self._clear_for(key, shape)
            kept = self._kept[key] = self._made(company, shape, make)
        self._kept.move_to_end(key)
        return cast(D, kept)

    def clear(self) -> None:
        """Let everything go."""
        while self._kept:
            self._drop(next(iter(self._kept)))

    def shrink(self, company: BatchShape) -> None:
        """Something for `company` did not fit: from now on half as many takes are written at a time."""
        self.clear()
        fewer = max(1, company.slots // 2)
        _log.warning("no memory for %d takes: from now on the planner writes %d at a time", company.slots, fewer)
        self.room = self.room._replace(slots_max=min(self.room.slots_max, fewer))

    def _made(self, company: BatchShape, shape: Shape, make: Callable[[Decoding], D]) -> D:
        try:
            return make(Decoding(self.model, shape, recorded=self.recorded))
        except RuntimeError as error:
            if is_out_of_memory(error):
                self.shrink(company)
            raise

    def _clear_for(self, key: Hashable, shape: Shape) -> None:
        """Drop what `key` has, and others until `shape` fits beside the rest."""
        if key in self._kept:
            self._drop(key)
        while self._kept and not self._fits(shape):
            self._drop(next(iter(self._kept)))

    def _fits(self, shape: Shape) -> bool:
        if self.room.memory_gib is None:
            return len(self._kept) < _KEPT_WITHOUT_LIMIT
        shapes = [desk.decoding.shape for desk in self._kept.values()]
        tokens = sum(each.rows * each.columns for each in (*shapes, shape))
        return tokens * self.room.token_bytes <= self.room.memory_gib * _GIB

    def _drop(self, key: Hashable) -> None:
        # Graphs refer to the steps they recorded, and these to the decoding: without this, it would live on for a
        # while.
        self._kept.pop(key).decoding.graphs.clear()

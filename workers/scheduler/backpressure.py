"""Backpressure: how much audio is on its way from the engine to the store, so that it never fills the memory.

A batch has its place from the moment it is begun, before there is any audio, until the last of its takes is done
with: its audio is one block, which is freed as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Batch:
    size_bytes: int
    takes: int


class Backpressure:
    """Places for the audio of batches, `bytes_max` in all; two batches always find room."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._batches: dict[str, _Batch] = {}

    def has_room(self, size_bytes: int) -> bool:
        """Whether a batch of that size may be begun."""
        there = sum(batch.size_bytes for batch in self._batches.values())
        return there + size_bytes <= max(self._bytes_max, 2 * size_bytes)

    def put(self, batch_id: str, *, size_bytes: int, takes: int) -> None:
        """Keep a place for the audio of `takes`."""
        self._batches[batch_id] = _Batch(size_bytes, takes)

    def take_one(self, batch_id: str) -> None:
        """One take of the batch is done with, or never had audio."""
        batch = self._batches.get(batch_id)
        if batch is not None:
            batch.takes -= 1
            if batch.takes <= 0:
                del self._batches[batch_id]

    def clear(self, batch_id: str) -> None:
        """The batch came to nothing."""
        self._batches.pop(batch_id, None)

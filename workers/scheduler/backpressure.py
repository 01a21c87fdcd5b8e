"""Backpressure: limits the memory of the audio between the engine and the store.

A batch reserves its memory when it begins, before it has any audio, and keeps the reservation until its last take is
released, because the audio of a batch is one block that is freed as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Reservation:
    size_bytes: int
    takes: int


class Backpressure:
    """The memory reserved for the audio of batches, at most `bytes_max` in all; two batches always fit."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._reservations: dict[str, _Reservation] = {}

    def has_room(self, size_bytes: int) -> bool:
        """True when a batch of that size may begin."""
        reserved = sum(each.size_bytes for each in self._reservations.values())
        return reserved + size_bytes <= max(self._bytes_max, 2 * size_bytes)

    def reserve(self, batch_id: str, *, size_bytes: int, takes: int) -> None:
        """Reserve memory for the audio of a batch of `takes`."""
        self._reservations[batch_id] = _Reservation(size_bytes, takes)

    def release_take(self, batch_id: str) -> None:
        """Note that a take of the batch needs its audio no more, or never had any."""
        reservation = self._reservations.get(batch_id)
        if reservation is not None:
            reservation.takes -= 1
            if reservation.takes <= 0:
                del self._reservations[batch_id]

    def cancel(self, batch_id: str) -> None:
        """Free the memory of a batch that failed."""
        self._reservations.pop(batch_id, None)

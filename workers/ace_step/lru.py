"""LRU: a bounded mapping that drops the least recently used entry."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lru(Generic[K, V]):
    """The `keep` most recently used entries (None: all, until the owner pops some). `find` and `put` count as uses."""

    def __init__(self, keep: int | None = None) -> None:
        self._keep = keep
        self._entries: dict[K, V] = {}  # the one used longest ago comes first

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: K) -> V | None:
        """The value of `key`, or None."""
        if key not in self._entries:
            return None
        self._entries[key] = value = self._entries.pop(key)
        return value

    def put(self, key: K, value: V) -> V:
        """Store `value` and return it; when there are too many entries, the least recently used ones are dropped."""
        self._entries.pop(key, None)
        self._entries[key] = value
        while self._keep is not None and len(self._entries) > self._keep:
            self.pop_oldest()
        return value

    def pop(self, key: K) -> V | None:
        """Remove and return the value of `key`."""
        return self._entries.pop(key, None)

    def pop_oldest(self) -> V:
        """Remove and return the least recently used value. KeyError when there is none."""
        return self._entries.pop(next(iter(self._entries), None))  # type: ignore[arg-type]  # None is no key of ours

    def values(self) -> Iterable[V]:
        """All values, the least recently used first. Reading them does not count as a use."""
        return self._entries.values()

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()

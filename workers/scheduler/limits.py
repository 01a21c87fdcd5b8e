"""Limits: how many takes a call may hold: what the engine says, or less where a call did not fit.

Memory can be short for a while (another process, fragments), so what was learnt from one call is not held against
all that follow: after a run of calls without trouble the limit doubles, up to the engine's own.
"""

from __future__ import annotations

from collections.abc import Callable

from catalog.buckets import Bucket
from catalog.tiers import BatchLimit

RECOVERY_CALLS = 32


class Capacity:
    """The limits of one kind of call, by bucket."""

    def __init__(self) -> None:
        self._engines: dict[Bucket, int] = {}
        self._learnt: dict[Bucket, int] = {}
        self._good_calls: dict[Bucket, int] = {}

    def knows(self, bucket: Bucket) -> bool:
        """Whether the engine has been asked."""
        return bucket in self._engines

    def ask(self, engine: Callable[[Bucket], BatchLimit], bucket: Bucket) -> BatchLimit:
        """Have the engine say its own limit."""
        limit = engine(bucket)
        self._engines[bucket] = limit.takes
        return limit

    def forget(self) -> None:
        """Another engine may say otherwise; what was learnt stays."""
        self._engines.clear()

    def of(self, bucket: Bucket) -> int:
        """The most takes of a bucket that the engine was asked about."""
        own = self._engines[bucket]
        return min(own, self._learnt.get(bucket, own))

    def shrink(self, bucket: Bucket, takes: int) -> None:
        """A call of more than `takes` did not fit."""
        # A larger call that was under way may fail after a smaller one.
        self._learnt[bucket], self._good_calls[bucket] = min(takes, self._learnt.get(bucket, takes)), 0

    def fitted(self, bucket: Bucket) -> int | None:
        """A call of `bucket` fitted; the new limit, when it has recovered by that."""
        if bucket not in self._learnt:
            return None
        self._good_calls[bucket] += 1
        if self._good_calls[bucket] < RECOVERY_CALLS:
            return None
        self._learnt[bucket], self._good_calls[bucket] = 2 * self._learnt[bucket], 0
        if self._learnt[bucket] >= self._engines.get(bucket, self._learnt[bucket]):
            del self._learnt[bucket]
        return self.of(bucket) if self.knows(bucket) else None

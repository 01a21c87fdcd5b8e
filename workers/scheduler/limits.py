"""Limits: the number of takes that a call may hold, which is the engine's own limit or less after a batch did not fit.

Memory may be short for a while (another process, fragments). So a limit that one call has lowered does not stay low:
after a series of calls without trouble it doubles, up to the engine's own limit.
"""

from __future__ import annotations

from collections.abc import Callable

from catalog.buckets import Bucket
from catalog.tiers import BatchLimit

RECOVERY_CALLS = 32


class Capacity:
    """The limits of one kind of call, by bucket."""

    def __init__(self) -> None:
        self._own: dict[Bucket, int] = {}
        self._lowered: dict[Bucket, int] = {}
        self._good_calls: dict[Bucket, int] = {}

    def knows(self, bucket: Bucket) -> bool:
        """True when the engine has been asked for its limit for `bucket`."""
        return bucket in self._own

    def ask(self, engine: Callable[[Bucket], BatchLimit], bucket: Bucket) -> BatchLimit:
        """Ask the engine for its own limit."""
        limit = engine(bucket)
        self._own[bucket] = limit.takes
        return limit

    def forget(self) -> None:
        """Forget the engine's own limits, as the next engine may have others; sizes that did not fit stay known."""
        self._own.clear()

    def of(self, bucket: Bucket) -> int:
        """The limit of one call for takes of `bucket`; the engine must have been asked."""
        own = self._own[bucket]
        return min(own, self._lowered.get(bucket, own))

    def shrink(self, bucket: Bucket, takes: int) -> None:
        """Lower the limit to `takes`, because a larger call did not fit."""
        # A larger call that was under way may fail after a smaller one.
        self._lowered[bucket], self._good_calls[bucket] = min(takes, self._lowered.get(bucket, takes)), 0

    def note_success(self, bucket: Bucket) -> int | None:
        """Note a call of `bucket` that fitted; return the new limit if the call has raised it."""
        if bucket not in self._lowered:
            return None
        self._good_calls[bucket] += 1
        if self._good_calls[bucket] < RECOVERY_CALLS:
            return None
        self._lowered[bucket], self._good_calls[bucket] = 2 * self._lowered[bucket], 0
        if self._lowered[bucket] >= self._own.get(bucket, self._lowered[bucket]):
            del self._lowered[bucket]
        return self.of(bucket) if self.knows(bucket) else None

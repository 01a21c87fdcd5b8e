"""Retries: the time to wait between two tries to reach an outside service, and the time after which to give up.

One policy serves every broker, store and ledger that is unreachable. Waits grow from try to try, so that a service that
recovers does not meet all its clients at once; they are bounded, so that no client waits long for it. The caller itself
waits: on an event where it must be possible to stop, with `time.sleep` elsewhere.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between tries: the first, then each `factor` times the one before, none above `longest_s`."""

    first_s: float
    longest_s: float
    factor: float = 2.0
    patience_s: float = math.inf  # the waits add up to no more than this; then no other try is worth while
    jitter: float = 0.0  # the part of each wait that is drawn at random, so that rivals do not meet again and again

    def waits_s(self) -> Iterator[float]:
        """Seconds to wait before the second try, the third, and so on; ends when the patience is used up."""
        wait_s, left_s = self.first_s, self.patience_s
        while left_s > 0:
            yield min(wait_s, left_s) * random.uniform(1 - self.jitter, 1)
            left_s -= wait_s
            wait_s = min(wait_s * self.factor, self.longest_s)


@dataclass(slots=True)
class Outage:
    """The state of an outside service: whether it is away, since when, and the wait before the next try."""

    backoff: Backoff
    clock: Callable[[], float] = time.monotonic
    _since_s: float | None = field(default=None, init=False)
    _waits_s: Iterator[float] = field(default_factory=lambda: iter(()), init=False)

    @property
    def is_on(self) -> bool:
        """True when the last try failed."""
        return self._since_s is not None

    @property
    def lasted_s(self) -> float:
        """Seconds since the first try that failed; 0 when the last one did not."""
        return 0.0 if self._since_s is None else self.clock() - self._since_s

    def failed(self) -> bool:
        """Note a try that failed; True for the first of an outage, which is worth a word."""
        if self._since_s is not None:
            return False
        self._since_s, self._waits_s = self.clock(), self.backoff.waits_s()
        return True

    def next_wait_s(self) -> float:
        """Seconds to wait before the next try; 0 when nothing failed or no other try is worth while."""
        return next(self._waits_s, 0.0)

    def ended(self) -> bool:
        """Note a try that did not fail; True for the first after an outage."""
        was_on, self._since_s = self.is_on, None
        return was_on

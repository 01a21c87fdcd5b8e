"""The backlog: requests that wait for the engine, in the order in which they came.

A call takes requests out; one that failed puts them back where they were, or behind all others. The scheduler holds
its lock around every method.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from catalog.buckets import Bucket
from workers.scheduler.policy import take_out
from workers.scheduler.request import EngineCall, Request


class Backlog:
    """The waiting requests, oldest first, and those that the planner has at this moment."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []
        self.last_arrival_s = 0.0  # on the monotonic clock
        self._planning: list[Request] = []
        self._arrivals = itertools.count()

    def add(self, request: Request) -> None:
        """Put a request that has just come behind all others."""
        request.arrival = next(self._arrivals)
        self.last_arrival_s = time.monotonic()
        self.waiting.append(request)

    def take_out(self, call: EngineCall) -> None:
        """Remove the requests of a call that begins; planned ones come back."""
        self.waiting = take_out(call, self.waiting)
        self._planning = call.takes if call.kind == "plan" else []

    def put_back(self, requests: Sequence[Request], *, last: bool = False) -> None:
        """Let requests wait again, where they were or behind all others, unless their callers have an answer."""
        self._planning = []
        unanswered = [each for each in requests if not each.is_done]
        for each in unanswered if last else ():
            each.arrival = next(self._arrivals)
        self.waiting = sorted([*self.waiting, *unanswered], key=lambda each: each.arrival)

    def clear(self) -> list[Request]:
        """Remove and return everything that has not been rendered, those with the planner included."""
        removed, self.waiting, self._planning = [*self.waiting, *self._planning], [], []
        return removed

    def remove_suspects(self) -> list[Request]:
        """Remove and return the requests that were alone with an engine that died."""
        suspects = [each for each in self.waiting if each.deaths_alone]
        self.waiting = [each for each in self.waiting if not each.deaths_alone]
        return suspects

    @property
    def buckets(self) -> set[Bucket]:
        """The buckets of the waiting requests."""
        return {each.bucket for each in self.waiting}

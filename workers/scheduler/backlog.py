"""The backlog: the requests that wait for the engine, in the order of their arrival.

An engine call takes requests out. After a failed call, its requests are put back at their old places, or behind all
others. The scheduler holds its lock around every method.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from catalog.buckets import Bucket
from workers.scheduler.policy import take_out
from workers.scheduler.request import EngineCall, Request


class Backlog:
    """The waiting requests, oldest first, and the requests that are with the planner."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []
        self.last_arrival_s = 0.0  # on the monotonic clock
        self._planning: list[Request] = []
        self._arrivals = itertools.count()

    def add(self, request: Request) -> None:
        """Append a request that has just arrived."""
        request.arrival = next(self._arrivals)
        self.last_arrival_s = time.monotonic()
        self.waiting.append(request)

    def take_out(self, call: EngineCall) -> None:
        """Remove the requests of a call that begins; the requests of a planner call come back afterwards."""
        self.waiting = take_out(call, self.waiting)
        self._planning = call.takes if call.kind == "plan" else []

    def put_back(self, requests: Sequence[Request], *, last: bool = False) -> None:
        """Let requests wait again, at their old places or behind all others, unless their callers have an answer."""
        self._planning = []
        unanswered = [each for each in requests if not each.is_done]
        for each in unanswered if last else ():
            each.arrival = next(self._arrivals)
        self.waiting = sorted([*self.waiting, *unanswered], key=lambda each: each.arrival)

    def clear(self) -> list[Request]:
        """Remove and return all requests that are not rendered yet, including those with the planner."""
        removed, self.waiting, self._planning = [*self.waiting, *self._planning], [], []
        return removed

    def remove_suspects(self) -> list[Request]:
        """Remove and return the requests that were alone with an engine when it died."""
        suspects = [each for each in self.waiting if each.deaths_alone]
        self.waiting = [each for each in self.waiting if not each.deaths_alone]
        return suspects

    @property
    def buckets(self) -> set[Bucket]:
        """The buckets of the waiting requests."""
        return {each.bucket for each in self.waiting}

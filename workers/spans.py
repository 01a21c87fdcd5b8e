"""Spans: the engine's time without a gap, so that the cost of a machine can be allocated to its work.

Each span begins where the last one ended, even if the clock jumps. While the clock shows an earlier time, no span is
made, and the time joins the next span. Idle time is reported in spans of at most ten minutes, also when the machine was
suspended meanwhile. Any other activity is one span, because it is one call of the engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Final, Literal

from catalog.messages import Span, now_ms

State = Literal["startup", "plan", "render", "idle", "post", "teardown"]

IDLE_SPAN_MAX_MS: Final = 600_000

NO_WORK = "no work"
WAITING_FOR_POST = "waiting for post"  # threads or memory are full of takes that are checked, encoded or uploaded
LOADING = "loading"  # an engine that had grown was started anew
RECOVERING = "recovering"  # an engine that died was started anew


class SpanLog:
    """The spans of one worker from `started_at_ms` on; closed ones wait here until they are published."""

    def __init__(self, started_at_ms: int, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or now_ms
        self._cursor_ms = started_at_ms
        self._closed: list[Span] = []
        self._lock = threading.Lock()

    @property
    def open_ms(self) -> int:
        """The time since the end of the last span."""
        with self._lock:
            return max(0, self._clock() - self._cursor_ms)

    def close(self, state: State, *, batch_id: str = "", cause: str = "") -> None:
        """Book the time since the last call; less than a millisecond joins the next span."""
        with self._lock:
            end_ms = self._clock()
            if end_ms <= self._cursor_ms:
                return
            step_ms = IDLE_SPAN_MAX_MS if state == "idle" else end_ms - self._cursor_ms
            for start_ms, piece_end_ms in pairwise((*range(self._cursor_ms, end_ms, step_ms), end_ms)):
                piece = Span(state=state, start_ms=start_ms, end_ms=piece_end_ms, batch_id=batch_id, cause=cause)
                self._closed.append(piece)
            self._cursor_ms = end_ms

    def take_closed(self) -> list[Span]:
        """The closed spans that were not taken yet, in order."""
        with self._lock:
            closed, self._closed = self._closed, []
            return closed

"""Activity: the current use of the engine's time, written as a span when the use changes.

Idle time is also written every minute, even when the scheduler wakes again and again without work. So the loss of a
worker loses little idle time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from workers.spans import SpanLog, State

IDLE_BOOKED_AFTER_MS: Final = 60_000


class EngineActivity(NamedTuple):
    """One use of the engine's time."""

    state: State
    batch_id: str = ""
    cause: str = ""


class ActivityLog:
    """The current activity, whose span is written when it ends. Used only by the scheduler's own thread."""

    def __init__(self, spans: SpanLog) -> None:
        self._spans = spans
        self._current: EngineActivity | None = None

    def switch_to(self, activity: EngineActivity) -> None:
        """Write the span of the current activity if another one begins, or if it is idle time of a minute or more."""
        if activity != self._current or (activity.state == "idle" and self._spans.open_ms >= IDLE_BOOKED_AFTER_MS):
            self.book()
        self._current = activity

    def book(self) -> None:
        """Write the span of the current activity, if there is one."""
        if self._current is not None:
            self._spans.close(self._current.state, batch_id=self._current.batch_id, cause=self._current.cause)
        self._current = None

"""Activity: the use of the engine's time while the scheduler waits, booked as a span when it changes.

Idle time is also booked every minute, so that little is lost with a worker, even if the scheduler is woken again and
again and finds nothing to do.
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
    """The current activity and the spans of those before it. For the scheduler's own thread."""

    def __init__(self, spans: SpanLog) -> None:
        self._spans = spans
        self._current: EngineActivity | None = None

    def switch_to(self, activity: EngineActivity) -> None:
        """Book the activity so far if another one begins, or if it is idle time of a minute or more."""
        if activity != self._current or (activity.state == "idle" and self._spans.open_ms >= IDLE_BOOKED_AFTER_MS):
            self.book()
        self._current = activity

    def book(self) -> None:
        """Close the span of the current activity, if there is one."""
        if self._current is not None:
            self._spans.close(self._current.state, batch_id=self._current.batch_id, cause=self._current.cause)
        self._current = None

"""Requests to stop: after the first Ctrl-C, SIGTERM or hang-up a run stops in order, after the second at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ECHO_S = 0.5  # a terminal's signal and its parent's may come as two within a moment
_POLL_S = 0.05


class StopRequest:
    """A request to stop: `requested` after the first signal, `immediate` after the second."""

    def __init__(self) -> None:
        self._first_s = 0.0
        self.requested = False
        self.immediate = False

    def request(self) -> None:
        """Request a stop; the second request makes it immediate."""
        if not self.requested:
            self._first_s = time.monotonic()
            self.requested = True
        elif time.monotonic() - self._first_s > _ECHO_S:
            self.immediate = True

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the next request."""
        # Short sleeps and no threading.Event: the waiting thread may hold the event's lock, and the signal handler,
        # which runs in the same thread, would wait for that lock for ever.
        before, end_s = (self.requested, self.immediate), time.monotonic() + seconds
        while (self.requested, self.immediate) == before and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _POLL_S))

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Turn the process's signals into requests while the context lasts.

        An ignored hang-up stays ignored: the program was started with `nohup`.
        """

        def on_signal(number: int, frame: FrameType | None) -> None:
            self.request()

        heard = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            heard.append(signal.SIGHUP)
        before = {number: signal.signal(number, on_signal) for number in heard}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

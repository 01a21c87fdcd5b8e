"""Stopping on request: the first Ctrl-C, SIGTERM or hang-up asks politely, the second hastens."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ECHO_S = 0.5  # a terminal's signal and its parent's may come as two within a moment


class StopRequest:
    """Whether somebody wants the run to stop, and how much."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._first_s = 0.0
        self.hasty = False

    @property
    def made(self) -> bool:
        """Somebody asked."""
        return self._event.is_set()

    def make(self) -> None:
        """Ask; asking again hastens."""
        if not self._event.is_set():
            self._first_s = time.monotonic()
            self._event.set()
        elif time.monotonic() - self._first_s > _ECHO_S:
            self.hasty = True

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until somebody asks."""
        if self.made:
            time.sleep(seconds)
        else:
            self._event.wait(seconds)

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Turn the process's signals into requests, for as long as the context lasts."""

        def ask(number: int, frame: FrameType | None) -> None:
            self.make()

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

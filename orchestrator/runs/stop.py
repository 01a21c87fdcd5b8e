"""Stopping on request: the first Ctrl-C, SIGTERM or hang-up asks politely, the second hastens."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ECHO_S = 0.5  # a terminal's signal and its parent's may come as two within a moment
_LOOK_EVERY_S = 0.05


class StopRequest:
    """Whether somebody wants the run to stop (`made`), and at once (`hasty`)."""

    def __init__(self) -> None:
        self._first_s = 0.0
        self.made = False
        self.hasty = False

    def make(self) -> None:
        """Ask; asking again hastens."""
        if not self.made:
            self._first_s = time.monotonic()
            self.made = True
        elif time.monotonic() - self._first_s > _ECHO_S:
            self.hasty = True

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until somebody asks, or asks again."""
        # Short naps and no threading.Event: its lock is ours while we wait, and a signal handler would wait for it.
        before, end_s = (self.made, self.hasty), time.monotonic() + seconds
        while (self.made, self.hasty) == before and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_EVERY_S))

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Turn the process's signals into requests, for as long as the context lasts.

        A hang-up that is ignored stays so: the program was started with `nohup`.
        """

        def ask(number: int, frame: FrameType | None) -> None:
            self.make()

        heard = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            heard.append(signal.SIGHUP)
        before = {number: signal.signal(number, ask) for number in heard}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

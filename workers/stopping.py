"""Stopping: the stop requests that reach a worker, and the forced end of a process that hangs."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from enum import Enum
from types import FrameType
from typing import Final

log = logging.getLogger(__name__)

_LOG_S: Final = 0.05  # for the last line of the log, which may hang itself


class StopOrder(Enum):
    """One order to stop."""

    IN_ORDER = b"S"  # SIGTERM or SIGINT: finish the takes that the engine has
    AT_ONCE = b"Q"  # SIGQUIT: give everything back
    TROUBLE = b"T"  # from within: the worker cannot go on


class StopOrders:
    """The orders that have come, from signals or from any thread, and are read one by one."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()

    def listen(self) -> None:
        """Let signals be orders from now on; for the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_signal)

    def give(self, order: StopOrder) -> None:
        """Give an order; never waits and takes no lock, so that a signal handler may do it."""
        os.write(self._write_end, order.value)

    def wait(self) -> StopOrder:
        """Wait for the next order."""
        return StopOrder(os.read(self._read_end, 1))

    def poll(self, timeout_s: float) -> StopOrder | None:
        """The next order if one comes within the timeout."""
        ready, _, _ = select.select([self._read_end], [], [], timeout_s)
        return self.wait() if ready else None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.give(StopOrder.AT_ONCE if number == signal.SIGQUIT else StopOrder.IN_ORDER)


def exit_in(seconds: float, exit_code: Callable[[], int]) -> None:
    """End the process then, if it is still there: a lock, a dead broker or an upload may hold all other threads."""
    threading.Thread(target=_exit_in, args=(seconds, exit_code), name="last resort", daemon=True).start()


def _exit_in(seconds: float, exit_code: Callable[[], int]) -> None:
    time.sleep(seconds)
    # Even the log may hang, on a pipe that is not read.
    words = "ending now, with something that hangs; takes held here are sent again when our silence is noticed"
    threading.Thread(target=log.error, args=(words,), daemon=True).start()
    time.sleep(_LOG_S)
    os._exit(exit_code())

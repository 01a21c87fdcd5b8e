"""The clock of this process: UTC that never runs backwards, and intervals that are as long as the time that passed.

`now_ms` takes the wall clock's time once, when the process begins, and adds what a steady clock counts from there on.
The steady clock is never set, and goes on while the machine is suspended where the system has such a clock (Linux:
CLOCK_BOOTTIME; macOS: CLOCK_MONOTONIC), because a rented machine is paid for while it is suspended.

Steady clocks drift by some 50 parts per million, which is two minutes a month. So the time follows the wall clock, but
by no more than one part in 2,000 of the time that passes (adjtime(3) slews a clock at the same rate). That means:

- drift, leap seconds that are smeared, and corrections by NTP of a few seconds are followed within hours;
- a wall clock that somebody sets never stops the time, never turns it back, and makes an hour of work neither longer
  nor shorter than by 1.8 s;
- a process that began with a wrong clock stays wrong: who has set the clock right starts the process again.

One thing cannot be had with it. In a virtual machine that its host pauses, both clocks may stand still, and later the
wall clock jumps ahead. From inside, that equals a clock that somebody sets ahead. It is taken for the latter, because
an hour that was never worked must not be charged: the time stays behind by the pause, whose hours are on the provider's
bill and not among the worker's spans. The same holds for a suspended machine whose system has neither of those clocks.
A wall clock that is ten seconds off is logged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

log = logging.getLogger(__name__)

SLEW: Final = 2_000  # the time follows the wall clock by one part in so many
LOGGED_NS: Final = 10_000_000_000  # more than any drift: a person has set the clock, or a host has paused the machine
SUSPENDED_NS: Final = 1_000_000_000  # two clocks that are read one after the other differ by less


def find_steady_clock() -> Callable[[], int]:
    """A clock in nanoseconds that is never set and counts the time for which the machine is suspended.

    Without such a clock in the system, `time.monotonic_ns`, which does not count that time.
    """
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        try:
            read = partial(time.clock_gettime_ns, getattr(time, name))
            read()
        except (AttributeError, OSError):  # OSError: this Python knows the clock, and the kernel does not
            continue
        return read
    return time.monotonic_ns


_read_steady_ns: Final = find_steady_clock()


class Clock:
    """UTC from a wall clock and a steady one, both in nanoseconds. Any thread may ask, also in a signal handler."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, steady_ns: Callable[[], int] = _read_steady_ns
    ) -> None:
        self._read_wall_ns, self._read_steady_ns = wall_ns, steady_ns
        self._lock = threading.RLock()  # a signal handler may ask while its own thread is inside
        self._steady_ns = steady_ns()
        self._now_ns = wall_ns()
        self._is_apart = False  # by LOGGED_NS or more from the wall clock

    def now_ms(self) -> int:
        """UTC epoch milliseconds; never less than before."""
        with self._lock:
            steady_ns = self._read_steady_ns()
            wall_ns = self._read_wall_ns()
            # From here to the end of the block nothing is called, so that no signal handler runs in between.
            passed_ns = steady_ns - self._steady_ns
            if passed_ns > 0:
                now_ns = self._now_ns + passed_ns
                ahead_ns, most_ns = wall_ns - now_ns, passed_ns // SLEW
                now_ns += most_ns if ahead_ns > most_ns else -most_ns if ahead_ns < -most_ns else ahead_ns
                self._now_ns, self._steady_ns = now_ns, steady_ns
            now_ns = self._now_ns
        if (-LOGGED_NS < wall_ns - now_ns < LOGGED_NS) is self._is_apart:
            self._note(wall_ns - now_ns, is_apart=not self._is_apart)
        return now_ns // 1_000_000

    def _note(self, ahead_ns: int, *, is_apart: bool) -> None:
        """Log once that the wall clock is no longer near this process's time."""
        self._is_apart = is_apart
        if is_apart:
            log.warning(
                "the wall clock is %+.0f s off from this process's time: somebody has set it, or the machine was"
                " paused; the time follows by %.1f s an hour, and at once when the process is started again",
                ahead_ns / 1e9,
                3600 / SLEW,
            )


class SuspendDetector:
    """Notices that the machine was suspended, where the system counts that."""

    def __init__(
        self, steady_ns: Callable[[], int] = _read_steady_ns, awake_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._read_steady_ns, self._read_awake_ns = steady_ns, awake_ns
        self._suspended_ns = steady_ns() - awake_ns()

    def was_suspended(self) -> bool:
        """True when the machine was suspended for a second or more since the last call, or since the start."""
        suspended_ns = self._read_steady_ns() - self._read_awake_ns()
        if suspended_ns - self._suspended_ns < SUSPENDED_NS:
            return False
        self._suspended_ns = suspended_ns
        return True


now_ms: Final = Clock().now_ms

"""Wall clocks that are wrong, or that somebody sets while a process runs; the steady clock stays right.

To be called before anything of the product is imported.
"""

from __future__ import annotations

import time


def set_wall_clock(ahead_s: float, *, after_s: float = 0.0) -> None:
    """From `after_s` seconds on, this process believes that it is `ahead_s` later than it is."""
    right_s, right_ns, began_s = time.time, time.time_ns, time.monotonic()

    def error_s() -> float:
        return ahead_s if time.monotonic() - began_s >= after_s else 0.0

    time.time = lambda: right_s() + error_s()
    time.time_ns = lambda: right_ns() + round(error_s() * 1e9)

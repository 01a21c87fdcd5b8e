"""A line that says how far a command is, on a terminal; nothing in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.cli.console import err

_AFTER_S = 1.0  # what is done sooner needs no word


@contextmanager
def working(what: str) -> Iterator[Callable[[int, int], None]]:
    """Within it, call what is given with (done, of so many)."""
    began_s = time.monotonic()
    status = err.status(what) if err.is_terminal else None
    is_shown = False

    def tell(done: int, total: int) -> None:
        nonlocal is_shown
        passed_s = time.monotonic() - began_s
        if status is None or passed_s < _AFTER_S:
            return
        if not is_shown:
            status.start()
            is_shown = True
        left_s = passed_s / done * (total - done) if done else 0.0
        status.update(f"{what}: {done:,} of {total:,}, about {left_s:.0f} s left")

    try:
        yield tell
    finally:
        if status is not None and is_shown:
            status.stop()

"""The standard streams: a reader that has gone is no error, and a full disk behind them is one that says so.

Whoever pipes into `head` has read what they wanted: the command does its work to the end and keeps its exit code, and
what it still prints goes nowhere. Standard error never ends a command: what it tells matters less than the work.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, Final, TextIO

from catalog.errors import StoreFullError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_closed: set[int] = set()


def guard_streams() -> None:
    """Put guarded streams in place of standard output and standard error; of one that is closed, none."""
    sys.stdout = _guarded(sys.stdout, 1)
    sys.stderr = _guarded(sys.stderr, 2)


def flush_output() -> None:
    """Write what standard output still holds. Raises StoreFullError where there is no room for it."""
    sys.stdout.flush()


def has_reader() -> bool:
    """False once the reader of standard output has gone."""
    return 1 not in _closed


class _Guarded(io.FileIO):
    """A descriptor that leads nowhere once nobody reads it or its disk is full."""

    def write(self, text: bytes) -> int:  # type: ignore[override]
        try:
            return super().write(text)
        except (BrokenPipeError, ConnectionResetError):
            self._lead_nowhere()
        except OSError as error:
            self._lead_nowhere()
            if error.errno not in _FULL or self.fileno() != 1:
                return len(text)
            raise StoreFullError(
                "standard output cannot be written: its disk is full",
                why="the output is incomplete; the command itself has finished its work",
                fix="free some space or send the output elsewhere, and run the same command again",
            ) from None
        return len(text)

    def _lead_nowhere(self) -> None:
        _closed.add(self.fileno())
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def _guarded(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:  # the caller has closed it
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
    try:
        if stream.fileno() != descriptor:
            return stream
    except (OSError, ValueError):  # a stream of a test, without a descriptor
        return stream
    stream.flush()
    raw: Any = _Guarded(descriptor, "wb", closefd=False)
    by_line = descriptor == 2 or stream.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=by_line
    )

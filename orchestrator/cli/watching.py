"""Watching a run: a progress bar on a terminal, a line now and then in a file, a dated line for cron."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Protocol

from rich.cells import cell_len
from rich.progress_bar import ProgressBar
from rich.table import Table

from orchestrator.cli.columns import cut
from orchestrator.cli.console import clock, err, say, usd, warn
from orchestrator.cli.working import SPARE_CELLS, in_place
from orchestrator.runs.progress import Progress, Watcher

LINE_EVERY_S: Final = 10.0
_BAR_WIDTH: Final = 24  # at most; on a narrow terminal the words come first
_BAR_LEAST: Final = 8


class Display(Watcher, Protocol):
    """A Watcher to enter and leave."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def display_for(*, dated: bool = False) -> Display:
    """The display that suits standard error."""
    return BarDisplay() if err.is_interactive and not dated else LineDisplay(dated=dated)


def describe(progress: Progress, *, short: bool = False) -> str:
    """Done and planned, rate, time left and money in words; rejects and failures when there are any."""
    counts, spend = progress.counts, progress.spend
    parts = [f"{counts.ended:,}/{counts.ended + counts.pending:,} takes"]
    parts.append(f"{progress.takes_per_min:,.1f}/min" if progress.takes_per_min else "starting")
    if progress.eta_ms is not None and counts.pending:
        parts.append(f"{clock(progress.eta_ms)} left")
    parts.append(usd(spend.usd_micros) + (" + unknown" if spend.unpriced else ""))
    for count, word, shorter in ((counts.rejected, "rejected", "rej"), (counts.failed, "failed", "fail")):
        if count:
            parts.append(f"{count:,} {shorter if short else word}")
    if short:
        parts[0] = parts[0].removesuffix(" takes")
    return ", ".join(parts)


class BarDisplay:
    """A bar and a line of words, redrawn in place and never wider than the terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._drawn = in_place(self)

    def __enter__(self) -> BarDisplay:
        self._drawn.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawn.__exit__(kind, error, trace)

    def show(self, progress: Progress) -> None:
        """Have it drawn at the next refresh."""
        self._progress = progress

    def say(self, text: str) -> None:
        """Print above the bar."""
        warn(text)

    def __rich__(self) -> Table:
        return self._line()

    def _line(self) -> Table:
        room = err.width - SPARE_CELLS
        total, done, words = None, 0, "starting"
        if self._progress is not None:
            counts = self._progress.counts
            total, done = counts.ended + counts.pending, counts.ended
            words = describe(self._progress)
            if cell_len(words) + 1 + _BAR_LEAST > room:
                words = describe(self._progress, short=True)
        words = cut(words, room - 1 - _BAR_LEAST)
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row(ProgressBar(total=total, completed=done, width=min(_BAR_WIDTH, room - 1 - cell_len(words))), words)
        return line


class LineDisplay:
    """A line every few seconds; with `dated`, each begins with the instant in UTC."""

    def __init__(self, *, dated: bool = False) -> None:
        self._dated, self._next_s, self._last = dated, 0.0, ""

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def show(self, progress: Progress) -> None:
        """Print, unless it is too early or nothing has changed."""
        line = describe(progress)
        if time.monotonic() >= self._next_s and line != self._last:
            self._next_s, self._last = time.monotonic() + LINE_EVERY_S, line
            self.say(line)

    def say(self, text: str) -> None:
        """Print a line."""
        at = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ ") if self._dated else ""
        say(at + text, to=err)

"""Watching a run: a progress bar on a terminal, a line now and then in a file, a dated line for cron."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Protocol

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from orchestrator.cli.console import clock, err, usd
from orchestrator.progress import Progress, Watcher

LINE_EVERY_S: Final = 10.0


class Display(Watcher, Protocol):
    """A Watcher to enter and leave."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def display_for(*, dated: bool = False) -> Display:
    """The display that suits standard error."""
    return BarDisplay() if err.is_terminal and not dated else LineDisplay(dated=dated)


def describe(progress: Progress) -> str:
    """Rate, time left, money, rejects and failures, in words."""
    counts, spend = progress.counts, progress.spend
    parts = [f"{progress.takes_per_min:.1f}/min" if progress.takes_per_min else "starting"]
    if progress.eta_ms is not None and counts.pending:
        parts.append(f"{clock(progress.eta_ms)} left")
    parts.append(usd(spend.usd_micros) + (" + unknown" if spend.unpriced else ""))
    parts.append(f"{counts.rejected} rejected")
    parts.append(f"{counts.failed} failed")
    return ", ".join(parts)


class BarDisplay:
    """A bar that is redrawn in place."""

    def __init__(self) -> None:
        columns = (TextColumn("takes"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._bar = Bar(*columns, console=err, transient=True)
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> BarDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Redraw."""
        total = progress.counts.ended + progress.counts.pending
        self._bar.update(
            self._task, total=total, completed=progress.counts.ended, description=escape(describe(progress))
        )

    def say(self, text: str) -> None:
        """Print above the bar."""
        err.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True)


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
        counts = progress.counts
        line = f"{counts.ended}/{counts.ended + counts.pending} takes, {describe(progress)}"
        if time.monotonic() >= self._next_s and line != self._last:
            self._next_s, self._last = time.monotonic() + LINE_EVERY_S, line
            self.say(line)

    def say(self, text: str) -> None:
        """Print a line."""
        at = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ ") if self._dated else ""
        err.print(at + escape(text), soft_wrap=True)

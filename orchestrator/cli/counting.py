"""Counting: how far a long look through a catalog is: a bar with rate and time left on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from orchestrator.cli.console import err, say
from orchestrator.cli.working import in_place

_LINE_EVERY_S: Final = 10.0


@contextmanager
def counting(words: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show how far it is, on standard error; call what this gives once for each take. `total` may be a guess."""
    if err.is_interactive:
        columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), _Rate())
        progress = Progress(*columns, TimeRemainingColumn(compact=True), console=err)
        task = progress.add_task(words, total=total)
        with in_place(progress):
            yield lambda: progress.advance(task)
    else:
        yield _Lines(words, total).count


class _Lines:
    def __init__(self, words: str, total: int | None) -> None:
        self._words, self._total, self._done = words, total, 0
        self._began_s = self._said_s = time.monotonic()

    def count(self) -> None:
        self._done += 1
        now_s = time.monotonic()
        if now_s - self._said_s >= _LINE_EVERY_S:
            self._said_s = now_s
            of = f"/{self._total:,}" if self._total else ""
            say(f"{self._words}: {self._done:,}{of} takes, {self._done / (now_s - self._began_s):,.0f}/s", to=err)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")

"""Display: tables, progress lines, and the progress of a run.

On a terminal a table never folds a row: columns that can be spared are left out first, then long texts end in an
ellipsis. In a pipe or a file a table is plain text and complete. A progress line is redrawn in place on standard error
and is narrower than the terminal; text that is printed meanwhile, to either stream, stands above the line. In a file
progress is a line now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from rich import table
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from catalog.plain import plain
from orchestrator.cli.console import clock, err, out, say, usd, warn

if TYPE_CHECKING:  # a table needs no ledger, and importing one takes longer than printing the table
    from orchestrator.ledger.readings import PaidMeanwhile
    from orchestrator.runs.progress import RunProgress, Watcher

LINE_EVERY_S: Final = 10.0
_GAP: Final = 2  # cells between two columns
_COMFORT: Final = 24  # cells that a text keeps before another column is let in
_BAR_WIDTH: Final = 24  # at most; on a narrow terminal the words come first
_BAR_LEAST: Final = 8
_SHOWN_AFTER_S = 1.0  # a wait that ends sooner needs no line
# Left free at the end of a line: a full last column begins a new line on some terminals, and a Ctrl-C is echoed as ^C.
_SPARE_CELLS: Final = 3


class Column(NamedTuple):
    """A heading, and the limits of its column on a narrow terminal."""

    heading: str
    right: bool = False  # aligned to the right, as numbers are
    least: int = 0  # cells that the texts may be cut to; 0: never cut
    spare: int = 0  # left out when there is no room, the highest first; 0: never left out


def number(heading: str, *, spare: int = 0) -> Column:
    """A column of figures: aligned to the right and never cut."""
    return Column(heading, right=True, spare=spare)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, total: Sequence[str] = ()) -> None:
    """Print `rows` under bold headings; `total` is a last row, bold as well."""
    lines = [[column.heading for column in columns], *rows, *([total] if total else [])]
    texts = [[plain(text) for text in column] for column in zip(*lines, strict=True)]
    widths = [max(map(cell_len, column)) for column in texts]
    if not out.is_terminal:
        _write_plain(columns, texts, widths)
        return
    grid = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_footer=bool(total))
    shown = _choose(columns, widths, out.width)
    _narrow(columns, widths, shown, out.width)
    for index in shown:
        grid.add_column(
            Text(texts[index][0]),
            Text(texts[index][-1]),
            justify="right" if columns[index].right else "left",
            min_width=widths[index],
            max_width=widths[index],
            no_wrap=True,
            overflow="ellipsis",
        )
    if rows:  # one cell of many lines for each column: rich lays that out three times as fast as single cells
        grid.add_row(*(Text("\n".join(texts[index][1 : len(rows) + 1])) for index in shown))
    out.print(grid)


def _write_plain(columns: Sequence[Column], texts: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
    for row in zip(*texts, strict=True):
        gaps = [" " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)]
        cells = [
            gap + text if column.right else text + gap for column, text, gap in zip(columns, row, gaps, strict=True)
        ]
        out.file.write((" " * _GAP).join(cells).rstrip() + "\n")


def _choose(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """The columns that are never left out, and of the others those that find room, the least spared first."""
    comfort = [
        min(width, max(column.least, _COMFORT)) if column.least else width
        for column, width in zip(columns, widths, strict=True)
    ]
    shown = [index for index, column in enumerate(columns) if not column.spare]
    for index in sorted(set(range(len(columns))) - set(shown), key=lambda index: columns[index].spare):
        if _row_width(comfort, [*shown, index]) <= room:
            shown.append(index)
    return sorted(shown)


def _narrow(columns: Sequence[Column], widths: list[int], shown: Sequence[int], room: int) -> None:
    """Take cells from the widest text that has some to give, in the last resort from the columns at the right."""
    while _row_width(widths, shown) > room and any(widths[index] > 1 for index in shown):
        texts = [index for index in shown if 0 < columns[index].least < widths[index]]
        rest = [index for index in shown if widths[index] > 1]
        widths[max(texts, key=lambda index: widths[index]) if texts else rest[-1]] -= 1


def _row_width(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[index] for index in shown) + _GAP * (len(shown) - 1)


@contextmanager
def in_place(line: RenderableType) -> Iterator[None]:
    """Redraw `line` on standard error, always in the same row, and remove it at the end; nothing without a terminal."""
    if not err.is_interactive:
        yield
        return
    # With standard output in a pipe, text for the pipe must not be turned to the terminal.
    is_shared = out.is_terminal
    live = Live(_OneLine(line), console=err, refresh_per_second=8, transient=True, redirect_stdout=is_shared)
    with ExitStack() as at_end:
        at_end.callback(live.stop)  # before the start, in the middle of which a Ctrl-C may come
        live.start(refresh=True)
        if is_shared:
            out.push_render_hook(live)  # else `out` would print into the line
            at_end.callback(out.pop_render_hook)
        yield


class _OneLine:
    def __init__(self, line: RenderableType) -> None:
        self._line = line

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(1, options.max_width - _SPARE_CELLS)
        yield from console.render(self._line, options.update(width=room, no_wrap=True, overflow="ellipsis"))


@contextmanager
def waiting(words: str) -> Iterator[None]:
    """Show `words` behind a spinner."""
    with in_place(Spinner("dots", text=Text(plain(words)), style="status.spinner")):
        yield


@contextmanager
def working(words: str, things: str = "") -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal once the work has taken a second; report to it what is done, and of how many `things`.

    A pipe or a file gets nothing: there the result is all that matters.
    """
    bar, began_s, is_shown = _Bar(words, None, things), time.monotonic(), False
    with ExitStack() as at_end:

        def report(done: int, total: int) -> None:
            nonlocal is_shown
            bar.update(bar.task_ids[0], completed=done, total=total)
            if not is_shown and time.monotonic() - began_s >= _SHOWN_AFTER_S:
                at_end.enter_context(in_place(bar))
                is_shown = True

        yield report


@contextmanager
def counting(words: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show a bar, or in a file a line now and then; call the function once for each take. `total` may be a guess."""
    bar, said_s = _Bar(words, total), time.monotonic()

    def count() -> None:
        nonlocal said_s
        bar.advance(bar.task_ids[0])
        if not err.is_interactive and time.monotonic() - said_s >= LINE_EVERY_S:
            said_s, task = time.monotonic(), bar.tasks[0]
            of = f"/{total:,}" if total else ""
            rate = task.completed / task.elapsed if task.elapsed else 0.0
            say(f"{words}: {task.completed:,.0f}{of} takes, {rate:,.0f}/s", to=err)

    with in_place(bar):
        yield count


class _Bar(Progress):
    """A bar with the time that is left; with `things` what is done stands in words before the bar."""

    def __init__(self, words: str, total: int | None, things: str = "") -> None:
        columns: tuple[ProgressColumn, ...]
        if things:
            columns = (_DoneColumn(things), BarColumn(_BAR_WIDTH), _LeftColumn())
        else:
            said = TextColumn("{task.description}", markup=False)
            columns = (said, BarColumn(_BAR_WIDTH), MofNCompleteColumn(), _RateColumn())
            columns = (*columns, TimeRemainingColumn(compact=True))
        super().__init__(*columns, console=err)
        self.add_task(plain(words), total=total)


class _DoneColumn(ProgressColumn):
    """`posting: 120 of 4,500 rentals`."""

    def __init__(self, things: str) -> None:
        super().__init__(table.Column(no_wrap=True))
        self._things = things

    def render(self, task: Task) -> Text:
        of = "" if task.total is None else f" of {task.total:,.0f}"
        return Text(f"{task.description}: {task.completed:,.0f}{of} {self._things}")


class _LeftColumn(ProgressColumn):
    max_refresh = 0.5  # seconds: an estimate that jumps about is hard to read

    def __init__(self) -> None:
        super().__init__(table.Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        return Text("" if task.time_remaining is None else f"{clock(task.time_remaining * 1000)} left")


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def watching(*, dated: bool = False) -> Iterator[Watcher]:
    """Show a run: a bar on a terminal, lines in a file; with `dated` lines that begin with their instant, for cron."""
    if dated or not err.is_interactive:
        yield RunLines(dated=dated)
        return
    bar = RunBar()
    with in_place(bar):
        yield bar


def describe(progress: RunProgress, *, short: bool = False) -> str:
    """Takes done and planned, rate, time left and money in words; rejected and failed takes when there are any."""
    counts, spend = progress.counts, progress.spend
    parts = [f"{counts.ended:,}/{counts.ended + counts.pending:,}{'' if short else ' takes'}"]
    if progress.paid_meanwhile is not None:
        parts.append("paused")
    else:
        parts.append(f"{progress.takes_per_min:,.1f}/min" if progress.takes_per_min else "starting")
        if progress.eta_ms is not None and counts.pending:
            parts.append(f"{clock(progress.eta_ms)} left")
    parts.append(usd(spend.usd_micros) + (" + unknown" if spend.unpriced else ""))
    for count, word, shorter in ((counts.rejected, "rejected", "rej"), (counts.failed, "failed", "fail")):
        if count:
            parts.append(f"{count:,} {shorter if short else word}")
    if progress.paid_meanwhile is not None and not short:
        parts.append(describe_paid(progress.paid_meanwhile))
    return ", ".join(parts)


def describe_paid(paid: PaidMeanwhile) -> str:
    """What a paused run's machines go on costing: "2 machines are still paid for: $2.18 an hour, $0.35 since then"."""
    if not paid.machines:
        return "no machine is paid for meanwhile"
    machines = "1 machine is" if paid.machines == 1 else f"{paid.machines:,} machines are"
    if paid.usd_micros_per_h is None:
        return f"{machines} still paid for, at an unknown price"
    return f"{machines} still paid for: {usd(paid.usd_micros_per_h)} an hour, {usd(paid.usd_micros)} since the pause"


class RunBar:
    """A Watcher that draws a bar and a line of words."""

    def __init__(self) -> None:
        self._progress: RunProgress | None = None

    def show(self, progress: RunProgress) -> None:
        """Keep the progress for the next redraw."""
        self._progress = progress

    def say(self, text: str) -> None:
        """Print above the bar."""
        warn(text)

    def __rich__(self) -> Table:
        room, total, done, words = err.width - _SPARE_CELLS - 1, None, 0, "starting"
        if self._progress is not None:
            counts = self._progress.counts
            total, done, words = counts.ended + counts.pending, counts.ended, describe(self._progress)
            if cell_len(words) + _BAR_LEAST > room:
                words = describe(self._progress, short=True)
        width = max(_BAR_LEAST, min(_BAR_WIDTH, room - cell_len(words)))
        line = Table.grid(padding=(0, 1, 0, 0))
        bar, text = (
            ProgressBar(total=total, completed=done, width=width),
            Text(words, no_wrap=True, overflow="ellipsis"),
        )
        line.add_row(bar, text)
        return line


class RunLines:
    """A Watcher that prints a line every few seconds; with `dated`, each begins with the instant in UTC."""

    def __init__(self, *, dated: bool = False) -> None:
        self._dated, self._next_s, self._last = dated, 0.0, ""

    def show(self, progress: RunProgress) -> None:
        """Print the progress, unless the last line is too recent or says the same."""
        line = describe(progress)
        if time.monotonic() >= self._next_s and line != self._last:
            self._next_s, self._last = time.monotonic() + LINE_EVERY_S, line
            self.say(line)

    def say(self, text: str) -> None:
        """Print a line."""
        at = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ ") if self._dated else ""
        say(at + text, to=err)

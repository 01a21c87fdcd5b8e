"""A line that says how far a command is, redrawn in place on a terminal; nothing in a pipe.

It is never wider than the terminal, and what is printed meanwhile, on either stream, stands above it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from orchestrator.cli.console import err, out

# Left free at the end of a line: a full last column begins a new line on some terminals, and a Ctrl-C is echoed as ^C.
SPARE_CELLS: Final = 3
_AFTER_S = 1.0  # what is done sooner needs no word
_REDRAWS_PER_S: Final = 8.0


@contextmanager
def in_place(line: RenderableType) -> Iterator[None]:
    """Draw `line` again and again on standard error, always in the same row, and take it away at the end."""
    if not err.is_interactive:
        yield
        return
    # With standard output in a pipe, nothing that goes there may be turned to the terminal.
    is_shared = out.is_terminal
    live = Live(
        _OneLine(line), console=err, refresh_per_second=_REDRAWS_PER_S, transient=True, redirect_stdout=is_shared
    )
    with ExitStack() as at_end:
        at_end.callback(live.stop)  # before the start, in the middle of which a Ctrl-C may come
        live.start(refresh=True)
        if is_shared:
            out.push_render_hook(live)  # else it would print into the line
            at_end.callback(out.pop_render_hook)
        yield


class _OneLine:
    def __init__(self, line: RenderableType) -> None:
        self._line = line

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(1, options.max_width - SPARE_CELLS)
        yield from console.render(self._line, options.update(width=room, no_wrap=True, overflow="ellipsis"))


def spinner(words: str) -> Spinner:
    """Words behind a sign that turns, for `in_place`."""
    return Spinner("dots", text=Text(words), style="status.spinner")


@contextmanager
def working(what: str) -> Iterator[Callable[[int, int], None]]:
    """Within it, call what is given with (done, of so many)."""
    began_s = time.monotonic()
    line, is_shown = spinner(what), False
    with ExitStack() as at_end:

        def tell(done: int, total: int) -> None:
            nonlocal is_shown
            passed_s = time.monotonic() - began_s
            if passed_s < _AFTER_S:
                return
            left_s = passed_s / done * (total - done) if done else 0.0
            line.update(text=Text(f"{what}: {done:,} of {total:,}, about {left_s:.0f} s left"))
            if not is_shown:
                at_end.enter_context(in_place(line))
                is_shown = True

        yield tell

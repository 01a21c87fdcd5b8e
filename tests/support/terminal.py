"""A terminal for tests: a program runs in a pseudo-terminal, and a small model of a screen reads its output.

The model knows the control sequences that our programs use and refuses all others, so it misses nothing that a person
would see.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 60.0  # for a busy machine; what is waited for comes within a second or two

_REPO = Path(__file__).parents[2]
_PART = re.compile(r"\x1b\[(?P<arguments>[?0-9;]*)(?P<final>[A-Za-z])|(?P<control>[\x00-\x1f\x7f])|(?P<letter>.)")
_BEGINS_ESCAPE = re.compile(r"\x1b(\[[?0-9;]*)?$")
# The child makes the terminal its own, so that a typed Ctrl-C reaches it.
_OWN_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"


class Screen:
    """The rows of a terminal; `scrolled` are the rows that have left it at the top."""

    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self.lines = columns, lines
        self.cursor_shown, self.is_alternate = True, False
        self.folded = 0  # rows that were too long and went on in the next one
        self.scrolled: list[str] = []
        self.styles: set[str] = set()  # arguments of every SGR
        self._cells = self._blank(lines)
        self._row = self._column = 0
        self._aside = (self._cells, 0, 0)
        self._rest = ""

    @property
    def rows(self) -> list[str]:
        """The rows from the top, without what is blank at their ends."""
        return ["".join(cells).rstrip() for cells in self._cells]

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column, from 0."""
        return self._row, self._column

    @property
    def text(self) -> str:
        """The rows down to the last one that holds anything."""
        return "\n".join(self.rows).rstrip("\n")

    def having(self, words: str) -> list[str]:
        """The rows that hold these words, scrolled ones first."""
        return [row for row in [*self.scrolled, *self.rows] if words in row]

    def feed(self, text: str) -> None:
        """Draw what a program has written."""
        text, self._rest = self._rest + text, ""
        if begun := _BEGINS_ESCAPE.search(text):
            text, self._rest = text[: begun.start()], begun.group()
        for part in _PART.finditer(text):
            if letter := part["letter"]:
                self._put(letter)
            elif control := part["control"]:
                self._control(control)
            else:
                self._escape(part["arguments"], part["final"])

    def resize(self, columns: int, lines: int) -> None:
        """Another size; rows are cut or filled up at their ends, as xterm does it."""
        grown = [cells[:columns] + [" "] * (columns - len(cells)) for cells in self._cells]
        gone = max(0, self._row - lines + 1)
        self.columns, self.lines = columns, lines
        self._cells = (grown[gone:] + self._blank(lines))[:lines]
        self._row, self._column = self._row - gone, min(self._column, columns)

    def _blank(self, lines: int) -> list[list[str]]:
        return [[" "] * self.columns for _ in range(lines)]

    def _put(self, letter: str) -> None:
        if self._column == self.columns:
            self.folded += 1
            self._column = 0
            self._line_feed()
        self._cells[self._row][self._column] = letter
        self._column += 1

    def _line_feed(self) -> None:
        if self._row < self.lines - 1:
            self._row += 1
            return
        gone = self._cells.pop(0)
        self._cells += self._blank(1)
        if not self.is_alternate:
            self.scrolled.append("".join(gone).rstrip())

    def _control(self, control: str) -> None:
        if control == "\r":
            self._column = 0
        elif control == "\n":
            self._line_feed()
        elif control == "\b":
            self._column = max(0, self._column - 1)
        else:
            raise AssertionError(f"the screen does not know {control!r}")

    def _escape(self, arguments: str, final: str) -> None:
        if final == "m":
            self.styles.add(arguments)
        elif (arguments, final) in (("?25", "l"), ("?25", "h")):
            self.cursor_shown = final == "h"
        elif (arguments, final) in (("?1049", "l"), ("?1049", "h")):
            self._change_sides(to_alternate=final == "h")
        elif (arguments, final) == ("2", "K"):
            self._cells[self._row] = [" "] * self.columns
        elif final == "A":
            self._row = max(0, self._row - int(arguments or 1))
        elif final == "H":
            row, column = map(int, arguments.split(";")) if arguments else (1, 1)
            self._row, self._column = min(row, self.lines) - 1, min(column, self.columns) - 1
        else:
            raise AssertionError(f"the screen does not know ESC [{arguments}{final}")

    def _change_sides(self, *, to_alternate: bool) -> None:
        assert to_alternate != self.is_alternate, "it is on that side of the screen already"
        self.is_alternate = to_alternate
        if to_alternate:
            self._aside = (self._cells, self._row, self._column)
            self._cells = self._blank(self.lines)
        else:
            self._cells, self._row, self._column = self._aside


class Terminal:
    """A program in a terminal of its own. `always` looks at the screen after each thing that was drawn."""

    def __init__(self, process: subprocess.Popen[bytes], side: int, screen: Screen) -> None:
        self.screen, self.process = screen, process
        self.always: Callable[[Screen], None] = lambda screen: None
        self._side = side
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def wait_until(self, condition: Callable[[Screen], object], what: str) -> None:
        """Read until the condition holds."""
        end_s = time.monotonic() + DEADLINE_S
        while not condition(self.screen):
            assert self._read(end_s), f"waited for {what}:\n{self.screen.text}"

    def type(self, keys: str) -> None:
        """Type on the keyboard; Ctrl-C is "\\x03"."""
        os.write(self._side, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Give the window another size."""
        self.screen.resize(columns, lines)
        _set_size(self._side, columns, lines)

    def wait(self) -> int:
        """Read until the program has ended; its exit code."""
        end_s = time.monotonic() + DEADLINE_S
        while self._read(end_s):
            pass
        return self.process.wait(timeout=DEADLINE_S)

    def _read(self, end_s: float) -> bool:
        """Draw what there is; False when nothing will come any more, or not in time."""
        if not select.select([self._side], [], [], max(0.0, end_s - time.monotonic()))[0]:
            return False
        try:
            written = os.read(self._side, 65_536)
        except OSError:  # Linux says so where nobody has the other side open
            return False
        self.screen.feed(self._decoder.decode(written))
        self.always(self.screen)
        return bool(written)


@contextmanager
def in_terminal(
    program: str, *arguments: str, columns: int = 80, lines: int = 24, environment: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """Run the Python text `program` in a terminal of this size; it is killed at the end if it still runs."""
    kept = {name: value for name, value in os.environ.items() if name not in _TELL_RICH}
    side, theirs = os.openpty()
    _set_size(theirs, columns, lines)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL + program, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=_REPO,
            env={**kept, "TERM": "xterm-256color", **(environment or {})},
            start_new_session=True,
        )
        os.close(theirs)
        try:
            yield Terminal(process, side, Screen(columns, lines))
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(side)


# What would tell rich of another terminal than the one it is in.
_TELL_RICH = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM")


def _set_size(side: int, columns: int, lines: int) -> None:
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

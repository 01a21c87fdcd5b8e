"""Printing: sentences that fit the terminal, JSON for scripts, and error messages; whatever the words hold.

Whatever is printed is made plain here (catalog/plain.py), so a stranger's text steers no terminal. Results go to
standard output; progress, warnings and errors go to standard error, so that `tunemill ... --json | jq` always works.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from catalog.errors import TunemillError
from catalog.plain import has_all_characters, plain, plain_json, plain_lines
from catalog.secrets import scrub

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of tables.")]
# Of a program that prints nothing but its log; `app.py` prints the error.
JsonErrorFlag = Annotated[bool, typer.Option("--json", help="Print the error that ends the command as JSON, too.")]


_printed_json = False  # a second document would make the output none


def print_json(value: Any) -> None:
    """Print `value` as one JSON document; instants stay epoch milliseconds, money micro-dollars."""
    global _printed_json  # noqa: PLW0603
    _printed_json = True
    escaped = not has_all_characters(sys.stdout)
    sys.stdout.write(plain_json(json.dumps(value, indent=2, ensure_ascii=escaped, default=str)) + "\n")


def print_json_line(value: Any) -> None:
    """Print `value` as one JSON document on one line."""
    sys.stdout.write(plain_json(json.dumps(value, default=str)) + "\n")


def print_line(text: str) -> None:
    """Print one line as it is, however long: what a script reads line by line."""
    sys.stdout.write(plain(text) + "\n")


def say(words: str | Text, *, to: Console = out, label: str | Text = "", hang: int = 0, lines: bool = False) -> None:
    """Print a paragraph after `label`: in a pipe as it is, on a terminal wrapped between words.

    With `lines` the words keep their line ends; else a stranger's line end would begin what looks like a line of ours.
    Later lines are indented by `hang` cells, or to stand under the first words.
    """
    text, first = _plain_text(words, lines=lines), _plain_text(label, lines=False)
    indent = hang or first.cell_len
    if not to.is_terminal:
        for place, line in enumerate(text.split(allow_blank=True) if lines else [text]):
            to.print(Text.assemble(" " * indent if place else first, line), soft_wrap=True)
        return
    for place, line in enumerate(text.wrap(to, max(20, to.width - max(indent, first.cell_len)))):
        to.print(Text.assemble(" " * indent if place else first, line), no_wrap=True)


def _plain_text(words: str | Text, *, lines: bool) -> Text:
    """`words` made plain, with their styles."""
    make_plain = plain_lines if lines else plain
    if isinstance(words, str):
        return Text(make_plain(words))
    text = words.copy()
    text.plain = make_plain(words.plain)
    return text


def print_error(error: TunemillError) -> None:
    """Print what is wrong, why, and how to mend it, on standard error."""
    say(scrub(error.what), to=err, label=Text("error: ", style="bold red"), hang=2, lines=True)
    for name, words in (("why", error.why), ("fix", error.fix)):
        if words:
            say(scrub(words), to=err, label=Text.assemble("  ", (f"{name}: ", "bold")), lines=True)


def print_error_as_json(error: TunemillError, **instead: str | int) -> None:
    """Print the error as the JSON document that a script waits for, unless the command has printed its result."""
    if not _printed_json:
        told = {**error.as_plain_values()["error"], **instead}
        print_json_line(
            {"error": {name: scrub(value) if isinstance(value, str) else value for name, value in told.items()}}
        )


def warn(text: str, *, to: Console = err) -> None:
    """Print a note that a person should read; the command continues."""
    say(text, to=to, label=Text("note: ", style="yellow"), hang=2)


def usd(micros: int | None) -> str:
    """Format micro-dollars as dollars for people: cents from a dollar up, all six decimals below."""
    if micros is None:
        return "unknown"
    sign, whole, part = "-" if micros < 0 else "", abs(micros) // 1_000_000, abs(micros) % 1_000_000
    if whole:
        cents = (abs(micros) + 5_000) // 10_000
        return f"{sign}${cents // 100:,}.{cents % 100:02d}"
    return f"{sign}$0.{part:06d}"


def clock(ms: int | float | None) -> str:
    """Format a duration for people: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if ms is None:
        return "unknown"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"

"""`tunemill presets import`: prompts of another program become a catalog, and what was left out is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from catalog.errors import SettingsError
from catalog.prompt import TokenCounter
from catalog.settings import read_settings
from catalog.tokenizer import open_tokenizer
from orchestrator.cli import completion
from orchestrator.cli.console import JsonFlag, err, print_json, say, warn
from orchestrator.cli.options import PresetsOption
from orchestrator.matrix.imports import Import, ReadingOptions, import_prompts
from orchestrator.matrix.layers import writable_root
from orchestrator.matrix.names import quoted
from orchestrator.matrix.problems import Problem

_SHOWN_MAX: Final = 20  # reasons
_EXAMPLES: Final = """\b
Examples:
  tunemill presets import prompts.csv --as spring
  tunemill presets import prompts.csv --as spring --zone hotel_lobby --force
  tunemill presets import songs.json --as songs --column caption=description
  tunemill presets import examples/ --as samples --strict    # a folder, all or nothing"""


def register(commands: typer.Typer) -> None:
    """Add the command to `tunemill presets`."""
    commands.command("import", epilog=_EXAMPLES)(import_)


def import_(
    file: Annotated[Path, typer.Argument(help="A CSV, JSON, JSON lines or text file, or a folder of such files.")],
    name: Annotated[str, typer.Option("--as", help="Name of the new catalog.")],
    zone: Annotated[
        str | None, typer.Option(help="Zone of prompts that name no zone.", autocompletion=completion.zones)
    ] = None,
    genre: Annotated[
        str | None, typer.Option(help="Genre of prompts that name no genre.", autocompletion=completion.genres)
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="COLUMN=HEADING", help="Read this column from that heading; repeatable."),
    ] = None,
    ignored: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="HEADING", help="Ignore this heading or key; repeatable."),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Read the text in this encoding, such as cp1251.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Import nothing if one row cannot be imported.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a catalog of that name.")] = False,
    presets: PresetsOption = None,
    json: JsonFlag = False,
) -> None:
    """Import prompts as a catalog, one track for each prompt.

    A prompt that cannot be imported as meant is left out and named. The exit code is 0 if at least one prompt was
    imported. With --strict the command imports all prompts or none.
    """
    settings = read_settings()
    counter = TokenCounter(open_tokenizer(settings))
    reading = ReadingOptions(_columns(columns or []), tuple(ignored or []), encoding, strict, counter)
    done = import_prompts(
        file, name, writable_root(presets, settings), zone=zone, genre=genre, force=force, reading=reading
    )
    if json:
        print_json(_as_json(done))
        return
    _print_left_out(done.left_out)
    _print_notes(done)
    counts = f"prompts: {done.rows:,}; takes: {done.takes:,}; instrumental: {done.instrumental:,}"
    say(f"{counts}; duplicates, each a track of its own: {done.duplicates:,}", hang=2)
    say(str(done.catalog), label="wrote ")
    say(str(done.prompts), label="      ")
    say(f"tunemill plan {done.catalog if presets else name}", label="next: ")


def _columns(options: list[str]) -> dict[str, str]:
    """The column that each heading means, of options such as caption=description. Raises SettingsError."""
    found = {}
    for option in options:
        column, sign, heading = option.partition("=")
        if not sign or not column.strip() or not heading.strip():
            raise SettingsError(
                f"--column {quoted(option)} is not of the form COLUMN=HEADING",
                fix="write --column caption=description",
            )
        found[heading.strip()] = column.strip()
    return found


def _print_left_out(problems: list[Problem]) -> None:
    """Print each reason once, with the place of the first row that it holds for."""
    if not problems:
        return
    warn(f"left out: {len(problems):,}")
    alike: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        alike.setdefault((problem.what, problem.fix), []).append(problem)
    for (what, fix), (first, *others) in list(alike.items())[:_SHOWN_MAX]:
        place = f"{first.where}{f' and {len(others):,} more' if others else ''}"
        say(f"{place}: {what}{f' (fix: {fix})' if fix else ''}", to=err, label="  ", hang=4)
    if len(alike) > _SHOWN_MAX:
        say(f"and {len(alike) - _SHOWN_MAX:,} more reasons; --json lists every row", to=err, label="  ")


def _print_notes(done: Import) -> None:
    for file, encoding in list(done.assumed.items())[:_SHOWN_MAX]:
        warn(f"{file} is not UTF-8 and was read as {encoding}; if letters are wrong, name another --encoding")
    if done.unheeded:
        counts = ", ".join(f"{name} ({count:,})" for name, count in done.unheeded.items())
        warn(f"asked for by so many prompts, and decided by the catalog: {counts}")
    if done.unused:
        warn(f"not used: {', '.join(done.unused)}")
    if done.unsaid:
        warn(f"prompts without lyrics or a mark: {done.unsaid:,}; instrumental, unless the catalog's `lyrics` say more")
    if done.in_doubt:
        warn(
            f"prompts that may be too long: {done.in_doubt:,}; `tunemill weights pull --tokenizer` makes the count "
            "exact"
        )


def _as_json(done: Import) -> dict[str, Any]:
    return {
        "catalog": str(done.catalog),
        "csv": str(done.prompts),
        "prompts": done.rows,
        "takes": done.takes,
        "duplicates": done.duplicates,
        "instrumental": done.instrumental,
        "without_lyrics": done.unsaid,
        "in_doubt": done.in_doubt,
        "left_out": done.unused,  # headings and keys
        "rows_left_out": [
            {"where": each.where, "reason": each.what, "fix": each.fix, "error": each.kind.__name__}
            for each in done.left_out
        ],
        "decided_by_the_catalog": dict(done.unheeded),
        "assumed_encodings": done.assumed,
    }

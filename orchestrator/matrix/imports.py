"""Importing: prompts of another program become a catalog.

Prompts come as CSV, or as ACE-Step example JSON: one object, a list, one object a line, or a folder of such
files. The result is `catalogs/NAME.yaml` and, beside it, `NAME.csv` with this program's column names.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from catalog.errors import PresetError, UnreadableFileError
from catalog.spec import INSTRUMENTAL
from orchestrator.matrix.located import is_folder, read_text, shown
from orchestrator.matrix.names import NAME_RULE, bare, is_name, printable, quoted
from orchestrator.matrix.problems import Problem, raise_problems
from orchestrator.matrix.rows import COLUMNS, PromptRow, column_of, read_csv, read_row, repeated_ids, slugified

_SCHEMA_LINE = "# yaml-language-server: $schema=../schemas/catalog.schema.json\n"


@dataclass(frozen=True)
class Import:
    """The result of an import."""

    catalog: Path
    prompts: Path
    rows: int
    duplicates: int  # rows that say the same as an earlier one; they stay tracks of their own
    left_out: list[str]  # headings and keys that mean nothing here


def import_prompts(
    source: Path, name: str, root: Path, *, zone: str | None = None, genre: str | None = None, force: bool = False
) -> Import:
    """Write the catalog `name` into the preset folder `root` from the prompts at `source`.

    `zone` and `genre` label rows that name none. Raises PresetError when the catalog exists already and
    `force` is off, and one error for all bad rows.
    """
    if not is_name(name):
        has_letters = re.search("[A-Za-z0-9]", bare(name)) is not None
        raise PresetError(
            f"{quoted(name)} cannot be the name of a catalog",
            why=f"it becomes part of object keys: {NAME_RULE}",
            fix=f"write --as {slugified(bare(name), '-') if has_letters else 'spring'}, or another such name",
        )
    folder = root / "catalogs"
    catalog, prompts = folder / f"{name}.yaml", folder / f"{name}.csv"
    existing = next((each for each in (catalog, prompts) if each.exists()), None)
    if existing and not force:
        raise PresetError(f"{shown(existing)} exists already", fix="choose another name with --as, or add --force")
    rows, left_out = read_prompts(source)
    labels = {"zone": slugified(zone) if zone else None, "genre": slugified(genre) if genre else None}
    rows = [row._replace(zone=row.zone or labels["zone"], genre=row.genre or labels["genre"]) for row in rows]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prompts.write_text(_as_csv(rows), encoding="utf-8", newline="")
        catalog.write_text(_as_yaml(name, source, len(rows)), encoding="utf-8")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise PresetError(
            f"{shown(folder)}: cannot be written: {error.strerror}",
            why="the catalog and its prompts are written there",
            fix="name another preset folder with --presets",
        ) from None
    return Import(catalog, prompts, len(rows), len(rows) - len({row.content for row in rows}), left_out)


def read_prompts(source: Path) -> tuple[list[PromptRow], list[str]]:
    """The rows at `source`, and what in it means nothing here. Raises UnreadableFileError or PresetError."""
    if is_folder(source):
        files = sorted(source.glob("*.json"))
        if not files:
            raise UnreadableFileError(f"{shown(source)}: no .json file in this folder", fix="name another folder")
        return _read_json(files)
    if source.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        return _read_json([source])
    return read_csv(source, strict=False)


def _read_json(files: list[Path]) -> tuple[list[PromptRow], list[str]]:
    problems: list[Problem] = []
    left_out: dict[str, None] = {}
    rows: list[PromptRow] = []
    for file in files:
        mine: list[PromptRow] = []
        for line, item in _items(file):
            where = f"{shown(file)}:{line}"
            if not isinstance(item, dict):
                problems.append(Problem(where, f"an object with a caption is needed here, not {item!r:.40}"))
                continue
            row = read_row(_columns(item, left_out), line, where, problems)
            if row:
                mine.append(row)
        problems += repeated_ids(mine, file)
        rows += mine
    raise_problems(problems)
    if not rows:
        raise UnreadableFileError(
            f"{', '.join(shown(file) for file in files[:3])}: there is no prompt in it", fix="add at least one prompt"
        )
    return rows, list(left_out)


def _columns(item: dict[str, Any], left_out: dict[str, None]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in item.items():
        column = column_of(key)
        if column and not isinstance(value, dict | list):
            values.setdefault(column, value)
        elif key.casefold() == "instrumental":
            if value is True:
                values["lyrics"] = INSTRUMENTAL
        else:
            left_out[printable(key)] = None
    return values


def _items(file: Path) -> Iterator[tuple[int, Any]]:
    """Objects with the line each begins on: of one object, a list, or one object a line."""
    text = read_text(file)
    if not text.strip():
        raise UnreadableFileError(f"{shown(file)}: the file is empty", fix="fill it in, or delete it")
    decoder = json.JSONDecoder()
    at = _skip(text, 0, "")
    listed = text[at] == "["
    at = _skip(text, at + 1, "") if listed else at
    line, counted = 1, 0
    while at < len(text) and not (listed and text[at] == "]"):
        line += text.count("\n", counted, at)
        counted = at
        try:
            item, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:  # a ValueError may also be a number of thousands of digits
            problem_line = getattr(error, "lineno", line)
            reason = getattr(error, "msg", "nested too deeply, or a number too long")
            raise UnreadableFileError(
                f"{shown(file)}:{problem_line}: this is not JSON: {reason}",
                fix="look at this line and the one above: quotes, commas and braces",
            ) from None
        yield line, item
        at = _skip(text, at, "," if listed else "")
    if listed and (at >= len(text) or text[_skip(text, at + 1, "") :]):
        raise UnreadableFileError(
            f"{shown(file)}: the list does not end where the file does", fix="end the file with one ']'"
        )


def _skip(text: str, at: int, extra: str) -> int:
    while at < len(text) and (text[at].isspace() or text[at] in extra):
        at += 1
    return at


def _as_csv(rows: list[PromptRow]) -> str:
    """The rows as CSV under this program's column names, without columns that no row uses."""
    used = [name for name in COLUMNS if any(getattr(row, name) is not None for row in rows)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(used)
    writer.writerows([_cell(getattr(row, name)) for name in used] for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _as_yaml(name: str, source: Path, count: int) -> str:
    content = {
        "title": name.replace("_", " ").replace("-", " ").capitalize(),
        "description": f"{count:,} prompts imported from {printable(source.name)}.",
        "prompts": f"{name}.csv",
    }
    return _SCHEMA_LINE + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)

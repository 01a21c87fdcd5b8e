"""Importing: turns another program's prompts into a catalog.

Prompts are read from CSV, from JSON (ACE-Step's examples and requests, a list, or one object per line), from text with
one prompt per line, or from a folder of such files. The result is `catalogs/NAME.yaml` and, beside it, `NAME.csv` with
this program's column names. A row whose meaning would change is left out and reported.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from catalog.errors import PresetError, UnreadableFileError
from catalog.prompt import ESTIMATE, TokenCounter
from catalog.spec import INSTRUMENTAL
from orchestrator.matrix.layers import schema_line
from orchestrator.matrix.layouts import Layout, column_option, ignore_option, near_captions, no_caption
from orchestrator.matrix.located import is_folder, shown
from orchestrator.matrix.names import NAME_RULE, bare, is_name, printable, quoted
from orchestrator.matrix.problems import Problem, raise_problems
from orchestrator.matrix.rows import COLUMNS, PromptRow, RowReader, slugified, too_many_cells
from orchestrator.matrix.tables import read_foreign_text, read_records
from orchestrator.matrix.values import UnusableValue

_JSON: Final = frozenset((".json", ".jsonl", ".ndjson"))
_LINES: Final = frozenset((".jsonl", ".ndjson"))
_TABLES: Final = frozenset((".csv", ".tsv"))
_CAPTION_FILE: Final = re.compile(r"(.+)[._](?:prompt|caption)\.txt", re.IGNORECASE)  # its lyrics lie beside it


class ReadingOptions(NamedTuple):
    """A person's instructions for reading another program's file."""

    columns: Mapping[str, str] = {}  # heading -> the column it means
    ignored: tuple[str, ...] = ()  # headings that are not read
    encoding: str = ""
    strict: bool = False  # nothing is imported unless every row can be
    counter: TokenCounter = ESTIMATE


AS_IT_SAYS: Final = ReadingOptions()


@dataclass(frozen=True)
class Import:
    """The result of an import."""

    catalog: Path
    prompts: Path
    rows: int
    takes: int
    duplicates: int  # rows that say the same as an earlier one; they stay tracks of their own
    instrumental: int  # rows that are to have no voice
    unsaid: int  # rows that say nothing of a voice; the catalog decides
    in_doubt: int  # rows with a text that may be too long
    left_out: list[Problem]  # rows and files that were not imported
    unused: list[str]  # headings and keys that mean nothing here
    unheeded: Counter[str]  # settings that the catalog decides, and how many rows ask for another value
    assumed: dict[str, str]  # file -> encoding that was assumed


def import_prompts(
    source: Path,
    name: str,
    root: Path,
    *,
    zone: str | None = None,
    genre: str | None = None,
    force: bool = False,
    reading: ReadingOptions = AS_IT_SAYS,
) -> Import:
    """Write the catalog `name` into the preset folder `root` from the prompts at `source`.

    `zone` and `genre` label rows that name none. Raises PresetError when the catalog exists already and
    `force` is off, when no row can be imported, and, if strict, when one cannot.
    """
    if not is_name(name):
        has_letters = re.search("[A-Za-z0-9]", bare(name)) is not None
        raise PresetError(
            f"{quoted(name)} cannot be the name of a catalog",
            why=f"the name becomes part of object keys: {NAME_RULE}",
            fix=f"write --as {slugified(bare(name), '-') if has_letters else 'spring'}, or another such name",
        )
    folder = root / "catalogs"
    catalog, prompts = folder / f"{name}.yaml", folder / f"{name}.csv"
    existing = next((each for each in (catalog, prompts) if each.exists()), None)
    if existing and not force:
        raise PresetError(f"{shown(existing)} exists already", fix="choose another name with --as, or add --force")
    reader = _SourceReader(reading, slugified(zone) if zone else None, slugified(genre) if genre else None)
    reader.read(source)
    rows = [row for row, _ in reader.rows]
    if reader.left_out and (reading.strict or not rows):
        raise_problems(reader.left_out)
    if not rows:
        raise UnreadableFileError(f"{shown(source)}: the file has no prompt", fix="add at least one prompt")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prompts.write_text(_as_csv(rows), encoding="utf-8", newline="")
        catalog.write_text(schema_line("catalog", root) + _as_yaml(name, source, len(rows)), encoding="utf-8")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise PresetError(
            f"{shown(folder)}: cannot be written: {error.strerror}",
            why="the catalog and its prompts must be written to that folder",
            fix="name another preset folder with --presets",
        ) from None
    return Import(
        catalog=catalog,
        prompts=prompts,
        rows=len(rows),
        takes=sum(row.takes or 1 for row in rows),
        duplicates=len(rows) - len({row.content for row in rows}),
        instrumental=sum(row.lyrics == INSTRUMENTAL for row in rows),
        unsaid=sum(row.lyrics is None for row in rows),
        in_doubt=reader.in_doubt,
        left_out=reader.left_out,
        unused=list(reader.layout.unused),
        unheeded=+reader.layout.unheeded,
        assumed=reader.assumed,
    )


class _SourceReader:
    """Reads the files of one import; a row or a file that cannot be imported is noted and costs no other."""

    def __init__(self, reading: ReadingOptions, zone: str | None, genre: str | None) -> None:
        self._reading, self._zone, self._genre = reading, zone, genre
        try:
            self.layout = Layout(reading.columns, reading.ignored)
        except UnusableValue as error:
            raise PresetError(f"--column: {error.words}", fix=error.fix) from None
        self._rows = RowReader(reading.counter)
        self.rows: list[tuple[PromptRow, str]] = []  # with the place of each
        self.assumed: dict[str, str] = {}
        self._ids: dict[tuple[str | None, str | None, str], tuple[PromptRow, str]] = {}

    @property
    def left_out(self) -> list[Problem]:
        """The rows and files that were not imported."""
        return self._rows.problems

    @property
    def in_doubt(self) -> int:
        """The rows with a text that may be too long."""
        return self._rows.in_doubt

    def read(self, source: Path) -> None:
        """Read `source`. Raises UnreadableFileError or PresetError for a file that has no row at all to offer."""
        if not is_folder(source):
            self._read_file(source)
            return
        files = sorted(path for path in source.rglob("*") if _is_wanted(path, source))
        if not files:
            raise UnreadableFileError(
                f"{shown(source)}: no .json, .jsonl or .csv file in this folder or below it", fix="name another folder"
            )
        for file in files:
            try:
                self._read_file(file)
            except PresetError as error:
                self.left_out.append(_of_file(file, error))

    def _read_file(self, file: Path) -> None:
        suffix = file.suffix.lower()
        if suffix in _JSON:
            self._read_json(file, self._text(file))
        elif _CAPTION_FILE.fullmatch(file.name):
            self._read_pair(file)
        elif suffix == ".txt" and not self._is_table(text := self._text(file)):
            for line, caption in enumerate(text.splitlines(), 1):
                if caption.strip():
                    self._add([("caption", caption)], line, f"{shown(file)}:{line}")
        else:
            self._read_table(file, self._text(file))

    def _text(self, file: Path) -> str:
        text, assumed = read_foreign_text(file, self._reading.encoding, guess=True)
        if assumed:
            self.assumed[shown(file)] = assumed
        return text

    def _is_table(self, text: str) -> bool:
        heading = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]
        return any(self.layout.role(cell.strip('" ')).column == "caption" for cell in re.split(r"[,;\t|]", heading))

    def _read_pair(self, file: Path) -> None:
        """A prompt in a file of its own, with its lyrics in the file beside it, as in training data."""
        pairs = [("caption", self._text(file))]
        lyrics = file.with_name(re.sub("(?i)(prompt|caption)(?=\\.txt$)", "lyrics", file.name))
        if lyrics.is_file():
            pairs.append(("lyrics", self._text(lyrics)))
        self._add(pairs, 1, shown(file))

    # ------------------------------------------------------------ tables

    def _read_table(self, file: Path, text: str) -> None:
        records = read_records(text, file, self._is_known, on_bad_row=self.left_out.append)
        line, heading = next(records, (1, []))
        name, found = shown(file), False  # once: working a path out takes longer than reading a row
        self._check_heading(heading, f"{name}:{line}")
        for line, cells in records:
            where, found = f"{name}:{line}", True
            if len(cells) > len(heading) and any(cell.strip() for cell in cells[len(heading) :]):
                self.left_out.append(too_many_cells(cells, heading, where))
            else:
                self._add(zip(heading, cells, strict=False), line, where)
        if not found and not self.left_out:
            raise UnreadableFileError(
                f"{shown(file)}: there is no row below the heading", fix="add at least one prompt"
            )

    def _is_known(self, heading: str) -> bool:
        return self.layout.role(heading).meaning != "unused"

    def _check_heading(self, heading: list[str], where: str) -> None:
        problems = [
            Problem(
                where,
                f"{quoted(name)} is not a column here, and probably a typing mistake",
                fix=f"add {column_option(column, name)}, or {ignore_option(name)}",
            )
            for name, column in self.layout.misspelt(heading)
        ]
        if not any(self.layout.role(name).column == "caption" for name in heading):
            if near := near_captions(heading):
                error = no_caption(near[0])
                problems.append(Problem(where, error.words, fix=error.fix))
            elif not problems:
                fix = "name the column of descriptions 'caption' or 'prompt', or say --column caption=HEADING"
                problems.append(Problem(where, "there is no column 'caption' or 'prompt'", fix=fix))
        raise_problems(problems)

    # ------------------------------------------------------------ JSON

    def _read_json(self, file: Path, text: str) -> None:
        if not text.strip():
            raise UnreadableFileError(f"{shown(file)}: the file is empty", fix="add prompts to the file, or delete it")
        lines = file.suffix.lower() in _LINES
        for line, item in _json_lines(file, text, self.left_out) if lines else _json_items(file, text):
            where = f"{shown(file)}:{line}"
            inner = self._wrapped(item, where) if isinstance(item, dict) else {}
            for key, items in inner.items():
                for number, each in enumerate(items, 1):
                    place = f"{where} ({printable(key)}, number {number:,})"
                    self._add_item({**self._shared(item, inner, each), **each}, line, place)
            if not inner:
                self._add_item(item, line, where)

    def _wrapped(self, item: dict[str, Any], where: str) -> dict[str, list[Any]]:
        """The prompts that an object without one of its own holds: {"songs": [...]}, {"input": {...}}."""
        if "nodes" in item or any(isinstance(each, dict) and "class_type" in each for each in item.values()):
            raise UnreadableFileError(
                f"{where}: this is a ComfyUI workflow, not a prompt",
                fix="write its tags and lyrics into a CSV file with the columns caption and lyrics",
            )
        if self._says_caption(item):
            return {}
        lists = {key: [each] if self._says_caption(each) else each for key, each in item.items()}
        return {
            key: value
            for key, value in lists.items()
            if isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
        }

    def _says_caption(self, item: Any) -> bool:
        return isinstance(item, dict) and any(self.layout.role(key).column == "caption" for key in item)

    def _shared(self, item: dict[str, Any], inner: dict[str, Any], prompt: dict[str, Any]) -> dict[str, Any]:
        """The values beside the prompts, which hold for each prompt without its own value; never an id or a title."""
        said = {role.column or role.meaning for role in map(self.layout.role, prompt)} | {"id", "title"}
        roles = {key: self.layout.role(key) for key in item if key not in inner}
        return {
            key: item[key]
            for key, role in roles.items()
            if role.meaning == "unused" or (role.column or role.meaning) not in said
        }

    def _add_item(self, item: Any, line: int, where: str) -> None:
        if isinstance(item, str):
            item = {"caption": item}
        if not isinstance(item, dict):
            fix = 'write {"caption": "..."}'
            self.left_out.append(
                Problem(where, f"an object with a caption is needed here, not {json.dumps(item)[:40]}", fix=fix)
            )
        else:
            self._add(item.items(), line, where)

    # ------------------------------------------------------------ rows

    def _add(self, pairs: Any, line: int, where: str) -> None:
        try:
            values = self.layout.read(pairs)
        except UnusableValue as error:
            self.left_out.append(Problem(where, error.words, error.kind, error.fix))
            return
        row = self._rows.read(values, line, where)
        if row is None:
            return
        row = row._replace(zone=row.zone or self._zone, genre=row.genre or self._genre)
        if row.id is not None:
            other, there = self._ids.setdefault((row.zone, row.genre, row.id), (row, where))
            if other.content != row.content:
                what = f"the id {row.id!r} names another prompt already, at {there}"
                self.left_out.append(Problem(where, what, fix="give each prompt an id of its own, or add --ignore id"))
                return
        self.rows.append((row, where))


def _of_file(file: Path, error: PresetError) -> Problem:
    """`error` as the problem of one file of several."""
    name = shown(file)
    line, _, what = error.what.removeprefix(name).partition(": ")
    return Problem(name + line, what, type(error), error.fix)


def _is_wanted(path: Path, root: Path) -> bool:
    """True for a file of prompts below `root`, unless it is hidden or a leftover of another system's archive."""
    if any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(root).parts):
        return False
    wanted = path.suffix.lower() in _JSON | _TABLES or _CAPTION_FILE.fullmatch(path.name) is not None
    return wanted and path.is_file()


def _json_lines(file: Path, text: str, left_out: list[Problem]) -> Iterator[tuple[int, Any]]:
    """The objects of a file with one a line; a line that is no JSON costs no other."""
    for line, written in enumerate(text.splitlines(), 1):
        if not written.strip():
            continue
        try:
            yield line, json.loads(written)
        except (ValueError, RecursionError) as error:
            left_out.append(_no_json(file, line, error))


def _json_items(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Objects with the line each begins on: of one object, a list, or several one after the other."""
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
            problem = _no_json(file, getattr(error, "lineno", line), error)
            raise UnreadableFileError(f"{problem.where}: {problem.what}", fix=problem.fix) from None
        yield line, item
        at = _skip(text, at, "," if listed else "")
    if listed and (at >= len(text) or text[_skip(text, at + 1, "") :]):
        raise UnreadableFileError(
            f"{shown(file)}: there is text after the end of the list, or the list has no end",
            fix="end the file with one ']'",
        )


def _no_json(file: Path, line: int, error: Exception) -> Problem:
    reason = getattr(error, "msg", "nested too deeply, or a number too long")
    fix = "look at this line and the one above: quotes, commas and braces"
    return Problem(f"{shown(file)}:{line}", f"this is not JSON: {reason}", UnreadableFileError, fix)


def _skip(text: str, at: int, extra: str) -> int:
    while at < len(text) and (text[at].isspace() or text[at] in extra):
        at += 1
    return at


# ---------------------------------------------------------------- the catalog


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
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)

"""Rows: the prompts of a catalog's CSV file, each checked by itself, with errors that name file, line and column.

Column names and values may be written as people and other programs write them; each value is turned into one form.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from catalog import limits
from catalog.errors import CaptionTooLongError, PresetError, UnreadableFileError
from catalog.prompt import CAPTION_TOKENS_MAX, ESTIMATE, LYRICS_TOKENS_MAX, PromptFit, TokenCounter
from catalog.spec import INSTRUMENTAL
from orchestrator.matrix.files import TAKES_MAX
from orchestrator.matrix.located import shown
from orchestrator.matrix.problems import Problem, closest, raise_problems
from orchestrator.matrix.tables import read_foreign_text, read_records
from orchestrator.matrix.values import (
    UnusableValue,
    is_not_set,
    read_count,
    read_flag,
    read_key,
    read_language,
    read_length_s,
    read_metre,
    read_seed,
    read_tempo,
)

COLUMNS: Final = (
    *("id", "zone", "genre", "title", "caption", "lyrics", "bpm", "keyscale", "timesignature"),
    *("duration_s", "language", "takes", "seed", "planner"),
)
ALIASES: Final = {
    **{name: name for name in COLUMNS},
    **dict.fromkeys(("prompt", "captions"), "caption"),
    **dict.fromkeys(("lyric",), "lyrics"),
    **dict.fromkeys(("key", "key_scale", "key_signature", "musical_key", "camelot"), "keyscale"),
    **dict.fromkeys(("tonart", "tonalité", "tonalidad"), "keyscale"),
    **dict.fromkeys(("time_signature", "time_sig", "timesig", "metre", "meter", "takt", "taktart"), "timesignature"),
    **dict.fromkeys(("duration", "audio_duration", "target_duration", "audio_length"), "duration_s"),
    **dict.fromkeys(("duration_sec", "duration_secs", "duration_seconds", "length_s", "seconds"), "duration_s"),
    **dict.fromkeys(("length_sec", "length_seconds", "seconds_total", "dauer", "durée", "duración"), "duration_s"),
    **dict.fromkeys(("lang", "vocal_language", "lyrics_language", "language_code", "sprache", "langue"), "language"),
    **dict.fromkeys(("beats_per_minute", "bpm_beats_per_minute", "tempo_bpm"), "bpm"),
    **dict.fromkeys(("batch_size", "batch_size_input", "versions", "variations"), "takes"),
    **dict.fromkeys(("seeds", "manual_seed", "manual_seeds"), "seed"),
    **dict.fromkeys(("song_title", "track_title", "titel", "titre", "título"), "title"),
    **dict.fromkeys(("think", "thinking"), "planner"),
}
_NO_LYRICS: Final = frozenset(("", "n/a", "none", "null", "auto", "-1", "-1.0"))


class PromptRow(NamedTuple):
    """One prompt. None means: not said, so the catalog decides."""

    line: int
    caption: str
    lyrics: str | None = None
    bpm: int | None = None
    keyscale: str | None = None
    timesignature: str | None = None
    duration_s: int | None = None
    language: str | None = None
    zone: str | None = None
    genre: str | None = None
    title: str | None = None
    takes: int | None = None
    seed: int | None = None
    planner: bool | None = None
    id: str | None = None

    @property
    def content(self) -> str:
        """32 hex digits that change with any written value of the row, but not with its line."""
        return blake2b(repr(self[1:]).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    @property
    def sound(self) -> str:
        """32 hex digits that change only with values that are heard; a new title or more takes change nothing."""
        return self._replace(title=None, takes=None).content


def slugified(text: str, joint: str = "_") -> str:
    """`text` as a slug; where letters are lost on the way, a short hash keeps different texts apart."""
    plain = unicodedata.normalize("NFKD", text.strip())
    ascii_text = plain.encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9_-]+", joint, ascii_text).strip("_-")
    lost = any(unicodedata.category(character)[0] in "LNS" for character in plain if ord(character) > 127)
    if lost or not slug or len(slug) > 48:
        mark = blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        slug = f"{slug[:40]}{joint if slug else 'x'}{mark}"
    return slug


# What a terminal, a tag or an XML reader would take for a command, and half of a character, which JSON can hold and
# UTF-8 cannot; never part of a word. Line ends and tabs stay.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")


def _whole_text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    if found := limits.control_text_in(text):
        raise UnusableValue(f"holds {found!r}, a control token of the model", f"take out {found!r}", PresetError)
    return _CONTROL.sub(" ", text)


def _words(text: str) -> str:
    return " ".join(text.split())


def _lyrics(value: Any) -> str:
    text = _whole_text(value).strip().replace("\r\n", "\n").replace("\r", "\n")
    return INSTRUMENTAL if text.casefold() in ("[instrumental]", "[inst]", "instrumental") else text


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "caption": lambda value: _words(_whole_text(value)),
    "lyrics": _lyrics,
    "bpm": read_tempo,
    "keyscale": read_key,
    "timesignature": read_metre,
    "duration_s": read_length_s,
    "language": read_language,
    "zone": lambda value: slugified(str(value)),
    "genre": lambda value: slugified(str(value)),
    "title": lambda value: _words(_CONTROL.sub(" ", str(value)))[:200],
    "takes": lambda value: read_count(value, TAKES_MAX),
    "seed": read_seed,
    "planner": read_flag,
    "id": lambda value: slugified(str(value), "-"),
}
TEXTS: Final = frozenset(("caption", "title", "id", "zone", "genre"))  # where "None" and "auto" are words
_LIMITS: Final = {"caption": CAPTION_TOKENS_MAX, "lyrics": LYRICS_TOKENS_MAX}


def plain_heading(name: str) -> str:
    """`name` in the form in which headings are compared: "Key/Scale", "keyScale" and "Key scale" are key_scale."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\W_]+", "_", split).rstrip("_").casefold()


def column_of(name: str) -> str | None:
    """The column that a heading or JSON key means, or None."""
    return ALIASES.get(plain_heading(name))


def is_empty(value: Any, column: str) -> bool:
    """True when `value` leaves `column` to the catalog."""
    if column in TEXTS:
        return value is None or not str(value).strip()
    if column == "lyrics":
        return value is None or str(value).strip().casefold() in _NO_LYRICS
    return is_not_set(value, column)


def is_same(column: str, one: Any, other: Any) -> bool:
    """True when two raw values of `column` mean the same."""
    if one == other:
        return True
    try:
        return bool(_READERS[column](one) == _READERS[column](other))
    except UnusableValue:
        return False


class RowReader:
    """Makes rows from raw values by column, and notes the faults of rows that cannot be made."""

    def __init__(self, counter: TokenCounter = ESTIMATE) -> None:
        self._counter = counter
        self.problems: list[Problem] = []
        self.in_doubt = 0  # rows with a text that may be too long

    def read(self, values: Mapping[str, Any], line: int, where: str) -> PromptRow | None:
        """The row of `values`; when a value is wrong, its problem is noted, and None comes back."""
        fields: dict[str, Any] = {}
        before = len(self.problems)
        for column, value in values.items():
            if is_empty(value, column):
                continue
            try:
                fields[column] = _READERS[column](value)
                if column in _LIMITS:
                    self._check_length(fields[column], _LIMITS[column])
            except UnusableValue as error:
                what = f"column {column!r}: {str(value)[:60]!r} {error.words}"
                self.problems.append(Problem(where, what, error.kind, error.fix))
        if is_empty(values.get("caption"), "caption"):
            self.problems.append(Problem(where, "column 'caption': there is no caption", fix="describe the music"))
        return PromptRow(line=line, **fields) if len(self.problems) == before else None

    def _check_length(self, text: str, tokens_max: int) -> None:
        fit = self._counter.fit(text, tokens_max)
        self.in_doubt += fit is PromptFit.IN_DOUBT
        if fit is PromptFit.TOO_LONG:
            words = f"takes {self._counter.in_words(text, tokens_max)}"
            raise UnusableValue(words, self._counter.cut(text, tokens_max), CaptionTooLongError)


def read_csv(path: Path, counter: TokenCounter = ESTIMATE) -> list[PromptRow]:
    """The rows of a catalog's CSV file, whose headings must all mean a column.

    Comma, semicolon or tab; UTF-8 or UTF-16. Raises UnreadableFileError, or one PresetError for all bad rows.
    """
    records = read_records(read_foreign_text(path).text, path, lambda name: column_of(name) is not None)
    line, heading = next(records, (1, []))
    name = shown(path)
    columns = _columns(heading, f"{name}:{line}")
    reader = RowReader(counter)
    rows: list[PromptRow] = []
    for line, cells in records:
        where = f"{name}:{line}"
        if len(cells) > len(heading):
            reader.problems.append(too_many_cells(cells, heading, where))
            continue
        values = {column: cell for column, cell in zip(columns, cells, strict=False) if column}
        row = reader.read(values, line, where)
        if row:
            rows.append(row)
    raise_problems([*reader.problems, *(problem for _, problem in repeated_ids(rows, path))])
    if not rows:
        raise UnreadableFileError(f"{shown(path)}: there is no row below the heading", fix="add at least one prompt")
    return rows


def too_many_cells(cells: list[str], heading: list[str], where: str) -> Problem:
    """The problem of a row that is longer than the heading."""
    what = f"{len(cells)} cells, but {len(heading)} columns"
    return Problem(where, what, fix='put cells with commas between quotes: "..."')


def repeated_ids(rows: list[PromptRow], path: Path) -> Iterator[tuple[PromptRow, Problem]]:
    """Rows that differ from an earlier one of the same id; rows that are the same in everything are just duplicates."""
    first: dict[tuple[str | None, str | None, str], PromptRow] = {}
    for row in rows:
        if row.id is None:
            continue
        other = first.setdefault((row.zone, row.genre, row.id), row)
        if other.content != row.content:
            what = f"column 'id': {row.id!r} names another prompt on line {other.line} already"
            yield row, Problem(f"{shown(path)}:{row.line}", what, fix="give each prompt its own id, or no id")


def _columns(heading: list[str], where: str) -> list[str | None]:
    columns = [column_of(name) for name in heading]
    problems: list[Problem] = []
    for name, column in zip(heading, columns, strict=True):
        if column and columns.count(column) > 1:
            fix = f"delete all but one of the columns that mean {column!r}"
            problems.append(Problem(where, f"more than one column means {column!r}", fix=fix))
        if column is None and name.strip():
            guess = closest(name.strip().casefold(), ALIASES)
            fix = f"write {guess!r}" if guess else f"the columns are {', '.join(COLUMNS)}"
            problems.append(Problem(where, f"{name.strip()[:60]!r} is not a column here", fix=fix))
    if "caption" not in columns:
        fix = "name the column of descriptions 'caption' or 'prompt' in the first line"
        problems.append(Problem(where, "there is no column 'caption' or 'prompt'", fix=fix))
    raise_problems(list(dict.fromkeys(problems)))
    return columns

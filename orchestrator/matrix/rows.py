"""Rows: prompts from a CSV file, each checked by itself, with errors that name file, line and column.

Column names, numbers and keys are read the way people and other programs write them ("4/4", "Am", "N/A" for
nothing); the values that come out have one form each.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from catalog import limits
from catalog.errors import CaptionTooLongError, OutOfRangeError, PresetError, UnreadableFileError
from catalog.prompt import CAPTION_TOKENS_MAX, LYRICS_TOKENS_MAX, token_ceiling, words_over
from catalog.seeds import SEED_LIMIT
from catalog.spec import INSTRUMENTAL
from orchestrator.matrix.files import TAKES_MAX
from orchestrator.matrix.located import read_text, shown
from orchestrator.matrix.names import printable
from orchestrator.matrix.problems import Problem, closest, raise_problems

COLUMNS: Final = (
    *("id", "zone", "genre", "title", "caption", "lyrics", "bpm", "keyscale", "timesignature"),
    *("duration_s", "language", "takes", "seed", "planner"),
)
_ALIASES: Final = {
    **{name: name for name in COLUMNS},
    **{"prompt": "caption", "key": "keyscale", "key_scale": "keyscale", "duration": "duration_s"},
    **{"audio_duration": "duration_s", "vocal_language": "language", "time_signature": "timesignature"},
    **{"think": "planner", "thinking": "planner"},
}
_NOTHING: Final = frozenset(("", "n/a", "none", "null", "auto", "-1", "-1.0"))
_KEY: Final = re.compile(r"([A-Ga-g])\s*(#|b|♯|♭|sharp|flat)?\s*(major|maj|minor|min|m)?", re.IGNORECASE)
csv.field_size_limit(1024 * 1024)  # lyrics are longer than the 128 KiB that csv allows only when something is wrong


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
        """32 hex digits that any difference in what is written changes, and its line does not."""
        return blake2b(repr(self[1:]).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    @property
    def sound(self) -> str:
        """The same of what is heard alone: another title or more takes of it leave a track what it is."""
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


def _nothing(value: Any) -> bool:
    return value is None or str(value).strip().casefold() in _NOTHING


def _number(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool):
        raise ValueError("is not a number")
    try:
        number = float(str(value).strip())
    except ValueError:
        raise ValueError("is not a number") from None
    if not low <= number <= high:  # also refuses nan
        raise OverflowError(f"must be {low:,} to {high:,}")
    return int(number + 0.5)


def _seed(value: Any) -> int:
    text = str(value).strip()
    if not re.fullmatch(r"\d{1,19}(\.0)?", text):
        raise ValueError("is not a whole number from 0")
    seed = int(text.removesuffix(".0"))  # not by way of a float, which holds 53 bits only
    if seed >= SEED_LIMIT:
        raise OverflowError(f"must be below {SEED_LIMIT}")
    return seed


# What a terminal, a tag or an XML reader would take for a command, and half of a character, which JSON can hold and
# UTF-8 cannot; never part of a word. Line ends and tabs stay.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")


def _whole_text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    if "<|" in text:
        raise ValueError("holds '<|', which opens the model's control tokens")
    return _CONTROL.sub(" ", text)


def _caption(value: Any) -> str:
    text = " ".join(_whole_text(value).split())
    tokens = token_ceiling(text)
    if tokens > CAPTION_TOKENS_MAX:
        over = words_over(text, CAPTION_TOKENS_MAX)
        raise _TooLong(f"takes about {tokens} tokens and {CAPTION_TOKENS_MAX} fit; cut about {over} words")
    return text


def _lyrics(value: Any) -> str:
    text = _whole_text(value).strip().replace("\r\n", "\n").replace("\r", "\n")
    if text.casefold() in ("[instrumental]", "[inst]", "instrumental"):
        return INSTRUMENTAL
    tokens = token_ceiling(text)
    if tokens > LYRICS_TOKENS_MAX:
        over = words_over(text, LYRICS_TOKENS_MAX)
        raise _TooLong(f"take about {tokens:,} tokens and {LYRICS_TOKENS_MAX:,} fit; cut about {over} words")
    return text


class _TooLong(Exception):
    """A text that the model would see only the beginning of."""


def _keyscale(value: Any) -> str:
    match = _KEY.fullmatch(str(value).strip())
    if match is None:
        raise OverflowError("is no key; write it like 'F# minor'")
    note, accidental, mode = match.groups()
    sign = {"sharp": "#", "flat": "b"}.get((accidental or "").lower(), (accidental or "").lower())
    minor = mode is not None and (mode == "m" or mode.lower().startswith("min"))
    return f"{note.upper()}{sign} {'minor' if minor else 'major'}"


def _timesignature(value: Any) -> str:
    text = str(value).strip().removesuffix(".0")
    metre = {"2/4": "2", "3/4": "3", "4/4": "4", "6/8": "6"}.get(text, text)
    if metre not in limits.TIME_SIGNATURES:
        raise OverflowError("must be 2, 3, 4 or 6 (or 2/4, 3/4, 4/4, 6/8)")
    return metre


def _language(value: Any) -> str:
    text = str(value).strip().lower()
    if text not in limits.LANGUAGES:
        guess = closest(text, limits.LANGUAGES)
        hint = f"; did you mean {guess!r}?" if guess else ", such as 'en'"
        raise OverflowError(f"is not one of the model's language codes{hint}")
    return text


def _switch(value: Any) -> bool:
    text = str(value).strip().casefold()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise ValueError("must be true or false")


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "caption": _caption,
    "lyrics": _lyrics,
    "bpm": lambda value: _number(value, limits.BPM_MIN, limits.BPM_MAX),
    "keyscale": _keyscale,
    "timesignature": _timesignature,
    "duration_s": lambda value: _number(value, limits.DURATION_MIN_S, limits.DURATION_MAX_S),
    "language": _language,
    "zone": lambda value: slugified(str(value)),
    "genre": lambda value: slugified(str(value)),
    "title": lambda value: " ".join(_CONTROL.sub(" ", str(value)).split())[:200],
    "takes": lambda value: _number(value, 1, TAKES_MAX),
    "seed": _seed,
    "planner": _switch,
    "id": lambda value: slugified(str(value), "-"),
}
_TEXTS: Final = frozenset(("caption", "title", "id", "zone", "genre"))  # where "None" and "auto" are words


def column_of(name: str) -> str | None:
    """The column that a heading or JSON key means, or None."""
    return _ALIASES.get(re.sub(r"[\s-]+", "_", name.strip()).casefold())


def read_row(values: Mapping[str, Any], line: int, where: str, problems: list[Problem]) -> PromptRow | None:
    """One row from raw values by column; what is wrong goes to `problems`, and None comes back."""
    fields: dict[str, Any] = {}
    before = len(problems)
    for column, value in values.items():
        empty = value is None or not str(value).strip() if column in _TEXTS else _nothing(value)
        if empty:
            continue
        try:
            fields[column] = _READERS[column](value)
        except (ValueError, OverflowError, _TooLong) as error:
            kind: type[PresetError] = PresetError
            if isinstance(error, OverflowError):
                kind = OutOfRangeError
            elif isinstance(error, _TooLong):
                kind = CaptionTooLongError
            problems.append(Problem(where, f"column {column!r}: {str(value)[:60]!r} {error}", kind))
    if not str(values.get("caption") or "").strip():
        problems.append(Problem(where, "column 'caption': there is no caption"))
    return PromptRow(line=line, **fields) if len(problems) == before else None


def read_csv(path: Path, *, strict: bool) -> tuple[list[PromptRow], list[str]]:
    """The rows of a CSV file, and the headings that mean nothing here; `strict` makes those an error.

    Comma, semicolon or tab; UTF-8 with or without a byte order mark. Raises UnreadableFileError, or one
    PresetError for all bad rows.
    """
    text = read_text(path)
    if not text.strip():
        raise UnreadableFileError(f"{shown(path)}: the file is empty", fix="fill it in, or delete it")
    records = _records(text, path)
    _, heading = next(records)
    columns, unknown = _columns(heading, path, strict=strict)
    problems: list[Problem] = []
    rows: list[PromptRow] = []
    for line, cells in records:
        where = f"{shown(path)}:{line}"
        if len(cells) > len(heading):
            problems.append(Problem(where, f"{len(cells)} cells, but {len(heading)} columns; quote cells with commas"))
            continue
        values = {column: cell for column, cell in zip(columns, cells, strict=False) if column}
        row = read_row(values, line, where, problems)
        if row:
            rows.append(row)
    problems += repeated_ids(rows, path)
    raise_problems(problems)
    if not rows:
        raise UnreadableFileError(f"{shown(path)}: there is no row below the heading", fix="add at least one prompt")
    return rows, unknown


def repeated_ids(rows: list[PromptRow], path: Path) -> Iterator[Problem]:
    """Problems for one id on rows that differ; rows that are the same in everything are just duplicates."""
    first: dict[tuple[str | None, str | None, str], PromptRow] = {}
    for row in rows:
        if row.id is None:
            continue
        other = first.setdefault((row.zone, row.genre, row.id), row)
        if other.content != row.content:
            what = f"column 'id': {row.id!r} names another prompt on line {other.line} already"
            yield Problem(f"{shown(path)}:{row.line}", what)


def _records(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Records with the line each begins on; blank ones are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    line = 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableFileError(
            f"{shown(path)}:{line}: this row is not CSV: {error}",
            why="a quoted cell begins and ends with one '\"', and a '\"' inside it is written twice",
            fix="mend the quotes of this row",
        ) from None


def _delimiter(text: str) -> str:
    """The delimiter under which the heading names the most known columns."""
    heading = text.lstrip("\r\n").split("\n", 1)[0].rstrip("\r")

    def known(delimiter: str) -> int:
        return sum(column_of(name.strip('"')) is not None for name in heading.split(delimiter))

    return max(",;\t", key=known)


def _columns(heading: list[str], path: Path, *, strict: bool) -> tuple[list[str | None], list[str]]:
    columns = [column_of(name) for name in heading]
    problems: list[Problem] = []
    unknown: list[str] = []
    where = f"{shown(path)}:1"
    for name, column in zip(heading, columns, strict=True):
        if column and columns.count(column) > 1:
            problems.append(Problem(where, f"more than one column means {column!r}"))
        if column is None and name.strip():
            guess = closest(name.strip().casefold(), _ALIASES, cutoff=0.6 if strict else 0.8)
            if strict or guess:  # an import leaves other programs' columns out, but not a misspelt one
                fix = f"write {guess!r}" if guess else f"the columns are {', '.join(COLUMNS)}"
                problems.append(Problem(where, f"{name.strip()[:60]!r} is not a column here", fix=fix))
            unknown.append(printable(name.strip()))
    if "caption" not in columns:
        fix = "name the column of descriptions 'caption' or 'prompt' in the first line"
        problems.append(Problem(where, "there is no column 'caption' or 'prompt'", fix=fix))
    raise_problems(list(dict.fromkeys(problems)))
    return columns, unknown

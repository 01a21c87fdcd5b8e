"""Located YAML: every value keeps the file and the line on which it was written.

So an error in an inherited value can name the line that a person must edit. Only plain YAML is read: text, numbers,
true and false, lists and mappings. `no`, `on` and times of day are text, because `language: no` is Norwegian. The size
of files is limited, far above that of real presets.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from catalog.errors import PresetError, UnreadableFileError
from orchestrator.matrix.names import printable, quoted

BYTES_MAX = 4 * 1024 * 1024
NODES_MAX = 200_000  # after aliases are expanded, so that a few lines cannot stand for billions of values
DEPTH_MAX = 40
_SHOWN_MAX = 1_000  # letters of a path
TEXT_MAX = 64 * 1024  # characters: the longest lyrics that the model reads are far shorter

# All but what YAML calls printable. It refuses these characters themselves, and lets them in as escapes ("\0", "\e").
_UNSEEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


class Place(NamedTuple):
    """The file and line on which a value was written."""

    file: Path
    line: int  # from 1

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}"


class Located(NamedTuple):
    """A value and where it was written; mappings and lists hold Located values."""

    value: Any
    place: Place

    def plain(self) -> Any:
        """The value without places, as pydantic wants it."""
        if isinstance(self.value, dict):
            return {key: each.plain() for key, each in self.value.items()}
        if isinstance(self.value, list):
            return [each.plain() for each in self.value]
        return self.value

    def at(self, path: Sequence[str | int]) -> Place:
        """The place of `path`, or of the nearest thing around it; steps that no file has are passed over."""
        here = self
        for step in path:
            if isinstance(here.value, dict):
                here = here.value.get(str(step), here)
            elif isinstance(here.value, list) and isinstance(step, int) and step < len(here.value):
                here = here.value[step]
        return here.place


def shown(file: Path) -> str:
    """`file` as the user would write it: relative to the current folder when it lies below."""
    try:
        text = str(file.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        text = str(file)
    return printable(text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}...")


def is_file(path: Path) -> bool:
    """True when there is such a file. False for a name that no file can have; one that is forbidden fails when read."""
    try:
        return path.is_file()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """True when there is such a folder and it may be looked into."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def merged(base: Located, over: Located) -> Located:
    """`base` overlaid by `over`: mappings merge deeply, lists and scalars replace."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    value = dict(base.value)
    for key, each in over.value.items():
        value[key] = merged(value[key], each) if key in value else each
    return Located(value, over.place)


def read_located(file: Path) -> Located:
    """Read one YAML file whose top is a mapping.

    Raises UnreadableFileError for a file that is absent, empty, binary, not UTF-8 or not YAML, and
    PresetError for duplicate keys, foreign tags or a file past the limits.
    """
    text = read_text(file)
    try:
        _refuse_deep(text, file)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise _not_yaml(file, text, error) from None
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        raise UnreadableFileError(
            f"{shown(file)}: the file is empty", fix="write the preset into the file, or delete the file"
        )
    if not isinstance(node, yaml.MappingNode):
        raise UnreadableFileError(
            f"{shown(file)}:{_line(node)}: the file is not a mapping of keys to values",
            why="a preset is lines of the form 'key: value'",
            fix="copy another file of the same folder and edit the copy",
        )
    return _Builder(file).build(node, depth=0)


def read_text(file: Path) -> str:
    """The text of `file` (UTF-8, a byte order mark is dropped). Raises UnreadableFileError in words."""
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= BYTES_MAX or file.suffix not in (".yaml", ".yml") else None
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None
    if content is None:
        raise UnreadableFileError(
            f"{shown(file)}: {size} bytes is too large for a preset", fix="split the preset into several files"
        )
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnreadableFileError(f"{shown(file)}: this is UTF-16 text", fix="save it as UTF-8 text")
    if b"\x00" in content:
        raise UnreadableFileError(f"{shown(file)}: this is a binary file, not text", fix="save it as UTF-8 text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UnreadableFileError(
            f"{shown(file)}:{line}: the file is not UTF-8 text",
            why=f"byte 0x{content[error.start]:02x} has no meaning there",
            fix="save it as UTF-8",
        ) from None


def _unreadable(file: Path, error: OSError | ValueError) -> UnreadableFileError:
    """The error for a file that the system does not hand out."""
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, PermissionError):
        fix = "give this user the right to read the file"
    elif file.is_symlink():
        fix = "remove the link, or let it lead to a file that is there"
    else:
        fix = "write the path of a file that is there"
    return UnreadableFileError(f"{shown(file)}: cannot be read: {reason}", fix=fix)


def _refuse_deep(text: str, file: Path) -> None:
    # Composing recurses in C and ends the process on a file of brackets; reading events does not.
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_MAX:
                raise _too_large(Place(file, _line(event)))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _too_large(place: Place) -> UnreadableFileError:
    return UnreadableFileError(
        f"{place}: nested too deeply or too large to be a preset",
        why=f"at most {DEPTH_MAX} levels and {NODES_MAX:,} values are read, aliases expanded",
        fix="write the preset with fewer levels and fewer aliases",
    )


def _not_yaml(file: Path, text: str, error: yaml.YAMLError) -> UnreadableFileError:
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = f":{mark.line + 1}" if mark is not None else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    if "nesting depth" in problem:  # newer libyaml counts levels by itself, before it hands out an event
        return _too_large(Place(file, mark.line + 1 if mark is not None else 1))
    lines = text.splitlines()
    tabbed = bool(mark and mark.line < len(lines) and lines[mark.line].startswith("\t"))
    hint = "YAML does not allow a tab as indentation" if tabbed else ""
    return UnreadableFileError(
        f"{shown(file)}{line}: this is not valid YAML: {problem}",
        why=hint or "the YAML parser cannot read this line",
        fix="check quotes, colons, brackets and indentation in this line and the line above",
    )


class _Built(NamedTuple):
    located: Located
    nodes: int  # of which it is made, itself included
    deepest: int  # levels below it


class _Builder:
    """Turns composed nodes into Located values.

    A node that aliases repeat is built once and counted each time: a bomb of aliases costs no more than its text.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.nodes = 0
        self.deepest = 0  # level reached so far
        self.built: dict[int, _Built] = {}

    def build(self, node: yaml.Node, depth: int) -> Located:
        place = Place(self.file, _line(node))
        if known := self.built.get(id(node)):
            self._count(known.nodes, depth + known.deepest, place)
            return known.located
        self._count(1, depth, place)
        if isinstance(node, yaml.ScalarNode):
            value = _scalar(node, place)
            return Located(_seen(value, place) if isinstance(value, str) else value, place)
        before, outer, self.deepest = self.nodes - 1, self.deepest, depth
        if isinstance(node, yaml.MappingNode):
            located = Located(self._mapping(node, depth), place)
        else:
            located = Located([self.build(item, depth + 1) for item in node.value], place)
        self.built[id(node)] = _Built(located, self.nodes - before, self.deepest - depth)
        self.deepest = max(outer, self.deepest)
        return located

    def _count(self, nodes: int, depth: int, place: Place) -> None:
        self.nodes += nodes
        self.deepest = max(self.deepest, depth)
        if depth > DEPTH_MAX or self.nodes > NODES_MAX:
            raise _too_large(place)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Located]:
        values: dict[str, Located] = {}
        inherited: dict[str, Located] = {}
        for key_node, value_node in node.value:
            place = Place(self.file, _line(key_node))
            if key_node.tag == f"{_TAG}merge":
                for source in self._merge_sources(value_node, depth, place):
                    inherited = {**source, **inherited}
                continue
            key = self._key(key_node, place)
            if key in values:
                raise PresetError(
                    f"{place}: {quoted(key)} is given twice",
                    why=f"line {values[key].place.line} has the key already, and each key may have only one value",
                    fix="delete one of the two lines",
                )
            # The key's line, not the value's: that is the line a person looks for.
            values[key] = Located(self.build(value_node, depth + 1).value, place)
        return {**inherited, **values}

    def _key(self, node: yaml.Node, place: Place) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            raise PresetError(f"{place}: a key must be a word", fix="write 'key: value'")
        return _seen(str(node.value), place)

    def _merge_sources(self, node: yaml.Node, depth: int, place: Place) -> Iterator[dict[str, Located]]:
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            source = self.build(each, depth + 1).value
            if not isinstance(source, dict):
                raise PresetError(
                    f"{place}: '<<' needs a mapping", fix="write an alias of a mapping after it, or remove the line"
                )
            yield source


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _seen(text: str, place: Place) -> str:
    """`text`, checked to hold only characters that a database, a tag and a terminal accept."""
    if strange := _UNSEEN.search(text):
        raise PresetError(
            f"{place}: a text holds the control character U+{ord(strange[0]):04X}",
            why="terminals, tags and databases cannot handle control characters",
            fix="delete the character",
        )
    if len(text) > TEXT_MAX:
        raise PresetError(
            f"{place}: the text has {len(text):,} characters; at most {TEXT_MAX:,} are allowed", fix="shorten the text"
        )
    return text


def _scalar(node: yaml.Node, place: Place) -> str | int | float | bool | None:
    """The value of a scalar by the rules of YAML 1.2's core schema: no sexagesimals, no dates, no yes and no."""
    kind, text = node.tag.removeprefix(_TAG), str(node.value)
    if node.tag == kind or kind not in ("str", "null", "bool", "int", "float", "timestamp", "value"):
        raise PresetError(f"{place}: the tag {quoted(node.tag)} is not supported", fix="write plain text or a number")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true" if text.lower() in ("true", "false") else text
    for number, named in ((int, "int"), (float, "float")):
        if kind == named:
            try:
                return number(text.replace("_", ""))
            except ValueError:
                return text
    return text

"""Validation: turns a preset file into its model, or reports every mistake in a producer's words, each with a remedy.

Where possible, a remedy is text to write: the value that was probably meant, else the example of the key. No text of
the schema library reaches a reader. True and false are never numbers, although the library accepts them as such.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from catalog.errors import OutOfRangeError, PresetError
from orchestrator.matrix.examples import EXAMPLES
from orchestrator.matrix.located import Located, Place
from orchestrator.matrix.names import FILE_NAME, NAME, RULES, as_name, printable, quoted
from orchestrator.matrix.problems import Problem, closest, raise_problems
from orchestrator.matrix.values import UnusableValue, read_key, read_language, read_length_s, read_metre

_M = TypeVar("_M", bound=BaseModel)
_Path = tuple[Any, ...]
_ERRORS_MAX: Final = 200  # a file with more mistakes is not a preset with mistakes
_STEP_MAX: Final = 64  # letters of a key; a name is no longer
_KEY_ALIKE: Final = 0.65  # of 1, a key and the one that may be meant: 'upto' is 'to', and 'lora' is not 'format'
_TEXT_MAX: Final = 120  # characters of text to write; a longer one is no help
_KEYS_SPELT_MAX: Final = 2
_OWN_STEPS: Final = ("[key]", "int", "str", "list")  # pydantic's own, in the path of a value
_RANGE_KEYS: Final = frozenset(("tempo", "keys", "duration_s", "language", "timesignatures"))
_MEANINGS: Final[dict[str, Callable[[str], Any]]] = {
    **{"keys": read_key, "timesignatures": read_metre, "language": read_language},
    **dict.fromkeys(("duration_s", "from", "to"), read_length_s),
}
_NOWHERE: Final = Place(Path(), 1)
_BLANK: Final = r"\S"
_NEEDED: Final = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping of keys to values"),
    "string_type": "a text",
}


class _Key(NamedTuple):
    """The key of a model that a path leads to or through."""

    name: str
    field: FieldInfo
    path: _Path  # of the key itself


def validated(model: type[_M], tree: Located) -> _M:
    """`tree` as a `model`. Raises PresetError, or OutOfRangeError for values outside the limits."""
    try:
        found = model.model_validate(tree.plain())
    except ValidationError as error:
        raise_problems(_problems(model, tree, error.errors(include_url=False)))
        raise AssertionError("a validation error holds at least one problem") from None
    raise_problems([_not_a_number(model, tree, path) for path in _switches_read_as_numbers(found, tree, ())])
    return found


def _problems(model: type[BaseModel], tree: Located, errors: list[Any]) -> list[Problem]:
    """One problem for each mistake, in the order of the lines."""
    missing: dict[_Path, list[str]] = {}
    meant: set[tuple[_Path, str]] = set()
    problems = []
    for error in _first_hand(errors)[:_ERRORS_MAX]:
        path = tuple(error["loc"])
        if error["type"] == "missing" and isinstance(path[-1], str):
            missing.setdefault(path[:-1], []).append(path[-1])
        elif error["type"] == "extra_forbidden":
            known, around = _keys_at(model, path[:-1]), _key_around(model, path)
            guess = None if around else closest(str(path[-1]), known, cutoff=_KEY_ALIKE)
            meant.add((path[:-1], guess or ""))
            fix = f"write {guess!r}" if guess else f"drop it; the keys here are {', '.join(sorted(known))}"
            fix = f"write it under {around!r}" if around else fix
            problems.append(Problem(str(tree.at(path)), f"{quoted(path[-1])} is not a key here", PresetError, fix))
        else:
            problems.append(_problem(model, tree, error))
    for parent, keys in missing.items():
        # A misspelt key is one mistake, not two: that the right one is then missing goes without saying.
        if lacking := [key for key in keys if (parent, key) not in meant]:
            problems.append(_lacking(model, tree, parent, lacking))
    return sorted(dict.fromkeys(problems), key=lambda problem: _line_of(problem.where))


def _first_hand(errors: list[Any]) -> list[Any]:
    """`errors` without those that only follow from another, and one alone for each list of the wrong length."""
    wrong_within = {tuple(each["loc"])[:depth] for each in errors for depth in range(len(each["loc"]))}
    kept, short = [], {}
    for each in errors:
        path = tuple(each["loc"])
        if each["type"] == "missing" and isinstance(path[-1], int):
            short[path[:-1]] = {**each, "type": "too_short", "loc": path[:-1], "ctx": {"min_length": path[-1] + 1}}
        elif each["type"] != "too_short" or path not in wrong_within:
            kept.append(each)
    return [*kept, *short.values()]


def _line_of(where: str) -> tuple[str, int]:
    file, _, line = where.rpartition(":")
    return file, int(line)


def _lacking(model: type[BaseModel], tree: Located, parent: _Path, keys: Sequence[str]) -> Problem:
    """The problem of required keys that are not there."""
    name = _dotted(parent)
    what = f"{_dotted((*parent, keys[0]))} is missing"
    if len(keys) > 1:
        what = f"{name}: " * bool(name) + f"{', '.join(keys[:-1])} and {keys[-1]} are missing"
    texts = [f"'{_spelt(key)}'" for each in keys if (key := _key_at(model, (*parent, each)))]
    fix = f"add, for example, {' and '.join(texts)}"
    if strays := _strays(model, _value_at(tree, parent), (*parent, keys[0])):
        fix = f"write {strays}"
    if len(keys) > _KEYS_SPELT_MAX:
        fix = f"add the keys {', '.join(keys)}" + ("" if parent else ", or 'extends' with the name of a preset")
    return Problem(str(tree.at(parent)), what, PresetError, fix)


def _strays(model: type[BaseModel], given: Any, path: _Path) -> str:
    """The keys beside a missing mapping at `path` that belong into it, as that mapping; "" when there are none."""
    key = _key_at(model, path)
    inner = {name for found in _models_of(key.field) for name in found.model_fields} if key else set()
    text = _flow({path[-1]: {name: each.plain() for name, each in given.items() if name in inner}})
    return f"'{text}'" if not text.endswith("{}") else ""


def _problem(model: type[BaseModel], tree: Located, error: Any) -> Problem:
    """The problem of a value that its key does not accept."""
    path = tuple(error["loc"])
    key = _key_at(model, path)
    words, fix = next(read for kinds, read in _READERS.items() if not kinds or error["type"] in kinds)(error, key, tree)
    name, fix = _dotted(path), _meant(key, error["input"]) or fix
    spot, value = _reshaped(_value_at(tree, path), key, path)
    if value is not None and _mends(model, tree, spot, value):
        fix = f"write '{_flow({spot[-1]: value})}'"
    of_range = error["type"] in _RANGES or error["type"] in _CHOICES
    of_range = of_range or (error["type"] in _OWN and any(step in _RANGE_KEYS for step in path))
    what = f"{name}: {words}" if name else words
    return Problem(str(tree.at(path)), what, OutOfRangeError if of_range else PresetError, fix)


def _meant(key: _Key | None, given: Any) -> str:
    """The remedy for a text that people write for a value: "Cm", "english", "2 min"; "" for one that means none."""
    if key is None or key.name not in _MEANINGS or not isinstance(given, str):
        return ""
    try:
        return f"write {_MEANINGS[key.name](given)!r}"
    except UnusableValue:
        return ""


def _reshaped(given: Any, key: _Key | None, path: _Path) -> tuple[_Path, Any]:
    """The path of a value that was written in another form than the language has, and the value in that form.

    Such as a mapping in place of a list of mappings, "60-90", "warm, calm, still", and an axis that is a list.
    """
    spot: _Path = key.path if key else path
    value: Any = None
    if isinstance(given, dict):
        value = [_plain_values(given)]
    elif isinstance(given, list) and path[-2:-1] == ("axes",):
        names = _plain_values(given)
        spot, value = path, {each: {} for each in names} if all(isinstance(each, str) for each in names) else None
    elif isinstance(given, str) and (ends := re.fullmatch(r"(\d+)\D+(\d+)\D*", given)):
        value = [int(ends[1]), int(ends[2])]
    elif isinstance(given, str) and "," in given:
        value = [part.strip() for part in given.split(",")]
    return spot, value


def _mends(model: type[BaseModel], tree: Located, path: _Path, value: Any) -> bool:
    """True when `value` may stand at `path`, and can be shown on a line."""
    try:
        model.model_validate(_with(tree.plain(), path, value))
    except ValidationError as error:
        if any(tuple(each["loc"])[: len(path)] == path for each in error.errors(include_url=False)):
            return False
    return bool(path and _flow({path[-1]: value}))


def _with(content: Any, path: _Path, value: Any) -> Any:
    """`content`, plain values, with `value` at `path`."""
    if not path:
        return value
    copied = dict(content) if isinstance(content, dict) else list(content)
    copied[path[0]] = _with(copied[path[0]], path[1:], value)
    return copied


def _plain_values(value: Any) -> Any:
    return Located(value, _NOWHERE).plain()


# ------------------------------------------------------------ the fault and the remedy, by the kind of mistake


def _wrong_type(error: Any, key: _Key | None, tree: Located) -> tuple[str, str]:
    given = error["input"]
    needed = _NEEDED.get(error["type"], "another value")
    if given is None:
        return f"nothing stands here, and {needed} is needed", _example(key)
    fix = _example(key)
    if needed == "a text" and not isinstance(given, list | dict):
        fix = f'put it between quotation marks: "{_plain(given)}"'
    return f"{needed} is needed, not {_described(given)}", fix


def _wrong_range(error: Any, key: _Key | None, tree: Located) -> tuple[str, str]:
    (kind, bound), *_ = error["ctx"].items()
    bounds = {**_bounds(key), kind: bound}
    span = " and ".join(f"{words} {_plain(bounds[each])}" for each, words in _BOUND_WORDS.items() if each in bounds)
    fix = f"write a number that is {span}" + (f", such as '{_spelt(key)}'" if key else "")
    return f"{_described(error['input'])} is out of range: it must be {_BOUND_WORDS[kind]} {_plain(bound)}", fix


def _wrong_choice(error: Any, key: _Key | None, tree: Located) -> tuple[str, str]:
    options = [text or number for text, number in re.findall(r"'([^']*)'|(-?\d+)", error["ctx"]["expected"])]
    guess = closest(str(error["input"]), options)
    what = f"{_described(error['input'])} is none of {', '.join(options)}"
    return what, f"write {guess!r}" if guess else f"write one of {', '.join(options)}"


def _wrong_length(error: Any, key: _Key | None, tree: Located) -> tuple[str, str]:
    ctx, given = error["ctx"], error["input"]
    if error["type"] == "string_too_short":
        return "the text is empty", _example(key)
    count = len(given) if isinstance(given, list | tuple | dict) else 1
    if error["type"] == "too_long":
        return f"at most {ctx['max_length']:,} entries fit, not {count:,}", _example(key)
    needed = "1 entry is" if ctx["min_length"] == 1 else f"{ctx['min_length']:,} entries are"
    what = f"at least {needed} needed, not {count or 'none'}"
    return what, _example(key)


def _wrong_pattern(error: Any, key: _Key | None, tree: Located) -> tuple[str, str]:
    pattern, given = error["ctx"]["pattern"], str(error["input"])
    if pattern == _BLANK:
        return "the text is blank", "write some words, or drop the entry"
    near = {NAME: as_name(given), FILE_NAME: re.split(r"[/\\\\]", given)[-1]}.get(pattern)
    fix = f"write {near!r}" if near else _example(key)
    return f"{quoted(given)} is not allowed: {RULES.get(pattern, 'it has a sign that cannot stand here')}", fix


def _own_words(error: Any, key: _Key | None, tree: Located) -> tuple[str, str]:
    """The message of one of the language's own rules: the fault and, after a semicolon, the text to write."""
    given = error["input"]
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace(repr(given), quoted(given)) if isinstance(given, str) else message
    what, _, fix = message.partition("; ")
    return what, fix or _example(key)


def _other(error: Any, key: _Key | None, tree: Located) -> tuple[str, str]:
    return f"{_described(error['input'])} cannot stand here", _example(key)


_BOUND_WORDS: Final = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
_RANGES: Final = frozenset(("greater_than", "greater_than_equal", "less_than", "less_than_equal"))
_CHOICES: Final = frozenset(("literal_error", "enum"))
_OWN: Final = frozenset(("value_error", "assertion_error"))
_READERS: Final[dict[frozenset[str], Callable[[Any, _Key | None, Located], tuple[str, str]]]] = {
    frozenset(_NEEDED): _wrong_type,
    _RANGES: _wrong_range,
    _CHOICES: _wrong_choice,
    frozenset(("too_short", "too_long", "string_too_short")): _wrong_length,
    frozenset(("string_pattern_mismatch",)): _wrong_pattern,
    _OWN: _own_words,
    frozenset(): _other,
}


# ------------------------------------------------------------ switches where numbers belong


def _switches_read_as_numbers(found: Any, tree: Located, path: _Path) -> Iterator[_Path]:
    """The paths of true and false that became a number in `found`, the value that `tree` was read as."""
    if isinstance(tree.value, dict):
        for key, each in tree.value.items():
            yield from _switches_read_as_numbers(_part(found, key), each, (*path, key))
    elif isinstance(tree.value, list):
        for index, each in enumerate(tree.value):
            yield from _switches_read_as_numbers(_part(found, index), each, (*path, index))
    elif isinstance(tree.value, bool) and _holds_number(found):
        yield path


def _part(found: Any, step: str | int) -> Any:
    """The part of a value that a key or an index leads to; the value itself where it was written in another form."""
    if isinstance(found, BaseModel):
        name = next((name for name, field in type(found).model_fields.items() if step in (name, field.alias)), "")
        return getattr(found, name) if name else None
    if isinstance(found, dict):
        return found.get(step)
    if isinstance(found, tuple) and isinstance(step, int) and step < len(found):
        return found[step]
    return found


def _holds_number(value: Any) -> bool:
    several = value if isinstance(value, tuple) else (value,)
    return any(isinstance(each, int | float) and not isinstance(each, bool) for each in several)


def _not_a_number(model: type[BaseModel], tree: Located, path: _Path) -> Problem:
    given, key = _value_at(tree, path), _key_at(model, path)
    return Problem(
        str(tree.at(path)), f"{_dotted(path)}: a number is needed, not {_described(given)}", PresetError, _example(key)
    )


# ------------------------------------------------------------ keys, and how things are written


def _example(key: _Key | None) -> str:
    """The remedy that holds for any wrong value: how the key may be written."""
    if key is None:
        return "start from `tunemill presets new`, which writes a file with every key that is needed"
    rest = "" if key.field.is_required() else ", or drop the line"
    return f"write, for example, '{_spelt(key)}'{rest}"


def _spelt(key: _Key) -> str:
    """The key with an example of its value as YAML, from the table of examples or else from its declaration."""
    if key.name in EXAMPLES:
        return _flow({key.name: EXAMPLES[key.name]})
    declared = key.field.examples[0] if key.field.examples else to_jsonable_python(key.field.get_default())
    return _flow({key.name: declared})


def _flow(content: dict[str, Any]) -> str:
    """A key and its value as YAML on one line; "" when that would be too long, or would hold a quotation mark."""
    text = yaml.safe_dump(content, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True)
    text = text.strip()[1:-1]
    if not set(text) & {'"', "\\"} and "''" not in text:
        text = text.replace("'", '"')  # the message puts the whole into single quotation marks
    return text if len(text) <= _TEXT_MAX and "'" not in text and text.isprintable() else ""


def _bounds(key: _Key | None) -> dict[str, float]:
    """The bounds that a key declares for its numbers, by the names of pydantic."""
    declared = list(_metadata(key.field)) if key else []
    return {kind: getattr(each, kind) for each in declared for kind in _BOUND_WORDS if hasattr(each, kind)}


def _metadata(field: FieldInfo) -> Iterator[Any]:
    """The annotations of a field's type and of the types inside it."""
    waiting: list[Any] = [*field.metadata, field.annotation]
    while waiting:
        each = waiting.pop()
        yield each
        inside = each.metadata if isinstance(each, FieldInfo) else getattr(each, "__metadata__", ())
        waiting += [*inside, *typing.get_args(each)]


def _described(value: Any) -> str:
    """A value that stands where another belongs, in words."""
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict | BaseModel):
        return "a mapping"
    return "nothing" if value is None else quoted(value) if isinstance(value, str) else _plain(value)


def _plain(value: Any) -> str:
    """A number as people write it, and a switch as YAML does."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _value_at(tree: Located, path: _Path) -> Any:
    """The value that is written at `path`, or around it."""
    here = tree
    for step in path:
        if isinstance(here.value, dict) and str(step) in here.value:
            here = here.value[str(step)]
        elif isinstance(here.value, list) and isinstance(step, int) and step < len(here.value):
            here = here.value[step]
    return here.value


def _dotted(path: _Path) -> str:
    """`defaults.duration_s`, `instruments[2]`; pydantic's own steps are left out."""
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step}]"
        elif step not in _OWN_STEPS:
            name = printable(str(step)[:_STEP_MAX])
            out += f".{name}" if out else name
    return out


def _key_at(model: type[BaseModel], path: _Path) -> _Key | None:
    """The last key of a model on `path`."""
    models, last = {model}, None
    for place, step in enumerate(path):
        for each in sorted(models, key=lambda model: model.__name__):
            for name, field in each.model_fields.items():
                if step == (field.alias or name):
                    last = _Key(str(step), field, path[: place + 1])
        if last and last.path == path[: place + 1]:
            # A step that is no key is an index, an axis or one of its values: the models stay.
            models = _models_of(last.field) or models
    return last


def _key_around(model: type[BaseModel], path: _Path) -> str:
    """The key under which the last of `path` belongs, one level down; "" when it belongs nowhere there."""
    key = _key_at(model, path[:-1])
    fields = [each for found in (_models_of(key.field) if key else {model}) for each in found.model_fields.items()]
    below = ((name, found) for name, field in fields for found in _models_of(field))
    return next((name for name, found in below if path[-1] in found.model_fields), "")


def _keys_at(model: type[BaseModel], path: _Path) -> list[str]:
    """The keys that may stand at `path` inside `model`."""
    key = _key_at(model, path)
    models = _models_of(key.field) if key else {model}
    return [field.alias or name for each in models for name, field in each.model_fields.items()]


def _models_of(field: FieldInfo) -> set[type[BaseModel]]:
    """The models that may stand in a field, also where they are a short way of writing something else."""
    short = [getattr(each, "json_schema_input_type", None) for each in field.metadata]
    return {model for each in (*short, field.annotation) for model in _models_in(each)}


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in typing.get_args(annotation) for model in _models_in(part)}

"""Problems: the mistakes of a preset file, in words, with file, line and the closest right name.

All problems of a file are reported together; the error's class is that of the first, so that its exit code
tells a script what kind of mistake to look for.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from catalog.errors import OutOfRangeError, PresetError
from orchestrator.matrix.located import Located, shown
from orchestrator.matrix.names import NAME_RULE, RULES, bare, is_name, printable, quoted

SHOWN_MAX = 20
_STEP_MAX = 64  # letters of a key; a name is no longer
_M = TypeVar("_M", bound=BaseModel)
_RANGE_TYPES = frozenset(
    "greater_than greater_than_equal less_than less_than_equal multiple_of finite_number literal_error enum".split()
)
_RANGE_KEYS = frozenset(("tempo", "keys", "duration_s", "language", "timesignatures"))
_PATTERN_WORDS: Final = {**RULES, r"\S": "it must not be blank"}


class Problem(NamedTuple):
    """One mistake: its file and line, its words, and the class of the error."""

    where: str
    what: str
    kind: type[PresetError] = PresetError
    fix: str = ""


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that `name` was probably meant to be: at least `cutoff` alike, of 1, in whatever case."""
    plain = {each.casefold(): each for each in known}
    matches = difflib.get_close_matches(name.casefold(), list(plain), n=1, cutoff=cutoff)
    return plain[matches[0]] if matches else None


def mend_name(name: str, known: Sequence[str], folder: Path) -> str:
    """The fix for a name that has no file in `folder`: by the name that was meant, or by adding the file."""
    if guess := closest(bare(name), known):
        return f"write {guess!r}"
    return f"add {shown(folder)}/{name}.yaml" if is_name(name) else f"write the name of a file there; {NAME_RULE}"


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise one error for all `problems`, in the order given; return when there are none."""
    if not problems:
        return
    lines = [f"{problem.where}: {problem.what}" for problem in problems[:SHOWN_MAX]]
    if len(problems) > SHOWN_MAX:
        lines.append(f"... and {len(problems) - SHOWN_MAX} more")
    fixes = list(dict.fromkeys(problem.fix for problem in problems[:SHOWN_MAX] if problem.fix))
    raise problems[0].kind("\n".join(lines), fix="; ".join(fixes[:5]) or "correct the line named above")


def validated(model: type[_M], tree: Located) -> _M:
    """`tree` as a `model`. Raises PresetError, or OutOfRangeError for values outside the limits."""
    try:
        return model.model_validate(tree.plain())
    except ValidationError as error:
        problems = [_problem(model, tree, each) for each in _first_hand(error.errors(include_url=False))]
    # A misspelt key is one mistake, not two: that the right one is then missing goes without saying.
    meant = {problem.fix.replace("write", "add the key") for problem in problems if problem.fix.startswith("write ")}
    told = dict.fromkeys(problem for problem in problems if problem.fix not in meant)
    raise_problems(sorted(told, key=lambda problem: _line_of(problem.where)))
    raise AssertionError("a validation error holds at least one problem")


def _first_hand(errors: list[Any]) -> list[Any]:
    """`errors` without those that only follow from another: a list whose entry is wrong is also called too short."""
    wrong_within = {tuple(each["loc"])[:depth] for each in errors for depth in range(len(each["loc"]))}
    return [each for each in errors if each["type"] != "too_short" or tuple(each["loc"]) not in wrong_within]


def _line_of(where: str) -> tuple[str, int]:
    file, _, line = where.rpartition(":")
    return file, int(line)


def _problem(model: type[BaseModel], tree: Located, error: Any) -> Problem:
    path = tuple(error["loc"])
    where = str(tree.at(path))
    name = _dotted(path)
    kind: type[PresetError] = PresetError
    fix = ""
    if error["type"] == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        guess = closest(str(path[-1]), known)
        what = f"{quoted(path[-1])} is not a key here"
        fix = f"write {guess!r}" if guess else f"the keys here are {', '.join(sorted(known))}"
    elif error["type"] == "missing":
        what = f"{name} is missing"
        fix = f"add the key {path[-1]!r}"
    else:
        words = _words(error)
        what = f"{name}: {words}" if name else words
        if error["type"] in _RANGE_TYPES or _is_range(path, error):
            kind = OutOfRangeError
    return Problem(where, what, kind, fix)


def _is_range(path: tuple[Any, ...], error: Any) -> bool:
    return error["type"] in ("value_error", "assertion_error") and any(step in _RANGE_KEYS for step in path)


def _words(error: Any) -> str:
    """Pydantic's message, shortened, with the value that was given."""
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    message = re.sub("a valid dictionary( or instance of .*)?$", "a mapping of keys to values", message)
    given = error.get("input")
    if error["type"] == "string_pattern_mismatch":
        message = _PATTERN_WORDS.get(error["ctx"]["pattern"], message)
    if error["type"] == "value_error":
        return message.replace(repr(given), quoted(given)) if isinstance(given, str) else message
    if isinstance(given, str | int | float) and not isinstance(given, bool):
        return f"{quoted(given)} is not allowed: {message}"
    return message


def _dotted(path: tuple[Any, ...]) -> str:
    """`defaults.duration_s`, `instruments[2]`; pydantic's own steps are left out."""
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step}]"
        elif step not in ("[key]", "int", "str", "list"):
            name = printable(str(step)[:_STEP_MAX])
            out += f".{name}" if out else name
    return out


def _keys_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """The keys that may stand at `path` inside `model`."""
    models: set[type[BaseModel]] = {model}
    for step in path:
        found: set[type[BaseModel]] = set()
        for each in models:
            field = each.model_fields.get(str(step))
            found |= _models_of(field) if field else set()
        # A step that is no field is an index, an axis or one of its values: the model stays.
        models = found or models
    return [field.alias or name for each in models for name, field in each.model_fields.items()]


def _models_of(field: FieldInfo) -> set[type[BaseModel]]:
    """The models that may stand in a field, also where they are a short way of writing something else."""
    short = [getattr(each, "json_schema_input_type", None) for each in field.metadata]
    return {model for each in (*short, field.annotation) for model in _models_in(each)}


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in typing.get_args(annotation) for model in _models_in(part)}

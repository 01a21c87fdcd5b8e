"""Problems: the mistakes of a preset file, in words, with file, line and the closest valid name.

All problems of a file are reported together. The error has the class of the first one, so that its exit code tells a
script what kind of mistake to look for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from catalog.errors import PresetError, TunemillError
from orchestrator.matrix.located import shown
from orchestrator.matrix.names import NAME_RULE, bare, is_name

SHOWN_MAX = 20
_FIXES_MAX = 5


class Problem(NamedTuple):
    """One mistake: its file and line, its words, and the class of the error."""

    where: str
    what: str
    kind: type[PresetError] = PresetError
    fix: str = ""


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that was probably meant by `name`: a similarity of at least `cutoff`, ignoring case."""
    plain = {each.casefold(): each for each in known}
    matches = difflib.get_close_matches(name.casefold(), list(plain), n=1, cutoff=cutoff)
    return plain[matches[0]] if matches else None


def mend_name(name: str, known: Sequence[str], folder: Path) -> str:
    """The fix for a name that has no file: by the name that was meant, or by adding the file to `folder`."""
    parts = [part.strip() for part in name.split(",")]
    if parts[1:] and set(parts) <= set(known):
        return f"make it a list: '[{', '.join(parts)}]'"
    if guess := closest(bare(name), known):
        return f"write {guess!r}"
    return f"add {shown(folder)}/{name}.yaml" if is_name(name) else f"write the name of a file there; {NAME_RULE}"


def error_as_dict(error: TunemillError) -> dict[str, Any]:
    """`error` for JSON."""
    parts = {"what": error.what, "why": error.why, "fix": error.fix}
    return {"type": type(error).__name__, "exit_code": error.exit_code, **parts}


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise one error for all `problems`, in the order given; return when there are none."""
    if not problems:
        return
    lines = [f"{problem.where}: {problem.what}" for problem in problems[:SHOWN_MAX]]
    if len(problems) > SHOWN_MAX:
        lines.append(f"... and {len(problems) - SHOWN_MAX} more")
    raise problems[0].kind("\n".join(lines), fix=_fixes(problems[:SHOWN_MAX]))


def _fixes(problems: Sequence[Problem]) -> str:
    """The remedies, each once; of several each with the line that it is for."""
    first: dict[str, Problem] = {}
    for problem in problems:
        if problem.fix:
            first.setdefault(problem.fix, problem)
    if len(first) < 2:
        return "".join(first)
    told = [f"{_line(problem)}{fix}" for fix, problem in list(first.items())[:_FIXES_MAX]]
    return "; ".join(told) + (f"; and {len(first) - _FIXES_MAX} more" if len(first) > _FIXES_MAX else "")


def _line(problem: Problem) -> str:
    line = problem.where.rpartition(":")[2]
    return f"line {line}: " if line.isdecimal() else ""

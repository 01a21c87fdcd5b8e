"""Exit reports: turn the exit code and the log of a child process into the error that the child reported."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from catalog import errors
from catalog.errors import TunemillError, WorkerError

_TAIL_BYTES: Final = 8_192


def error_of(who: str, code: int | None, log: Path, *, began_at: int = 0) -> TunemillError:
    """Return the error that ended the process called `who`, from its exit code and its log since byte `began_at`.

    A TunemillError that the process printed keeps its class; any other end is a WorkerError with the last lines.
    """
    lines = _last_lines(log, began_at)
    first = max((index for index, line in enumerate(lines) if line.startswith("error: ")), default=None)
    kind = _kind_of(code)
    if kind is not None and first is not None:
        said = lines[first].removeprefix("error: ")
        return kind(f"{who} could not work: {said}", **_why_and_fix(lines[first + 1 :]))
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    said = " | ".join(line.strip() for line in lines[-3:]) or "nothing"
    return WorkerError(
        f"{who} ended ({how})", why=f"its last message: {said}", fix=f"read {log}, correct the fault, then run again"
    )


def _last_lines(log: Path, began_at: int) -> list[str]:
    with log.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(began_at, end - _TAIL_BYTES))
        return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def _kind_of(code: int | None) -> type[TunemillError] | None:
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TunemillError))
    return next((kind for kind in kinds if kind.exit_code == code and kind is not TunemillError), None)


def _why_and_fix(lines: list[str]) -> dict[str, str]:
    parts = {}
    for line in lines:
        name, _, said = line.strip().partition(": ")
        if name in ("why", "fix"):
            parts[name] = said
    return parts

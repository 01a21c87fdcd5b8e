"""The transcripts of docs/examples: pages that show commands and what they print, and the shell that proves them.

`python -m tests.support.transcripts` (`make examples`) types the commands of each page anew and writes what they print
into the page; a test types them as well and compares. Both use this module, so what counts as a difference is said in
one place:

- Spaces and line ends do not count, and lines of progress (`3/4 takes, ...`) are left out.
- A line `...` in the page stands for any lines.
- In a block after `<!-- figures vary -->` no figure counts: no number, instant, length of time or hexadecimal id. All
  words count, and in every other block all figures too.
- The folder of the home is shown as `/home/you`.

A page begins in the folder above `docs`, as a person does who has the repository, and has a home of its own.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

REPO: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted((REPO / "docs" / "examples").glob("*/README.md"))
VARY: Final = "<!-- figures vary -->\n"
_BLOCK: Final = re.compile(rf"(?P<vary>{re.escape(VARY)})?```console\n(?P<lines>.*?)```\n", re.DOTALL)
_PROGRESS: Final = re.compile(r"^(?:\S+Z )?[\d,]+/[\d,]+ takes, .*\n", re.MULTILINE)
_FIGURE: Final = re.compile(r"\b[0-9a-f]{8,}\b|\d[\d.,:]*(?:-\d\d-\d\dT?)?[\d:]*Z?")
_LENGTH_OF_TIME: Final = re.compile(r"#(?: (?:s|min|h)\b(?: #)?)+")
_MARK: Final = "\x1e"  # ends what one command prints; no command prints this character
_DEADLINE_S: Final = 300


class Step(NamedTuple):
    """One command of a page, and the lines below that the page shows."""

    command: str  # as typed; a line that goes on has its line end
    shown: str
    varies: bool  # figures do not count


def steps_of(page: str) -> list[Step]:
    """The commands of every block of a page, in order."""
    return [step for block in _BLOCK.finditer(page) for step in _steps(block["lines"], varies=bool(block["vary"]))]


def _steps(lines: str, *, varies: bool) -> list[Step]:
    steps: list[Step] = []
    for line in lines.splitlines(keepends=True):
        if line.startswith("$ "):
            steps.append(Step(line[2:], "", varies))
        elif line.startswith("> ") and steps and not steps[-1].shown:
            steps[-1] = steps[-1]._replace(command=steps[-1].command + line[2:])
        elif steps:
            steps[-1] = steps[-1]._replace(shown=steps[-1].shown + line)
        else:
            raise ValueError(f"a block begins with {line!r} and not with a command after `$ `")
    return steps


def printed_by(steps: list[Step], home: Path) -> list[str]:
    """Type the commands into one shell with an empty `home`; return what each prints on either stream."""
    start = home / "tunemill"
    start.mkdir()
    (start / "docs").symlink_to(REPO / "docs")
    environment = {
        **{"HOME": str(home), "LOGNAME": "you", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        # As on a terminal of 80 columns, without a bar that moves.
        **{"TTY_COMPATIBLE": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"},
    }
    ends = f"end() {{ local code=$?; printf '{_MARK}'; return $code; }}\nend\n"
    script = ends + "".join(f"{step.command.rstrip()}\nend\n" for step in steps)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=start, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=_DEADLINE_S, check=False,
    )  # fmt: skip
    if "Traceback (most recent call last)" in done.stdout:
        raise ValueError(f"a command shows a defect: {done.stdout[-2000:]}")
    texts = [text.replace(str(home), "/home/you") for text in done.stdout.split(_MARK)[1:-1]]
    if len(texts) != len(steps):
        raise ValueError(f"the shell ended after {len(texts)} of {len(steps)} commands: {done.stdout[-500:]}")
    return ["".join(f"{line.rstrip()}\n" for line in _PROGRESS.sub("", text).splitlines()) for text in texts]


def is_true(step: Step, printed: str) -> bool:
    """True when the page shows what the command printed, by the rules that the module names."""
    parts = [_comparable(part, varies=step.varies) for part in re.split(r"^\.\.\.\n", step.shown, flags=re.MULTILINE)]
    return bool(re.fullmatch(".*".join(map(re.escape, parts)), _comparable(printed, varies=step.varies)))


def _comparable(text: str, *, varies: bool) -> str:
    if varies:
        text = _LENGTH_OF_TIME.sub("#", _FIGURE.sub("#", " ".join(text.split())))
    return "".join(text.split())


def renewed(page: str, printed: list[str]) -> str:
    """The page with what its commands print now; what is still true stays as it is."""
    left = iter(printed)

    def renew(block: re.Match[str]) -> str:
        lines = []
        for step in _steps(block["lines"], varies=bool(block["vary"])):
            typed = "".join(
                f"{'> ' if place else '$ '}{line}\n" for place, line in enumerate(step.command.splitlines())
            )
            text = next(left)
            lines.append(typed + (step.shown if is_true(step, text) else text))
        return f"{block['vary'] or ''}```console\n{''.join(lines)}```\n"

    return _BLOCK.sub(renew, page)


if __name__ == "__main__":
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="h") as folder:
            path.write_text(renewed(text, printed_by(steps_of(text), Path(folder))), encoding="utf-8")

"""Start-up: the CPU of commands as ratios to the imports that they cannot do without, measured in turn.

Help and completion stand beside `import typer, rich`, commands that open the ledger beside `import sqlmodel, typer,
rich`. Both sides run from compiled files, and the least of several runs counts: other programs only add to a run.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from orchestrator.ledger import open_ledger
from tests.bench.measuring import Figure, hand_back
from tests.support.farm import takes
from tests.support.makers import exactly

PROGRAM = "from orchestrator.cli import main; main()"
ROUNDS = 7
RATIO_MAX = 1.5
COMPLETING = {"_TUNEMILL_COMPLETE": "complete_bash", "COMP_WORDS": "tunemill catalog list sp", "COMP_CWORD": "3"}
LIGHT = {"tunemill --help": ["--help"], "tunemill plan --help": ["plan", "--help"], "completion": []}
WITH_LEDGER = {
    "tunemill status": ["status"],
    "tunemill catalog list": ["catalog", "list"],
    "tunemill costs report": ["costs", "report"],
    "tunemill plan demo": ["plan", "demo"],
}
BASES = {"import typer, rich": LIGHT, "import sqlmodel, typer, rich": WITH_LEDGER}


def cpu_s(program: str, arguments: list[str], environment: Mapping[str, str]) -> float:
    """User and system time of a Python program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", program, *arguments]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(base: str, commands: Mapping[str, list[str]], environment: Mapping[str, str]) -> list[Figure]:
    """The ratio of each command to `base`, by the least and by the median of the rounds."""
    measured: dict[str, list[float]] = {name: [] for name in (base, *commands)}
    for turn in range(ROUNDS + 1):
        for name, took in measured.items():
            asked = COMPLETING if name == "completion" else {}
            program = base if name == base else PROGRAM
            took_s = cpu_s(program, commands.get(name, []), {**environment, **asked})
            if turn:  # the first round compiles
                took.append(took_s)
    figures = [Figure(f"CPU of {base}", min(measured[base]), "s")]
    least_s, median_s = min(measured[base]), statistics.median(measured.pop(base))
    for name, took in measured.items():
        ratio, middle = min(took) / least_s, statistics.median(took) / median_s
        figures += [Figure(name, ratio, "x", RATIO_MAX), Figure(f"{name}, median", middle, "x")]
    return figures


def main() -> None:
    """Measure and hand back."""
    with tempfile.TemporaryDirectory() as home:
        with closing(open_ledger(f"sqlite:///{Path(home) / 'ledger.sqlite'}")) as ledger:
            ledger.begin_or_resume_run("spring", "tone", exactly(takes(20)))
        # Compiled files of its own: this Python may be told to write none.
        environment = {"PATH": os.environ["PATH"], "TUNEMILL_HOME": home, "PYTHONPYCACHEPREFIX": f"{home}/compiled"}
        hand_back(figure for base, commands in BASES.items() for figure in measure(base, commands, environment))


if __name__ == "__main__":
    main()

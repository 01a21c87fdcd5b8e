"""Run every `bench_*.py` of this folder in a process of its own; print a table and write `.bench/<name>.json`.

Names as arguments run only those: `python -m tests.bench plan`. `full_size` builds models of the real size and runs
only when asked for by `--full-size`, on a CUDA device; its own module has further options. Exits with 1 when a
promise is not kept or a bench fails, after the others have run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.measuring import Figure, provenance

RESULTS = Path(".bench")
HERE = Path(__file__).parent
FULL_SIZE = "full_size"


def find_benches() -> list[str]:
    """The names of all benches, in the order of the alphabet."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def choose_benches(names: list[str], *, full_size: bool) -> list[str]:
    """Those called `names`, or all; the one of full size only with its flag. Raises SystemExit for any other name."""
    found = find_benches()
    if unknown := [name for name in names if name not in found]:
        raise SystemExit(f"no bench {unknown[0]!r}; there are: {', '.join(found)}")
    if FULL_SIZE in names and not full_size:
        raise SystemExit(f"{FULL_SIZE} builds models of the real size: add --full-size (needs a CUDA device)")
    chosen = names or [name for name in found if name != FULL_SIZE]
    return [*chosen, FULL_SIZE] if full_size and FULL_SIZE not in chosen else chosen


def run_bench(name: str) -> list[Figure] | None:
    """The figures of one bench, None when it failed. A process of its own, so that its peak memory is its own."""
    command = [sys.executable, "-m", f"tests.bench.bench_{name}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    return [Figure(**each) for each in json.loads(lines[-1])] if done.returncode == 0 and lines else None


def write_result(name: str, figures: list[Figure]) -> dict[str, Any]:
    """Write `.bench/<name>.json`; returns what it holds."""
    result = {
        "bench": name,
        **provenance(f"python -m tests.bench {name}"),
        "figures": [{**figure._asdict(), "kept": figure.kept} for figure in figures],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def main(argv: list[str] | None = None) -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="How fast and how large, measured here.")
    parser.add_argument("names", nargs="*", help=f"benches to run (default: all but {FULL_SIZE})")
    parser.add_argument("--full-size", action="store_true", help="also run models of the real size; needs CUDA")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures into one file, too")
    arguments = parser.parse_args(argv)
    table = Table("bench", "figure", "value", "promise", "", box=None)
    results, kept = [], True
    for name in choose_benches(arguments.names, full_size=arguments.full_size):
        figures = run_bench(name)
        if figures is None:
            table.add_row(name, "", "", "", "FAILED")
            kept = False
            continue
        results.append(write_result(name, figures))
        for each in figures:
            table.add_row(name, each.name, each.shown, each.promise, "" if each.kept else "MISSED")
            kept = kept and each.kept
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    Console().print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

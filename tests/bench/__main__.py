"""Run every `bench_*.py` of this folder in a process of its own; print a table and write `.bench/<name>.json`.

Names as arguments run only those: `python -m tests.bench plan`. Exits with 1 when a promise is not kept.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.measuring import Figure

RESULTS = Path(".bench")
HERE = Path(__file__).parent


def run_bench(name: str) -> list[Figure]:
    """The figures of one bench. A process of its own, so that its peak memory is its own."""
    command = [sys.executable, "-m", f"tests.bench.bench_{name}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Figure(**each) for each in json.loads(done.stdout.splitlines()[-1])]


def main(names: list[str]) -> int:
    """Run the benches called `names`, or all."""
    found = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    unknown = [name for name in names if name not in found]
    if unknown:
        sys.exit(f"no bench {unknown[0]!r}; there are: {', '.join(found)}")
    RESULTS.mkdir(exist_ok=True)
    table = Table("bench", "figure", "value", "promise", "", box=None)
    kept = True
    for name in names or found:
        figures = run_bench(name)
        result = {
            "bench": name,
            "measured_at_ms": time.time_ns() // 1_000_000,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "figures": [figure._asdict() for figure in figures],
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        for each in figures:
            promise = "" if each.at_most is None else f"at most {each.at_most:,g}"
            table.add_row(name, each.name, f"{each.value:,.2f} {each.unit}", promise, "" if each.kept else "MISSED")
            kept = kept and each.kept
    Console().print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

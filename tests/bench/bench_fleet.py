"""The control side of a fleet: its CPU time per take and per heartbeat, its memory, and 500 GPUs on loopback.

Valkey, SQLite and Postgres are real. Workers are synthetic (see `synthetic`) but for the real path, where one with
canned audio is held against a Celery task that does nothing. CPU time is told beside wall time, for a busy machine
lengthens it far less. Each result is printed once it is known. `--minutes` and `--tracks` simulate a longer time,
`--soak` makes 10,000 takes with real workers, `--profile FOLDER` writes profiles of the controller.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from tests.bench.fleet_costs import TAKE_CASES, measure_heartbeats, measure_reference, measure_takes
from tests.bench.fleet_load import (
    HOSTILE_SHAPES,
    SimulationOptions,
    measure_hostile,
    measure_real_path,
    measure_simulation,
)
from tests.bench.fleet_site import Site, a_site
from tests.bench.fleet_soak import SOAK_TAKES, measure_soak
from tests.bench.measuring import Figure, hand_back

PARTS = ("takes", "heartbeats", "path", "hostile", "simulation")
FLEET_SIZES = (10, 50, 100, 200, 500)
MEASURED_S = 20.0
TAKES = 2_000
TRACKS = 5_000

Part = Callable[[Site], Iterator[Figure]]


def parts_of(options: argparse.Namespace) -> Iterator[Part]:
    """What the options ask for, in order."""
    if options.soak:
        yield partial(measure_soak, takes=options.takes or SOAK_TAKES, database=options.database)
        return
    chosen = options.parts.split(",")
    yield lambda _: measure_reference()
    if "takes" in chosen:
        for case in TAKE_CASES:
            yield partial(measure_takes, case=case, takes=options.takes or TAKES, profiles=options.profile)
    if "heartbeats" in chosen:
        yield partial(measure_heartbeats, sizes=FLEET_SIZES, profiles=options.profile)
        yield lambda _: measure_reference()
    if "path" in chosen:
        yield partial(measure_real_path, count=300, rounds=2)
    if "hostile" in chosen:
        for shape in HOSTILE_SHAPES:
            yield partial(measure_hostile, shape=shape)
    if "simulation" in chosen:
        measured_s = options.minutes * 60 if options.minutes else MEASURED_S
        simulation = SimulationOptions(measured_s, options.tracks, options.speed, options.database, options.rate)
        yield partial(measure_simulation, options=simulation)


def printed(figures: Iterable[Figure]) -> Iterator[Figure]:
    """The figures, each told when it comes."""
    for figure in figures:
        missed = "" if figure.kept else f"  MISSED ({figure.promise})"
        sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {figure.name}: {figure.shown}{missed}\n")
        yield figure


def main(argv: list[str] | None = None) -> None:
    """Measure and hand back."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_fleet", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas between")
    parser.add_argument("--takes", type=int, help="how many takes each case of `takes` carries, or the soak")
    parser.add_argument("--minutes", type=float, help="how long 500 GPUs are simulated")
    parser.add_argument("--tracks", type=int, default=TRACKS, help="takes that wait when the simulation begins")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds in one second")
    parser.add_argument("--rate", type=float, default=0.2, help="takes that one simulated GPU makes in a second")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="postgres", help="of simulation and soak")
    parser.add_argument("--soak", action="store_true", help="only make takes with real workers")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="write profiles of takes and heartbeats there")
    options = parser.parse_args(argv)
    with a_site() as site:
        hand_back([figure for part in parts_of(options) for figure in printed(part(site))])


if __name__ == "__main__":
    main()

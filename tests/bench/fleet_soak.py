"""A soak: many takes through real workers and a real controller, looked at from outside until the last is recorded.

Orders are signed, the workers have their own login, and audio is canned. What grows shows as a slope, and what is lost
or made twice shows in the ledger.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import NamedTuple

from sqlalchemy import func, select

from orchestrator.ledger import Ledger
from orchestrator.ledger.tables import ATTEMPT, TAKE
from tests.bench.bench_scale import peak_mib
from tests.bench.fleet_site import Site, broker_mib, ledger_mib, process_cpu_s
from tests.bench.measuring import Figure, slope
from tests.bench.synthetic import some_takes
from tests.support.makers import exactly

SOAK_TAKES = 10_000
SOAK_WORKERS = 2
LOOK_EVERY_S = 2.0
PATIENCE_S = 3_600.0


class Look(NamedTuple):
    """The state of things at one moment."""

    accepted: int
    at_s: float
    controller_mib: float
    broker_mib: float


def measure_soak(site: Site, takes: int, database: str) -> Iterator[Figure]:
    """Make so many takes and tell what it took."""
    with ExitStack() as stack:
        ledger, url = stack.enter_context(site.ledger(database))
        ledger.begin_or_resume_run("soak", "tone", exactly(some_takes("soak", 0, takes)))
        before_mib = ledger_mib(ledger)
        workers = [stack.enter_context(site.worker()) for _ in range(SOAK_WORKERS)]
        controller = stack.enter_context(site.controller(url))
        looks = _watch(site, ledger, controller, takes)
        cpu_s, mib = process_cpu_s(controller.pid), peak_mib(controller.pid)
        workers_s = sum(process_cpu_s(each.pid) for each in workers)
        grown_mib, faults = ledger_mib(ledger) - before_mib, _faults(ledger, takes)
    late = looks[len(looks) // 2 :]
    yield Figure(f"soak of {takes:,}: takes", takes / (looks[-1].at_s - looks[0].at_s), "takes/s")
    yield Figure("soak: controller's CPU a take", cpu_s / takes * 1000, "ms")
    yield Figure("soak: CPU of workers and engines, a take", workers_s / takes * 1000, "ms")
    yield Figure("soak: controller's peak", mib, "MiB")
    growth = slope((each.accepted / 1_000, each.controller_mib) for each in late)
    yield Figure("soak: controller's growth in the second half, per 1,000 takes", growth, "MiB")
    yield Figure("soak: broker's memory at the beginning", looks[0].broker_mib, "MiB")
    yield Figure("soak: broker's memory at the end", looks[-1].broker_mib, "MiB")
    yield Figure("soak: ledger's growth per 1,000 takes", grown_mib / takes * 1_000, "MiB")
    for name, count in faults.items():
        yield Figure(f"soak: takes {name}", count, "takes", at_most=0)


def _watch(site: Site, ledger: Ledger, controller: Popen[str], takes: int) -> list[Look]:
    looks: list[Look] = []
    deadline_s = time.monotonic() + PATIENCE_S
    while not looks or looks[-1].accepted < takes:
        if controller.poll() is not None or time.monotonic() > deadline_s:
            raise SystemExit(f"the soak stopped at {looks[-1:]}; the controller said {controller.poll()}")
        time.sleep(LOOK_EVERY_S)
        accepted = _count(ledger, TAKE.c.state == "accepted")
        if accepted and (not looks or accepted > looks[-1].accepted):
            now = Look(accepted, time.monotonic(), _resident_mib(controller.pid), broker_mib(site.admin()))
            looks.append(now)
            sys.stderr.write(f"  {now.accepted:,} of {takes:,} takes, controller {now.controller_mib:,.0f} MiB\n")
    return looks


def _count(ledger: Ledger, where: object) -> int:
    with ledger.read() as connection:
        return int(connection.execute(select(func.count()).select_from(TAKE).where(where)).scalar_one())  # type: ignore[arg-type]


def _faults(ledger: Ledger, takes: int) -> dict[str, int]:
    with ledger.read() as connection:
        attempts = int(connection.execute(select(func.count()).select_from(ATTEMPT)).scalar_one())
    return {
        "that were lost": _count(ledger, TAKE.c.losses > 0),
        "that failed a try": _count(ledger, TAKE.c.tries > 0),
        "made twice": attempts - takes,
        "sent twice": _count(ledger, TAKE.c.orders > 1),
    }


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0

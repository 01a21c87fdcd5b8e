"""The controller's CPU time per take and per heartbeat: the real one in this process, on real servers.

Its clock is simulated, so that heartbeats come every 10 s of it without waiting for them. Only its steps count; what
the synthetic workers do between two steps does not, nor what the servers do in their own processes.
"""

from __future__ import annotations

import cProfile
import gc
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import update

from catalog.messages import now_ms
from catalog.queues import queue_of
from orchestrator.control.broker import Queues
from orchestrator.control.controller import RECORDS_AT_ONCE, Controller, Step
from orchestrator.ledger import Ledger
from orchestrator.ledger.tables import TAKE
from tests.bench.fleet_site import Site
from tests.bench.measuring import Figure
from tests.bench.synthetic import AnswerForm, Door, Order, SyntheticWorker, open_door, prefilled, some_takes
from tests.support.farm import DOLLAR_AN_HOUR
from tests.support.makers import a_spec, exactly

QUEUE = queue_of(a_spec())
REFERENCE_ROUNDS = 5_000
SILENT_AFTER_S = 3_600.0
HELD = 100
CHANGED = 5  # of those in hand, between two heartbeats
POOL = HELD + 4 * CHANGED  # takes that one worker goes round
LOOKS_A_BEAT = 10  # a worker beats every 10 s, the controller looks every second
CYCLES = 6  # of beats; in one of them everything is compared with the ledger


class Clock:
    """Simulated time."""

    def __init__(self) -> None:
        self.now_ms = now_ms()

    def __call__(self) -> int:
        return self.now_ms

    def pass_s(self, seconds: float) -> None:
        """Let time go by."""
        self.now_ms += round(seconds * 1000)


class MeteredBroker:
    """A Broker that adds up the CPU time of each of its methods."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self.cpu_s: dict[str, float] = defaultdict(float)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._queues, name)

        def metered(*arguments: Any) -> Any:
            began_s = time.process_time()
            try:
                return method(*arguments)
            finally:
                self.cpu_s[name] += time.process_time() - began_s

        return metered


class Used(NamedTuple):
    """Seconds that steps of the controller have taken."""

    cpu_s: float = 0.0
    wall_s: float = 0.0


class Control:
    """The controller of one ledger, metered."""

    def __init__(self, site: Site, ledger: Ledger, *, signed: bool, window: int, profile: cProfile.Profile | None):
        self.clock, self._profile = Clock(), profile
        self._queues = Queues(site.broker.url("controller"), site.signer if signed else None)
        self.broker: Any = MeteredBroker(self._queues)
        self.controller = Controller(
            ledger,
            self.broker,
            price_of=lambda machine, at_ms: DOLLAR_AN_HOUR,
            window=window,
            silent_after_s=SILENT_AFTER_S,
            clock=self.clock,
            proof=site.proof() if signed else None,
        )
        self.used = Used()
        self.recording_s = 0.0  # CPU time of reading and writing records and heartbeats, which is part of steps
        self._record, self.controller._record = self.controller._record, self._metered_record  # type: ignore[method-assign]

    def _metered_record(self) -> Any:
        began_s = time.process_time()
        try:
            return self._record()
        finally:
            self.recording_s += time.process_time() - began_s

    def step(self) -> Step:
        """One step, a second after the last."""
        self.clock.pass_s(1)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        if self._profile is not None:
            self._profile.enable()
        step = self.controller.step()
        if self._profile is not None:
            self._profile.disable()
        spent = Used(time.process_time() - cpu_s, time.perf_counter() - wall_s)
        self.used = Used(self.used.cpu_s + spent.cpu_s, self.used.wall_s + spent.wall_s)
        return step

    def drain(self, door: Door) -> None:
        """Steps until all records are written."""
        while door.waiting():
            self.step()

    def forget_used(self) -> None:
        """Count from now on, and have the collector of garbage pass over what the bench itself holds."""
        gc.collect()
        gc.freeze()
        self.used, self.recording_s = Used(), 0.0
        self.broker.cpu_s.clear()

    def close(self) -> None:
        """Let the connections go."""
        self._queues.close()


@contextmanager
def profiled(folder: Path | None, name: str) -> Iterator[cProfile.Profile | None]:
    """A profile that is written to `folder` at the end; None without a folder."""
    profile = None if folder is None else cProfile.Profile(time.process_time)
    yield profile
    if profile is not None and folder is not None:
        profile.dump_stats(folder / f"{name}.prof")


def measure_reference() -> Iterator[Figure]:
    """The CPU time of work that is none of Tunemill's: how slow this machine is at the moment."""
    record = json.loads(AnswerForm().fill(Order("a", "b", '{"c":1}', "d"), "e", 1, 2))
    began_s = time.process_time()
    for _ in range(REFERENCE_ROUNDS):
        json.loads(json.dumps(record))
    yield Figure(
        "reference: CPU of a record to JSON and back", (time.process_time() - began_s) * 1000 / REFERENCE_ROUNDS, "ms"
    )


# ---------------------------------------------------------------- takes


class TakeCase(NamedTuple):
    """One way of carrying takes."""

    database: str
    signed: bool
    at_once: int = RECORDS_AT_ONCE  # takes that workers have made between two steps
    codes: int = 0  # of the plan in each sidecar
    workers: int = 1  # that have made them

    @property
    def name(self) -> str:
        """What tells it from the others."""
        parts = [self.database, "signed" if self.signed else "unsigned"]
        parts += [f"{self.at_once} a step"] if self.at_once != RECORDS_AT_ONCE else []
        parts += [f"sidecars with {self.codes} codes"] if self.codes else []
        parts += [f"{self.workers} workers"] if self.workers > 1 else []
        return ", ".join(parts)


TAKE_CASES = (
    TakeCase("sqlite", signed=False),
    TakeCase("sqlite", signed=True),
    TakeCase("postgres", signed=False),
    TakeCase("postgres", signed=True),
    TakeCase("postgres", signed=True, at_once=20),
    TakeCase("postgres", signed=True, workers=500),
    TakeCase("sqlite", signed=True, codes=600),
)


def measure_takes(site: Site, case: TakeCase, takes: int, profiles: Path | None) -> Iterator[Figure]:
    """Carry takes from plan to ledger, and tell what each costs the controller."""
    with (
        site.ledger(case.database, signed=case.signed) as (ledger, _),
        profiled(profiles, f"takes {case.name}") as profile,
        closing(Control(site, ledger, signed=case.signed, window=2 * case.at_once, profile=profile)) as control,
    ):
        ledger.begin_or_resume_run("bench", "tone", exactly(some_takes("bench", 0, takes)))
        _carry(control, open_door(site.broker.port), case, takes)
    used, parts = control.used, control.broker.cpu_s
    yield Figure(f"CPU of a take, {case.name}", used.cpu_s / takes * 1000, "ms")
    told = {"sending": parts["send"], "reading": parts["peek_records"] + parts["drop_records"]}
    told["ledger and rules"] = used.cpu_s - sum(parts.values())
    for name, cpu_s in told.items():
        yield Figure(f"  of which {name}", cpu_s / takes * 1000, "ms")
    yield Figure("  wall time of a take", used.wall_s / takes * 1000, "ms")


def _carry(control: Control, door: Door, case: TakeCase, takes: int) -> None:
    form, began_ms = AnswerForm(case.codes), control.clock.now_ms - 60_000
    workers = [SyntheticWorker(number + 1, form, began_ms) for number in range(case.workers)]
    door.record([worker.card(control.clock.now_ms, holds_max=1) for worker in workers])
    control.controller.feeding = False
    control.drain(door)
    control.controller.feeding = True
    control.forget_used()
    accepted = steps = 0
    while accepted < takes:
        step = control.step()
        accepted, steps = accepted + step.outcomes["accepted"], steps + 1
        for place, order in enumerate(door.receive(QUEUE, 2 * case.at_once)):
            workers[place % case.workers].take_in([order])
        share = max(1, case.at_once // case.workers)
        door.record([record for worker in workers for record in worker.answers(share, control.clock.now_ms)])
        beating = workers[steps % LOOKS_A_BEAT :: LOOKS_A_BEAT]
        door.beat({worker.heartbeat_key: worker.beat(control.clock.now_ms) for worker in beating})
        if not step.records and not step.sent and not any(worker.in_hand for worker in workers):
            raise SystemExit(f"{case.name}: only {accepted} of {takes} takes were accepted")


# ---------------------------------------------------------------- heartbeats


class BeatingFleet:
    """Synthetic workers that do nothing but beat, each going round its own pool of takes."""

    def __init__(self, site: Site, ledger: Ledger, control: Control) -> None:
        self._site, self._ledger, self._control = site, ledger, control
        self._door, self._form = open_door(site.broker.port), AnswerForm()
        self.workers: list[SyntheticWorker] = []
        self._pools: list[list[Order]] = []
        self._first: list[int] = []  # place in its pool of the first take that a worker has in hand

    def grow_to(self, count: int) -> None:
        """Have so many workers; their takes are in the ledger as sent."""
        fresh, at_ms = range(len(self.workers), count), self._control.clock.now_ms
        catalog = f"for-{count}"
        takes = list(some_takes(catalog, 0, len(fresh) * POOL))
        run_id = str(self._ledger.begin_or_resume_run(catalog, "tone", exactly(takes)).run_id)
        with self._ledger.write() as connection:
            ours = update(TAKE).where(TAKE.c.run_id == run_id)
            connection.execute(ours.values(state="sent", sent_at_ms=at_ms, orders=1))
        orders = list(prefilled(self._site.signer, run_id, takes, at_ms))
        self._pools += [orders[place * POOL : (place + 1) * POOL] for place in range(len(fresh))]
        self._first += [0] * len(fresh)
        self.workers += [SyntheticWorker(number + 1, self._form, at_ms - 60_000) for number in fresh]
        self._door.record([self.workers[number].card(at_ms, holds_max=HELD) for number in fresh])
        self._control.drain(self._door)
        self.beat(range(count), changed=0)
        for _ in range(3):  # the first heartbeats, which name what the ledger does not know to be held
            self._control.step()

    def beat(self, numbers: Sequence[int], *, changed: int) -> None:
        """Beat as these workers, each with so many other takes in hand than last time."""
        beats = {}
        for number in numbers:
            worker, pool = self.workers[number], self._pools[number]
            self._first[number] = first = (self._first[number] + changed) % POOL
            held = (pool + pool)[first : first + HELD]
            worker.in_hand = {order.take_id: order for order in held}
            beats[worker.heartbeat_key] = worker.beat(self._control.clock.now_ms)
        self._door.beat(beats)


class BeatCost(NamedTuple):
    """What heartbeats cost a fleet of one size."""

    beat_ms: float  # of CPU, each
    look_ms: float  # of looking at heartbeats of which none is new
    step_ms: float  # of a step in which nobody has beaten, with that look


def beat_cost(fleet: BeatingFleet, control: Control, *, changed: int, looks_a_beat: int = LOOKS_A_BEAT) -> BeatCost:
    """Let every worker beat `CYCLES` times, spread over the looks of each cycle, and look as often at nothing new."""
    numbers = range(len(fleet.workers))
    control.forget_used()
    for _ in range(CYCLES):
        for look in range(looks_a_beat):
            fleet.beat(numbers[look::looks_a_beat], changed=changed)
            control.step()
        control.clock.pass_s(LOOKS_A_BEAT - looks_a_beat)
    beating_s = control.recording_s
    control.forget_used()
    for _ in range(LOOKS_A_BEAT):
        control.step()
    look_s, step_s = control.recording_s / LOOKS_A_BEAT, control.used.cpu_s / LOOKS_A_BEAT
    beats = CYCLES * len(fleet.workers)
    return BeatCost((beating_s - look_s * CYCLES * looks_a_beat) / beats * 1000, look_s * 1000, step_s * 1000)


def measure_heartbeats(site: Site, sizes: Sequence[int], profiles: Path | None) -> Iterator[Figure]:
    """What a heartbeat costs the controller as the fleet grows."""
    with (
        site.ledger("sqlite") as (ledger, _),
        profiled(profiles, "heartbeats") as profile,
        closing(Control(site, ledger, signed=True, window=1, profile=profile)) as control,
    ):
        control.controller.feeding = False
        fleet, found = BeatingFleet(site, ledger, control), {}
        for size in sizes:
            fleet.grow_to(size)
            found[size] = cost = beat_cost(fleet, control, changed=CHANGED)
            yield Figure(f"CPU of a heartbeat, {size} workers, {CHANGED} of {HELD} takes changed", cost.beat_ms, "ms")
            yield Figure(f"  of a look at {size} heartbeats of which none is new", cost.look_ms, "ms")
            yield Figure(f"  of a whole step without heartbeats, {size} workers", cost.step_ms, "ms")
        still = beat_cost(fleet, control, changed=0, looks_a_beat=1)
        yield Figure(f"CPU of a heartbeat, {sizes[-1]} workers at once, nothing changed", still.beat_ms, "ms")
        burst = beat_cost(fleet, control, changed=CHANGED, looks_a_beat=1)
        yield Figure(
            f"CPU of a heartbeat, {sizes[-1]} workers at once, {CHANGED} of {HELD} changed", burst.beat_ms, "ms"
        )
        few = sizes[len(sizes) // 2]  # among fewer the fixed cost of a look hides what a heartbeat costs
        growth = found[sizes[-1]].beat_ms / found[few].beat_ms
        yield Figure(f"CPU of a heartbeat, {sizes[-1]} against {few} workers", growth, "x", at_most=1.2)

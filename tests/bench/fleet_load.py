"""A fleet at work: `tunemill controller` in a process of its own, under hostile records, 500 GPUs, and 10,000 takes.

CPU time and memory are read from outside. The GPUs are synthetic workers in two processes, which beat every 10
simulated seconds and have 100 takes in hand each; the real path and the soak have real workers with canned audio.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from statistics import median
from subprocess import Popen
from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, select, update

from catalog.logins import record_queue
from catalog.messages import RECORD_VALUES_MAX, new_id, now_ms
from catalog.queues import KEY_PREFIX
from orchestrator.control.broker import Queues
from orchestrator.ledger import Ledger
from orchestrator.ledger.tables import ATTEMPT, TAKE, WORKER
from orchestrator.ledger.work import Outgoing
from tests.bench import noop_worker
from tests.bench.bench_scale import peak_mib
from tests.bench.fleet_costs import HELD, QUEUE
from tests.bench.fleet_site import Site, broker_cpu_s, broker_mib, ledger_mib, process_cpu_s, write_json
from tests.bench.measuring import Figure, side_by_side
from tests.bench.synthetic import LOGIN, AnswerForm, CrowdPlan, SyntheticWorker, open_door, some_takes
from tests.support.makers import a_message, exactly

GPUS = 500
CROWDS = 2  # processes that stand for them
RUNS = 5  # one run has at most 10,000 takes on their way
TAKES_PER_S = 0.2  # of one GPU
WARM_UP_S = 15.0  # simulated: in it every worker beats for the first time
HOSTILE = 60
HOSTILE_BYTES = 3_800_000
HOSTILE_PATIENCE_S = 10.0
_RECORDS = KEY_PREFIX + record_queue(LOGIN)
_LOOK_EVERY_S = 0.05


def await_true(is_so: Callable[[], bool], what: str, *, patience_s: float = 120.0) -> None:
    """Wait until something is so. Raises SystemExit when it takes too long."""
    deadline_s = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > deadline_s:
            raise SystemExit(f"{what}: not within {patience_s:.0f} s")
        time.sleep(_LOOK_EVERY_S)


# ---------------------------------------------------------------- the real path


class Spent(NamedTuple):
    """CPU time of one round."""

    worker_s: float
    broker_s: float


class RealPath:
    """A real worker and a plain Celery worker on one broker, given the same number of messages in turns."""

    def __init__(self, site: Site, count: int, stack: ExitStack) -> None:
        self._count, self._admin = count, site.admin()
        self._queues = stack.enter_context(closing(Queues(site.broker.url("controller"), site.signer)))
        self._worker = stack.enter_context(site.worker())
        threads = self._await_threads()
        url = site.broker.url("admin", "any")
        self._celery = noop_worker.make_app(url)
        self._plain = site.start([sys.executable, "-m", "tests.bench.noop_worker", url, str(threads)])

    def takes(self, round_: int) -> Spent:
        """Send takes and wait for their records."""
        began = self._spent(self._worker)
        at_ms = now_ms()
        messages = [a_message(take) for take in some_takes(f"round-{round_}", 0, self._count)]
        self._queues.send([Outgoing(QUEUE, message, at_ms) for message in messages])
        made = 0

        def is_done() -> bool:
            nonlocal made
            records: Any = self._admin.rpop(_RECORDS, 1_000) or []
            made += sum(b'"kind":"attempt_made"' in record for record in records)
            return made >= self._count

        await_true(is_done, f"{self._count} takes of a real worker")
        return self._since(began, self._worker)

    def tasks(self, round_: int) -> Spent:
        """Send tasks that do nothing and wait until all are acknowledged."""
        began = self._spent(self._plain)
        with self._celery.producer_or_acquire() as producer, producer.batch():
            for _ in range(self._count):
                self._celery.send_task(noop_worker.TASK, producer=producer, ignore_result=True)
        client: Any = self._admin
        await_true(lambda: not client.llen(noop_worker.QUEUE) and not client.hlen("unacked"), "plain tasks")
        return self._since(began, self._plain)

    def _await_threads(self) -> int:
        """The takes that the worker has in hand at most, once it is ready."""
        found: list[int] = []

        def is_ready() -> bool:
            cards: Any = self._admin.lrange(_RECORDS, 0, -1)
            found.extend(int(holds) for card in cards if (holds := _number_in(card, b'"holds_max":')))
            return bool(found)

        await_true(is_ready, "the start of a real worker")
        return found[0]

    def _spent(self, process: Popen[str]) -> Spent:
        return Spent(process_cpu_s(process.pid), broker_cpu_s(self._admin))

    def _since(self, began: Spent, process: Popen[str]) -> Spent:
        now = self._spent(process)
        return Spent(now.worker_s - began.worker_s, now.broker_s - began.broker_s)


def _number_in(record: bytes, name: bytes) -> int:
    digits = record.partition(name)[2].partition(b",")[0]
    return int(digits) if digits.isdigit() else 0


def measure_real_path(site: Site, count: int, rounds: int) -> Iterator[Figure]:
    """A take from the control side's sending to its record, against a Celery task that does nothing."""
    site.admin().flushall()
    with ExitStack() as stack:
        path = RealPath(site, count, stack)
        timed = side_by_side({"takes": path.takes, "tasks": path.tasks}, rounds=rounds)
    ratio = 1 / timed.ratio("takes", "tasks")
    yield Figure("real path: takes of one worker", count / timed.median_s("takes"), "takes/s")
    yield Figure("plain Celery: tasks that do nothing", count / timed.median_s("tasks"), "tasks/s")
    yield Figure("real path against plain Celery, throughput", ratio, "x")
    cpu_ms = {name: median(each.worker_s for each in timed.outcomes[name]) / count * 1000 for name in timed.outcomes}
    yield Figure("real path: CPU of worker and engine, a take", cpu_ms["takes"], "ms")
    yield Figure("plain Celery: CPU of its worker, a task", cpu_ms["tasks"], "ms")
    broker_ms = median(each.broker_s for each in timed.outcomes["takes"]) / count * 1000
    yield Figure("real path: CPU of the broker, a take", broker_ms, "ms")


# ---------------------------------------------------------------- hostile records


HOSTILE_VALUES = RECORD_VALUES_MAX - 100  # just few enough to be read
HOSTILE_SHAPES = ("empty objects", "empty objects, few enough", "nested lists", "nested objects", "ids of takes")


def hostile_record(shape: str) -> bytes:
    """A record of some 3.8 MB as whoever has a worker's login may write it; what is missing to that is blanks."""
    head = f'{{"v":1,"record_id":"{new_id()}","worker_id":"{LOGIN}.{1:032x}","at_ms":{now_ms()},"kind":'
    depth = HOSTILE_BYTES // HOSTILE_VALUES // 2 - 1
    of_objects = HOSTILE_BYTES // HOSTILE_VALUES // 6 - 1
    unit, kind = {
        "empty objects": ("{}", '"spans_closed","spans":['),
        "empty objects, few enough": ("{}", '"spans_closed","spans":['),
        "nested lists": ("[" * depth + "]" * depth, '"heartbeat","held":['),
        "nested objects": ('{"a":' * of_objects + "{}" + "}" * of_objects, '"heartbeat","held":['),
        "ids of takes": (f'"{"ab" * 12}"', '"heartbeat","held":['),
    }[shape]
    count = HOSTILE_BYTES // (len(unit) + 1)
    if shape != "empty objects":
        count = min(count, HOSTILE_VALUES)
    return f"{head}{kind}{','.join([unit] * count)}]}}".ljust(HOSTILE_BYTES).encode()


def measure_hostile(site: Site, shape: str) -> Iterator[Figure]:
    """The controller's peak memory while it looks at hostile records."""
    with site.ledger("sqlite") as (_, url), site.controller(url) as controller:
        began_mib, client = _await_up(site, controller), site.admin()
        cpu_s = process_cpu_s(controller.pid)
        for _ in range(HOSTILE):
            client.lpush(_RECORDS, hostile_record(shape))
        left = _look_on(controller, open_door(site.broker.port).waiting, HOSTILE_PATIENCE_S)
        cpu_s, mib = process_cpu_s(controller.pid) - cpu_s, peak_mib(controller.pid)
        controller.kill()  # in order it would end only after the record that it looks at
    seen = max(1, HOSTILE - left)
    yield Figure(f"peak of the controller with {HOSTILE} records of 3.8 MB, {shape}", mib, "MiB", at_most=512.0)
    yield Figure("  above its peak before them", mib - began_mib, "MiB")
    yield Figure(
        f"  CPU of a record ({seen} of {HOSTILE} were looked at in {HOSTILE_PATIENCE_S:.0f} s)", cpu_s / seen, "s"
    )


def _await_up(site: Site, controller: Popen[str]) -> float:
    """Wait until the controller has written a first record; its peak then."""
    door = open_door(site.broker.port)
    door.record([SyntheticWorker(1, AnswerForm(), now_ms() - 1_000).card(now_ms(), holds_max=1)])
    await_true(lambda: _is_alive(controller) and not door.waiting(), "the start of a controller")
    return peak_mib(controller.pid)


def _is_alive(process: Popen[str]) -> bool:
    if process.poll() is not None:
        raise SystemExit(f"the controller ended with {process.returncode}")
    return True


def _look_on(controller: Popen[str], waiting: Callable[[], int], patience_s: float) -> int:
    """Wait until no record is left, or for so long; the number that is left."""
    deadline_s = time.monotonic() + patience_s
    while _is_alive(controller) and (left := waiting()) and time.monotonic() < deadline_s:
        time.sleep(_LOOK_EVERY_S)
    return left


# ---------------------------------------------------------------- 500 GPUs


class SimulationOptions(NamedTuple):
    """How long and how large."""

    measured_s: float
    tracks: int  # beside those in hand at the beginning
    speed: float = 1.0  # simulated seconds in one second
    database: str = "postgres"
    takes_per_s: float = TAKES_PER_S


class Usage(NamedTuple):
    """What has been used, and done, up to some moment."""

    at_s: float
    cpu_s: float
    broker_s: float
    broker_mib: float
    ledger_mib: float
    attempts: int
    records: int  # of all kinds


class Simulation:
    """A controller and 500 GPUs, from the moment at which each has 100 takes in hand."""

    def __init__(self, site: Site, ledger: Ledger, options: SimulationOptions) -> None:
        self._site, self._ledger, self._options = site, ledger, options
        self._sent_at_ms = now_ms()
        self._per_run = GPUS // RUNS * HELD
        self._run_ids = [self._plan(run) for run in range(RUNS)]

    def _plan(self, run: int) -> str:
        """A run whose first takes are in the hands of its share of the workers."""
        catalog = f"run-{run}"
        takes = some_takes(catalog, 0, self._per_run + self._options.tracks // RUNS)
        run_id = str(self._ledger.begin_or_resume_run(catalog, "tone", exactly(takes)).run_id)
        held = [
            {"of_take": take.id, "to_worker": _worker_id(run * (GPUS // RUNS) + place // HELD)}
            for place, take in enumerate(some_takes(catalog, 0, self._per_run))
        ]
        with self._ledger.write() as connection:
            ours = update(TAKE).where(TAKE.c.take_id == bindparam("of_take"))
            sent = {"state": "sent", "sent_at_ms": self._sent_at_ms, "held_at_ms": self._sent_at_ms, "orders": 1}
            connection.execute(ours.values(**sent, held_by=bindparam("to_worker")), held)
        return run_id

    def start_crowds(self, stack: ExitStack) -> list[Popen[str]]:
        """The workers' processes, once all workers have introduced themselves."""
        processes = []
        for crowd in range(CROWDS):
            plan = self._crowd_plan(range(crowd, GPUS, CROWDS))
            path = write_json(self._site.folder / f"crowd-{crowd}.json", plan._asdict())
            processes.append(self._site.start([sys.executable, "-m", "tests.bench.synthetic", str(path)]))
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise SystemExit("synthetic workers did not start")
            stack.callback(process.kill)
        return processes

    def _crowd_plan(self, numbers: Sequence[int]) -> CrowdPlan:
        in_hand = [
            (f"run-{number * RUNS // GPUS}", self._run_ids[number * RUNS // GPUS], number * HELD % self._per_run, HELD)
            for number in numbers
        ]
        return CrowdPlan(
            port=self._site.broker.port,
            signing_file=str(self._site.signing_file),
            queue=QUEUE,
            workers=list(numbers),
            in_hand=in_hand,
            sent_at_ms=self._sent_at_ms,
            began_ms=self._sent_at_ms - 1_000,
            takes_per_s=self._options.takes_per_s,
            speed=self._options.speed,
        )

    def usage(self, controller: Popen[str]) -> Usage:
        """What has been used up to now."""
        client: Any = self._site.admin()
        with self._ledger.read() as connection:
            attempts = int(connection.execute(select(func.count()).select_from(ATTEMPT)).scalar_one())
            last_records = connection.execute(select(func.sum(WORKER.c.last_record))).scalar()
        return Usage(
            at_s=time.monotonic(),
            cpu_s=process_cpu_s(controller.pid),
            broker_s=broker_cpu_s(client),
            broker_mib=broker_mib(client),
            ledger_mib=ledger_mib(self._ledger),
            attempts=attempts,
            records=int(last_records or 0),
        )

    def losses(self) -> int:
        """Takes that were taken for lost, which none should be."""
        with self._ledger.read() as connection:
            return int(connection.execute(select(func.sum(TAKE.c.losses))).scalar() or 0)


def _worker_id(number: int) -> str:
    return SyntheticWorker(number, _FORM, 0).worker_id


_FORM = AnswerForm()


def measure_simulation(site: Site, options: SimulationOptions) -> Iterator[Figure]:
    """500 GPUs with 100 takes in hand each, and one controller."""
    with ExitStack() as stack:
        ledger, url = stack.enter_context(site.ledger(options.database))
        simulation = Simulation(site, ledger, options)
        controller = stack.enter_context(site.controller(url))
        crowds = simulation.start_crowds(stack)
        time.sleep(WARM_UP_S / options.speed)
        began = simulation.usage(controller)
        crowds_s = [process_cpu_s(each.pid) for each in crowds]
        deadline_s = time.monotonic() + options.measured_s
        while _is_alive(controller) and time.monotonic() < deadline_s:
            time.sleep(min(1.0, max(0.0, deadline_s - time.monotonic())))
        ended = simulation.usage(controller)
        crowds_s = [process_cpu_s(each.pid) - before for each, before in zip(crowds, crowds_s, strict=True)]
        waiting, mib, losses = open_door(site.broker.port).waiting(), peak_mib(controller.pid), simulation.losses()
    seconds, attempts = ended.at_s - began.at_s, ended.attempts - began.attempts
    beats = GPUS * seconds * options.speed / 10
    of = f"{GPUS} GPUs on {options.database}"
    yield Figure(f"{of}: records written", (ended.records - began.records) / seconds, "/s")
    yield Figure(
        f"{of}: takes accepted, of {GPUS * options.takes_per_s * options.speed:,.0f}/s made", attempts / seconds, "/s"
    )
    yield Figure(f"{of}: records that wait at the end", waiting, "records")
    yield Figure(f"{of}: heartbeats", beats / seconds, "/s")
    yield Figure(f"{of}: controller's share of a core", (ended.cpu_s - began.cpu_s) / seconds * 100, "%")
    yield Figure(
        f"{of}: controller's CPU a take, all of it", (ended.cpu_s - began.cpu_s) / max(1, attempts) * 1000, "ms"
    )
    yield Figure(f"{of}: controller's peak", mib, "MiB")
    yield Figure(f"{of}: broker's share of a core", (ended.broker_s - began.broker_s) / seconds * 100, "%")
    yield Figure(f"{of}: broker's memory at the beginning", began.broker_mib, "MiB")
    yield Figure(f"{of}: broker's memory at the end", ended.broker_mib, "MiB")
    yield Figure(f"{of}: ledger at the beginning", began.ledger_mib, "MiB")
    yield Figure(f"{of}: ledger at the end", ended.ledger_mib, "MiB")
    yield Figure(f"{of}: takes that were lost", losses, "takes", at_most=0)
    yield Figure(f"{of}: share of a core that the synthetic workers took", sum(crowds_s) / seconds * 100, "%")

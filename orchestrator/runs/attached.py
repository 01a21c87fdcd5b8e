"""The attached run: one process that feeds, records and shows a run until it is done or told to stop.

On one machine it brings its own broker and one worker and ends both; as a fleet it only feeds and records.
Whatever happens to it, the same command goes on: takes live in the ledger, records on the broker.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from catalog.errors import BrokerError, LedgerError, TunemillError, WorkerError
from catalog.messages import now_ms
from catalog.queues import queues_served
from catalog.settings import Settings
from catalog.tiers import tier_of
from orchestrator.control.broker import Queues
from orchestrator.control.controller import Controller, Step
from orchestrator.ledger import Ledger, readings, work
from orchestrator.ledger.facts import PriceOf
from orchestrator.ledger.lock import WriterLock
from orchestrator.ledger.readings import TakeCounts
from orchestrator.ledger.wishes import CANCEL, GO_ON, PAUSE
from orchestrator.runs.local.broker import EmbeddedBroker
from orchestrator.runs.local.worker import LocalWorker, end_stale_worker
from orchestrator.runs.progress import Meter, Watcher
from orchestrator.runs.stop import StopRequest

POLL_S: Final = 0.2
SHOW_EVERY_S: Final = 0.5
DEATHS_MAX: Final = 3  # of the local worker, one after the other, without a take made in between
WORKER_STOP_S: Final = 150.0  # its own grace time is 120 s
LEDGER_PATIENCE_S: Final = 120.0  # with a file; a database server may be away for as long as it likes
_BACKOFF_MAX_S: Final = 15.0
_NO_WORKER_S: Final = 20.0
_WORKERS_SEEN: Final = 20  # the latest in the ledger, of which ours is one once it has spoken


WISH_WORDS: Final = {
    GO_ON: "the run of {catalog} goes on",
    PAUSE: "the run of {catalog} is paused; `tunemill resume {catalog}` lets it go on",
    CANCEL: "the run of {catalog} is being cancelled; what workers hold is finished",
}


class Ending(StrEnum):
    """How an attached run came to its end."""

    DONE = "done"
    REFUSED = "refused"  # over its budget, or without a price
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    LEFT = "left"  # it goes on without us


class Outcome(NamedTuple):
    """What an attached run leaves."""

    ending: Ending
    counts: TakeCounts
    refusal: TunemillError | None = None


class AttachedRun:
    """One run, fed and recorded by this process, which holds the writer lock."""

    def __init__(
        self,
        ledger: Ledger,
        lock: WriterLock,
        settings: Settings,
        *,
        run_id: str,
        price_of: PriceOf,
        watcher: Watcher,
        local_worker: Sequence[str] | None,  # options of a worker on this machine; None: there is none
    ) -> None:
        self._ledger, self._lock, self._settings, self._watcher = ledger.fenced(lock), lock, settings, watcher
        self._run_id = run_id
        self._broker = EmbeddedBroker(settings.home) if settings.embedded else None
        url = self._broker.url if self._broker else str(settings.broker_url)
        self._queues = Queues(url)
        self._controller = Controller(
            self._ledger,
            self._queues,
            price_of=price_of,
            window=settings.window,
            silent_after_s=settings.silent_after_s,
            run_ids=[run_id],
            time_zone=settings.finance_tz,
        )
        with ledger.read() as connection:
            model = readings.get_run(connection, run_id).model
        self._model = model
        environment = _environment(settings, url)
        self._worker = None
        if local_worker is not None:
            self._worker = LocalWorker(settings.home, model, environment, local_worker)
        self._fits = False  # whether the local worker was seen to serve every take's queue
        self._meter = Meter(ledger, run_id)
        self._deaths = 0
        self._outage_since_s: float | None = None
        self._ledger_patience_s = LEDGER_PATIENCE_S if ledger.engine.name == "sqlite" else math.inf
        self._told_wish = GO_ON
        self._began_ms = now_ms()
        self._shown_s = 0.0

    def run(self) -> Outcome:
        """Go on until the run is done, refused or told to stop; raises TunemillError when it cannot."""
        with StopRequest().listening() as stop, self._services():
            ending, refusal = self._loop(stop)
            self._wind_down(stop)
        with self._ledger.read() as connection:
            counts = readings.count_takes(connection, self._run_id)
            state = readings.get_run(connection, self._run_id).state
        if state == "cancelled":
            return Outcome(Ending.CANCELLED, counts)
        # What the worker had in hand may have been all that was left.
        return Outcome(ending if counts.pending else Ending.DONE, counts, refusal if counts.pending else None)

    # ------------------------------------------------------------ services

    @contextmanager
    def _services(self) -> Iterator[None]:
        """Broker and worker, from before the first step until after the last record."""
        try:
            if self._broker is not None:
                self._broker.start()  # first of all: while another run uses this home, its worker is not ours to end
            if self._worker is not None and end_stale_worker(self._settings.home):
                self._watcher.say("ended the worker of a run that was killed")
            if self._broker is not None:
                self._controller.record_waiting()
                self._reset_embedded("its run ended before it")
            else:
                self._queues.check()
            yield
        finally:
            if self._worker is not None and self._worker.started:
                self._worker.kill()
                self._worker.forget()
            self._queues.close()
            if self._broker is not None:
                self._broker.stop()

    def _reset_embedded(self, reason: str, ended_at_ms: int | None = None) -> None:
        """No worker is left and nobody else uses this broker: what was on its way waits again.

        Only this run's takes and this machine's workers: the ledger may be a fleet's as well.
        """
        with self._ledger.write() as connection:
            work.recall_sent(connection, self._run_id, now_ms())
            work.end_workers(connection, socket.gethostname(), reason, ended_at_ms)
        self._queues.forget_renders()

    # ------------------------------------------------------------ the loop

    def _loop(self, stop: StopRequest) -> tuple[Ending, TunemillError | None]:
        began_s = time.monotonic()
        while not stop.made:
            step = self._step(stop)
            try:
                if step is not None and (ended := self._look_around(step)):
                    return ended
                self._warn_of_no_worker(began_s)
            except LedgerError as error:  # it went away between the step and a look at what that has done
                self._endure(error, stop)
            if step is None or not step.more:
                stop.wait(POLL_S)
        return Ending.INTERRUPTED, None

    def _look_around(self, step: Step) -> tuple[Ending, TunemillError | None] | None:
        """See to all that is not the controller's; how the run has ended, if it has."""
        self._show()
        if self._run_id in step.finished:
            return Ending.DONE, None
        if self._run_id in step.refused:
            return Ending.REFUSED, step.refused[self._run_id]
        self._deaths = 0 if step.outcomes["accepted"] or step.outcomes["rejected"] else self._deaths
        self._tend_worker()
        self._tell_wish()
        return None

    def _step(self, stop: StopRequest) -> Step | None:
        """One step of the controller; None while the broker or the ledger is away."""
        try:
            self._lock.verify(now=self._outage_since_s is not None)
            if self._outage_since_s is not None and self._broker is not None:
                self._broker.ensure()
            step = self._controller.step()
        except (BrokerError, LedgerError) as error:
            self._endure(error, stop)
            return None
        if self._outage_since_s is not None:
            self._watcher.say("going on")
            self._outage_since_s = None
        return step

    def _tell_wish(self) -> None:
        """Say when somebody pauses the run, resumes or cancels it."""
        with self._ledger.read() as connection:
            run = readings.get_run(connection, self._run_id)
        if run.wish != self._told_wish:
            self._told_wish = run.wish
            self._watcher.say(WISH_WORDS[run.wish].format(catalog=run.catalog))

    def _endure(self, error: TunemillError, stop: StopRequest) -> None:
        now_s = time.monotonic()
        if self._outage_since_s is None:
            self._outage_since_s = now_s
            self._watcher.say(f"{error.what}: {error.why or 'no reason given'}; trying again")
        away_s = now_s - self._outage_since_s
        if isinstance(error, LedgerError) and away_s > self._ledger_patience_s:
            raise error
        stop.wait(min(max(POLL_S, away_s / 4), _BACKOFF_MAX_S))

    def _show(self, *, always: bool = False) -> None:
        if self._outage_since_s is None and (always or time.monotonic() - self._shown_s > SHOW_EVERY_S):
            self._shown_s = time.monotonic()
            self._watcher.show(self._meter.read(now_ms()))

    def _warn_of_no_worker(self, began_s: float) -> None:
        if self._worker is not None or not 0 <= time.monotonic() - began_s - _NO_WORKER_S < POLL_S * 2:
            return
        with self._ledger.read() as connection:
            seen = readings.latest_workers(connection, 1)
        if not seen or now_ms() - seen[0].heard_at_ms > self._settings.silent_after_s * 1000:
            self._watcher.say("no worker has been heard of; start one with `tunemill worker` where the GPUs are")

    # ------------------------------------------------------------ the local worker

    def _tend_worker(self) -> None:
        """Start the worker when takes are on their way, and again when it has died."""
        if self._worker is None:
            return
        if self._worker.running:
            self._check_that_takes_fit()
            return
        if self._worker.started:
            self._bury_worker(self._worker)
        self._worker.start()

    def _check_that_takes_fit(self) -> None:
        """On one machine no other worker will come for a take that this one is too small for."""
        if self._fits or self._broker is None:
            return
        with self._ledger.read() as connection:
            latest = readings.latest_workers(connection, _WORKERS_SEEN)
            queues = work.pending_queues(connection, self._run_id)
        here = [each for each in latest if each.host == socket.gethostname() and each.started_at_ms >= self._began_ms]
        seen = [worker for worker in here if worker.batch_limit and worker.ended_at_ms is None]
        if not seen:
            return
        tier = tier_of(seen[0].vram_gib)
        self._fits = True
        if unserved := queues.keys() - set(queues_served(self._model, tier)):
            raise WorkerError(
                f"this machine has too little memory for {sum(queues[name] for name in unserved):,} of the takes",
                why=f"{seen[0].vram_gib:.1f} GiB is tier {tier.name}; they need {', '.join(sorted(unserved))}",
                fix="render them on a larger GPU, make them shorter, or turn the planner off (`planner: false`)",
            )

    def _bury_worker(self, worker: LocalWorker) -> None:
        reason = worker.why_it_ended()
        self._deaths += 1
        if self._deaths >= DEATHS_MAX or type(reason).exit_code != 40:
            raise reason  # its own words: an error that a person must mend, or that comes again and again
        self._watcher.say(f"{reason.what}; starting it again ({reason.why})")
        self._controller.record_waiting()
        if self._broker is not None:
            self._reset_embedded(reason.what, now_ms())

    def _wind_down(self, stop: StopRequest) -> None:
        """Let the worker finish what it has in hand, and write down its last records."""
        self._controller.feeding = False
        if self._worker is not None and self._worker.running:
            if stop.made:
                self._watcher.say("stopping: the worker finishes what it has in hand; Ctrl-C again to end at once")
            self._worker.ask_to_stop()
            deadline_s = time.monotonic() + WORKER_STOP_S
            while self._worker.running and not stop.hasty and time.monotonic() < deadline_s:
                self._step(stop)
                with suppress(LedgerError):  # the next step meets it too, and says so
                    self._show()
                stop.wait(POLL_S)
            self._worker.kill()
        if self._outage_since_s is not None:
            return
        try:
            self._last_records()
        except (BrokerError, LedgerError) as error:  # nothing is lost: the same command goes on from here
            self._watcher.say(f"{error.what}: {error.why or 'no reason given'}; the next run records what is left")

    def _last_records(self) -> None:
        self._controller.step()
        self._controller.record_waiting()
        if self._broker is not None:
            self._reset_embedded("its run ended before it")
        self._show(always=True)


def _environment(settings: Settings, broker_url: str) -> dict[str, str]:
    """What the worker's environment says beyond ours: this run's broker, and folders that do not depend on ours."""
    store = settings.store if "://" in settings.store else str(Path(settings.store).resolve())
    return {
        "TUNEMILL_HOME": str(settings.home.resolve()),
        "TUNEMILL_BROKER_URL": broker_url,
        "TUNEMILL_STORE_URL": store,
    }

"""The attached run: one process that feeds, records and shows a run until the run is done or a person stops it.

On one machine, the process starts a broker and one worker and ends both; in a fleet, it only feeds and records. However
the process ends, the same command continues the run, because the takes are in the ledger and the records on the broker.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from catalog.errors import BrokerError, LedgerError, TunemillError, WorkerError
from catalog.messages import now_ms
from catalog.queues import queues_served
from catalog.retry import Outage
from catalog.settings import Settings
from catalog.store import open_configured_store
from catalog.tiers import tier_of
from orchestrator.control.broker import Queues
from orchestrator.control.choice import TakeChoice
from orchestrator.control.controller import Controller, Step
from orchestrator.control.duplicates import DuplicateCheck
from orchestrator.control.signing import open_order_proof
from orchestrator.ledger import Ledger, readings, work
from orchestrator.ledger.lock import WriterLock
from orchestrator.ledger.machines import PriceOf
from orchestrator.ledger.readings import TakeCounts
from orchestrator.ledger.run_control import CANCEL, GO_ON, PAUSE
from orchestrator.runs.local.broker import EmbeddedBroker
from orchestrator.runs.local.worker import LocalWorker, end_stale_worker
from orchestrator.runs.outages import BACKOFF, report_recovery, wait_out
from orchestrator.runs.presence import WorkerPresence
from orchestrator.runs.progress import ProgressReader, Watcher
from orchestrator.runs.stop import StopRequest

POLL_S: Final = 0.2
SHOW_EVERY_S: Final = 0.5
CRASHES_MAX: Final = 3  # of the local worker in a row, without a finished take between them
WORKER_STOP_S: Final = 150.0  # the worker's own grace time is 120 s
LEDGER_PATIENCE_S: Final = 120.0  # for an SQLite file; an outage of a database server may last any time
_NO_WORKER_S: Final = 20.0
_LATEST_WORKERS: Final = 20  # rows of the ledger among which the local worker is looked for


CONTROL_MESSAGES: Final = {
    GO_ON: "the run of {catalog} goes on",
    PAUSE: "the run of {catalog} is paused; `tunemill resume {catalog}` lets it go on",
    CANCEL: "the run of {catalog} is being cancelled; what workers hold is finished",
}


class RunEnd(StrEnum):
    """The way in which a command's part in a run ended."""

    DONE = "done"
    REFUSED = "refused"  # over its budget, or without a price
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    LEFT = "left"  # a controller continues the run


class RunResult(NamedTuple):
    """The end of a run's command: takes by state, and the refusal if there was one."""

    end: RunEnd
    counts: TakeCounts
    refusal: TunemillError | None = None


class AttachedRun:
    """One run that this process feeds and records; the process holds the writer lock."""

    def __init__(  # noqa: PLR0913 - each is a decision of the caller
        self,
        ledger: Ledger,
        lock: WriterLock,
        settings: Settings,
        *,
        run_id: str,
        price_of: PriceOf,
        watcher: Watcher,
        local_worker: Sequence[str] | None,  # options of a worker on this machine; None: start no worker
        worker_patience_s: float = math.inf,  # without a word from any worker of a fleet
    ) -> None:
        self._ledger, self._lock, self._settings, self._watcher = ledger.fenced(lock), lock, settings, watcher
        self._run_id = run_id
        self._broker = EmbeddedBroker(settings.home) if settings.embedded else None
        url = self._broker.url if self._broker else str(settings.broker_url)
        proof = open_order_proof(ledger, settings)
        self._queues = Queues(url, proof.signer if proof else None)
        self._controller = Controller(
            self._ledger,
            self._queues,
            price_of=price_of,
            window=settings.window,
            silent_after_s=settings.silent_after_s,
            run_ids=[run_id],
            time_zone=settings.finance_tz,
            proof=proof,
            duplicates=DuplicateCheck(self._ledger, partial(open_configured_store, settings), now_ms),
            choice=TakeChoice(self._ledger, partial(open_configured_store, settings), now_ms),
        )
        with ledger.read() as connection:
            model = readings.get_run(connection, run_id).model
        self._model = model
        environment = _environment(settings, url)
        self._worker = None
        if local_worker is not None:
            self._worker = LocalWorker(settings.home, model, environment, local_worker)
        self._presence = WorkerPresence(ledger, run_id, worker_patience_s if self._worker is None else math.inf)
        self._worker_fits = False  # the local worker has enough memory for every take
        self._progress = ProgressReader(ledger, run_id)
        self._crashes = 0
        self._outage = Outage(BACKOFF)
        self._ledger_patience_s = LEDGER_PATIENCE_S if ledger.engine.name == "sqlite" else math.inf
        self._control = GO_ON  # as last reported
        self._began_ms = now_ms()
        self._shown_s = 0.0

    def run(self) -> RunResult:
        """Run until done, refused or stopped; raises TunemillError where the run cannot continue."""
        with StopRequest().listening() as stop, self._services():
            end, refusal = self._loop(stop)
            self._finish(stop)
        with self._ledger.read() as connection:
            counts = readings.count_takes(connection, self._run_id)
            state = readings.get_run(connection, self._run_id).state
        if state == "cancelled":
            return RunResult(RunEnd.CANCELLED, counts)
        # The takes that the worker finished after the loop may have been the last ones.
        return RunResult(end if counts.pending else RunEnd.DONE, counts, refusal if counts.pending else None)

    # ------------------------------------------------------------ services

    @contextmanager
    def _services(self) -> Iterator[None]:
        """Keep broker and worker from before the first step until after the last record."""
        try:
            if self._broker is not None:
                self._broker.start()  # first: while another run uses this home, its worker must not be ended
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
        """Let the sent takes wait again, when no worker is left and no other process uses this broker.

        Only this run's takes and this machine's workers are concerned: the ledger may serve a fleet as well.
        """
        with self._ledger.write() as connection:
            work.recall_sent(connection, self._run_id, now_ms())
            work.end_workers(connection, socket.gethostname(), reason, ended_at_ms)
        self._queues.forget_renders()

    # ------------------------------------------------------------ the loop

    def _loop(self, stop: StopRequest) -> tuple[RunEnd, TunemillError | None]:
        began_s = time.monotonic()
        while not stop.requested:
            step = self._step(stop)
            try:
                if step is not None and (ended := self._after_step(step)):
                    return ended
                self._warn_of_no_worker(began_s)
                self._presence.check()
            except LedgerError as error:  # the ledger failed after a step that succeeded
                self._wait_out(error, stop)
            if step is None or not step.more:
                stop.wait(POLL_S)
        return RunEnd.INTERRUPTED, None

    def _after_step(self, step: Step) -> tuple[RunEnd, TunemillError | None] | None:
        """Show progress and check the worker; returns the end of the run, or None while the run continues."""
        self._show()
        if self._run_id in step.finished:
            return RunEnd.DONE, None
        if self._run_id in step.refused:
            return RunEnd.REFUSED, step.refused[self._run_id]
        self._crashes = 0 if step.outcomes["accepted"] or step.outcomes["rejected"] else self._crashes
        self._check_worker()
        self._report_control()
        return None

    def _step(self, stop: StopRequest) -> Step | None:
        """Make one step of the controller; None during an outage of the broker or the ledger."""
        try:
            self._lock.verify(now=self._outage.is_on)
            if self._outage.is_on and self._broker is not None:
                self._broker.ensure()
            step = self._controller.step()
        except (BrokerError, LedgerError) as error:
            self._wait_out(error, stop)
            return None
        report_recovery(self._outage, self._watcher)
        return step

    def _report_control(self) -> None:
        """Tell the watcher when somebody pauses, resumes or cancels the run."""
        with self._ledger.read() as connection:
            run = readings.get_run(connection, self._run_id)
        if run.wish != self._control:
            self._control = run.wish
            self._watcher.say(CONTROL_MESSAGES[run.wish].format(catalog=run.catalog))

    def _wait_out(self, error: TunemillError, stop: StopRequest) -> None:
        if isinstance(error, LedgerError) and self._outage.lasted_s > self._ledger_patience_s:
            raise error
        wait_out(self._outage, error, self._watcher, stop)

    def _show(self, *, always: bool = False) -> None:
        if not self._outage.is_on and (always or time.monotonic() - self._shown_s > SHOW_EVERY_S):
            self._shown_s = time.monotonic()
            self._watcher.show(self._progress.read(now_ms()))

    def _warn_of_no_worker(self, began_s: float) -> None:
        if self._worker is not None or not 0 <= time.monotonic() - began_s - _NO_WORKER_S < POLL_S * 2:
            return
        with self._ledger.read() as connection:
            seen = readings.latest_workers(connection, 1)
        if not seen or now_ms() - seen[0].heard_at_ms > self._settings.silent_after_s * 1000:
            self._watcher.say("no worker has been heard of; start one with `tunemill worker` where the GPUs are")

    # ------------------------------------------------------------ the local worker

    def _check_worker(self) -> None:
        """Start the worker at the first step, and again after a crash."""
        if self._worker is None:
            return
        if self._worker.running:
            self._check_that_takes_fit()
            return
        if self._worker.started:
            self._handle_crash(self._worker)
        self._worker.start()

    def _check_that_takes_fit(self) -> None:
        """Raise WorkerError for takes that need more memory: on one machine no larger worker will ever fetch them."""
        if self._worker_fits or self._broker is None:
            return
        with self._ledger.read() as connection:
            latest = readings.latest_workers(connection, _LATEST_WORKERS)
            queues = work.pending_queues(connection, self._run_id)
        here = [each for each in latest if each.host == socket.gethostname() and each.started_at_ms >= self._began_ms]
        ready = [worker for worker in here if worker.batch_limit and worker.ended_at_ms is None]
        if not ready:
            return
        tier = tier_of(ready[0].vram_gib)
        self._worker_fits = True
        if unserved := queues.keys() - set(queues_served(self._model, tier)):
            raise WorkerError(
                f"this machine has too little memory for {sum(queues[name] for name in unserved):,} of the takes",
                why=f"{ready[0].vram_gib:.1f} GiB is tier {tier.name}; they need {', '.join(sorted(unserved))}",
                fix="render these takes on a larger GPU, make them shorter, or turn the planner off (`planner: false`)",
            )

    def _handle_crash(self, worker: LocalWorker) -> None:
        reason = worker.read_exit_error()
        self._crashes += 1
        if self._crashes >= CRASHES_MAX or type(reason).exit_code != 40:
            raise reason  # an error that a person must mend, or one that repeats
        self._watcher.say(f"{reason.what}; starting it again ({reason.why})")
        self._controller.record_waiting()
        if self._broker is not None:
            self._reset_embedded(reason.what, now_ms())

    def _finish(self, stop: StopRequest) -> None:
        """Let the worker finish the takes that it holds, and record its last records."""
        self._controller.feeding = False
        if self._worker is not None and self._worker.running:
            if stop.requested:
                self._watcher.say("stopping: the worker finishes what it has in hand; Ctrl-C again to end at once")
            self._worker.ask_to_stop()
            deadline_s = time.monotonic() + WORKER_STOP_S
            while self._worker.running and not stop.immediate and time.monotonic() < deadline_s:
                self._step(stop)
                with suppress(LedgerError):  # the next step meets the same error and reports it
                    self._show()
                stop.wait(POLL_S)
            self._worker.kill()
        if self._outage.is_on:
            return
        try:
            self._record_last()
        except (BrokerError, LedgerError) as error:  # nothing is lost: the same command continues here
            self._watcher.say(f"{error.what}: {error.why or 'no reason given'}; the next run records what is left")

    def _record_last(self) -> None:
        self._controller.step()
        self._controller.record_waiting()
        if self._broker is not None:
            self._reset_embedded("its run ended before it")
        self._show(always=True)


def _environment(settings: Settings, broker_url: str) -> dict[str, str]:
    """The variables that the worker gets beside its parent's: this run's broker, and absolute folders."""
    store = settings.store if "://" in settings.store else str(Path(settings.store).resolve())
    return {
        "TUNEMILL_HOME": str(settings.home.resolve()),
        "TUNEMILL_BROKER_URL": broker_url,
        "TUNEMILL_STORE_URL": store,
        # The orders of an embedded broker are not signed, whatever the workers of a fleet are told here.
        **({"TUNEMILL_VERIFY_ORDERS": ""} if settings.embedded else {}),
    }

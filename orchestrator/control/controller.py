"""The controller: writes records to the ledger, feeds takes to the queues, and sends lost takes again.

One `step` does a part of each task and returns; the caller decides how often to call it. A step may be interrupted at
any point and repeated: the facts that it has written stay, and the other records are still on the broker.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from catalog.clock import SuspendDetector
from catalog.errors import BrokerError, LedgerError, TunemillError
from catalog.logins import login_of_worker
from catalog.messages import now_ms
from catalog.queues import queues_served
from catalog.tiers import tier_of
from orchestrator.control.admission import OrderProof
from orchestrator.control.broker import Broker, Look, RawRecord
from orchestrator.control.choice import TakeChoice
from orchestrator.control.duplicates import DuplicateCheck
from orchestrator.control.feed import Fed, feed, window_of
from orchestrator.control.recording import RecordWriter
from orchestrator.finance.books.budgets import Spending
from orchestrator.ledger import Ledger, RunRow, work
from orchestrator.ledger.facts import Recorded
from orchestrator.ledger.machines import PriceOf
from orchestrator.ledger.run_control import CANCEL
from orchestrator.ledger.work import serving

log = logging.getLogger(__name__)

RECORDS_AT_ONCE = 500
STRAY_GRACE_MS = 5_000  # the time that its queue must stay empty before a take that no worker holds counts as lost
BACKLOG_MS = 600_000  # of a controller that was down; a list that is not drained by then is being flooded
_CHECK_MS = 1_000
_WATCH_MS = 5_000
_ANNOUNCE_MS = 600_000  # a broker may lose it


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step."""

    records: int
    outcomes: Counter[str]
    sent: int = 0
    sent_again: int = 0  # takes that their worker lost or that no worker holds: sent again, unless lost too often
    finished: tuple[str, ...] = ()
    refused: dict[str, TunemillError] = field(default_factory=dict)  # run -> why it is not fed; nothing is on its way
    more: bool = False  # more records wait, so the next step should follow at once


class Controller:
    """Feeds and records the runs of one ledger; the caller holds the writer lock."""

    def __init__(  # noqa: PLR0913 - each is a decision of the caller
        self,
        ledger: Ledger,
        broker: Broker,
        *,
        price_of: PriceOf,
        window: int,  # takes of a run on their way at the least, however few the workers hold
        silent_after_s: float,
        run_ids: Collection[str] | None = None,  # None: every active run
        time_zone: str = "UTC",  # of finance's months, which budgets are for
        clock: Callable[[], int] = now_ms,
        proof: OrderProof | None = None,  # of orders, where they are signed
        duplicates: DuplicateCheck | None = None,
        choice: TakeChoice | None = None,
    ) -> None:
        self.feeding = True
        self._ledger, self._broker, self._price_of, self._clock = ledger, broker, price_of, clock
        self._window, self._silent_after_ms = window, round(silent_after_s * 1000)
        self._run_ids, self._spending = run_ids, Spending(time_zone, price_of)
        # By our own clock: a worker's may be wrong, and its last record may have waited while we were away.
        self._heard_ms: dict[str, int] = {}
        self._empty_since_ms: dict[str, int] = {}  # by queue
        self._withdrawn_since_ms: dict[str, int] = {}  # by run that is paused or cancelled
        self._checked_ms = 0  # the last check of the queues and of the records that are due again
        self._undrained_since_ms: dict[str, int] = {}  # by login whose list had more than the last looks have read
        self._announced_ms = 0  # when workers were told that this release is at work
        self._watched_ms = 0  # when the ledger was last asked for them
        self._watched: set[str] = set()  # workers whose heartbeats are looked at: who lives, or holds takes
        self._looked_ms = 0  # when they were
        self._beats: dict[str, bytes] = {}  # the latest heartbeat of each that is on the books, as it lay there
        self._writer = RecordWriter(ledger, price_of=price_of, clock=clock, proof=proof)
        self._duplicates, self._choice = duplicates, choice
        self._is_first_step = True
        self._suspend = SuspendDetector()

    def step(self) -> Step:
        """Record, look for losses, feed. Raises BrokerError, LedgerError, or BusyError when the lock was lost."""
        try:
            return self._step()
        except LedgerError:
            self._writer.forget_named()  # one that was away may have gone back
            raise
        except BrokerError:
            # Workers could not speak either: their silence begins anew.
            self._heard_ms.clear()
            self._watched_ms = 0
            self._writer.forget_named()
            self._empty_since_ms.clear()
            self._withdrawn_since_ms.clear()
            raise

    def record_waiting(self) -> int:
        """Write the records that wait now, without those that arrive meanwhile, and return their number."""
        total, waiting = 0, self._broker.count_records()
        while total < waiting and (count := len(self._record()[0].raw_records)):
            total += count
        return total

    def _take_up_set_aside(self) -> None:
        """Try again the records that an earlier program could not read, whether left on the broker or set aside."""
        self._writer.retry_newer()
        if left := self._broker.peek_unreadable():
            self._writer.write(left)
            self._broker.drop_unreadable()

    def _step(self) -> Step:
        if self._is_first_step:
            self._take_up_set_aside()
            self._is_first_step = False
        if self._clock() - self._announced_ms >= _ANNOUNCE_MS:
            self._broker.announce()
            self._announced_ms = self._clock()
        look, recorded = self._record()
        is_check_due = self._is_check_due()
        if is_check_due and (again_tried := self._writer.retry_due()):
            recorded = recorded.plus(again_tried)
        is_compared = self._duplicates is None or self._duplicates.step()
        is_chosen = is_compared and (self._choice is None or self._choice.step())
        runs = self._runs()
        run_ids = [run.run_id for run in runs]
        behind = self._behind(look)
        again = self._lose_silent(behind)
        if runs and is_check_due:
            self._withdraw([run for run in runs if run.wish])
            if not behind:  # the ends of takes may be further back in the lists
                again += self._recall_strays(runs)
        if not runs:
            return Step(len(look.raw_records), recorded.outcomes, more=look.has_more)
        fed = self._feed([run for run in runs if not run.wish]) if self.feeding else {}
        with self._ledger.write() as connection:
            for run in runs:
                if run.wish == CANCEL:
                    work.cancel_waiting(connection, run.run_id)
            # The take that a copy makes room for is its run's to make, and the choice among takes its last work.
            finished = work.finish_runs(connection, run_ids, self._clock()) if is_chosen else []
            refusing = {run_id: each.refused for run_id, each in fed.items() if each.refused is not None}
            on_the_way = work.count_sent(connection, sorted(refusing)) if refusing else {}
        refused = {
            run_id: error for run_id, error in refusing.items() if not on_the_way[run_id] and run_id not in finished
        }
        return Step(
            records=len(look.raw_records),
            outcomes=recorded.outcomes,
            more=look.has_more,
            sent=sum(each.sent for each in fed.values()),
            sent_again=again,
            finished=tuple(finished),
            refused=refused,
        )

    def _feed(self, runs: list[RunRow]) -> dict[str, Fed]:
        now = self._clock()
        heard = [worker_id for worker_id, at_ms in self._heard_ms.items() if now - at_ms <= self._silent_after_ms]
        with self._ledger.read() as connection:
            workers = [(each, queues_served(each.model, tier_of(each.vram_gib))) for each in serving(connection, heard)]

        def window_for(run: RunRow, queue: str) -> int:
            return window_of(self._window, [each.holds_max for each, queues in workers if queue in queues])

        return feed(self._ledger, self._broker, runs, window_for=window_for, at_ms=now, spending=self._spending)

    def _runs(self) -> list[RunRow]:
        with self._ledger.read() as connection:
            runs = work.active_runs(connection)
        return [run for run in runs if self._run_ids is None or run.run_id in self._run_ids]

    def _record(self) -> tuple[Look, Recorded]:
        # Heartbeats first: every record that a worker had sent before one is then among those that are read next.
        beats = self._new_beats()
        look = self._broker.peek_records(RECORDS_AT_ONCE)
        heartbeats = [RawRecord(raw, login_of_worker(worker_id)) for worker_id, raw in beats.items()]
        recorded = self._writer.write([*look.raw_records, *heartbeats], look.undrained)
        if look.raw_records:
            self._broker.drop_records(look.raw_records)
        self._beats.update((worker_id, raw) for worker_id, raw in beats.items() if worker_id not in recorded.early)
        # A worker that has reported its end is not waited for.
        heard = recorded.seen - recorded.stopped
        self._heard_ms.update(dict.fromkeys(heard, self._clock()))
        self._watched |= heard
        for worker_id in recorded.stopped:
            self._heard_ms.pop(worker_id, None)
        return look, recorded

    def _new_beats(self) -> dict[str, bytes]:
        """The heartbeats that are not recorded yet, if it is time to read heartbeats."""
        now = self._clock()
        if now - self._looked_ms < _CHECK_MS:
            return {}
        self._looked_ms = now
        found = self._broker.heartbeats(sorted(self._watched))
        return {worker_id: raw for worker_id, raw in found.items() if self._beats.get(worker_id) != raw}

    def _behind(self, look: Look) -> set[str]:
        """The logins whose lists are not read to their ends yet, so the latest reports of their workers are unknown.

        A login whose list has not been read to its end for many minutes fills the list without end, and is left out.
        """
        now, before = self._clock(), self._undrained_since_ms
        self._undrained_since_ms = {login: before.get(login, now) for login in look.undrained}
        return {login for login, since_ms in self._undrained_since_ms.items() if now - since_ms < BACKLOG_MS}

    def _lose_silent(self, behind: set[str]) -> int:
        now, lost = self._clock(), 0
        if self._suspend.was_suspended():  # no heartbeat could arrive meanwhile, so every silence begins anew
            self._heard_ms.clear()
            self._watched_ms = 0
            self._empty_since_ms.clear()
            self._withdrawn_since_ms.clear()
        if now - self._watched_ms >= _WATCH_MS:
            self._watched_ms = now
            with self._ledger.read() as connection:
                # One that has ended may hold takes all the same, if an old heartbeat came after its last words.
                watched = {*work.living(connection), *work.holders(connection)}
            self._heard_ms = {worker_id: self._heard_ms.get(worker_id, now) for worker_id in sorted(watched)}
            self._watch(watched)
        for worker_id, heard_ms in list(self._heard_ms.items()):
            silent_ms = now - heard_ms
            if silent_ms > self._silent_after_ms and login_of_worker(worker_id) not in behind:
                self._broker.prove_writable()  # full, or a replica: it can be read, but workers cannot report to it
                reason = f"silent for {silent_ms // 1000} s"
                with self._ledger.write() as connection:
                    takes = work.lose_held(connection, worker_id, now)
                    work.end_silent(connection, worker_id, reason)
                self._writer.forget_named([worker_id])
                del self._heard_ms[worker_id]
                log.warning("worker %s is %s: it has lost %d takes", worker_id, reason, takes)
                lost += takes
        return lost

    def _watch(self, watched: set[str]) -> None:
        """Read the heartbeats of these workers from now on, and forget those of workers that have ended."""
        gone = sorted(self._watched - watched)
        if over := [worker_id for worker_id in gone if worker_id in self._beats]:
            self._broker.forget_heartbeats(over)
        for worker_id in gone:
            self._beats.pop(worker_id, None)
        self._writer.forget_named(gone)
        self._watched = watched

    def _is_check_due(self) -> bool:
        now = self._clock()
        if now - self._checked_ms < _CHECK_MS:
            return False
        self._checked_ms = now
        return True

    def _withdraw(self, runs: list[RunRow]) -> None:
        """Remove the takes of a paused or cancelled run from the queues in which they wait."""
        for run in runs:
            with self._ledger.read() as connection:
                queues = work.count_sent_by_queue(connection, run.run_id, held=False)
            # A crash after this leaves takes that are in no queue: they are found as strays.
            if queues and (take_ids := self._broker.withdraw(sorted(queues), run.run_id)):
                with self._ledger.write() as connection:
                    work.withdraw(connection, take_ids)

    def _recall_strays(self, runs: list[RunRow]) -> int:
        now, run_ids = self._clock(), [run.run_id for run in runs]
        with self._ledger.read() as connection:
            queues = work.sent_queues(connection, run_ids)
        # Each queue for itself: one that no worker serves stays full, and is no concern of the others' takes.
        empty = [queue for queue, waiting in self._broker.lengths(queues).items() if not waiting]
        self._empty_since_ms = {queue: self._empty_since_ms.get(queue, now) for queue in empty}
        # Other runs' messages on a queue do not matter to a run whose own messages were removed.
        withdrawn = [run.run_id for run in runs if run.wish]
        self._withdrawn_since_ms = {run_id: self._withdrawn_since_ms.get(run_id, now) for run_id in withdrawn}
        long_empty = _since_long(self._empty_since_ms, now)
        long_withdrawn = _since_long(self._withdrawn_since_ms, now)
        if not long_empty and not long_withdrawn:
            return 0
        sent_before_ms = now - self._silent_after_ms
        with self._ledger.write() as connection:
            found = work.recall_strays(connection, run_ids, sent_before_ms, queues=long_empty)
            found += work.recall_strays(connection, long_withdrawn, sent_before_ms)
        if found:
            self._writer.forget_named()
            log.warning("%d takes were sent, but no worker and no queue has them: they are sent again", found)
        return found


def _since_long(since_ms: dict[str, int], now: int) -> list[str]:
    """The names that have been in `since_ms` so long that no message is between a queue and a heartbeat."""
    return [name for name, began_ms in since_ms.items() if now - began_ms >= STRAY_GRACE_MS]

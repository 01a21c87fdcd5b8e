"""Progress of a run: takes by state, rate, time left, and money spent so far."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple, Protocol

from orchestrator.ledger import Ledger, readings, run_control
from orchestrator.ledger.readings import PaidMeanwhile, Spend, TakeCounts

_WINDOW_MS: Final = 120_000  # the rate is that of the last two minutes: long enough for slow batches
_MS_PER_MIN: Final = 60_000


class RunProgress(NamedTuple):
    """The progress of a run at one instant."""

    counts: TakeCounts
    spend: Spend
    takes_per_min: float | None  # None: no take has ended in the last minutes
    eta_ms: int | None
    paid_meanwhile: PaidMeanwhile | None = None  # of a run that is paused


class Watcher(Protocol):
    """Receives the progress and the messages of a run."""

    def show(self, progress: RunProgress) -> None:
        """Show the run's present state; called a few times a second."""

    def say(self, text: str) -> None:
        """Show one message for a person."""


class ProgressReader:
    """Reads the progress of one run from the ledger."""

    def __init__(self, ledger: Ledger, run_id: str) -> None:
        self._ledger, self._run_id = ledger, run_id
        self._marks: deque[tuple[int, int]] = deque()  # (instant, takes ended by then)

    def read(self, at_ms: int) -> RunProgress:
        """Read the progress at `at_ms`."""
        with self._ledger.read() as connection:
            counts = readings.count_takes(connection, self._run_id)
            run = readings.get_run(connection, self._run_id)
            spend = readings.spend_of_run(connection, run)
            paid = readings.paid_meanwhile(connection, run, at_ms) if run.wish == run_control.PAUSE else None
        rate = self._rate(at_ms, counts.ended)
        eta_ms = round(counts.pending / rate * _MS_PER_MIN) if rate else None
        return RunProgress(counts, spend, rate, eta_ms, paid)

    def _rate(self, at_ms: int, ended: int) -> float | None:
        self._marks.append((at_ms, ended))
        while self._marks[0][0] < at_ms - _WINDOW_MS:
            self._marks.popleft()
        since_ms, before = self._marks[0]
        if ended == before or at_ms == since_ms:
            return None
        return (ended - before) * _MS_PER_MIN / (at_ms - since_ms)

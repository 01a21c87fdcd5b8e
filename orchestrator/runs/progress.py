"""Progress: how far a run is, how fast it goes, when it will be done and what it has cost so far."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple, Protocol

from orchestrator.ledger import Ledger, readings
from orchestrator.ledger.readings import Spend, TakeCounts

_WINDOW_MS: Final = 120_000  # the rate is that of the last two minutes: long enough for slow batches
_MS_PER_MIN: Final = 60_000


class Progress(NamedTuple):
    """A run at one instant."""

    counts: TakeCounts
    spend: Spend
    takes_per_min: float | None  # None: nothing has ended yet
    eta_ms: int | None


class Watcher(Protocol):
    """Who is told how a run goes."""

    def show(self, progress: Progress) -> None:
        """The run as it is now; called a few times a second."""

    def say(self, text: str) -> None:
        """One thing a person should know."""


class Meter:
    """Measures one run's progress from the ledger."""

    def __init__(self, ledger: Ledger, run_id: str) -> None:
        self._ledger, self._run_id = ledger, run_id
        self._marks: deque[tuple[int, int]] = deque()  # (instant, takes ended by then)

    def read(self, at_ms: int) -> Progress:
        """The progress at `at_ms`."""
        with self._ledger.read() as connection:
            counts = readings.count_takes(connection, self._run_id)
            spend = readings.spend_of_run(connection, readings.get_run(connection, self._run_id))
        rate = self._rate(at_ms, counts.ended)
        eta_ms = round(counts.pending / rate * _MS_PER_MIN) if rate else None
        return Progress(counts, spend, rate, eta_ms)

    def _rate(self, at_ms: int, ended: int) -> float | None:
        self._marks.append((at_ms, ended))
        while self._marks[0][0] < at_ms - _WINDOW_MS:
            self._marks.popleft()
        since_ms, before = self._marks[0]
        if ended == before or at_ms == since_ms:
            return None
        return (ended - before) * _MS_PER_MIN / (at_ms - since_ms)

"""Presence of workers: stops an unattended run whose fleet has had no worker for too long."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from catalog.clock import SuspendDetector
from catalog.errors import NoWorkerError
from catalog.messages import now_ms
from orchestrator.ledger import Ledger, readings

_LOOK_EVERY_S: Final = 5.0


class WorkerPresence:
    """The silence of a model's workers, with `patience_s` as the longest silence that a run accepts."""

    def __init__(
        self, ledger: Ledger, run_id: str, patience_s: float = math.inf, *, clock: Callable[[], int] = now_ms
    ) -> None:
        self._ledger, self._run_id, self._patience_s, self._clock = ledger, run_id, patience_s, clock
        self._began_ms = clock()
        self._looked_s = 0.0
        self._suspend = SuspendDetector()

    def check(self) -> None:
        """Raise NoWorkerError when no worker of the run's model was heard of for longer than the patience."""
        if math.isinf(self._patience_s) or time.monotonic() - self._looked_s < min(_LOOK_EVERY_S, self._patience_s):
            return
        self._looked_s = time.monotonic()
        if self._suspend.was_suspended():  # no heartbeat could arrive meanwhile
            self._began_ms = self._clock()
        with self._ledger.read() as connection:
            run = readings.get_run(connection, self._run_id)
            heard_ms = readings.last_heard_ms(connection, run.model)
        silent_s = (self._clock() - max(self._began_ms, heard_ms or 0)) / 1000
        if silent_s > self._patience_s and run.wish != "pause":
            raise NoWorkerError(
                f"no worker of {run.model} has reported for {silent_s:.0f} s",
                why="no worker is started, no worker can reach the broker, or all workers have ended",
                fix="start `tunemill worker` where the GPUs are, and run the same command again",
            )

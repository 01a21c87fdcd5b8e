"""Presence of workers: a run that nobody watches does not wait for ever in a fleet that has no worker."""

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
    """Since when the workers of a model are silent; `patience_s` is how long a run endures that."""

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
        if self._suspend.was_suspended():  # meanwhile nobody could be heard
            self._began_ms = self._clock()
        with self._ledger.read() as connection:
            run = readings.get_run(connection, self._run_id)
            heard_ms = readings.last_heard_ms(connection, run.model)
        silent_s = (self._clock() - max(self._began_ms, heard_ms or 0)) / 1000
        if silent_s > self._patience_s and run.wish != "pause":
            raise NoWorkerError(
                f"no worker of {run.model} was heard of for {silent_s:.0f} s",
                why="none is started, none reaches the broker, or all have ended",
                fix="start `tunemill worker` where the GPUs are, and run the same command again",
            )

"""Duplicates at acceptance: new renditions are compared, and a copy makes room for another take where its run says so.

A rejection goes to the store before it goes to the ledger, as every verdict does. A pair stays due until both have it,
so a controller that was killed in between is followed by one that does the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from catalog.errors import StoreError
from catalog.store import Store
from orchestrator.ledger import Ledger
from orchestrator.ledger.chroma import compare_due, is_comparison_due
from orchestrator.ledger.duplicates import decide_due, is_rejection_due, settle_due

log = logging.getLogger(__name__)

_BATCHES_MAX: Final = 5  # in one call: a second


class DuplicateCheck:
    """Compares what was recorded, for the holder of the writer lock."""

    def __init__(self, ledger: Ledger, open_store: Callable[[], Store], clock: Callable[[], int]) -> None:
        self._ledger, self._open_store, self._clock = ledger, open_store, clock
        self._store: Store | None = None

    def step(self) -> bool:
        """Compare some of the renditions that are due; True when none is left and all rejections are written."""
        return self._compare() and self._reject()

    def _compare(self) -> bool:
        for _ in range(_BATCHES_MAX):
            with self._ledger.read() as connection:
                if not is_comparison_due(connection):
                    return True
            with self._ledger.write() as connection:
                compare_due(connection)
        return False

    def _reject(self) -> bool:
        with self._ledger.read() as connection:
            if not is_rejection_due(connection):
                return True
            verdicts = decide_due(connection, self._clock())
        try:
            for verdict in verdicts:
                self._opened_store().put_if_absent(verdict.key, verdict.to_json(), content_type="application/json")
        except StoreError as error:
            log.warning("%d takes that sound like others stay for now: %s", len(verdicts), error)
            return False
        with self._ledger.write() as connection:
            settle_due(connection, verdicts)
        for verdict in verdicts:
            log.info("take %s is rejected: %s", verdict.take_id, verdict.reason)
        return True

    def _opened_store(self) -> Store:
        if self._store is None:
            self._store = self._open_store()
        return self._store

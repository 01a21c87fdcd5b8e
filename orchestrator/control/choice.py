"""The choice at acceptance: where a catalog keeps the best takes of a track, they are chosen as takes are recorded.

A verdict goes to the store before it goes to the ledger, as every verdict does. A track stays due until both have it,
so a controller that was killed in between is followed by one that chooses the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from catalog.errors import StoreError
from catalog.store import Store
from catalog.verdicts import Verdict
from orchestrator.ledger import Ledger
from orchestrator.ledger.choice import decide_due, is_choice_due, settle_due

log = logging.getLogger(__name__)

_TRACKS_AT_ONCE: Final = 50
_WRITERS: Final = 8  # a store answers in some ten milliseconds, and the feed waits


class TakeChoice:
    """Chooses among the takes of tracks, for the holder of the writer lock."""

    def __init__(self, ledger: Ledger, open_store: Callable[[], Store], clock: Callable[[], int]) -> None:
        self._ledger, self._open_store, self._clock = ledger, open_store, clock
        self._store: Store | None = None

    def step(self) -> bool:
        """Choose for some of the tracks that are due; True when none is left."""
        with self._ledger.read() as connection:
            if not is_choice_due(connection):
                return True
            keys, verdicts = decide_due(connection, self._clock(), limit=_TRACKS_AT_ONCE)
        try:
            self._store_all(verdicts)
        except StoreError as error:
            log.warning("the takes of %d tracks are all listed for now: %s", len(keys), error)
            return False
        with self._ledger.write() as connection:
            settle_due(connection, keys, verdicts)
            return not is_choice_due(connection)

    def _store_all(self, verdicts: Sequence[Verdict]) -> None:
        if not verdicts:
            return
        if self._store is None:
            self._store = self._open_store()
        put = partial(self._store.put_if_absent, content_type="application/json")
        with ThreadPoolExecutor(_WRITERS) as pool:
            for written in [pool.submit(put, each.key, each.to_json()) for each in verdicts]:
                written.result()

"""Heartbeats: every few seconds, the worker tells the control side which takes it holds.

A heartbeat is also sent at once when a take arrives. The control side sends a take again when no heartbeat names it.
Heartbeats also carry the engine's memory use and the spans that have closed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from catalog.messages import Heartbeat, MemoryUse, Record, new_id, now_ms
from workers.records import Recorder, spans_closed
from workers.spans import SpanLog

log = logging.getLogger(__name__)

COALESCE_S: Final = 0.05  # takes that arrive together are named together
ANNOUNCE_EVERY_S: Final = 60.0
DONE_MAX: Final = 20_000
_TRIES_MAX: Final = 5


class TakesInHand:
    """The takes that this worker has received and not yet recorded, with the receipts of their orders."""

    def __init__(self) -> None:
        self._receipts: dict[str, str] = {}  # by take
        self._done: OrderedDict[str, None] = OrderedDict()  # receipts of orders that have been carried out
        self._lock = threading.Lock()
        self.has_news = threading.Event()  # set when a take has come; the next heartbeat clears it

    def add(self, take_id: str, receipt: str = "") -> bool:
        """Add a take; False when it is held already, or its order was carried out: its message came twice.

        A take that the control side sends again has another receipt; the same receipt twice means an old message that
        was put back on the queue.
        """
        with self._lock:
            if take_id in self._receipts or receipt in self._done:
                return False
            self._receipts[take_id] = receipt
        self.has_news.set()
        return True

    def remove(self, take_id: str) -> None:
        """Remove a take that is recorded or given back."""
        with self._lock:
            if receipt := self._receipts.pop(take_id, ""):
                self._done[receipt] = None
                if len(self._done) > DONE_MAX:
                    self._done.popitem(last=False)

    def receipt_of(self, take_id: str) -> str:
        """The receipt of the order for a take in hand; "" for none."""
        with self._lock:
            return self._receipts.get(take_id, "")

    def ids(self) -> list[str]:
        """The ids of all takes in hand, sorted."""
        with self._lock:
            return sorted(self._receipts)

    def orders(self) -> tuple[list[str], list[str]]:
        """The ids of all takes in hand, and the receipts of their orders; no receipts where none has one."""
        with self._lock:
            held = sorted(self._receipts.items())
        receipts = [receipt for _, receipt in held]
        return [take_id for take_id, _ in held], receipts if any(receipts) else []

    def __len__(self) -> int:
        return len(self._receipts)


class Heartbeats(threading.Thread):
    """The thread that sends heartbeats, and with them the spans that have closed."""

    def __init__(
        self,
        recorder: Recorder,
        in_hand: TakesInHand,
        spans: SpanLog,
        *,
        worker_id: str,
        every_s: float,
        memory: Callable[[], MemoryUse | None] = lambda: None,
    ) -> None:
        super().__init__(name="heartbeats", daemon=True)
        self._recorder, self._in_hand, self._spans = recorder, in_hand, spans
        self._worker_id, self._every_s = worker_id, every_s
        self._memory = memory  # the engine's, as it was last read
        self._number = 0
        self.announcement: Record | None = None  # the worker's card, sent again now and then: a broker may lose it
        self._announced_s = time.monotonic()
        self._ended = False

    def wake(self) -> None:
        """Send a heartbeat at once."""
        self._in_hand.has_news.set()

    def run(self) -> None:
        """Send heartbeats until ended."""
        while not self._ended:
            try:
                self.beat()
            except Exception:  # a worker that renders on without heartbeats would be taken for dead
                log.exception("a heartbeat failed; the next one follows")
            self._in_hand.has_news.wait(self._every_s)
            time.sleep(COALESCE_S)

    def beat(self) -> None:
        """Report the closed spans, then the takes in hand."""
        self._in_hand.has_news.clear()
        for record in spans_closed(self._worker_id, self._spans.take_closed()):
            self._recorder.record(record)
        if time.monotonic() - self._announced_s > ANNOUNCE_EVERY_S and (card := self.announce_again()) is not None:
            self._announced_s = time.monotonic()
            self._recorder.try_record(card)
        self._recorder.beat(self.next_heartbeat())

    def announce_again(self) -> Record | None:
        """The worker's card as of now; None before there is one."""
        card = self.announcement
        return card and card.model_copy(update={"record_id": new_id(), "at_ms": now_ms()})

    def next_heartbeat(self) -> Heartbeat:
        """The heartbeat of this moment, under the next number."""
        self._number += 1
        for _ in range(_TRIES_MAX):  # a record between the two readings would speak of takes that the list still has
            after, (held, receipts) = self._recorder.handed_over(), self._in_hand.orders()
            if self._recorder.handed_over() == after:
                break
        said = {"held": held, "receipts": receipts, "after": after, "memory": self._memory()}
        return Heartbeat(worker_id=self._worker_id, number=self._number, **said)

    def end(self) -> None:
        """Stop; returns when no more heartbeats will be sent, or after a few seconds when the broker is away."""
        self._ended = True
        self.wake()
        self.join(timeout=5)

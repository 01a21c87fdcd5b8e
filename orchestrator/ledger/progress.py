"""The progress of a take, and the change that each fact makes to it. Pure rules; `facts` reads and writes the rows.

Facts may arrive twice, late or out of order. An accepted take stays accepted. A failure counts only against a take that
is still to be made. The loss of a silent worker never counts against a take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from catalog.messages import AttemptMade

TRIES_MAX: Final = 3  # failures that the take may have caused, after which it is given up

_OPEN = frozenset({"waiting", "sent"})


def rendition_id(attempt: AttemptMade) -> str:
    """The id of an accepted attempt's rendition: the id of the attempt that made it, which may not be this one."""
    return (attempt.sidecar.record_id if attempt.sidecar else "") or attempt.record_id


@dataclass(slots=True)
class TakeProgress:
    """The part of a take's row that facts change."""

    state: str
    alone: bool = False
    sent_at_ms: int | None = None
    held_by: str | None = None
    held_at_ms: int | None = None
    tries: int = 0
    rendition_id: str | None = None
    orders: int = 0  # 0: it was never sent, so no worker can have it

    def attempted(self, attempt: AttemptMade) -> None:
        """One try has ended; the attempt is new to the ledger."""
        if attempt.outcome == "accepted":
            # The first one counts: of two workers on one take, the second has adopted the first one's sidecar.
            self.rendition_id = self.rendition_id or rendition_id(attempt)
            self._end("accepted")
        elif attempt.outcome == "rejected":
            if self.state in _OPEN or self.state == "failed":
                self._end("rejected")
        elif self.state in _OPEN:
            self.tries += 1
            if attempt.retry and self.tries < TRIES_MAX:
                # It may have brought down its neighbours, so it is tried without company.
                self.alone = True
                self._end("waiting")
            else:
                self._end("failed")

    def named(self, worker_id: str, at_ms: int) -> None:
        """A heartbeat names the take; one that was to be sent again is on its way after all."""
        if self.state not in _OPEN or not self.orders:
            return
        if self.state == "waiting":
            self.sent_at_ms = at_ms  # from now on, whoever sent it: what is sent at no instant is never missed
        if self.held_by != worker_id:
            self.state, self.held_by, self.held_at_ms = "sent", worker_id, at_ms

    def not_named(self, worker_id: str, at_ms: int) -> None:
        """A heartbeat of its holder does not name the take: from now on it may be on its way to be reported."""
        if self.held_by == worker_id:
            self.held_by, self.held_at_ms = None, at_ms

    def returned(self, worker_id: str) -> None:
        """A stopping worker gives the take back."""
        if self.state == "sent" and self.held_by in (worker_id, None):
            self._end("waiting")

    def _end(self, state: str) -> None:
        self.state, self.sent_at_ms, self.held_by, self.held_at_ms = state, None, None, None

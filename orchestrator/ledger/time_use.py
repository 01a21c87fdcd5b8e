"""Time use: the activities that fill a worker's paid time, and the reasons for which its engine waited.

Every millisecond of a worker's life has exactly one use, so the shares add up to the whole. A share of the time an
engine was up leaves out the start and the end, because these depend on how long a worker was kept rather than on how
well it worked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from catalog.split import split
from orchestrator.ledger.observations import BUSY_STATES, Category

WAITING_FOR_POST: Final = "waiting for post"  # every thread still checked, mastered or uploaded
WAITING_FOR_POST_MAX: Final = 0.05  # of the time engines were up
MEND_WAITING_FOR_POST: Final = (
    "checking, mastering and uploading cannot keep up; fix: more CPU cores, more takes in hand "
    "(`tunemill worker --threads`) or a store that is nearer"
)
_IDLE: Final = str(Category.IDLE)
_NAMES: Final = {
    "startup": "starting",
    "plan": "planning",
    "render": "rendering",
    "post": "finishing after the engine",
    "teardown": "ending",
    "lost": "lost with a worker",
    "unobserved": "not reported yet",
}
_ORDER: Final = ("plan", "render", _IDLE, "startup", "post", "teardown", str(Category.LOST), str(Category.UNOBSERVED))


class Activity(NamedTuple):
    """One use of time; `share` of the whole, in tenths of a percent that add up to a thousand."""

    name: str
    ms: int
    share: int


@dataclass(frozen=True, slots=True)
class TimeUse:
    """Milliseconds by use: the state of a span and, when idle, its cause. Unreported time is a state, too."""

    ms: Mapping[tuple[str, str], int]

    @property
    def total_ms(self) -> int:
        """All of it."""
        return sum(self.ms.values())

    @property
    def busy_ms(self) -> int:
        """Planning and rendering."""
        return self._of(*BUSY_STATES)

    @property
    def up_ms(self) -> int:
        """The time in which there was an engine: busy or idle."""
        return self._of(*BUSY_STATES, _IDLE)

    @property
    def busy_share(self) -> float | None:
        """The part of the time engines were up in which they worked on takes; None before there is any."""
        return self.busy_ms / self.up_ms if self.up_ms else None

    @property
    def waiting_for_post_share(self) -> float:
        """The part of the time engines were up in which they could not go on until takes were stored."""
        return self.ms.get((_IDLE, WAITING_FOR_POST), 0) / self.up_ms if self.up_ms else 0.0

    @property
    def by_state_ms(self) -> dict[str, int]:
        """Milliseconds by state alone."""
        return {state: self._of(state) for state in _ORDER if self._of(state)}

    @property
    def idle_ms_by_cause(self) -> dict[str, int]:
        """Idle milliseconds by cause, the longest first."""
        idle = {cause: ms for (state, cause), ms in self.ms.items() if state == _IDLE and ms}
        return dict(sorted(idle.items(), key=lambda each: (-each[1], each[0])))

    def uses(self) -> Iterator[Activity]:
        """The uses that took any time: work first, then idle time by cause, then the rest."""
        shares = split(1000 if self.total_ms else 0, self.ms)
        for (state, cause), ms in sorted(self.ms.items(), key=lambda each: (_ORDER.index(each[0][0]), -each[1])):
            if ms:
                name = f"idle: {cause or 'cause not said'}" if state == _IDLE else _NAMES.get(state, state)
                yield Activity(name, ms, shares[state, cause])

    def as_plain_values(self) -> dict[str, Any]:
        """The figures for scripts; shares are parts of one."""
        return {
            "ms": self.total_ms,
            "ms_by_state": self.by_state_ms,
            "idle_ms_by_cause": self.idle_ms_by_cause,
            "busy_share": self.busy_share,
            "waiting_for_post_share": self.waiting_for_post_share,
        }

    def _of(self, *states: str) -> int:
        return sum(ms for (state, _), ms in self.ms.items() if state in states)

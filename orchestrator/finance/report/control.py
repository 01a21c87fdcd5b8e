"""Control totals: the total of a month's books, compared with the sum of every list in the pack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.finance.allocation.charges import CostRow


@dataclass(slots=True)
class ControlTotals:
    """Sums of entries or rows. Money in micro-dollars by kind and category; time without a price counts apart."""

    lines: int = 0
    usd_micros: Counter[tuple[str, str]] = field(default_factory=Counter)
    unpriced_ms: int = 0
    ms: int = 0
    tracks: int = 0
    attempts: int = 0
    audio_ms: int = 0

    def count(self, kind: str, category: str, usd_micros: int) -> None:
        """Count the money of a line."""
        self.lines += 1
        self.usd_micros[str(kind), str(category)] += usd_micros

    def as_plain_values(self) -> dict[str, Any]:
        """The totals for a JSON file; sums of zero are left out."""
        by_kind: dict[str, dict[str, int]] = {}
        for (kind, category), micros in sorted(self.usd_micros.items()):
            if micros:
                by_kind.setdefault(kind, {})[category] = micros
        return {
            "lines": self.lines,
            "usd_micros": sum(self.usd_micros.values()),
            "usd_micros_by_kind_and_category": by_kind,
            "unpriced_ms": self.unpriced_ms,
            "ms": self.ms,
            "tracks": self.tracks,
            "attempts": self.attempts,
            "audio_ms": self.audio_ms,
        }


def totals_of(rows: Iterable[CostRow]) -> ControlTotals:
    """The totals of a month's rows."""
    totals = ControlTotals()
    for row in rows:
        totals.count(row.kind, row.category, row.usd_micros)
        totals.unpriced_ms += row.unpriced_ms
        totals.ms += row.ms
        totals.tracks += row.tracks
        totals.attempts += row.attempts
        totals.audio_ms += row.audio_ms
    return totals

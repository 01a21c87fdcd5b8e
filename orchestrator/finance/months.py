"""Months: finance's periods begin and end at midnight in finance's own time zone; instants stay UTC.

A period is written YYYY-MM and is half-open. Midnight follows the zone's rules of that day. So a month with a change of
clocks is an hour longer or shorter, and every millisecond lies in exactly one month.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from catalog.errors import SettingsError

_FIRST_MS: Final = 86_400_000
_LAST_MS: Final = 16_725_225_600_000


class MonthSlice(NamedTuple):
    """A part of a stretch of time that lies in one month."""

    period: str
    start_ms: int
    end_ms: int

    @property
    def ms(self) -> int:
        """Its length."""
        return self.end_ms - self.start_ms


def parse_period(text: str, *, name: str = "--period") -> str:
    """A month as YYYY-MM. Raises SettingsError naming the option."""
    if re.fullmatch(r"(19[7-9]\d|2\d{3})-(0[1-9]|1[0-2])", text.strip(), re.ASCII):
        return text.strip()
    raise SettingsError(f"{name} is wrong: {text!r}", why="a period is a month", fix=f"write {name} 2026-11")


def month_of(at_ms: int, time_zone: str) -> str:
    """The month that holds an instant; one before 1970 or after 2500 is a broken clock's, and taken for the nearest."""
    local = datetime.fromtimestamp(min(max(at_ms, _FIRST_MS), _LAST_MS) / 1000, tz=ZoneInfo(time_zone))
    return f"{local.year:04d}-{local.month:02d}"


@lru_cache(maxsize=1024)
def bounds_of(period: str, time_zone: str) -> tuple[int, int]:
    """Begin and end of a month in epoch milliseconds, half-open."""
    return _midnight(period, time_zone), _midnight(next_month(period), time_zone)


def next_month(period: str, months: int = 1) -> str:
    """The month that comes `months` later; earlier for a negative number."""
    count = int(period[:4]) * 12 + int(period[5:7]) - 1 + months
    return f"{count // 12:04d}-{count % 12 + 1:02d}"


def cut_by_month(start_ms: int, end_ms: int, time_zone: str) -> Iterator[MonthSlice]:
    """The parts of [start, end) by month, in order; an empty stretch lies in the month of its start."""
    period = month_of(start_ms, time_zone)
    while True:
        _, month_end_ms = bounds_of(period, time_zone)
        is_last = end_ms <= month_end_ms or month_end_ms > _LAST_MS
        yield MonthSlice(period, start_ms, end_ms if is_last else month_end_ms)
        if is_last:
            return
        start_ms, period = month_end_ms, next_month(period)


def _midnight(period: str, time_zone: str) -> int:
    first = datetime(int(period[:4]), int(period[5:7]), 1, tzinfo=ZoneInfo(time_zone))
    # Through UTC: subtracting aware datetimes of one zone would ignore a change of clocks between them.
    return round(first.astimezone(UTC).timestamp()) * 1000

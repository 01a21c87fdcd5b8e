"""Texts that all files of a pack share: the meaning of the figures, and the format of instants and months."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from orchestrator.finance.allocation.charges import ChargeKind, CostGroup
from orchestrator.finance.report.contents import Contents
from orchestrator.finance.report.figures import shares_of

MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
MONEY_KINDS: Final = (ChargeKind.BILLED, ChargeKind.ESTIMATE, ChargeKind.PROVISIONAL)
MEANING: Final = {
    CostGroup.DIRECT: "rendering of takes that went into the catalog",
    CostGroup.WASTED: "rendering of takes that did not: rejected, failed, or lost with their machine",
    CostGroup.IDLE: "machines that were paid for and had nothing to do",
    CostGroup.OVERHEAD: "starting, ending, uploading, disks, traffic, and time that is billed and was not seen",
    CostGroup.ADJUSTMENT: "credits and taxes: lines without usage",
}
DEFINITIONS: Final = (
    *((str(group), meaning) for group, meaning in MEANING.items()),
    ("direct + wasted", "all rendering, kept or not"),
    ("fully loaded", "everything: it adds up to the bills"),
    ("billed", "an invoice says so"),
    ("estimate", "observed time at the price in the price book, until the bill comes"),
    ("provisional", "the same for machines that still run; not in the books yet"),
    ("unknown", "there is time and nobody knows its price; it is never counted as zero"),
    ("unallocated", "money that no take can carry"),
    ("fully loaded per track", "fully loaded dollars by accepted tracks"),
    ("complete through", "everything before that instant is in the books"),
)


def month_name(period: str) -> str:
    """March 2026 for 2026-03; any other text is returned unchanged."""
    year, _, month = period.partition("-")
    if not (month.isdecimal() and 1 <= int(month) <= 12):
        return period
    return f"{MONTHS[int(month) - 1]} {year}"


def short_month(period: str) -> str:
    """Mar for 2026-03."""
    return month_name(period)[:3]


def instant(ms: int, time_zone: str) -> str:
    """An instant as finance reads it: 1 Apr 2026, 00:00."""
    at = datetime.fromtimestamp(ms // 1000, ZoneInfo(time_zone))
    return f"{at.day} {MONTHS[at.month - 1][:3]} {at.year}, {at:%H:%M}"


def coverage_sentence(contents: Contents) -> str:
    """One sentence on the billed share of the money; the shares add up to a hundred."""
    amounts = {kind: contents.coverage.usd_micros.get(kind, 0) for kind in MONEY_KINDS}
    shares = shares_of(amounts)
    if shares is None:
        return "no money in the month" if not any(amounts.values()) else "credits outweigh the costs"
    return ", ".join(f"{shares[kind] / 10:.1f} % {kind}" for kind in MONEY_KINDS)


def state_sentence(contents: Contents) -> str:
    """One sentence that says if the month can still change."""
    if contents.state != "closed":
        return "open: figures can still change"
    when = f" on {instant(contents.closed_ms, contents.time_zone)}" if contents.closed_ms is not None else ""
    by = f" by {contents.closed_by}" if contents.closed_by else ""
    return f"closed{when}{by}"

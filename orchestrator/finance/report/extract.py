"""Extracts: the entries of a month and its roll-up as CSV, so that a reader can repeat the sums.

The files are UTF-8 with a header and CRLF line ends (RFC 4180). Each amount is stated twice: exactly in micro-dollars,
and in dollars. Text is plain (catalog/plain.py). A text that a spreadsheet would run as a formula gets an apostrophe in
front, a number never does; `unguarded` removes the apostrophe. A cost without a known price says `unknown`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

from catalog.plain import plain
from orchestrator.finance.allocation.charges import CostRow, group_of
from orchestrator.finance.money import MICROS_PER_USD
from orchestrator.finance.records import Extracted
from orchestrator.finance.report.control import ControlTotals

UNKNOWN: Final = "unknown"
LEDGER_COLUMNS: Final = (
    "entry_id", "posting_id", "posted_at", "period", "applies_to", "kind", "category", "catalog", "zone", "genre",
    "run_id", "provider", "gpu", "market", "rental_id", "usd_micros", "usd", "ms", "tracks", "attempts", "audio_ms",
    "source", "method", "reverses_id",
)  # fmt: skip
COSTS_COLUMNS: Final = (
    "period", "applies_to", "kind", "group", "category", "catalog", "zone", "genre", "run_id", "provider", "gpu",
    "market", "usd_micros", "usd", "unpriced_ms", "ms", "tracks", "attempts", "audio_ms",
)  # fmt: skip
# Also a text that would read as guarded; otherwise the two could not be told apart.
# A reader may strip white space in front of the cell.
_GUARDED: Final = re.compile(r"'*\s*[=+\-@]|'*[\t\r\n]")


def guarded(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula."""
    return "'" + text if _GUARDED.match(text) else text


def unguarded(cell: str) -> str:
    """The text that was guarded."""
    return cell[1:] if cell.startswith("'") and _GUARDED.match(cell) else cell


def write_ledger(entries: Iterable[Extracted], path: Path) -> ControlTotals:
    """Write every entry one by one, and return their sums."""
    totals = ControlTotals()
    _write(path, LEDGER_COLUMNS, _counted(entries, totals))
    return totals


def write_costs(rows: Iterable[CostRow], path: Path) -> None:
    """Write the roll-up that reports are made of."""
    _write(path, COSTS_COLUMNS, map(_costs_cells, rows))


def read_cells(path: Path) -> Iterator[Mapping[str, str]]:
    """The lines of an extract by column, each text as it was."""
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, strict=True):
            yield {name: unguarded(cell) for name, cell in line.items()}


def usd(micros: int) -> str:
    """Micro-dollars as plain dollars with six decimals."""
    whole, part = divmod(abs(micros), MICROS_PER_USD)
    return f"{'-' if micros < 0 else ''}{whole}.{part:06d}"


def _write(path: Path, columns: Sequence[str], lines: Iterable[Sequence[str | int]]) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows(lines)


def _counted(entries: Iterable[Extracted], totals: ControlTotals) -> Iterator[Sequence[str | int]]:
    for entry in entries:
        totals.count(entry.kind, entry.category, entry.usd_micros or 0)
        totals.unpriced_ms += entry.ms if entry.usd_micros is None else 0
        totals.ms += entry.ms
        totals.tracks += entry.tracks
        totals.attempts += entry.attempts
        totals.audio_ms += entry.audio_ms
        yield _ledger_cells(entry)


def _ledger_cells(entry: Extracted) -> Sequence[str | int]:
    texts = [_text_cell(text) for text in entry[7:15]]  # from catalog to rental
    money = (UNKNOWN, UNKNOWN) if entry.usd_micros is None else (entry.usd_micros, usd(entry.usd_micros))
    return (
        entry.entry_id,
        entry.posting_id,
        _instant(entry.posted_ms),
        entry.period,
        entry.applies_to,
        entry.kind,
        entry.category,
        *texts,
        *money,
        entry.ms,
        entry.tracks,
        entry.attempts,
        entry.audio_ms,
        _text_cell(entry.source),
        _text_cell(entry.method),
        "" if entry.reverses_id is None else entry.reverses_id,
    )


def _costs_cells(row: CostRow) -> Sequence[str | int]:
    is_unknown = row.unpriced_ms and not row.usd_micros
    return (
        row.period,
        row.applies_to,
        row.kind,
        group_of(row.category),
        row.category,
        *(_text_cell(text) for text in row[4:11]),  # from catalog to market
        *((UNKNOWN, UNKNOWN) if is_unknown else (row.usd_micros, usd(row.usd_micros))),
        row.unpriced_ms,
        row.ms,
        row.tracks,
        row.attempts,
        row.audio_ms,
    )


def _text_cell(text: str) -> str:
    return guarded(plain(text))


@lru_cache(maxsize=1024)  # entries of one posting share their instant
def _instant(ms: int) -> str:
    seconds, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"

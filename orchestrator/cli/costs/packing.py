"""Writing the pack of a month, and saying what is in it."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

from catalog.settings import Settings
from orchestrator.cli.console import err, say, warn
from orchestrator.finance.accounts import contents_of
from orchestrator.finance.books.books import Updated
from orchestrator.finance.focus_export import FocusExport, copies, refuse_breaches
from orchestrator.finance.prices.book import PriceBook
from orchestrator.finance.report.writing import write_pack
from orchestrator.ledger import Ledger


def write_month(
    ledger: Ledger,
    settings: Settings,
    book: PriceBook,
    updated: Updated,
    period: str,
    folder: Path,
    *,
    focus: bool,
    tracks: int | None,
    song: str | None,
) -> None:
    """Write the pack of `period` into `folder`, with the FOCUS files if asked. Says so on standard error."""
    with ledger.snapshot() as connection, tempfile.TemporaryDirectory(prefix="tunemill-focus-") as scratch:
        contents = contents_of(connection, settings, book, updated, period, tracks=tracks, song=song)
        extra = {}
        if focus:
            has_parquet = importlib.util.find_spec("duckdb") is not None
            files = FocusExport(connection, settings, book, period).write(Path(scratch), parquet=has_parquet)
            refuse_breaches(files)
            extra = copies(files.paths, "focus")
            if not has_parquet:
                warn("the FOCUS files are CSV only; `pip install 'tunemill[parquet]'` adds Parquet")
        manifest = write_pack(contents, folder, extra)
    say(
        f"wrote the pack of {period} ({contents.state}) to {folder}: "
        f"{', '.join(sorted(file.name for file in manifest.files))}",
        to=err,
        hang=2,
    )

"""Completion: the names that a shell offers for an argument or option.

A shell waits while a person types, so names are read from folders and, read-only, from the ledger's file, by the
standard library alone: nothing is imported for it, validated or created. Where names cannot be read there are none.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

import typer

_ROOT: Final = Path(__file__).resolve().parents[2]
_SHARED: Final = Path(sys.prefix) / "share" / "tunemill"
_SKU: Final = re.compile(r"\bsku: *([\w.-]+)")
_NAMES_MAX: Final = 200
_BUSY_TIMEOUT_S: Final = 0.2

Completer = Callable[[typer.Context, str], list[str]]


def catalogs(context: typer.Context, incomplete: str) -> list[str]:
    """Catalogs that have a file."""
    return _offer(_presets(context, "catalogs"), incomplete)


def zones(context: typer.Context, incomplete: str) -> list[str]:
    """Zones that have a file."""
    return _offer(_presets(context, "zones"), incomplete)


def genres(context: typer.Context, incomplete: str) -> list[str]:
    """Genres that have a file."""
    return _offer(_presets(context, "genres"), incomplete)


def presets(context: typer.Context, incomplete: str) -> list[str]:
    """Catalogs, zones and genres that have a file."""
    return _offer((name for kind in ("catalogs", "zones", "genres") for name in _presets(context, kind)), incomplete)


def made_catalogs(_: typer.Context, incomplete: str) -> list[str]:
    """Catalogs that the ledger knows."""
    return _offer(_ask("select distinct catalog from run"), incomplete)


def active_runs(_: typer.Context, incomplete: str) -> list[str]:
    """Active runs, by their catalogs and by their ids."""
    rows = "from run where state = 'active' order by started_at_ms desc"
    return _offer((*_ask(f"select catalog {rows}"), *_ask(f"select run_id {rows}")), incomplete)


def runs(_: typer.Context, incomplete: str) -> list[str]:
    """Runs of the ledger, the newest first."""
    return _offer(_ask("select run_id from run order by started_at_ms desc"), incomplete)


def takes(_: typer.Context, incomplete: str) -> list[str]:
    """Finished takes; their ids are long, so that a few digits must be there already."""
    query = "select take_id from rendition where take_id >= ?1 and take_id < ?1 || 'g' order by take_id"
    return _offer(_ask(query, incomplete), incomplete) if incomplete else []


def gpus(context: typer.Context, incomplete: str) -> list[str]:
    """GPUs that have a price."""
    files = (file for folder in _layers(context, "prices", _ROOT / "infra") for file in _listed(folder))
    return _offer((sku for file in files for sku in _SKU.findall(_text(file))), incomplete)


def _offer(names: Iterator[str] | tuple[str, ...], incomplete: str) -> list[str]:
    """The names that go on from what is typed, each once, in their order."""
    return list(dict.fromkeys(name for name in names if name.startswith(incomplete)))[:_NAMES_MAX]


def _presets(context: typer.Context, kind: str) -> Iterator[str]:
    for root in _layers(context, "presets", _ROOT):
        yield from sorted(file.stem for file in _listed(root / kind) if file.name[0] not in "._")


def _layers(context: typer.Context, what: str, checkout: Path) -> Iterator[Path]:
    """The folders of presets or prices, as orchestrator/matrix/layers.py and finance/prices/layers.py find them."""
    named = context.params.get(what) or os.environ.get(f"TUNEMILL_{what.upper()}")
    yield Path(named) if named else Path("infra", what) if what == "prices" else Path(what)
    yield _home() / what
    yield checkout / what
    yield _SHARED / what


def _listed(folder: Path) -> list[Path]:
    try:
        return [file for file in folder.iterdir() if file.suffix in (".yaml", ".yml")]
    except (OSError, ValueError):
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _home() -> Path:
    return Path(os.environ.get("TUNEMILL_HOME") or Path.home() / ".tunemill")


def _ask(query: str, *values: str) -> Iterator[str]:
    """The first column of what the ledger answers; nothing where it is no SQLite file."""
    url = os.environ.get("TUNEMILL_DATABASE_URL") or f"sqlite:///{_home() / 'ledger.sqlite'}"
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite":
        return
    # Without a log of changes nobody writes, and even a reader would make the files that go with one.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    try:
        address = f"file:{quote(path)}?{how}"
        with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT_S)) as connection:
            yield from (str(row[0]) for row in connection.execute(f"{query} limit {_NAMES_MAX}", values))
    except (sqlite3.Error, OSError):
        return

"""Opening the ledger for commands that only look: there may be none yet."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from catalog.settings import Settings
from orchestrator.ledger import Ledger, open_ledger


def find_ledger(settings: Settings) -> Ledger | None:
    """The ledger, or None while there is none: reading must not make one."""
    url = make_url(settings.database) if settings.database.startswith("sqlite") else None
    if url is not None and not (url.database and Path(url.database).is_file()):
        return None
    return open_ledger(settings.database)

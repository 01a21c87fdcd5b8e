"""Opening the ledger where there may be none yet: a look then finds nothing, and whatever is more than a look fails.

A scheduled command that writes, closes or checks must not end like one that did its work: an absent ledger mostly
means that TUNEMILL_HOME or TUNEMILL_DATABASE_URL name another place, and an empty pack, or books that "agree", would
hide that. It ends with the ledger's own exit code, 33, as when the ledger is away, since the mend is the same.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from catalog.errors import LedgerError
from catalog.settings import Settings
from orchestrator.ledger import Ledger, open_ledger


def find_ledger(settings: Settings) -> Ledger | None:
    """The ledger, or None while there is none: reading must not make one."""
    url = make_url(settings.database) if settings.database.startswith("sqlite") else None
    if url is not None and not (url.database and _may_be_there(Path(url.database))):
        return None
    return open_ledger(settings.database)


def _may_be_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a path that is too long, or forbidden: opening it says so in words
        return True


def get_ledger(settings: Settings, undone: str) -> Ledger:
    """The ledger. Raises LedgerError while there is none; `undone` says what has therefore not been done."""
    ledger = find_ledger(settings)
    if ledger is None:
        raise no_ledger(undone)
    return ledger


def no_ledger(undone: str) -> LedgerError:
    """The error for what cannot be done without a ledger."""
    return LedgerError(
        f"there is no ledger yet, so {undone}",
        why="nothing has been run, or TUNEMILL_HOME or TUNEMILL_DATABASE_URL name another place",
        fix="correct them, or run a catalog first",
    )

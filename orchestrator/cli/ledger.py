"""Opening the ledger where none may exist yet: a command that only lists then lists nothing; every other command fails.

A scheduled command that writes, closes or checks must not end as if its work were done: a missing ledger mostly means
that TUNEMILL_HOME or TUNEMILL_DATABASE_URL names another place, and an empty pack, or books that "agree", would hide
that. The command ends with exit code 33, as in an outage of the ledger, since the fix is the same. A command that gets
the name of a run or a take ends with exit code 10, as for every unknown name.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from catalog.errors import LedgerError, UnknownNameError
from catalog.settings import Settings
from orchestrator.ledger import Ledger, open_ledger


def find_ledger(settings: Settings) -> Ledger | None:
    """Open the ledger, or return None where none exists: reading must not create one."""
    url = make_url(settings.database) if settings.database.startswith("sqlite") else None
    if url is not None and not (url.database and _may_be_there(Path(url.database))):
        return None
    return open_ledger(settings.database)


def _may_be_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the path is too long or forbidden: opening the ledger reports the reason
        return True


def get_ledger(settings: Settings, undone: str) -> Ledger:
    """Open the ledger. Raises LedgerError where none exists; `undone` names the work that was not done."""
    ledger = find_ledger(settings)
    if ledger is None:
        raise no_ledger(undone)
    return ledger


def get_ledger_of_names(settings: Settings) -> Ledger:
    """Open the ledger for a command that names something in it. Raises UnknownNameError where no ledger exists."""
    ledger = find_ledger(settings)
    if ledger is None:
        raise UnknownNameError(
            "there is no ledger yet", why="nothing has been run here", fix="start with `tunemill run CATALOG`"
        )
    return ledger


def no_ledger(undone: str) -> LedgerError:
    """The error of a command that needs a ledger; `undone` names the work that was not done."""
    return LedgerError(
        f"there is no ledger yet, so {undone}",
        why="nothing has been run, or TUNEMILL_HOME or TUNEMILL_DATABASE_URL points to another place",
        fix="correct these variables, or run a catalog first",
    )

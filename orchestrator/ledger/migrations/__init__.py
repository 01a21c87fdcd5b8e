"""Schema versions: Alembic, configured in code so that it works from an installed package.

A new version is one file under `versions/` with an explicit revision id; HEAD below names the newest. A column that is
added to an existing table needs a server default. SQLite rebuilds a table to alter it. A rebuild drops the table's
triggers, which are created again after every upgrade, and, with foreign keys on, fails for a table that others refer
to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from catalog.errors import LedgerError

if TYPE_CHECKING:
    from alembic.config import Config

# Alembic takes a fifth of a second to import, and a ledger that is up to date needs none of it.

HEAD: Final = "0012"


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration; `env.py` works on `connection`."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "orchestrator.ledger:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def script_heads() -> list[str]:
    """The newest revisions among the files; one, and equal to HEAD, in a sound checkout."""
    from alembic.script import ScriptDirectory

    return list(ScriptDirectory.from_config(alembic_config()).get_heads())


def upgrade(connection: Connection) -> None:
    """Bring the schema to HEAD inside the caller's transaction. LedgerError when it is newer than this program."""
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(alembic_config(connection), HEAD)
    except CommandError as error:
        raise LedgerError(
            "the ledger was written by a newer version of this program",
            why=f"this version does not know the ledger's schema ({error})",
            fix="upgrade this installation; the ledger is unchanged",
        ) from None

"""The `tunemill` program: gathers the commands and turns errors into words and exit codes."""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from importlib import import_module
from importlib.metadata import version
from types import TracebackType
from typing import Annotated

import typer

from catalog.errors import StoreFullError, TunemillError
from catalog.plain import plain_lines
from catalog.secrets import ScrubbingFormatter, scrub
from orchestrator.cli.console import err, print_error, say

app = typer.Typer(
    name="tunemill",
    help="Turn a matrix of genre and zone presets into a music catalog.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `tunemill run demo`; `tunemill COMMAND --help` says more about each command.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"tunemill {version('tunemill')}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def begin(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turn a matrix of genre and zone presets into a music catalog."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


# In the order of `--help`: a module, and the commands or groups that the module registers.
_MODULES = {
    "presets": ("presets",),
    "plan": ("plan",),
    "run": ("run", "refresh", "controller"),
    "status": ("status",),
    "controls": ("pause", "resume", "cancel", "retry"),
    "records": ("records",),
    "catalog": ("catalog",),
    "costs": ("costs",),
    "worker": ("worker", "replay"),
    "logins": ("worker-login",),
}


def _register(wanted: str | None = None) -> None:
    """Add every command, or only the module of the command `wanted`: importing all takes longer than most commands.

    The modules are imported here so that a broken one ends `tunemill --help` with an error message.
    """
    having = [name for name, commands in _MODULES.items() if wanted in commands]
    for name in having or _MODULES:
        import_module(f"orchestrator.cli.{name}").register(app)


def _was_interrupted(end: SystemExit) -> bool:
    """True when the program ended by a Ctrl-C that no command has handled."""
    before = end.__context__
    return before is not None and isinstance(before.__cause__, KeyboardInterrupt)


def run() -> None:
    """Run the program and exit with its code; typer handles usage errors (2) and a Ctrl-C in a command (130)."""
    if logging.lastResort is not None:  # prints the log of a command that sets up none
        logging.lastResort.setFormatter(ScrubbingFormatter())
    try:
        _run()
    except Exception:
        sys.excepthook = _print_defect  # after typer, which puts its own there
        raise


def _print_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback: what the program cannot answer may hold secrets and a stranger's text like all else."""
    sys.stderr.write(plain_lines(scrub("".join(traceback.format_exception(kind, error, trace)))))


def _run() -> None:
    _register(sys.argv[1] if len(sys.argv) > 1 else None)
    try:
        app()
    except SystemExit as end:
        if _was_interrupted(end):
            say("interrupted; nothing is lost: run the same command again", to=err)
        raise
    except TunemillError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = StoreFullError(
            f"no space left on the disk under {error.filename or 'TUNEMILL_HOME'}",
            why="nothing is lost: what was recorded before is whole",
            fix="free some space, or move TUNEMILL_HOME or TUNEMILL_STORE_URL, and run the same command again",
        )
        print_error(full)
        sys.exit(full.exit_code)

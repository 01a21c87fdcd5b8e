"""The `tunemill` program: gathers the commands and turns errors into words and exit codes."""

from __future__ import annotations

import errno
import gc
import logging
import re
import sys
import traceback
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from catalog.errors import INTERRUPTED_EXIT_CODE, StoreFullError, TunemillError
from catalog.plain import plain_lines
from catalog.secrets import ScrubbingFormatter, scrub
from orchestrator.cli.console import err, print_error, print_error_as_json, say
from orchestrator.cli.outline import APP_OPTIONS
from orchestrator.cli.streams import flush_output

_UsageError: Any = typer.BadParameter.__bases__[0]  # typer gives no public name to the base of its usage errors
_USAGE_EXIT_CODE: Final = 2
_PLAIN_WORDS: Final = {
    r"Input should be a valid integer.*": "it must be a whole number",
    r"Input should be a valid number.*": "it must be a number",
    r"Input should be greater than or equal to (\S+)": r"it must be \1 or more",
    r"Input should be less than or equal to (\S+)": r"it must be \1 or less",
    r"Input should be": "it must be",
    r"Value error, ": "",
}


class _Program(TyperGroup):
    """The commands, of which any may be interrupted."""

    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            say("interrupted; nothing is lost: run the same command again", to=err)
            raise typer.Exit(INTERRUPTED_EXIT_CODE) from None


app = typer.Typer(
    cls=_Program,
    name="tunemill",
    help="Make catalogs of background music from genre and zone presets.",
    epilog="Start with `tunemill run demo`; `tunemill COMMAND --help` says more about each command.",
    **APP_OPTIONS,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from orchestrator.cli.version import version_text  # noqa: PLC0415 - it loads all forms

        sys.stdout.write(f"{version_text()}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def begin(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the release, the commit and the versions of file formats.",
        ),
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
    "weights": ("weights",),
}


def _register(wanted: str | None = None) -> None:
    """Add every command, or only the module of the command `wanted`: importing all takes longer than most commands.

    The modules are imported here so that a broken one ends `tunemill --help` with an error message.
    """
    having = [name for name, commands in _MODULES.items() if wanted in commands]
    for name in having or _MODULES:
        import_module(f"orchestrator.cli.{name}").register(app)


def run() -> None:
    """Run the program and exit with its code; a mistake ends in words and, with --json, in a JSON document as well."""
    if logging.lastResort is not None:  # prints the log of a command that sets up none
        logging.lastResort.setFormatter(ScrubbingFormatter())
    try:
        code = _run()
        flush_output()
    except TunemillError as error:
        code = end_in_words(error)
    except _UsageError as error:
        code = _end_of_usage(error)
    except OSError as error:
        code = end_in_words(_no_space(error)) if error.errno in (errno.ENOSPC, errno.EDQUOT) else _end_of_defect(error)
    except Exception as error:
        code = _end_of_defect(error)
    sys.exit(code)


def _run() -> int:
    """Run the command that the arguments name; its exit code."""
    _register(sys.argv[1] if len(sys.argv) > 1 else None)
    gc.enable()
    gc.freeze()  # what was loaded stays
    ended = app(standalone_mode=False)
    return ended if isinstance(ended, int) else 0


def end_in_words(error: TunemillError) -> int:
    """Print an error that a person can mend, with --json as a JSON document as well; its exit code."""
    print_error(error)
    if "--json" in sys.argv:
        print_error_as_json(error)
    return error.exit_code


def _end_of_usage(error: Any) -> int:
    """Say what is wrong with the arguments, and how to find what they may be."""
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command
        error.show()
        return _USAGE_EXIT_CODE
    context = error.ctx
    command = context.command_path if context else "tunemill"
    told = TunemillError(
        _in_plain_words(error.format_message().rstrip(".")),
        why=f"its usage is {context.get_usage().removeprefix('Usage: ')}" if context else "",
        fix=f"`{command} --help` shows the arguments and options",
    )
    print_error(told)
    if "--json" in sys.argv:
        print_error_as_json(told, kind="usage", code=_USAGE_EXIT_CODE)
    return _USAGE_EXIT_CODE


def _in_plain_words(message: str) -> str:
    """The same without the words of pydantic, by which typer reads values."""
    for theirs, ours in _PLAIN_WORDS.items():
        message = re.sub(theirs, ours, message)
    return message


def _end_of_defect(error: Exception) -> int:
    """Print a traceback: what the program cannot answer may hold secrets and a stranger's text like all else."""
    sys.stderr.write(plain_lines(scrub("".join(traceback.format_exception(error)))))
    if "--json" in sys.argv:
        told = TunemillError(
            f"{type(error).__name__}: {error}",
            why="the program has a defect",
            fix="report the defect, with the traceback on standard error",
        )
        print_error_as_json(told, kind="defect")
    return TunemillError.exit_code


def _no_space(error: OSError) -> StoreFullError:
    return StoreFullError(
        f"no space left on the disk under {error.filename or 'TUNEMILL_HOME'}",
        why="nothing is lost: all earlier records are complete",
        fix="free some space, or move TUNEMILL_HOME or TUNEMILL_STORE_URL, and run the same command again",
    )

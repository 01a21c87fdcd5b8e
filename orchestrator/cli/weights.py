"""`tunemill weights`: files of the model that a command fetches, and only when it is told to."""

from __future__ import annotations

from typing import Annotated

import typer

from catalog.errors import SettingsError
from catalog.settings import read_settings
from catalog.tokenizer import SHA256, has_library, pull_tokenizer
from orchestrator.cli.console import JsonFlag, print_json, say, warn

_EXAMPLES = """\b
Examples:
  tunemill weights pull --tokenizer"""

commands = typer.Typer(name="weights", help="Fetch files of the model.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(commands)


@commands.callback()
def weights() -> None:
    """Fetch files of the model."""


@commands.command(epilog=_EXAMPLES)
def pull(
    tokenizer: Annotated[
        bool,
        typer.Option("--tokenizer", help="Fetch the tokenizer (11 MB), which counts the tokens of captions exactly."),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Fetch a pinned file of the model, and check its digest.

    HF_ENDPOINT names a mirror of the model hub, HTTPS_PROXY a proxy. No other command downloads this file.
    """
    if not tokenizer:
        raise SettingsError("no file is named", fix="add --tokenizer")
    file = pull_tokenizer(read_settings())
    if json:
        print_json({"tokenizer": str(file), "sha256": SHA256, "used": has_library()})
        return
    say(str(file), label="tokenizer: ")
    say(SHA256, label="sha256:    ")
    if not has_library():
        warn("nothing reads it yet: install the library with `pip install 'tunemill[tokenizer]'`")

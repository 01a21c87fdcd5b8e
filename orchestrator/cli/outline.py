"""The outline of the commands: help and completion are answered from it, and no command is imported.

Importing a command takes ten times as long as showing its help. `outline.json` holds what the help says of each
command; `make docs` writes it from the commands themselves (`reference.py`), and a test holds both to the same words.
What the outline cannot answer, such as a mistake in the arguments, the program itself does.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from catalog.errors import StoreFullError
from orchestrator.cli import completion
from orchestrator.cli.streams import flush_output

FILE: Final = Path(__file__).with_name("outline.json")
COMPLETE_VARIABLE: Final = "_TUNEMILL_COMPLETE"  # in which the shell's completion script asks
TYPES: Final[Mapping[str, Any]] = {"text": str, "integer": int, "number": float, "switch": bool, "path": Path}
APP_OPTIONS: Final[Mapping[str, Any]] = {
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
_HELP: Final = ("-h", "--help")
_TYPED: Final = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")  # in which shells pass the line on: bash, and the others


class _NotOutlinedError(Exception):
    """The arguments ask for more than help."""


def answer(arguments: Sequence[str]) -> bool:
    """Print the help, or the completions, that were asked for; False when something else was.

    Raises StoreFullError when standard output cannot be written.
    """
    completes = COMPLETE_VARIABLE in os.environ
    if not completes and arguments and not any(each in _HELP for each in arguments):
        return False
    typed = (os.environ.get(name, "").split() for name in _TYPED)
    try:
        if completes:
            _keep_help_plain()
        command = typer.main.get_command(read_app({*arguments, *(word for words in typed for word in words)}))
        command.main(list(arguments) or ["--help"], "tunemill", COMPLETE_VARIABLE, standalone_mode=False)
    except StoreFullError:
        raise
    except Exception:  # whatever it was, the program says it better; a shell that waits for completions gets none
        return completes
    flush_output()
    return True


def read_app(words: Container[str]) -> typer.Typer:
    """The commands of the outline, without what they do; those that `words` do not name only as a list has them."""
    outline: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return _group(outline, words, **APP_OPTIONS)


def _keep_help_plain() -> None:
    """Offer help texts as they are: they hold no markup, and typer imports all of rich to take some out."""
    with suppress(ImportError):
        from typer import _completion_classes  # noqa: PLC0415 - it is typer's own, and another version may lack it

        vars(_completion_classes)["_sanitize_help_text"] = str


class _Unread:
    """A command that converts no values: help needs none, and typer imports pydantic to convert even what is unset."""

    def get_params(self, context: Any) -> Any:
        parameters = super().get_params(context)  # type: ignore[misc]
        for each in parameters:
            each.process_value = partial(_leave, each)
        return parameters


class _Command(_Unread, TyperCommand):
    pass


class _Group(_Unread, TyperGroup):
    pass


def _leave(parameter: Any, context: Any, value: Any) -> Any:
    if parameter.is_eager and parameter.callback and value is True:  # --help, whose callback prints
        return parameter.callback(context, parameter, value)
    return value


def _group(outline: Mapping[str, Any], words: Container[str], **options: Any) -> typer.Typer:
    group = typer.Typer(cls=_Group, **outline["is_group"], **options)
    group.callback(**_texts(outline))(_function(outline["parameters"]))
    for name, below in outline["commands"].items():
        if "is_group" in below and name in words:
            group.add_typer(_group(below, words), name=name)
        else:
            group.command(name, cls=_Command, **_texts(below))(_function(below["parameters"] if name in words else {}))
    return group


def _texts(outline: Mapping[str, Any]) -> dict[str, Any]:
    return {"help": outline["help"], "epilog": outline["epilog"]}


def _function(parameters: Mapping[str, Any]) -> Callable[..., None]:
    """A function with these parameters, from which typer makes options and arguments."""

    def refuse(context: typer.Context, **_: Any) -> None:
        if context.invoked_subcommand is None:
            raise _NotOutlinedError

    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = [inspect.Parameter("context", keyword, annotation=typer.Context)]
    for name, each in parameters.items():
        default = each.get("default", inspect.Parameter.empty)
        signature.append(inspect.Parameter(name, keyword, annotation=_annotation(each), default=default))
    refuse.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    refuse.__annotations__ = {each.name: each.annotation for each in signature}
    return refuse


def _annotation(parameter: Mapping[str, Any]) -> Any:
    about = typer.Argument() if "argument" in parameter else typer.Option()
    for name, value in (parameter.get("argument") or parameter["option"]).items():
        setattr(about, name, getattr(completion, value) if name == "autocompletion" else value)
    choices = parameter.get("choices")
    kind: Any = Literal[tuple(choices)] if choices else TYPES[parameter["type"]]
    if parameter.get("many"):
        kind = list[kind]
    return Annotated[kind, about]

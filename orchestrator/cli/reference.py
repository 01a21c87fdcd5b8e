"""The reference pages: every command, setting, exit code and figure for scripts, from where each is declared.

`python -m orchestrator.cli.reference` (`make docs`) writes them into docs/, and beside them the outline that help and
completion are answered from (`outline.py`); a test keeps all current. They follow from the source alone: neither the
environment nor the terminal changes a letter.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, EnumType
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo
from typer.models import OptionInfo, ParameterInfo

from catalog import errors
from catalog.errors import INTERRUPTED_EXIT_CODE, TunemillError
from catalog.settings import Reader, Settings, variable_of
from orchestrator.cli import app as program
from orchestrator.cli import figures, outline

_FOLDER = Path(__file__).resolve().parents[2] / "docs"
_WRITTEN = "<!-- Written by `make docs`; edit the source that it is made from. -->"
# What a page lists together. A command that no group names stands under "Other commands".
_GROUPS = {
    "Presets and plans": ("presets", "plan"),
    "Runs": ("run", "refresh", "status", "pause", "resume", "cancel", "retry"),
    "What was made": ("catalog", "replay"),
    "Money": ("costs",),
    "A fleet": ("worker", "controller", "records"),
}
_OTHERS = "Other commands"
_TYPES: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "switch", Path: "path"}

_COMMANDS_INTRO = """\
Every command takes `-h` and `--help`. Where a command prints something, `--json` prints it for scripts: instants
are epoch milliseconds, money is micro-dollars. Results go to standard output; progress, notes and errors go to
standard error. With `--json` an error is printed as JSON as well, so that standard output holds one document: the
result, or `{"error": {"code", "kind", "what", "why", "fix"}}`. Each kind of mistake has its own [exit
code](exit-codes.md), and [settings](settings.md) come from the environment. `tunemill --version` prints the version;
`tunemill --install-completion` sets up the completion of your shell, which knows catalogs, zones, genres, runs, takes
and GPUs too."""
_SETTINGS_INTRO = """\
The program reads its settings from environment variables, once, when it starts. The music is defined in `presets/`,
prices are in `infra/prices/`. An empty variable counts as not set. Quotes around a value are removed, and `~` and
`$NAME` in a path are replaced. A wrong value ends the program with [exit code](exit-codes.md) 35 before it does
anything; so does a name that is almost a setting's (`TUNEMILL_MAXUSD`). Other unknown names with this prefix give one
warning.

The *control side* is every command that plans, sends, records or reports. A *worker* is `tunemill worker`, `tunemill
worker calibrate`, `tunemill replay`, or the worker that `tunemill run` starts on its own machine with its own
environment."""
_SETTINGS_END = """\
S3 credentials come from the usual places of boto3: `AWS_ACCESS_KEY_ID`, profiles, instance roles.
[security.md](security.md) explains how to escape signs in the user name or password of a URL, and how to set up TLS."""
_EXIT_CODES_INTRO = """\
Each kind of mistake has a code of its own, so that a script can tell them apart. The tens group them: 10 presets,
20 money, 30 services, 40 workers and models, 50 results. The message on standard error says what happened, why, and
how to correct it.

If the reader of a pipe ends early, as in `tunemill catalog list | head -1`, the command still does its work and ends
with its own code, so that `set -o pipefail` is safe. Only `status --watch` stops then."""
_METRICS_INTRO = """\
Every figure that a script can read from `--json`, by command. A name keeps its meaning; a newer version may add names.
Money is a whole number of micro-dollars (1,000,000 are one dollar). An instant counts milliseconds since 1970 (UTC).
`[]` stands for each entry of a list, and `{zone}` for the name of each entry of an object. An amount that is *null* is
unknown, which is not zero.

<!-- not run: it needs a run -->
```console
$ tunemill costs report --json | grep '"total_usd_micros"' | tail -1    # the last one is the total's
```

Commands that change something print what they did; their names are no figures and stand in no table here."""
_EXIT_CODES_END = """\
A worker ends with the same codes, and with 0 after a stop signal. A supervisor should restart a worker after 1, 40 or a
signal, and without a limit after 30, 31 and 32, which are outages (`tunemill worker --all-gpus` does so, with growing
pauses). After every other code, a person must first correct the fault."""


class Command(NamedTuple):
    """One command as it is typed, and what typer makes of it."""

    name: str
    click: Any

    @property
    def is_group(self) -> bool:
        """True when the command has commands below it."""
        return hasattr(self.click, "commands")

    @property
    def runs(self) -> bool:
        """True when the command does something without a command below it."""
        return not self.is_group or bool(self.click.invoke_without_command)

    @property
    def hints(self) -> dict[str, Any]:
        """The annotation of each parameter."""
        callback = self.click.callback
        return get_type_hints(inspect.unwrap(callback), include_extras=True) if callback else {}


def pages() -> dict[str, str]:
    """File name to text of each page."""
    return {
        "cli.md": _commands_page(),
        "settings.md": _settings_page(),
        "exit-codes.md": _exit_codes_page(),
        "metrics.md": _metrics_page(),
    }


def write_pages(folder: Path = _FOLDER) -> None:
    """Write every page into `folder`."""
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


@cache
def commands() -> tuple[Command, ...]:
    """Every command and group that is not hidden, each group before what is below it."""
    program._register()
    root = typer.main.get_command(program.app)
    return tuple(_below(Command("tunemill", root)))


def _below(group: Command) -> Iterator[Command]:
    for name, click in group.click.commands.items():
        if click.hidden:
            continue
        yield (command := Command(f"{group.name} {name}", click))
        if command.is_group:
            yield from _below(command)


# The outline


def outline_text() -> str:
    """What `outline.py` reads: all that `--help` says of each command."""
    program._register()
    root = Command("tunemill", typer.main.get_command(program.app))
    return json.dumps(_outlined(root), indent=1, ensure_ascii=False) + "\n"


def _outlined(command: Command) -> dict[str, Any]:
    click, callback = command.click, command.click.callback
    taken = inspect.signature(inspect.unwrap(callback)).parameters if callback else {}
    parameters = {
        name: _outlined_parameter(hint, taken[name].default) for name, hint in command.hints.items() if _about(hint)
    }
    said = {"help": click.help, "epilog": click.epilog, "parameters": parameters}
    if not command.is_group:
        return said
    how = {"invoke_without_command": click.invoke_without_command, "no_args_is_help": click.no_args_is_help}
    below = {name: _outlined(Command(name, each)) for name, each in click.commands.items() if not each.hidden}
    return {**said, "is_group": how, "commands": below}


def _about(hint: Any) -> ParameterInfo | None:
    """What a parameter's annotation tells typer."""
    return next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, ParameterInfo)), None)


def _outlined_parameter(hint: Any, default: Any) -> dict[str, Any]:
    about = _about(hint)
    blank: ParameterInfo = typer.Option() if isinstance(about, OptionInfo) else typer.Argument()
    told = {name: value for name, value in vars(about).items() if value != getattr(blank, name)}
    if "autocompletion" in told:
        told["autocompletion"] = told["autocompletion"].__name__
    told = {name: value for name, value in told.items() if isinstance(value, str | int | float | tuple | list)}
    said: dict[str, Any] = {"option" if isinstance(about, OptionInfo) else "argument": told}
    kind = _plain(hint)
    if get_origin(kind) is list:
        kind, said["many"] = _plain(get_args(kind)[0]), True
    words = {each: word for word, each in outline.TYPES.items()}
    said |= {"type": words[kind]} if kind in words else {"choices": _choices(kind)}
    if default is not inspect.Parameter.empty:
        said["default"] = default.value if isinstance(default, Enum) else default
    return said


def _plain(hint: Any) -> Any:
    """The type of a hint without what else it says, and without None."""
    while get_origin(hint) in (Annotated, Union, UnionType):
        hint = next(each for each in get_args(hint) if each is not NoneType)
    return hint


def _choices(kind: Any) -> list[Any]:
    return [each.value for each in kind] if isinstance(kind, EnumType) else list(get_args(kind))  # type: ignore[var-annotated]


# The commands


def _commands_page() -> str:
    found = commands()
    parts = [
        _WRITTEN,
        "# Commands",
        _COMMANDS_INTRO,
    ]
    grouped = _grouped(found)
    for title, members in grouped.items():
        rows = [(f"[`{each.name}`](#{_anchor(each.name)})", _first_sentence(each)) for each in members if each.runs]
        parts += [f"**{title}**", _table(("command", "does"), rows)]
    for title, members in grouped.items():
        parts.append(f"## {title}")
        for command in members:
            parts += _command(command)
    return "\n\n".join(parts) + "\n"


def _grouped(found: Sequence[Command]) -> dict[str, list[Command]]:
    """The commands under the titles of their groups, groups without any left out."""
    title_of = {name: title for title, names in _GROUPS.items() for name in names}
    grouped: dict[str, list[Command]] = {title: [] for title in (*_GROUPS, _OTHERS)}
    for command in found:
        grouped[title_of.get(command.name.split()[1], _OTHERS)].append(command)
    for title, names in _GROUPS.items():
        grouped[title].sort(key=lambda command, names=names: names.index(command.name.split()[1]))  # type: ignore[misc]
    return {title: members for title, members in grouped.items() if members}


def _command(command: Command) -> Iterator[str]:
    yield f"### {command.name}"
    yield f"    {_usage(command)}"
    yield from _paragraphs(command.click.help or "")
    hints = command.hints
    seen = [each for each in command.click.params if each.name in hints and not each.hidden]
    if seen:
        rows = [_parameter(each, hints[each.name]) for each in seen]
        yield _table(("argument or option", "may be", "default", "means"), rows)
    if command.click.epilog:
        yield _examples(command.click.epilog)


def _usage(command: Command) -> str:
    arguments = [_argument(each) for each in command.click.params if each.param_type_name == "argument"]
    below = ["[COMMAND]" if command.runs else "COMMAND"] if command.is_group else []
    return " ".join(
        [command.name, *([] if command.is_group and not command.runs else ["[OPTIONS]"]), *arguments, *below]
    )


def _argument(parameter: Any) -> str:
    """An argument as the usage line has it: NAME, [NAME] or [NAME]..."""
    if parameter.metavar:
        return str(parameter.metavar)
    name = str(parameter.name).upper()
    many = "..." if parameter.nargs == -1 else ""
    return f"{name}{many}" if parameter.required else f"[{name}]{many}"


def _parameter(parameter: Any, hint: Any) -> tuple[str, str, str, str]:
    is_argument = parameter.param_type_name == "argument"
    names = [_argument(parameter)] if is_argument else [*parameter.opts, *parameter.secondary_opts]
    default = "required" if parameter.required else _value(parameter.default)
    return ", ".join(f"`{name}`" for name in names), _kind(hint), default, parameter.help or ""


def _examples(epilog: str) -> str:
    lines = [line for line in epilog.replace("\b", "").strip().splitlines() if line != "Examples:"]
    return "\n".join(f"    {line.strip()}" for line in lines)


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _first_sentence(command: Command) -> str:
    return next(iter(_paragraphs(command.click.help or "")), "")


# The settings


def _settings_page() -> str:
    rows = [
        (
            f"`{variable_of(name)}`",
            _kind_of_field(field),
            _default_of_field(field),
            reader_of(name),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]
    table = _table(("variable", "may be", "default", "read by", "means"), rows)
    return "\n\n".join((_WRITTEN, "# Settings", _SETTINGS_INTRO, table, _SETTINGS_END)) + "\n"


def reader_of(name: str) -> Reader:
    """The programs that act on a setting. Raises ValueError when its declaration does not say."""
    for each in Settings.model_fields[name].metadata:
        if isinstance(each, Reader):
            return each
    raise ValueError(f"{variable_of(name)}: catalog/settings.py does not say which programs act on it")


def _kind_of_field(field: FieldInfo) -> str:
    return _join(_kind(field.annotation), _bounds(field.metadata))


def _default_of_field(field: FieldInfo) -> str:
    if field.default_factory is not None:
        made = field.get_default(call_default_factory=True)
        return _value(Path("~") / made.relative_to(Path.home()))
    return _value(field.default)


# The exit codes


def _exit_codes_page() -> str:
    kinds = {
        kind.exit_code: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, TunemillError) and kind is not TunemillError
    }
    rows = [
        ("0", "–", "Done, or nothing to do.", "–"),
        ("1", "defect", "A defect in the program; it shows a traceback.", "Report it, with the traceback."),
        ("2", "usage", "An unknown command or option, or a value that it does not take.", "See `--help`."),
        *((str(code), *_error(kinds[code])) for code in sorted(kinds)),
        (
            str(INTERRUPTED_EXIT_CODE),
            "interrupted",
            "Ctrl-C, or a run that was left before it was over; nothing is lost.",
            "Run the same command again to go on.",
        ),
    ]
    parts = (
        _WRITTEN,
        "# Exit codes",
        _EXIT_CODES_INTRO,
        _table(("code", "error", "when", "how to correct it"), rows),
        _EXIT_CODES_END,
    )
    return "\n\n".join(parts) + "\n"


def _error(kind: type[TunemillError]) -> tuple[str, str, str]:
    """Name, when and how to mend it, from the class."""
    when, _, mend = (inspect.getdoc(kind) or "").partition("Mend:")
    if not mend:
        raise ValueError(
            f"{kind.__name__}: its docstring in catalog/errors.py does not say how to mend it, after `Mend:`"
        )
    mend = " ".join(mend.split())
    return kind.kind(), " ".join(when.split()), mend[0].upper() + mend[1:]


# The figures


def _metrics_page() -> str:
    titled = [(f"tunemill {each.command}", each) for each in figures.DOCUMENTS]
    linked = [(f"[`{title}`](#{_anchor(title)})", each.says) for title, each in titled]
    parts = [_WRITTEN, "# Metrics", _METRICS_INTRO, _table(("command", "says"), linked)]
    for title, document in titled:
        rows = [
            (f"`{each.name}`", each.kind.words + (" or null" if each.is_nullable else ""), each.kind.unit, each.meaning)
            for each in document.figures
        ]
        parts += [f"## {title}", _table(("name", "is", "unit", "means"), rows)]
    return "\n\n".join(parts) + "\n"


# Values and tables


def _kind(hint: Any) -> str:
    """The allowed values of a type hint, in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _join(_kind(inner[0]), _bounds(inner[1:]))
    if origin in (Union, UnionType):
        return " or ".join(_kind(each) for each in inner if each is not NoneType)
    if origin is list:
        return f"{_kind(inner[0])}, several"
    choices = _choices(hint) if origin is Literal or isinstance(hint, EnumType) else []
    return ", ".join(f"`{each}`" for each in choices) or _TYPES[hint]


def _join(kind: str, bounds: str) -> str:
    return f"{kind} {bounds}" if bounds else kind


def _bounds(about: Iterable[Any]) -> str:
    """The limits that typer's or pydantic's metadata set."""
    limits = {"gt": "above {}", "ge": "from {}", "min": "from {}", "lt": "below {}", "le": "to {}", "max": "to {}"}
    words = []
    for each in about:
        for name, form in limits.items():
            value = getattr(each, name, None)
            if isinstance(value, int | float):
                words.append(form.format(f"{value:,}"))
        if getattr(each, "max_length", None) and not isinstance(each, ParameterInfo):
            words.append(f"of at most {each.max_length} characters")
        if getattr(each, "pattern", None):
            words.append(f"like `{each.pattern}`")
    return " ".join(words)


def _value(value: Any) -> str:
    """A default as a person would type it; a dash where there is none."""
    if value is None or value in ("", ()) or callable(value):
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    write_pages()
    outline.FILE.write_text(outline_text(), encoding="utf-8")

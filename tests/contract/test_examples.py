"""Every example of the help and the docs runs, and every command that an error's remedy names is one that there is."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from catalog.errors import TunemillError
from orchestrator.cli import app as program
from orchestrator.cli import outline, reference
from orchestrator.ledger import open_ledger
from tests.support import transcripts
from tests.support.farm import takes
from tests.support.makers import exactly
from tests.support.preset_files import write

REPO = Path(__file__).parents[2]
GENERATED = ("cli.md", "settings.md", "exit-codes.md")  # from the help, whose examples are read there
PAGES = [
    *(REPO / "README.md", REPO / "presets/README.md"),
    *(page for page in sorted((REPO / "docs").rglob("*.md")) if page.name not in GENERATED),
]
TRANSCRIPTS = set(transcripts.PAGES)  # whose commands tests/flow/test_transcripts.py types, in order
SOURCES = sorted(path for package in ("catalog", "orchestrator", "workers") for path in (REPO / package).rglob("*.py"))
COMMAND = re.compile(
    r"(?:^|[\s/])(?<!--owner )tunemill ((?:(?!  +[a-z]).)+)"
)  # two spaces end one: what it does follows
INLINE = re.compile(r"`(?:TUNEMILL_\w+=\S+ )*tunemill ([^`]+)`")
IS_FORM = re.compile(r"^\.\.\.|\bCOMMAND\b|\[")  # no command but the form of any
TINY = {
    "title": "Tiny",
    "model": "tone",
    "matrix": {"zones": ["hotel_lobby", "spa_thermal"], "genres": ["piano_solo"]},
    "tracks": 2,
}
# What cannot run here, by how it begins, and why.
NEEDS_MORE = {
    "status --watch": "it never ends",
    "run": "tests/flow/test_run.py runs it whole; here it would take a minute",
    "refresh": "the same",
    "worker": "it serves a broker until it is told to stop",
    "controller": "the same",
    "costs import-invoice": "tests/unit/finance/test_invoices.py imports the files of each provider",
    "costs prices import": "tests/contract/test_costs_commands.py imports a catalog of prices",
    "costs strike 3f2a": "it names a worker of a ledger of its own",
    "costs strike --login": "it names a login of a ledger of its own",
    "costs report --run 3f2a": "it names a run of a ledger of its own",
    "costs close": "it closes a month that is over",
    "costs reconcile": "it ends with 52 where a bill is missing",
    "records": "it names a record of a ledger of its own",
    "worker-login end": "it names a login of a ledger of its own",
    "catalog verify": "it needs a run",
    "catalog repair": "it needs a run",
    "catalog gc": "it needs a run",
    "catalog finish": "tests/flow/test_finishing.py runs it whole",
    "catalog duplicates": "it needs a run",
    "catalog choose": "tests/flow/test_choosing.py runs it",
    "catalog yield": "tests/contract/test_judged_takes.py runs it",
    "catalog list hotel_group": "the same",
    "catalog rebuild": "it needs a store without a ledger",
    "costs verify": "it needs a run",
    "costs report": "it needs a run",
    "weights pull": "it fetches from another machine",
}


def examples() -> Iterator[str]:
    """The examples of every command's help, and the commands in the blocks of every page."""
    for command in reference.commands():
        yield from _commands_of((command.click.epilog or "").splitlines())
    for page in (page for page in PAGES if page not in TRANSCRIPTS):
        is_code = False
        for line in page.read_text(encoding="utf-8").splitlines():
            is_code ^= line.startswith("```")
            if is_code or line.startswith("    "):
                yield from _commands_of([line])


def _commands_of(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if found := COMMAND.search(line):
            yield found[1].partition("    #")[0].partition("  #")[0].partition(" # ")[0].strip()


def remedies() -> dict[str, str]:
    """The commands that strings of the source name in backquotes, and where; a blank of an f-string is a word."""
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (each.value if isinstance(each, ast.Constant) else "blank" for each in node.values)
                text = "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            for command in INLINE.findall(" ".join(text.split())):
                found[re.sub("( blank)+", " blank", command)] = f"{path.relative_to(REPO)}:{node.lineno}"
    for page in PAGES:
        for command in INLINE.findall(page.read_text(encoding="utf-8")):
            found[" ".join(command.split())] = str(page.relative_to(REPO))
    return {command: place for command, place in found.items() if not IS_FORM.search(command)}


EXAMPLES = list(dict.fromkeys(examples()))
# A fenced block of a shell, and the remark before it that says why no test runs it.
SHELL_BLOCK = re.compile(
    r"(?:^ *<!-- not run: (?P<why>[^>]+) -->\n)?^ *```(?:console|sh|bash|shell)\n(?P<lines>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


def is_run(line: str) -> bool:
    """True for a line whose command the tests here run, whole."""
    typed = re.split("  +#", line)[0].strip().removeprefix("$ ")
    [*found] = _commands_of([typed])
    is_plain = typed.startswith("tunemill ") and not re.search(r" [|] |&&|[;<>]", typed)
    return is_plain and all(
        each in EXAMPLES and not any(f"{each} ".startswith(f"{name} ") for name in NEEDS_MORE) for each in found
    )


@pytest.mark.parametrize("page", [page for page in PAGES if page not in TRANSCRIPTS], ids=lambda page: page.name)
def test_every_shell_block_is_run_or_says_why_not(page):
    for block in SHELL_BLOCK.finditer(page.read_text(encoding="utf-8")):
        lines = [line for line in block["lines"].splitlines() if line.strip().startswith("$ ")]
        assert lines, f"a command begins with `$ `: {block[0]}"
        if block["why"]:
            assert not all(map(is_run, lines)), f"a test runs all of it: {block[0]}"
        else:
            assert [line for line in lines if not is_run(line)] == [], f"write <!-- not run: why --> before {block[0]}"


def parse(command: str) -> str:
    """What is wrong with the words of a command; "" for nothing."""
    words = shlex.split(re.split(r" (?:[|]|&&) ", command)[0], comments=True)
    app = typer.main.get_command(outline.read_app(words))
    try:
        app.main(words, "tunemill", standalone_mode=False)
    except outline._NotOutlinedError:
        return ""
    except typer.BadParameter.__bases__[0] as error:
        # A sentence names a command without its arguments, a page names a group.
        said = f"{type(error).__name__} {error}"
        is_mention = re.search("MissingParameter|NoArgsIsHelp|Missing command|requires an argument", said)
        return "" if is_mention else said
    return ""


def test_every_example_and_every_remedy_is_a_command_with_options_that_there_are():
    named = {**dict.fromkeys(EXAMPLES, "an example"), **remedies()}
    assert len(named) > 100, "the patterns above no longer find them"
    wrong = {command: (place, parse(command)) for command, place in named.items() if parse(command)}
    assert not wrong, "\n".join(f"{place}: {command}: {why}" for command, (place, why) in wrong.items())


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory) -> Path:
    """A folder with the files that examples name; catalogs of their names are tiny, and need no model."""
    folder = tmp_path_factory.mktemp("sandbox")
    for name in ("hotel_group", "spa_chain", "demo"):
        write(folder / f"presets/catalogs/{name}.yaml", TINY)
    write(folder / "spring.yaml", TINY)
    rows = [{"caption": "slow felt piano", "zone": "hotel_lobby", "genre": "piano_solo"}]
    (folder / "prompts.csv").write_text("caption,zone,genre\nslow felt piano,hotel_lobby,piano_solo\n")
    described = [{**each, "description": each.pop("caption")} for each in map(dict, rows)]
    (folder / "songs.json").write_text(json.dumps(described))
    (folder / "examples").mkdir()
    (folder / "examples/one.json").write_text(json.dumps(rows[0]))
    return folder


def test_every_example_that_can_run_here_runs(sandbox, monkeypatch):
    monkeypatch.chdir(sandbox)
    monkeypatch.setenv("TUNEMILL_HOME", str(sandbox / "home"))
    program._register()
    runnable = [each for each in EXAMPLES if not any(f"{each} ".startswith(f"{name} ") for name in NEEDS_MORE)]
    assert len(runnable) > 20
    failed = {}
    for command in runnable:
        (sandbox / "presets/catalogs/spring.yaml").unlink(missing_ok=True)  # that an earlier example has made
        fleet = {"TUNEMILL_BROKER_URL": "redis://broker.example/0"} if command.startswith("worker-login") else {}
        done = CliRunner().invoke(program.app, shlex.split(command, comments=True), env=fleet)
        if done.exit_code:
            failed[command] = f"{done.exit_code}: {done.output} {done.exception}"
    assert not failed, "\n".join(f"{command}: {said}" for command, said in failed.items())


def test_no_reason_is_left_over():
    assert [name for name in NEEDS_MORE if not any(each.startswith(name) for each in EXAMPLES)] == []


# ------------------------------------------------------------ remedies that are followed


@pytest.mark.parametrize(
    ("before", "refused"),
    [
        ([], "plan nosuch"),
        ([], "presets show nosuch_catalog"),
        (["pause spring"], "pause spring"),
        ([], "costs budgets clear month"),
        ([], "catalog list winter"),
    ],
)
def test_whoever_does_what_an_error_says_is_rid_of_it_or_sees_what_there_is(before, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    program._register()
    with closing(open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        ledger.begin_or_resume_run("spring", "tone", exactly(takes(3)))
    for command in before:
        assert CliRunner().invoke(program.app, command.split()).exit_code == 0
    error = CliRunner().invoke(program.app, refused.split()).exception
    assert isinstance(error, TunemillError), refused
    remedy = INLINE.search(error.fix)
    assert remedy, error.fix
    if remedy[1].startswith("run "):  # which the flow tests follow
        return
    done = CliRunner().invoke(program.app, shlex.split(remedy[1]))
    assert done.exit_code == 0, f"{remedy[1]}: {done.output} {done.exception}"
    if not remedy[1].endswith("list"):
        again = CliRunner().invoke(program.app, refused.split())
        assert again.exit_code == 0, f"{again.output} {again.exception}"

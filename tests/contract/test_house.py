"""The house keeps its shape: imports point one way, modules open with their promise, docs say what the source says."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from catalog.settings import Reader, Settings
from orchestrator.cli import reference

REPO = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("catalog", "orchestrator", "workers") for path in (REPO / package).rglob("*.py"))


def test_imports_point_one_way() -> None:
    checked = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_control_plane_loads_without_torch_or_workers() -> None:
    program = (
        "import sys\n"
        "from orchestrator.cli import app\n"
        "app._register()\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'soundfile', 'workers', 'boto3'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)\n"
    )
    loaded = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_a_module_opens_with_its_promise(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no module docstring"


def test_every_command_and_option_has_help() -> None:
    for command in reference.commands():
        assert command.click.help, f"{command.name} has no help"
        for option in command.click.params:
            assert getattr(option, "help", None) or option.name == "help", f"{command.name}: {option.name} has no help"


@pytest.mark.parametrize("name", ["cli.md", "exit-codes.md", "metrics.md", "settings.md"])
def test_reference_pages_are_current(name: str) -> None:
    written = (REPO / "docs" / name).read_text(encoding="utf-8")
    assert written == reference.pages()[name], f"docs/{name} is not what the source says: run `make docs`"


def test_reference_pages_do_not_depend_on_where_they_are_written(tmp_path: Path) -> None:
    odd = {
        "HOME": "/nowhere",
        "COLUMNS": "33",
        "TERM": "dumb",
        "FORCE_COLOR": "1",
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
    }
    ours = {"PATH": os.environ["PATH"], "TUNEMILL_HOME": "/elsewhere", "TUNEMILL_HEARTBEAT_S": "3", **odd}
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from orchestrator.cli.reference import write_pages\n"
        "write_pages(Path(sys.argv[1]))\n"
        "sys.exit(', '.join({'torch', 'workers'} & set(sys.modules)) or 0)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=REPO, env=ours, check=True)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == reference.pages()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_says_what_it_means_and_who_acts_on_it(name: str) -> None:
    assert Settings.model_fields[name].description
    readers = {"catalog": Reader.BOTH, "orchestrator": Reader.CONTROL, "workers": Reader.WORKER}
    names = _names_of_setting(name)
    seen = {readers[path.relative_to(REPO).parts[0]] for path in SOURCES if names & _settings_read_in(path)}
    assert seen, f"nothing reads {name}"
    expected = seen.pop() if len(seen) == 1 else Reader.BOTH
    assert reference.reader_of(name) is expected


def _names_of_setting(name: str) -> set[str]:
    """By which attributes of Settings it is read: itself, and the properties that are made of it."""
    body = {node.name: ast.unparse(node) for node in _settings_class().body if isinstance(node, ast.FunctionDef)}
    properties = (attribute for attribute, value in vars(Settings).items() if isinstance(value, property))
    return {name, *(each for each in properties if re.search(rf"self\.{name}\b", body.get(each, "")))}


@cache
def _settings_class() -> ast.ClassDef:
    tree = ast.parse((REPO / "catalog" / "settings.py").read_text())
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")


@cache
def _settings_read_in(path: Path) -> frozenset[str]:
    """The attributes that a module reads of its settings."""
    return frozenset(re.findall(r"\b_?settings(?:\(\))?\.(\w+)", path.read_text()))


def test_the_guide_names_files_that_exist() -> None:
    guide = (REPO / "docs" / "contributing.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|Makefile|pyproject\.toml|CHANGELOG\.md|README\.md)`", guide))
    assert len(named) > 40, "the pattern above no longer finds the paths of the guide"
    assert not sorted(path for path in named if not (REPO / path).exists())


@pytest.mark.parametrize("page", sorted(path.name for path in (REPO / "docs").glob("*.md")))
def test_links_between_pages_lead_somewhere(page: str) -> None:
    folder = REPO / "docs"
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", (folder / page).read_text(encoding="utf-8"))
    assert not sorted(target for target in targets if not (folder / target).exists())


def test_the_lock_pins_what_the_project_asks_for_and_leaves_torch_to_the_machine() -> None:
    lines = (REPO / "infra" / "constraints-dev.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    locked = {canonicalize_name(pin.name): pin.specifier for pin in pins}
    assert all(re.fullmatch(r"==[\w.]+", str(specifier)) for specifier in locked.values())
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name not in ("torch", "tunemill"):
            assert name in locked, f"{name} is not in infra/constraints-dev.txt: run `make lock`"
            assert requirement.specifier.contains(str(locked[name])[2:], prereleases=True), name
    assert not [name for name in locked if re.match("torch$|triton|nvidia-|cuda-", name)]


def test_exit_codes_are_not_shared() -> None:
    from catalog import errors

    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TunemillError)
    ]
    codes = [kind.exit_code for kind in kinds if kind is not errors.WorkerError]
    assert len(codes) == len(set(codes))

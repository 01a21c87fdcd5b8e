"""The house keeps its shape: imports point one way, modules open with their promise, docs name every command."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

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


def _commands() -> list[tuple[str, Any]]:
    from orchestrator.cli import app as program

    program._register()
    found: list[tuple[str, Any]] = []

    def walk(name: str, command: Any) -> None:
        children = getattr(command, "commands", None)
        if children is None:
            found.append((name, command))
            return
        for child, sub in children.items():
            walk(f"{name} {child}".strip(), sub)

    walk("", typer.main.get_command(program.app))
    return found


def test_every_command_and_option_has_help_and_every_command_stands_in_the_readme() -> None:
    readme = (REPO / "README.md").read_text()
    for name, command in _commands():
        assert command.help, f"tunemill {name} has no help"
        assert f"tunemill {name}" in readme, f"README.md does not mention tunemill {name}"
        for option in command.params:
            assert getattr(option, "help", None) or option.name == "help", f"tunemill {name}: {option.name} has no help"


def test_the_readme_names_every_setting_and_every_exit_code() -> None:
    from catalog import errors
    from catalog.settings import Settings

    readme = (REPO / "README.md").read_text()
    for name in Settings.model_fields:
        assert f"TUNEMILL_{name.upper()}" in readme, f"README.md does not name TUNEMILL_{name.upper()}"
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TunemillError) and kind is not errors.TunemillError
    }
    for code in codes:
        assert f"| {code} |" in readme, f"README.md does not explain exit code {code}"


def test_exit_codes_are_not_shared() -> None:
    from catalog import errors

    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TunemillError)
    ]
    codes = [kind.exit_code for kind in kinds if kind is not errors.WorkerError]
    assert len(codes) == len(set(codes))

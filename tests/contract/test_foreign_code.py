"""No code that comes with weights, messages or files is ever run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("catalog", "orchestrator", "workers") for path in (REPO / package).rglob("*.py"))
RUNNERS = {"eval", "exec", "compile", "__import__"}
# Whole modules that turn bytes into behaviour. `UnpicklingError` alone is a name for an error.
LOADERS = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg or "**": word.value for word in node.keywords}


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_nothing_that_is_read_can_run_code(path):
    tree = ast.parse(path.read_text())
    for name, words in calls(tree):
        assert name not in RUNNERS, f"{path} calls {name}"
        assert name not in {"yaml.full_load", "yaml.unsafe_load"}, f"{path} calls {name}"
        if name == "yaml.load":
            assert ast.unparse(words["Loader"]) in {"yaml.BaseLoader", "yaml.SafeLoader"}, f"{path} builds objects"
        assert "trust_remote_code" not in words or is_constant(words["trust_remote_code"], False), f"{path}: {name}"
        if name == "torch.load":
            assert is_constant(words.get("weights_only"), True), f"{path} unpickles"
        if name.endswith("Tokenizer.from_pretrained"):
            assert is_constant(words.get("trust_remote_code"), False), f"{path}: {name} may ask for remote code"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not LOADERS & {alias.name for alias in node.names}, f"{path} imports {ast.unparse(node)}"
        if isinstance(node, ast.ImportFrom) and node.module in LOADERS:
            assert {alias.name for alias in node.names} == {"UnpicklingError"}, f"{path}: {ast.unparse(node)}"

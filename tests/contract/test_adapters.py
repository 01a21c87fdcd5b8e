"""Who talks to the world is chosen at the edge: stores, brokers, ledgers and engines are opened in few places."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.models import MODELS

ROOT = Path(__file__).parents[2]
EDGES = ("orchestrator/cli/", "orchestrator/runs/", "workers/wiring.py")
# What opens an adapter -> where else it may be called: in the module that defines it.
OPENERS = {
    "open_store": "catalog/store/opening.py",
    "open_configured_store": "catalog/store/opening.py",
    "open_proven_store": "catalog/store/opening.py",
    "FolderStore": "catalog/store/opening.py",
    "S3Store": "catalog/store/opening.py",
    "Queues": "orchestrator/control/broker.py",
    "open_ledger": "orchestrator/ledger/ledger.py",
}
SOURCES = sorted(path for package in ("catalog", "orchestrator", "workers") for path in (ROOT / package).rglob("*.py"))


def calls(name: str) -> Iterator[str]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and name in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")):
                yield path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("opener", OPENERS)
def test_adapters_are_opened_at_the_edge(opener: str) -> None:
    opened = set(calls(opener))
    assert opened, f"nobody calls {opener}"
    assert [place for place in sorted(opened) if not place.startswith((*EDGES, OPENERS[opener]))] == []


@pytest.mark.parametrize("engine", sorted({row.engine for row in MODELS}))
def test_nobody_but_an_engine_names_its_modules(engine: str) -> None:
    """Wiring finds an engine by the word in the model's row, and the rest of the worker by the protocol alone."""
    naming, at_home = set(), (f"workers/{engine}.py", f"workers/{engine}/", "workers/__main__.py")
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
            if any(name.startswith((f"workers.{engine}:", f"workers.{engine}.")) for name in named):
                naming.add(path.relative_to(ROOT).as_posix())
    assert naming, f"{engine} does not say where it begins"
    assert [place for place in sorted(naming) if not place.startswith(at_home)] == []

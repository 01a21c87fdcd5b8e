"""Who talks to the world is chosen at the edge: stores, brokers, ledgers and engines are opened in few places."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EDGES = ("orchestrator/cli/", "orchestrator/runs/", "workers/wiring.py")
# What opens an adapter -> where else it may be called: in the module that defines it.
OPENERS = {
    "open_store": "catalog/store/opening.py",
    "open_configured_store": "catalog/store/opening.py",
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


def test_only_wiring_names_the_engines_modules() -> None:
    engines = ("workers.tone:", "workers.ace_step.")
    naming = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(engines):
                naming.add(path.relative_to(ROOT).as_posix())
    assert naming == {"workers/wiring.py"}

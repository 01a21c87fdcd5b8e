"""What unit tests of the command line share: a terminal that is not there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.cli import console


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes standard output a colourless terminal of so many columns."""

    def of(width: int) -> None:
        for name, value in {"_force_terminal": True, "_color_system": None, "_width": width, "_height": 40}.items():
            monkeypatch.setattr(console.out, name, value)

    return of

"""The drawing of the import layers in docs/architecture.md, made from the contracts that prove them.

`python -m tests.support.layers` (`make docs`) writes it; a test keeps it current.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

REPO: Final = Path(__file__).resolve().parents[2]
PAGE: Final = REPO / "docs" / "architecture.md"
_DRAWN: Final = ("catalog", "orchestrator", "workers")
_BLOCK: Final = re.compile(r"(?<=<!-- layers: begin -->\n).*?(?=<!-- layers: end -->)", re.DOTALL)


def drawing() -> str:
    """The packages and the rooms of each, highest first; what stands on one line does not import each other."""
    contracts = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    of_package = {
        contract["containers"][0]: contract for contract in contracts if len(contract.get("containers", ())) == 1
    }
    between = next(contract for contract in contracts if contract.get("layers") and "containers" not in contract)
    return "\n" + _tiers("the packages", between) + "".join(_tiers(name, of_package[name]) for name in _DRAWN)


def _tiers(name: str, contract: dict[str, Any]) -> str:
    lines = [f"    {name}", *(f"      {' · '.join(layer.split(' | '))}" for layer in contract["layers"])]
    return "".join(f"{line}\n" for line in (*lines, ""))


def with_drawing(page: str) -> str:
    """The page with the drawing as it is now."""
    return _BLOCK.sub(drawing(), page)


if __name__ == "__main__":
    PAGE.write_text(with_drawing(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

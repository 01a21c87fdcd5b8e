"""Schemas: the preset language as JSON Schema, with which an editor completes and checks a preset.

`python -m orchestrator.matrix.schema` writes them into presets/schemas/; a test keeps them current.
"""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.matrix.files import KINDS

_FOLDER = Path(__file__).resolve().parents[2] / "presets" / "schemas"


def schemas() -> dict[str, str]:
    """File name to text of each schema."""
    texts: dict[str, str] = {}
    for kind, model in KINDS.items():
        name = f"{kind.removesuffix('s')}.schema.json"
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(by_alias=True)}
        # A file that extends another need not repeat required keys.
        required = schema.pop("required")
        schema |= {"if": {"not": {"required": ["extends"]}}, "then": {"required": required}}
        texts[name] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return texts


def write_schemas(folder: Path = _FOLDER) -> None:
    """Write every schema into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schemas()

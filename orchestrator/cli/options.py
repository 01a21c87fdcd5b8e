"""Options that several commands share, each named and explained in one way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

CatalogArgument = Annotated[str, typer.Argument(help="A catalog's name, or the path of its file.")]
PresetsOption = Annotated[
    Path | None,
    typer.Option("--presets", help="Read the presets of this folder (zones/, genres/, catalogs/).", file_okay=False),
]
PricesOption = Annotated[Path | None, typer.Option("--prices", help="Read the dated price files of this folder.")]
ModelOption = Annotated[str | None, typer.Option(help="Render with this model instead of the catalog's.")]
GpuOption = Annotated[str | None, typer.Option(help="Reckon with this GPU, as the price book names it.")]


def is_attended() -> bool:
    """True when a person can read and answer: standard input and standard error are terminals."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()

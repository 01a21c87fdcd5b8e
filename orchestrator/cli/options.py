"""Options that several commands share, so that each is named and explained in one way."""

from __future__ import annotations

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

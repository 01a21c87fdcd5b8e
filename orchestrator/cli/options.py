"""Options that several commands share, each named and explained in one way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import completion

CatalogArgument = Annotated[
    str, typer.Argument(help="A catalog's name, or the path of its file.", autocompletion=completion.catalogs)
]
PresetsOption = Annotated[
    Path | None,
    typer.Option("--presets", help="Read the presets of this folder (zones/, genres/, catalogs/).", file_okay=False),
]
PricesOption = Annotated[
    Path | None, typer.Option("--prices", help="Use the price files of this folder before all others.")
]
ModelOption = Annotated[str | None, typer.Option(help="Render with this model instead of the catalog's.")]
ZoneOption = Annotated[
    list[str] | None,
    typer.Option("--zone", help="Only takes of this zone; may be repeated.", autocompletion=completion.zones),
]
GenreOption = Annotated[
    list[str] | None,
    typer.Option("--genre", help="Only takes of this genre; may be repeated.", autocompletion=completion.genres),
]
AxisOption = Annotated[
    list[str] | None,
    typer.Option("--axis", metavar="AXIS=VALUE", help="Only takes with this value of an axis; may be repeated."),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most this number of missing takes.")]
SampleOption = Annotated[
    str | None,
    typer.Option("--sample", metavar="N-per-cell", help="Only the first takes of N tracks of each cell."),
]
NoReplaceOption = Annotated[
    bool,
    typer.Option("--no-replace", help="Refuse (exit code 53) to replace or retire accepted tracks."),
]
GpuOption = Annotated[
    str | None,
    typer.Option(help="Estimate with this GPU: h100, rtx4090, a100-40gb.", autocompletion=completion.gpus),
]


def is_attended() -> bool:
    """True when a person can read and answer: standard input and standard error are terminals."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()

"""The preset language and the matrix: read YAML files and expand a catalog into its tracks.

`load_catalog` reads, `cells` counts, `expand` makes the tracks. Every mistake in a file is found here, with its line,
before anything is sent or paid for.
"""

from orchestrator.matrix.cells import CatalogCells, Cell, cells, lay_out
from orchestrator.matrix.expand import expand, expand_cell
from orchestrator.matrix.layers import writable_root
from orchestrator.matrix.planned import PlannedTrack
from orchestrator.matrix.reading import LoadedCatalog, PresetLibrary, load_catalog, open_library

__all__ = [
    "CatalogCells",
    "Cell",
    "LoadedCatalog",
    "PlannedTrack",
    "PresetLibrary",
    "cells",
    "expand",
    "expand_cell",
    "lay_out",
    "load_catalog",
    "open_library",
    "writable_root",
]

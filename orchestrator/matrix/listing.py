"""Listing: every preset, also a broken one, with the layer it is read from and the layers whose presets it hides."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog.errors import TunemillError
from orchestrator.matrix.layers import LayerName
from orchestrator.matrix.names import printable
from orchestrator.matrix.problems import error_as_dict
from orchestrator.matrix.reading import Kind, PresetLibrary


@dataclass(frozen=True)
class ListedPreset:
    """One preset: its file, and the file's description of it, or the reason why the file cannot be read."""

    name: str
    layer: LayerName
    path: Path
    shadows: tuple[LayerName, ...] = ()  # the layers that have one of this name too
    facts: dict[str, Any] = field(default_factory=dict)  # title, description, and figures by kind
    error: TunemillError | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        place = {"layer": str(self.layer), "path": printable(str(self.path)), "shadows": [*map(str, self.shadows)]}
        error = {"error": error_as_dict(self.error)} if self.error else {}
        return {"name": printable(self.name), **self.facts, **place, **error}


def list_presets(library: PresetLibrary, kind: Kind) -> list[ListedPreset]:
    """Every preset of `kind` by name, then the files that are no presets because of their names."""
    listed = [find_listed(library, kind, name) for name in library.names(kind)]
    for layer in library.layers:
        folder = layer.root / kind
        faults = layer.files(kind).faults
        listed += [ListedPreset(each.file, layer.layer, folder / each.file, error=each.error) for each in faults]
    return listed


def find_listed(library: PresetLibrary, kind: Kind, name: str) -> ListedPreset:
    """The preset `name`, which some layer must have."""
    top, *rest = library.holding(kind, name)
    shadows, path = tuple(each.layer for each in rest), top.root / kind / f"{name}.yaml"
    try:
        return ListedPreset(name, top.layer, path, shadows, _facts(library, kind, name))
    except TunemillError as error:
        return ListedPreset(name, top.layer, path, shadows, error=error)


def _facts(library: PresetLibrary, kind: Kind, name: str) -> dict[str, Any]:
    if kind == "catalogs":
        catalog = library.catalog(name).content
        figures = {"model": catalog.model, "tracks": catalog.tracks, "prompts": catalog.prompts}
        return {"title": catalog.title, "description": catalog.description, **figures}
    content = (library.zone(name) if kind == "zones" else library.genre(name)).content
    return {"title": content.name, "description": content.description, "tempo": list(content.tempo)}

"""Preset folders for tests: a small valid library, in which a test breaks one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from catalog.settings import Settings
from orchestrator.matrix.reading import LoadedCatalog, load_catalog

ZONE: dict[str, Any] = {
    "name": "Spa",
    "description": "Rest.",
    "energy": 1,
    "tempo": [60, 100],
    "moods": ["calm", "warm", "still"],
    "scenes": ["a quiet spa", "a warm pool"],
    "title_words": ["Steam", "Stone", "Pool", "Cedar", "Mist", "Linen"],
}
GENRE: dict[str, Any] = {
    "name": "Ambient",
    "description": "Soft.",
    "captions": [
        "a {mood} and {mood2} {genre} piece with {instruments}, {texture}, music for {scene}",
        "{tempo_word} {genre} with {instruments} in a {mood} mood, {texture}",
    ],
    "instruments": ["felt piano", "soft pads", "warm strings", "glass bells"],
    "textures": ["long reverb", "tape hiss", "close room"],
    "moods": ["open", "tender", "hopeful", "floating"],
    "tempo": [50, 90],
    "keys": ["C major", "A minor", "F major", "D minor"],
    "title_words": ["Drift", "Glow", "Halo", "Tide", "Veil", "Air"],
}


def write(file: Path, content: Any) -> Path:
    """Write `content` (text as it is, anything else as YAML) and hand the path back."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return file


def a_library(root: Path, zones: int = 2, genres: int = 2) -> Path:
    """A folder with zones z0, z1 ... and genres g0, g1 ..."""
    for number in range(zones):
        write(root / f"zones/z{number}.yaml", {**ZONE, "name": f"Zone {number}"})
    for number in range(genres):
        write(root / f"genres/g{number}.yaml", {**GENRE, "name": f"Genre {number}"})
    (root / "catalogs").mkdir(exist_ok=True)
    return root


def a_catalog(root: Path, name: str = "c", **content: Any) -> LoadedCatalog:
    """A catalog in the library at `root`: every zone and genre, 24 tracks, unless `content` says otherwise."""
    whole = {"title": "C", "matrix": {"zones": "all", "genres": "all"}, "tracks": 24, **content}
    write(root / f"catalogs/{name}.yaml", {key: value for key, value in whole.items() if value is not None})
    return load_catalog(name, root, Settings())

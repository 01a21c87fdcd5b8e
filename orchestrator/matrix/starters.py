"""Starters: a new preset file to edit, made from a short commented template or as a copy of an existing preset.

A copy keeps the text and its comments. The parts whose meaning depends on the place are adapted: the schema line for
editors, the word 'all', and the file of prompts, which is copied too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from catalog.errors import PresetError, TunemillError, UnknownNameError
from orchestrator.matrix.files import CatalogFile
from orchestrator.matrix.layers import schema_line
from orchestrator.matrix.located import read_text, shown
from orchestrator.matrix.names import NAME_RULE, as_name, bare, is_name, listed, quoted
from orchestrator.matrix.problems import closest
from orchestrator.matrix.reading import Kind, LoadedCatalog, Preset, PresetLibrary

_GENRES_MAX: Final = 3
_ZONE: Final = """\
name: {title}
description: Say here what the place is and what people do there; the model never reads it.
energy: 2                      # 1 still, 5 driving
tempo: [70, 110]               # slowest and fastest, in beats per minute
moods:                         # at least 3, for "a ... mood"
  - warm
  - unhurried
  - welcoming
scenes:                        # at least 2, for "music for ..."
  - a quiet room with daylight
  - people talking softly
title_words: [Room, Light, Hour, Window, Corner, Table]     # at least 6; titles are made of them
# loudness_lufs: -16           # of the finished file; -18 suits quiet places
# avoid: [harsh distortion, lead vocals]                    # the planner stays away from these
# defaults: {{duration_s: [120, 150, 180]}}                   # settings of this zone in every catalog
"""
_GENRE: Final = """\
name: {title}                  # fills {{genre}}
description: Say here what it sounds like; the model never reads it.
captions:                      # at least 2; the filled sentence is what the model reads
  - "{{tempo_word}} {{genre}} led by {{instruments}}, {{mood}} and {{mood2}}, {{texture}}, for {{scene}}, instrumental"
  - "{{mood}} {{genre}} for {{scene}}: {{instruments}}, {{mood2}}, {{texture}}, no vocals"
instruments:                   # at least 4; name how they are played
  - felt-damped piano and soft brushed drums
  - fingerpicked nylon-string guitar and upright bass
  - muted flugelhorn, warm electric piano and shaker
  - bowed double bass and airy vibraphone
textures: ["a dry, close room sound", warm tape saturation, a wide but intimate stereo image]   # at least 3
moods: [tender, sunlit, breezy, nostalgic]                  # at least 4
tempo: [70, 120]               # slowest and fastest, in beats per minute
keys: [C major, G major, A minor, D minor]                  # at least 4
# timesignatures: ["4"]        # beats of a bar: "2", "3", "4" or "6"
title_words: [Evening, River, Garden, Lantern, Harbour, Orchard]   # at least 6; titles are made of them
"""
_CATALOG: Final = """\
title: {title}
description: Say here what the music is for.
matrix:                        # every zone with every genre; `tunemill presets list` names them
  zones: [{zone}]
  genres: [{genres}]
  tempo_clashes: exclude       # leaves out pairs whose tempo ranges do not meet; 'error' lists them
tracks_per_cell: 4             # or 'tracks: 100', shared by all of them
# defaults:
#   duration_s: [120, 150, 180]
#   takes: 3                   # of each track, to choose from
# keep: 1                      # the best take of each track is listed, the others are spare
"""


def write_starter(kind: Kind, name: str, root: Path, library: PresetLibrary, *, force: bool = False) -> Path:
    """Write a small preset that can be rendered without edits to the layer at `root`. Raises PresetError."""
    path = _path_for(kind, name, root, force=force)
    title = json.dumps(name.replace("_", " ").replace("-", " ").capitalize())
    if kind == "catalogs":
        zone, genres = _some_names(library)
        text = _CATALOG.format(title=title, zone=zone, genres=", ".join(genres))
    else:
        text = (_ZONE if kind == "zones" else _GENRE).format(title=title)
    return _written(path, schema_line(kind.removesuffix("s"), root) + text)


def write_copy(kind: Kind, name: str, source: str, root: Path, library: PresetLibrary, *, force: bool = False) -> Path:
    """Write the text of the preset `source` as `name` to the layer at `root`. Raises the errors of reading `source`."""
    path = _path_for(kind, name, root, force=force)
    if source not in (names := library.names(kind)):
        guess = closest(bare(source), names)
        raise UnknownNameError(
            f"there is no {kind.removesuffix('s')} {quoted(source)} to copy",
            why=listed(names),
            fix=f"write --from {guess}" if guess else "name one of these presets after --from, or leave --from out",
        )
    preset: Preset[CatalogFile] | None = None
    if kind == "catalogs":
        preset = library.catalog(source)
        file = preset.path
    else:
        file = (library.zone(source) if kind == "zones" else library.genre(source)).path
    text = re.sub(r"\A(#.*\$schema=.*\n)?", schema_line(kind.removesuffix("s"), root), read_text(file), count=1)
    # A copy is another catalog, zone or genre, not the same one under a new name.
    text = re.sub(r"(?m)^renamed_from:.*\n(?:[ \t-].*\n)*", "", text)
    if preset:
        text = _with_names(text, LoadedCatalog(preset, library))
        _bring_prompts(preset, path.parent, force=force)
    return _written(path, text)


def _path_for(kind: Kind, name: str, root: Path, *, force: bool) -> Path:
    """The new file's path. Raises PresetError for an invalid name, and for a file that exists already."""
    if not is_name(name) or name == "all":
        near = as_name(name)
        raise PresetError(
            f"{quoted(name)} cannot be the name of a {kind.removesuffix('s')}",
            why="in a matrix, the word all means every preset"
            if name == "all"
            else f"the name becomes part of object keys: {NAME_RULE}",
            fix=f"write {near}" if near not in ("", "all") else "write another name, such as my_first",
        )
    path = root / kind / f"{name}.yaml"
    if path.exists() and not force:
        raise PresetError(
            f"{shown(path)} exists already", fix="edit that file, choose another name, or overwrite it with --force"
        )
    return path


def _some_names(library: PresetLibrary) -> tuple[str, list[str]]:
    """A zone and a few genres whose tempo ranges meet its own; those of the highest layers first."""
    for zone in _readable(library, "zones"):
        low, high = library.zone(zone).content.tempo
        ranges = {name: library.genre(name).content.tempo for name in _readable(library, "genres")}
        if meeting := [name for name, tempo in ranges.items() if tempo[0] <= high and low <= tempo[1]]:
            return zone, meeting[:_GENRES_MAX]
    raise PresetError(
        "a catalog needs a zone and a genre whose tempo ranges meet, and there are none",
        fix="make a zone and a genre first: `tunemill presets new zone NAME`, `tunemill presets new genre NAME`",
    )


def _readable(library: PresetLibrary, kind: Kind) -> Iterator[str]:
    for name in dict.fromkeys(name for layer in library.layers for name in layer.files(kind).names):
        try:
            _ = library.zone(name) if kind == "zones" else library.genre(name)
        except TunemillError:
            continue
        yield name


def _with_names(text: str, catalog: LoadedCatalog) -> str:
    """`text` with names in place of 'all', which means another layer's where the copy lies."""
    matrix = catalog.preset.content.matrix
    for kind, asked in (("zones", matrix.zones), ("genres", matrix.genres)) if matrix else ():
        if asked == ("all",):
            names = ", ".join(catalog.every("zones" if kind == "zones" else "genres"))
            text = re.sub(rf"\b{kind}:\s*(\[\s*)?['\"]?all\b['\"]?(?(1)\s*\])", f"{kind}: [{names}]", text)
    return text


def _bring_prompts(preset: Preset[CatalogFile], folder: Path, *, force: bool) -> None:
    """Copy the file of prompts that a catalog names into `folder`, unless it lies there."""
    if preset.content.prompts is None:
        return
    source, target = preset.at("prompts").file.parent / preset.content.prompts, folder / preset.content.prompts
    if source.parent.resolve() == folder.resolve():
        return
    if target.exists() and not force:
        raise PresetError(
            f"{shown(target)} exists already",
            why="the prompts of the catalog would be written to that file",
            fix="choose another name, or overwrite the file with --force",
        )
    _written(target, read_text(source))


def _written(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PresetError(
            f"{shown(path.parent)}: cannot be written: {error.strerror}",
            fix="name another preset folder with --presets",
        ) from None
    return path

"""Layers: the preset folders that a command reads, in order of precedence.

The user's own folder comes first: `--presets` or TUNEMILL_PRESETS names it, and it is ./presets otherwise. Then come
the presets in the home, then the installed ones. New files are written to the user's folder, or to the home if there is
none; an upgrade replaces the installed ones.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from catalog.errors import UnreadableFileError
from catalog.settings import Settings
from orchestrator.matrix.files import KINDS
from orchestrator.matrix.located import is_folder, shown


class LayerName(StrEnum):
    """The origin of a layer, as lists show it."""

    INSTALLED = "installed"
    HOME = "home"
    YOURS = "yours"


class LayerFolder(NamedTuple):
    """The folder of one layer: it holds zones/, genres/ and catalogs/."""

    name: LayerName
    root: Path


def find_layers(option: Path | None, settings: Settings) -> list[LayerFolder]:
    """The layers that there are, the highest first; a folder that is two of them is the higher one.

    Raises UnreadableFileError for a folder of the home that may not be looked into, and where there is no layer.
    """
    installed = find_installed()
    layers = []
    if root := _users_folder(option, settings, installed):
        layers.append(LayerFolder(LayerName.YOURS, root))
    if holds_presets(home := _home_folder(settings)):
        layers.append(LayerFolder(LayerName.HOME, home))
    if installed:
        layers.append(LayerFolder(LayerName.INSTALLED, installed))
    if not layers:
        raise UnreadableFileError(
            "no preset folder found",
            why=f"there are no presets in ./presets and {shown(home)}, and the program was installed without presets",
            fix="name a preset folder with --presets or TUNEMILL_PRESETS, or install the program again",
        )
    distinct: dict[Path, LayerFolder] = {}
    for layer in layers:
        distinct.setdefault(layer.root.resolve(), layer)
    return list(distinct.values())


def writable_root(option: Path | None, settings: Settings) -> Path:
    """The folder that new presets go to; it need not exist yet. It is never the installed one, unless named as such."""
    return _users_folder(option, settings, find_installed()) or _home_folder(settings)


def find_installed() -> Path | None:
    """The presets that came with the program: the checkout's, else those beside the installed package."""
    checkout = Path(__file__).resolve().parents[2] / "presets"
    places = (checkout, Path(sys.prefix) / "share" / "tunemill" / "presets")
    return next((place for place in places if is_folder(place / "catalogs")), None)


def holds_presets(root: Path) -> bool:
    """True when `root` has a folder of some kind of preset. Raises UnreadableFileError when it may not be asked."""
    try:
        return any((root / kind).is_dir() for kind in KINDS)
    except PermissionError as error:
        # Skipping a layer without a message would change the plan.
        raise UnreadableFileError(
            f"{shown(root)}: cannot be read: {error.strerror}",
            fix="give this user the right to read the folder",
        ) from None
    except (OSError, ValueError):  # a name that no folder can have
        return False


def schema_line(kind: str, root: Path) -> str:
    """The line by which editors find the schema of a file of `kind` ("zone") in the layer at `root`; "" without one."""
    name = f"{kind}.schema.json"
    if (root / "schemas" / name).is_file():
        return f"# yaml-language-server: $schema=../schemas/{name}\n"
    installed = find_installed()
    if installed is None or not (installed / "schemas" / name).is_file():
        return ""
    return f"# yaml-language-server: $schema={(installed / 'schemas' / name).as_uri()}\n"


def _users_folder(option: Path | None, settings: Settings, installed: Path | None) -> Path | None:
    """The folder that the user named, else ./presets, unless those are the installed ones."""
    for chosen in (option, settings.presets):
        if chosen is not None:
            return chosen.absolute()
    here = Path("presets")
    if not holds_presets(here) or (installed and here.resolve() == installed.resolve()):
        return None
    return here.absolute()


def _home_folder(settings: Settings) -> Path:
    return settings.home.absolute() / "presets"

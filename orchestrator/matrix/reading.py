"""Reading: the preset library on disk, file by file, with inheritance and errors that name the line.

A library is a folder with zones/, genres/ and catalogs/. Files are read when they are asked for and kept.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from catalog.errors import PresetError, UnknownNameError, UnreadableFileError
from catalog.settings import Settings
from orchestrator.matrix.files import KINDS, CatalogFile, GenreFile, ZoneFile
from orchestrator.matrix.located import Located, Place, merged, read_located, shown
from orchestrator.matrix.problems import closest, validated

Kind = Literal["zones", "genres", "catalogs"]
_ONE: Final[dict[str, str]] = {"zones": "zone", "genres": "genre", "catalogs": "catalog"}
_SLUG_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
_F = TypeVar("_F", ZoneFile, GenreFile, CatalogFile)


@dataclass(frozen=True)
class Preset(Generic[_F]):
    """One preset: its name (the file's stem), what it says, and where each part was written."""

    name: str
    path: Path
    content: _F
    tree: Located = field(repr=False)

    def at(self, *path: str | int) -> Place:
        """Where `path` was written."""
        return self.tree.at(path)


class LoadedCatalog(NamedTuple):
    """A catalog with every zone and genre of its library that its matrix names."""

    preset: Preset[CatalogFile]
    library: PresetLibrary

    @property
    def name(self) -> str:
        """The catalog's slug: the first part of every track's key."""
        return self.preset.name

    @property
    def title(self) -> str:
        """What people call it."""
        return self.preset.content.title

    @property
    def model(self) -> str:
        """The model as written; 'auto' leaves the choice to whoever runs it."""
        return self.preset.content.model


class PresetLibrary:
    """The presets below one folder."""

    def __init__(self, root: Path) -> None:
        if not any((root / kind).is_dir() for kind in KINDS):
            raise UnreadableFileError(
                f"{shown(root)}: this is no preset folder",
                why="it has none of zones/, genres/ and catalogs/",
                fix="name the folder that holds them with --presets or TUNEMILL_PRESETS",
            )
        self.root = root
        self._zones: dict[str, Preset[ZoneFile]] = {}
        self._genres: dict[str, Preset[GenreFile]] = {}
        self._names: dict[str, list[str]] = {}

    def names(self, kind: Kind) -> list[str]:
        """Every name of `kind`, sorted. Raises PresetError for a file that is not named as presets are."""
        if kind not in self._names:
            folder = self.root / kind
            files = sorted(each for each in folder.glob("*") if each.is_file() and each.name[0] not in ".~")
            for file in files:
                _check_name(file, kind)
            self._names[kind] = [file.stem for file in files if file.suffix == ".yaml"]
        return self._names[kind]

    def zones(self) -> dict[str, Preset[ZoneFile]]:
        """Every zone."""
        return {name: self.zone(name) for name in self.names("zones")}

    def genres(self) -> dict[str, Preset[GenreFile]]:
        """Every genre."""
        return {name: self.genre(name) for name in self.names("genres")}

    def catalogs(self) -> dict[str, Preset[CatalogFile]]:
        """Every catalog."""
        return {name: self.catalog(name) for name in self.names("catalogs")}

    def zone(self, name: str, asked_at: Place | None = None) -> Preset[ZoneFile]:
        """The zone `name`. Raises UnknownNameError, naming `asked_at` and the closest name there is."""
        if name not in self._zones:
            self._zones[name] = read_preset(self._path("zones", name, asked_at), ZoneFile)
        return self._zones[name]

    def genre(self, name: str, asked_at: Place | None = None) -> Preset[GenreFile]:
        """The genre `name`; errors as for `zone`."""
        if name not in self._genres:
            self._genres[name] = read_preset(self._path("genres", name, asked_at), GenreFile)
        return self._genres[name]

    def catalog(self, name: str, asked_at: Place | None = None) -> Preset[CatalogFile]:
        """The catalog `name`; errors as for `zone`."""
        return read_preset(self._path("catalogs", name, asked_at), CatalogFile)

    def _path(self, kind: Kind, name: str, asked_at: Place | None) -> Path:
        names = self.names(kind)
        if name in names:
            return self.root / kind / f"{name}.yaml"
        where = f"{asked_at}: " if asked_at else ""
        guess = closest(name, names)
        raise UnknownNameError(
            f"{where}{_ONE[kind]} {name!r} has no file in {shown(self.root / kind)}/",
            why=f"there are: {', '.join(names[:40])}" if names else "the folder is empty",
            fix=f"write {guess!r}" if guess else f"add {shown(self.root / kind)}/{name}.yaml",
        )


def _check_name(file: Path, kind: str) -> None:
    if file.suffix == ".yml":
        raise PresetError(f"{shown(file)}: presets end in .yaml", fix=f"rename it to {file.stem}.yaml")
    stem = file.stem
    if file.suffix == ".yaml" and (not set(stem) <= _SLUG_CHARACTERS or stem[0] in "_-" or len(stem) > 64):
        raise PresetError(
            f"{shown(file)}: {stem!r} cannot be the name of a {_ONE[kind]}",
            why="names are part of object keys: a-z, 0-9, '_' and '-', beginning with a letter or digit, at most 64",
            fix="rename the file",
        )


def read_preset(path: Path, model: type[_F]) -> Preset[_F]:
    """Read one preset file with all it extends, and hold it to the language."""
    tree = _inherited(path, ())
    return Preset(path.stem, path, validated(model, tree), tree)


def _inherited(path: Path, below: tuple[Path, ...]) -> Located:
    tree = read_located(path)
    base = tree.value.get("extends")
    if base is None or not isinstance(base.value, str):
        return tree
    chain = (*below, path)
    parent = path.with_name(f"{base.value}.yaml")
    if parent in chain:
        circle = " -> ".join(each.stem for each in (*chain, parent))
        raise PresetError(f"{base.place}: 'extends' goes in a circle: {circle}", fix="drop one of these lines")
    if "/" in base.value or not parent.is_file():
        names = [each.stem for each in path.parent.glob("*.yaml") if each != path]
        guess = closest(base.value, names)
        raise UnknownNameError(
            f"{base.place}: 'extends' names {base.value!r}, which has no file beside this one",
            fix=f"write {guess!r}" if guess else f"add {shown(parent)}",
        )
    return merged(_inherited(parent, chain), tree)


def find_presets_root(option: Path | None, settings: Settings) -> Path:
    """The preset folder: the option, TUNEMILL_PRESETS, ./presets, the checkout's, or the installed one."""
    for chosen in (option, settings.presets):
        if chosen is not None:
            return chosen
    checkout = Path(__file__).resolve().parents[2] / "presets"
    installed = Path(sys.prefix) / "share" / "tunemill" / "presets"
    for found in (Path("presets"), checkout, installed):
        if (found / "catalogs").is_dir():
            return found.absolute() if found == Path("presets") else found
    raise UnreadableFileError(
        "no preset folder found",
        why=f"looked for ./presets, {checkout} and {installed}",
        fix="name one with --presets or TUNEMILL_PRESETS",
    )


def open_library(option: Path | None, settings: Settings) -> PresetLibrary:
    """The library that a command works on."""
    return PresetLibrary(find_presets_root(option, settings))


def load_catalog(name_or_path: str | Path, presets: Path | None, settings: Settings) -> LoadedCatalog:
    """Read a catalog by name, or by the path of its file.

    A file in `<root>/catalogs/` brings its own library, `<root>`, unless `presets` names another; any other
    file uses the default one. Raises UnknownNameError, PresetError or UnreadableFileError.
    """
    text = str(name_or_path)
    if not (text.endswith((".yaml", ".yml")) or "/" in text or isinstance(name_or_path, Path)):
        library = open_library(presets, settings)
        return LoadedCatalog(library.catalog(text), library)
    path = Path(name_or_path).absolute()
    if not path.is_file():
        raise UnreadableFileError(f"{shown(path)}: there is no such file", fix="name a catalog, or correct the path")
    _check_name(path, "catalogs")
    own_root = path.parent.parent
    has_library = path.parent.name == "catalogs" and any((own_root / kind).is_dir() for kind in ("zones", "genres"))
    library = PresetLibrary(own_root) if has_library and presets is None else open_library(presets, settings)
    return LoadedCatalog(read_preset(path, CatalogFile), library)

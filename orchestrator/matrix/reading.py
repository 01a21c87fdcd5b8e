"""Reading: the preset library on disk, file by file, with inheritance and errors that name the line.

A library is a folder with zones/, genres/ and catalogs/. Files are read when they are asked for and kept.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from catalog.errors import PresetError, TunemillError, UnknownNameError, UnreadableFileError
from catalog.settings import Settings
from orchestrator.matrix.files import KINDS, CatalogFile, GenreFile, ZoneFile
from orchestrator.matrix.located import Located, Place, is_file, is_folder, merged, read_located, shown
from orchestrator.matrix.names import NAME_RULE, bare, is_name, listed, printable, quoted
from orchestrator.matrix.problems import closest, mend_name, validated

Kind = Literal["zones", "genres", "catalogs"]
_SINGULAR: Final[dict[Kind, str]] = {"zones": "zone", "genres": "genre", "catalogs": "catalog"}
_CIRCLE_SHOWN_MAX: Final = 12
_F = TypeVar("_F", ZoneFile, GenreFile, CatalogFile)


@dataclass(frozen=True)
class Preset(Generic[_F]):
    """One preset: its name (the file's stem), what it says, and where each part was written."""

    name: str
    path: Path
    content: _F
    tree: Located = field(repr=False)

    def at(self, *path: str | int) -> Place:
        """The file and line of `path`."""
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
        """The title that people read."""
        return self.preset.content.title

    @property
    def model(self) -> str:
        """The model as written; 'auto' leaves the choice to the command that runs it."""
        return self.preset.content.model


class PresetLibrary:
    """The presets below one folder."""

    def __init__(self, root: Path) -> None:
        if not any(is_folder(root / kind) for kind in KINDS):
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
                if file.suffix.lower() in (".yaml", ".yml"):
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
        fix = mend_name(name, names, self.root / kind)
        if name == "all" and kind != "catalogs":
            fix = f"'all' stands alone, in matrix.{kind}; elsewhere leave {_SINGULAR[kind]!r} out to mean every one"
        raise UnknownNameError(
            f"{where}{_SINGULAR[kind]} {quoted(name)} has no file in {shown(self.root / kind)}/",
            why=listed(names),
            fix=fix,
        )


def no_such_preset(name: str, library: PresetLibrary) -> UnknownNameError:
    """The error for a name that no zone, genre or catalog of `library` has."""
    guess = closest(bare(name), [each for kind in _SINGULAR for each in library.names(kind)])
    return UnknownNameError(
        f"there is no zone, genre or catalog {quoted(name)}",
        why=f"{shown(library.root)}/ holds no file of that name",
        fix=f"write {guess!r}" if guess else "`tunemill presets list` shows those there are",
    )


def _check_name(file: Path, kind: Kind) -> None:
    if file.suffix != ".yaml" and file.suffix.lower() in (".yaml", ".yml"):
        raise PresetError(f"{shown(file)}: presets end in .yaml", fix=f"rename it to {printable(file.stem)}.yaml")
    if not is_name(file.stem):
        raise PresetError(
            f"{shown(file)}: {quoted(file.stem)} cannot be the name of a {_SINGULAR[kind]}",
            why=f"it becomes part of object keys: {NAME_RULE}",
            fix="rename the file",
        )


def read_preset(path: Path, model: type[_F]) -> Preset[_F]:
    """Read one preset file with all it extends, and hold it to the language."""
    tree = _inherited(path)
    return Preset(path.stem, path, validated(model, tree), tree)


def _inherited(path: Path) -> Located:
    """The content of the file at `path`, laid over that of the file it extends, and so on to the last."""
    chain, trees = [path], [read_located(path)]
    while base := trees[-1].value.get("extends"):
        if base.value is None:
            break
        chain.append(_extended(base, chain))
        trees.append(read_located(chain[-1]))
    tree = trees.pop()
    while trees:
        tree = merged(tree, trees.pop())
    return tree


def _extended(base: Located, chain: list[Path]) -> Path:
    """The file that the last of `chain` extends. Raises for one that is not there, or that extends the last itself."""
    if not isinstance(base.value, str):
        raise PresetError(
            f"{base.place}: 'extends' must be a name, not {quoted(base.plain())}",
            why="a preset extends one other of its kind; a name that looks like a number needs quotation marks",
            fix="write 'extends: NAME', or drop the line",
        )
    folder = chain[-1].parent
    parent = folder / f"{base.value}.yaml"
    if parent in chain:
        names = [each.stem for each in (*chain, parent)]
        circle = " -> ".join(names if len(names) <= _CIRCLE_SHOWN_MAX else [*names[:2], "...", *names[-2:]])
        raise PresetError(
            f"{base.place}: 'extends' goes in a circle: {circle}",
            why="a preset that extends itself by way of others has no beginning",
            fix="drop one of these lines",
        )
    if not is_name(base.value) or not is_file(parent):
        names = sorted(each.stem for each in folder.glob("*.yaml") if each not in chain and is_name(each.stem))
        raise UnknownNameError(
            f"{base.place}: 'extends' names {quoted(base.value)}, which has no file beside this one",
            why=listed(names),
            fix=mend_name(base.value, names, folder),
        )
    return parent


def find_presets_root(option: Path | None, settings: Settings) -> Path:
    """The preset folder: the option, TUNEMILL_PRESETS, ./presets, the checkout's, or the installed one."""
    for chosen in (option, settings.presets):
        if chosen is not None:
            return chosen
    checkout = Path(__file__).resolve().parents[2] / "presets"
    installed = Path(sys.prefix) / "share" / "tunemill" / "presets"
    for found in (Path("presets"), checkout, installed):
        if is_folder(found / "catalogs"):
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
    if not (is_path(text) or isinstance(name_or_path, Path)):
        library = open_library(presets, settings)
        return LoadedCatalog(library.catalog(text), library)
    path = Path(name_or_path).absolute()
    if not is_file(path):
        raise _no_such_file(path, _catalog_names(presets, settings))
    _check_name(path, "catalogs")
    own_root = path.parent.parent
    if path.parent.name in ("zones", "genres") and is_folder(own_root / "catalogs"):
        raise PresetError(
            f"{shown(path)}: this is a {path.parent.name.removesuffix('s')}, not a catalog",
            why="a catalog says how much is made of which zones and genres",
            fix=f"name a catalog; `tunemill presets show {path.stem}` shows what this is",
        )
    has_library = path.parent.name == "catalogs" and any(is_folder(own_root / kind) for kind in ("zones", "genres"))
    library = PresetLibrary(own_root) if has_library and presets is None else open_library(presets, settings)
    return LoadedCatalog(read_preset(path, CatalogFile), library)


def is_path(text: str) -> bool:
    """True when `text` means a catalog's file, and not its name."""
    return text.endswith((".yaml", ".yml")) or "/" in text


def _catalog_names(presets: Path | None, settings: Settings) -> list[str]:
    """The names that may have been meant; none where the library has troubles of its own."""
    try:
        return open_library(presets, settings).names("catalogs")
    except TunemillError:
        return []


def _no_such_file(path: Path, names: list[str]) -> UnreadableFileError:
    guess = closest(bare(str(path)), names)
    return UnreadableFileError(
        f"{shown(path)}: " + ("this is a folder, not a file" if is_folder(path) else "there is no such file"),
        why="a text with '/', or that ends in .yaml, is the path of a catalog's file",
        fix=f"write {guess!r} for the catalog of that name" if guess else "name a catalog, or correct the path",
    )

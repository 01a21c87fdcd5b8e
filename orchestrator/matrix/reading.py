"""Reading: the preset library on disk, read file by file, with inheritance, and with errors that name the line.

A library is a folder with zones/, genres/ and catalogs/; libraries are stacked in layers. A name refers to the file in
the highest layer that has it. A file is read on first use and kept, so a broken file affects only the presets that use
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from catalog.errors import EmptyMatrixError, PresetError, TunemillError, UnknownNameError, UnreadableFileError
from catalog.prompt import ESTIMATE, TokenCounter
from catalog.settings import Settings
from catalog.tokenizer import open_tokenizer
from orchestrator.matrix.files import KINDS, CatalogFile, GenreFile, ZoneFile
from orchestrator.matrix.layers import LayerName, find_layers, holds_presets
from orchestrator.matrix.located import Located, Place, is_file, is_folder, merged, read_located, shown
from orchestrator.matrix.names import NAME_RULE, as_name, bare, is_name, listed, quoted
from orchestrator.matrix.problems import closest, mend_name
from orchestrator.matrix.validation import validated

Kind = Literal["zones", "genres", "catalogs"]
_SINGULAR: Final[dict[Kind, str]] = {"zones": "zone", "genres": "genre", "catalogs": "catalog"}
_CIRCLE_SHOWN_MAX: Final = 12
_F = TypeVar("_F", ZoneFile, GenreFile, CatalogFile)


@dataclass(frozen=True)
class Preset(Generic[_F]):
    """One preset: its name (the file's stem), its content, and the line of each part."""

    name: str
    path: Path
    content: _F
    tree: Located = field(repr=False)

    @property
    def key(self) -> str:
        """The name in its tracks' keys: the one that it had when they were made."""
        return self.content.renamed_from or self.name

    def at(self, *path: str | int) -> Place:
        """The file and line of `path`."""
        return self.tree.at(path)


class LoadedCatalog(NamedTuple):
    """A catalog with the library of the zones and genres that its matrix names."""

    preset: Preset[CatalogFile]
    library: PresetLibrary
    counter: TokenCounter = ESTIMATE  # of the tokens of its captions and lyrics

    @property
    def name(self) -> str:
        """The catalog's slug: the first part of every track's key."""
        return self.preset.key

    @property
    def title(self) -> str:
        """The title that people read."""
        return self.preset.content.title

    @property
    def model(self) -> str:
        """The model as written; 'auto' leaves the choice to the command that runs it."""
        return self.preset.content.model

    def every(self, kind: Literal["zones", "genres"]) -> list[str]:
        """The names that 'all' stands for: those of the one layer that the file in which it is written lies in.

        So another layer's presets never join a catalog by themselves. Raises EmptyMatrixError when there are none.
        """
        where = self.preset.at("matrix", kind)
        layer = self.library.layer_of(where.file) or self.library.default_layer
        names = layer.own_names(kind)
        if not names:
            known = self.library.names(kind)
            example = f"write names, such as '{kind}: [{', '.join(known[:2])}]', or " if known else ""
            raise EmptyMatrixError(
                f"{where}: '{kind}: all' means all {kind} in {shown(layer.root / kind)}/, and there are none",
                why="'all' means the presets in the layer of the catalog, not those of a lower layer",
                fix=f"{example}make one in that folder with `tunemill presets new {_SINGULAR[kind]} NAME`",
            )
        return names


class Fault(NamedTuple):
    """A file that is no preset because of its name, or a folder that may not be listed."""

    meant: str  # the name that the file was probably to have; "" for a folder: any
    file: str
    error: PresetError


class _Files(NamedTuple):
    names: list[str]
    faults: list[Fault]


class PresetLibrary:
    """The presets below one folder, laid over those of the library below it, if there is one."""

    def __init__(self, root: Path, layer: LayerName = LayerName.YOURS, below: PresetLibrary | None = None) -> None:
        if not holds_presets(root):
            raise UnreadableFileError(
                f"{shown(root)}: this is not a preset folder",
                why=_no_presets_in(root),
                fix="name the folder that holds zones/, genres/ or catalogs/ with --presets or TUNEMILL_PRESETS; "
                "`tunemill presets new` makes one",
            )
        self.root, self.layer, self.below = root.absolute(), layer, below
        self._zones: dict[str, Preset[ZoneFile]] = {}
        self._genres: dict[str, Preset[GenreFile]] = {}
        self._files: dict[Kind, _Files] = {}
        self._old_names: dict[Kind, dict[str, str]] = {}

    @property
    def layers(self) -> list[PresetLibrary]:
        """This layer and those below it, the highest first."""
        return [self, *(self.below.layers if self.below else [])]

    @property
    def default_layer(self) -> PresetLibrary:
        """The layer that a catalog outside every layer belongs to: the user's own, else the installed presets."""
        return next((each for each in self.layers if each.layer is not LayerName.HOME), self)

    def layer_of(self, file: Path) -> PresetLibrary | None:
        """The layer that `file` lies in."""
        folders = {(each.root / kind).resolve(): each for each in reversed(self.layers) for kind in KINDS}
        return folders.get(file.parent.resolve())

    def names(self, kind: Kind) -> list[str]:
        """Every name of `kind` in any layer, sorted."""
        return sorted({name for layer in self.layers for name in layer.files(kind).names})

    def own_names(self, kind: Kind) -> list[str]:
        """The names of `kind` in this layer alone, sorted. Raises PresetError for a file not named as presets are."""
        names, faults = self.files(kind)
        if faults:
            raise faults[0].error
        return names

    def files(self, kind: Kind) -> _Files:
        """The names of `kind` in this layer alone, and the problems with the names of the other files."""
        if kind not in self._files:
            self._files[kind] = _read_folder(self.root / kind, kind)
        return self._files[kind]

    def holding(self, kind: Kind, name: str) -> list[PresetLibrary]:
        """The layers that have `name`: it is read from the first, which shadows the others."""
        return [each for each in self.layers if name in each.files(kind).names]

    def zone(self, name: str, asked_at: Place | None = None) -> Preset[ZoneFile]:
        """The zone `name`. Raises UnknownNameError, naming `asked_at` and the closest name there is."""
        if name not in self._zones:
            self._zones[name] = read_preset(self._path("zones", name, asked_at), ZoneFile, self)
        return self._zones[name]

    def genre(self, name: str, asked_at: Place | None = None) -> Preset[GenreFile]:
        """The genre `name`; errors as for `zone`."""
        if name not in self._genres:
            self._genres[name] = read_preset(self._path("genres", name, asked_at), GenreFile, self)
        return self._genres[name]

    def catalog(self, name: str, asked_at: Place | None = None) -> Preset[CatalogFile]:
        """The catalog that is called `name`, or was before it was renamed; errors as for `zone`.

        Raises PresetError when two catalogs of a layer would have the same name in the keys of their tracks.
        """
        path = find_renamed_catalog(name, self) or self._path("catalogs", name, asked_at)
        return refuse_shared_key(read_preset(path, CatalogFile, self), self)

    def old_names(self, kind: Kind) -> dict[str, str]:
        """Name -> the name before, of those presets of this layer alone that were renamed and can be read."""
        if kind not in self._old_names:
            files = {name: self.root / kind / f"{name}.yaml" for name in self.files(kind).names}
            found = {name: read_old_name(path) for name, path in files.items()}
            self._old_names[kind] = {name: old for name, old in found.items() if old and old != name}
        return self._old_names[kind]

    def _path(self, kind: Kind, name: str, asked_at: Place | None) -> Path:
        for layer in self.layers:
            names, faults = layer.files(kind)
            if name in names:
                return layer.root / kind / f"{name}.yaml"
            # A file that was meant to be this one must not be passed over for another of the name further down.
            if fault := next((each for each in faults if each.meant in ("", as_name(name))), None):
                raise fault.error
        where = f"{asked_at}: " if asked_at else ""
        names = self.names(kind)
        fix = self.mend_name(kind, name, names)
        if name.casefold() == "all" and kind != "catalogs":
            fix = f"'all' stands alone, in matrix.{kind}; elsewhere leave {_SINGULAR[kind]!r} out to mean every one"
        below = ", nor in a layer below" if self.below else ""
        raise UnknownNameError(
            f"{where}{_SINGULAR[kind]} {quoted(name)} has no file in {shown(self.root / kind)}/{below}",
            why=listed(names),
            fix=fix,
        )

    def mend_name(self, kind: Kind, name: str, names: Sequence[str]) -> str:
        """The fix for a name that is none of `names`."""
        if other := next((each for each in _SINGULAR if name in self.names(each)), None):
            return f"{name!r} is a {_SINGULAR[other]}; write a {_SINGULAR[kind]}"
        if self.layer is LayerName.INSTALLED and is_name(name) and not closest(name, names):
            return f"make it: `tunemill presets new {_SINGULAR[kind]} {name}`"
        return mend_name(name, names, self.root / kind)


def no_such_preset(name: str, library: PresetLibrary) -> PresetError | UnknownNameError:
    """The error for a name that no zone, genre or catalog of `library` has."""
    for layer in library.layers:
        for kind in _SINGULAR:
            for fault in layer.files(kind).faults:
                if fault.meant == as_name(name):
                    return fault.error
    guess = closest(bare(name), [each for kind in _SINGULAR for each in library.names(kind)])
    return UnknownNameError(
        f"there is no zone, genre or catalog {quoted(name)}",
        why=f"no file of that name is in {', '.join(f'{shown(layer.root)}/' for layer in library.layers)}",
        fix=f"write {guess!r}" if guess else "`tunemill presets list` lists the presets",
    )


def refuse_misspelt_path(text: str, library: PresetLibrary) -> None:
    """Raise UnknownNameError for a path that leads to no file, where the name of a preset was probably meant."""
    if is_path(text) and not is_file(Path(text)):
        error = no_such_preset(text, library)
        if error.fix.startswith("write "):
            raise error


def _no_presets_in(root: Path) -> str:
    if is_folder(root):
        return "it has none of zones/, genres/ and catalogs/"
    return "it is a file" if is_file(root) else "there is no such folder"


def _read_folder(folder: Path, kind: Kind) -> _Files:
    """The names in `folder`, sorted, and the files that are not named as presets are."""
    try:
        entries = sorted(each for each in folder.iterdir() if each.name[0] not in ".~" and _is_preset(each))
    except (FileNotFoundError, NotADirectoryError):
        return _Files([], [])
    except OSError as error:
        fix = "give this user the right to read the folder"
        unreadable = UnreadableFileError(f"{shown(folder)}: cannot be read: {error.strerror}", fix=fix)
        return _Files([], [Fault("", f"{kind}/", unreadable)])
    names, faults = [], []
    for file in entries:
        if error_of_name := _fault_of_name(file, kind):
            faults.append(Fault(as_name(file.name), file.name, error_of_name))
        else:
            names.append(file.stem)
    return _Files(names, faults)


def _is_preset(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml") and (path.is_symlink() or not is_folder(path))


def _fault_of_name(file: Path, kind: Kind) -> PresetError | None:
    """The error for a file that is not named as presets are."""
    if file.suffix == ".yaml" and is_name(file.stem):
        return None
    fix = f"rename it to {as_name(file.name) or f'my_{_SINGULAR[kind]}'}.yaml"
    if file.suffix.lower() in (".yaml", ".yml") and file.suffix != ".yaml":
        return PresetError(f"{shown(file)}: presets end in .yaml", fix=fix)
    return PresetError(
        f"{shown(file)}: {quoted(file.stem)} cannot be the name of a {_SINGULAR[kind]}",
        why=f"the name becomes part of object keys: {NAME_RULE}",
        fix=fix,
    )


def read_preset(path: Path, model: type[_F], library: PresetLibrary) -> Preset[_F]:
    """Read one preset file with all it extends in `library`, and hold it to the language."""
    tree = _inherited(path, library, next(kind for kind in _SINGULAR if KINDS[kind] is model))
    return Preset(path.stem, path, validated(model, tree), tree)


def _inherited(path: Path, library: PresetLibrary, kind: Kind) -> Located:
    """The content of the file at `path`, laid over that of the file it extends, and so on to the last."""
    chain, trees = [path], [read_located(path)]
    while base := trees[-1].value.get("extends"):
        if base.value is None:
            break
        chain.append(_extended(base, chain, library, kind))
        trees.append(_without_old_name(read_located(chain[-1])))
    tree = trees.pop()
    while trees:
        tree = merged(tree, trees.pop())
    return tree


def _without_old_name(tree: Located) -> Located:
    """The content of a preset without the name that it had before, which is no preset's that extends it."""
    return Located({key: each for key, each in tree.value.items() if key != "renamed_from"}, tree.place)


def _extended(base: Located, chain: list[Path], library: PresetLibrary, kind: Kind) -> Path:
    """The file that the last of `chain` extends: beside it, or in a layer below; of its own name only below.

    Raises for one that is not there, or that is in the chain already.
    """
    if not isinstance(base.value, str):
        raise PresetError(
            f"{base.place}: 'extends' must be a name, not {quoted(base.plain())}",
            why="a preset extends one other of its kind; a name that looks like a number needs quotation marks",
            fix="write 'extends: NAME', or remove the line",
        )
    file, name = chain[-1], base.value
    folders = [file.parent, *(each.root / kind for each in _layers_below(file, library))]
    found = [folder / f"{name}.yaml" for folder in folders] if is_name(name) else []
    parent = next((each for each in found if each != file and is_file(each)), None)
    if parent in chain or (parent is None and name == file.stem):
        names = [each.stem for each in chain] + [name]
        circle = " -> ".join(names if len(names) <= _CIRCLE_SHOWN_MAX else [*names[:2], "...", *names[-2:]])
        raise PresetError(
            f"{base.place}: 'extends' goes in a circle: {circle}",
            why="presets that extend each other in a circle have no first preset",
            fix="remove one of these lines",
        )
    if parent is None:
        files = (each for folder in folders for each in folder.glob("*.yaml"))
        names = sorted({each.stem for each in files if each not in chain and is_name(each.stem)})
        raise UnknownNameError(
            f"{base.place}: 'extends' names {quoted(name)}, which has no file beside this one"
            + (", nor in a layer below" if folders[1:] else ""),
            why=listed(names),
            fix=mend_name(name, names, file.parent),
        )
    return parent


def _layers_below(file: Path, library: PresetLibrary) -> list[PresetLibrary]:
    """The layers under the one that `file` lies in; all of them for a file outside."""
    layer = library.layer_of(file)
    return layer.layers[1:] if layer else library.layers


def open_library(option: Path | None, settings: Settings) -> PresetLibrary:
    """The library that a command works on: every layer that there is."""
    library: PresetLibrary | None = None
    for folder in reversed(find_layers(option, settings)):
        library = PresetLibrary(folder.root, folder.name, library)
    assert library, "there is at least one layer"  # noqa: S101
    return library


def load_catalog(name_or_path: str | Path, presets: Path | None, settings: Settings) -> LoadedCatalog:
    """Read a catalog by name, or by the path of its file.

    A file in `<root>/catalogs/` brings `<root>` as the user's own layer, unless `presets` names another; for any other
    file the layers are the usual ones. Raises UnknownNameError, PresetError or UnreadableFileError.
    """
    text = str(name_or_path)
    if not (is_path(text) or isinstance(name_or_path, Path)):
        library = open_library(presets, settings)
        return LoadedCatalog(library.catalog(text), library, TokenCounter(open_tokenizer(settings)))
    path = Path(name_or_path).absolute()
    if not is_file(path):
        raise _no_such_file(path, _catalog_names(presets, settings))
    if fault := _fault_of_name(path, "catalogs"):
        raise fault
    own_root = path.parent.parent
    if path.parent.name in ("zones", "genres") and is_folder(own_root / "catalogs"):
        raise PresetError(
            f"{shown(path)}: this is a {path.parent.name.removesuffix('s')}, not a catalog",
            why="only a catalog says how many tracks are made",
            fix=f"name a catalog; `tunemill presets show {path.stem}` shows this preset",
        )
    has_library = path.parent.name == "catalogs" and any(is_folder(own_root / kind) for kind in ("zones", "genres"))
    library = open_library(own_root if has_library and presets is None else presets, settings)
    preset = refuse_shared_key(read_preset(path, CatalogFile, library), library)
    return LoadedCatalog(preset, library, TokenCounter(open_tokenizer(settings)))


def read_old_name(path: Path) -> str | None:
    """The `renamed_from` of a preset's file; None for a file that has none or cannot be read."""
    try:
        if b"renamed_from" not in path.read_bytes():
            return None
        old = read_located(path).value.get("renamed_from")
    except (OSError, TunemillError):  # a command that needs this preset reports the mistake
        return None
    return old.value if old and isinstance(old.value, str) and is_name(old.value) else None


def find_renamed_catalog(name: str, library: PresetLibrary) -> Path | None:
    """The file of the catalog that was called `name` before; None where a layer has one of that name or none was."""
    for layer in library.layers:
        if name in layer.files("catalogs").names:
            return None
        if renamed := [each for each, old in layer.old_names("catalogs").items() if old == name]:
            return layer.root / "catalogs" / f"{renamed[0]}.yaml"
    return None


def refuse_shared_key(preset: Preset[CatalogFile], library: PresetLibrary) -> Preset[CatalogFile]:
    """`preset`. Raises PresetError when another catalog of its layer has the same name in the keys of its tracks."""
    layer = library.layer_of(preset.path)
    if layer is None:
        return preset
    old_names = layer.old_names("catalogs")
    for name in layer.files("catalogs").names:
        if name != preset.path.stem and old_names.get(name, name) == preset.key:
            raise PresetError(
                f"{preset.at('renamed_from')}: the catalogs {preset.name!r} and {name!r} would share the tracks of "
                f"{preset.key!r}",
                why="the name in 'renamed_from' is part of the tracks' keys, so it may stand for only one catalog",
                fix="remove 'renamed_from' from one of the two, or remove the file that you no longer need",
            )
    return preset


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
        fix=f"write {guess!r} for the catalog of that name"
        if guess
        else "write the path of a file that is there, or the name of a catalog from `tunemill presets list`",
    )

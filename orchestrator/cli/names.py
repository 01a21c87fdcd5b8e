"""Names: what presets are called now, where the keys of their tracks have an earlier name.

`renamed_from` in a preset keeps the earlier name in ledger and store. People see and write the name of now; the
earlier one is understood as well. Where no presets can be read, names are those of the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from catalog.errors import TunemillError, UnknownNameError
from catalog.settings import Settings, read_settings
from orchestrator.cli import completion
from orchestrator.planning.selection import Places

if TYPE_CHECKING:
    from orchestrator.matrix import LoadedCatalog

Kind = Literal["zones", "genres"]


@dataclass(frozen=True)
class Names:
    """Names in keys -> names now, of what was renamed; of zones and genres for each catalog, by its name in keys."""

    catalogs: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Mapping[Kind, Mapping[str, str]]] = field(default_factory=dict)

    def catalog(self, key: str) -> str:
        """The name that people know."""
        return self.catalogs.get(key, key)

    def place(self, catalog: str, kind: Kind, key: str) -> str:
        """The name of a zone or genre in the catalog of that key."""
        return self.places.get(catalog, {}).get(kind, {}).get(key, key)

    def keys_of(self, places: Places, catalog: str | None) -> Places:
        """`places` with the names that stand in keys."""
        maps = self.places.values() if catalog is None else [self.places.get(catalog, {})]
        return Places(_keys(places.zones, "zones", maps), _keys(places.genres, "genres", maps), places.axes)


NO_NAMES: Final = Names()


def _keys(names: Iterable[str], kind: Kind, maps: Iterable[Mapping[Kind, Mapping[str, str]]]) -> tuple[str, ...]:
    """`names` with the earlier ones of those that were renamed in some catalog."""
    found: dict[str, None] = {}
    for name in names:
        earlier = [key for each in maps for key, now in each.get(kind, {}).items() if now == name]
        found.update(dict.fromkeys(earlier or [name]))
    return tuple(found)


def catalog_key(name: str | None) -> str | None:
    """The name of a catalog in the ledger, from the one that a person writes: a callback of options and arguments."""
    try:
        catalogs = read_names(read_settings()).catalogs if name else {}
    except TunemillError:  # of a setting, which the command itself reports
        return name
    return next((key for key, now in catalogs.items() if now == name), name)


MadeCatalogArgument = Annotated[
    str | None,
    typer.Argument(
        help="A catalog's name; by default all catalogs.",
        autocompletion=completion.made_catalogs,
        callback=catalog_key,
    ),
]


def refuse_unmade(catalog: str, known: list[str]) -> None:
    """Raise UnknownNameError for a catalog that is not among those `known` to the ledger."""
    if catalog in known:
        return
    guess = get_close_matches(catalog, known, n=1)
    raise UnknownNameError(
        f"the ledger has no catalog {catalog!r}",
        why=f"it has: {', '.join(known) or 'none yet'}",
        fix=f"write {guess[0]!r}" if guess else f"make it with `tunemill run {catalog}`",
    )


def read_names(settings: Settings) -> Names:
    """The names in the presets that a command sees; none where they cannot be read."""
    if not _may_be_renamed(settings.presets or Path("presets"), settings.home / "presets"):
        return NO_NAMES
    from orchestrator.matrix import LoadedCatalog, open_library  # noqa: PLC0415 - the preset language loads slowly

    catalogs: dict[str, str] = {}
    places: dict[str, Mapping[Kind, Mapping[str, str]]] = {}
    with suppress(TunemillError):
        library = open_library(None, settings)
        for name in library.names("catalogs"):
            with suppress(TunemillError):  # a command that needs this catalog reports the mistake
                loaded = LoadedCatalog(library.catalog(name), library)
                names = names_of(loaded)
                catalogs |= names.catalogs
                places |= names.places
    return Names(catalogs, places)


def names_of(catalog: LoadedCatalog) -> Names:
    """The names of one catalog. Raises what `lay_out` raises."""
    from orchestrator.matrix import lay_out  # noqa: PLC0415 - the preset language loads slowly

    cells = lay_out(catalog).cells
    zones = {cell.zone_key: cell.zone for cell in cells if cell.zone_key != cell.zone}
    genres = {cell.genre_key: cell.genre for cell in cells if cell.genre_key != cell.genre}
    key, name = catalog.name, catalog.preset.name
    return Names({key: name} if key != name else {}, {key: {"zones": zones, "genres": genres}})


def planned_places(catalog: str | None, settings: Settings) -> Places | None:
    """The places that the presets of `catalog` plan, or of all catalogs; None where they cannot be read."""
    from orchestrator.matrix import lay_out, load_catalog, open_library  # noqa: PLC0415

    with suppress(TunemillError):
        if catalog is None:
            library = open_library(None, settings)
            return Places(library.names("zones"), library.names("genres"))
        axes: dict[str, set[str]] = {}
        cells = lay_out(load_catalog(catalog, None, settings)).cells
        for axis, value in (pair for cell in cells for pair in cell.axes.items()):
            axes.setdefault(axis, set()).add(value)
        return Places({cell.zone_key for cell in cells}, {cell.genre_key for cell in cells}, axes)
    return None


def _may_be_renamed(*roots: Path) -> bool:
    """True when some file below `roots` speaks of an earlier name; presets that come with the program never do."""
    with suppress(OSError):
        return any(b"renamed_from" in file.read_bytes() for root in roots for file in root.glob("*/*.yaml"))
    return True

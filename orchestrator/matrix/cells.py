"""Cells: the points of a catalog's matrix, each with its settings and its number of tracks.

A cell is a zone, a genre and one value of each further axis. The cells are the product of all of them, without the
excluded ones and with the included ones. An impossible request (an unknown name, tempo ranges that do not overlap, a
quota that matches no cell) is refused here with the line that makes it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Literal, NamedTuple

from catalog.errors import EmptyMatrixError, OutOfRangeError, PresetError, UnknownNameError
from orchestrator.matrix.files import TRACKS_MAX, CatalogFile, Choices, GenreFile, MatrixSection, Selector, ZoneFile
from orchestrator.matrix.located import Place, shown
from orchestrator.matrix.names import listed, quoted
from orchestrator.matrix.overlays import ANY_TEMPO, Layer, TrackSettings, overlay
from orchestrator.matrix.problems import closest
from orchestrator.matrix.reading import LoadedCatalog, Preset, PresetLibrary
from orchestrator.matrix.shares import Quota, share_out

CELLS_MAX = 200_000
_PAIRS_SHOWN = 10


@dataclass(frozen=True)
class Cell:
    """One point of the matrix, with the number of its tracks."""

    zone: str
    genre: str
    axes: dict[str, str]
    settings: TrackSettings
    tracks: int
    combination: int  # index of its axis values among the combinations of the matrix, so that titles do not meet
    combinations: int  # the number of those
    zone_key: str  # here and below: the name in the keys of tracks, which a renamed preset keeps
    genre_key: str

    @property
    def name(self) -> str:
        """The cell's name as in a track's key: `spa/ambient/season=winter`."""
        return "/".join([self.zone_key, self.genre_key, *(f"{k}={v}" for k, v in sorted(self.axes.items()))])


class CatalogCells(NamedTuple):
    """The cells of a catalog, and those left out because no tempo suits both zone and genre."""

    cells: list[Cell]
    left_out: list[str]


class MatrixPoint(NamedTuple):
    """A cell before its settings are known."""

    zone: str
    genre: str
    axes: tuple[tuple[str, str], ...]

    def matches(self, selector: Selector) -> bool:
        """True when each coordinate that `selector` names has one of the values that it allows."""
        own = {"zone": self.zone, "genre": self.genre, **dict(self.axes)}
        return all(own.get(name) in values for name, values in selector.where.items())


def cells(catalog: LoadedCatalog) -> list[Cell]:
    """Every cell of the catalog's matrix, with numbers of tracks that add up; none for a catalog of prompts."""
    return lay_out(catalog).cells


def lay_out(catalog: LoadedCatalog) -> CatalogCells:
    """Compute the cells of a catalog. Raises PresetError, OutOfRangeError, UnknownNameError or EmptyMatrixError."""
    matrix = catalog.preset.content.matrix
    if matrix is None:
        return CatalogCells([], [])
    _check_names(catalog, matrix)
    points, included = _points(catalog, matrix)
    _refuse_shared_keys(catalog.library, points)
    settings_by_point, left_out = _settings_by_point(catalog, matrix, points, included)
    if not settings_by_point:
        raise _empty(catalog, len(left_out))
    counts = _counts(catalog, list(settings_by_point), _spread_order(list(settings_by_point), matrix))
    combinations = list(dict.fromkeys(point.axes for point in settings_by_point))
    rank = {axes: index for index, axes in enumerate(combinations)}
    library = catalog.library
    return CatalogCells(
        [
            Cell(
                point.zone,
                point.genre,
                dict(point.axes),
                settings,
                count,
                rank[point.axes],
                len(combinations),
                library.zone(point.zone).key,
                library.genre(point.genre).key,
            )
            for (point, settings), count in zip(settings_by_point.items(), counts, strict=True)
        ],
        left_out,
    )


def _names_of(catalog: LoadedCatalog, asked: Sequence[str], kind: Literal["zones", "genres"]) -> list[str]:
    """The names that are asked for; 'all' in the order of their keys, so that a renamed one keeps its place."""
    if tuple(asked) != ("all",):
        return list(dict.fromkeys(asked))
    get = catalog.library.zone if kind == "zones" else catalog.library.genre
    return sorted(catalog.every(kind), key=lambda name: get(name).key)


def _refuse_shared_keys(library: PresetLibrary, points: Iterable[MatrixPoint]) -> None:
    """Raise PresetError when two zones, or two genres, would have the same name in the keys of their tracks."""
    used: dict[str, list[Preset[ZoneFile] | Preset[GenreFile]]] = {
        "zones": [library.zone(name) for name in dict.fromkeys(point.zone for point in points)],
        "genres": [library.genre(name) for name in dict.fromkeys(point.genre for point in points)],
    }
    for kind, presets in used.items():
        taken: dict[str, str] = {}
        for preset in sorted(presets, key=lambda each: each.key != each.name):
            if (other := taken.setdefault(preset.key, preset.name)) != preset.name:
                raise PresetError(
                    f"{preset.at('renamed_from')}: the {kind} {other!r} and {preset.name!r} would share the tracks of "
                    f"{preset.key!r}",
                    why="the name in 'renamed_from' is part of the tracks' keys, so it may stand for only one preset",
                    fix=f"remove 'renamed_from' from one of them, or remove one of them from matrix.{kind}",
                )


def _check_names(catalog: LoadedCatalog, matrix: MatrixSection) -> None:
    """Every name in the matrix section and in the entries beside it must exist."""
    preset, library = catalog.preset, catalog.library
    for kind, get in (("zones", library.zone), ("genres", library.genre)):
        asked = matrix.zones if kind == "zones" else matrix.genres
        for index, name in enumerate(asked):
            if tuple(asked) != ("all",):
                get(name, preset.at("matrix", kind, index))
    for axis in matrix.axes:
        if axis in ("zone", "genre", "tracks", "set", "weight"):
            raise PresetError(
                f"{preset.at('matrix', 'axes', axis)}: an axis cannot be called {axis!r}",
                why="this word is a key of exclude, include and rules",
                fix="choose another name for the axis",
            )
    for path, entry in _entries(preset.content, matrix):
        check_selector(entry, preset, library, path, {name: list(values) for name, values in matrix.axes.items()})


def _entries(content: CatalogFile, matrix: MatrixSection) -> Iterator[tuple[tuple[str | int, ...], Selector]]:
    groups: tuple[tuple[tuple[str | int, ...], Sequence[Selector]], ...] = (
        (("matrix", "exclude"), matrix.exclude),
        (("matrix", "include"), matrix.include),
        (("weights",), content.weights),
        (("quotas",), content.quotas),
        (("rules",), content.rules),
    )
    for path, entries in groups:
        yield from (((*path, index), entry) for index, entry in enumerate(entries))


def check_selector(
    entry: Selector,
    preset: Preset[CatalogFile],
    library: PresetLibrary,
    path: tuple[str | int, ...],
    axes: dict[str, list[str]],
) -> None:
    """Raise for a zone, genre, axis or axis value that does not exist."""
    for name, values in entry.where.items():
        where = preset.at(*path, name)
        if name in ("zone", "genre"):
            for value in values:
                (library.zone if name == "zone" else library.genre)(value, where)
            continue
        if name not in axes:
            known = ["zone", "genre", *axes, *type(entry).model_fields]
            guess = closest(name, known)
            fix = f"write {guess!r}" if guess else "add the axis under matrix.axes, or drop it here"
            raise PresetError(
                f"{where}: {quoted(name)} is neither a key here nor an axis of this matrix",
                why=f"its axes are: {', '.join(['zone', 'genre', *axes])}",
                fix="write it under 'set'" if name in Choices.model_fields and "set" in known else fix,
            )
        for value in values:
            if value not in axes[name]:
                guess = closest(value, axes[name])
                raise UnknownNameError(
                    f"{where}: axis {name!r} has no value {quoted(value)}",
                    why=listed(axes[name]),
                    fix=f"write {guess!r}" if guess else "add the value under matrix.axes",
                )


def _points(catalog: LoadedCatalog, matrix: MatrixSection) -> tuple[list[MatrixPoint], set[MatrixPoint]]:
    """All points in order, including those that an include names."""
    preset = catalog.preset
    zones, genres = _names_of(catalog, matrix.zones, "zones"), _names_of(catalog, matrix.genres, "genres")
    count = math.prod(len(values) for values in matrix.axes.values())
    # Before anything is made of them: a few lines can stand for more cells than fit into any memory.
    if max(count, len(zones) * len(genres) * count) > CELLS_MAX:
        raise OutOfRangeError(
            f"{preset.at('matrix')}: the matrix has {max(1, len(zones) * len(genres)) * count:,} cells",
            why=f"a matrix may have at most {CELLS_MAX:,} cells",
            fix="split the catalog, or remove an axis",
        )
    combinations = [tuple(zip(matrix.axes, values, strict=True)) for values in itertools.product(*matrix.axes.values())]
    product = (MatrixPoint(*parts) for parts in itertools.product(zones, genres, combinations))
    points = {point: None for point in product if not any(point.matches(entry) for entry in matrix.exclude)}
    included: set[MatrixPoint] = set()
    for index, entry in enumerate(matrix.include):
        for zone, genre, axes in itertools.product(entry.zone, entry.genre, combinations):
            point = MatrixPoint(zone, genre, axes)
            if not point.matches(entry):
                continue
            place = preset.at("matrix", "include", index)
            _refuse_excluded(point, matrix, preset, place)
            points.setdefault(point)
            included.add(point)
    return list(points), included


def _refuse_excluded(point: MatrixPoint, matrix: MatrixSection, preset: Preset[CatalogFile], place: Place) -> None:
    for index, entry in enumerate(matrix.exclude):
        if point.matches(entry):
            raise PresetError(
                f"{place}: {point.zone}/{point.genre} is included here and excluded elsewhere",
                why=f"{preset.at('matrix', 'exclude', index)} leaves it out",
                fix="remove one of the two lines",
            )


def _settings_by_point(
    catalog: LoadedCatalog, matrix: MatrixSection, points: Iterable[MatrixPoint], included: set[MatrixPoint]
) -> tuple[dict[MatrixPoint, TrackSettings], list[str]]:
    """Settings of each point, without the points whose tempo ranges do not meet, and the names of those."""
    settings_by_point: dict[MatrixPoint, TrackSettings] = {}
    clashes: list[tuple[MatrixPoint, TrackSettings]] = []
    for point in points:
        zone, genre = catalog.library.zone(point.zone), catalog.library.genre(point.genre)
        settings = _settings_of(catalog.preset, matrix, point, zone, genre)
        if settings.tempo.is_empty:
            clashes.append((point, settings))
        else:
            settings_by_point[point] = settings
    unwanted = [clash for clash in clashes if matrix.tempo_clashes == "error" or clash[0] in included]
    if unwanted:
        raise _clash(catalog, unwanted)
    return settings_by_point, ["/".join(point[:2]) for point, _ in clashes]


def _settings_of(
    catalog: Preset[CatalogFile],
    matrix: MatrixSection,
    point: MatrixPoint,
    zone_preset: Preset[ZoneFile],
    genre_preset: Preset[GenreFile],
) -> TrackSettings:
    zone, genre = zone_preset.content, genre_preset.content
    at, rules = catalog.at, catalog.content.rules
    layers = [
        Layer("genre defaults", genre.defaults, partial(genre_preset.at, "defaults")),
        Layer("zone defaults", _with_loudness(zone), partial(zone_preset.at, "defaults")),
        Layer("catalog defaults", catalog.content.defaults, partial(at, "defaults")),
    ]
    for axis, value in point.axes:
        layers.append(Layer(f"{axis} {value}", matrix.axes[axis][value], partial(at, "matrix", "axes", axis, value)))
    for n, entry in enumerate(matrix.include):
        if point.matches(entry):
            layers.append(Layer("include", entry.set, partial(at, "matrix", "include", n, "set")))
    for n, rule in enumerate(rules):
        if point.matches(rule):
            layers.append(Layer("rule", rule.set, partial(at, "rules", n, "set")))
    tempo = ANY_TEMPO.narrowed(*zone.tempo, "zone").narrowed(*genre.tempo, "genre")
    program: dict[str, Any] = {"keys": genre.keys, "timesignatures": genre.timesignatures}
    if zone.avoid:
        program["planner_keys"] = {"negative_prompt": ", ".join(zone.avoid)}
    return overlay(tempo, layers, **program)


def _with_loudness(zone: ZoneFile) -> Choices:
    """The zone's defaults, with its loudness unless they have one themselves."""
    if "loudness_lufs" in zone.model_fields_set and "loudness_lufs" not in zone.defaults.model_fields_set:
        return zone.defaults.model_copy(update={"loudness_lufs": zone.loudness_lufs})
    return zone.defaults


def _clash(catalog: LoadedCatalog, clashes: Sequence[tuple[MatrixPoint, TrackSettings]]) -> PresetError:
    pairs = list(
        dict.fromkeys(f"{point.zone} x {point.genre}: {', '.join(each.tempo.sources)}" for point, each in clashes)
    )
    more = f"\n    ... and {len(pairs) - _PAIRS_SHOWN:,} more" if len(pairs) > _PAIRS_SHOWN else ""
    by_zone: dict[str, list[str]] = {}
    for point, _ in clashes:
        if point.genre not in by_zone.setdefault(point.zone, []):
            by_zone[point.zone].append(point.genre)
    lines = [f"    - {{zone: {zone}, genre: [{', '.join(genres)}]}}" for zone, genres in by_zone.items()]
    place, own = catalog.preset.at("matrix"), catalog.preset.path
    fix = "write 'tempo_clashes: exclude' under matrix, or paste under matrix:\n  exclude:\n" + "\n".join(lines)
    if place.file != own:  # the file that it extends may be another's, and its list would be replaced by a shorter one
        fix = f"write 'matrix: {{tempo_clashes: exclude}}' in {shown(own)}"
    what = "1 cell has" if len(clashes) == 1 else f"{len(clashes):,} cells have"
    return PresetError(
        f"{place}: {what} no tempo that all their settings allow",
        why="\n    ".join(["the ranges do not meet:", *pairs[:_PAIRS_SHOWN]]) + more,
        fix=fix,
    )


def _empty(catalog: LoadedCatalog, clashes: int) -> EmptyMatrixError:
    why = f"all {clashes:,} cells were left out because of their tempo" if clashes else "no cell is left in the matrix"
    return EmptyMatrixError(
        f"{catalog.preset.at('matrix')}: this matrix has no track",
        why=why,
        fix="name zones and genres under matrix, or remove entries of exclude",
    )


def _spread_order(points: Sequence[MatrixPoint], matrix: MatrixSection) -> list[int]:
    """Cells along the diagonals of the matrix, so that a few tracks visit many zones and genres."""
    zones = {name: index for index, name in enumerate(dict.fromkeys(point.zone for point in points))}
    genres = {name: index for index, name in enumerate(dict.fromkeys(point.genre for point in points))}
    turns = {axes: index for index, axes in enumerate(dict.fromkeys(point.axes for point in points))}

    def diagonal(index: int) -> tuple[int, int, int]:
        zone, genre, axes = points[index]
        return ((genres[genre] - zones[zone] - turns[axes]) % len(genres), zones[zone], turns[axes])

    return sorted(range(len(points)), key=diagonal)


def _counts(catalog: LoadedCatalog, points: Sequence[MatrixPoint], order: Sequence[int]) -> list[int]:
    preset, content = catalog.preset, catalog.preset.content
    matrix = content.matrix or MatrixSection()
    weights = [Fraction(1)] * len(points)
    for entry in content.weights:
        for index, point in enumerate(points):
            if point.matches(entry):
                weights[index] = Fraction(str(entry.weight))
    quotas = [_quota(preset, points, entry, entry.tracks, ("quotas", n)) for n, entry in enumerate(content.quotas)]
    for n, include in enumerate(matrix.include):
        if include.tracks is not None:
            quotas.append(_quota(preset, points, include, include.tracks, ("matrix", "include", n)))
    if content.tracks is None and content.tracks_per_cell is None:
        _need_number(preset, points, quotas)
    if content.weights and content.tracks is None and not content.quotas:
        raise PresetError(
            f"{preset.at('weights')}: weights divide 'tracks', and this catalog has no 'tracks'",
            fix="give 'tracks' in place of 'tracks_per_cell', or remove the weights",
        )
    counts = share_out(
        weights, order, quotas, total=content.tracks, per_cell=content.tracks_per_cell, where=str(preset.at("tracks"))
    )
    if not sum(counts):
        raise EmptyMatrixError(
            f"{preset.at('quotas')}: every cell gets 0 tracks", fix="write a larger number in a quota"
        )
    if sum(counts) > TRACKS_MAX:
        raise OutOfRangeError(
            f"{preset.at('tracks_per_cell')}: the catalog has {sum(counts):,} tracks; at most {TRACKS_MAX:,} fit",
            fix="lower the number, or split the catalog",
        )
    return counts


def _quota(
    preset: Preset[CatalogFile],
    points: Sequence[MatrixPoint],
    entry: Selector,
    tracks: int,
    path: tuple[str | int, ...],
) -> Quota:
    matching = frozenset(index for index, point in enumerate(points) if point.matches(entry))
    if not matching:
        asked = ", ".join(f"{name} {'/'.join(values)}" for name, values in entry.where.items())
        raise PresetError(
            f"{preset.at(*path)}: no cell of the matrix matches {asked or 'this entry'}",
            why="a quota needs at least one cell",
            fix="name zones, genres and values of axes that have a cell in common, or remove the quota",
        )
    return Quota(matching, tracks, str(preset.at(*path)))


def _need_number(preset: Preset[CatalogFile], points: Sequence[MatrixPoint], quotas: Sequence[Quota]) -> None:
    covered = frozenset().union(*(quota.cells for quota in quotas))
    if len(covered) < len(points):
        raise PresetError(
            f"{preset.at()}: the catalog does not say how many tracks to make",
            why=f"{len(points) - len(covered):,} of its {len(points):,} cells have no quota",
            fix="add 'tracks: 1000' (in all) or 'tracks_per_cell: 12'",
        )

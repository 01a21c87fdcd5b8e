"""Selection: the part of a catalog's plan that a run makes, such as one zone, or one take of each cell.

A selection is a part of the whole plan: the other takes keep their ids and their place, and a later run makes them. A
name that the catalog does not have is an error, so a typing error never selects nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from catalog.errors import SettingsError, TunemillError, UnknownNameError
from catalog.track import Take, Track

_SAMPLE: Final = re.compile(r"([1-9][0-9]{0,5})([ _-]?per[ _-]?cell)?")


@dataclass(frozen=True, slots=True)
class Places:
    """Zones, genres and values of further axes: those that somebody asks for, or those that there are."""

    zones: Collection[str] = ()
    genres: Collection[str] = ()
    axes: Mapping[str, Collection[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.zones or self.genres or self.axes)

    def has(self, track: Track) -> bool:
        """True for a track that lies in all that was asked for; what nobody asked for may be any."""
        return (
            (not self.zones or track.zone in self.zones)
            and (not self.genres or track.genre in self.genres)
            and all(track.axes.get(axis) in values for axis, values in self.axes.items())
        )

    def plus(self, more: Places) -> Places:
        """These places and `more` together."""
        axes = {axis: {*self.axes.get(axis, ()), *more.axes.get(axis, ())} for axis in (*self.axes, *more.axes)}
        return Places({*self.zones, *more.zones}, {*self.genres, *more.genres}, axes)

    def check_against(self, known: Places, whose: str) -> None:
        """Raise UnknownNameError for a name that `known` does not have; `whose` says what has those: 'the catalog'."""
        for kind, asked, there in (("zone", self.zones, known.zones), ("genre", self.genres, known.genres)):
            for name in asked:
                _check_name(name, there, f"{whose} has no {kind} {{}}", f"--{kind} ")
        for axis, values in self.axes.items():
            if axis in ("zone", "genre"):
                raise _with_fix(f"{axis!r} is not a further axis", f"write --{axis} {' or '.join(values)}")
            _check_name(axis, known.axes, f"{whose} has no axis {{}}", "--axis ", "=VALUE")
            for value in values:
                _check_name(value, known.axes[axis], f"{whose} has no {axis} {{}}", f"--axis {axis}=")


def parse_axes(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The values asked for by axis, from texts such as `daypart=morning`. Raises SettingsError."""
    axes: dict[str, tuple[str, ...]] = {}
    for text in texts:
        axis, sign, value = (part.strip() for part in text.partition("="))
        if not (axis and sign and value):
            raise SettingsError(
                f"--axis: {text!r} is not an axis and a value",
                why="--axis needs the name of an axis and one of its values",
                fix="write --axis AXIS=VALUE, such as --axis daypart=morning",
            )
        axes[axis] = (*axes.get(axis, ()), value)
    return axes


def parse_sample(text: str) -> int:
    """The number of takes of each cell, from `3-per-cell` or `3`. Raises SettingsError."""
    found = _SAMPLE.fullmatch(text.strip().lower())
    if found is None:
        raise SettingsError(
            f"--sample: {text!r} does not give a number of tracks for each cell",
            fix="write for example --sample 1-per-cell",
        )
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a plan that a person asked for; without a request, the whole plan.

    `per_cell` takes the first take of so many tracks of each cell, `limit` the first of the takes that are missing.
    """

    places: Places = field(default_factory=Places)
    per_cell: int | None = None
    limit: int | None = None

    def __bool__(self) -> bool:
        return bool(self.places) or self.per_cell is not None or self.limit is not None

    def picker(self) -> Picker:
        """One walk through the plan's takes."""
        return Picker(self)

    def nothing_found(self, catalog: str) -> UnknownNameError:
        """The error for a selection none of whose names is wrong, and that no take of the plan lies in."""
        return UnknownNameError(
            f"no take of {catalog!r} matches the selection",
            why="each selected name exists, but no track has all of them together",
            fix=f"select fewer options; `tunemill presets show {catalog} --cells` shows the cells",
        )


class Picker:
    """Decides take by take, in the plan's order, which of them are selected."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._missing = 0
        self._of_cell: Counter[tuple[object, ...]] = Counter()

    def picks(self, take: Take, place: int, *, is_missing: bool) -> bool:
        """True when `take` is selected; `is_missing` says that a run would render it."""
        chosen, track = self._selection, take.track
        if not chosen.places.has(track):
            return False
        if chosen.per_cell is not None:
            cell = (track.zone, track.genre, *sorted(track.axes.items()))
            if place > 1 or self._of_cell[cell] >= chosen.per_cell:
                return False
            self._of_cell[cell] += 1
        if chosen.limit is not None:
            if not is_missing or self._missing >= chosen.limit:
                return False
            self._missing += 1
        return True


def _check_name(name: str, known: Collection[str], what: str, before: str, after: str = "") -> None:
    """Raise UnknownNameError for a `name` that is none of `known`; `before` and `after` make an option of a name."""
    if name not in known:
        from orchestrator.matrix.names import bare, listed, quoted  # noqa: PLC0415 - the preset language loads slowly
        from orchestrator.matrix.problems import closest  # noqa: PLC0415

        names = sorted(known)
        guess = closest(bare(name), names)
        option = f"{before}{guess or names[0]}{after}" if names else ""
        fix = f"write {option}" if guess else f"choose one of these, as in {option}" if option else "leave it out"
        raise UnknownNameError(what.format(quoted(name)), why=listed(names), fix=fix)


def _with_fix(what: str, fix: str) -> TunemillError:
    return UnknownNameError(what, why="zones and genres have options of their own", fix=fix)

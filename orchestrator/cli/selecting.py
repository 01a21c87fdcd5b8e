"""Selecting: the options `--zone`, `--genre`, `--axis`, `--limit` and `--sample` as the part of a catalog they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.planning.selection import Places, Selection, parse_axes, parse_sample

if TYPE_CHECKING:  # the preset language loads slowly, and a list of tracks needs none of it
    from orchestrator.planning.plan import CatalogPlan


def read_places(zones: Sequence[str] | None, genres: Sequence[str] | None, axes: Sequence[str] | None) -> Places:
    """The places that the options name. Raises SettingsError for an axis without a value."""
    return Places(tuple(zones or ()), tuple(genres or ()), parse_axes(axes or ()))


def read_selection(places: Places, limit: int | None, sample: str | None) -> Selection:
    """The selection that the options ask for. Raises SettingsError."""
    return Selection(places, None if sample is None else parse_sample(sample), limit)


def as_options(selection: Selection) -> list[str]:
    """The options that ask for `selection`, for a command that is started in the background."""
    places = selection.places
    named = [("--zone", name) for name in places.zones] + [("--genre", name) for name in places.genres]
    named += [("--axis", f"{axis}={value}") for axis, values in places.axes.items() for value in values]
    if selection.per_cell is not None:
        named.append(("--sample", f"{selection.per_cell}-per-cell"))
    if selection.limit is not None:
        named.append(("--limit", str(selection.limit)))
    return [part for pair in named for part in pair]


def selected_in_words(plan: CatalogPlan) -> str:
    """`12 of 1,200 takes selected`; "" for a whole plan."""
    return "" if plan.selected is None else f"{len(plan.selected):,} of {plan.planned:,} takes selected"

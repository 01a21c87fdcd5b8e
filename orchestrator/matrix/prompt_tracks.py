"""Prompt tracks: a catalog of given prompts becomes tracks, one for each row of its CSV file.

A track's slot is the row's id, or else a hash of the fields that decide the sound. So other rows may be added and
removed, and a new title or a further take renders no existing take again. A field that a row leaves empty is chosen by
the planner, where the catalog leaves it to the planner. Otherwise it comes from the catalog, or from a neutral choice
that follows from the row; it is never random.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from catalog import limits
from catalog.errors import PresetError, UnreadableFileError
from catalog.prompt import TokenCounter
from catalog.seeds import stable_hash
from catalog.spec import OpenField, PlannerSpec, TrackSpec
from catalog.track import Track
from orchestrator.matrix.bounds import bounds_of, planner_for, refuse_without_planner
from orchestrator.matrix.files import CatalogFile, Selector
from orchestrator.matrix.located import is_file, shown
from orchestrator.matrix.names import listed, quoted
from orchestrator.matrix.overlays import ANY_TEMPO, Layer, TempoRange, TrackSettings, overlay
from orchestrator.matrix.planned import (
    PlannedTrack,
    refuse_long_caption,
    refuse_long_lyrics,
    refuse_long_plan,
    with_suffix,
)
from orchestrator.matrix.problems import closest
from orchestrator.matrix.reading import LoadedCatalog, Preset
from orchestrator.matrix.rows import PromptRow, read_csv

LABEL: Final = "imported"  # zone or genre of a row that names none
# Where neither row nor catalog says more: unhurried to brisk, and the keys that suit most instruments.
NEUTRAL_TEMPO: Final = (84, 124)
NEUTRAL_KEYS: Final = (
    *("C major", "G major", "D major", "F major", "A minor", "E minor", "D minor", "B minor", "Bb major", "G minor"),
)
# Where neither says more and the planner chooses: every key, each under one of its names (C#, not C♯).
ALL_KEYS: Final = tuple(sorted(key for key in limits.KEYSCALES if key.isascii()))


class _Scope(NamedTuple):
    """The settings of the rows of one zone and genre."""

    settings: TrackSettings  # of rows whose planner chooses nothing
    free: TrackSettings  # the choices of a planner that fills
    counter: TokenCounter


def expand_prompts(catalog: LoadedCatalog, model: str) -> Iterator[PlannedTrack]:
    """The tracks of a catalog of prompts, in the order of its rows."""
    preset = catalog.preset
    _check_rules(preset)
    path = _prompts_file(preset)
    rows = read_csv(path, catalog.counter)
    taken: set[tuple[str, str, str]] = set()
    scopes: dict[tuple[str, str], _Scope] = {}
    for row in rows:
        zone, genre = row.zone or LABEL, row.genre or LABEL
        if (zone, genre) not in scopes:
            scopes[zone, genre] = _scope(catalog, zone, genre)
            refuse_without_planner(scopes[zone, genre].settings, model)
        slot = _slot(row, zone, genre, taken)
        yield _track(row, f"{shown(path)}:{row.line}", scopes[zone, genre], (preset.key, zone, genre, slot), model)


def _prompts_file(preset: Preset[CatalogFile]) -> Path:
    """The file beside the one that names it. Raises UnreadableFileError for one that is not there."""
    name, where = preset.content.prompts or "", preset.at("prompts")
    folder = where.file.parent
    path = folder / name
    if is_file(path):
        return path
    names = sorted(each.name for each in folder.glob("*.csv"))
    guess = closest(name, names)
    raise UnreadableFileError(
        f"{where}: 'prompts' names {quoted(name)}, and there is no such file beside this one",
        why=listed(names),
        fix=f"write {guess!r}" if guess else "write the name of a CSV file in this folder, or put a CSV file there",
    )


def _check_rules(preset: Preset[CatalogFile]) -> None:
    for index, rule in enumerate(preset.content.rules):
        for name in rule.where:
            if name not in ("zone", "genre"):
                raise PresetError(
                    f"{preset.at('rules', index, name)}: {quoted(name)} is not a key here",
                    why="a catalog of prompts has no axes",
                    fix="name only zone and genre in the rule",
                )


def _scope(catalog: LoadedCatalog, zone: str, genre: str) -> _Scope:
    preset = catalog.preset

    def matches(rule: Selector) -> bool:
        return all({"zone": zone, "genre": genre}[name] in values for name, values in rule.where.items())

    layers = [Layer("catalog defaults", preset.content.defaults, partial(preset.at, "defaults"))]
    for n, rule in enumerate(preset.content.rules):
        if matches(rule):
            layers.append(Layer("rule", rule.set, partial(preset.at, "rules", n, "set")))
    said = any("tempo" in layer.choices.model_fields_set for layer in layers)
    start = ANY_TEMPO if said else TempoRange(*NEUTRAL_TEMPO, ())
    settings = overlay(start, layers, keys=NEUTRAL_KEYS, timesignatures=("4",))
    if settings.tempo.is_empty:
        raise PresetError(
            f"{preset.at('rules')}: no tempo is left for the prompts of {zone}/{genre}",
            why=f"the ranges do not meet: {', '.join(settings.tempo.sources)}",
            fix="widen one of these ranges",
        )
    free = overlay(ANY_TEMPO, layers, keys=ALL_KEYS, timesignatures=limits.TIME_SIGNATURES)
    return _Scope(settings, free, catalog.counter)


def _slot(row: PromptRow, zone: str, genre: str, taken: set[tuple[str, str, str]]) -> str:
    """The row's id or sound, with a number from the second time it occurs."""
    name = slot = row.id or row.sound[:16]
    times = 1
    while (zone, genre, slot) in taken:
        times += 1
        slot = f"{name}-{times}"
    taken.add((zone, genre, slot))
    return slot


def _track(row: PromptRow, where: str, scope: _Scope, key: tuple[str, str, str, str], model: str) -> PlannedTrack:
    name, zone, genre, slot = key
    settings = scope.settings
    planner = _planner(row, settings)
    fields = _open_fields(row, planner)

    def turned(field: str, choices: Any) -> Any:
        return choices[0] if len(choices) == 1 else choices[stable_hash(field, slot) % len(choices)]

    tempo = settings.tempo
    caption = with_suffix(row.caption, settings.caption_suffix)
    if settings.caption_suffix:
        refuse_long_caption(caption, where, slot, scope.counter)
    lyrics = row.lyrics
    if lyrics is None:
        lyrics = turned("lyrics", settings.lyrics)
        refuse_long_lyrics(lyrics, where, slot, scope.counter)
    duration_s = max(settings.duration_s) if "duration" in fields else turned("duration_s", settings.duration_s)
    metre = row.timesignature or turned("timesignature", settings.timesignatures)
    spec = TrackSpec(
        caption=caption,
        lyrics=lyrics,
        language=row.language or turned("language", settings.language),
        bpm=None if "bpm" in fields else row.bpm or turned("bpm", range(tempo.low, tempo.high + 1)),
        keyscale=None if "keyscale" in fields else row.keyscale or turned("keyscale", settings.keys),
        timesignature=None if "timesignature" in fields else metre,
        duration_s=row.duration_s or duration_s,
        bounds=bounds_of(scope.free, fields),
        model=model,
        diffusion=settings.diffusion.picked(turned),
        planner=planner_for(planner, fields),
        master=settings.master,
    )
    refuse_long_plan(spec, where, slot, scope.counter)
    seed = settings.seed if row.seed is None else row.seed
    title = row.title or _title(row.caption)
    track = Track(
        **{"catalog": name, "zone": zone, "genre": genre, "slot": slot, "title": title},
        **{"seed": seed, "spec": spec, "tags": settings.tags, "checks": settings.checks},
    )
    return PlannedTrack(track, row.takes or turned("takes", settings.takes))


def _planner(row: PromptRow, settings: TrackSettings) -> PlannerSpec | None:
    if row.planner is None:
        return settings.planner
    return (settings.planner or PlannerSpec()) if row.planner else None


def _open_fields(row: PromptRow, planner: PlannerSpec | None) -> tuple[OpenField, ...]:
    """The fields that the row leaves to its planner."""
    said = {"bpm": row.bpm, "duration": row.duration_s, "keyscale": row.keyscale, "timesignature": row.timesignature}
    wanted = planner.open if planner and planner.metadata == "fill" else ()
    return tuple(field for field in wanted if said[field] is None)


def _title(caption: str) -> str:
    """The first words of a caption, up to the first comma or full stop, as a title."""
    head = caption.replace(".", ",").split(",")[0].strip() or caption
    words = head.split()[:6]
    return " ".join(words)[:80].capitalize() if len(words) > 1 else head[:80].capitalize()

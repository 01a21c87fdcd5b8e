"""`tunemill catalog`: list the finished tracks, the takes that are rejected or spare, and the places of their audio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Final

import typer
from sqlalchemy import ColumnElement

from catalog.errors import SettingsError, UnknownNameError
from catalog.flaws import count_kinds
from catalog.settings import Settings, read_settings
from catalog.store import open_configured_store
from orchestrator.cli import choosing, duplicates, finish, upkeep, verdicts, yields
from orchestrator.cli.console import JsonFlag, print_json, print_line, say, warn
from orchestrator.cli.ledger import find_ledger
from orchestrator.cli.names import MadeCatalogArgument, Names, planned_places, read_names, refuse_unmade
from orchestrator.cli.options import AxisOption, GenreOption, ZoneOption
from orchestrator.cli.selecting import as_options, read_places
from orchestrator.cli.tracks import (
    NOISE_LABEL,
    print_tracks,
    print_unlisted,
    print_warnings,
    tracks_as_json,
    unlisted_as_json,
    with_warnings,
)
from orchestrator.ledger import Ledger, readings
from orchestrator.ledger.dullness import treble_by_genre, with_dullness
from orchestrator.ledger.duplicates import same_sounding
from orchestrator.ledger.readings import ListedTrack
from orchestrator.planning.selection import Places, Selection

_NEXT: Final = {
    "rejected": "`tunemill catalog accept TAKE` lists a rejected take that has a file",
    "spare": "`tunemill catalog pick TAKE` lists a spare take",
}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    catalog = typer.Typer(no_args_is_help=True, help="List finished tracks; check and repair ledger and store.")
    catalog.command("list")(list_catalog)
    duplicates.register(catalog)
    verdicts.register(catalog)
    choosing.register(catalog)
    yields.register(catalog)
    finish.register(catalog)
    upkeep.register(catalog)
    app.add_typer(catalog, name="catalog")


def list_catalog(
    catalog: MadeCatalogArgument = None,
    zone: ZoneOption = None,
    genre: GenreOption = None,
    axis: AxisOption = None,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="Only tracks with warnings, with their texts; a possible voice first.")
    ] = False,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="List the takes that the checks or a listener rejected instead.")
    ] = False,
    spare: Annotated[
        bool, typer.Option("--spare", help="List the sound takes that were not chosen for their track instead.")
    ] = False,
    files: Annotated[bool, typer.Option("--files", help="Print only the audio files, one on each line.")] = False,
    json: JsonFlag = False,
) -> None:
    """List the accepted tracks of a catalog, and their files.

    The list shows title, zone, genre, axes, tempo, key, length, loudness, warnings and file.

    A warning tells of a fault that did not reject the track. `dull, click x3` means: dull, and clicks in three places.

    --rejected and --spare may be combined. A take that the checks rejected has no file.
    """
    settings = read_settings()
    names, places = read_names(settings), read_places(zone, genre, axis)
    if states := [state for state, asked in (("rejected", rejected), ("spare", spare)) if asked]:
        if warnings:
            raise SettingsError(
                "--warnings cannot be combined with --rejected or --spare",
                why="it lists accepted tracks",
                fix="leave one out; `--json` has the warnings of each spare take",
            )
        _list_unlisted(settings, catalog, places, names, states, files=files, json=json)
        return
    tracks = _find_tracks(settings, catalog, places, names)
    listed, tracks = tracks, with_warnings(tracks) if warnings else tracks
    store = open_configured_store(settings)
    same_as = _find_duplicates(settings, tracks)
    if json:
        shown = tracks_as_json(tracks, store, names)
        print_json([{**track, "same_as": same_as.get(track["take_id"])} for track in shown])
    elif files:
        for track in tracks:
            print_line(store.locate(track.rendition.audio_key))
    elif not listed:
        made = " ".join([catalog or "CATALOG", *as_options(Selection(places))])
        warn(f"no finished tracks{' there' if places else ''}; make some with `tunemill run {made}`")
    elif warnings:
        print_warnings(tracks, store, names)
        _say_warned(tracks, len(listed))
    else:
        print_tracks(tracks, store, names)
        say(f"{len(tracks):,} tracks")
        if noisy := sum(track.rendition.noise for track in tracks):
            warn(f"{noisy:,} of them are {NOISE_LABEL}")
        if alike := len(same_as):
            many = "1 of them sounds" if alike == 1 else f"{alike:,} of them sound"
            warn(f"{many} like an earlier one; see `tunemill catalog duplicates CATALOG`")


def _say_warned(tracks: Sequence[ListedTrack], listed: int) -> None:
    kinds = Counter(kind for track in tracks for kind in count_kinds(track.warnings, track.flaws))
    by_kind = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
    say(f"{len(tracks):,} of {listed:,} tracks have warnings{f': {by_kind}' if by_kind else ''}", hang=2)


def _list_unlisted(
    settings: Settings,
    catalog: str | None,
    places: Places,
    names: Names,
    states: Sequence[str],
    *,
    files: bool,
    json: bool,
) -> None:
    """Print the takes in these states: rejected or spare."""
    takes = []
    if (found := _search(settings, catalog, places, names)) is not None:
        ledger, where = found
        with closing(ledger), ledger.read() as connection:
            takes = readings.list_unlisted(connection, catalog, states=states, where=where)
    store = open_configured_store(settings)
    if json:
        print_json(unlisted_as_json(takes, store, names))
    elif files:
        for each in takes:
            if each.audio_key:
                print_line(store.locate(each.audio_key))
    elif not takes:
        warn(f"no {' or '.join(states)} takes{' there' if places else ''}")
    else:
        print_unlisted(takes, store, names)
        counts = Counter(each.state for each in takes)
        say(", ".join(f"{counts[state]:,} {state}" for state in states) + (" take" if len(takes) == 1 else " takes"))
        for state in filter(counts.get, states):
            say(_NEXT[state], hang=2)


def _find_duplicates(settings: Settings, tracks: Sequence[ListedTrack]) -> dict[str, str]:
    """Id of a take in `tracks` -> the first take of its catalog that it sounds like."""
    ledger = find_ledger(settings) if tracks else None
    if ledger is None:
        return {}
    with closing(ledger), ledger.read() as connection:
        catalogs = sorted({track.take.track.catalog for track in tracks})
        found = {take: first for name in catalogs for take, (first, *_) in same_sounding(connection, name).items()}
    return {track.take.id: found[track.take.id] for track in tracks if track.take.id in found}


def _find_tracks(settings: Settings, catalog: str | None, places: Places, names: Names) -> list[ListedTrack]:
    found = _search(settings, catalog, places, names)
    if found is None:
        return []
    ledger, where = found
    with closing(ledger), ledger.read() as connection:
        return with_dullness(readings.list_tracks(connection, catalog, where=where), treble_by_genre(connection))


def _search(
    settings: Settings, catalog: str | None, places: Places, names: Names
) -> tuple[Ledger, list[ColumnElement[bool]]] | None:
    """The ledger, and the condition on the takes in these places; None without a ledger.

    Raises UnknownNameError for a catalog or a place that nobody knows.
    """
    ledger = find_ledger(settings)
    asked = names.keys_of(places, catalog)
    if ledger is None:
        if catalog is not None or asked:
            _check_planned(asked, catalog, settings)
        return None
    with ledger.read() as connection:
        known = readings.catalogs(connection)
        if catalog is not None:
            refuse_unmade(catalog, known)
        if asked:
            there = Places(*readings.known_places(connection, catalog))
            _check_places(asked, there, catalog, settings)
    return ledger, readings.in_places(asked.zones, asked.genres, asked.axes)


def _check_planned(asked: Places, catalog: str | None, settings: Settings) -> None:
    """Raise UnknownNameError for a catalog or a place that no preset has, where nothing was made yet."""
    planned = planned_places(catalog, settings)
    if planned is None:
        raise UnknownNameError(
            f"there is no catalog {catalog!r}" if catalog else "the presets cannot be read",
            why="the ledger has no run yet, and no preset of that name can be read",
            fix="`tunemill presets list catalogs` lists the catalogs",
        )
    asked.check_against(planned, f"the catalog {catalog!r}" if catalog else "the library")


def _check_places(asked: Places, made: Places, catalog: str | None, settings: Settings) -> None:
    """Raise UnknownNameError for a place that neither the ledger has nor the presets of `catalog` plan."""
    whose = "the ledger" if catalog is None else f"the catalog {catalog!r}"
    try:
        asked.check_against(made, whose)
    except UnknownNameError:
        planned = planned_places(catalog, settings)
        if planned is None:
            raise
        asked.check_against(made.plus(planned), whose)

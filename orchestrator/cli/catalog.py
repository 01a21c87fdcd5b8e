"""`tunemill catalog`: list the finished tracks and the places of their audio."""

from __future__ import annotations

from typing import Annotated

import typer

from catalog.errors import UnknownNameError
from catalog.settings import Settings, read_settings
from catalog.store import open_configured_store
from orchestrator.cli import upkeep, verdicts
from orchestrator.cli.console import JsonFlag, print_json, print_line, say, warn
from orchestrator.cli.ledger import find_ledger
from orchestrator.cli.tracks import NOISE_LABEL, print_tracks, tracks_as_json
from orchestrator.ledger import readings
from orchestrator.ledger.readings import ListedTrack


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    catalog = typer.Typer(no_args_is_help=True, help="List finished tracks; keep ledger and store in agreement.")
    catalog.command("list")(list_catalog)
    verdicts.register(catalog)
    upkeep.register(catalog)
    app.add_typer(catalog, name="catalog")


def list_catalog(
    catalog: Annotated[str | None, typer.Argument(help="A catalog's name; all of them when left out.")] = None,
    zone: Annotated[str | None, typer.Option(help="List only tracks of this zone.")] = None,
    genre: Annotated[str | None, typer.Option(help="List only tracks of this genre.")] = None,
    files: Annotated[bool, typer.Option("--files", help="Print only where the audio lies, one file a line.")] = False,
    json: JsonFlag = False,
) -> None:
    """List the accepted tracks of a catalog: title, zone, genre, tempo, key, length, loudness and file."""
    settings = read_settings()
    tracks = _find_tracks(settings, catalog, zone, genre)
    store = open_configured_store(settings)
    if json:
        print_json(tracks_as_json(tracks, store))
    elif files:
        for track in tracks:
            print_line(store.locate(track.rendition.audio_key))
    elif not tracks:
        warn("no finished tracks; make some with `tunemill run CATALOG`")
    else:
        print_tracks(tracks, store)
        say(f"{len(tracks):,} tracks")
        if noisy := sum(track.rendition.noise for track in tracks):
            warn(f"{noisy:,} of them are {NOISE_LABEL}")


def _find_tracks(settings: Settings, catalog: str | None, zone: str | None, genre: str | None) -> list[ListedTrack]:
    ledger = find_ledger(settings)
    if ledger is None:
        return []
    with ledger.read() as connection:
        known = readings.catalogs(connection)
        if catalog is not None and catalog not in known:
            raise UnknownNameError(
                f"the ledger has no catalog {catalog!r}",
                why=f"it has: {', '.join(known) or 'none yet'}",
                fix=f"make it with `tunemill run {catalog}`",
            )
        return readings.list_tracks(connection, catalog, zone=zone, genre=genre)

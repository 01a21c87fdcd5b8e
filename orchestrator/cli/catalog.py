"""`tunemill catalog list`: the finished tracks, and where they lie."""

from __future__ import annotations

from typing import Annotated

import typer

from catalog.errors import UnknownNameError
from catalog.settings import read_settings
from catalog.store import open_store
from orchestrator.cli.console import JsonFlag, out, print_json, warn
from orchestrator.cli.plan import find_ledger
from orchestrator.cli.tracks import NOISE_LABEL, print_tracks, tracks_as_json
from orchestrator.ledger import readings


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    catalog = typer.Typer(no_args_is_help=True, help="The finished tracks.")
    # A group of its own although it has one command: more will follow, and `catalog list` must not become `catalog`.
    catalog.callback()(lambda: None)
    catalog.command("list")(list_catalog)
    app.add_typer(catalog, name="catalog")


def list_catalog(
    catalog: Annotated[str | None, typer.Argument(help="A catalog's name; all of them when left out.")] = None,
    zone: Annotated[str | None, typer.Option(help="Only this zone.")] = None,
    genre: Annotated[str | None, typer.Option(help="Only this genre.")] = None,
    json: JsonFlag = False,
) -> None:
    """List accepted tracks that their catalog still has: title, zone, genre, tempo, key, length, loudness, file."""
    settings = read_settings()
    ledger = find_ledger(settings)
    tracks = []
    if ledger is not None:
        with ledger.read() as connection:
            known = readings.catalogs(connection)
            if catalog is not None and catalog not in known:
                raise UnknownNameError(
                    f"the ledger has no catalog {catalog!r}",
                    why=f"it has: {', '.join(known) or 'none yet'}",
                    fix=f"make it with `tunemill run {catalog}`",
                )
            tracks = readings.list_tracks(connection, catalog, zone=zone, genre=genre)
    store = open_store(settings.store, s3_endpoint_url=settings.s3_endpoint_url)
    if json:
        print_json(tracks_as_json(tracks, store))
        return
    if not tracks:
        warn("no finished tracks; make some with `tunemill run CATALOG`")
        return
    print_tracks(tracks, store, full=True)
    out.print(f"{len(tracks):,} tracks")
    if noisy := sum(track.rendition.noise for track in tracks):
        warn(f"{noisy:,} of them are {NOISE_LABEL}")

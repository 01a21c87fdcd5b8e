"""Dullness: tracks with much less treble than the others of their genre.

How much treble music has depends on its genre more than on its quality, so the checks of a worker, which hear one take,
have only a wide limit. Here a track is compared with the median of its genre over all catalogs. The limit is robust:
3.5 times the median deviation, scaled as a standard deviation, and 6 dB at the least.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from catalog.flaws import Flaw, kind_of_reason
from orchestrator.ledger.readings import ListedTrack
from orchestrator.ledger.slots import is_listed
from orchestrator.ledger.tables import RENDITION, TAKE

TRACKS_LEAST: Final = 20  # of a genre: the median of fewer says little
DEVIATIONS: Final = 3.5
LEAST_DB: Final = 6.0
_TO_SIGMA: Final = 1.4826  # of normal values


class GenreTreble(NamedTuple):
    """The energy above 8 kHz of the tracks of one genre."""

    tracks: int
    median_db: float
    limit_db: float  # tracks below it are dull for their genre


def treble_by_genre(connection: Connection) -> dict[str, GenreTreble]:
    """The treble of each genre of which enough tracks are listed and measured, without noise by design."""
    treble = RENDITION.c.sidecar["measures", "treble_db"].as_float()
    query = select(TAKE.c.genre, treble).join(RENDITION, RENDITION.c.record_id == TAKE.c.rendition_id)
    found: dict[str, list[float]] = {}
    for genre, value in connection.execute(query.where(is_listed(), ~RENDITION.c.noise)):
        if value is not None:
            found.setdefault(genre, []).append(value)
    return {genre: _treble(values) for genre, values in found.items() if len(values) >= TRACKS_LEAST}


def _treble(values: Sequence[float]) -> GenreTreble:
    middle = median(values)
    spread = _TO_SIGMA * median(abs(value - middle) for value in values)
    return GenreTreble(len(values), middle, middle - max(LEAST_DB, DEVIATIONS * spread))


def with_dullness(tracks: Sequence[ListedTrack], genres: dict[str, GenreTreble]) -> list[ListedTrack]:
    """`tracks` with a further warning for each that is dull for its genre and that its own checks found not to be."""
    return [_with_warning(track, genres.get(track.take.track.genre)) for track in tracks]


def _with_warning(track: ListedTrack, genre: GenreTreble | None) -> ListedTrack:
    value = track.treble_db
    if genre is None or value is None or value >= genre.limit_db or track.rendition.noise:
        return track
    if any(kind_of_reason(text) == "dull" for text in track.warnings):
        return track
    text = (
        f"dull for its genre: {genre.median_db - value:.0f} dB less energy above 8 kHz than the median of "
        f"{genre.tracks:,} tracks (limit {genre.median_db - genre.limit_db:.0f} dB)"
    )
    flaw = Flaw(kind="dull", text=text, stops=False, value=value, limit=round(genre.limit_db, 1), unit="dB")
    return track._replace(warnings=(*track.warnings, text), flaws=(*track.flaws, flaw))

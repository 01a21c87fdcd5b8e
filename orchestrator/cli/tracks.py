"""Finished tracks: a table for people and JSON for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from catalog.spec import TrackSpec, with_metadata
from catalog.store import Store
from orchestrator.cli.console import out, say
from orchestrator.cli.display import Column, number, print_table
from orchestrator.ledger.readings import ListedTrack

NOISE_LABEL = "noise: random weights, no music"
_ID_DIGITS_SHOWN = 12  # of 24; `tunemill replay` takes the first digits too

_NAMES = (Column("title", least=14), Column("zone", least=10), Column("genre", least=10))
_MUSIC = (number("bpm", spare=1), Column("key", spare=2))
_AUDIO = (number("length"), number("LUFS"))
_SEED = number("seed", spare=4)
_PLACE = (Column("take"), Column("file", spare=3))
_SOUND = Column("sound")


def tracks_as_json(tracks: Sequence[ListedTrack], store: Store) -> list[dict[str, Any]]:
    """Return tracks as plain values for scripts."""
    return [
        {
            "take_id": take.id,
            "track": take.track.key,
            "number": take.number,
            "title": take.track.title,
            "zone": take.track.zone,
            "genre": take.track.genre,
            "bpm": spec.bpm,
            "keyscale": spec.keyscale,
            "timesignature": spec.timesignature,
            "duration_ms": rendition.audio_ms,
            "loudness_lufs": rendition.loudness_lufs,
            "dit_seed": rendition.dit_seed,
            "lm_seed": rendition.lm_seed,
            "model": take.spec.model,
            "noise": rendition.noise,
            "order_known": order_known,
            "sha256": rendition.sha256,
            "file": store.locate(rendition.audio_key),
        }
        for take, rendition, spec, order_known in (
            (track.take, track.rendition, _rendered_spec(track), track.is_order_known) for track in tracks
        )
    ]


def print_tracks(tracks: Sequence[ListedTrack], store: Store) -> None:
    """Print one line for each track, and the folder that holds the files.

    A terminal shows the first digits of each take's id, and each file below that folder where the terminal has room;
    a pipe gets both complete.
    """
    folder = _common_folder(tracks)
    mixed = len({track.rendition.noise for track in tracks}) > 1  # where all tracks are noise, one note is enough
    columns = (*_NAMES, *_MUSIC, *_AUDIO, _SEED, *([_SOUND] if mixed else []), *_PLACE)
    print_table(columns, [_row(track, store, folder, mixed=mixed) for track in tracks])
    first = tracks[0].rendition.audio_key
    where = store.locate(first).removesuffix(first.removeprefix(folder)).rstrip("/")
    if unknown := sum(not track.is_order_known for track in tracks):
        say(f"{unknown:,} of these prove no order (`order_known` in --json): somebody may have planted them", hang=2)
    say(f"audio in {where} ({'' if folder else 'CATALOG/audio/'}ZONE/GENRE/TAKE...)", hang=2)


def _row(listed: ListedTrack, store: Store, folder: str, *, mixed: bool) -> tuple[str, ...]:
    take, rendition = listed.take, listed.rendition
    key, spec = rendition.audio_key, _rendered_spec(listed)
    lufs = "-" if rendition.loudness_lufs is None else f"{rendition.loudness_lufs:.1f}"
    names = (take.track.title or take.track.key, take.track.zone, take.track.genre)
    music = (str(spec.music.bpm), spec.music.keyscale, _length(rendition.audio_ms), lufs, str(rendition.dit_seed))
    sound = ("noise" if rendition.noise else "",) if mixed else ()
    if out.is_terminal:
        return (*names, *music, *sound, take.id[:_ID_DIGITS_SHOWN], key.removeprefix(folder))
    return (*names, *music, *sound, take.id, store.locate(key))


def _rendered_spec(listed: ListedTrack) -> TrackSpec:
    return with_metadata(listed.take.spec, listed.metadata)


def _common_folder(tracks: Sequence[ListedTrack]) -> str:
    """The folder that every audio key begins with; empty for tracks of several catalogs."""
    catalogs = {track.take.track.catalog for track in tracks}
    return f"{catalogs.pop()}/audio/" if len(catalogs) == 1 else ""


def _length(audio_ms: int) -> str:
    seconds = round(audio_ms / 1000)
    return f"{seconds // 60}:{seconds % 60:02d}"

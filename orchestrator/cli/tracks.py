"""Finished tracks: a table for people and JSON for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catalog.spec import TrackSpec, with_metadata
from catalog.store import Store
from orchestrator.cli.console import out, say
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.names import NO_NAMES, Names
from orchestrator.ledger.readings import ListedTrack, loudness_spread

NOISE_LABEL = "noise: random weights, no music"
_OFF_TARGET_LU = 0.1  # less is no news
_ID_DIGITS_SHOWN = 12  # of 24; `tunemill replay` takes the first digits too

_NAMES = (Column("title", least=14), Column("zone", least=10), Column("genre", least=10))
_NUMBER = number("no.")  # of the take
_MUSIC = (number("bpm", spare=2), Column("key", spare=3))
_AUDIO = (number("length"), number("LUFS", spare=1))
_SEED = number("seed", spare=5)
_PLACE = (Column("take"), Column("file", spare=4))
_SOUND = Column("sound")


def tracks_as_json(tracks: Sequence[ListedTrack], store: Store, names: Names = NO_NAMES) -> list[dict[str, Any]]:
    """Return tracks as plain values for scripts."""
    return [
        {
            "take_id": take.id,
            "track": take.track.key,
            "number": take.number,
            "title": take.track.title,
            "catalog": names.catalog(take.track.catalog),
            "zone": names.place(take.track.catalog, "zones", take.track.zone),
            "genre": names.place(take.track.catalog, "genres", take.track.genre),
            "axes": dict(take.track.axes),
            "caption": spec.caption,
            "bpm": spec.bpm,
            "keyscale": spec.keyscale,
            "timesignature": spec.timesignature,
            "duration_ms": rendition.audio_ms,
            "loudness_lufs": rendition.loudness_lufs,
            "dit_seed": rendition.dit_seed,
            "lm_seed": rendition.lm_seed,
            "model": take.spec.model,
            "created_at_ms": rendition.created_at_ms,
            "noise": rendition.noise,
            "order_known": order_known,
            "sha256": rendition.sha256,
            "file": store.locate(rendition.audio_key),
        }
        for take, rendition, spec, order_known in (
            (track.take, track.rendition, _rendered_spec(track), track.is_order_known) for track in tracks
        )
    ]


def print_tracks(tracks: Sequence[ListedTrack], store: Store, names: Names = NO_NAMES) -> None:
    """Print one line for each track, and the folder that holds the files.

    A terminal shows the first digits of each take's id, and each file below that folder where the terminal has room;
    a pipe gets both complete.
    """
    folder = _common_folder(tracks)
    mixed = len({track.rendition.noise for track in tracks}) > 1  # where all tracks are noise, one note is enough
    axes = sorted({axis for track in tracks for axis in track.take.track.axes})
    numbered = any(track.take.number > 1 for track in tracks)
    shown = _Shown(store, names, folder, tuple(axes), numbered=numbered, mixed=mixed)
    print_table(shown.columns, [shown.row(track) for track in tracks])
    if (spread := loudness_spread(tracks)) and max(-spread.least_lu, spread.most_lu) >= _OFF_TARGET_LU:
        say(
            f"loudness against its target: from {spread.least_lu:+.1f} to {spread.most_lu:+.1f} LU, mean "
            f"{spread.mean_lu:+.1f}, standard deviation {spread.deviation_lu:.1f}",
            hang=2,
        )
    first = tracks[0].rendition.audio_key
    where = store.locate(first).removesuffix(first.removeprefix(folder)).rstrip("/")
    if unknown := sum(not track.is_order_known for track in tracks):
        say(
            f"{unknown:,} of these have no proof of an order (`order_known` in --json): an attacker may have added "
            "them",
            hang=2,
        )
    say(f"audio in {where} ({'' if folder else 'CATALOG/audio/'}ZONE/GENRE/TAKE...)", hang=2)


@dataclass(frozen=True)
class _Shown:
    """The columns of a table of tracks, and what they take from each."""

    store: Store
    names: Names
    folder: str  # that all files lie in
    axes: tuple[str, ...]
    numbered: bool  # some track has several takes
    mixed: bool  # some are noise and some are not

    @property
    def columns(self) -> tuple[Column, ...]:
        axes = (Column(axis, least=5) for axis in self.axes)
        number_of_take, sound = [_NUMBER] if self.numbered else [], [_SOUND] if self.mixed else []
        return (*_NAMES, *axes, *number_of_take, *_MUSIC, *_AUDIO, _SEED, *sound, *_PLACE)

    def row(self, listed: ListedTrack) -> tuple[str, ...]:
        take, track, rendition = listed.take, listed.take.track, listed.rendition
        spec = _rendered_spec(listed)
        zone = self.names.place(track.catalog, "zones", track.zone)
        genre = self.names.place(track.catalog, "genres", track.genre)
        axes = (track.axes.get(axis, "") for axis in self.axes)
        number_of_take = (str(take.number),) if self.numbered else ()
        lufs = "-" if rendition.loudness_lufs is None else f"{rendition.loudness_lufs:.1f}"
        music = (str(spec.music.bpm), spec.music.keyscale, _length(rendition.audio_ms), lufs, str(rendition.dit_seed))
        sound = ("noise" if rendition.noise else "",) if self.mixed else ()
        key = rendition.audio_key
        file = (take.id, self.store.locate(key))
        if out.is_terminal:
            file = (take.id[:_ID_DIGITS_SHOWN], key.removeprefix(self.folder))
        return (track.title or track.key, zone, genre, *axes, *number_of_take, *music, *sound, *file)


def _rendered_spec(listed: ListedTrack) -> TrackSpec:
    return with_metadata(listed.take.spec, listed.metadata)


def _common_folder(tracks: Sequence[ListedTrack]) -> str:
    """The folder that every audio key begins with; empty for tracks of several catalogs."""
    catalogs = {track.take.track.catalog for track in tracks}
    return f"{catalogs.pop()}/audio/" if len(catalogs) == 1 else ""


def _length(audio_ms: int) -> str:
    seconds = round(audio_ms / 1000)
    return f"{seconds // 60}:{seconds % 60:02d}"

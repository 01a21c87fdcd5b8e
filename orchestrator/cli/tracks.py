"""Finished tracks for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from catalog.store import Store
from orchestrator.cli.columns import print_columns
from orchestrator.ledger.readings import ListedTrack

NOISE_LABEL = "noise: random weights, no music"


def tracks_as_json(tracks: Sequence[ListedTrack], store: Store) -> list[dict[str, Any]]:
    """Tracks for scripts."""
    return [
        {
            "take_id": take.id,
            "track": take.track.key,
            "number": take.number,
            "title": take.track.title,
            "zone": take.track.zone,
            "genre": take.track.genre,
            "bpm": take.spec.bpm,
            "keyscale": take.spec.keyscale,
            "duration_ms": rendition.audio_ms,
            "loudness_lufs": rendition.loudness_lufs,
            "dit_seed": rendition.dit_seed,
            "lm_seed": rendition.lm_seed,
            "model": take.spec.model,
            "noise": rendition.noise,
            "sha256": rendition.sha256,
            "file": store.locate(rendition.audio_key),
        }
        for take, rendition in tracks
    ]


def print_tracks(tracks: Sequence[ListedTrack], store: Store, *, full: bool) -> None:
    """One line a track, its file last and never cut, so that it can be copied; `full` adds tempo, key and seed."""
    more = ("bpm", "key", "seed") if full else ()
    rows = [("title", "zone", "genre", *more, "length", "LUFS", "file")]
    for take, rendition in tracks:
        settings = (str(take.spec.bpm), take.spec.keyscale, str(rendition.dit_seed)) if full else ()
        lufs = "-" if rendition.loudness_lufs is None else f"{rendition.loudness_lufs:.1f}"
        file = store.locate(rendition.audio_key) + ("  (noise)" if rendition.noise else "")
        names = (take.track.title or take.track.key, take.track.zone, take.track.genre)
        rows.append((*names, *settings, _length(rendition.audio_ms), lufs, file))
    length = len(rows[0]) - 3
    print_columns(rows, right=frozenset({length, length + 1} | ({3, 5} if full else set())))


def _length(audio_ms: int) -> str:
    seconds = round(audio_ms / 1000)
    return f"{seconds // 60}:{seconds % 60:02d}"

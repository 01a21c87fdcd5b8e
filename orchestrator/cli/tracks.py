"""Finished tracks, and the takes that are rejected or spare: tables for people and JSON for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catalog.flaws import count_kinds, in_words
from catalog.spec import TrackSpec, with_metadata
from catalog.store import Store
from catalog.track import Take
from orchestrator.cli.console import out, print_line, say
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.names import NO_NAMES, Names
from orchestrator.ledger.readings import ListedTrack, UnlistedTake, loudness_spread

NOISE_LABEL = "noise: random weights, no music"
_OFF_TARGET_LU = 0.1  # less is no news
_ID_DIGITS_SHOWN = 12  # of 24; `tunemill replay` takes the first digits too

_NAMES = (Column("title", least=14), Column("zone", least=10), Column("genre", least=10))
_NUMBER = number("take")
_MUSIC = (number("bpm", spare=2), Column("key", spare=3))
_AUDIO = (number("length"), number("LUFS", spare=1))
_SEED = number("seed", spare=5)
_PLACE = (Column("id"), Column("file", spare=4))
_SOUND = Column("sound")
_WARNINGS = Column("warnings", least=8)
_UNLISTED_NAMES = (Column("title", least=14), Column("zone", least=6), Column("genre", least=6))


def tracks_as_json(tracks: Sequence[ListedTrack], store: Store, names: Names = NO_NAMES) -> list[dict[str, Any]]:
    """Return tracks as plain values for scripts."""
    return [
        {
            **_names_as_json(take, names),
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
            **_warned_as_json(track),
        }
        for track, take, rendition, spec, order_known in (
            (track, track.take, track.rendition, _rendered_spec(track), track.is_order_known) for track in tracks
        )
    ]


def unlisted_as_json(takes: Sequence[UnlistedTake], store: Store, names: Names = NO_NAMES) -> list[dict[str, Any]]:
    """Return rejected and spare takes as plain values for scripts."""
    return [
        {
            **_names_as_json(each.take, names),
            "state": each.state,
            "rejected_by": each.rejected_by or None,
            "reasons": list(each.reasons),
            "at_ms": each.at_ms,
            "dit_seed": each.take.dit_seed,
            "lm_seed": each.take.lm_seed,
            "model": each.take.spec.model,
            "file": store.locate(each.audio_key) if each.audio_key else None,
            **_warned_as_json(each),
        }
        for each in takes
    ]


def _names_as_json(take: Take, names: Names) -> dict[str, Any]:
    return {
        "take_id": take.id,
        "track": take.track.key,
        "number": take.number,
        "title": take.track.title,
        "catalog": names.catalog(take.track.catalog),
        "zone": names.place(take.track.catalog, "zones", take.track.zone),
        "genre": names.place(take.track.catalog, "genres", take.track.genre),
        "axes": dict(take.track.axes),
    }


def _warned_as_json(warned: ListedTrack | UnlistedTake) -> dict[str, Any]:
    flaws = [flaw.model_dump(mode="json", exclude={"stops"}) for flaw in warned.flaws]
    return {"warnings": list(warned.warnings), "flaws": flaws}


def print_tracks(tracks: Sequence[ListedTrack], store: Store, names: Names = NO_NAMES) -> None:
    """Print one line for each track, and the folder that holds the files.

    A terminal shows the first digits of each take's id, and each file below that folder where the terminal has room;
    a pipe gets both complete.
    """
    folder = _common_folder(tracks)
    mixed = len({track.rendition.noise for track in tracks}) > 1  # where all tracks are noise, one note is enough
    axes = sorted({axis for track in tracks for axis in track.take.track.axes})
    numbered = any(max(track.take.number, track.wanted) > 1 for track in tracks)
    warned = any(track.warnings for track in tracks)
    shown = _Shown(store, names, folder, tuple(axes), numbered=numbered, mixed=mixed, warned=warned)
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
    warned: bool  # some have warnings

    @property
    def columns(self) -> tuple[Column, ...]:
        axes = (Column(axis, least=5) for axis in self.axes)
        number_of_take, sound = [_NUMBER] if self.numbered else [], [_SOUND] if self.mixed else []
        warnings = [_WARNINGS] if self.warned else []
        return (*_NAMES, *axes, *number_of_take, *_MUSIC, *_AUDIO, _SEED, *sound, *warnings, *_PLACE)

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
        warnings = (kinds_in_words(listed),) if self.warned else ()
        key = rendition.audio_key
        file = (take.id, self.store.locate(key))
        if out.is_terminal:
            file = (take.id[:_ID_DIGITS_SHOWN], key.removeprefix(self.folder))
        return (track.title or track.key, zone, genre, *axes, *number_of_take, *music, *sound, *warnings, *file)


def print_unlisted(takes: Sequence[UnlistedTake], store: Store, names: Names = NO_NAMES) -> None:
    """Print one line for each rejected or spare take, with the reason.

    A terminal shows the first digits of each id and the beginning of a long reason; a pipe gets both complete.
    """
    axes = sorted({axis for each in takes for axis in each.take.track.axes})
    mixed = len({each.state for each in takes}) > 1
    digits = _ID_DIGITS_SHOWN if out.is_terminal else None
    rows = []
    for each in takes:
        track, place = each.take.track, _names_as_json(each.take, names)
        rows.append(
            (
                *(
                    track.title or track.key,
                    place["zone"],
                    place["genre"],
                    *(track.axes.get(axis, "") for axis in axes),
                ),
                *(str(each.take.number), *([each.state] if mixed else [])),
                *(": ".join(filter(None, [each.rejected_by, "; ".join(each.reasons)])), kinds_in_words(each)),
                *(each.take.id[:digits], store.locate(each.audio_key) if each.audio_key else ""),
            )
        )
    state = [Column("state")] if mixed else []
    rest = (Column("reason", least=12), Column("warnings", least=8, spare=2), Column("id"), Column("file", spare=4))
    print_table((*_UNLISTED_NAMES, *(Column(axis, least=5) for axis in axes), _NUMBER, *state, *rest), rows)


def print_warnings(tracks: Sequence[ListedTrack], store: Store, names: Names = NO_NAMES) -> None:
    """Print each track with the texts of its warnings, and the seconds that they concern, below it."""
    for track in tracks:
        take, place = track.take, _names_as_json(track.take, names)
        where = ", ".join([place["zone"], place["genre"], *take.track.axes.values(), f"take {take.number}", take.id])
        say(f"{take.track.title or take.track.key} ({where})", hang=2)
        spans_s = {flaw.text: in_words(flaw.spans_s) for flaw in track.flaws if flaw.spans_s}
        for text in track.warnings:
            at = spans_s.get(text, "")
            say(text if at in text else f"{text}, at {at}", label="    ", hang=6)
        print_line(f"    {store.locate(track.rendition.audio_key)}")


def kinds_in_words(warned: ListedTrack | UnlistedTake) -> str:
    """`dull, click x3`: the kinds of the warnings, with the number of places where there are several."""
    kinds = count_kinds(warned.warnings, warned.flaws)
    return ", ".join(f"{kind} x{places}" if places > 1 else kind for kind, places in kinds.items())


def with_warnings(tracks: Sequence[ListedTrack]) -> list[ListedTrack]:
    """The tracks that have warnings, those with a possible voice first."""
    warned = [track for track in tracks if track.warnings]
    return sorted(warned, key=lambda track: "voice" not in count_kinds(track.warnings, track.flaws))


def _rendered_spec(listed: ListedTrack) -> TrackSpec:
    return with_metadata(listed.take.spec, listed.metadata)


def _common_folder(tracks: Sequence[ListedTrack]) -> str:
    """The folder that every audio key begins with; empty for tracks of several catalogs."""
    catalogs = {track.take.track.catalog for track in tracks}
    return f"{catalogs.pop()}/audio/" if len(catalogs) == 1 else ""


def _length(audio_ms: int) -> str:
    seconds = round(audio_ms / 1000)
    return f"{seconds // 60}:{seconds % 60:02d}"

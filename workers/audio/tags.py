"""Tags: the metadata in the file itself, in the fields that players and libraries read.

With mutagen (the extra `tags`; GPL) every field is written; without it those that libsndfile has: title, genre,
album and comment. The comment alone carries all of it in words, the disclosure included. WAV stays untagged,
because some delivery rules forbid anything after the samples. Tags never touch the audio and hold no clock,
so the same take gives the same tags.
"""

from __future__ import annotations

import io
import re
import unicodedata
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from catalog.models import find_model
from catalog.spec import AudioFormat, TrackSpec
from catalog.track import Take

NOISE_LABEL: Final = "NOISE (random weights)"
SOFTWARE: Final = "Tunemill"
_SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_MADE: Final = {"trainedAlgorithmicMedia": "made by AI", "algorithmicMedia": "synthesised"}


class Labels(NamedTuple):
    """The tags of one take."""

    title: str
    genre: str
    album: str
    comment: str
    bpm: int
    key: str  # short form, such as F#m
    fields: dict[str, str]  # further fields by name


def source_type(model: str) -> str:
    """The IPTC digital source type of the audio: made by a trained model, or by an algorithm alone."""
    return _SOURCE_TYPES + find_model(model).source_type


def file_name_of(take: Take, extension: str) -> str:
    """The name under which a person who saves the audio finds it again: its title, and the take's number after the 1st.

    No sign in it means anything to a file system.
    """
    title = re.sub(r'[\\/:*?"<>|]+', " ", _title(take)).strip(" .")
    number = f" ({take.number})" if take.number > 1 else ""
    return f"{title[:100]}{number}.{extension}"


def labels_of(take: Take, *, model: str, noise: bool, spec: TrackSpec | None = None) -> Labels:
    """The labels of `take` as `model` rendered it; `spec` has what the planner chose where the take's own is open."""
    track, music = take.track, (spec or take.spec).music
    title = _title(take)
    fields = {
        "ZONE": track.zone,
        "TRACK": track.key,
        "TAKE": take.id,
        "SEED": str(take.dit_seed),
        "LM_SEED": str(take.lm_seed),
        "MODEL": model,
        "DIGITAL_SOURCE_TYPE": source_type(model),
    }
    said = [
        NOISE_LABEL if noise else "",
        f"zone {track.zone}, {music.bpm} BPM, {music.keyscale}, seed {take.dit_seed}, model {model}, take {take.id}",
        f"{_MADE[find_model(model).source_type]}, digital source type {source_type(model)}",
    ]
    return Labels(
        title=f"{title} [{NOISE_LABEL}]" if noise else title,
        genre=_words(track.genre),
        album=_words(track.catalog),
        comment="; ".join(part for part in said if part),
        bpm=music.bpm,
        key=short_key(music.keyscale),
        fields=fields,
    )


def _title(take: Take) -> str:
    return _printable(take.track.title) or f"{_words(take.track.genre)} {take.track.slot}"


def short_key(keyscale: str) -> str:
    """`F# minor` as `F#m`, `E♭ major` as `Eb`: the form that DJ software reads."""
    note, mode = keyscale.replace("♯", "#").replace("♭", "b").split()
    return note + ("m" if mode == "minor" else "")


def has_mutagen() -> bool:
    """The complete tags can be written: mutagen is installed."""
    return find_spec("mutagen") is not None


def sndfile_strings(labels: Labels, audio_format: AudioFormat) -> dict[str, str]:
    """The fields that libsndfile writes itself, for `encode`; none for WAV."""
    if audio_format is AudioFormat.WAV:
        return {}
    strings = {
        "title": labels.title,
        "genre": labels.genre,
        "album": labels.album,
        "comment": labels.comment,
        "software": SOFTWARE,
    }
    if audio_format is AudioFormat.MP3:  # its UTF-8 would be read back as Latin-1
        return {name: _ascii(text) for name, text in strings.items()}
    return strings


def write_tags(body: bytes, audio_format: AudioFormat, labels: Labels) -> bytes:
    """`body` with the complete tags; WAV as it is. Needs mutagen."""
    if audio_format is AudioFormat.WAV:
        return body
    file = io.BytesIO(body)
    if audio_format is AudioFormat.MP3:
        _write_id3(file, labels)
    else:
        _write_vorbis_comments(file, audio_format, labels)
    return file.getvalue()


def _write_vorbis_comments(file: io.BytesIO, audio_format: AudioFormat, labels: Labels) -> None:
    module, kind = {
        AudioFormat.FLAC: ("mutagen.flac", "FLAC"),
        AudioFormat.OGG: ("mutagen.oggvorbis", "OggVorbis"),
        AudioFormat.OPUS: ("mutagen.oggopus", "OggOpus"),
    }[audio_format]
    # By name: the library is optional and its types are incomplete.
    tagged: Any = getattr(import_module(module), kind)(file)
    if tagged.tags is None:
        tagged.add_tags()
    comments = {
        "TITLE": labels.title,
        "GENRE": labels.genre,
        "ALBUM": labels.album,
        "COMMENT": labels.comment,
        "DESCRIPTION": labels.comment,
        "BPM": str(labels.bpm),
        "KEY": labels.key,
        "INITIALKEY": labels.key,
        "ENCODER": SOFTWARE,
        **labels.fields,
    }
    tagged.tags.update(comments)
    file.seek(0)
    tagged.save(file, padding=lambda info: 0)  # the default adds 14 KB to a FLAC file


def _write_id3(file: io.BytesIO, labels: Labels) -> None:
    id3: Any = import_module("mutagen.id3")
    utf16 = id3.Encoding.UTF16  # the one Unicode encoding that ID3 v2.3 has
    tags = id3.ID3()
    tags.add(id3.TIT2(utf16, [labels.title]))
    tags.add(id3.TCON(utf16, [labels.genre]))
    tags.add(id3.TALB(utf16, [labels.album]))
    tags.add(id3.TBPM(utf16, [str(labels.bpm)]))
    tags.add(id3.TKEY(utf16, [labels.key]))
    tags.add(id3.TSSE(utf16, [SOFTWARE]))
    tags.add(id3.COMM(utf16, "eng", "", [labels.comment]))
    for name, text in labels.fields.items():
        tags.add(id3.TXXX(utf16, name, [text]))
    file.seek(0)
    tags.save(file, v2_version=3, padding=lambda info: 0)


def _words(slug: str) -> str:
    return slug.replace("-", " ").replace("_", " ").title()


def _printable(text: str) -> str:
    """Titles may come from anybody's table; control characters and lone surrogates fit no tag."""
    return "".join(" " if unicodedata.category(c) in {"Cc", "Cs"} else c for c in text).strip()


def _ascii(text: str) -> str:
    """Accents removed, musical signs spelt, anything else a question mark."""
    plain = unicodedata.normalize("NFKD", text.replace("♯", "#").replace("♭", "b"))
    return "".join(c for c in plain if not unicodedata.combining(c)).encode("ascii", "replace").decode()

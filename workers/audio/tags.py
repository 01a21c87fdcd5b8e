"""Tags: the metadata in the file itself, in the fields that players and libraries read.

The fields have the names of Vorbis comments; a table says where the other formats keep each. With mutagen (the extra
`tags`; GPL) every field is written; without it those that libsndfile has. WAV needs neither: its chunks stand before
the samples (`bext`, iXML, LIST INFO; with mutagen ID3 too), because some delivery rules forbid anything after them. The
comment alone carries the disclosure in words, so it is in every file. Tags never touch the audio and hold no clock, so
the same take gives the same tags.
"""

from __future__ import annotations

import io
import re
import unicodedata
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from catalog.models import find_model
from catalog.sidecar import Measures
from catalog.spec import AudioFormat, Music, TrackSpec
from catalog.tags import Tags
from catalog.track import Take
from workers.audio import wav

NOISE_LABEL: Final = "NOISE (random weights)"
SOFTWARE: Final = "Tunemill"
_SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_MADE: Final = {"trainedAlgorithmicMedia": "made by AI", "algorithmicMedia": "synthesised"}

Fields = dict[str, str]  # by the names of Vorbis comments


class _Place(NamedTuple):
    """The place of a field in the formats that have names of their own; empty where it has none."""

    id3: str = ""  # else TXXX with the field's name
    sndfile: str = ""
    info: str = ""


_PLACES: Final = {
    "TITLE": _Place("TIT2", "title", "INAM"),
    "ARTIST": _Place("TPE1", "artist", "IART"),
    "ALBUM": _Place("TALB", "album", "IPRD"),
    "ALBUMARTIST": _Place("TPE2"),
    "GENRE": _Place("TCON", "genre", "IGNR"),
    "DATE": _Place("TDRC", "date", "ICRD"),
    "TRACKNUMBER": _Place("TRCK", "tracknumber", "IPRT"),  # FFmpeg reads IPRT, and not ITRK
    "COPYRIGHT": _Place("TCOP", "copyright", "ICOP"),
    "LICENSE": _Place("", "license"),
    "BPM": _Place("TBPM"),
    "INITIALKEY": _Place("TKEY"),
    "ENCODER": _Place("TSSE", "software", "ISFT"),
    "COMMENT": _Place("COMM", "comment", "ICMT"),
}
_OF_MP3: Final = frozenset({"title", "artist", "album", "genre", "date", "tracknumber", "comment", "software"})
_VORBIS_ONLY: Final = ("KEY", "DESCRIPTION")  # second names of fields, for readers of Vorbis comments


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


def labels_of(
    take: Take, *, model: str, noise: bool, spec: TrackSpec | None = None, measures: Measures | None = None
) -> Fields:
    """The fields of `take` as `model` rendered it, in the order in which they are written.

    `spec` has what the planner chose where the take's own is open; `measures` are those of the finished audio.
    """
    track, music, stated = take.track, (spec or take.spec).music, take.track.tags or Tags()
    title, key = _title(take), short_key(music.keyscale)
    comment = _comment(take, music, model=model, noise=noise)
    fields = {
        "TITLE": f"{title} [{NOISE_LABEL}]" if noise else title,
        "ARTIST": stated.artist,
        "ALBUM": stated.album or _words(track.catalog),
        "ALBUMARTIST": stated.album_artist,
        "GENRE": _words(track.genre),
        "DATE": stated.date,
        "TRACKNUMBER": str(int(track.slot)) if re.fullmatch(r"[0-9]{1,9}", track.slot) else "",
        "MOOD": ", ".join(track.moods),
        "LICENSE": stated.licence,
        "COPYRIGHT": stated.copyright,
        "BPM": str(music.bpm),
        "KEY": key,
        "INITIALKEY": key,
        "COMMENT": comment,
        "DESCRIPTION": comment,
        "ENCODER": SOFTWARE,
        "ZONE": track.zone,
        **{f"AXIS_{_field_name(axis)}": value for axis, value in sorted(track.axes.items())},
        "TUNEMILL_TRACK": track.key,  # players read TRACK as the number
        "TAKE": take.id,
        "SEED": str(take.dit_seed),
        "LM_SEED": str(take.lm_seed),
        "MODEL": model,
        "DIGITAL_SOURCE_TYPE": source_type(model),
        **_level_fields(measures),
    }
    return {name: text for name, value in fields.items() if (text := _printable(value))}


def _comment(take: Take, music: Music, *, model: str, noise: bool) -> str:
    """All of it in one text, for readers that show no other field."""
    said = [
        NOISE_LABEL if noise else "",
        f"zone {take.track.zone}, {music.bpm} BPM, {music.keyscale}, "
        f"seed {take.dit_seed}, model {model}, take {take.id}",
        ", ".join(take.track.moods),
        f"licence {take.track.tags.licence}" if take.track.tags and take.track.tags.licence else "",
        _disclosure(model),
    ]
    return "; ".join(part for part in said if part)


def _disclosure(model: str) -> str:
    return f"{_MADE[find_model(model).source_type]}, digital source type {source_type(model)}"


def _level_fields(measures: Measures | None) -> Fields:
    """The levels of the finished audio, in the units that the names say; nothing without `measures`."""
    if measures is None:
        return {}
    levels = {
        "LOUDNESS_LUFS": measures.loudness_out_lufs,
        "LOUDNESS_RANGE_LU": measures.loudness_range_lu,
        "MAX_MOMENTARY_LUFS": measures.max_momentary_lufs,
        "MAX_SHORT_TERM_LUFS": measures.max_short_term_lufs,
        "TRUE_PEAK_DBTP": measures.true_peak_dbtp,
        "LIMITED_DB": measures.limited_db,
        "LIMITED_PERCENT": None if measures.limited_share is None else 100 * measures.limited_share,
    }
    return {name: f"{level:.2f}" for name, level in levels.items() if level is not None}


def _title(take: Take) -> str:
    return _printable(take.track.title) or f"{_words(take.track.genre)} {take.track.slot}"


def short_key(keyscale: str) -> str:
    """`F# minor` as `F#m`, `E♭ major` as `Eb`: the form that DJ software reads."""
    note, mode = keyscale.replace("♯", "#").replace("♭", "b").split()
    return note + ("m" if mode == "minor" else "")


def has_mutagen() -> bool:
    """The complete tags can be written: mutagen is installed."""
    return find_spec("mutagen") is not None


def sndfile_strings(fields: Fields, audio_format: AudioFormat) -> dict[str, str]:
    """The fields that libsndfile writes itself, for `encode`; none for WAV, which has `wav_chunks`."""
    if audio_format is AudioFormat.WAV:
        return {}
    strings = {place.sndfile: fields[name] for name, place in _PLACES.items() if place.sndfile and name in fields}
    if audio_format is AudioFormat.MP3:  # its UTF-8 would be read back as Latin-1
        strings = {name: _ascii(text) for name, text in strings.items() if name in _OF_MP3}
        return {name: text[:4] if name == "date" else text for name, text in strings.items()}  # its field is a year
    return strings


def wav_chunks(fields: Fields, measures: Measures) -> dict[str, bytes]:
    """The chunks that stand before the samples of a WAV file, in their order."""
    date = fields.get("DATE", "")
    note = wav.BroadcastNote(
        # The disclosure comes first: readers may show the first signs alone.
        description=_ascii(f"{_disclosure(fields['MODEL'])}; {fields['TITLE']}; {fields['COMMENT']}"),
        originator=SOFTWARE,
        reference=fields["TAKE"],
        date=date if len(date) == len("2026-05-01") else "",
        levels=(
            measures.loudness_out_lufs,
            measures.loudness_range_lu,
            measures.true_peak_dbtp,
            measures.max_momentary_lufs,
            measures.max_short_term_lufs,
        ),
    )
    named = {name: text for name, text in fields.items() if name not in _VORBIS_ONLY}
    chunks = {
        "bext": wav.bext(note),
        "iXML": wav.ixml(named, project=fields["ALBUM"], note=fields["COMMENT"]),
        "LIST": wav.info({place.info: fields.get(name, "") for name, place in _PLACES.items() if place.info}),
    }
    if has_mutagen():
        id3 = io.BytesIO()
        _id3_of(fields).save(id3, v2_version=3, padding=lambda info: 0)
        chunks["id3 "] = id3.getvalue()
    return chunks


def write_tags(body: bytes, audio_format: AudioFormat, fields: Fields) -> bytes:
    """`body` with the complete tags; WAV as it is. Needs mutagen."""
    if audio_format is AudioFormat.WAV:
        return body
    file = io.BytesIO(body)
    if audio_format is AudioFormat.MP3:
        _id3_of(fields).save(file, v2_version=3, padding=lambda info: 0)
    else:
        _write_vorbis_comments(file, audio_format, fields)
    return file.getvalue()


def _write_vorbis_comments(file: io.BytesIO, audio_format: AudioFormat, fields: Fields) -> None:
    module, kind = {
        AudioFormat.FLAC: ("mutagen.flac", "FLAC"),
        AudioFormat.OGG: ("mutagen.oggvorbis", "OggVorbis"),
        AudioFormat.OPUS: ("mutagen.oggopus", "OggOpus"),
    }[audio_format]
    # By name: the library is optional and its types are incomplete.
    tagged: Any = getattr(import_module(module), kind)(file)
    if tagged.tags is None:
        tagged.add_tags()
    tagged.tags.update(fields)
    file.seek(0)
    tagged.save(file, padding=lambda info: 0)  # the default adds 14 KB to a FLAC file


def _id3_of(fields: Fields) -> Any:
    """The fields as ID3 v2.3, whose one Unicode encoding is UTF-16."""
    id3: Any = import_module("mutagen.id3")
    utf16, tags = id3.Encoding.UTF16, id3.ID3()
    for name, text in fields.items():
        frame = _PLACES.get(name, _Place()).id3
        if frame == "COMM":
            tags.add(id3.COMM(utf16, "eng", "", [text]))
        elif frame:
            tags.add(getattr(id3, frame)(utf16, [text]))
        elif name not in _VORBIS_ONLY:
            tags.add(id3.TXXX(utf16, name, [text]))
    tags.update_to_v23()  # the date becomes a year, and a day of it
    return tags


def _words(slug: str) -> str:
    return slug.replace("-", " ").replace("_", " ").title()


def _field_name(axis: str) -> str:
    """An axis in the signs that every format allows in a field's name."""
    return re.sub(r"[^A-Z0-9]", "_", axis.upper())


def _printable(text: str) -> str:
    """Titles may come from anybody's table; control characters and lone surrogates fit no tag."""
    return "".join(" " if unicodedata.category(c) in {"Cc", "Cs"} else c for c in text).strip()


def _ascii(text: str) -> str:
    """Accents removed, musical signs spelt, anything else a question mark."""
    plain = unicodedata.normalize("NFKD", text.replace("♯", "#").replace("♭", "b"))
    return "".join(c for c in plain if not unicodedata.combining(c)).encode("ascii", "replace").decode()

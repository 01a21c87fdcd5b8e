"""Values: tempo, key, metre, length, language and flags, read as people and other programs write them.

An unambiguous value is turned into one form ("120 BPM", "fis-Moll", "8A", "3:05", "VRAI"). A value that the model does
not support (another mode, another metre) or that has two possible meanings ("90-100") is refused in words.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from catalog import limits
from catalog.errors import OutOfRangeError, PresetError
from catalog.seeds import SEED_LIMIT
from orchestrator.matrix.languages import find_language


class UnusableValue(Exception):
    """A value that is not understood or is outside the bounds; the message says what to write instead."""

    def __init__(self, words: str, fix: str, kind: type[PresetError] = OutOfRangeError) -> None:
        super().__init__(words)
        self.words, self.fix, self.kind = words, fix, kind


def _unreadable(words: str, fix: str) -> UnusableValue:
    return UnusableValue(words, fix, PresetError)


# ---------------------------------------------------------------- not set

_NOT_SET: Final = frozenset(
    "n/a;na;#n/a;nan;none;null;nil;undefined;unset;not set;auto;auto-detect;autodetect;auto detect;automatic;default;"
    "any;random;unknown;-;--;–;—;?;-1;-1.0;-1,0".split(";")
)
_ZERO: Final = frozenset(("0", "0.0", "0,0"))
_NEVER_ZERO: Final = frozenset(("bpm", "duration_s", "keyscale", "timesignature", "takes"))


def is_not_set(value: Any, column: str) -> bool:
    """True for the ways in which programs and spreadsheets say that the number or choice of `column` is not set."""
    if value is None or value == "":
        return True
    text = str(value).strip().casefold()
    if column == "language" and text == "unknown":
        return False  # the model's own code
    return not text or text in _NOT_SET or (text in _ZERO and column in _NEVER_ZERO)


# ---------------------------------------------------------------- flags

_YES: Final = frozenset(
    "true;yes;on;1;1.0;1,0;y;t;x;checked;wahr;ja;j;vrai;oui;o;verdadero;sí;si;vero;sì;verdadeiro;sim;waar;prawda;tak;"
    "sant;истина;да;真;是;はい;✓;✔;☑;✅;🗹;☒;true();=true()".split(";")
)
_NO: Final = frozenset(
    "false;no;off;0;0.0;0,0;n;f;unchecked;falsch;nein;faux;non;falso;não;nao;onwaar;nee;fałsz;nie;falskt;nej;ложь;нет;"
    "假;否;いいえ;✗;✘;☐;❌;false();=false()".split(";")
)


def read_flag(value: Any) -> bool:
    """True or false, in the words of JSON, CSV and the spreadsheets of several languages."""
    text = str(value).strip().casefold()
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise _unreadable("must be true or false", "write true or false")


# ---------------------------------------------------------------- numbers

_NUMBER: Final = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_THOUSANDS: Final = re.compile(r"\d{1,3},\d{3}")  # "1,200" may be a thousand or one and a fifth


def _number(value: Any) -> float:
    text = str(value).strip()
    if isinstance(value, bool) or not _NUMBER.fullmatch(text) or _THOUSANDS.fullmatch(text):
        raise _unreadable("is not a number", "write a number such as 90")
    return float(text.replace(",", "."))


def _rounded(number: float, low: int, high: int, unit: str = "") -> int:
    if not low <= number <= high:
        raise UnusableValue(f"must be {low:,} to {high:,}{unit}", f"write a number from {low:,} to {high:,}")
    return int(number + 0.5)


def read_count(value: Any, most: int) -> int:
    """A whole number from 1."""
    return _rounded(_number(value), 1, most)


def read_seed(value: Any) -> int:
    """A seed; not by way of a float, which holds 53 bits only."""
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,19}(\.0)?", text):
        raise _unreadable("is not a whole number from 0", "write the digits of one seed, or nothing")
    seed = int(text.removesuffix(".0"))
    if seed >= SEED_LIMIT:
        raise UnusableValue(f"must be below {SEED_LIMIT}", f"write a number below {SEED_LIMIT}")
    return seed


_TEMPO: Final = re.compile(r"(?:♩|♪|tempo|bpm|ca\.?|c\.|~|≈|about|around|=|:|\s)*([\d.,]+)\s*(?:bpm|b\.p\.m\.?)?\s*")
_RANGE: Final = re.compile(r".*\d\s*(-|–|to|bis|à)\s*\d.*")


def read_tempo(value: Any) -> int:
    """Beats per minute: 120, "120.5", "120 BPM", "♩=120"."""
    text = str(value).strip().casefold()
    if _RANGE.fullmatch(text):
        raise _unreadable("is a range, and a track has one tempo", "write one number of beats per minute")
    match = _TEMPO.fullmatch(text)
    return _rounded(_number(match[1] if match and not isinstance(value, bool) else value), *_TEMPI, " bpm")


_TEMPI: Final = (limits.BPM_MIN, limits.BPM_MAX)
_CLOCK: Final = re.compile(r"(?:(\d{1,2}):)?(\d{1,3}):(\d{2}(?:[.,]\d+)?)")
_PARTS: Final = re.compile(
    r"(?:pt)?\s*(?:([\d.,]+)\s*(?:h|hr|hrs|hours?|std\.?))?\s*"
    r"(?:([\d.,]+)\s*(?:m|min|mins|minutes?|minuten?|'|′)\.?)?\s*"
    r"(?:([\d.,]+)\s*(?:s|sec|secs|seconds?|sek\.?|sekunden?|secondes?|\"|″|'')\.?)?"
)


def read_length_s(value: Any, unit_s: float = 1.0) -> int:
    """Seconds: 180, "180,5", "3:05", "00:03:05", "2m30s", "PT3M"; a bare number counts in units of `unit_s`."""
    text = str(value).strip().casefold()
    if _RANGE.fullmatch(text):
        raise _unreadable("is a range, and a track has one length", "write one number of seconds")
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in clock.groups())
        length_s = hours * 3600 + minutes * 60 + seconds
    elif (parts := _PARTS.fullmatch(text)) and any(parts.groups()):
        hours, minutes, seconds = (_number(part) if part else 0.0 for part in parts.groups())
        length_s = hours * 3600 + minutes * 60 + seconds
    elif text.endswith("ms"):
        length_s = _number(text[:-2]) / 1000
    else:
        length_s = _number(value) * unit_s
    if length_s >= 10_000 and unit_s == 1:
        fix = "write seconds, or 3:05; of milliseconds say --column duration_ms=HEADING"
        raise UnusableValue(f"must be {limits.DURATION_MIN_S} to {limits.DURATION_MAX_S} seconds", fix)
    return _rounded(length_s, limits.DURATION_MIN_S, limits.DURATION_MAX_S, " seconds")


# ---------------------------------------------------------------- metre and language

_METRES: Final = {"common": "4", "common time": "4", **{f"{n}/4": n for n in "234"}, "6/8": "6"}
_DATE: Final = re.compile(r"\d{1,2}[./ -]+[a-zäé]{3,}\.?|[a-zäé]{3,}[./ -]+\d{1,2}|\d{4}-\d\d-\d\d.*|\d\d?\.\d\d?\.\d*")


@lru_cache(maxsize=1_000)
def read_metre(value: Any) -> str:
    """The numerator that the model is told, of 4, "4/4", "4 / 4", "4-4", "4:4", "common time"."""
    text = " ".join(str(value).strip().casefold().removesuffix("time").split())
    text = re.sub(r"\s*[/\-:|⁄]\s*", "/", text.removesuffix(".0"))
    metre = _METRES.get(text, text)
    if metre in limits.TIME_SIGNATURES:
        return metre
    if _DATE.fullmatch(str(value).strip().casefold()):
        raise UnusableValue(
            "is a date, which a spreadsheet may have made of a metre",
            "format the column as text, and write 2, 3, 4 or 6",
        )
    raise UnusableValue("must be 2, 3, 4 or 6 (or 2/4, 3/4, 4/4, 6/8)", "write 2, 3, 4 or 6")


def read_language(value: Any) -> str:
    """The model's code, of a code or a name: "de", "de-AT", "German", "Deutsch"."""
    code = find_language(str(value).strip())
    if code is None:
        raise UnusableValue("is not one of the model's languages", "write one code such as 'en', or 'unknown'")
    return code


# ---------------------------------------------------------------- keys

_MAJOR: Final = "major maj ma dur majeur maggiore mayor maior ionian".split()
_MINOR: Final = "minor min mi m moll mineur minore menor aeolian".split()
_NOTES: Final = {
    **{note: note.upper() for note in "abcdefg"},
    **{"do": "C", "dó": "C", "ut": "C", "re": "D", "ré": "D", "mi": "E", "fa": "F", "fá": "F", "sol": "G"},
    **{"la": "A", "lá": "A", "si": "B"},
}
_GERMAN: Final = {
    **{f"{note}is": f"{note.upper()}#" for note in "cdefga"},
    **{"his": "B#", "h": "B", "b": "Bb", "des": "Db", "es": "Eb", "ges": "Gb", "as": "Ab", "ces": "Cb", "fes": "Fb"},
}
_SIGNS: Final = {"♯": "#", "♭": "b", "♮": "", "sharp": "#", "flat": "b", "dièse": "#", "diese": "#", "diesis": "#"}
_SIGNS_TOO: Final = {"sostenido": "#", "sustenido": "#", "bémol": "b", "bemol": "b", "bemolle": "b"}
_KEY: Final = re.compile(r"([a-h]is|[cdfg]es|es|as|dó|do|ut|ré|re|mi|fá|fa|sol|lá|la|si|[a-h])\s*([#b]?)\s*(\S*)")
# Kept as it was written, sign and all: the key is part of what tells a track from others.
_PLAIN_KEY: Final = re.compile(r"([A-G])\s*(#|b|♯|♭|sharp|flat)?\s*(major|maj|minor|min|m)?", re.IGNORECASE)
_CIRCLE_MAJOR: Final = "B F# Db Ab Eb Bb F C G D A E".split()  # 1B to 12B of the Camelot wheel
_CIRCLE_MINOR: Final = "Ab Eb Bb F C G D A E B F# Db".split()
_CLUTTER: Final = re.compile(r"[()\[\]:_.,]|\b(?:key|of|natural)\b|-|\b(?:1[0-2]|[1-9])[AB]\b", re.IGNORECASE)
_WHEEL: Final = re.compile(r"(?:camelot|open key)?\s*(1[0-2]|0?[1-9])\s*([abdm])")
_PITCHES: Final = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))


@lru_cache(maxsize=2_000)
def read_key(value: Any) -> str:
    """The model's name of a key: "C major" of "C", "Cmaj", "C-Dur", "Do majeur"; "A minor" of "Am", "a-Moll", "8A"."""
    text = str(value).strip()
    if plain := _PLAIN_KEY.fullmatch(text):
        note, sign, mode = plain[1].upper(), (plain[2] or "").lower(), plain[3] or ""
        minor = mode == "m" or mode.lower().startswith("min")
        return f"{note}{_SIGNS.get(sign, sign) if sign.isalpha() else sign} {'minor' if minor else 'major'}"
    if wheel := _WHEEL.fullmatch(text.casefold()):
        return _of_wheel(int(wheel[1]), wheel[2])
    keys = [_key(part) for part in _spellings(text)]
    if not keys or None in keys or len({_sounds(key) for key in keys if key}) > 1:
        several = len(keys) > 1 and None not in keys
        words = "names two keys" if several else "is not a major or minor key"
        raise UnusableValue(words, "write it like 'F# minor'; the model knows no other modes")
    return str(keys[0])


def _of_wheel(number: int, letter: str) -> str:
    """The key of a code of the Camelot wheel (8B, 8A) or of Open Key (1d, 1m): both begin at C major."""
    at = number - 1 if letter in "ab" else (number + 6) % 12
    return f"{_CIRCLE_MAJOR[at]} major" if letter in "bd" else f"{_CIRCLE_MINOR[at]} minor"


def _spellings(text: str) -> list[str]:
    """The one or two names of one key in `text` ("F#/Gb minor"); each with the mode, which may stand once."""
    for sign, ascii_sign in (_SIGNS | _SIGNS_TOO).items():
        text = re.sub(rf"[\s-]*{sign}\b" if sign.isalpha() else sign, ascii_sign, text, flags=re.IGNORECASE)
    text = re.sub(_CLUTTER, " ", text)
    parts = [" ".join(part.split()) for part in text.split("/")]
    if len(parts) == 2 and " " in parts[1] and " " not in parts[0] and not parts[0].endswith("m"):
        parts[0] += f" {parts[1].split()[1]}"
    return [part for part in parts if part]


def _key(text: str) -> str | None:
    match = _KEY.fullmatch(text.casefold())
    if match is None:
        return None
    note, sign, mode = match.groups()
    if mode and mode not in _MAJOR and mode not in _MINOR:
        return None
    minor = mode in _MINOR
    german = mode in ("dur", "moll")
    if note in _GERMAN and not sign and (german or note not in _NOTES):
        if note == "h" and not german:
            return None  # a slip as often as German
        tonic = _GERMAN[note]
    elif note in _NOTES and (mode or len(note) == 1):
        tonic = _NOTES[note] + sign
    else:
        return None
    name = f"{tonic} {'minor' if minor else 'major'}"
    return name if name in limits.KEYSCALES else None


def _sounds(key: str) -> tuple[int, str]:
    tonic, mode = key.split()
    return (_PITCHES[tonic[0]] + tonic.count("#") - tonic.count("b")) % 12, mode

"""Object keys: where a take's audio and sidecar lie, so that the two can never mismatch.

The sidecar's key holds only the take, so it can be looked for before rendering; the audio's key holds its
checksum, so two renderings never overwrite each other. Keys are built from validated slugs and hex digits
and so cannot leave their prefix.
"""

from __future__ import annotations

import re

from catalog.errors import StoreError
from catalog.track import Take

_SIDECAR_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*/takes/([0-9a-f]{24})\.json")
_AUDIO_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*/audio/[^/]+/[^/]+/([0-9a-f]{24})-[0-9a-f]{16}\.[a-z0-9]+")
_VERDICT_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*/verdicts/([0-9a-f]{24})-[0-9]{14}-[0-9a-f]{8}\.json")
_TAKE_NAMED = re.compile(r"([0-9a-f]{24})(?![0-9a-f]).*|([0-9a-f]{1,24})(?:\.{2,3}|\u2026)?")
_SAFE_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
KEY_BYTES_MAX = 1024  # S3's limit


def sidecar_key(take: Take) -> str:
    """Key of the JSON that says the take is done."""
    return f"{take.track.catalog}/takes/{take.id}.json"


def audio_key(take: Take, sha256: str, extension: str) -> str:
    """Key of the audio whose file bytes hash to `sha256` (hex)."""
    track = take.track
    return f"{track.catalog}/audio/{track.zone}/{track.genre}/{take.id}-{sha256[:16]}.{extension}"


def take_of_sidecar(key: str) -> str | None:
    """The take whose sidecar has that key; None for a key that is no sidecar's."""
    found = _SIDECAR_KEY.fullmatch(key)
    return found[1] if found else None


def take_of_audio(key: str) -> str | None:
    """The take whose audio has that key; None for a key that is no audio's."""
    found = _AUDIO_KEY.fullmatch(key)
    return found[1] if found else None


def take_of_verdict(key: str) -> str | None:
    """The take that the verdict of that key is about; None for a key that is no verdict's."""
    found = _VERDICT_KEY.fullmatch(key)
    return found[1] if found else None


def take_named(text: str) -> str | None:
    """The id of a take, or its first digits, in what a person writes or pastes for one; None where there is none.

    That may be the id, cut short or not, or the name, path or URL of the audio or the sidecar, in quotes or not.
    """
    address = text.strip(" \t\r\n'\"`<>")
    if "://" in address:
        address = address.partition("?")[0]  # a signed URL ends in a query
    name = re.split(r"[/\\]", address.rstrip("/\\"))[-1].strip().lower()
    found = _TAKE_NAMED.fullmatch(name)
    return found[1] or found[2] if found else None


def checked_key(key: str) -> str:
    """`key`, or StoreError when it holds anything but plain segments (no `..`, no leading slash)."""
    if not _SAFE_KEY.fullmatch(key) or ".." in key or len(key) > KEY_BYTES_MAX:
        raise StoreError(
            f"object key {key[:80]!r} is not allowed",
            why="keys are lower-case slugs joined by '/', at most 1,024 bytes, and never contain '..'",
        )
    return key

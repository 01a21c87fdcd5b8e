"""Object keys: the places of a take's audio and sidecar in the store, built so that the two never mismatch.

The sidecar's key depends only on the take, so a worker can look for the sidecar before it renders. The audio's key
contains the checksum of the audio, so two renderings never overwrite each other. Keys consist of validated slugs and
hex digits, so they cannot leave their prefix.
"""

from __future__ import annotations

import re

from catalog.errors import StoreError
from catalog.track import Take

_SIDECAR_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*/takes/([0-9a-f]{24})\.json")
_AUDIO_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*/audio/[^/]+/[^/]+/([0-9a-f]{24})-[0-9a-f]{16}\.[a-z0-9]+")
_MASTER_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*/masters/[^/]+/[^/]+/([0-9a-f]{24})-[0-9a-f]{16}\.[a-z0-9]+")
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


def master_key(take: Take, sha256: str, extension: str) -> str:
    """Key of the master whose file bytes hash to `sha256` (hex)."""
    track = take.track
    return f"{track.catalog}/masters/{track.zone}/{track.genre}/{take.id}-{sha256[:16]}.{extension}"


def take_of_sidecar(key: str) -> str | None:
    """The take whose sidecar has that key; None for a key that is no sidecar's."""
    found = _SIDECAR_KEY.fullmatch(key)
    return found[1] if found else None


def take_of_audio(key: str) -> str | None:
    """The take whose audio has that key; None for a key that is no audio's."""
    found = _AUDIO_KEY.fullmatch(key)
    return found[1] if found else None


def take_of_master(key: str) -> str | None:
    """The take whose master has that key; None for a key that is no master's."""
    found = _MASTER_KEY.fullmatch(key)
    return found[1] if found else None


def take_of_audio_or_master(key: str) -> str | None:
    """The take whose audio, finished or as a master, has that key; None for any other key."""
    return take_of_audio(key) or take_of_master(key)


def take_of_verdict(key: str) -> str | None:
    """The take that the verdict of that key is about; None for a key that is no verdict's."""
    found = _VERDICT_KEY.fullmatch(key)
    return found[1] if found else None


def take_named(text: str) -> str | None:
    """The id of a take, or its first digits, found in the text that a person gives for a take; None without one.

    The text may be the id, whole or cut short, or the name, path or URL of the audio or the sidecar, also in quotes.
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

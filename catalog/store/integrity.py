"""The rules that all stores share: verify checksums, list only our own keys, and prove that a store works."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Final

from catalog.errors import StoreError
from catalog.keys import checked_key
from catalog.sidecar import AudioFile
from catalog.store.base import Store

CHECK_PREFIX: Final = "tunemill-check-"  # of objects that only prove that a store works


def check_sha256(key: str, body: bytes, expected: str) -> None:
    """Raise StoreError unless `body` hashes to `expected` (hex)."""
    actual = sha256(body).hexdigest()
    if actual != expected:
        raise StoreError(
            f"{key} was not written",
            why=f"its checksum is {actual[:16]}..., expected {expected[:16]}...: it changed on the way",
            fix="send the take again; if it happens again, test this machine's memory",
        )


def find_fault(store: Store, audio: AudioFile) -> str | None:
    """The fault of the audio that a sidecar names, or None, as far as the store can tell without giving its bytes."""
    found = store.stat(audio.key)
    if found is None:
        return "is not there"
    if found.size != audio.bytes:
        return f"has {found.size:,} bytes instead of {audio.bytes:,}"
    if found.sha256 not in (None, audio.sha256):
        return f"has the checksum {found.sha256[:16]}... instead of {audio.sha256[:16]}..."
    return None


def is_key(name: str) -> bool:
    """True when `name` is a key of ours; a folder or a bucket may hold other people's files."""
    try:
        checked_key(name)
    except StoreError:
        return False
    return True


def prove(store: Store) -> None:
    """Write, refuse to overwrite, read and remove one small object of a random name."""
    key = f"{CHECK_PREFIX}{secrets.token_hex(8)}"
    body = b"Tunemill wrote this to test the store. It can be removed.\n"
    first = store.put_if_absent(key, body, content_type="text/plain")
    second = store.put_if_absent(key, b"", content_type="text/plain")
    found = store.find(key)
    store.delete(key)
    if not first or second or found != body:
        raise StoreError(
            f"the store at {store.locate(key)} does not return what was written to it",
            why="a test object was absent or different after writing, or could be overwritten",
            fix="use a store with consistent reads and conditional writes (If-None-Match)",
        )

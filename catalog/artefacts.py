"""Artefacts: the files that takes are rendered from (weights, adapters, source audio, latents), stored by their digest.

The key of an artefact consists of its kind and the SHA-256 of its bytes. So the store keeps each file once and never
overwrites it, and a reader detects a wrong file by hashing the bytes that arrive. Artefacts lie in a folder of the
store whose name no catalog can have; workers may read this folder and not write to it. On a worker's disk, a cache of
bounded size keeps the artefacts that were used most recently.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from uuid import uuid4

from catalog.errors import StoreError
from catalog.store.base import Store

FOLDER: Final = "tunemill.artefacts"  # no name of a catalog has a dot
CONTENT_TYPE: Final = "application/octet-stream"

_KIND: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_GIB: Final = 1 << 30


class Artefact(NamedTuple):
    """The identity of a file by its content: everything that is needed to find it and to verify it."""

    kind: str  # weights, adapter, source, latents
    sha256: str  # hex
    bytes: int

    @property
    def key(self) -> str:
        """The artefact's key in the store. Raises StoreError when kind or digest is malformed."""
        if not _KIND.fullmatch(self.kind) or not _SHA256.fullmatch(self.sha256):
            raise StoreError(
                f"{self.kind!r} {self.sha256[:80]!r} is not the name of an artefact",
                why="a kind is a lower-case word, a digest 64 hex digits",
            )
        return f"{FOLDER}/{self.kind}/{self.sha256}"


def describe_file(kind: str, path: Path) -> Artefact:
    """The artefact that a file is; the whole file is read."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Artefact(kind, digest, file.tell())


def put_artefact(store: Store, kind: str, path: Path) -> Artefact:
    """Store a file unless the store has it. Raises StoreError when the stored object then differs from the file."""
    artefact = describe_file(kind, path)
    if has_artefact(store, artefact):
        return artefact
    store.put_file(artefact.key, path, content_type=CONTENT_TYPE)
    if not has_artefact(store, artefact):
        raise StoreError(
            f"{store.locate(artefact.key)} differs from what was written",
            why="the file changed while it was read, or the store does not return what was written to it",
            fix="try again while no program writes to the file",
        )
    return artefact


def has_artefact(store: Store, artefact: Artefact) -> bool:
    """True when the store has the artefact, as far as the store can tell without giving the bytes."""
    found = store.stat(artefact.key)
    return found is not None and found.size == artefact.bytes and found.sha256 in (None, artefact.sha256)


def verify_artefact(store: Store, artefact: Artefact) -> bool:
    """True when the bytes in the store, read now, are the artefact's."""
    return store.sha256_of(artefact.key) == artefact.sha256


def list_artefacts(store: Store, kind: str = "") -> Iterator[Artefact]:
    """The artefacts that a store lists, of one kind or of all."""
    for info in store.list(f"{FOLDER}/{kind}/" if kind else f"{FOLDER}/"):
        parts = info.key.split("/")
        if len(parts) == 3 and _KIND.fullmatch(parts[1]) and _SHA256.fullmatch(parts[2]):
            yield Artefact(parts[1], parts[2], info.size)


class ArtefactCache:
    """Artefacts on this machine's disk, at most `bytes_max` together; the one used longest ago goes first.

    Safe for many processes: each artefact is downloaded by one of them while the others wait.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder, self._bytes_max = folder, bytes_max

    def fetch(self, store: Store, artefact: Artefact) -> Path:
        """A file with the artefact's bytes, hashed in this call; it stays at least until the next fetch.

        Raises StoreError when the store lacks it, or gives other bytes.
        """
        if artefact.bytes > self._bytes_max:
            raise StoreError(
                f"the {artefact.kind} {artefact.sha256[:16]} is larger than the cache of artefacts may be",
                why=f"{artefact.bytes / _GIB:.2f} GiB; {self._folder} may hold {self._bytes_max / _GIB:.2f} GiB",
                fix="allow the cache more room",
            )
        from filelock import FileLock

        path = self._folder.joinpath(*artefact.key.split("/")[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not _holds(path, artefact):
                self._make_room(artefact.bytes, keep=path)
                _download(store, artefact, path)
            os.utime(path)
        return path

    def _make_room(self, n_bytes: int, *, keep: Path) -> None:
        kept = sorted(self._files(), key=lambda each: each[1].st_mtime_ns, reverse=True)
        left = self._bytes_max - n_bytes
        for path, stat in kept:
            if path == keep:
                continue
            left -= stat.st_size
            if left < 0:
                path.unlink(missing_ok=True)  # a process that has the file open can read it to its end

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._folder.glob("*/*"):
            if _SHA256.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    yield path, path.stat()


def _holds(path: Path, artefact: Artefact) -> bool:
    try:
        return describe_file(artefact.kind, path) == artefact
    except FileNotFoundError:
        return False


def _download(store: Store, artefact: Artefact, path: Path) -> None:
    """Fetch into a file beside `path` and give it its name once its bytes are right."""
    for left in path.parent.glob(f".{path.name}.*.part"):
        left.unlink(missing_ok=True)  # left by a killed process: no other process writes here while we hold the lock
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            receiver = _HashedFile(file, artefact)
            if not store.read_into(artefact.key, receiver):
                raise StoreError(
                    f"{store.locate(artefact.key)} is not there",
                    why="the file was never stored, or it has been removed",
                    fix="store the file again",
                )
            file.flush()
            os.fsync(file.fileno())
        receiver.check(store.locate(artefact.key))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class _HashedFile:
    """A writer that hashes the bytes, and refuses more bytes than the artefact has."""

    def __init__(self, file: BinaryIO, artefact: Artefact) -> None:
        self._file, self._artefact = file, artefact
        self._digest, self._bytes = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> int:
        self._bytes += len(chunk)
        if self._bytes > self._artefact.bytes:
            raise self._wrong(self._artefact.key, f"it has more than its {self._artefact.bytes:,} bytes")
        self._digest.update(chunk)
        return self._file.write(chunk)

    def check(self, place: str) -> None:
        """Raise StoreError unless all came and is right."""
        if self._digest.hexdigest() != self._artefact.sha256:
            raise self._wrong(place, f"{self._bytes:,} bytes hash to {self._digest.hexdigest()[:16]}...")

    @staticmethod
    def _wrong(place: str, why: str) -> StoreError:
        return StoreError(
            f"{place} does not have the contents that its name states",
            why=why,
            fix="remove the object and store the file again",
        )

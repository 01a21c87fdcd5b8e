"""The Store protocol: objects are written whole and in one step, and on request never over an existing object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol


class ObjectInfo(NamedTuple):
    """One stored object as the store itself describes it."""

    key: str
    size: int
    modified_ms: int = 0  # UTC, when it was last written, by the store's clock
    sha256: str | None = None  # hex, as the store keeps it; None in listings and where it keeps none


class Receiver(Protocol):
    """A receiver of an object's bytes, chunk by chunk: a file, or an object that counts and hashes."""

    def write(self, chunk: bytes, /) -> int:
        """Take the next bytes."""


class Store(Protocol):
    """Objects by key. Keys are those of `catalog.keys`; every method raises StoreError on refusal."""

    def put(self, key: str, body: bytes, *, content_type: str, sha256: str, file_name: str = "") -> None:
        """Write an object whole or not at all. `sha256` (hex) is checked against what arrives.

        Under `file_name` a browser saves it, where the store serves browsers.
        """

    def put_if_absent(self, key: str, body: bytes, *, content_type: str) -> bool:
        """Write an object unless the key exists; False when it existed, and then the object is unchanged."""

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:
        """Write a file of any size as an object, whole or not at all, without holding it in memory."""

    def read_into(self, key: str, receiver: Receiver) -> bool:
        """Hand the object's bytes to `receiver`, however many; False when there is no object."""

    def find(self, key: str) -> bytes | None:
        """The object's bytes, or None when there is none."""

    def stat(self, key: str) -> ObjectInfo | None:
        """The store's facts about an object without its bytes, or None when there is no such object."""

    def sha256_of(self, key: str) -> str | None:
        """The checksum (hex) of the bytes as they are read now, however many; None when there is no object."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below `prefix`, in key order."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""

    def sweep(self, before_ms: int, *, remove: bool = True) -> Sequence[ObjectInfo]:
        """Delete (or only list) leftovers of killed writers older than that instant (UTC); they are no objects."""

    def check(self) -> None:
        """Prove that an object can be written, read and removed."""

    def locate(self, key: str) -> str:
        """The place where a person finds the object: a path or an s3:// address."""

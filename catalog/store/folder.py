"""A folder as the store: every object appears whole or not at all, even when the writing process is killed.

The store writes an object to a hidden file beside its place, flushes the file to disk, and renames it in one step. Keys
never begin with a dot, so a listing cannot take the leftover file of a killed writer for an object. `sweep` removes
leftover files; `check` removes those that are older than a day.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, Final

from catalog.errors import StoreError, StoreFullError
from catalog.keys import checked_key
from catalog.store.base import ObjectInfo, Receiver
from catalog.store.integrity import check_sha256, is_key, prove

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_HARD_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_FIXES: Final = {
    errno.EACCES: "give this user write access to the folder, or choose another with TUNEMILL_STORE_URL",
    errno.EPERM: "give this user write access to the folder, or choose another with TUNEMILL_STORE_URL",
    errno.EROFS: "mount the file system writable, or choose another folder with TUNEMILL_STORE_URL",
    errno.ENOTDIR: "a file stands where a folder is needed: move it away, or choose another with TUNEMILL_STORE_URL",
    errno.EEXIST: "a file stands where a folder is needed: move it away, or choose another with TUNEMILL_STORE_URL",
    errno.ENOENT: "the folder cannot be made there: choose another one with TUNEMILL_STORE_URL",
    errno.ENAMETOOLONG: "choose a folder with a shorter path with TUNEMILL_STORE_URL",
    errno.ELOOP: "the links of the folder form a circle: remove one, or choose another folder with TUNEMILL_STORE_URL",
}  # waiting mends none of these
_FIX: Final = "check the disk or the mount of the folder, or choose another folder with TUNEMILL_STORE_URL"


_PART: Final = re.compile(r"\.[0-9a-f]{32}\.part")
_CHUNK_BYTES: Final = 1 << 20
_PART_AGE_MAX_S: Final = 86_400  # no writer takes a day


class FolderStore:
    """The store in one folder, which is made when first written to. Safe for many threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()

    def put(self, key: str, body: bytes, *, content_type: str, sha256: str, file_name: str = "") -> None:
        """See Store. Content type and file name are not kept: the key's extension says the one, the tags the other."""
        check_sha256(key, body, sha256)
        with self._words_for(f"write {key}"):
            path = self._path(key)
            with _written_beside(path, (body,)) as temporary:
                temporary.replace(path)
                _flush_folder(path.parent)

    def put_if_absent(self, key: str, body: bytes, *, content_type: str) -> bool:
        """See Store."""
        with self._words_for(f"write {key}"):
            path = self._path(key)
            if path.exists():
                return False
            with _written_beside(path, (body,)) as temporary:
                won = _move_if_absent(temporary, path)
                _flush_folder(path.parent)
                return won

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:
        """See Store."""
        with self._words_for(f"write {key}"), path.open("rb") as source:
            place = self._path(key)
            with _written_beside(place, self._chunks(key, source)) as temporary:
                temporary.replace(place)
                _flush_folder(place.parent)

    def read_into(self, key: str, receiver: Receiver) -> bool:
        """See Store."""
        with self._words_for(f"read {key}"):
            try:
                source = self._path(key).open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return False
        with source:
            for chunk in self._chunks(key, source):
                receiver.write(chunk)
        return True

    def _chunks(self, key: str, source: BinaryIO) -> Iterator[bytes]:
        with self._words_for(f"read {key}"):
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk

    def find(self, key: str) -> bytes | None:
        """See Store."""
        with self._words_for(f"read {key}"):
            try:
                return self._path(key).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def stat(self, key: str) -> ObjectInfo | None:
        """See Store. A folder keeps no checksums."""
        with self._words_for(f"look at {key}"):
            try:
                found = self._path(key).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            return _described(key, found) if S_ISREG(found.st_mode) else None

    def sha256_of(self, key: str) -> str | None:
        """See Store."""
        with self._words_for(f"read {key}"):
            try:
                with self._path(key).open("rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See Store."""
        if prefix:
            checked_key(prefix.rstrip("/"))
        parent = prefix.rpartition("/")[0]
        with self._words_for(f"list {prefix or 'everything'}"):
            folder = self._path(parent) if parent else self._root
            for info in _objects_below(folder, f"{parent}/" if parent else ""):
                if info.key.startswith(prefix) and is_key(info.key):
                    yield info

    def delete(self, key: str) -> None:
        """See Store."""
        with self._words_for(f"remove {key}"), suppress(NotADirectoryError):
            self._path(key).unlink(missing_ok=True)

    def sweep(self, before_ms: int, *, remove: bool = True) -> Sequence[ObjectInfo]:
        """See Store. These are the hidden files that objects are written to first."""
        with self._words_for("sweep"):
            return _sweep(self._root, before_ms, remove=remove)

    def check(self) -> None:
        """See Store. Also deletes old leftovers of killed writers."""
        prove(self)
        self.sweep(int((time.time() - _PART_AGE_MAX_S) * 1000))

    def locate(self, key: str) -> str:
        """See Store."""
        return str(self._path(key))

    def _path(self, key: str) -> Path:
        """The path of `key`. Raises StoreError when a link would lead out of the root."""
        path = self._root / checked_key(key)
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise StoreError(
                f"{key} is not in the store",
                why=f"a symbolic link below {self._root} leads out of it",
                fix="remove the link",
            )
        return path

    @contextmanager
    def _words_for(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"the store {self._root} cannot {action}"
            why = error.strerror or type(error).__name__
            if error.errno in _FULL:
                raise StoreFullError(
                    what, why=why, fix="free some space, or choose another folder with TUNEMILL_STORE_URL"
                ) from None
            raised = StoreError(what, why=why, fix=_FIXES.get(error.errno or 0, _FIX))
            raised.needs_person = error.errno in _FIXES
            raise raised from None


@contextmanager
def _written_beside(path: Path, chunks: Iterable[bytes]) -> Iterator[Path]:
    """A hidden file next to `path` that holds `chunks` on disk; it is gone afterwards."""
    _make_folder(path.parent)
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        with temporary.open("xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sweep(root: Path, before_ms: int, *, remove: bool) -> list[ObjectInfo]:
    """The hidden files below `root` that were last written before that instant."""
    found: list[ObjectInfo] = []
    for folder, _, names in os.walk(root):
        for name in filter(_PART.fullmatch, names):
            left = Path(folder, name)
            with suppress(FileNotFoundError, PermissionError):  # another process swept it, or owns it
                info = _described(left.relative_to(root).as_posix(), left.stat())
                if info.modified_ms < before_ms:
                    if remove:
                        left.unlink()
                    found.append(info)
    return found


def _described(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, found.st_mtime_ns // 1_000_000)


def _move_if_absent(temporary: Path, path: Path) -> bool:
    """Give the finished file its name unless the name is taken; exactly one of many racing writers wins."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # exFAT and some network file systems have no hard links; there the writers take turns.
        from filelock import FileLock

        with FileLock(path.parent / ".put-if-absent.lock"):
            if path.exists():
                return False
            temporary.replace(path)
    return True


def _make_folder(folder: Path) -> None:
    """Make `folder` and those above it, so that they survive a power cut as the objects in them do."""
    missing = list(takewhile(lambda each: not each.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for each in reversed(missing):
        with suppress(PermissionError):  # one that we may write to and not read cannot be flushed
            _flush_folder(each.parent)


def _flush_folder(folder: Path) -> None:
    """Make a new name survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _objects_below(folder: Path, prefix: str) -> Iterator[ObjectInfo]:
    """Regular files in key order, one folder in memory at a time.

    A folder sorts as its name with the slash, because that is what its keys go on with: `a-b` < `a/b` < `a0`.
    """
    try:
        with os.scandir(folder) as scan:
            entries = [entry for entry in scan if not entry.name.startswith(".") and not entry.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return
    names = {entry.name + ("/" if entry.is_dir() else ""): entry for entry in entries}
    for name, entry in sorted(names.items(), key=lambda item: item[0]):
        if name.endswith("/"):
            yield from _objects_below(folder / entry.name, prefix + name)
        elif entry.is_file():
            try:
                yield _described(prefix + name, entry.stat())
            except FileNotFoundError:  # removed since the scan
                continue

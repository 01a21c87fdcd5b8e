"""Stored digests: a survey that was stopped continues where it was, and reads no audio a second time.

Reading every byte of a large catalog takes hours. Therefore each digest is written to a file below the home as soon as
it is known, with the size and the time of the object as the store lists them. An object whose listing has changed was
written since, and is read again. Every survey compares the digests anew, because sidecars and the ledger may have
changed meanwhile. Stored bytes decay, so a digest that is older than `KEPT_MS` is not used.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

from catalog.messages import now_ms
from catalog.store import ObjectInfo

KEPT_MS: Final = 3 * 24 * 3_600_000
_FOLDER: Final = "verify"
_FORM: Final = 1
_LINE: Final = re.compile(r"(?P<digest>[0-9a-f]{64}) (?P<size>\d+) (?P<modified_ms>\d+) (?P<key>\S+)\n")


class _Known(NamedTuple):
    size: int
    modified_ms: int
    digest: str


class ReadDigests:
    """The digests that were read of one store, for one catalog or for all. Thread-safe.

    A file that cannot be written is no reason to stop: `fault` says why nothing is kept, and the survey goes on.
    """

    def __init__(self, path: Path, header: dict[str, Any], *, again: bool = False) -> None:
        self.fault = ""
        self.begun_ms = now_ms()
        self._path, self._header, self._file = path, header, -1
        self._lock = Lock()
        self._known = {} if again else dict(self._read())
        self.found = len(self._known)  # of an earlier survey

    @classmethod
    @contextmanager
    def opened(cls, home: Path, place: str, catalog: str | None, *, again: bool = False) -> Iterator[ReadDigests]:
        """The digests of the store at `place`, those of a survey that was stopped among them unless `again`."""
        header = {"form": _FORM, "store": place, "catalog": catalog}
        name = sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()[:16]
        with closing(cls(home / _FOLDER / f"{name}.read", header, again=again)) as digests:
            yield digests

    def find(self, info: ObjectInfo) -> str | None:
        """The digest (hex) that the bytes of the object had, if they were read and it was not written since."""
        known = self._known.get(info.key)
        is_same = known is not None and (known.size, known.modified_ms) == (info.size, info.modified_ms)
        return known.digest if known is not None and is_same else None

    def keep(self, info: ObjectInfo, digest: str) -> None:
        """Keep a digest that was just read, on the disk as soon as the system writes it. `info` was listed before."""
        with self._lock:
            if self.fault:
                return
            try:
                if self._file < 0:
                    self._open()
                os.write(self._file, f"{digest} {info.size} {info.modified_ms} {info.key}\n".encode())
            except OSError as error:
                self.fault = error.strerror or type(error).__name__

    def remove(self) -> None:
        """Forget everything: the survey has come to its end."""
        self.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; what was kept stays."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        begin = "\n"  # ends a line that a kill has cut off
        if not self.found:
            self._path.unlink(missing_ok=True)  # the file's content cannot be used
            begin = json.dumps({**self._header, "begun_ms": self.begun_ms}) + "\n"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self._file, begin.encode())

    def _read(self) -> Iterator[tuple[str, _Known]]:
        """The content of the file, if it is ours and recent; an incomplete last line is skipped."""
        try:
            with self._path.open(encoding="utf-8") as file:
                begun_ms = json.loads(file.readline())["begun_ms"]
                if not now_ms() - KEPT_MS < begun_ms <= now_ms():
                    return
                self.begun_ms = begun_ms
                for line in file:
                    if found := _LINE.fullmatch(line):
                        yield found["key"], _Known(int(found["size"]), int(found["modified_ms"]), found["digest"])
        except (OSError, ValueError, TypeError, KeyError):
            return

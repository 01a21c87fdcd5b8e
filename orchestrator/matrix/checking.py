"""Checking: reads and expands a whole library, and finds every mistake rather than the first alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from catalog.buckets import Bucket
from catalog.errors import TunemillError
from catalog.queues import queue_of
from catalog.settings import Settings
from orchestrator.matrix.cells import lay_out
from orchestrator.matrix.expand import expand
from orchestrator.matrix.names import printable
from orchestrator.matrix.reading import (
    Kind,
    LoadedCatalog,
    PresetLibrary,
    is_path,
    load_catalog,
    no_such_preset,
    open_library,
)


@dataclass(frozen=True)
class PresetCheck:
    """The result of checking one preset. The numbers are a catalog's."""

    kind: str  # zone, genre or catalog
    name: str
    error: TunemillError | None = None
    tracks: int = 0
    takes: int = 0
    prompts: int = 0  # different ones: caption, tempo, key, metre and duration
    captions: int = 0  # different ones
    left_out: int = 0  # cells whose tempo ranges do not meet

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        counts = ("tracks", "takes", "prompts", "captions", "left_out") if self.kind == "catalog" else ()
        found: dict[str, Any] = {"kind": self.kind, "name": printable(self.name), "ok": self.error is None}
        found |= {name: getattr(self, name) for name in counts}
        if self.error:
            found["error"] = {
                "type": type(self.error).__name__,
                "exit_code": self.error.exit_code,
                "what": self.error.what,
                "why": self.error.why,
                "fix": self.error.fix,
            }
        return found


def check_library(names: Sequence[str], presets: Path | None, settings: Settings) -> list[PresetCheck]:
    """Check the presets called `names` (or catalog files by path), or all of them when there is no name.

    Raises UnknownNameError for a name that nothing in the library has.
    """
    library = open_library(presets, settings)
    readers: dict[Kind, Callable[[str], object]] = {
        "zones": library.zone,
        "genres": library.genre,
        "catalogs": lambda name: load_catalog(name, presets, settings),
    }
    findings: list[PresetCheck] = []
    for kind, read in readers.items():
        wanted = [name for name in library.names(kind) if not names or name in names]
        if kind == "catalogs":
            wanted += [name for name in names if is_path(name)]
        findings += [_checked(kind.removesuffix("s"), name, read) for name in wanted]
    _refuse_unknown(names, findings, library)
    return findings


def _refuse_unknown(names: Sequence[str], findings: Sequence[PresetCheck], library: PresetLibrary) -> None:
    for name in names:
        if not any(finding.name == name for finding in findings):
            raise no_such_preset(name, library)


def _checked(kind: str, name: str, read: Callable[[str], object]) -> PresetCheck:
    try:
        found = read(name)
        return _expanded(name, found) if isinstance(found, LoadedCatalog) else PresetCheck(kind, name)
    except TunemillError as error:
        return PresetCheck(kind, name, error)


def _expanded(name: str, catalog: LoadedCatalog) -> PresetCheck:
    tracks, takes = 0, 0
    prompts: set[bytes] = set()
    captions: set[bytes] = set()
    buckets: set[Bucket] = set()
    for planned in expand(catalog):
        spec = planned.track.spec
        tracks, takes = tracks + 1, takes + planned.takes
        # Hashes, because a catalog may hold a hundred thousand captions.
        captions.add(_hashed(spec.caption))
        prompts.add(_hashed(f"{spec.caption}\n{spec.bpm}\n{spec.keyscale}\n{spec.timesignature}\n{spec.duration_s}"))
        bucket = Bucket.of(spec)
        if bucket not in buckets:
            buckets.add(bucket)
            queue_of(spec)  # raises when no GPU tier can hold the take
    left_out = len(lay_out(catalog).left_out)
    return PresetCheck("catalog", name, None, tracks, takes, len(prompts), len(captions), left_out)


def _hashed(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()

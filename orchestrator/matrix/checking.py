"""Checking: reads and expands a whole preset library, and reports every mistake instead of only the first."""

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
from orchestrator.matrix.advice import Advice
from orchestrator.matrix.cells import lay_out
from orchestrator.matrix.expand import expand
from orchestrator.matrix.names import printable
from orchestrator.matrix.notes import notes_of
from orchestrator.matrix.problems import error_as_dict
from orchestrator.matrix.reading import (
    Kind,
    LoadedCatalog,
    PresetLibrary,
    is_path,
    load_catalog,
    no_such_preset,
    open_library,
    refuse_misspelt_path,
)
from orchestrator.matrix.titles import SharedTitles


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
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        counts = ("tracks", "takes", "prompts", "captions", "left_out") if self.kind == "catalog" else ()
        found: dict[str, Any] = {"kind": self.kind, "name": printable(self.name), "ok": self.error is None}
        found |= {name: getattr(self, name) for name in counts}
        if self.kind == "catalog":
            found["notes"] = list(self.notes)
        if self.error:
            found["error"] = error_as_dict(self.error)
        return found


def check_library(names: Sequence[str], presets: Path | None, settings: Settings) -> list[PresetCheck]:
    """Check the presets called `names` (or catalog files by path), or without a name all of the highest layer.

    Raises UnknownNameError for a name that no layer has.
    """
    library = open_library(presets, settings)
    readers: dict[Kind, Callable[[str], object]] = {
        "zones": library.zone,
        "genres": library.genre,
        "catalogs": lambda name: load_catalog(name, presets, settings),
    }
    for name in names:
        refuse_misspelt_path(name, library)
    findings: list[PresetCheck] = []
    for kind, read in readers.items():
        singular, own = kind.removesuffix("s"), library.files(kind)
        wanted = [name for name in library.names(kind) if name in names] if names else own.names
        if kind == "catalogs":
            wanted = [*wanted, *(name for name in names if is_path(name))]
        findings += [_checked(singular, name, read) for name in wanted]
        if not names:
            findings += [PresetCheck(singular, fault.file, fault.error) for fault in own.faults]
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
    advice, titles = Advice(catalog.counter), SharedTitles()
    for planned in expand(catalog):
        spec = planned.track.spec
        advice.see(spec)
        titles.see(planned.track.title)
        tracks, takes = tracks + 1, takes + planned.takes
        # Hashes, because a catalog may hold a hundred thousand captions.
        captions.add(_hashed(spec.caption))
        prompts.add(_hashed(f"{spec.caption}\n{spec.bpm}\n{spec.keyscale}\n{spec.timesignature}\n{spec.duration_s}"))
        bucket = Bucket.of(spec)
        if bucket not in buckets:
            buckets.add(bucket)
            queue_of(spec)  # raises when no GPU tier can hold the take
    return PresetCheck(
        kind="catalog",
        name=name,
        tracks=tracks,
        takes=takes,
        prompts=len(prompts),
        captions=len(captions),
        left_out=len(lay_out(catalog).left_out),
        notes=(
            *notes_of(catalog),
            *advice.notes(),
            *titles.notes(of_prompts=catalog.preset.content.prompts is not None),
        ),
    )


def _hashed(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()

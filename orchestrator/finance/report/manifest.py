"""The manifest: the list of a pack's files with their checksums and control totals, so that any change is detected.

The manifest is written last, so a pack without one is unfinished. `check_manifest` needs only the folder: it compares
every file with its checksum, and adds the CSV files up again.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from catalog.plain import plain_json
from orchestrator.finance.records import PriceUsed
from orchestrator.finance.report.contents import Contents
from orchestrator.finance.report.control import ControlTotals, totals_of
from orchestrator.finance.report.extract import UNKNOWN, read_cells

MANIFEST: Final = "manifest.json"
COSTS: Final = "costs.csv"
LEDGER: Final = "ledger.csv"
SCHEMA: Final = "tunemill.pack.v1"
_READ_BYTES: Final = 1 << 20


class FileSeal(NamedTuple):
    """A file of the pack as it was written."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of a pack: its files, their checksums and its totals."""

    period: str
    time_zone: str
    start_ms: int
    end_ms: int
    state: str
    closed_ms: int | None
    closed_by: str
    method: str
    code: str
    high_water_id: int
    costs: ControlTotals  # of the roll-up, provisional rows included
    ledger: ControlTotals  # of the entries
    prices: Sequence[PriceUsed]
    files: Sequence[FileSeal]

    def as_plain_values(self) -> dict[str, Any]:
        """The manifest for its file."""
        return {
            "schema": SCHEMA,
            "currency": "USD",
            "period": self.period,
            "time_zone": self.time_zone,
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "state": self.state,
            "closed_ms": self.closed_ms,
            "closed_by": self.closed_by,
            "method": self.method,
            "code_version": self.code,
            "high_water_id": self.high_water_id,
            "control": {"costs": self.costs.as_plain_values(), "ledger": self.ledger.as_plain_values()},
            "prices": [price._asdict() for price in self.prices],
            "files": {seal.name: {"bytes": seal.bytes, "sha256": seal.sha256} for seal in self.files},
        }

    def as_text(self) -> str:
        """The text of manifest.json: the same pack gives the same text."""
        text = json.dumps(self.as_plain_values(), indent=2, sort_keys=True, ensure_ascii=False)
        return plain_json(text) + "\n"


def make_manifest(contents: Contents, ledger: ControlTotals, files: Iterable[FileSeal]) -> Manifest:
    """The manifest of a pack whose files are written."""
    return Manifest(
        period=contents.period,
        time_zone=contents.time_zone,
        start_ms=contents.start_ms,
        end_ms=contents.end_ms,
        state=contents.state,
        closed_ms=contents.closed_ms,
        closed_by=contents.closed_by,
        method=contents.method,
        code=contents.code,
        high_water_id=contents.high_water_id,
        costs=totals_of(contents.rows),
        ledger=ledger,
        prices=tuple(contents.prices),
        files=sorted(files),
    )


def seal_of(path: Path, name: str) -> FileSeal:
    """Size and checksum of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
            size += len(part)
    return FileSeal(name, size, digest.hexdigest())


def is_inside(name: str) -> bool:
    """True when `name` is a path inside a pack's folder, in the form that we write."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and str(path) == name


def find_manifest(folder: Path) -> Mapping[str, Any] | None:
    """The manifest in `folder`; None where there is none that this program could have written."""
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    known = isinstance(values, dict) and values.get("schema") == SCHEMA and isinstance(values.get("files"), dict)
    return values if known else None


def check_manifest(folder: Path) -> list[str]:
    """Everything in which the pack in `folder` disagrees with its manifest; empty when it is whole."""
    manifest = find_manifest(folder)
    if manifest is None:
        return [f"{MANIFEST} is absent or no manifest of a pack"]
    wrong = [word for name, sealed in sorted(manifest["files"].items()) for word in _compare(folder, name, sealed)]
    if wrong:
        return wrong  # sums of a file that was changed would only say it twice
    return [*_compare_totals(folder, COSTS, manifest, "costs"), *_compare_totals(folder, LEDGER, manifest, "ledger")]


def _compare(folder: Path, name: str, sealed: Any) -> list[str]:
    if not is_inside(name):
        return [f"{name!r} does not lie in the pack"]
    try:
        found = seal_of(folder / name, name)
    except OSError as error:
        return [f"{name} cannot be read: {error.strerror}"]
    if not isinstance(sealed, dict) or found.bytes != sealed.get("bytes"):
        was = sealed.get("bytes") if isinstance(sealed, dict) else None
        return [f"{name} has {found.bytes:,} bytes; the manifest says {was}"]
    if found.sha256 != sealed.get("sha256"):
        return [f"{name} has other bytes than when it was written (sha256 {found.sha256})"]
    return []


def _compare_totals(folder: Path, name: str, manifest: Mapping[str, Any], key: str) -> list[str]:
    if name not in manifest["files"]:
        return []
    control = manifest.get("control")
    said = control.get(key) if isinstance(control, dict) else None
    try:
        found = _totals_of_file(folder / name, is_ledger=key == "ledger").as_plain_values()
    except (OSError, ValueError, KeyError, csv.Error) as error:
        return [f"{name} cannot be added up: {error}"]
    if not isinstance(said, dict):
        return [f"the manifest has no control totals of {name}"]
    return [
        f"{name} adds up to {each} {found[each]}; the manifest says {said.get(each)}"
        for each in sorted(found)
        if found[each] != said.get(each)
    ]


def _totals_of_file(path: Path, *, is_ledger: bool) -> ControlTotals:
    totals = ControlTotals()
    for line in read_cells(path):
        is_known = line["usd_micros"] != UNKNOWN
        ms = int(line["ms"])
        totals.count(line["kind"], line["category"], int(line["usd_micros"]) if is_known else 0)
        totals.unpriced_ms += (0 if is_known else ms) if is_ledger else int(line["unpriced_ms"])
        totals.ms += ms
        totals.tracks += int(line["tracks"])
        totals.attempts += int(line["attempts"])
        totals.audio_ms += int(line["audio_ms"])
    return totals

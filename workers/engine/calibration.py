"""Calibration: the memory that batches need on one GPU, measured and kept in a file.

A measurement holds for one GPU type, memory, model, precision and version of the code; the file names them, and a
file that was made for anything else is not used. Durations between two measured ones are treated as the longer.
"""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import Field, ValidationError

from catalog.forms import Frozen

_VERSION: Final = 1
_MIB, _GIB = 2**20, 2**30


class CalibrationKey(Frozen):
    """Everything that a measurement depends on."""

    gpu: str
    total_mib: int
    model: str
    model_fingerprint: str
    planner_fingerprint: str  # "": no planner shares the memory
    setup: str  # number formats and the offloaded parts
    code: str  # versions of this program and its libraries

    @property
    def slug(self) -> str:
        """The file's name without its ending; it contains the values that may differ on one machine."""
        parts = [self.gpu, self.model, self.setup, "planner" if self.planner_fingerprint else "no planner"]
        return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


class Measured(Frozen):
    """The measurement for takes of one duration."""

    duration_s: int = Field(gt=0)
    takes: int = Field(ge=1)  # the largest batch that is promised; it was rendered
    take_bytes: int = Field(ge=0)  # the memory of one more take
    batch_bytes: int = Field(ge=0)  # the memory of every batch
    beside_bytes: int = Field(ge=0)  # the part of it that the batch before needs for its decoding, beside this one
    peak_bytes: int = Field(ge=0)  # the total memory of the largest batch
    published: int  # the published table's limit, for comparison
    ms_per_take: int = Field(ge=0)  # diffusion and decoding, in the largest batch
    at_ms: int  # UTC

    @property
    def reason(self) -> str:
        """The reason for the batch limit, for the log."""
        day = datetime.fromtimestamp(self.at_ms / 1000, UTC).date()
        return f"measured on this GPU on {day}, {size(self.take_bytes)} a take of {self.duration_s} s"


class Calibration(Frozen):
    """All measurements for one key, shortest duration first."""

    v: Literal[1] = _VERSION
    key: CalibrationKey
    measured: tuple[Measured, ...] = ()

    def for_duration(self, duration_s: float) -> Measured | None:
        """The measurement for takes of `duration_s`: that of the same or the next longer duration, or None."""
        return next((row for row in self.measured if row.duration_s >= duration_s), None)

    def with_measured(self, row: Measured) -> Calibration:
        """Return this calibration with `row` in place of an earlier measurement of its duration."""
        others = [known for known in self.measured if known.duration_s != row.duration_s]
        return Calibration(key=self.key, measured=tuple(sorted([*others, row], key=lambda one: one.duration_s)))


class FoundCalibration(NamedTuple):
    """The calibration on this machine."""

    calibration: Calibration  # empty: none can be used
    note: str  # for the log


def calibration_path(home: Path, key: CalibrationKey) -> Path:
    """The path of the calibration file of `key`."""
    return home / "calibration" / f"{key.slug}.json"


def read_calibration(home: Path, key: CalibrationKey) -> FoundCalibration:
    """Read the measurements for `key`; a file that is broken or was made for another key is reported and not used."""
    path = calibration_path(home, key)
    nothing = Calibration(key=key)
    try:
        found = Calibration.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return FoundCalibration(nothing, "")
    except (OSError, ValidationError) as error:
        return FoundCalibration(nothing, f"{path} is not used: {str(error).splitlines()[0]}")
    if changed := [name for name, value in found.key if value != getattr(key, name)]:
        return FoundCalibration(
            nothing, f"{path} is not used: {', '.join(changed)} differ; `tunemill worker calibrate` renews it"
        )
    durations = ", ".join(f"{row.takes} of {row.duration_s} s" for row in found.measured)
    return FoundCalibration(found, f"batch limits measured on this GPU: {durations}")


def write_calibration(home: Path, calibration: Calibration) -> Path:
    """Write the file whole or not at all; returns its path."""
    path = calibration_path(home, calibration.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as part:
        part.write(calibration.model_dump_json(indent=2) + "\n")
    return Path(part.name).replace(path)


def size(n_bytes: int) -> str:
    """Bytes in words, such as 2.1 GiB or 310 MiB."""
    return f"{n_bytes / _GIB:.1f} GiB" if n_bytes >= _GIB else f"{n_bytes / _MIB:.0f} MiB"

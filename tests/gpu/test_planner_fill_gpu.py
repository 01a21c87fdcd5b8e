"""Choices of the planner on a CUDA device, with tiny random weights: the CPU's choices, and no neighbour's say in them.

Skipped where there is no CUDA device; with TUNEMILL_TEST_GPU=1, which promises one, that is a failure.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from catalog import limits
from catalog.spec import Bounds, PlannerSpec, TrackSpec
from catalog.track import Take, Track
from workers.ace_step.planner.metadata import Filler
from workers.ace_step.planner.planner import Planner
from workers.ace_step.tiny.planner import write_tiny_planner

pytestmark = pytest.mark.gpu

BOUNDS = Bounds(bpm=(60, 180), keyscales=tuple(limits.KEYSCALES), timesignatures=("3", "4"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("planner")
    write_tiny_planner(path)
    return path


def a_filler(folder: Path, device: str, dtype: torch.dtype) -> Filler:
    planner = Planner.load(folder, device=torch.device(device), dtype=dtype)
    planner.limit_memory(4.0)
    return planner._filler


def takes() -> list[Take]:
    planner = PlannerSpec(metadata="fill", open=BOUNDS.open, temperature=2.0)
    found = []
    for slot in range(1, 9):
        spec = TrackSpec(
            caption="Slow piano " * slot,
            bpm=None,
            keyscale=None,
            timesignature=None,
            duration_s=60,
            planner=planner,
            bounds=BOUNDS,
            model="tiny-random",
        )
        found.append(Track(catalog="c", zone="z", genre="g", slot=f"{slot}", spec=spec).take())
    return found


def test_the_device_chooses_what_the_cpu_chooses(folder: Path) -> None:
    chosen = [a_filler(folder, device, torch.float32).fill(takes()) for device in ("cpu", "cuda")]
    assert chosen[0] == chosen[1]


def test_neighbours_do_not_matter_in_bfloat16(folder: Path) -> None:
    filler = a_filler(folder, "cuda", torch.bfloat16)
    together = filler.fill(takes())
    assert [filler.fill([take])[0] for take in takes()] == together
    assert filler.fill(takes()[::-1]) == together[::-1]

"""The bench of full size runs on a CUDA device, with its smallest model: a rented hour is no place to find that out.

Skipped where there is no CUDA device; with TUNEMILL_TEST_GPU=1, which promises one, that is a failure.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import bench_full_size

pytestmark = pytest.mark.gpu


def test_every_stage_is_measured_on_the_device(tmp_path: Path):
    words = "--reduced --device cuda --durations 10,20 --batches 1,2 --planner-takes 1 --flow-takes 4"
    bench_full_size.main([*words.split(), "--results", str(tmp_path)])
    (path,) = tmp_path.glob("*.json")
    (run,) = json.loads(path.read_text())["runs"]
    values = {figure["name"]: figure["value"] for figure in run["figures"]}
    for batch in (1, 2):
        assert values[f"miniature, 20 s, batch {batch}: peak memory of the device"] > 0
        assert values[f"miniature, 20 s, batch {batch}: diffuse"] > 0
    assert values["miniature, 10 s, planned and rendered in batches of 2: rate"] > 0
    assert run["not_reached"] == []

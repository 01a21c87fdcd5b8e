"""Notes: cells that get no track are named with what took their tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.matrix.notes import notes_of
from tests.support.preset_files import a_catalog, a_library


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        ({"tracks": 24}, []),
        (
            {"tracks": 14, "quotas": [{"zone": "z0", "tracks": 14}]},
            [
                "the quotas take all 14 tracks: 2 cells get none: z1/g0, z1/g1; raise 'tracks', or lower a quota",
            ],
        ),
        (
            {"tracks": 14, "quotas": [{"zone": "z0", "tracks": 13}]},
            ["the quotas leave 1 of the 14 tracks: 1 cell gets none: z1/g0; raise 'tracks', or lower a quota"],
        ),
        ({"tracks": 3}, ["3 tracks are too few for 4 cells: 1 cell gets none: z1/g0; raise 'tracks'"]),
        (
            {"tracks": 14, "quotas": [{"zone": "z0", "tracks": 1}]},
            [
                "some quotas have fewer tracks than cells: 1 cell gets none: z0/g1; "
                "raise the quotas, or exclude the cells"
            ],
        ),
        # An include that fixes a number is a quota as well.
        (
            {"matrix": {"zones": "all", "genres": "all", "include": [{"zone": "z0", "genre": "g0", "tracks": 5}]}},
            [],
        ),
        # What is given 0 by name is meant to be empty.
        ({"tracks": 14, "quotas": [{"zone": "z0", "tracks": 0}]}, []),
        ({"tracks": 14, "weights": [{"zone": "z0", "weight": 0}]}, []),
        ({"tracks": 14, "weights": [{"zone": "z0", "weight": 0}, {"genre": "g0", "weight": 1}]}, []),
        ({"matrix": None, "tracks": None, "prompts": "p.csv"}, []),
    ],
)
def test_cells_without_a_track_are_named_with_their_cause(
    tmp_path: Path, content: dict[str, Any], notes: list[str]
) -> None:
    assert notes_of(a_catalog(a_library(tmp_path), **content)) == notes


def test_of_many_empty_cells_a_few_are_named_and_all_are_counted(tmp_path: Path) -> None:
    (note,) = notes_of(a_catalog(a_library(tmp_path, 5, 5), tracks=10))
    assert note.startswith("10 tracks are too few for 25 cells: 15 cells get none: ")
    assert note.endswith(" and 9 more; raise 'tracks'")


def test_a_cell_is_named_with_its_axes(tmp_path: Path) -> None:
    matrix = {"zones": ["z0"], "genres": ["g0"], "axes": {"season": {"summer": {}, "winter": {}}}}
    (note,) = notes_of(a_catalog(a_library(tmp_path), matrix=matrix, tracks=1))
    assert "1 cell gets none: z0/g0/season=winter;" in note

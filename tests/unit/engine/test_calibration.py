"""A calibration is believed for what it was made for, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.engine.calibration import (
    Calibration,
    CalibrationKey,
    Measured,
    calibration_path,
    read_calibration,
    size,
    write_calibration,
)

KEY = CalibrationKey(
    gpu="NVIDIA H200",
    total_mib=143_771,
    model="acestep-v15-turbo",
    model_fingerprint="ab" * 32,
    planner_fingerprint="cd" * 32,
    setup="bfloat16",
    code="tunemill 0.1.0 torch 2.13.0",
)


def measured(duration_s: int, takes: int = 12) -> Measured:
    return Measured(
        duration_s=duration_s,
        takes=takes,
        take_bytes=2_254_857_830,
        batch_bytes=1_000_000,
        beside_bytes=0,
        peak_bytes=27_000_000_000,
        published=8,
        ms_per_take=300,
        at_ms=1_795_132_800_000,
    )


def test_what_was_written_is_found_again_for_the_same_key(tmp_path: Path):
    path = write_calibration(tmp_path, Calibration(key=KEY, measured=(measured(60), measured(180, 5))))
    assert path == calibration_path(tmp_path, KEY)
    assert path.name == "nvidia-h200-acestep-v15-turbo-bfloat16-planner.json"
    found = read_calibration(tmp_path, KEY)
    assert found.calibration.measured == (measured(60), measured(180, 5))
    assert found.note == "batch limits measured on this GPU: 12 of 60 s, 5 of 180 s"
    assert list(path.parent.iterdir()) == [path]


def test_without_a_file_there_is_nothing_to_say(tmp_path: Path):
    assert read_calibration(tmp_path, KEY) == (Calibration(key=KEY), "")


@pytest.mark.parametrize("field", ["total_mib", "model_fingerprint", "planner_fingerprint", "code"])
def test_a_calibration_for_anything_else_is_passed_over_with_a_note(tmp_path: Path, field: str):
    write_calibration(tmp_path, Calibration(key=KEY, measured=(measured(60),)))
    other = KEY.model_copy(update={field: 1 if field == "total_mib" else "changed"})
    found = read_calibration(tmp_path, other)
    assert found.calibration == Calibration(key=other)
    assert f"is not used: {field} differ" in found.note
    assert "tunemill worker calibrate" in found.note


@pytest.mark.parametrize("field", ["gpu", "model", "setup"])
def test_what_may_change_from_start_to_start_has_a_file_of_its_own(tmp_path: Path, field: str):
    write_calibration(tmp_path, Calibration(key=KEY, measured=(measured(60),)))
    assert read_calibration(tmp_path, KEY.model_copy(update={field: "other"})).note == ""
    assert read_calibration(tmp_path, KEY.model_copy(update={"planner_fingerprint": ""})).note == ""


@pytest.mark.parametrize("content", ["", "{", "[]", '{"v": 2}'])
def test_a_broken_file_is_passed_over_with_a_note(tmp_path: Path, content: str):
    path = calibration_path(tmp_path, KEY)
    path.parent.mkdir()
    path.write_text(content)
    found = read_calibration(tmp_path, KEY)
    assert found.calibration == Calibration(key=KEY)
    assert f"{path} is not used" in found.note


def test_a_duration_that_was_not_measured_is_taken_for_the_next_longer():
    known = Calibration(key=KEY, measured=(measured(60, 20), measured(180, 5)))
    limits = {duration_s: known.for_duration(duration_s) for duration_s in (10, 60, 61, 180, 181)}
    assert {each: row.takes if row else None for each, row in limits.items()} == {
        10: 20,
        60: 20,
        61: 5,
        180: 5,
        181: None,
    }


def test_measuring_a_duration_again_replaces_it_alone():
    known = Calibration(key=KEY, measured=(measured(60, 20), measured(180, 5)))
    again = known.with_measured(measured(60, 22)).with_measured(measured(120, 9))
    assert [(row.duration_s, row.takes) for row in again.measured] == [(60, 22), (120, 9), (180, 5)]


def test_the_reason_names_day_and_size():
    assert measured(180).reason == "measured on this GPU on 2026-11-20, 2.1 GiB a take of 180 s"


@pytest.mark.parametrize(("n_bytes", "words"), [(0, "0 MiB"), (310 << 20, "310 MiB"), (2_254_857_830, "2.1 GiB")])
def test_sizes_are_said_in_words(n_bytes: int, words: str):
    assert size(n_bytes) == words

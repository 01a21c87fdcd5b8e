"""A pack is whole or not there, the same from the same month, and says when somebody has touched it."""

from __future__ import annotations

import errno
import json

import pytest

from catalog.errors import DisagreementError, SettingsError, StoreError, StoreFullError, TunemillError
from orchestrator.finance.report import writing
from orchestrator.finance.report.manifest import check_manifest
from orchestrator.finance.report.writing import OWN_FILES, write_pack
from tests.support.cost_contents import a_big_month, a_full_month, a_row, contents_of, example_rows, extracted_of


@pytest.fixture
def month():
    return a_full_month(a_big_month(zones=3, genres=2, runs=1))


def bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_pack_has_its_files_and_checks_out(tmp_path, month):
    manifest = write_pack(month, tmp_path / "pack")
    assert set(bytes_of(tmp_path / "pack")) == OWN_FILES
    assert check_manifest(tmp_path / "pack") == []
    said = json.loads((tmp_path / "pack" / "manifest.json").read_text())
    assert said == json.loads(json.dumps(manifest.as_plain_values()))
    assert list(said) == sorted(said)
    assert said["control"]["costs"]["usd_micros"] == sum(row.usd_micros for row in month.rows)
    assert said["control"]["ledger"]["lines"] == sum(1 for _ in month.extract())
    assert said["high_water_id"] == month.high_water_id
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_the_same_month_gives_the_same_bytes(tmp_path, month):
    for name in ("first", "second"):
        write_pack(month, tmp_path / name, {"focus/rental.csv": lambda path: path.write_bytes(b"x\r\n") and None})
    assert bytes_of(tmp_path / "first") == bytes_of(tmp_path / "second")
    write_pack(month, tmp_path / "first", {"focus/rental.csv": lambda path: path.write_bytes(b"x\r\n") and None})
    assert bytes_of(tmp_path / "first") == bytes_of(tmp_path / "second")


@pytest.mark.parametrize("name", sorted(OWN_FILES - {"manifest.json"}))
def test_a_flipped_byte_is_found(tmp_path, name):
    write_pack(contents_of(example_rows()), tmp_path)
    path = tmp_path / name
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    (found,) = check_manifest(tmp_path)
    assert name in found
    path.unlink()
    (found,) = check_manifest(tmp_path)
    assert f"{name} cannot be read" in found


def test_a_manifest_that_was_made_to_fit_still_disagrees_with_the_sums(tmp_path):
    write_pack(contents_of(example_rows()), tmp_path)
    path = tmp_path / "costs.csv"
    path.write_bytes(path.read_bytes().replace(b"1094400", b"1094401"))
    said = json.loads((tmp_path / "manifest.json").read_text())
    said["files"]["costs.csv"]["sha256"] = writing.seal_of(path, "costs.csv").sha256
    (tmp_path / "manifest.json").write_text(json.dumps(said))
    assert any("costs.csv adds up to usd_micros 2550001" in each for each in check_manifest(tmp_path))


def test_a_folder_without_a_manifest_is_no_pack(tmp_path):
    assert check_manifest(tmp_path) == ["manifest.json is absent or no manifest of a pack"]
    (tmp_path / "manifest.json").write_text('{"files": ["../../etc/passwd"]}')
    assert check_manifest(tmp_path) == ["manifest.json is absent or no manifest of a pack"]


def test_files_of_others_are_left_alone_and_files_of_the_pack_before_go(tmp_path, month):
    extra = {"focus.csv": lambda path: path.write_text("ours") and None, "note.csv": lambda path: path.touch()}
    write_pack(month, tmp_path, extra)
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "note.csv").write_text("changed by hand")
    write_pack(month, tmp_path)
    assert set(bytes_of(tmp_path)) == {*OWN_FILES, "mine.txt", "note.csv"}
    assert check_manifest(tmp_path) == []


def test_a_file_of_somebody_else_that_is_called_like_ours_is_not_overwritten(tmp_path, month):
    (tmp_path / "report.xlsx").write_text("mine")
    with pytest.raises(SettingsError, match="is not part of a pack"):
        write_pack(month, tmp_path)
    assert bytes_of(tmp_path) == {"report.xlsx": b"mine"}


def test_a_folder_with_another_month_is_refused(tmp_path, month):
    write_pack(month, tmp_path)
    before = bytes_of(tmp_path)
    with pytest.raises(SettingsError, match="holds the pack of 2026-03"):
        write_pack(contents_of([], period="2026-04"), tmp_path)
    assert bytes_of(tmp_path) == before


def test_a_full_disk_leaves_the_pack_that_was_there(tmp_path, month):
    write_pack(month, tmp_path / "pack")
    before = bytes_of(tmp_path)

    def no_space(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreFullError, match="cannot be written"):
        write_pack(contents_of(example_rows()), tmp_path / "pack", {"more.csv": no_space})
    assert bytes_of(tmp_path) == before


def test_a_workbook_that_cannot_be_written_is_said_in_words(tmp_path, month, monkeypatch):
    def full(self, *names):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.write", full)
    with pytest.raises(StoreFullError):
        write_pack(month, tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


def test_rows_and_entries_that_disagree_make_no_pack(tmp_path):
    rows = example_rows()
    with pytest.raises(DisagreementError, match="have different sums"):
        write_pack(contents_of(rows, extract=lambda: extracted_of(rows[1:])), tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


def test_names_that_would_leave_the_folder_or_take_ours_are_refused(tmp_path):
    for name in ("../x.csv", "/x.csv", "report.xlsx", "", "a//b.csv", "."):
        with pytest.raises(TunemillError, match="cannot hold"):
            write_pack(contents_of([]), tmp_path / "pack", {name: lambda path: path.touch()})


def test_a_place_that_is_no_folder_is_said_in_words(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be written"):
        write_pack(contents_of([a_row()]), tmp_path / "file")
    with pytest.raises(StoreError, match="cannot be written"):
        write_pack(contents_of([a_row()]), tmp_path / "file" / "pack")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

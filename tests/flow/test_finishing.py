"""A change of format makes new files from stored audio, in a process of its own, without an engine; kills included."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

from tests.flow.test_run import Machine
from tests.flow.test_run import machine as machine  # noqa: PLC0414 - a fixture

CATALOG = """
title: Finished
model: tone
defaults: {{duration_s: 10, planner: false, format: {format}, loudness_lufs: {lufs}}}
masters: {masters}
matrix: {{zones: [hotel_lobby], genres: [piano_solo, ambient]}}
tracks_per_cell: 3
"""
TRACKS = 6


def write_catalog(machine: Machine, *, file_format: str, lufs: int = -16, masters: str = "true") -> None:
    machine.catalog.write_text(CATALOG.format(format=file_format, lufs=lufs, masters=masters))


def plan(machine: Machine) -> dict:
    return json.loads(machine.tunemill("plan", str(machine.catalog), "--json").stdout)


def costs(machine: Machine) -> dict:
    (row,) = json.loads(machine.tunemill("costs", "report", "--json").stdout)["rows"]
    return {name: row[name] for name in ("accepted", "attempts", "audio_ms", "total_usd_micros")}


def files(machine: Machine) -> list[Path]:
    said = machine.tunemill("catalog", "list", machine.catalog.stem, "--files")
    return [Path(line) for line in said.stdout.splitlines()]


def test_an_mp3_catalog_becomes_flac_without_rendering_and_back(machine):
    write_catalog(machine, file_format="mp3")
    assert machine.run("--json").returncode == 0
    was = files(machine)
    cost = costs(machine)
    write_catalog(machine, file_format="flac", lufs=-20)
    assert plan(machine)["takes"]["to_finish"] == TRACKS
    assert "6 tracks differ in format or level alone" in machine.run().stderr
    assert machine.query("select count(*) from attempt") == [(TRACKS,)]  # the run has rendered nothing
    said = json.loads(machine.tunemill("catalog", "finish", str(machine.catalog), "--json").stdout)
    assert (said["to_finish"], said["finished"], said["faults"], said["without_master"]) == (TRACKS, TRACKS, {}, [])
    now = files(machine)
    assert [path.suffix for path in now] == [".flac"] * TRACKS
    assert all(path.exists() for path in (*was, *now))
    assert plan(machine)["takes"]["unchanged"] == TRACKS
    assert machine.tunemill("catalog", "verify", machine.catalog.stem).returncode == 0
    assert costs(machine) == cost
    assert cost["accepted"] == TRACKS
    write_catalog(machine, file_format="mp3")
    assert machine.run("--no-replace").returncode == 0  # the same music has its file of before
    assert files(machine) == was


def test_finishing_that_is_killed_goes_on_and_makes_no_file_twice(machine):
    write_catalog(machine, file_format="mp3")
    assert machine.run().returncode == 0
    write_catalog(machine, file_format="wav")
    process = machine.start("catalog", "finish", str(machine.catalog), "--jobs", "1")
    deadline = time.monotonic() + 60
    while not machine.query("select 1 from take where take_id not in (select take_id from take where current)"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()
    said = json.loads(machine.tunemill("catalog", "finish", str(machine.catalog), "--json").stdout)
    assert 0 < said["finished"] < TRACKS
    now = files(machine)
    assert sorted({path.suffix for path in now}) == [".wav"]
    assert len(now) == TRACKS
    assert len(list((machine.home / "store").rglob("*.wav"))) == TRACKS
    assert machine.tunemill("catalog", "verify", machine.catalog.stem).returncode == 0


def test_tracks_without_a_master_keep_their_files_until_they_are_rendered_anew(machine):
    write_catalog(machine, file_format="mp3", masters="false")
    assert machine.run().returncode == 0
    assert not list((machine.home / "store").rglob("masters"))
    write_catalog(machine, file_format="flac", masters="false")
    said = machine.tunemill("catalog", "finish", str(machine.catalog))
    assert said.returncode == 0
    assert "6 tracks keep their files: no master was kept" in said.stderr
    assert [path.suffix for path in files(machine)] == [".mp3"] * TRACKS
    assert machine.run("--remake", "--yes").returncode == 0
    assert [path.suffix for path in files(machine)] == [".flac"] * TRACKS


def test_a_master_that_is_gone_is_told_with_its_take_and_ends_with_52(machine):
    write_catalog(machine, file_format="mp3")
    assert machine.run().returncode == 0
    lost = next((machine.home / "store").rglob("masters/**/*.flac"))
    lost.unlink()
    write_catalog(machine, file_format="flac")
    said = machine.tunemill("catalog", "finish", str(machine.catalog))
    assert said.returncode == 52
    assert lost.name in said.stderr
    assert sorted(path.suffix for path in files(machine)) == [".flac"] * (TRACKS - 1) + [".mp3"]

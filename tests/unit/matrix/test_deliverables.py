"""Presets: the settings of the finished file (encoding, limiter, tags), merged and held to their format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalog.errors import OutOfRangeError, PresetError
from catalog.spec import MasterSpec
from catalog.tags import Tags
from catalog.track import Track
from orchestrator.matrix import cells, expand
from tests.support.preset_files import ZONE, a_catalog, a_library, write


def tracks_of(root: Path, **content: Any) -> list[Track]:
    return [planned.track for planned in expand(a_catalog(root, **{"tracks": 4, **content}))]


@pytest.mark.parametrize(
    ("defaults", "words", "fix"),
    [
        ({"format": "ogg", "bitrate_kbps": 128}, "bitrate_kbps: 128 has no effect on ogg files", "write 'format: mp3'"),
        ({"bitrate_kbps": 128}, "bitrate_kbps: 128 has no effect on flac files", "write 'format: mp3'"),
        ({"format": "opus", "vbr_quality": 0.5}, "vbr_quality: 0.5 has no effect on opus", "write 'format: mp3'"),
        ({"format": "mp3", "sample_type": "float"}, "sample_type: float has no effect on mp3", "write 'format: wav'"),
        ({"format": "mp3", "bitrate_kbps": 256, "vbr_quality": 1}, "a bit rate or a quality, not both", "remove"),
    ],
)
def test_a_setting_of_another_format_is_refused_with_its_line(
    tmp_path: Path, defaults: dict[str, Any], words: str, fix: str
) -> None:
    with pytest.raises(PresetError, match=rf"c\.yaml:\d+: .*{words}") as raised:
        cells(a_catalog(a_library(tmp_path), defaults=defaults))
    assert fix in (raised.value.fix or "")


def test_a_bit_rate_that_mp3_does_not_have_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(OutOfRangeError, match=r"c\.yaml:\d+: MP3 has no bit rate of 300 kbit/s") as raised:
        cells(a_catalog(a_library(tmp_path), defaults={"format": "mp3", "bitrate_kbps": 300}))
    assert raised.value.fix == "write 'bitrate_kbps: 320'"


@pytest.mark.parametrize(
    "settings",
    [
        {"format": "mp3", "bitrate_kbps": 256},
        {"format": "mp3", "vbr_quality": 0.8},
        {"format": "ogg", "vbr_quality": 0.6},
        {"format": "opus", "bitrate_kbps": 96},
        {"format": "wav", "sample_type": "float"},
        {"limiter_db": 5},
        {"format": "flac", "sample_type": "integer", "bitrate_kbps": None},
    ],
)
def test_a_setting_of_its_own_format_is_taken(tmp_path: Path, settings: dict[str, Any]) -> None:
    (track, *_) = tracks_of(a_library(tmp_path), defaults=settings)
    assert track.spec.master == MasterSpec(**settings)


def test_a_nearer_format_may_pass_over_a_bit_rate(tmp_path: Path) -> None:
    rules = [{"zone": "z0", "set": {"format": "ogg"}}]
    catalog = a_catalog(a_library(tmp_path), defaults={"format": "mp3", "bitrate_kbps": 256}, rules=rules)
    assert {cell.settings.master.format for cell in cells(catalog)} == {"mp3", "ogg"}


def test_a_zone_may_ask_for_the_limiter(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    write(root / "zones/z0.yaml", {**ZONE, "defaults": {"limiter_db": 3}})
    asked = {cell.zone: cell.settings.master.limiter_db for cell in cells(a_catalog(root))}
    assert asked == {"z0": 3, "z1": 0}


def test_tags_are_merged_key_by_key_and_null_states_none(tmp_path: Path) -> None:
    rules = [
        {"zone": "z1", "set": {"tags": {"artist": "Duo"}}},
        {"zone": "z1", "genre": "g1", "set": {"tags": None}},
    ]
    found = {
        (track.zone, track.genre): track.tags
        for track in tracks_of(a_library(tmp_path), defaults={"tags": {"artist": "Trio", "date": 2026}}, rules=rules)
    }
    assert found["z0", "g0"] == Tags(artist="Trio", date="2026")
    assert found["z1", "g0"] == Tags(artist="Duo", date="2026")
    assert found["z1", "g1"] is None


def test_tags_change_no_take(tmp_path: Path) -> None:
    plain, tagged = (tracks_of(a_library(tmp_path), **more) for more in ({}, {"defaults": {"tags": {"artist": "A"}}}))
    assert [track.take().id for track in plain] == [track.take().id for track in tagged]
    assert all("tags" not in track.model_dump() and "moods" not in track.model_dump() for track in plain)


def test_the_moods_of_a_tagged_track_are_those_of_its_caption(tmp_path: Path) -> None:
    for track in tracks_of(a_library(tmp_path), tracks=24, defaults={"tags": {"artist": "A"}}):
        assert track.moods
        assert all(mood in track.spec.caption for mood in track.moods)
        assert len(track.moods) == (2 if " and " in track.spec.caption.split(" Genre ")[0] else 1)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"artst": "A"}, "'artst' is not a key here"),
        ({"date": "05/2026"}, "'05/2026' is no year, month or day"),
        ({"date": "2026-02-30"}, "'2026-02-30' is no year, month or day"),
        ({"date": 26}, "'?26'? is no year, month or day"),
        ({"date": "2026-W01-1"}, "is no year, month or day"),
        ({"artist": "x" * 1001}, "artist"),
    ],
)
def test_a_wrong_tag_is_answered_with_its_line(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    with pytest.raises(PresetError, match=rf"c\.yaml:\d+: .*{words}"):
        cells(a_catalog(a_library(tmp_path), defaults={"tags": tags}))


def test_checks_are_merged_by_kind_and_change_no_take(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    plain = {track.key: track for track in tracks_of(root)}
    rules = [{"zone": "z1", "set": {"checks": {"click": "warn", "loop": False}}}]  # YAML reads `off` as false
    judged = list(tracks_of(root, defaults={"checks": {"click": "off", "voice": "reject"}}, rules=rules))
    assert {track.zone: track.checks for track in judged} == {
        "z0": {"click": "off", "voice": "reject"},
        "z1": {"click": "warn", "voice": "reject", "loop": "off"},
    }
    assert all(track.take().id == plain[track.key].take().id for track in judged)
    assert all("checks" not in track.model_dump() for track in plain.values())


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ({"clik": "warn"}, "'clik' is no kind of flaw that a catalog can judge"),
        ({"digital-silence": "off"}, "'digital-silence' is no kind of flaw that a catalog can judge"),
        ({"click": "maybe"}, "checks"),
        (["click"], "checks"),
    ],
)
def test_a_wrong_check_is_answered_with_its_line(tmp_path: Path, checks: Any, words: str) -> None:
    with pytest.raises(PresetError, match=rf"c\.yaml:\d+: .*{words}"):
        cells(a_catalog(a_library(tmp_path), defaults={"checks": checks}))

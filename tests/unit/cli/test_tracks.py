"""Finished tracks as they are listed: with what was asked for and, where the planner chose, with what it chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalog.sidecar import Plan, Sidecar
from catalog.spec import Bounds, MasterSpec, PlannerSpec
from catalog.store.folder import FolderStore
from catalog.track import Take, Track
from orchestrator.cli.names import NO_NAMES, Names
from orchestrator.cli.tracks import print_tracks, tracks_as_json
from orchestrator.ledger import RenditionRow
from orchestrator.ledger.readings import ListedTrack, loudness_spread
from tests.support.makers import a_sidecar, a_take

OPEN = Bounds(bpm=(60, 90), keyscales=("C major", "A minor"), timesignatures=("3", "4"))


def listed(take: Take, plan: Plan | None = None) -> ListedTrack:
    sidecar = Sidecar.model_validate({**a_sidecar(take).model_dump(), "plan": plan})
    row = RenditionRow(
        take_id=take.id,
        record_id="r",
        run_id="run",
        worker_id="w",
        audio_key=sidecar.audio.key,
        sha256=sidecar.audio.sha256,
        pcm_sha256=sidecar.audio.pcm_sha256,
        bytes=1,
        audio_ms=10_000,
        dit_seed=take.dit_seed,
        lm_seed=take.lm_seed,
        model_fingerprint="f",
        planner_fingerprint="",
        code="c",
        gpu="cpu",
        noise=False,
        loudness_lufs=-16.0,
        created_at_ms=0,
        sidecar={},
    )
    return ListedTrack(take, row, plan.metadata if plan else {})


def at_loudness(lufs: float | None, **master: Any) -> ListedTrack:
    track = listed(a_take("0001", master=MasterSpec(**master)))
    return track._replace(rendition=RenditionRow(**{**track.rendition.model_dump(), "loudness_lufs": lufs}))


def test_the_spread_of_loudness_is_measured_against_each_track_s_own_target() -> None:
    tracks = [at_loudness(-16.0), at_loudness(-20.0, loudness_lufs=-18), at_loudness(-17.0), at_loudness(None)]
    spread = loudness_spread([*tracks, at_loudness(-9.0, loudness_lufs=None)])
    assert spread == (3, pytest.approx(-1), -2, 0, pytest.approx((2 / 3) ** 0.5))
    assert loudness_spread([at_loudness(None)]) is None


def test_a_list_says_how_far_tracks_are_from_their_loudness(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    print_tracks([at_loudness(-16.0), at_loudness(-18.0)], FolderStore(tmp_path))
    assert (
        "loudness against its target: from -2.0 to +0.0 LU, mean -1.0, standard deviation 1.0"
        in capsys.readouterr().out
    )
    print_tracks([at_loudness(-16.0), at_loudness(-16.05)], FolderStore(tmp_path))
    assert "against its target" not in capsys.readouterr().out


def an_open_take() -> Take:
    planner = PlannerSpec(metadata="fill", open=OPEN.open)
    return a_take("0002", bpm=None, keyscale=None, timesignature=None, planner=planner, bounds=OPEN)


def test_a_list_names_what_the_planner_chose(tmp_path, terminal, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {"bpm": 77, "keyscale": "A minor", "timesignature": 3}
    plan = Plan(codes=[1], metadata=metadata, prompt_sha256="0", batch_key="b")
    tracks = [listed(a_take("0001")), listed(an_open_take(), plan)]
    given, chosen = tracks_as_json(tracks, FolderStore(tmp_path))
    assert (given["bpm"], given["keyscale"], given["timesignature"]) == (90, "C major", "4")
    assert (chosen["bpm"], chosen["keyscale"], chosen["timesignature"]) == (77, "A minor", "3")
    terminal(200)
    print_tracks(tracks, FolderStore(tmp_path))
    rows = [line for line in capsys.readouterr().out.splitlines() if "Warm Stone" in line]
    assert [("77" in row.split(), "A minor" in row) for row in rows] == [(False, False), (True, True)]


def in_places(*places: tuple[str, dict[str, str], int]) -> list[ListedTrack]:
    """Tracks of these zones and axes, with the number of their take."""
    track = a_take("0001").track
    return [
        listed(Track(**{**track.model_dump(), "zone": zone, "axes": axes, "slot": f"{n:04d}"}).take(number))
        for n, (zone, axes, number) in enumerate(places)
    ]


def shown(
    tracks: list[ListedTrack], tmp_path: Path, capsys: pytest.CaptureFixture[str], names: Names = NO_NAMES
) -> str:
    print_tracks(tracks, FolderStore(tmp_path), names)
    return capsys.readouterr().out


def test_axes_are_columns_and_json_fields_and_fit_80_columns(tmp_path, terminal, capsys):
    tracks = in_places(("spa", {"daypart": "morning"}, 1), ("lobby", {"daypart": "late", "season": "winter"}, 1))
    assert [row["axes"] for row in tracks_as_json(tracks, FolderStore(tmp_path))] == [
        {"daypart": "morning"},
        {"daypart": "late", "season": "winter"},
    ]
    for width in (80, 200):
        terminal(width)
        heading, first, second, *_ = shown(tracks, tmp_path, capsys).splitlines()
        assert heading.split()[:5] == ["title", "zone", "genre", "daypart", "season"]
        assert "morning" in first
        assert second.split()[-1:] != []
        assert "late" in second
        assert "winter" in second
        assert max(map(len, (heading, first, second))) <= width


def test_without_axes_there_is_no_column_for_them(tmp_path, terminal, capsys):
    terminal(200)
    assert shown(in_places(("spa", {}, 1)), tmp_path, capsys).split()[:4] == ["title", "zone", "genre", "bpm"]


def test_the_number_of_a_take_is_shown_where_a_track_has_several(tmp_path, terminal, capsys):
    terminal(200)
    one, several = in_places(("spa", {}, 1), ("spa", {}, 1)), in_places(("spa", {}, 1), ("spa", {}, 3))
    assert "take" not in shown(one, tmp_path, capsys).splitlines()[0].split()
    heading, _, third, *_ = shown(several, tmp_path, capsys).splitlines()
    place = heading.split().index("take")
    assert third.replace("Warm Stone", "Warm_Stone").split()[place] == "3"
    of_several = [track._replace(wanted=3) for track in one]
    assert "take" in shown(of_several, tmp_path, capsys).splitlines()[0].split()


def test_caption_and_date_are_in_json(tmp_path):
    (row,) = tracks_as_json(in_places(("spa", {}, 1)), FolderStore(tmp_path))
    assert (row["caption"], row["created_at_ms"], row["catalog"]) == ("warm felt piano over a slow pad", 0, "spa")


def test_a_renamed_zone_is_shown_by_the_name_that_people_know(tmp_path, terminal, capsys):
    tracks = in_places(("thermal", {}, 1), ("lobby", {}, 1))
    names = Names({"spa": "wellness"}, {"spa": {"zones": {"thermal": "baths"}, "genres": {"ambient": "drift"}}})
    rows = tracks_as_json(tracks, FolderStore(tmp_path), names)
    assert [(row["catalog"], row["zone"], row["genre"]) for row in rows] == [
        ("wellness", "baths", "drift"),
        ("wellness", "lobby", "drift"),
    ]
    assert rows[0]["track"] == "spa/thermal/ambient/0000"
    terminal(200)
    assert " baths " in shown(tracks, tmp_path, capsys, names)

"""Finished tracks as they are listed: with what was asked for and, where the planner chose, with what it chose."""

from __future__ import annotations

import pytest

from catalog.sidecar import Plan, Sidecar
from catalog.spec import Bounds, PlannerSpec
from catalog.store.folder import FolderStore
from catalog.track import Take
from orchestrator.cli.tracks import print_tracks, tracks_as_json
from orchestrator.ledger import RenditionRow
from orchestrator.ledger.readings import ListedTrack
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

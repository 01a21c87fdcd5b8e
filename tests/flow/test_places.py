"""An engine that fails on purpose, in real processes: every place ends with a good take, or with words after its tries.

Which takes are spoilt follows from their seeds, so the test knows beforehand which takes there must be in the end.
"""

from __future__ import annotations

import json
import os
import signal

import pytest

from catalog.settings import Settings
from catalog.track import Take
from orchestrator.matrix import load_catalog
from orchestrator.planning.plan import make_plan
from tests.flow.test_run import MADE, PRESETS, Machine
from tests.flow.test_run import machine as machine  # noqa: PLC0414 - a fixture
from workers.tone import fault_of

CATALOG = """
title: Flow
description: Tracks of an engine that fails on purpose.
model: tone
defaults: {duration_s: 10, takes: 1}
matrix: {zones: [hotel_lobby], genres: [piano_solo, acoustic_guitar]}
tracks: 12
"""
SHARES = {"silence": 0.25, "noise": 0.2, "refusal": 0.05}
FAULTS = {"TUNEMILL_TONE_FAULTS": ",".join(f"{name}={share}" for name, share in SHARES.items())}
TRIES = 2


def expected(machine: Machine) -> tuple[set[str], set[str], int]:
    """Ids of the takes that must be accepted and rejected in the end, and the number of places that stay empty."""
    accepted: set[str] = set()
    rejected: set[str] = set()
    empty = 0
    for first in make_plan(load_catalog(str(machine.catalog), PRESETS, Settings()), {}).takes():
        fate = _last_of(first, accepted, rejected)
        empty += fate != ""
    return accepted, rejected, empty


def _last_of(first: Take, accepted: set[str], rejected: set[str]) -> str:
    """The fault of the last take that its place comes to."""
    fault = ""
    for number in range(1, TRIES + 2):
        take = first.track.take(number)
        fault = fault_of(take, SHARES)
        (rejected if fault else accepted).add(take.id)
        if fault in ("", "refusal"):
            break
    return fault


def ids(machine: Machine, state: str) -> set[str]:
    current = machine.query("select take_id, state from take where current")
    return {take_id for take_id, is_now in current if is_now == state}


@pytest.fixture
def spoilt(machine):
    machine.catalog.write_text(CATALOG)
    return machine


def test_every_place_is_filled_whatever_is_killed_and_the_counts_and_costs_add_up(spoilt):
    accepted, rejected, empty = expected(spoilt)
    assert accepted
    assert len(rejected) > 4
    run = spoilt.start("run", str(spoilt.catalog), **FAULTS)
    spoilt.wait_until(MADE, 1)
    os.killpg(spoilt.worker_pid(), signal.SIGKILL)
    spoilt.wait_until("select count(*) from attempt", 5)
    run.kill()
    run.communicate()
    ended = spoilt.run("--json", **FAULTS)
    assert ended.returncode == (50 if empty else 0), ended.stderr
    assert (ids(spoilt, "accepted"), ids(spoilt, "rejected")) == (accepted, rejected)
    assert spoilt.query("select count(*), count(distinct take_id) from rendition") == [(len(accepted), len(accepted))]
    counted = json.loads(ended.stdout)["takes"]
    assert (counted["accepted"], counted["rejected"]) == (len(accepted), len(rejected))
    assert counted["rejected"] - counted["made_again"] == empty
    assert counted["total"] == 12 + counted["made_again"]

    again = spoilt.run(**FAULTS)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert ("stay" in again.stdout) is bool(empty)
    plan = json.loads(spoilt.tunemill("plan", str(spoilt.catalog), "--json").stdout)["takes"]
    assert (plan["wanted"], plan["kept"], plan["missing"], plan["to_render"]) == (12, 12 - empty, empty, 0)
    listed = json.loads(spoilt.tunemill("catalog", "list", "flow", "--json").stdout)
    assert {track["take_id"] for track in listed} == accepted
    assert len({track["track"] for track in listed}) == len(listed)
    entries = (
        "select sum(usd_micros), sum(tracks), sum(case when category = 'rejected' then usd_micros end) from cost_entry"
    )
    assert spoilt.tunemill("costs", "report", "--catalog", "flow").returncode == 0
    ((total, tracks, wasted),) = spoilt.query(entries)
    assert (tracks, 0 < wasted < total) == (len(accepted), True)
    assert spoilt.query("select sum(usd_micros) from posting") == [(total,)]


def test_a_catalog_whose_every_take_is_rejected_ends_within_its_tries_and_says_so(spoilt):
    spoilt.catalog.write_text(CATALOG.replace("tracks: 12", "tracks: 3"))
    ended = spoilt.run(TUNEMILL_TONE_FAULTS="silence=1")
    assert ended.returncode == 50
    assert "0 accepted, 9 rejected (6 made again), 0 failed" in ended.stdout
    assert "3 rejected without a further try" in ended.stderr
    again = spoilt.run(TUNEMILL_TONE_FAULTS="silence=1")
    assert again.returncode == 0
    assert "3 places stay empty: every take that `tries: 2` allows was rejected" in " ".join(again.stdout.split())

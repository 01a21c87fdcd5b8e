"""The best of three takes, from the presets to the list: made, chosen, chosen anew by hand, and through lost scores."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.flow.test_run import Machine
from tests.flow.test_run import machine as machine  # noqa: PLC0414 - a fixture

CATALOG = """
title: Best of three
model: tone
keep: {keep}
choose_by: {choose_by}
defaults: {{duration_s: 20, planner: false, takes: 3}}
masters: {masters}
matrix: {{zones: [hotel_lobby], genres: [piano_solo]}}
tracks_per_cell: 2
"""


def write_catalog(
    machine: Machine, *, keep: str = "1", choose_by: str = "[variation, technical]", masters: str = "false"
) -> None:
    machine.catalog.write_text(CATALOG.format(keep=keep, choose_by=choose_by, masters=masters))


def listed(machine: Machine) -> dict[str, list[int]]:
    """The numbers of the listed takes, by track."""
    said = json.loads(machine.tunemill("catalog", "list", machine.catalog.stem, "--json").stdout)
    found: dict[str, list[int]] = {}
    for track in said:
        found.setdefault(track["track"], []).append(track["number"])
    return found


def choose(machine: Machine, *options: str) -> dict[str, Any]:
    return json.loads(machine.tunemill("catalog", "choose", str(machine.catalog), "--json", *options).stdout)


def test_the_best_take_is_listed_and_a_person_may_choose_another(machine):
    write_catalog(machine)
    assert machine.run("--json").returncode == 0
    tracks = choose(machine, "--dry-run")["tracks"]
    assert [(len(each["kept"]), len(each["spare"]), each["scorers"]) for each in tracks] == [
        (1, 2, ["variation", "technical"])
    ] * 2
    assert listed(machine) == {each["track"]: [each["kept"][0]["number"]] for each in tracks}
    for each in tracks:
        best = each["kept"][0]["scores"]
        assert not any(all(other["scores"][name] > best[name] for name in best) for other in each["spare"])
    first, picked = tracks[0], tracks[0]["spare"][1]
    said = json.loads(machine.tunemill("catalog", "pick", picked["take_id"], "--json").stdout)
    assert said["spare_instead"] == [first["kept"][0]["take_id"]]
    assert listed(machine)[first["track"]] == [picked["number"]]
    report = json.loads(machine.tunemill("costs", "report", "--json").stdout)
    assert [(row["accepted"], row["wasted_usd_micros"]) for row in report["rows"]] == [(6, 0)], (
        "spare takes are no waste"
    )
    assert machine.tunemill("catalog", "verify", machine.catalog.stem).returncode == 0
    (machine.home / "ledger.sqlite").unlink()
    assert machine.tunemill("catalog", "rebuild").returncode == 0
    assert listed(machine)[first["track"]] == [picked["number"]]


def test_a_changed_number_is_applied_only_when_somebody_agrees(machine):
    write_catalog(machine, keep="2")
    assert machine.run().returncode == 0
    before = listed(machine)
    assert [len(numbers) for numbers in before.values()] == [2, 2]
    write_catalog(machine, keep="1")
    assert "2 takes more than `keep` says are listed" in machine.tunemill("plan", str(machine.catalog)).stdout
    assert machine.run().returncode == 0
    assert listed(machine) == before
    refused = machine.tunemill("catalog", "choose", str(machine.catalog))
    assert (refused.returncode, listed(machine)) == (53, before)
    assert "nobody is there to agree" in refused.stderr
    assert "2 takes leave the list, 0 enter it" in refused.stdout
    assert machine.tunemill("catalog", "choose", str(machine.catalog), "--yes").returncode == 0
    assert [len(numbers) for numbers in listed(machine).values()] == [1, 1]
    write_catalog(machine, keep="3")
    assert choose(machine)["keep"] == 3
    assert list(listed(machine).values()) == [[1, 2, 3]] * 2


@pytest.mark.parametrize("masters", ["true", "false"])
def test_takes_of_an_earlier_version_get_their_scores_from_stored_audio(machine, masters):
    """From a master and from a finished file; what was chosen without scores is chosen anew."""
    write_catalog(machine, masters=masters)
    assert machine.run().returncode == 0
    scored = choose(machine, "--dry-run")
    with closing(sqlite3.connect(machine.home / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("drop trigger if exists rendition_no_update")
        ledger.execute("update rendition set sidecar = json_remove(sidecar, '$.measures.scores')")
    lacking = machine.tunemill("catalog", "choose", str(machine.catalog), "--dry-run").stderr
    assert "2 tracks had no scores of 'variation'" in lacking
    again = choose(machine, "--from-audio", "--yes")
    for one, other in zip(scored["tracks"], again["tracks"], strict=True):
        assert one["scorers"] == other["scorers"]
        assert one["kept"][0]["number"] == other["kept"][0]["number"]
    assert choose(machine, "--from-audio")["tracks"] == again["tracks"], "nothing is computed twice"


def test_a_scorer_that_no_take_has_is_told(machine):
    write_catalog(machine, choose_by="[audiobox]")
    assert machine.run().returncode == 0
    assert list(listed(machine).values()) == [[1], [1]]
    said = machine.tunemill("catalog", "choose", str(machine.catalog)).stderr
    assert "2 tracks had no scores of 'audiobox'" in said

"""The summary of a run: what was rejected is named with its reason, so that a person can find and change it."""

from __future__ import annotations

import pytest

from catalog.errors import IncompleteError
from catalog.settings import Settings
from orchestrator.cli.summary import Summary, as_json, print_summary, raise_if_incomplete
from orchestrator.ledger import RunRow
from orchestrator.ledger.readings import Spend, TakeCounts, TakeName, WarningCounts
from orchestrator.runs.attached import RunEnd

REASON = "caption and metadata are 291 tokens; the model reads 256: shorten the caption"
NAMES = [TakeName(f"hotels/lobby/jazz/000{n}", 1, f"{n:024d}") for n in range(5)]


def a_summary(made_again: int = 0, rejected: int = 5) -> Summary:
    return Summary(
        made_again=made_again,
        run=RunRow(run_id="r1", catalog="hotels", model="acestep-v15-turbo", state="finished", started_at_ms=0),
        end=RunEnd.DONE,
        counts=TakeCounts(accepted=3, rejected=rejected),
        spend=Spend(0, ()),
        duration_ms=1000,
        rejected={REASON: NAMES},
        failed={},
        tracks=[],
        store="store",
    )


def test_rejected_takes_are_named_with_their_reason(tmp_path, capsys):
    print_summary(a_summary(), Settings(home=tmp_path))
    printed = " ".join(capsys.readouterr().out.split())
    assert f"rejected 5x: {REASON}" in printed
    assert f"hotels/lobby/jazz/0000 take 1 ({NAMES[0].take_id})" in printed
    assert "and 2 more" in printed
    assert "0003" not in printed


def test_in_json_each_rejected_take_is_named(tmp_path):
    told = as_json(a_summary(), Settings(home=tmp_path))
    assert told["rejected"] == {REASON: 5}
    assert [take["take_id"] for take in told["rejected_takes"][REASON]] == [name.take_id for name in NAMES]


@pytest.mark.parametrize(
    ("made_again", "words"), [(0, "5 rejected,"), (2, "5 rejected (2 made again),"), (5, "5 rejected and made again,")]
)
def test_the_summary_says_how_many_rejected_takes_were_made_again(tmp_path, capsys, made_again, words):
    print_summary(a_summary(made_again), Settings(home=tmp_path))
    assert f"3 accepted, {words} 0 failed" in " ".join(capsys.readouterr().out.split())
    assert as_json(a_summary(made_again), Settings(home=tmp_path))["takes"]["made_again"] == made_again


def test_the_summary_counts_accepted_takes_with_warnings_by_kind(tmp_path, capsys):
    warned = a_summary()._replace(warned=WarningCounts(2, {"dull": 2, "click": 1}))
    print_summary(warned, Settings(home=tmp_path))
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 accepted takes have warnings: dull 2, click 1; see `tunemill catalog list hotels --warnings`" in printed
    assert as_json(warned, Settings(home=tmp_path))["warned"] == {"takes": 2, "by_kind": {"dull": 2, "click": 1}}
    print_summary(a_summary(), Settings(home=tmp_path))
    assert "warnings" not in capsys.readouterr().out


def test_a_run_is_complete_when_every_rejected_take_was_made_again():
    raise_if_incomplete(a_summary(made_again=5))
    with pytest.raises(IncompleteError, match="3 rejected without a further try"):
        raise_if_incomplete(a_summary(made_again=2))

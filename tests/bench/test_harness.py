"""The benches' own tools: figures keep their promises, rivals take turns, and the runner says what failed."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.bench import __main__ as runner
from tests.bench.measuring import ROOT, Figure, Rounds, peak_rss_mib, provenance, side_by_side, slope
from tests.bench.tracks import different_takes


def test_a_promise_is_a_bound_on_either_side():
    assert Figure("a", 1.0, "x").kept
    assert Figure("a", 1.0, "x", at_most=1.0).kept
    assert not Figure("a", 1.01, "x", at_most=1.0).kept
    assert not Figure("a", 0.99, "x", at_least=1.0).kept
    assert Figure("a", 1.5, "x", at_most=2, at_least=1).promise == "at least 1, at most 2"


def test_what_is_no_number_keeps_no_promise():
    assert not Figure("a", float("nan"), "x", at_most=1.0).kept
    assert not Figure("a", float("nan"), "x", at_least=1.0).kept


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12345.6, "12,346 s"), (45.67, "45.7 s"), (1.234, "1.23 s"), (0.01234, "0.012 s"), (9.5e-7, "9.5e-07 s")],
)
def test_a_value_is_shown_without_false_digits(value, shown):
    assert Figure("a", value, "s").shown == shown


def test_rivals_take_turns_and_the_first_round_does_not_count():
    calls: list[tuple[str, int]] = []
    rivals = {name: lambda turn, name=name: calls.append((name, turn)) or turn for name in ("own", "plain")}
    timed = side_by_side(rivals, rounds=2)
    assert calls == [("own", 0), ("plain", 0), ("own", 1), ("plain", 1), ("own", 2), ("plain", 2)]
    assert timed.outcomes == {"own": [1, 2], "plain": [1, 2]}
    calls.clear()
    side_by_side(rivals, rounds=1, warm=True)
    assert calls == [("own", 1), ("plain", 1)]


def test_the_ratio_is_of_rounds_and_not_of_medians():
    # A slow minute hits both rivals of its round, and so leaves the ratio alone.
    timed = Rounds({"own": [1.0, 10.0, 1.0], "plain": [2.0, 20.0, 4.0]}, {})
    assert timed.ratio("own", "plain") == 0.5
    assert timed.median_s("plain") == 4.0


def test_a_slope_is_what_lasts_and_not_what_jumps():
    jumps = [(x, 100.0 + (60.0 if x % 7 == 6 else 0.0)) for x in range(70)]
    assert slope(jumps) == 0.0
    assert slope((x, 3.0 * x + y) for x, y in jumps) == pytest.approx(3.0, abs=0.01)
    stairs = [(x, 10.0 * (x // 10)) for x in range(100)]
    assert slope(stairs) == pytest.approx(1.0, abs=0.05)


def test_a_childs_peak_memory_is_its_own():
    ballast = bytearray(300 * 2**20)
    assert peak_rss_mib() > 300
    program = "from tests.bench.measuring import peak_rss_mib; print(peak_rss_mib())"
    child = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(child.stdout) < 200
    assert len(ballast) > 0


def test_figures_say_where_they_come_from():
    known = provenance("python -m tests.bench plan")
    assert known["command"] == "python -m tests.bench plan"
    assert known["versions"]["python"] == sys.version.split()[0]
    assert known["versions"]["torch"]
    assert "cores" in known["machine"]
    assert known["measured_at"].endswith("+00:00")


def test_models_of_the_real_size_are_measured_only_when_asked_for():
    assert runner.FULL_SIZE in runner.find_benches()
    assert runner.FULL_SIZE not in runner.choose_benches([], full_size=False)
    assert runner.choose_benches(["plan"], full_size=True) == ["plan", runner.FULL_SIZE]
    with pytest.raises(SystemExit, match="--full-size"):
        runner.choose_benches([runner.FULL_SIZE], full_size=False)


def test_an_unknown_bench_is_refused_with_the_names_of_all():
    with pytest.raises(SystemExit, match=r"no bench 'nothing'; there are: .*planner"):
        runner.choose_benches(["nothing"], full_size=False)


def test_a_broken_promise_and_a_broken_bench_both_fail_the_run_and_the_rest_is_still_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    outcomes = {"audio": None, "engine": [Figure("slow", 2.0, "x", 1.0)], "plan": [Figure("good", 1.0, "s")]}
    monkeypatch.setattr(runner, "run_bench", outcomes.get)
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results")
    together = tmp_path / "all.json"
    assert runner.main(["audio", "engine", "plan", "--json", str(together)]) == 1
    said = capsys.readouterr().out
    assert "FAILED" in said
    assert "MISSED" in said
    kept = {each["bench"]: each["figures"] for each in json.loads(together.read_text())}
    assert [figure["kept"] for figures in kept.values() for figure in figures] == [False, True]
    assert json.loads((tmp_path / "results" / "plan.json").read_text())["figures"][0]["name"] == "good"
    assert runner.main(["plan"]) == 0


def test_a_bench_that_ends_with_an_error_has_no_figures(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner.sys, "executable", "false")
    assert runner.run_bench("plan") is None


def test_benches_come_in_the_order_of_the_alphabet():
    assert all(one < other for one, other in pairwise(runner.find_benches()))


def test_no_two_takes_of_a_bench_have_the_same_prompt_or_seed():
    some = different_takes(0, 400) + different_takes(400, 200)
    assert len({(take.spec.caption, take.spec.bpm) for take in some}) == 600
    assert len({take.lm_seed for take in some}) == 600

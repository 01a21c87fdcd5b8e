"""The progress line: what it says, and that it fits a terminal of 80 columns however large the run."""

from __future__ import annotations

import pytest
from rich.console import Console

from orchestrator.cli import watching
from orchestrator.cli.watching import BarDisplay, LineDisplay, describe
from orchestrator.ledger.readings import Spend, TakeCounts
from orchestrator.runs.progress import Progress

SMALL = Progress(TakeCounts(waiting=270, sent=7, accepted=23), Spend(109, ()), 257.04, 64_600)
LARGE = Progress(
    TakeCounts(waiting=60_000, sent=256, accepted=38_000, rejected=1_234, failed=510),
    Spend(1_234_560_000, ()),
    1_234.5,
    7_800_000,
)


def drawn(progress: Progress | None, width: int, monkeypatch) -> list[str]:
    screen = Console(width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(watching, "err", screen)
    display = BarDisplay()
    if progress is not None:
        display.show(progress)
    with screen.capture() as captured:
        screen.print(display._line())
    return captured.get().splitlines()


def test_rejects_and_failures_are_told_only_when_there_are_any():
    assert describe(SMALL) == "23/300 takes, 257.0/min, 1 min 05 s left, $0.000109"
    assert describe(LARGE).endswith("$1,234.56, 1,234 rejected, 510 failed")
    assert describe(LARGE, short=True).endswith("$1,234.56, 1,234 rej, 510 fail")


def test_a_cost_that_is_not_known_in_full_says_so():
    assert "$0.000109 + unknown" in describe(SMALL._replace(spend=Spend(109, ("Mystery",))))


@pytest.mark.parametrize("width", [50, 80, 140])
def test_one_line_holds_bar_and_words_whole(width, monkeypatch):
    (line,) = drawn(SMALL, width, monkeypatch)
    assert len(line) < width
    if width >= 80:
        assert line.rstrip().endswith(describe(SMALL))


def test_at_80_columns_even_a_large_run_shows_all_figures(monkeypatch):
    (line,) = drawn(LARGE, 80, monkeypatch)
    for words in ("39,744/100,000", "1,234.5/min", "2 h 10 min left", "$1,234.56", "1,234 rej"):
        assert words in line
    assert len(line) < 80


def test_before_the_first_figures_it_says_that_it_starts(monkeypatch):
    (line,) = drawn(None, 80, monkeypatch)
    assert line.rstrip().endswith("starting")


def test_in_a_file_a_line_comes_now_and_then_and_only_when_something_changed(capsys):
    display = LineDisplay(dated=True)
    for _ in range(3):
        display.show(SMALL)
    (line,) = capsys.readouterr().err.splitlines()
    assert line[10] == "T"
    assert line.endswith(describe(SMALL))

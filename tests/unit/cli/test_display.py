"""Tables and paragraphs fit any terminal and are complete in a pipe; progress fits one line."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console

from orchestrator.cli import display
from orchestrator.cli.console import say
from orchestrator.cli.display import (
    Column,
    RunBar,
    RunLines,
    counting,
    describe,
    number,
    print_table,
    watching,
    working,
)
from orchestrator.ledger.readings import PaidMeanwhile, Spend, TakeCounts
from orchestrator.runs.progress import RunProgress

TITLES = ["夜のロビー", "Cafe\u0301 de\u0301ja\u0300", "Sax 🎷 solo", "Plain", "W" * 60]
TRACKS = (Column("title", least=14), Column("zone", least=8), number("bpm", spare=1), Column("file", spare=2))
SMALL = RunProgress(TakeCounts(waiting=270, sent=7, accepted=23), Spend(109, ()), 257.04, 64_600)
LARGE = RunProgress(
    TakeCounts(waiting=60_000, sent=256, accepted=38_000, rejected=1_234, failed=510),
    Spend(1_234_560_000, ()),
    1_234.5,
    7_800_000,
)


def printed(capsys) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def rows(titles=TITLES):
    return [(title, "lobby", "118", f"/store/{'x' * 60}.wav") for title in titles]


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("width", [8, 20, 30, 40, 60, 80, 140])
def test_no_row_is_wider_than_the_terminal_or_folded(terminal, capsys, width):
    terminal(width)
    print_table(TRACKS, rows(), total=("total", "", "5", ""))
    lines = printed(capsys)
    assert len(lines) == len(TITLES) + 2
    assert max(map(cell_len, lines)) <= width


def test_columns_that_can_be_spared_go_before_anything_is_cut(terminal, capsys):
    terminal(40)
    print_table(TRACKS, rows(["Plain"]))
    assert printed(capsys) == ["title  zone   bpm", "Plain  lobby  118"]


def test_an_id_is_whole_while_another_text_has_cells_to_give(terminal, capsys):
    columns = (Column("take"), Column("reason", least=8), Column("track", least=4), number("tries"))
    for width in (60, 45, 35):
        terminal(width)
        print_table(columns, [("0123456789ab", "why " * 20, "spa/ambient/0001", "3")])
        assert printed(capsys)[1].startswith("0123456789ab  why ")
    terminal(30)
    print_table(columns, [("0123456789ab", "why " * 20, "spa/ambient/0001", "3")])
    assert printed(capsys) == ["take          reason    tr…  …", "0123456789ab  why why…  sp…  3"]


def test_figures_stand_at_the_right_and_the_total_under_its_column(terminal, capsys):
    columns = (Column("zone"), number("takes"))
    expected = ["zone   takes", "spa        5", "lobby  1,000", "total  1,005"]
    print_table(columns, [("spa", "5"), ("lobby", "1,000")], total=("total", "1,005"))
    assert printed(capsys) == expected
    terminal(80)
    print_table(columns, [("spa", "5"), ("lobby", "1,000")], total=("total", "1,005"))
    assert printed(capsys) == expected


@pytest.mark.parametrize("width", [0, 80])
def test_a_cell_keeps_its_row_whatever_it_holds(terminal, capsys, width):
    if width:
        terminal(width)
    print_table((Column("title"), Column("note")), [("a\nb", ""), ("[red]c[/red]", ""), ("", "d"), ("e", "")])
    assert printed(capsys) == ["title         note", "a b", "[red]c[/red]", "              d", "e"]


@pytest.mark.parametrize("width", [0, 80])
def test_a_table_without_rows_is_its_headings(terminal, capsys, width):
    if width:
        terminal(width)
    print_table(TRACKS, [])
    assert printed(capsys) == ["title  zone  bpm  file"]


def test_in_a_pipe_everything_is_there_and_nothing_but_text(capsys):
    print_table(TRACKS, rows(), total=("total", "", "5", ""))
    text = capsys.readouterr().out
    assert all(f"/store/{'x' * 60}.wav" in line for line in text.splitlines()[1:-1])
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_wide_and_combining_letters_stay_in_line(capsys):
    print_table(TRACKS, rows())
    starts = {cell_len(line[: line.index("lobby")]) for line in printed(capsys)[1:]}
    assert starts == {62}


@pytest.mark.parametrize("text", ["夜のロビーの夜", "Cafe\u0301 de\u0301ja\u0300 vu", "plain words here"])
def test_a_text_that_is_cut_ends_in_an_ellipsis_and_keeps_to_its_cells(terminal, capsys, text):
    for width in range(4, 9):
        terminal(width + 4)
        print_table((Column("t", least=1), number("n")), [(text, "12")])
        line = printed(capsys)[1]
        assert cell_len(line) == width + 4
        assert line.endswith("12")
        assert "…" in line
    terminal(40)
    print_table((Column("t", least=1), number("n")), [(text, "12")])
    assert printed(capsys)[1] == f"{text}  12"


# ---------------------------------------------------------------- paragraphs


def test_a_paragraph_breaks_between_words_and_hangs_under_its_label(terminal, capsys):
    terminal(40)
    say("one two three four five six seven eight nine ten [brackets]", label="price      ")
    first, *rest = printed(capsys)
    assert first.startswith("price      one")
    assert all(line.startswith(" " * 11 + line.split()[0]) for line in rest)
    assert " ".join([first, *rest]).split()[-1] == "[brackets]"


def test_a_paragraph_in_a_pipe_is_one_line(capsys):
    say("word " * 40 + "end", label="speed  ")
    assert len(printed(capsys)) == 1


# ---------------------------------------------------------------- the progress of a run


def drawn(progress: RunProgress | None, width: int, monkeypatch) -> list[str]:
    screen = Console(width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(display, "err", screen)
    bar = RunBar()
    if progress is not None:
        bar.show(progress)
    with screen.capture() as captured:
        screen.print(display._OneLine(bar))
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
    assert line[0] in "━╸"
    if width >= 80:
        assert line.rstrip().endswith(describe(SMALL))
    else:
        assert line.rstrip().endswith("…")


def test_at_80_columns_even_a_large_run_shows_all_figures(monkeypatch):
    (line,) = drawn(LARGE, 80, monkeypatch)
    for words in ("39,744/100,000", "1,234.5/min", "2 h 10 min left", "$1,234.56", "1,234 rej"):
        assert words in line
    assert len(line) < 80


def test_before_the_first_figures_it_says_that_it_starts(monkeypatch):
    (line,) = drawn(None, 80, monkeypatch)
    assert line.rstrip().endswith("starting")


def test_in_a_file_a_line_comes_now_and_then_and_only_when_something_changed(capsys, monkeypatch):
    with watching(dated=True) as watcher:
        assert isinstance(watcher, RunLines)
        for _ in range(3):
            watcher.show(SMALL)
        (line,) = capsys.readouterr().err.splitlines()
        assert line[10] == "T"
        assert line.endswith(describe(SMALL))
        watcher.show(LARGE)
        assert capsys.readouterr().err == ""
    monkeypatch.setattr(display, "LINE_EVERY_S", 0.0)
    with watching() as watcher:
        for progress in (SMALL, SMALL, LARGE):
            watcher.show(progress)
        assert capsys.readouterr().err.splitlines() == [describe(SMALL), describe(LARGE)]


# ---------------------------------------------------------------- the progress of other work


def test_counting_in_a_file_is_a_line_now_and_then(capsys, monkeypatch):
    with counting("comparing", 3) as count:
        count()
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(display, "LINE_EVERY_S", 0.0)
        count()
        assert capsys.readouterr().err.startswith("comparing: 2/3 takes, ")
    with counting("reading sidecars", None) as count:
        count()
        assert capsys.readouterr().err.startswith("reading sidecars: 1 takes, ")


def test_work_leaves_nothing_in_a_file(capsys, monkeypatch):
    monkeypatch.setattr(display, "_SHOWN_AFTER_S", 0.0)
    with working("posting what is new") as report:
        report(1, 10)
    assert capsys.readouterr() == ("", "")


def test_a_paused_run_shows_no_rate_and_what_it_goes_on_costing():
    paused = SMALL._replace(paid_meanwhile=PaidMeanwhile(2, 2_180_000, 350_000))
    assert describe(paused) == (
        "23/300 takes, paused, $0.000109, 2 machines are still paid for: $2.18 an hour, $0.350000 since the pause"
    )
    assert describe(paused, short=True) == "23/300, paused, $0.000109"

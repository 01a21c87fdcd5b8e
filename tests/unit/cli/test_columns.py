"""Tables and paragraphs fit any terminal, keep every script in line, and are complete in a pipe."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from orchestrator.cli.columns import Column, cut, number, print_table
from orchestrator.cli.console import say

TITLES = ["夜のロビー", "Cafe\u0301 de\u0301ja\u0300", "Sax 🎷 solo", "Plain", "W" * 60]


def printed(capsys) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


TRACKS = (Column("title", least=14), Column("zone", least=8), number("bpm", spare=1), Column("file", spare=2))


def rows(titles=TITLES):
    return [(title, "lobby", "118", f"/store/{'x' * 60}.wav") for title in titles]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 140])
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


def test_in_a_pipe_everything_is_there(capsys):
    print_table(TRACKS, rows())
    assert all(f"/store/{'x' * 60}.wav" in line for line in printed(capsys)[1:])


def test_wide_and_combining_letters_stay_in_line(capsys):
    print_table(TRACKS, rows())
    starts = {cell_len(line[: line.index("lobby")]) for line in printed(capsys)[1:]}
    assert starts == {62}


@pytest.mark.parametrize("text", ["夜のロビーの夜", "Cafe\u0301 de\u0301ja\u0300 vu", "plain words here"])
def test_what_is_cut_says_so_and_keeps_to_its_cells(text):
    for width in range(1, 9):
        assert cell_len(cut(text, width)) <= width
        assert cut(text, width).endswith("…")
    assert cut(text, 20) == text


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

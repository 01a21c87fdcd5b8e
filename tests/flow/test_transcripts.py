"""The transcripts of docs/examples are true: every command of each page is typed, and prints what the page shows."""

from __future__ import annotations

import pytest

from tests.support.transcripts import PAGES, Step, is_true, printed_by, renewed, steps_of

TABLE = Step(
    "tunemill costs report",
    "zone   tracks   total\nspa         2  $0.010\n1 worker, 12.0 s, run 0c54f643\n",
    varies=True,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_page_shows_what_its_commands_print(page, tmp_path):
    steps = steps_of(page.read_text(encoding="utf-8"))
    assert len(steps) > 4
    for step, printed in zip(steps, printed_by(steps, tmp_path), strict=True):
        assert is_true(step, printed), f"$ {step.command}{printed}\ninstead of\n{step.shown}\nrun `make examples`"


@pytest.mark.parametrize(
    ("printed", "is_same"),
    [
        ("zone tracks total\nspa 2 $0.2\n1 worker, 1 min 05 s, run ffffffff00\n", True),
        ("zone tracks total\nspa 2 $0.010\nsauna 1 $0.1\n1 worker, 12.0 s, run 0c54f643\n", False),
        ("zone tracks total\nspa 2 $0.010\n1 worker, 12.0 s, task 0c54f643\n", False),
    ],
)
def test_where_figures_vary_all_words_count(printed, is_same):
    assert is_true(TABLE, printed) is is_same


def test_elsewhere_every_figure_counts_but_no_space():
    exact = TABLE._replace(varies=False)
    assert is_true(exact, exact.shown.replace("   ", " "))
    assert not is_true(exact, exact.shown.replace("2", "3"))


def test_three_dots_stand_for_any_lines():
    step = Step("ls", "first\n...\nlast\n", varies=False)
    assert is_true(step, "first\n1\n2\nlast\n")
    assert not is_true(step, "first\n1\n2\n")


def test_a_page_is_renewed_where_it_is_wrong_and_nowhere_else():
    page = "Words.\n\n```console\n$ a\nold\n$ b \\\n> c\nsame  thing\n```\n\nMore.\n"
    assert [step.command for step in steps_of(page)] == ["a\n", "b \\\nc\n"]
    assert renewed(page, ["new\n", "same thing\n"]) == page.replace("old", "new")

"""Every view that is drawn over and over, in a real pseudo-terminal: what a person sees at each moment and at the end.

No row is folded, none stands there twice, words stand above the view, and Ctrl-C leaves a terminal as it was.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from catalog.messages import Heartbeat, MemoryUse, Span, SpansClosed, now_ms
from orchestrator.ledger import open_ledger
from orchestrator.ledger.facts import record_facts
from orchestrator.runs.local import broker as embedded
from orchestrator.runs.local.broker import EmbeddedBroker
from tests.support.cost_ledger import fill
from tests.support.farm import DOLLAR_AN_HOUR, attempt, started, takes
from tests.support.makers import exactly
from tests.support.servers import missing
from tests.support.terminal import Screen, in_terminal

REPO = Path(__file__).parents[2]
CTRL_C = "\x03"
INSTANT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
WORKER = re.compile(r"^worker\d\d", re.MULTILINE)
WORKERS = [f"worker{number:02d}" for number in range(20)]
COLOURS = re.compile(r"(^|;)(3|4|9|10)\d(;|$)")
TUNEMILL = """
from orchestrator.cli import main
print("before", flush=True)
main()
"""

# Each shows its view until Ctrl-C and says something on every way there is meanwhile.
SAYING = """
import itertools, logging, time
from orchestrator.cli.console import say, warn
from orchestrator.runs.stop import StopRequest
def go_on(step):
    with StopRequest().listening() as stop:
        for turn in itertools.count():
            step(turn)
            if turn == 4:
                say("said on standard output")
                warn("said on standard error")
                logging.getLogger("library").warning("said by a library")
                print("said by nobody in particular")
            stop.wait(0.05)
            if stop.requested:
                raise KeyboardInterrupt
def until_interrupted(go):
    try:
        go()
    except KeyboardInterrupt:
        say("the end")
"""
SAID = [
    "said on standard output",
    "note: said on standard error",
    "said by a library",
    "said by nobody in particular",
]
BAR = f"""{SAYING}
from orchestrator.cli.display import watching
from orchestrator.ledger.readings import Spend, TakeCounts
from orchestrator.runs.progress import RunProgress
counts = TakeCounts(waiting=60_000, sent=256, accepted=38_000, rejected=1_234, failed=510)
def go():
    with watching() as watcher:
        go_on(lambda turn: watcher.show(RunProgress(counts, Spend(1_234_560_000, ()), 1_234.5, 7_800_000)))
until_interrupted(go)
"""
WORKING = f"""{SAYING}
from orchestrator.cli import display
display._SHOWN_AFTER_S = 0.0
def go():
    with display.working("posting what is new") as report:
        go_on(lambda turn: report(1_000 + turn, 1_000_000))
until_interrupted(go)
"""
POSTING = f"""{SAYING}
from orchestrator.cli import display
display._SHOWN_AFTER_S = 0.0
def go():
    with display.working("posting", "rentals") as report:
        go_on(lambda turn: report(120 + turn, 4_500))
until_interrupted(go)
"""
REPORT = """
from orchestrator.cli import display
from orchestrator.finance.books import books
display._SHOWN_AFTER_S, books.RENTALS_AT_ONCE = 0.0, 2
from orchestrator.cli import main
main()
"""
COUNTING = f"""{SAYING}
from orchestrator.cli.display import counting
def go():
    with counting("comparing", 100_000) as on_take:
        go_on(lambda turn: on_take())
until_interrupted(go)
"""
REPLAY = f"""{SAYING}
import sys
from orchestrator.cli import worker
worker._WORKERS = (sys.executable, "-c", "import time; time.sleep(60)")
until_interrupted(lambda: worker._replay({{}}))
"""
LINES = {
    "bar": (BAR, "/100,000"),
    "working": (WORKING, "posting what"),
    "posting": (POSTING, "posting: 1"),
    "counting": (COUNTING, "comparing "),
}


@pytest.fixture
def home(tmp_path):
    """A ledger with a run, three workers (one of which grows) and a dead take."""
    return a_home(tmp_path, workers=3)


def a_home(folder: Path, *, workers: int) -> Path:
    host = {"host": "a-host-with-a-long-name.example.org", "at_ms": now_ms()}
    hour_ago_ms = host["at_ms"] - 3_600_000
    planned = takes(12)
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly(planned)).run_id
    rendered = Span(state="render", start_ms=hour_ago_ms, end_ms=hour_ago_ms + 1_200_000, batch_id="b")
    records = [
        *(started(name, started_at_ms=hour_ago_ms, **host) for name in WORKERS[:workers]),
        SpansClosed(worker_id="worker00", spans=[rendered]),
        Heartbeat(worker_id="worker00", held=[], memory=MemoryUse(rss_mib=1_000, growth_mib_per_100_takes=33.0)),
        attempt(planned[0], run_id=run_id, worker_id="worker00"),
        attempt(planned[1], "failed", run_id=run_id, worker_id="worker00", reasons=["the engine died"]),
    ]
    with ledger.write() as connection:
        record_facts(connection, records, lambda machine, at_ms: DOLLAR_AN_HOUR, now_ms())
    ledger.close()
    return folder


def at_home(home: Path, **environment: str) -> dict[str, str]:
    return {"TUNEMILL_HOME": str(home), **environment}


def one_look(screen: Screen) -> None:
    """There is no more on the screen than one look has, whole or half drawn."""
    assert len(INSTANT.findall(screen.text)) <= 1, screen.text
    for beginning in ("run  ", "worker  ", "queues:"):
        assert len([row for row in screen.rows if row.startswith(beginning)]) <= 1, screen.text
    assert screen.folded == 0
    assert screen.scrolled == []


class Looks:
    """Counts the looks that show another instant than those before."""

    def __init__(self) -> None:
        self._instants: set[str] = set()

    def count(self, screen: Screen) -> int:
        self._instants.update(INSTANT.findall(screen.text))
        return len(self._instants)


def is_whole(screen: Screen) -> bool:
    """A look has been drawn to its end, where the cursor goes back to the top."""
    return screen.cursor == (0, 0) and bool(INSTANT.match(screen.rows[0]))


@pytest.mark.parametrize(("workers", "columns", "lines"), [(3, 80, 24), (20, 80, 24), (3, 40, 24), (3, 80, 8)])
def test_a_watched_status_is_one_look_at_any_time_and_at_the_end(tmp_path, workers, columns, lines):
    home = a_home(tmp_path, workers=workers)
    arguments = ("status", "--watch", "--every", "0.2")
    looks = Looks()
    with in_terminal(TUNEMILL, *arguments, columns=columns, lines=lines, environment=at_home(home)) as terminal:
        terminal.always = one_look
        terminal.wait_until(lambda screen: looks.count(screen) >= 2 and is_whole(screen), "looks of two instants")
        screen = terminal.screen
        assert not screen.cursor_shown
        assert INSTANT.fullmatch(screen.rows[0])
        assert screen.rows[1].startswith("run ")
        assert "spring" in screen.rows[2]
        assert screen.rows[4].startswith("worker ")
        assert WORKER.findall(screen.text) == WORKERS[: min(workers, lines - 6)]

        terminal.always = lambda screen: None
        terminal.type(CTRL_C)
        assert terminal.wait() == 0
        assert screen.cursor_shown
        assert not screen.is_alternate
        left = [*screen.scrolled, *screen.rows]
        assert left[0] == "before"
        assert len([row for row in left if INSTANT.search(row)]) == 1
        assert WORKER.findall("\n".join(left)) == WORKERS[:workers]
        assert len([row for row in left if row.startswith("note: ")]) == 2


def test_a_terminal_of_another_size_is_drawn_for_at_once(home):
    arguments = ("status", "--watch", "--every", "3600")
    with in_terminal(TUNEMILL, *arguments, environment=at_home(home)) as terminal:
        terminal.wait_until(lambda screen: screen.is_alternate and is_whole(screen), "a look")
        terminal.always = one_look
        terminal.resize(50, 9)
        terminal.wait_until(lambda screen: screen.rows[-1].startswith("… "), "fewer rows")
        assert INSTANT.fullmatch(terminal.screen.rows[0])
        terminal.resize(120, 30)
        terminal.wait_until(lambda screen: "queues: " in screen.text and is_whole(screen), "all rows")
        assert len([row for row in terminal.screen.rows if row.startswith("note: ")]) == 2
        assert not [row for row in terminal.screen.rows if row.startswith("… ")]
        assert any(row.endswith("an hour") for row in terminal.screen.rows)


def test_a_look_is_drawn_over_typed_keys(home):
    arguments, looks = ("status", "--watch", "--every", "0.2"), Looks()
    with in_terminal(TUNEMILL, *arguments, environment=at_home(home)) as terminal:
        terminal.wait_until(lambda screen: looks.count(screen) and is_whole(screen), "a look")
        before, seen = terminal.screen.rows[1:], looks.count(terminal.screen)
        terminal.type("typed\n" * 30)
        terminal.wait_until(lambda screen: looks.count(screen) >= seen + 2 and is_whole(screen), "another look")
        assert terminal.screen.rows[1:] == before


def test_a_dumb_terminal_gets_one_look_after_another_and_no_control(home):
    arguments, looks = ("status", "--watch", "--every", "0.2"), Looks()
    with in_terminal(TUNEMILL, *arguments, lines=400, environment=at_home(home, TERM="dumb")) as terminal:
        terminal.wait_until(lambda screen: looks.count(screen) >= 2 and len(screen.having("run  ")) >= 2, "two looks")
        rows = terminal.screen.rows
        headings = [place for place, row in enumerate(rows) if row.startswith("run ")]
        assert all(INSTANT.fullmatch(rows[place - 1]) for place in headings)
        terminal.type(CTRL_C)
        assert terminal.wait() == 0
        assert not terminal.screen.styles
        assert terminal.screen.cursor_shown


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("view", LINES)
def test_a_line_stands_below_what_is_said_and_leaves_nothing(view, columns):
    program, words = LINES[view]

    def one_line(screen: Screen) -> None:
        assert screen.folded == 0
        assert len(screen.having(words)) <= 1, screen.text
        assert all(len(row) < columns for row in screen.rows)

    with in_terminal(program, columns=columns) as terminal:
        screen = terminal.screen
        terminal.always = one_line
        terminal.wait_until(lambda screen: screen.having(words), "the line")
        assert not screen.cursor_shown
        terminal.wait_until(lambda screen: words in screen.text.partition(SAID[-1])[2], "the line below the words")
        assert screen.rows[: len(SAID)] == SAID
        terminal.type(CTRL_C)
        assert terminal.wait() == 0
        assert screen.text.splitlines() == [*SAID, "the end"]
        assert screen.cursor_shown


@pytest.mark.parametrize("columns", [80, 20])
def test_the_line_of_a_replay_leaves_nothing(columns):
    draws = itertools.count()
    with in_terminal(REPLAY, columns=columns) as terminal:
        terminal.wait_until(lambda screen: screen.having("rendering") and next(draws) >= 5, "the line, drawn over")
        assert not terminal.screen.cursor_shown
        terminal.type(CTRL_C)
        assert terminal.wait() == 0
        assert terminal.screen.text == "the end"
        assert terminal.screen.cursor_shown
        assert terminal.screen.folded == 0


@pytest.mark.parametrize("view", LINES)
def test_a_line_fits_a_terminal_that_becomes_narrower(view):
    program, words = LINES[view]
    draws = itertools.count()
    with in_terminal(program) as terminal:
        screen = terminal.screen
        terminal.wait_until(lambda screen: words in screen.text.partition(SAID[-1])[2], "the line below the words")
        terminal.resize(30, 24)
        terminal.wait_until(lambda screen: screen.text.endswith("…"), "a shorter line")
        *above, line = screen.text.splitlines()  # what was on its way may have folded once
        assert len(line) < 30
        terminal.wait_until(lambda screen: next(draws) >= 8 and screen.text.endswith("…"), "more lines")
        assert screen.text.splitlines()[:-1] == above
        assert above[: len(SAID)] == SAID


def test_the_first_report_shows_how_far_its_posting_is_and_takes_that_away(tmp_path):
    with closing(open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        fill(ledger, 24)
    seen: list[str] = []
    with in_terminal(REPORT, "costs", "report", environment=at_home(tmp_path)) as terminal:
        terminal.always = lambda screen: seen.extend(screen.having("posting: "))
        assert terminal.wait() == 0
        assert re.match(r"posting: \d+ of 24 rentals [━╸╺ ]+ \d", seen[-1]), seen[-1]
        assert {row.split()[1] for row in seen} > {"0"}
        assert any(row.endswith(" left") for row in seen)
        assert not terminal.screen.having("posting")
        assert terminal.screen.having("unallocated") or terminal.screen.having("total")


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["for people", "json"])
def test_a_report_in_a_pipe_says_nothing_of_its_posting(tmp_path, options):
    with closing(open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        fill(ledger, 24)
    command = [sys.executable, "-c", REPORT, "costs", "report", *options]
    environment = {**os.environ, **at_home(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "posting" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_words_for_a_file_reach_it_and_not_the_terminal(tmp_path):
    program, words = LINES["bar"]
    to_file = f"import os; os.dup2(os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY), 1)\n"
    with in_terminal(to_file + program) as terminal:
        terminal.wait_until(lambda screen: words in screen.text.partition(SAID[2])[2], "the line below the words")
        assert terminal.screen.text.splitlines()[:-1] == SAID[1:3]
        terminal.type(CTRL_C)
        assert terminal.wait() == 0
    assert (tmp_path / "file").read_text().splitlines() == [SAID[0], SAID[3], "the end"]


@pytest.mark.parametrize("view", LINES)
def test_a_dumb_terminal_gets_words_and_no_control(view):
    program, _ = LINES[view]
    with in_terminal(program, environment={"TERM": "dumb"}) as terminal:
        terminal.wait_until(lambda screen: screen.having(SAID[-1]), "the words")
        terminal.type(CTRL_C)
        assert terminal.wait() == 0
        assert not terminal.screen.styles
        assert terminal.screen.cursor_shown
        assert len(terminal.screen.having("39,744/100,000 takes")) == (view == "bar")


@pytest.mark.parametrize("view", LINES)
def test_without_colours_a_line_has_none(view):
    program, words = LINES[view]
    with in_terminal(program, environment={"NO_COLOR": "1"}) as terminal:
        terminal.wait_until(lambda screen: words in screen.text.partition(SAID[-1])[2], "the line below the words")
        assert [style for style in terminal.screen.styles if COLOURS.search(style)] == []


CATALOG = """
title: Shown
description: Tracks of the tone engine.
model: tone
defaults: {duration_s: 10, takes: 1}
matrix: {zones: [hotel_lobby], genres: [piano_solo]}
tracks: 2
"""


@pytest.fixture
def machine(short_tmp):
    """A home for a run with a broker and a worker of its own."""
    try:
        embedded._find_program()
    except Exception:
        missing("a Valkey server")
    (short_tmp / "shown.yaml").write_text(CATALOG)
    yield short_tmp
    broker = EmbeddedBroker(short_tmp)
    broker.start()
    broker.stop()


def test_a_run_shows_one_bar_and_takes_it_away_before_it_sums_up(machine):
    environment = at_home(machine, TUNEMILL_PRESETS=str(REPO / "presets"), OMP_NUM_THREADS="1")

    def one_bar(screen: Screen) -> None:
        assert len(screen.having("/2 takes,")) <= 1, screen.text
        assert screen.folded == 0

    with in_terminal(TUNEMILL, "run", str(machine / "shown.yaml"), environment=environment) as terminal:
        terminal.always = one_bar
        terminal.wait_until(lambda screen: screen.having("/2 takes,"), "the bar")
        assert terminal.wait() == 0, terminal.screen.text
        assert not terminal.screen.having("/2 takes,")
        assert terminal.screen.having("2 accepted, 0 rejected, 0 failed")
        assert terminal.screen.cursor_shown


def test_every_view_that_is_drawn_over_is_tried_here():
    draws = re.compile(
        r"rich\.(live|progress|spinner|status) import|\b(out|err)\.(screen|status)\("
        r"|\b(in_place|waiting|working|counting)\("
    )
    sources = [path for package in ("orchestrator", "workers") for path in (REPO / package).rglob("*.py")]
    drawing = {path.stem for path in sources if draws.search(path.read_text())}
    same_bar = {"choosing", "finish", "duplicates", "yields"}  # those of `display`, which other tests here try
    assert drawing == {"display", "status", "worker", "upkeep", "report", "periods", "strikes"} | same_bar

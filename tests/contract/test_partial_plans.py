"""A part of a plan in the ledger: it changes the slots of its own takes, and every other slot stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from catalog.errors import BusyError
from catalog.track import Take, Track
from orchestrator.ledger import Ledger
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.tables import TAKE
from tests.support.farm import DOLLAR_AN_HOUR, attempt, started
from tests.support.makers import a_spec, exactly

ZONES = ("spa", "lobby")


def plan(*, bpm: int = 90, zones: tuple[str, ...] = ZONES, count: int = 3) -> list[Take]:
    return [
        Track(catalog="spring", zone=zone, genre="ambient", slot=f"{slot:04d}", spec=a_spec(bpm=bpm)).take()
        for zone in zones
        for slot in range(count)
    ]


def begin(ledger: Ledger, takes: list[Take], *, part: bool = False):
    return ledger.begin_or_resume_run("spring", "tone", exactly(takes), is_part=part)


def make(ledger: Ledger, takes: list[Take], run_id: str | None) -> None:
    """The takes were rendered and accepted, and the run is over when nothing else waits."""
    with ledger.write() as connection:
        record_facts(connection, [started(), *(attempt(take, run_id=run_id) for take in takes)], price, 1)
        connection.exec_driver_sql(
            "update run set state = 'finished' where not exists (select 1 from take where state in ('waiting', 'sent'))"
        )


def price(machine: Any, at_ms: int) -> Any:
    return DOLLAR_AN_HOUR


def rows(ledger: Ledger) -> dict[str, tuple[str, bool, str]]:
    """Take id -> state, whether its catalog has it, its run."""
    with ledger.read() as connection:
        found = connection.execute(select(TAKE.c.take_id, TAKE.c.state, TAKE.c.current, TAKE.c.run_id))
        return {row.take_id: (row.state, row.current, row.run_id) for row in found}


def ids(takes: list[Take]) -> set[str]:
    return {take.id for take in takes}


def test_a_part_leaves_every_other_slot_as_it_was(ledger: Ledger):
    old, new = plan(bpm=90), plan(bpm=91, zones=("spa",), count=2)
    make(ledger, old, begin(ledger, old).run_id)
    before = rows(ledger)
    begun = begin(ledger, new[:1], part=True)
    assert (begun.new, begun.dropped, begun.pending, begun.resumed) == (1, 1, 1, False)
    after = rows(ledger)
    assert after[new[0].id][:2] == ("waiting", True)
    assert after[old[0].id] == ("accepted", False, before[old[0].id][2])
    assert {take_id: after[take_id] for take_id in ids(old[1:])} == {
        take_id: before[take_id] for take_id in ids(old[1:])
    }


def test_a_whole_plan_goes_on_with_the_rest_and_makes_nothing_twice(ledger: Ledger):
    takes = plan()
    make(ledger, takes[:2], begin(ledger, takes[:2], part=True).run_id)
    begun = begin(ledger, takes)
    assert (begun.new, begun.unchanged, begun.dropped, begun.pending) == (4, 2, 0, 4)


def test_a_part_that_is_made_already_begins_no_run(ledger: Ledger):
    takes = plan()
    make(ledger, takes, begin(ledger, takes).run_id)
    assert begin(ledger, takes[:2], part=True).run_id is None


def test_a_part_takes_up_again_what_was_made_for_an_earlier_plan(ledger: Ledger):
    first, then = plan(bpm=90), plan(bpm=91)
    make(ledger, first, begin(ledger, first).run_id)
    make(ledger, then, begin(ledger, then).run_id)
    begun = begin(ledger, first[:1], part=True)
    assert (begun.run_id, begun.unchanged, begun.dropped) == (None, 1, 1)
    listed = {take_id for take_id, (state, current, _) in rows(ledger).items() if current and state == "accepted"}
    assert listed == ids(first[:1]) | ids(then[1:])


def test_an_unfinished_run_goes_on_with_a_part_that_covers_what_it_waits_for(ledger: Ledger):
    takes = plan()
    first = begin(ledger, takes[:2], part=True)
    again = begin(ledger, takes[:3], part=True)
    assert (again.run_id, again.resumed, again.pending) == (first.run_id, True, 3)


def test_an_unfinished_run_that_waits_for_more_refuses_the_part_and_nothing_changes(ledger: Ledger):
    takes = plan()
    begin(ledger, takes)
    before = rows(ledger)
    with pytest.raises(BusyError) as told:
        begin(ledger, takes[:2], part=True)
    assert "4 more takes" in told.value.what
    assert "tunemill cancel spring" in told.value.fix
    assert rows(ledger) == before


def test_a_take_that_the_part_replaces_does_not_count_as_waiting_for_something_else(ledger: Ledger):
    old, new = plan(bpm=90, count=1, zones=("spa",)), plan(bpm=91, count=1, zones=("spa",))
    begin(ledger, old)
    begun = begin(ledger, new, part=True)
    assert (begun.new, begun.dropped, begun.pending) == (1, 1, 1)
    assert rows(ledger)[old[0].id][:2] == ("cancelled", False)

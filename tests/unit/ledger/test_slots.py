"""The states of a slot: every combination of facts has one, and SQL lists what the rules list."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from sqlalchemy import insert, select, update

from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.observations import Category
from orchestrator.ledger.slots import STATES, SlotState, TakeFacts, category_of, is_listed, state_of
from orchestrator.ledger.tables import TAKE, TAKE_STATES, VERDICT
from tests.support.farm import takes
from tests.support.makers import exactly


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    opened = open_ledger("sqlite://")
    yield opened
    opened.close()


def every_combination() -> Iterator[TakeFacts]:
    for work, *told in product(TAKE_STATES, *[(True, False)] * 5):
        yield TakeFacts(work, *told)


def test_every_state_has_a_rule_and_some_facts_lead_to_it() -> None:
    assert set(STATES) == set(SlotState) == {state_of(facts) for facts in every_combination()}


def test_a_track_is_in_its_catalog_in_one_state_only() -> None:
    assert [state for state, rule in STATES.items() if rule.is_listed] == [SlotState.KEPT]


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (TakeFacts("waiting"), SlotState.WANTED),
        (TakeFacts("sent"), SlotState.WANTED),
        (TakeFacts("failed"), SlotState.MISSING),
        (TakeFacts("cancelled"), SlotState.MISSING),
        (TakeFacts("rejected"), SlotState.REJECTED),
        (TakeFacts("accepted"), SlotState.KEPT),
        (TakeFacts("accepted", is_refused=True), SlotState.REJECTED),
        (TakeFacts("accepted", is_chosen=False), SlotState.SPARE),
        (TakeFacts("accepted", is_current=False), SlotState.REPLACED),
        (TakeFacts("accepted", is_current=False, is_mended=True), SlotState.REPAIRED),
        (TakeFacts("accepted", is_current=False, is_planned=False), SlotState.RETIRED),
        (TakeFacts("accepted", is_current=False, is_refused=True), SlotState.REJECTED),
        (TakeFacts("cancelled", is_current=False, is_planned=False), SlotState.RETIRED),
    ],
)
def test_the_state_follows_from_what_the_ledger_knows(facts: TakeFacts, state: SlotState) -> None:
    assert state_of(facts) is state


def test_what_was_on_air_once_is_no_waste() -> None:
    assert category_of(SlotState.REJECTED) is Category.REJECTED
    for state in (SlotState.KEPT, SlotState.SPARE, SlotState.REPLACED, SlotState.RETIRED, SlotState.REPAIRED):
        assert category_of(state) is Category.ACCEPTED


def test_sql_lists_what_the_rules_list(ledger: Ledger) -> None:
    """Of takes in every state of work, current or not, refused, accepted again or never judged."""
    verdicts = [(), ("rejected",), ("rejected", "accepted"), ("rejected", "accepted", "rejected")]
    wanted = list(product(TAKE_STATES, (True, False), verdicts))
    planned = takes(len(wanted))
    ledger.begin_or_resume_run("spring", "tone", exactly(planned))
    expected = set()
    with ledger.write() as connection:
        for take, (work, is_current, judged) in zip(planned, wanted, strict=True):
            row = {"state": work, "current": is_current, "rendition_id": f"r{take.id}"}
            connection.execute(update(TAKE).where(TAKE.c.take_id == take.id).values(**row))
            said = {"record_id": f"r{take.id}", "take_id": take.id, "reason": "", "at_ms": 1}
            for outcome in judged:
                connection.execute(insert(VERDICT).values(outcome=outcome, **said))
            facts = TakeFacts(work, is_current=is_current, is_refused=judged[-1:] == ("rejected",))
            if STATES[state_of(facts)].is_listed:
                expected.add(take.id)
        listed = set(connection.execute(select(TAKE.c.take_id).where(is_listed())).scalars())
    assert listed == expected
    assert len(expected) == 2

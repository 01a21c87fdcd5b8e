"""Whatever is lost, and in whatever order, no take stays on its way for ever and every run can end.

Takes are lost with workers, records with a broker's memory, and a database may go back to what it held some time ago.
"""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from catalog.messages import TakesReturned, WorkerStopped
from orchestrator.control.controller import Controller
from orchestrator.ledger import plans, readings
from orchestrator.ledger.run_control import CANCEL, GO_ON, PAUSE
from orchestrator.ledger.tables import RUN, TAKE
from tests.contract.test_controller import Farm
from tests.support.farm import DOLLAR_AN_HOUR, attempt, heartbeat, started, takes
from tests.support.makers import exactly

SILENT_S = 65
PLAN = takes(4)


class Ill(Farm):
    """A farm of which everything can be lost."""

    def __init__(self, plan=PLAN) -> None:
        super().__init__(plan)
        self.kept = self._dump()

    def begin_controller(self) -> None:
        """Another process takes over."""
        self.controller = Controller(
            self.ledger,
            self.broker,
            price_of=lambda machine, at_ms: DOLLAR_AN_HOUR,
            window=256,
            silent_after_s=60,
            clock=lambda: self.now_ms,
        )

    def silence(self, minutes: float = 2) -> None:
        """Nobody says a word for so long; the controller looks every few seconds."""
        for _ in range(round(minutes * 6)):
            self.step(after_s=10)

    def empty_broker(self) -> None:
        """Its memory is lost."""
        self.broker.sent.clear()
        self.broker.waiting.clear()
        self.broker.records.clear()

    def keep(self) -> None:
        self.kept = self._dump()

    def wish_if_active(self, wish: str) -> None:
        if self.run_state() == "active":
            self.wish(wish)
        self.step(after_s=1)

    def go_back(self) -> None:
        """The database holds what it held when it was kept; the run's number is the same."""
        raw = self.ledger.engine.raw_connection()
        target = sqlite3.connect(":memory:")
        target.deserialize(self.kept)
        target.backup(raw.driver_connection)
        raw.close()

    def states(self) -> dict[str, tuple[str, int | None]]:
        with self.ledger.read() as connection:
            rows = connection.execute(select(TAKE.c.take_id, TAKE.c.state, TAKE.c.sent_at_ms))
            return {row.take_id: (row.state, row.sent_at_ms) for row in rows}

    def run_state(self) -> str:
        with self.ledger.read() as connection:
            return connection.execute(select(RUN.c.state)).scalar_one()

    def get_well(self) -> None:
        """From now on one worker takes all there is and makes it."""
        with self.ledger.read() as connection:
            wish = readings.get_run(connection, self.run_id).wish
        if self.run_state() == "active" and wish == PAUSE:
            self.wish(GO_ON)
        for _ in range(30):
            if self.run_state() != "active":
                return
            got = self.received()
            self.step(started("w9", at_ms=self.now_ms), heartbeat([take.id for take in got], "w9"))
            self.step(*(attempt(take, worker_id="w9", run_id=self.run_id) for take in got), after_s=10)

    def _dump(self) -> bytes:
        raw = self.ledger.engine.raw_connection()
        body = raw.driver_connection.serialize()
        raw.close()
        return body


def a_run_whose_takes_were_named_while_they_waited() -> Ill:
    """It was paused and its worker cut off, so that its takes wait; the worker came back, then the broker failed."""
    farm = Ill()
    farm.step(started())
    ids = [take.id for take in farm.received()]
    farm.step(heartbeat(ids))
    farm.wish(PAUSE)
    farm.step(after_s=SILENT_S)
    assert {state for state, _ in farm.states().values()} == {"waiting"}
    farm.step(heartbeat(ids))
    farm.empty_broker()
    return farm


def test_a_take_that_is_named_while_it_waits_is_sent_from_that_instant_on():
    farm = a_run_whose_takes_were_named_while_they_waited()
    assert set(farm.states().values()) == {("sent", farm.now_ms)}


def test_takes_that_were_named_while_they_waited_and_are_lost_then_are_sent_again():
    farm = a_run_whose_takes_were_named_while_they_waited()
    farm.step(heartbeat([]))  # the worker lives, and has none of them any more
    farm.silence()
    farm.get_well()
    assert farm.run_state() == "finished"


def test_and_a_run_that_is_cancelled_in_that_state_ends():
    farm = a_run_whose_takes_were_named_while_they_waited()
    farm.step(heartbeat([]))
    farm.wish(CANCEL)
    farm.silence()
    assert farm.run_state() == "cancelled"


def test_a_ledger_with_takes_that_an_earlier_version_sent_at_no_known_instant_goes_on():
    farm = Ill()
    farm.step(started())
    farm.empty_broker()
    with farm.ledger.write() as connection:
        connection.execute(text("update take set sent_at_ms = null, held_at_ms = 5"))
    farm.silence()
    farm.get_well()
    assert farm.run_state() == "finished"


def test_a_cancelled_run_ends_although_other_runs_takes_fill_its_queue():
    farm = Ill()
    farm.step()
    farm.empty_broker()
    others = takes(3, catalog="autumn")
    with farm.ledger.write() as connection:
        plans.begin_or_resume(connection, "autumn", plans.RunTerms("tone"), exactly(others), farm.now_ms)
    farm.step()  # nobody serves them
    farm.wish(CANCEL)
    farm.silence()
    with farm.ledger.read() as connection:
        states = dict(connection.execute(select(RUN.c.catalog, RUN.c.state)).all())
    assert states == {"spring": "cancelled", "autumn": "active"}
    assert len(farm.broker.sent) == 3, "the other run's takes stay where they are"


@pytest.mark.parametrize("end", ["retry", "returned", "lost"])
def test_a_take_that_waits_again_was_sent_at_no_instant(end):
    farm = Ill()
    farm.step(started())
    take = farm.received()[0]
    farm.step(heartbeat([take.id]))
    farm.wish(PAUSE)  # so that it is not sent again at once
    ends = {"retry": attempt(take, "failed", retry=True), "returned": TakesReturned(worker_id="w1", take_ids=[take.id])}
    farm.step(*([ends[end]] if end in ends else []), after_s=0 if end in ends else SILENT_S)
    assert farm.states()[take.id] == ("waiting", None)


EVENTS = st.one_of(
    st.tuples(st.sampled_from(["held", "accepted", "failed", "retry", "returned"]),
              st.sampled_from(["w1", "w2"]), st.sets(st.integers(0, len(PLAN) - 1), max_size=3)),
    st.tuples(st.sampled_from(["pause", "resume", "cancel", "empty broker", "silence", "keep", "go back",
                               "received", "stopped", "new controller"]),
              st.sampled_from(["w1", "w2"]), st.just(frozenset())),
)  # fmt: skip


@settings(max_examples=60)
@given(events=st.lists(EVENTS, max_size=25))
def test_whatever_is_lost_no_take_is_sent_at_no_instant_and_the_run_ends(events):
    farm = Ill()
    for what, worker_id, chosen in events:
        _happen(farm, what, worker_id, [PLAN[number] for number in sorted(chosen)])
        assert not [each for each in farm.states().values() if each == ("sent", None)]
    farm.get_well()
    assert farm.run_state() in ("finished", "cancelled"), farm.states()
    farm.ledger.close()


def _happen(farm: Ill, what: str, worker_id: str, chosen: list) -> None:
    ids = [take.id for take in chosen]
    {
        "pause": lambda: farm.wish_if_active(PAUSE),
        "resume": lambda: farm.wish_if_active(GO_ON),
        "cancel": lambda: farm.wish_if_active(CANCEL),
        "accepted": lambda: farm.step(*(attempt(take, "accepted", worker_id) for take in chosen)),
        "failed": lambda: farm.step(*(attempt(take, "failed", worker_id) for take in chosen)),
        "retry": lambda: farm.step(*(attempt(take, "failed", worker_id, retry=True) for take in chosen)),
        "held": lambda: farm.step(started(worker_id), heartbeat(ids, worker_id), after_s=2),
        "returned": lambda: farm.step(TakesReturned(worker_id=worker_id, take_ids=ids)),
        "stopped": lambda: farm.step(WorkerStopped(worker_id=worker_id, reason="told to stop")),
        "received": farm.received,
        "empty broker": farm.empty_broker,
        "silence": lambda: farm.silence(1.2),
        "keep": farm.keep,
        "go back": farm.go_back,
        "new controller": farm.begin_controller,
    }[what]()

"""A sum of spent money that takes long serves for a while, and no budget is overrun for it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import BudgetError
from catalog.sidecar import StageTimes
from orchestrator.control.feed import feed
from orchestrator.finance.books import budgets
from orchestrator.finance.books.budgets import Spending
from orchestrator.finance.budgets import BudgetScope
from orchestrator.finance.months import month_of
from orchestrator.ledger import open_ledger, readings, work
from orchestrator.ledger.facts import record_facts
from tests.support.farm import DOLLAR_AN_HOUR, FakeBroker, attempt, heartbeat, started, takes
from tests.support.makers import exactly

START_MS = 10_000_000_000_000
TAKE_MS, TAKE_USD_MICROS = 36_000, 10_000  # at a dollar an hour
QUICK_S, SLOW_S = 0.01, 2.0
PAUSE_S = budgets.PAUSE_OF_COST * SLOW_S


class Month:
    """Runs that are fed while one worker makes their takes, each for a cent, and a sum that takes as long as told."""

    def __init__(self, monkeypatch, *catalogs, url="sqlite://", count=40, max_usd_micros=None):
        self.now_s, self.sum_s, self.sums = 0.0, SLOW_S, 0
        self.ledger, self.broker = open_ledger(url), FakeBroker()
        for catalog in catalogs:
            plan = takes(count, catalog=catalog)
            self.ledger.begin_or_resume_run(catalog, "tone", exactly(plan), max_usd_micros, TAKE_USD_MICROS)
        with self.ledger.read() as connection:
            self.runs = {run.catalog: run for run in work.active_runs(connection)}
        self.budgets, self.made, self.reached_ms = {}, 0, START_MS
        self.spending = Spending("UTC", self._price_of, clock=lambda: self.now_s)
        self._sum = budgets.spent_in
        monkeypatch.setattr(budgets, "spent_in", self._slow_sum)
        self.record(started(at_ms=START_MS, started_at_ms=START_MS))

    def _price_of(self, machine, at_ms):
        return DOLLAR_AN_HOUR if machine.gpu == "gpu" else None

    def _slow_sum(self, *arguments):
        self.sums += 1
        self.now_s += self.sum_s
        return self._sum(*arguments)

    def budget(self, scope, name, usd_micros):
        name = self.runs[name].run_id if scope == "run" else name
        self.budgets[scope, name] = usd_micros
        with self.ledger.write() as connection:
            budgets.write_budget(connection, BudgetScope(scope), name, "", usd_micros, START_MS)

    def record(self, *records):
        with self.ledger.write() as connection:
            record_facts(connection, records, self._price_of, START_MS)

    def make(self, count=1, outcome="accepted", worker_id="w1", **fields):
        """The worker makes so many of the takes it was sent."""
        received, self.broker.sent = self.broker.sent[:count], self.broker.sent[count:]
        for message in received:
            self.reached_ms += TAKE_MS
            self.made += 1
            values = {"run_id": message.run_id, "at_ms": self.reached_ms, "times": StageTimes(diffuse_ms=TAKE_MS)}
            self.record(attempt(message.take, outcome, worker_id, **values, **fields))

    def idle(self, ms, worker_id="idle"):
        """A worker that makes nothing costs money all the same."""
        self.record(started(worker_id, at_ms=START_MS, started_at_ms=START_MS))
        self.record(heartbeat([], worker_id, at_ms=START_MS + ms))

    def feed(self, *catalogs, window=1_000):
        """How many takes were sent."""
        runs = [self.runs[catalog] for catalog in catalogs or self.runs]
        values = {"window_for": lambda run, queue: window, "at_ms": START_MS, "spending": self.spending}
        self.fed = feed(self.ledger, self.broker, runs, **values)
        return sum(each.sent for each in self.fed.values())

    def overrun(self):
        """The budgets of runs that were fed just now that they have passed, as an asking of now says."""
        fed = [run for run in self.runs.values() if run.run_id in self.fed and self.fed[run.run_id].sent]
        with self.ledger.read() as connection:
            spent = self._sum(connection, month_of(START_MS, "UTC"), "UTC", self._price_of)
            sent = work.count_sent(connection, [run.run_id for run in self.runs.values()])
            money = {("month", ""): spent.usd_micros + sum(sent.values()) * TAKE_USD_MICROS}
            for run in fed:
                reserved = sent[run.run_id] * TAKE_USD_MICROS
                money["catalog", run.catalog] = spent.by_catalog[run.catalog] + reserved
                money["run", run.run_id] = readings.spend_of_run(connection, run).usd_micros + reserved
        return [key for key, usd_micros in self.budgets.items() if fed and money.get(key, 0) > usd_micros]


SCOPES = pytest.mark.parametrize("scope", ["month", "catalog", "run"])


@SCOPES
def test_takes_that_end_while_an_old_sum_serves_stay_reserved_until_it_is_read_again(monkeypatch, scope):
    month = Month(monkeypatch, "spring")
    month.budget(scope, "" if scope == "month" else "spring", 5 * TAKE_USD_MICROS)
    assert month.feed(window=3) == 3
    month.make(3)
    in_time = 0 if scope == "catalog" else 2  # whose workers' time was, only the next sum tells
    assert month.feed() == in_time
    month.make(2)
    month.now_s += PAUSE_S + 1
    assert month.feed() == 2 - in_time
    month.make(2)
    assert month.feed() == 0
    month.now_s += PAUSE_S + 1
    assert month.feed() == 0
    assert month.made == 5
    assert isinstance(month.fed[month.runs["spring"].run_id].refused, BudgetError)


@SCOPES
def test_as_many_takes_are_made_as_the_budget_pays_for_whenever_they_end(monkeypatch, scope):
    month = Month(monkeypatch, "spring")
    month.budget(scope, "" if scope == "month" else "spring", 17 * TAKE_USD_MICROS)
    for _ in range(60):
        month.feed(window=4)
        month.make(3)
        month.now_s += 5
        assert not month.overrun()
    assert month.made == 17
    assert month.sums < 15


def test_a_cap_counts_takes_that_have_just_ended(monkeypatch):
    month = Month(monkeypatch, "spring", max_usd_micros=5 * TAKE_USD_MICROS)
    month.budget("month", "", 1_000 * TAKE_USD_MICROS)
    sent = 0
    for _ in range(10):
        sent += month.feed(window=2)
        month.make(2)
    assert (sent, month.sums) == (5, 1)


def test_a_months_budget_keeps_what_other_runs_have_made_since_the_sum(monkeypatch):
    month = Month(monkeypatch, "spring", "autumn")
    month.budget("month", "", 6 * TAKE_USD_MICROS)
    assert month.feed("spring", window=4) == 4
    month.make(4)
    assert month.feed("autumn", window=4) == 2
    month.make(2)
    assert month.feed() == 0
    month.now_s += PAUSE_S + 1
    assert month.feed() == 0
    assert month.made == 6


def test_a_catalog_keeps_what_its_takes_had_cost_before_the_sum_that_did_not_know_whose_time_it_was(monkeypatch):
    month = Month(monkeypatch, "spring", "autumn")
    month.budget("catalog", "spring", 2 * TAKE_USD_MICROS)
    month.feed("autumn", window=1)
    month.make(1)
    month.sum_s = QUICK_S
    assert month.feed("spring") == 2
    month.record(heartbeat([], at_ms=month.reached_ms + 2 * TAKE_MS))
    month.sum_s = SLOW_S
    assert month.feed("spring") == 0
    month.make(2)
    assert month.feed("spring") == 0
    month.now_s += PAUSE_S + 1
    assert month.feed("spring") == 0


def test_takes_of_another_run_are_reserved_at_their_own_price(monkeypatch):
    month = Month(monkeypatch, "spring")
    month.ledger.begin_or_resume_run("autumn", "tone", exactly(takes(9, catalog="autumn")), None, 7 * TAKE_USD_MICROS)
    with month.ledger.read() as connection:
        month.runs = {run.catalog: run for run in work.active_runs(connection)}
    month.budget("month", "", 16 * TAKE_USD_MICROS)
    assert month.feed("autumn", window=2) == 2
    assert month.feed("spring") == 2


def test_a_try_that_is_made_again_is_reserved_for_twice(monkeypatch):
    month = Month(monkeypatch, "spring", count=1)
    month.budget("month", "", 2 * TAKE_USD_MICROS)
    for expected in (1, 1, 0):
        assert month.feed() == expected
        month.make(1, "failed", retry=True)
    month.now_s += PAUSE_S + 1
    assert month.feed() == 0


def test_time_of_workers_that_make_nothing_counts_at_once(monkeypatch):
    month = Month(monkeypatch, "spring")
    month.budget("month", "", 5 * TAKE_USD_MICROS)
    assert month.feed(window=1) == 1
    month.idle(3 * TAKE_MS)
    assert (month.feed(), month.sums) == (1, 1)


def test_a_worker_without_a_price_is_asked_about_at_once(monkeypatch):
    month = Month(monkeypatch, "spring")
    month.budget("month", "", 5 * TAKE_USD_MICROS)
    assert month.feed(window=1) == 1
    month.record(started("odd", gpu="unheard-of", at_ms=START_MS, started_at_ms=START_MS))
    month.record(heartbeat([], "odd", at_ms=START_MS + TAKE_MS))
    assert month.feed() == 0
    assert "unheard-of" in month.fed[month.runs["spring"].run_id].refused.what


def test_a_run_is_refused_in_words_only_by_what_is_surely_spent(monkeypatch):
    month = Month(monkeypatch, "spring")
    month.budget("catalog", "spring", 3 * TAKE_USD_MICROS)
    run_id = month.runs["spring"].run_id
    assert month.feed(window=2) == 2
    month.make(2)
    assert (month.feed(), month.fed[run_id].refused) == (0, None)  # one more may be paid for: the next sum tells
    month.now_s += PAUSE_S + 1
    assert month.feed() == 1
    month.make(1)
    month.now_s += PAUSE_S + 1
    assert month.feed() == 0
    assert isinstance(month.fed[run_id].refused, BudgetError)
    assert month.feed() == 0  # nothing can have come since that would change it
    assert isinstance(month.fed[run_id].refused, BudgetError)


def test_a_slow_sum_is_asked_for_no_oftener_than_it_is_worth_and_a_quick_one_each_time(monkeypatch):
    month = Month(monkeypatch, "spring")
    month.budget("month", "", 1_000 * TAKE_USD_MICROS)
    sent = 0
    for _ in range(30):
        sent += month.feed(window=1)
        month.make(1)
        month.now_s += 1
    assert (sent, month.sums) == (30, 1)
    month.sum_s = QUICK_S
    month.now_s += PAUSE_S
    assert [month.feed(window=size) for size in (1, 2, 3)] == [1, 1, 1]
    assert month.sums == 1 + 3


ACTS = st.one_of(
    st.tuples(st.just("feed"), st.integers(1, 6)),
    st.tuples(st.just("make"), st.integers(1, 4)),
    st.tuples(st.just("fail"), st.just(1)),
    st.tuples(st.just("put back"), st.integers(1, 2)),
    st.tuples(st.just("wait"), st.sampled_from([1, 39, 41])),
    st.tuples(st.just("sum takes"), st.sampled_from([QUICK_S, SLOW_S])),
    st.tuples(st.just("idle"), st.integers(1, 4)),
)


@settings(max_examples=30)
@given(
    acts=st.lists(ACTS, max_size=30),
    pays=st.tuples(st.integers(3, 16), st.integers(2, 9), st.integers(2, 9)),
)
def test_whatever_happens_between_two_sums_nothing_is_sent_that_a_sum_of_now_would_not_pay_for(acts, pays):
    with pytest.MonkeyPatch.context() as monkeypatch:
        month, idled_ms = Month(monkeypatch, "spring", "autumn"), 0
        for scope, name, pay in zip(["month", "catalog", "run"], ["", "spring", "autumn"], pays, strict=True):
            month.budget(scope, name, pay * TAKE_USD_MICROS)
        for act, size in acts:
            if act == "feed":
                month.feed(window=size)
                assert not month.overrun()
            elif act == "make":
                month.make(size)
            elif act == "fail":
                month.make(size, "failed", retry=True)
            elif act == "put back":
                with month.ledger.write() as connection:
                    work.put_back(connection, [message.take.id for message in month.broker.sent[:size]])
            elif act == "wait":
                month.now_s += size
            elif act == "sum takes":
                month.sum_s = size
            elif act == "idle":
                idled_ms += size * TAKE_MS
                month.idle(idled_ms)
        month.ledger.close()


# On SQLite and on Postgres alike


@pytest.mark.parametrize("scope", ["month", "catalog", "run"])
def test_as_many_takes_are_made_as_a_budget_pays_for(monkeypatch, database_url, scope):
    month = Month(monkeypatch, "spring", "autumn", url=database_url)
    month.budget(scope, "" if scope == "month" else "spring", 9 * TAKE_USD_MICROS)
    for _ in range(12):
        month.feed("spring", window=3)
        month.make(2)
        assert not month.overrun()
        month.now_s += PAUSE_S / 3
    assert month.made == 9
    month.ledger.close()


def test_what_workers_have_cost_since_the_sum_counts(monkeypatch, database_url):
    month = Month(monkeypatch, "spring", "autumn", url=database_url)
    month.budget("month", "", 9 * TAKE_USD_MICROS)
    assert month.feed("spring", window=3) == 3
    month.make(2)
    month.idle(2 * TAKE_MS)
    assert (month.feed("autumn"), month.sums) == (4, 1)
    month.ledger.close()

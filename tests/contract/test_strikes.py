"""Strikes, on SQLite and on Postgres: a false worker goes off the books as if it had never been, and can come back."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import typer
from sqlalchemy import func, insert, select, update
from typer.testing import CliRunner

from catalog.errors import LedgerError, SettingsError, UnknownNameError
from orchestrator.cli.costs import report as costs_command
from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.books import books, budgets, periods, tallies
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.books import time as time_readings
from orchestrator.finance.books.invoices import write_invoice
from orchestrator.finance.books.readings import Scope
from orchestrator.finance.books.strikes import Correcting
from orchestrator.finance.budgets import BudgetScope
from orchestrator.ledger import open_ledger, readings, strikes, work
from orchestrator.ledger.tables import ATTEMPT, LOSS, RENDITION, RENTAL, RUN, SPAN, STRIKE, TAKE, WORKER
from tests.contract.test_books_laws import (
    Fleet,
    Story,
    ask,
    by_cuts,
    check_the_bills,
    check_the_books,
    estimate_by_hand,
    seal_by_hand,
    tracks_by_hand,
)
from tests.support.cost_facts import DECEMBER, NOVEMBER
from tests.support.cost_ledger import DAY_MS, GPUS, Filling, a_line, an_invoice, price_of

HOUR_MS = 3_600_000
AT_MS = DECEMBER + 30 * DAY_MS
AFTERWARDS_MS = int(datetime(2027, 2, 1, tzinfo=UTC).timestamp()) * 1000
MONTHS = ("2026-10", "2026-11", "2026-12", "2027-01")
SEEDS = range(3)
OF_WORKERS = (WORKER, SPAN, ATTEMPT, LOSS)


@pytest.fixture
def ledger(database_url, monkeypatch):
    monkeypatch.setattr(tallies, "_WORTH_KEEPING", 1)  # so that there are tallies to be struck
    opened = open_ledger(database_url)
    yield opened
    opened.close()


@pytest.fixture
def never_there(tmp_path):
    """Another ledger, for what the first would hold without the false workers."""
    opened = open_ledger(f"sqlite:///{tmp_path / 'other.sqlite'}")
    yield opened
    opened.close()


def fleet_rows(seed: int):
    """Rented machines of several kinds, some of which still run; a worker of every third has lost a take."""
    fleet = Fleet(seed)
    rows = {table: [] for table in (*fleet.rows, LOSS)}
    for index in range(8):
        before = len(fleet.rows[RENTAL])
        fleet.pod(f"pod-{index}", fleet.random.choice(["runpod", "vast"]), living=index % 4 == 3)
        if index % 4 == 0:  # somebody asked for it
            fleet.rows[RENTAL][before]["run_id"] = fleet.rows[RUN][-1]["run_id"]
    for worker in fleet.rows[WORKER][::3]:
        take = fleet.random.choice(fleet.rows[TAKE])
        lost = {"worker_id": worker["worker_id"], "take_id": take["take_id"], "run_id": take["run_id"]}
        rows[LOSS].append({**lost, "at_ms": worker["last_seen_ms"]})
    return {**rows, **fleet.rows}


def fill(ledger, rows, without=()):
    with ledger.write() as connection:
        for table, many in rows.items():
            kept = [row for row in many if table not in OF_WORKERS or row["worker_id"] not in without]
            if kept:
                connection.execute(insert(table), kept)


def false_ones(rows, seed: int) -> list[str]:
    """One worker alone on its rental, one beside others, and one that still lives."""
    by_rental: dict[str, list[str]] = {}
    for worker in rows[WORKER]:
        by_rental.setdefault(worker["rental_id"], []).append(worker["worker_id"])
    alone = sorted(ids[0] for ids in by_rental.values() if len(ids) == 1)
    beside = sorted(ids[-1] for ids in by_rental.values() if len(ids) > 1)
    living = sorted(row["worker_id"] for row in rows[WORKER] if row["ended_at_ms"] is None)
    return list(dict.fromkeys(each[seed % len(each)] for each in (alone, beside, living)))


def strike_all(ledger, worker_ids, *, undo=False, at_ms=AT_MS):
    with ledger.write() as connection:
        correcting = Correcting(connection, price_of)
        return (correcting.reinstate if undo else correcting.strike)(worker_ids, "false", at_ms)


def post(ledger, time_zone="UTC"):
    updated = books.update_books(ledger, time_zone=time_zone, price_of=price_of, at_ms=AT_MS)
    with ledger.read() as connection:
        check_the_books(connection)
    return updated


def set_budgets(ledger, rows):
    with ledger.write() as connection:
        budgets.write_budget(connection, BudgetScope.MONTH, "", "", 10**9, AT_MS)
        for catalog in ("hotels", "spas"):
            budgets.write_budget(connection, BudgetScope.CATALOG, catalog, "", 10**9, AT_MS)
        for run in rows[RUN]:
            budgets.write_budget(connection, BudgetScope.RUN, run["run_id"], "", 10**9, AT_MS)


def told(ledger, updated, rows):
    """Everything that reports, budgets and reconciliation say, as plain values."""
    beside = list(books.provisional_rows(updated.provisional))
    run_ids = [run["run_id"] for run in rows[RUN]]
    with ledger.read() as connection:
        runs = [readings.get_run(connection, run_id) for run_id in run_ids]
        scopes = [Scope(), *(Scope(run_id=each) for each in run_ids), Scope(catalog="hotels"), Scope(catalog="spas")]
        found = {
            "standing": restated(connection),
            "by any cut": by_cuts([row[1:] for row in cost_readings.read_rows(connection)], 10),
            "provisional": by_cuts([row[1:] for row in beside], 10),
            "unpriced": cost_readings.read_unpriced(connection, beside),
            "workers of rentals": cost_readings.workers_by_rental(connection),
            "time": [time_readings.read_time_use(connection, scope).ms for scope in scopes],
            "workers": time_readings.count_workers(connection),
            "run costs": [run_cost(each) for each in cost_readings.read_run_costs(connection)],
            "spent": [budgets.spent_in(connection, month, "UTC", price_of) for month in MONTHS],
            "left": [budgets.read_lefts(connection, period=month, time_zone="UTC") for month in MONTHS],
            "runs": [readings.spend_of_run(connection, run) for run in runs],
            "an attempt": [readings.attempt_cost_of_run(connection, run) for run in runs],
            "roll-call": [row.worker_id for row in readings.latest_workers(connection, 100)],
        }
    return {**found, "complete": updated.complete_through_ms}


def run_cost(cost):
    """What a run has cost; a category that adds up to nothing is left out."""
    return cost.run_id, cost.tracks, cost.attempts, cost.unpriced_ms, {k: v for k, v in cost.usd_micros.items() if v}


def restated(connection):
    """What stands, by the month it is for and all that a report can cut by; never mind where it is booked."""
    query = (
        "select p.applies_to, p.kind, p.meter, p.rental_id, e.category, e.catalog, e.zone, e.genre, e.run_id, p.gpu, "
        "coalesce(sum(e.usd_micros), 0), sum(e.ms), sum(e.tracks), sum(e.attempts), sum(e.audio_ms) "
        "from standing s join posting p on p.posting_id = s.posting_id join cost_entry e "
        "on e.posting_id = p.posting_id group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
    )
    return by_cuts(ask(connection, query), 10)


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("is_posted", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_ledger_whose_false_workers_are_struck_says_what_it_would_say_without_them(
    ledger, never_there, seed, is_posted
):
    rows = fleet_rows(seed)
    false = false_ones(rows, seed)
    fill(ledger, rows)
    fill(never_there, rows, without=false)
    for each in (ledger, never_there):
        set_budgets(each, rows)
    if is_posted:
        post(ledger)
    strike_all(ledger, false)
    wanted = told(never_there, post(never_there), rows)
    assert told(ledger, post(ledger), rows) == wanted
    again = post(ledger)
    assert (again.posted, again.reversed) == (0, 0)
    assert told(ledger, again, rows) == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_that_is_put_back_costs_again_what_it_did(ledger, seed):
    rows = fleet_rows(seed)
    false = false_ones(rows, seed)
    fill(ledger, rows)
    set_budgets(ledger, rows)
    before = told(ledger, post(ledger), rows)
    gone = strike_all(ledger, false)
    assert told(ledger, post(ledger), rows) != before
    back = strike_all(ledger, false, undo=True)
    assert told(ledger, post(ledger), rows) == before
    assert gone == back


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_strike_says_goes_is_what_goes(ledger, seed):
    rows = fleet_rows(seed)
    for rental in rows[RENTAL]:
        rental["billed_start_ms"] = None  # one that loses all workers would be paid for until the last word of another
    fill(ledger, rows)

    def charged(updated):
        with ledger.read() as connection:
            posted = cost_readings.sum_usd_micros(connection)
        return posted + sum(row.usd_micros for row in books.provisional_rows(updated.provisional))

    before = charged(post(ledger))
    gone = strike_all(ledger, [row["worker_id"] for row in rows[WORKER]][::2])
    known = [each.usd_micros for each in gone if each.usd_micros is not None]
    assert charged(post(ledger)) == before - sum(known)
    assert len(gone) == len(rows[WORKER][::2])
    assert any(known)


def test_a_closed_month_stays_and_the_strike_is_booked_in_the_open_one(ledger, never_there):
    rows = fleet_rows(1)
    false = false_ones(rows, 1)
    fill(ledger, rows)
    fill(never_there, rows, without=false)
    for each in (ledger, never_there):
        end_all(each)
    post(ledger)
    with ledger.write() as connection:
        close(connection, "2026-11")
        seal = seal_by_hand(connection, "2026-11")
        booked = {each: cost_readings.sum_usd_micros(connection, each) for each in MONTHS}
    strike_all(ledger, false)
    post(ledger)
    post(never_there)
    with ledger.read() as connection, never_there.read() as other:
        assert seal_by_hand(connection, "2026-11") == seal
        assert restated(connection) == restated(other)
        moved = cost_readings.sum_usd_micros(other) - sum(booked.values())
        assert cost_readings.sum_usd_micros(connection) == sum(booked.values()) + moved
        assert moved != 0
        late = "select count(*) from posting where applies_to = '2026-11' and period = '2026-12'"
        assert ask(connection, late) != [(0,)]
    strike_all(ledger, false, undo=True)
    post(ledger)
    with ledger.read() as connection:
        assert seal_by_hand(connection, "2026-11") == seal
        assert cost_readings.sum_usd_micros(connection) == sum(booked.values())


def end_all(ledger):
    with ledger.write() as connection:
        connection.execute(
            update(WORKER).where(WORKER.c.ended_at_ms.is_(None)).values(ended_at_ms=WORKER.c.last_seen_ms)
        )


def close(connection, period):
    periods.close_period(
        connection, period, time_zone="UTC", by="f", at_ms=AT_MS, complete_through_ms=None, with_unknown=True
    )


class StoryWithStrikes(Story):
    """A ledger to which also strikes happen."""

    def strike_some(self) -> None:
        with self.ledger.read() as connection:
            there = ask(
                connection,
                "select w.worker_id, w.rental_id from worker w join rental r on r.rental_id = w.rental_id "
                "where r.billed_start_ms is null or 1 < (select count(*) from worker o "
                "where o.rental_id = w.rental_id) order by w.worker_id",
            )
        # A machine that is paid for from an instant on, and loses all workers, is rented until somebody says its end:
        # what it costs is no longer the plain sum that is reckoned here.
        chosen = self.pick.sample(there, min(len(there), self.pick.randrange(1, 3)))
        ids = {rental_id: worker_id for worker_id, rental_id in chosen}
        strike_all(self.ledger, list(ids.values()), at_ms=self.at_ms)

    def reinstate_some(self) -> None:
        with self.ledger.read() as connection:
            gone = sorted(connection.execute(strikes.struck_ids()).scalars())
        chosen = self.pick.sample(gone, min(len(gone), self.pick.randrange(1, 3)))
        strike_all(self.ledger, chosen, undo=True, at_ms=self.at_ms)

    def go_on(self, monkeypatch) -> None:
        if self.pick.random() < 0.7:
            self.strike_some()
        if self.pick.random() < 0.4:
            self.reinstate_some()
        super().go_on(monkeypatch)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_laws_of_the_books_hold_throughout_a_story_with_strikes(ledger, tmp_path, monkeypatch, seed):
    story = StoryWithStrikes(ledger, 100 + seed, tmp_path)
    for _ in range(4):
        story.rent()
    for _ in range(10):
        story.go_on(monkeypatch)
        check_laws(story)


def check_laws(story) -> None:
    """Those of the books, but for tries: they are counted by the roll-call."""
    rows = list(books.provisional_rows(story.updated.provisional))
    with story.ledger.read() as connection:
        check_the_books(connection)
        check_the_bills(connection, story.bills)
        for period, seal in story.sealed.items():
            assert seal_by_hand(connection, period) == seal
        posted = ask(
            connection,
            "select coalesce(sum(usd_micros), 0), sum(tracks), sum(attempts) from cost_monthly "
            "where kind in ('estimate', 'work')",
        )[0]
        assert int(posted[0]) + sum(row.usd_micros for row in rows) == estimate_by_hand(connection)
        assert int(posted[1] or 0) + sum(row.tracks for row in rows) == tracks_by_hand(connection)
        tries = "select count(*) from attempt a join worker w on w.worker_id = a.worker_id "
        (made,) = ask(connection, tries + "where not (a.adopted and a.batch_id = '')")
        assert int(posted[2] or 0) + sum(row.attempts for row in rows) == made[0]


# ---------------------------------------------------------------- what a strike leaves alone


def one_pod(ledger, *, living=False, gpus=2, asked_for=False):
    """A pod of two GPUs with a worker on each; the ids of the two."""
    filling = Filling(5, batch_ms=(HOUR_MS // 4, HOUR_MS))
    run_id = filling.run("hotels", NOVEMBER)
    filling.machine("pod", sorted(GPUS)[0], NOVEMBER, "hotels", run_id, gpus=gpus, batches=6, living=living)
    filling.rows[RENTAL][-1]["run_id"] = run_id if asked_for else None
    ids = [row["worker_id"] for row in filling.rows[WORKER]]
    with ledger.write() as connection:
        filling.write(connection)
    return ids


def test_a_bill_keeps_its_money_and_nothing_explains_the_time_of_the_struck_worker(ledger):
    false, _ = one_pod(ledger)
    with ledger.write() as connection:
        write_invoice(connection, an_invoice([a_line(1, "pod", 8_000_000), a_line(2, "pod", 900, Meter.DISK)]), AT_MS)
    post(ledger)
    with ledger.read() as connection:
        before = dict(ask(connection, BILLED_BY_CATEGORY))
    (gone,) = strike_all(ledger, [false])
    assert gone.usd_micros == 0
    assert gone.ms > 0
    post(ledger)
    with ledger.read() as connection:
        after = dict(ask(connection, BILLED_BY_CATEGORY))
        assert cost_readings.sum_usd_micros(connection) == sum(before.values()) == sum(after.values()) == 8_000_900
    assert after["accepted"] < before["accepted"]
    assert before.get("unobserved", 0) < 1_000_000
    assert after["unobserved"] >= 4_000_000  # a half of the machine, and the end of the other


BILLED_BY_CATEGORY = (
    "select category, cast(sum(usd_micros) as bigint) from cost_monthly where kind = 'billed' "
    "and usd_micros <> 0 group by category"
)


def test_a_machine_on_which_only_struck_workers_made_something_is_paid_by_no_work_of_theirs(ledger):
    ids = one_pod(ledger, asked_for=True)
    with ledger.write() as connection:
        write_invoice(connection, an_invoice([a_line(1, "pod", 8_000_000)]), AT_MS)
    strike_all(ledger, ids)
    post(ledger)
    with ledger.read() as connection:
        paying = "select distinct catalog from cost_monthly where usd_micros <> 0"
        assert ask(connection, paying) == [("unallocated",)]
        (run_id,) = connection.execute(select(RUN.c.run_id)).scalars()
        assert readings.attempt_cost_of_run(connection, readings.get_run(connection, run_id)) is None


def test_an_attempt_of_a_run_costs_what_true_workers_needed_for_it(ledger):
    false, _ = one_pod(ledger)
    with ledger.read() as connection:
        run = readings.get_run(connection, connection.execute(select(RUN.c.run_id)).scalar())
    before = cost_of_an_attempt(ledger, run)
    claim = {"record_id": "boast", "take_id": "t", "run_id": run.run_id, "worker_id": false, "outcome": "failed"}
    spent = {"plan_ms": 10**9, "encode_ms": 0, "diffuse_ms": 10**9, "decode_ms": 0, "post_ms": 0, "audio_ms": 0}
    with ledger.write() as connection:
        connection.execute(
            insert(ATTEMPT).values(
                **claim, **spent, reasons=[], adopted=False, batch_id="", batch_size=1, plan_id="", at_ms=AT_MS
            )
        )
    assert cost_of_an_attempt(ledger, run) > 10 * before
    strike_all(ledger, [false])
    assert cost_of_an_attempt(ledger, run) < 2 * before


def cost_of_an_attempt(ledger, run):
    with ledger.read() as connection:
        return readings.attempt_cost_of_run(connection, run)


def test_the_takes_that_a_struck_worker_holds_wait_again_without_a_loss_and_no_other_take_changes(ledger):
    false, true = one_pod(ledger, living=True)
    with ledger.write() as connection:
        some = list(connection.execute(select(TAKE.c.take_id).order_by(TAKE.c.take_id).limit(5)).scalars())
        for holder, held in ((false, some[:3]), (true, some[3:])):
            sent = {"state": "sent", "held_by": holder, "held_at_ms": AT_MS, "sent_at_ms": AT_MS, "tries": 1}
            connection.execute(update(TAKE).where(TAKE.c.take_id.in_(held)).values(**sent))
        before = takes_of(connection)
    strike_all(ledger, [false])
    with ledger.read() as connection:
        after = takes_of(connection)
        assert work.holders(connection) == [true]
        assert work.living(connection) == [true]
        assert ask(connection, "select count(*) from loss") == [(0,)]
    released = {"state": "waiting", "held_by": None, "held_at_ms": None, "sent_at_ms": None}
    assert after == [{**row, **(released if row["take_id"] in some[:3] else {})} for row in before]


def takes_of(connection):
    return [dict(row) for row in connection.execute(select(TAKE).order_by(TAKE.c.take_id)).mappings()]


def test_facts_stay_and_a_strike_holds_the_workers_row_whole(ledger):
    false, _ = one_pod(ledger, living=True)
    post(ledger)
    with ledger.read() as connection:
        facts = counted(connection)
        row = dict(connection.execute(select(WORKER).where(WORKER.c.worker_id == false)).mappings().one())
        assert ask(connection, "select count(*) from tally where worker_id = :w", w=false) != [(0,)]
    strike_all(ledger, [false])
    with ledger.read() as connection:
        assert counted(connection) == facts
        (written,) = strikes.read_strikes(connection)
        assert written.worker == row
        assert (written.is_struck, written.reason, written.at_ms) == (True, "false", AT_MS)
        assert ask(connection, "select count(*) from tally where worker_id = :w", w=false) == [(0,)]
    strike_all(ledger, [false], undo=True)
    with ledger.read() as connection:
        back = dict(connection.execute(select(WORKER).where(WORKER.c.worker_id == false)).mappings().one())
    assert back == {**row, "tally_spans_ms": 0, "tally_attempts_ms": 0, "tally_reached_ms": 0}


def counted(connection):
    return [
        connection.execute(select(func.count()).select_from(each)).scalar() for each in (SPAN, ATTEMPT, RENDITION, LOSS)
    ]


def test_the_same_strike_again_changes_nothing_and_the_newest_word_counts(ledger):
    false, true = one_pod(ledger)
    assert len(strike_all(ledger, [false, false])) == 1
    assert strike_all(ledger, [false]) == []
    assert strike_all(ledger, [true], undo=True) == []
    with ledger.read() as connection:
        assert strikes.struck(connection, [false, true, "nobody"]) == {false}
        assert list(connection.execute(strikes.struck_ids()).scalars()) == [false]
    assert len(strike_all(ledger, [false], undo=True)) == 1
    assert strike_all(ledger, [false], undo=True) == []
    with ledger.read() as connection:
        assert strikes.struck(connection, [false, true]) == set()
        assert list(connection.execute(strikes.struck_ids()).scalars()) == []
    assert len(strike_all(ledger, [false])) == 1
    with ledger.read() as connection:
        assert strikes.struck(connection, [false]) == {false}
        assert [row.is_struck for row in strikes.read_strikes(connection)] == [True, False, True]


def test_nobody_can_rewrite_a_strike(ledger):
    false, _ = one_pod(ledger)
    strike_all(ledger, [false])
    with pytest.raises(LedgerError, match="append-only"), ledger.write() as connection:
        connection.execute(STRIKE.delete())


def test_a_life_that_made_a_machine_dearer_or_longer_goes_whole(ledger):
    """A true worker of an hour, and a false one that claims a day on a lane of its own."""
    filling = Filling(3)
    run_id = filling.run("hotels", NOVEMBER)
    filling.machine("pod", "NVIDIA L40S", NOVEMBER, "hotels", run_id, gpus=1, batches=3)
    filling.rows[RENTAL][-1]["gpu_count"] = 0
    true = filling.rows[WORKER][-1]
    true["last_seen_ms"] = true["ended_at_ms"] = NOVEMBER + HOUR_MS
    filling.rows[WORKER].append(
        {**true, "worker_id": "false", "lane": "9", "last_seen_ms": NOVEMBER + DAY_MS, "ended_at_ms": NOVEMBER + DAY_MS}
    )
    with ledger.write() as connection:
        filling.write(connection)
    (gone,) = strike_all(ledger, ["false"])
    assert (gone.ms, gone.usd_micros) == (DAY_MS, 47 * 1_090_000)


def test_no_name_at_all_is_not_the_beginning_of_the_only_worker_there_is(ledger):
    one_pod(ledger, gpus=1)
    with ledger.read() as connection, pytest.raises(UnknownNameError):
        strikes.find_workers(connection, [""])


# ---------------------------------------------------------------- the command


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "home").mkdir()
    for module in ("orchestrator.finance.accounts", "orchestrator.cli.costs.strikes"):
        monkeypatch.setattr(f"{module}.now_ms", lambda: AFTERWARDS_MS)
    return tmp_path


@pytest.fixture
def books_of_two(home):
    """A ledger with a machine of two workers of the login `pod-7`, and one of another login; their ids."""
    ledger = open_ledger(f"sqlite:///{home / 'home' / 'ledger.sqlite'}")
    filling = Filling(5)
    filling.prefix = "pod-7."
    filling.rental(gpus=2)
    filling.prefix = "ef"
    filling.rental()
    filling.rows[WORKER][0]["login"] = "pod-7"
    filling.rows[WORKER][1]["login"] = filling.rows[WORKER][2]["login"] = ""
    ids = [row["worker_id"] for row in filling.rows[WORKER]]
    with ledger.write() as connection:
        filling.write(connection)
    ledger.close()
    return ids


def run(*arguments: str):
    app = typer.Typer()
    costs_command.register(app)
    return CliRunner().invoke(app, ["costs", *arguments])


def asked(*arguments: str):
    result = run(*arguments, "--json")
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


def total() -> int:
    return asked("report")["whole_usd_micros"]


def test_a_person_strikes_a_worker_by_the_beginning_of_its_id_and_puts_it_back(books_of_two):
    *_, other = books_of_two
    before = total()
    done = asked("strike", "efw", "--reason", "not ours")
    (gone,) = done["workers"]
    assert gone["worker_id"] == other
    assert total() == before - gone["usd_micros"] < before
    assert done["total_usd_micros"] == gone["usd_micros"]
    assert done["postings_reversed"] > 0
    assert asked("verify")["findings"] == []
    assert asked("strike", other, "--undo", "--reason", "ours after all")["workers"] == [gone]
    assert total() == before
    listed = asked("strike", "--list")["strikes"]
    assert [(row["worker_id"], row["is_struck"], row["reason"]) for row in listed] == [
        (other, True, "not ours"),
        (other, False, "ours after all"),
    ]
    assert "ours after all" in run("strike", "--list").stdout


def test_a_login_is_struck_with_all_its_workers(books_of_two):
    first, second, other = books_of_two
    done = asked("strike", "--login", "pod-7", "--reason", "stolen")
    assert [each["worker_id"] for each in done["workers"]] == [first, second]
    again = asked("strike", "--login", "pod-7", other, "--reason", "stolen")
    assert [each["worker_id"] for each in again["workers"]] == [other]
    assert again["unchanged"] == [first, second]
    assert total() == 0
    said = run("strike", "--login", "pod-7", "--undo", "--reason", "ours").stdout
    assert "2 workers put back" in said
    assert total() > 0


def test_a_dry_run_says_the_same_and_writes_nothing(books_of_two):
    first, *_ = books_of_two
    before = total()
    rehearsed = asked("strike", first, "--dry-run")
    assert total() == before
    assert asked("strike", "--list")["strikes"] == []
    assert asked("strike", first, "--reason", "false")["workers"] == rehearsed["workers"]
    assert "1 worker would be put back" in run("strike", first, "--undo", "--dry-run").stdout
    assert len(asked("strike", "--list")["strikes"]) == 1


PAID_SINCE = ("--start", "2026-10-01T00:00Z", "--usd-per-hour", "1.50")


def test_a_machine_that_costs_more_without_the_worker_is_named(books_of_two):
    first, second, _ = books_of_two
    machine = asked("strike", first, "--dry-run")["workers"][0]["rental_id"]
    assert run("rentals", "add", machine, *PAID_SINCE).exception is None
    result = run("strike", "--login", "pod-7", "--reason", "false")
    assert "-$" in result.stdout  # nobody works on it, and its end is not known
    assert f"{machine} costs more without {second}" in result.stderr
    assert run("rentals", "add", machine, "--end", "2026-10-01T01:00Z").exception is None
    run("strike", "efw", "--reason", "false")
    assert total() == 2 * 1_500_000


def test_a_second_strike_says_that_nothing_was_left_to_strike(books_of_two):
    first, *_ = books_of_two
    run("strike", first, "--reason", "false")
    again = run("strike", first, "--reason", "false")
    assert again.exit_code == 0
    assert "0 workers struck" in again.stdout
    assert len(asked("strike", "--list")["strikes"]) == 1


@pytest.mark.parametrize("name", ["nobody", "", "%", "EFW"])
def test_an_unknown_worker_is_named_and_nothing_is_struck(books_of_two, name):
    result = run("strike", books_of_two[0], name, "--reason", "false")
    assert isinstance(result.exception, UnknownNameError)
    assert asked("strike", "--list")["strikes"] == []


def test_a_beginning_of_several_ids_is_refused_before_and_after_one_of_them_is_struck(books_of_two):
    first, second, _ = books_of_two
    for _ in range(2):
        refused = run("strike", "pod-7.w", "--reason", "false").exception
        assert isinstance(refused, UnknownNameError)
        assert refused.why == f"{first}, {second}"
        run("strike", first, "--reason", "false")


def test_an_id_is_no_beginning_of_a_longer_one(books_of_two, home):
    first, *_ = books_of_two
    ledger = open_ledger(f"sqlite:///{home / 'home' / 'ledger.sqlite'}")
    with ledger.write() as connection:
        row = dict(connection.execute(select(WORKER).where(WORKER.c.worker_id == first)).mappings().one())
        connection.execute(insert(WORKER).values({**row, "worker_id": f"{first}0", "lane": "7"}))
    ledger.close()
    assert [each["worker_id"] for each in asked("strike", first, "--reason", "false")["workers"]] == [first]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reason", "false"],
        ["efw"],
        ["efw", "--reason", " "],
        ["--list", "efw"],
        ["--list", "--undo"],
    ],
)
def test_what_is_not_said_is_asked_for_before_anything_is_struck(books_of_two, arguments):
    assert isinstance(run("strike", *arguments).exception, SettingsError)
    assert asked("strike", "--list")["strikes"] == []


def test_an_unknown_login_is_refused(books_of_two):
    for login in ("pod", "pod-7.w0000004", ""):
        assert isinstance(run("strike", "--login", login, "--reason", "false").exception, UnknownNameError)


def test_without_a_ledger_there_is_nobody_to_strike(home):
    assert isinstance(run("strike", "ab", "--reason", "false").exception, UnknownNameError)
    assert "no worker was ever struck" in run("strike", "--list").stdout

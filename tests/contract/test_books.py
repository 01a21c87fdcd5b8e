"""The books on SQLite and on Postgres: whatever comes, and in whatever order, they add up to the bills."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from sqlalchemy import func, select, text, update

from catalog.errors import InvoiceError, LedgerError, PeriodError, SettingsError
from orchestrator.finance.allocation.charges import ChargeKind, Meter, Sharing
from orchestrator.finance.books import periods
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.books import time as time_readings
from orchestrator.finance.books.books import provisional_rows, update_books
from orchestrator.finance.books.invoices import write_invoice
from orchestrator.finance.months import bounds_of
from orchestrator.ledger import open_ledger
from orchestrator.ledger.machines import mark_makers_unposted
from orchestrator.ledger.observations import CALLS_OVER_MS, UNALLOCATED, Category, Machine
from orchestrator.ledger.tables import COST_ENTRY, COST_MONTHLY, INVOICE_LINE, POSTING, STANDING, TAKE, VERDICT, WORKER
from tests.support.cost_facts import DECEMBER, NOVEMBER
from tests.support.cost_ledger import a_line, an_invoice, fill, price_of, random_lines

JANUARY = 1_798_761_600_000
LATER = JANUARY + 10 * 86_400_000


@pytest.fixture
def ledger(database_url):
    opened = open_ledger(database_url)
    yield opened
    opened.close()


def post(ledger, at_ms=LATER, time_zone="UTC"):
    return update_books(ledger, time_zone=time_zone, price_of=price_of, at_ms=at_ms)


def bill(ledger, lines, number="INV-1", **fields):
    replaces = fields.pop("replaces", None)
    with ledger.write() as connection:
        return write_invoice(connection, an_invoice(lines, number, **fields), LATER, replaces=replaces)


def scalar(ledger, query):
    with ledger.read() as connection:
        return connection.execute(query).scalar() or 0


def booked(ledger, *where):
    return int(scalar(ledger, select(func.sum(COST_ENTRY.c.usd_micros)).join(POSTING).where(*where)))


def rows(ledger, **scope):
    with ledger.read() as connection:
        return cost_readings.read_rows(connection, cost_readings.Scope(**scope))


def check(ledger):
    with ledger.read() as connection:
        assert periods.verify_books(connection) == []


def close(ledger, period, at_ms=LATER, **options):
    updated = post(ledger, at_ms)
    with ledger.write() as connection:
        return periods.close_period(
            connection,
            period,
            time_zone="UTC",
            by="finance",
            at_ms=at_ms,
            complete_through_ms=updated.complete_through_ms,
            **options,
        )


def estimate_by_hand(ledger):
    """Lives times rates, straight from the workers' rows: nothing of the program's own reckoning."""
    with ledger.read() as connection:
        rental = text(
            "select w.rate_usd_micros_per_h, r.gpu_count, min(w.started_at_ms), max(w.last_seen_ms) from worker w "
            "join rental r on r.rental_id = w.rental_id group by r.rental_id, r.gpu_count, w.rate_usd_micros_per_h"
        )
        return sum(gpus * ((end - start) * rate // 3_600_000) for rate, gpus, start, end in connection.execute(rental))


def test_without_bills_the_books_are_the_rentals_time_at_its_price(ledger):
    fill(ledger, 12, seed=3)
    post(ledger)
    assert booked(ledger) == estimate_by_hand(ledger) > 0
    check(ledger)


def test_posting_again_changes_nothing(ledger):
    fill(ledger, 5)
    first = post(ledger)
    assert first.posted > 0
    again = post(ledger)
    assert (again.posted, again.reversed) == (0, 0)


def test_tracks_tries_and_audio_are_those_of_the_attempts(ledger):
    fill(ledger, 8, seed=5)
    post(ledger)
    found = rows(ledger)
    with ledger.read() as connection:
        accepted, audio_ms = connection.execute(
            text("select count(*), sum(audio_ms) from attempt where outcome = 'accepted'")
        ).one()
        assert sum(row.attempts for row in found) == connection.execute(text("select count(*) from attempt")).scalar()
    assert (sum(row.tracks for row in found), sum(row.audio_ms for row in found)) == (accepted, audio_ms)


@pytest.mark.parametrize("seed", range(4))
def test_the_books_equal_the_bill_after_any_story(ledger, seed):
    """Bills, corrections, late verdicts and late facts, months that close between them: every billed micro once."""
    pick = random.Random(seed)
    names = fill(ledger, 10, seed=seed)
    zone = pick.choice(["UTC", "Europe/Berlin", "America/New_York"])
    post(ledger, time_zone=zone)
    lines = list(random_lines(names, seed))
    bill(ledger, lines)
    post(ledger, time_zone=zone)
    if pick.random() < 0.5:
        with ledger.write() as connection:
            periods.close_period(connection, "2026-11", time_zone=zone, by="f", at_ms=LATER, complete_through_ms=None)
    judge(ledger, pick)
    post(ledger, time_zone=zone)
    changed = [line._replace(usd_micros=line.usd_micros + pick.randrange(-5, 5)) for line in lines]
    bill(ledger, changed, "INV-2", replaces="INV-1")
    post(ledger, time_zone=zone)
    expense = [line for line in changed if line.meter is not Meter.TOPUP]
    assert booked(ledger, POSTING.c.kind == ChargeKind.BILLED) == sum(line.usd_micros for line in expense)
    by_meter = Counter()
    for line in expense:
        by_meter[line.meter] += line.usd_micros
    for meter, micros in by_meter.items():
        assert booked(ledger, POSTING.c.meter == meter, POSTING.c.kind == ChargeKind.BILLED) == micros
    estimated = [row for row in rows(ledger) if row.kind is ChargeKind.ESTIMATE]
    assert {row.applies_to for row in estimated if row.usd_micros} <= {"2026-12", "2027-01"}
    assert sum(row.usd_micros for row in rows(ledger)) == booked(ledger)
    check(ledger)


def judge(ledger, pick):
    """Somebody listens, and takes back what the checks had accepted."""
    with ledger.write() as connection:
        accepted = connection.execute(
            select(TAKE.c.take_id, TAKE.c.rendition_id).where(TAKE.c.state == "accepted")
        ).all()
        chosen = pick.sample(list(accepted), min(5, len(accepted)))
        for take_id, record_id in chosen:
            connection.execute(
                VERDICT.insert().values(
                    record_id=record_id, take_id=take_id, outcome="rejected", reason="dull", at_ms=LATER
                )
            )
        mark_makers_unposted(connection, [take_id for take_id, _ in chosen])


def test_a_late_verdict_moves_money_from_kept_to_rejected_and_no_total(ledger):
    fill(ledger, 4, seed=2)
    post(ledger)
    before, kept = booked(ledger), sum(row.tracks for row in rows(ledger))
    judge(ledger, random.Random(1))
    updated = post(ledger)
    assert updated.reversed == updated.posted > 0
    assert booked(ledger) == before
    assert sum(row.tracks for row in rows(ledger)) == kept - 5
    check(ledger)


def test_a_closed_month_is_never_touched_and_its_correction_is_a_pair_in_the_open_one(ledger):
    names = fill(ledger, 6, seed=7)
    closed = close(ledger, "2026-11")
    november = booked(ledger, POSTING.c.period == "2026-11")
    assert closed.control_usd_micros == november
    bill(ledger, list(random_lines(names, 1)))
    post(ledger)
    assert booked(ledger, POSTING.c.period == "2026-11") == november
    moved = [row for row in rows(ledger) if row.period == "2027-01" and row.applies_to == "2026-11"]
    assert {row.kind for row in moved} >= {ChargeKind.BILLED, ChargeKind.ESTIMATE}
    check(ledger)
    with pytest.raises((LedgerError, Exception), match="closed"), ledger.write() as connection:
        connection.execute(POSTING.insert().from_select(POSTING.columns.keys(), select(POSTING).limit(1)))


def test_another_way_of_sharing_moves_what_all_share_until_a_month_is_closed(ledger):
    fill(ledger, 4, seed=7)
    post(ledger)
    before, total = rows(ledger), booked(ledger)

    def share(sharing):
        return update_books(ledger, time_zone="UTC", sharing=sharing, price_of=price_of, at_ms=LATER)

    assert share(Sharing.NONE).reversed > 0
    assert booked(ledger) == total
    assert {row.category for row in rows(ledger) if row.catalog == UNALLOCATED.catalog and row.usd_micros} >= {
        *(Category.STARTUP, Category.IDLE)
    }
    assert share(Sharing.NONE).posted == 0
    share(Sharing.BUSY)
    assert rows(ledger) == before
    close(ledger, "2026-11")
    with pytest.raises(SettingsError, match="allocation of shared costs set to busy, not to even"):
        share(Sharing.EVEN)
    check(ledger)


def test_a_corrected_bill_is_booked_where_the_one_before_it_is_taken_back(ledger):
    """Of a closed month, in a month that is still open while the next has begun: the two are a pair there."""
    names = fill(ledger, 3, seed=7, living=False)
    close(ledger, "2026-11", at_ms=JANUARY - 1)
    lines = [a_line(number, name, 1_000_000 * number) for number, name in enumerate(names, 1)]
    bill(ledger, lines)
    post(ledger, at_ms=JANUARY - 1)
    changed = [line._replace(usd_micros=line.usd_micros + 70_000, number=line.number + 10) for line in lines]
    bill(ledger, changed, "INV-2", replaces="INV-1")
    post(ledger, at_ms=LATER)
    of_november = (POSTING.c.kind == ChargeKind.BILLED, POSTING.c.applies_to == "2026-11")
    assert booked(ledger, *of_november, POSTING.c.period == "2026-12") == booked(ledger, *of_november) > 0
    assert scalar(ledger, select(func.count()).where(*of_november, POSTING.c.period == "2027-01")) == 0
    check(ledger)


def test_months_are_closed_in_turn_when_they_are_over_complete_and_priced(ledger):
    fill(ledger, 6, seed=7)
    with pytest.raises(PeriodError, match="2026-11 is still open"):
        close(ledger, "2026-12")
    with pytest.raises(PeriodError, match="not over"):
        close(ledger, "2026-11", at_ms=DECEMBER - 1)
    close(ledger, "2026-11")
    with pytest.raises(PeriodError, match="closed already"):
        close(ledger, "2026-11")
    with pytest.raises(SettingsError, match="closed in the time zone UTC"):
        post(ledger, time_zone="Europe/Berlin")
    close(ledger, "2026-12")
    check(ledger)


def test_a_living_rental_is_provisional_until_its_month_is_over(ledger):
    fill(ledger, 3, seed=4, living=True)
    updated = post(ledger)
    ends = scalar(ledger, select(func.min(WORKER.c.last_seen_ms)))
    assert updated.complete_through_ms == ends - CALLS_OVER_MS
    provisional = sum(row.usd_micros for row in provisional_rows(updated.provisional))
    assert booked(ledger) + provisional == estimate_by_hand(ledger)
    with ledger.write() as connection:
        connection.execute(update(WORKER).values(ended_at_ms=WORKER.c.last_seen_ms))
    assert post(ledger).provisional == []
    assert booked(ledger) == estimate_by_hand(ledger)


def test_a_month_with_a_living_worker_that_has_not_reported_all_of_it_stays_open(ledger):
    fill(ledger, 1, seed=4, living=True)
    with ledger.write() as connection:
        connection.execute(update(WORKER).values(last_seen_ms=DECEMBER - 5))
    with pytest.raises(PeriodError, match="not all of 2026-11"):
        close(ledger, "2026-11")


def test_an_unknown_price_keeps_a_month_open_and_is_posted_once_it_is_known(ledger):
    fill(ledger, 1)
    with ledger.write() as connection:
        connection.execute(update(WORKER).values(gpu="Mystery", rate_usd_micros_per_h=None))
    update_books(ledger, time_zone="UTC", price_of=lambda machine, at_ms: None, at_ms=LATER)
    assert booked(ledger) == 0
    assert sum(row.unpriced_ms for row in rows(ledger)) > 0
    period = rows(ledger)[0].period
    with ledger.write() as connection, pytest.raises(PeriodError, match="without a known price"):
        periods.close_period(connection, period, time_zone="UTC", by="f", at_ms=LATER, complete_through_ms=None)
    update_books(
        ledger, time_zone="UTC", price_of=lambda machine, at_ms: price_of(Machine("NVIDIA L40S"), 0), at_ms=LATER
    )
    assert booked(ledger) > 0
    assert sum(row.unpriced_ms for row in rows(ledger)) == 0
    check(ledger)


def test_a_line_finds_its_rental_although_it_came_first(ledger):
    with ledger.read():
        pass
    bill(ledger, [a_line(1, "pod0000001", 5_000_000)])
    post(ledger)
    assert {row.catalog for row in rows(ledger) if row.usd_micros} == {UNALLOCATED.catalog}
    assert fill(ledger, 1) == ["pod0000001"]
    post(ledger)
    assert booked(ledger, POSTING.c.kind == ChargeKind.BILLED) == 5_000_000
    assert UNALLOCATED.catalog not in {
        row.catalog for row in rows(ledger) if row.usd_micros and row.kind is ChargeKind.BILLED
    }
    check(ledger)


def test_the_same_file_again_is_nothing_and_what_is_billed_twice_is_refused(ledger):
    names = fill(ledger, 2)
    window = {"start_ms": NOVEMBER, "end_ms": NOVEMBER + 1_000}
    first = [a_line(1, names[0], 5, **window)]
    assert bill(ledger, first).is_new
    assert not bill(ledger, first).is_new
    with pytest.raises(InvoiceError, match="with other contents"):
        bill(ledger, [a_line(1, names[0], 6, **window)])
    with pytest.raises(InvoiceError, match="has billed already"):
        bill(ledger, [a_line(1, names[0], 6, start_ms=NOVEMBER + 999, end_ms=NOVEMBER + 2_000)], "INV-2")
    assert scalar(ledger, select(func.count()).select_from(INVOICE_LINE)) == 1


def test_monthly_sums_can_be_cut_by_month_and_none_is_lost_at_its_end(ledger):
    fill(ledger, 20, seed=11)
    post(ledger, time_zone="Europe/Berlin")
    start_ms, end_ms = bounds_of("2026-11", "Europe/Berlin")
    with ledger.read() as connection:
        use = time_readings.read_time_use(connection, cost_readings.Scope(), start_ms, end_ms)
    november = [row for row in rows(ledger, period="2026-11") if row.kind is ChargeKind.ESTIMATE]
    lanes_ms = sum(row.ms for row in november)
    assert lanes_ms >= use.total_ms > 0
    assert lanes_ms - use.total_ms == sum(row.ms for row in november if row.category == "unobserved")


def test_what_stands_is_what_nothing_has_reversed(ledger):
    names = fill(ledger, 3)
    post(ledger)
    bill(ledger, list(random_lines(names, 1)))
    post(ledger)
    reversed_ = select(POSTING.c.reverses_id).where(POSTING.c.reverses_id.is_not(None))
    left = select(func.count()).where(POSTING.c.reverses_id.is_(None), POSTING.c.posting_id.not_in(reversed_))
    assert scalar(ledger, left) == scalar(ledger, select(func.count()).select_from(STANDING))
    assert scalar(ledger, select(func.count()).select_from(COST_MONTHLY)) > 0
